"""Steps in which the sidecar's token changes or its silence is checked; each returns what to print, or raises `Red`."""

import base64
import json
import re
import subprocess
import urllib.request

from harness.install import HERE
from harness.stage import Red, Seen

REQUEST = (
    "curl",
    "--silent",
    "--show-error",
    "--fail",
    "--max-time",
    "20",
    "--output",
    "/dev/null",
    "https://storage.googleapis.com/storage/v1/b/cells",
)
LIMIT = 20  # seconds


def ask(stage):
    """One request to an API, by a client that has no credential."""
    done = subprocess.run(
        REQUEST, env=stage.program_environment({}), stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise Red(f"curl: exit status {done.returncode}: {done.stderr}")


def first_token(stage):
    """Waits for it, so that no later cell has an exchange among its requests."""
    number = stage.wait_for("first exchange", stage.newest)
    return f"token #{number}"


def assertion_verified(stage, python, key):
    """One exchange for all the cells before, and PyJWT's verdict on it; the servers' Go library has had its say."""
    told = key.registration() | {
        "assertions": [text for text in stage.servers.assertions() if claims(text)["iss"] == key.email]
    }
    if len(told["assertions"]) != 1:
        raise Red(f"{len(told['assertions'])} exchanges instead of one")
    done = subprocess.run(
        [python, HERE / "python" / "assertion.py"], input=json.dumps(told), capture_output=True, text=True
    )
    if done.returncode != 0:
        raise Red(done.stderr)
    return f"{len(told['assertions'])} assertion"


def claims(assertion):
    payload = assertion.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def outage(stage):
    """While the token endpoint is out, what is in hand keeps serving."""
    stage.servers.outage(True)
    try:
        stage.begin()
        ask(stage)
        return stage.judge((Seen("storage"),))
    finally:
        stage.servers.outage(False)


def revoked(stage):
    """An upstream that says invalid_token: one forced exchange, one replay, and the client sees only the 200."""
    old = stage.newest()
    stage.servers.revoke(old)
    stage.begin()
    ask(stage)
    lines = stage.window()
    story = [(line["server"], line["authorization"], line.get("issued") or line.get("token")) for line in lines]
    new = stage.newest()
    if new == old or story != [("storage", "revoked", old), ("token", "none", new), ("storage", "token", new)]:
        raise Red(f"the servers saw {story}")
    return f"3 requests, token #{old} and then #{new}"


def rotated(stage, key_file, new_key):
    """A new key in the file: exchanged first, then used, with no request refused on the way."""
    stage.begin()
    new_key.write(key_file)
    stage.wait_for("exchange with the new key", lambda: any(line.get("key") == new_key.name for line in stage.window()))
    stage.wait_for("request with its token", lambda: asked_with(stage, new_key))
    return f"{stage.summary(stage.window())}"


def asked_with(stage, key):
    ask(stage)
    last = stage.window()[-1]
    if last.get("refused"):
        raise Red(f"refused in the middle of a rotation: {last}")
    return last["server"] == "storage" and last.get("key") == key.name


def silent(stage, keys):
    """No key, assertion or token in the sidecar's log, pages, trust files, or the environment it gives."""
    sidecar = stage.sidecar
    bodies = ["".join(key.private.split("\n")[2:4]) for key in keys]  # two lines from the middle of the key
    patterns = [r"ya29\.c\.", r"eyJ[\w-]+\.[\w-]+\.[\w-]{20}", *(re.escape(body[:64]) for body in bodies)]
    texts = {"log": sidecar.output.read_text(errors="replace"), "environment": json.dumps(sidecar.environment)}
    for name, url in sidecar.pages().items():
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=LIMIT) as page:
            texts[name] = page.read().decode(errors="replace")
    for file in (stage.folder / "trust").iterdir():
        texts[file.name] = file.read_bytes().decode("latin-1")
    for name, text in texts.items():
        for pattern in patterns:
            if re.search(pattern, text):
                raise Red(f"a secret ({pattern[:20]}…) is in {name}")
    return f"{len(texts)} texts searched"


def ended(stage):
    status = stage.sidecar.stop()
    if status != 0:
        raise Red(f"exit status {status} after SIGTERM")
    return "exit status 0"
