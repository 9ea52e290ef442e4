"""manifests/examples/federation: a pod without any key of Google's, known by the token that its kubelet writes."""

import base64
import json
import re
import shlex
import time

from cells.newcomer import load_example
from cells.traffic import TOKEN
from rig import install
from rig.kube import statuses
from rig.wait import NotYet, Red, until

EXAMPLE = install.REPOSITORY / "manifests" / "examples" / "federation"
PAGE = install.REPOSITORY / "docs" / "federation.md"
NAMESPACE = "federated"
MOUNT = "            - {name: google-token, mountPath: /var/run/secrets/google, readOnly: true}\n"
# Of a cluster: three parts, of which the first two are objects of JSON.
SHOWN = rb"eyJ[\w-]{20,}\.eyJ[\w-]{40,}\.[\w-]{40,}"
RENEWED = 600  # seconds: the shortest life that the kubelet takes, of which it waits for four fifths


class Pool:
    """What Google knows of this cluster and of the account: all that docs/federation.md has a user tell it."""

    def __init__(self, world, identity, namespace):
        self.world, self.identity = world, identity
        named = identity.get("service_account_impersonation_url", "")
        self.account = re.sub(r".*/serviceAccounts/([^:]+):.*", r"\1", named)
        self.subject = f"system:serviceaccount:{namespace}:app"
        pool = identity["audience"].removeprefix("//").split("/providers/")[0]
        self.bound = {self.account: [f"principal://{pool}/subject/{self.subject}"]}
        self.keys = json.loads(self.read("/openid/v1/jwks"))
        issuer = json.loads(self.read("/.well-known/openid-configuration"))["issuer"]
        self.provider = {"audience": identity["audience"], "issuer": issuer, "keys": self.keys}

    def read(self, path):
        return self.world.kube.kubectl("get", "--raw", path).stdout

    def tell(self, accounts=None, **changes):
        """Puts all of it in force, but for these mistakes."""
        accounts = self.bound if accounts is None else accounts
        told = {"providers": [self.provider | changes], "accounts": accounts}
        self.world.google.raw("POST", "/federation", told)

    def mistakes(self):
        """(reason, some of Google's words, what is wrong), for each that docs/federation.md explains."""
        elsewhere = "https://elsewhere.example.org"
        other = {"keys": [key | {"n": key["n"][::-1]} for key in self.keys["keys"]]}
        return (
            ("invalid_request", 'The target service indicated by the "audience"', {"audience": elsewhere}),
            ("invalid_request", "does not match the expected audience", {"allowedAudiences": [elsewhere]}),
            ("invalid_grant", "does not match the expected ones", {"issuer": elsewhere}),
            ("invalid_grant", "Error connecting to the given credential's issuer", {"keys": {"keys": []}}),
            ("invalid_signature", "Unable to verify the ID Token signature", {"keys": other}),
            ("unauthorized", "rejected by the attribute condition", {"onlySubject": elsewhere}),
            ("permission_denied", "(or it may not exist)", {"accounts": {self.account: []}}),
            ("account_not_found", "Gaia id not found for email", {"accounts": {}}),
        )


def federation(world):
    """The example as it is. What is missing is told where users look, and put right the pod goes on; then its own
    requests, what its containers hold, every other mistake, and a token that the kubelet has renewed."""
    identity, manifest = json.loads((EXAMPLE / "identity.json").read_text()), (EXAMPLE / "deployment.yaml").read_text()
    pool = Pool(world, identity, NAMESPACE)
    load_example(world)
    unmounted(world, identity, manifest)
    pod, waited = put_right(world, pool, identity, manifest)
    # The application asks once a minute, and at its start.
    mark = world.google.mark()
    end(world, pod)
    pod = world.kube.running(NAMESPACE, "app")[0]
    line = served(world, pool, mark)
    searched = nothing_shown(world, pod)
    explained = check_explains(world, pool)
    renewed_at_once(world, pool, pod)
    world.kube.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    return (
        f"{pool.subject} as {pool.account}, token #{line['token']}; recovered {waited:.0f} s after the binding; "
        f"{explained} mistakes explained; a renewed token shown once the old was stale; {searched}"
    )


def unmounted(world, identity, manifest):
    """Where the volume is not mounted, the sidecar says that and nothing else."""
    if MOUNT not in manifest:
        raise Red("the example does not mount its token as this cell knows it")
    deploy(world, "unmounted", identity, manifest.replace(MOUNT, ""))
    told(world, world.kube.running("unmounted", "app")[0], "subject_token", "")
    world.kube.kubectl("delete", "namespace", "unmounted", "--wait=false")


def put_right(world, pool, identity, manifest):
    """No provider yet, then no binding, then both: told each time, and no container is started again. Returns the pod,
    and how long the last took."""
    mark = world.google.mark()
    deploy(world, NAMESPACE, identity, manifest)
    pod = world.kube.running(NAMESPACE, "app")[0]
    reason, words, _ = pool.mistakes()[0]
    told(world, pod, reason, words)
    until("the reason in the application's own output", lambda: reason in world.kube.logs(pod, "app"))
    pool.tell(accounts={pool.account: []})
    told(world, pod, "permission_denied", "(or it may not exist)")
    if early := asked(world, mark):
        raise Red(f"a request went out before there was a token: {early[0]}")
    pool.tell()
    began = time.monotonic()
    until("a token", lambda: credential(world, pod)["state"] == "valid", 90)
    waited, mark = time.monotonic() - began, world.google.mark()
    curl(world, pod)
    served(world, pool, mark)
    not_restarted(world, pod)
    return pod, waited


def check_explains(world, pool):
    """What the command of docs/federation.md says of each mistake is what the page says of it."""
    section = re.search(r"^## When it does not work$(.*?)^## ", PAGE.read_text(), re.M | re.S)[1]
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", section, re.M)
    mistakes = pool.mistakes()
    known = {reason for reason, _, _ in mistakes} | {"subject_token"}
    if {reason for reason, _ in rows} != known:
        raise Red(f"the page explains {rows}")
    for reason, words, wrong in mistakes:
        pool.tell(**wrong)
        check(world, reason, words)
        if not any(row[0] == reason and words in row[1] for row in rows):
            raise Red(f"the page does not say “{words}” of {reason}")
    pool.tell()
    check(world)
    return len(mistakes)


def check(world, reason="", words=""):
    """`bearerd check` as docs/federation.md has it: it fails for this reason, or does not."""
    command = re.search(r"^kubectl (exec .*/bearerd check .*)$", PAGE.read_text(), re.M)[1]
    done = world.kube.kubectl("--namespace", NAMESPACE, *shlex.split(command), check=False)
    if reason and not (done.returncode and f"({reason})" in done.stdout and words in done.stdout):
        raise Red(f"want {reason} and “{words}”: {done.stdout}{done.stderr}")
    if not reason and done.returncode:
        raise Red(f"nothing is wrong, but: {done.stdout}{done.stderr}")


def renewed_at_once(world, pool, pod):
    """A kubelet that starts anew asks for new tokens. For Google it is by then so late that the old one is of no use:
    the token in hand serves on, and the next exchange shows the new one."""
    first, mark = in_volume(world, pod), world.google.mark()
    world.google.raw("POST", f"/ahead/{first['exp'] + 1 - time.time():.0f}s", {})
    check(world, "invalid_grant", "is stale to sign-in")
    curl(world, pod)
    line = served(world, pool, mark)
    world.node.restart_kubelet()

    def another():
        now = in_volume(world, pod)
        return now if now["jti"] != first["jti"] else None

    second = until("another token in the volume", another)
    mark = world.google.mark()
    world.google.raw("POST", f"/revoke/{line['token']}", {})
    curl(world, pod)
    served(world, pool, mark)
    exchanged = [line["shown"] for line in world.google.seen(mark, "sts", refused=None)]
    world.google.raw("POST", "/ahead/0s", {})
    if exchanged != [second["jti"]]:
        raise Red(f"the volume has {second['jti']}, formerly {first['jti']}, and shown was {exchanged}")
    not_restarted(world, pod)


def renewed(world):
    """The kubelet renews the token by itself, and from then on the new one is shown. Without an account: the principal
    itself has the token."""
    identity = json.loads((EXAMPLE / "identity.json").read_text())
    del identity["service_account_impersonation_url"]
    Pool(world, identity, "renewed").tell()
    load_example(world)
    # So that exchanges are frequent.
    world.google.raw("POST", "/lifetime/120", {})
    mark = world.google.mark()
    text = (EXAMPLE / "deployment.yaml").read_text()
    deploy(world, "renewed", identity, text.replace("expirationSeconds: 3600", f"expirationSeconds: {RENEWED}"))
    first = world.google.await_seen(mark, "sts", limit=60)[0]["shown"]

    def another():
        lines = world.google.seen(mark, "sts")
        if any(line.get("refused") for line in lines):
            raise Red(f"a refusal: {lines[-1]}")
        return {line["shown"] for line in lines} - {first}

    until("another token of the cluster", another, RENEWED + 120, 5)
    world.google.raw("POST", "/lifetime/0", {})
    count = len(world.google.seen(mark, "sts"))
    requests = asked(world, mark)
    failed = [line for line in requests if line["authorization"] != "token"]
    if failed:
        raise Red(f"requests without a token: {failed[:3]}")
    world.kube.kubectl("delete", "namespace", "renewed", "--wait=false")
    return f"{count} exchanges, the last with another token of the cluster; {len(requests)} requests"


def deploy(world, namespace, identity, manifest):
    """The commands at the head of the example's manifest, where Google is said as it is for every pod here."""
    folder = world.folder / namespace
    folder.mkdir()
    upstream = {"connectTo": {"*.googleapis.com:443": world.google.tls}, "extraRoots": "/etc/bearerd/roots.pem"}
    own = (EXAMPLE / "bearerd.yaml").read_text() + f"upstream: {json.dumps(upstream)}\n"
    for name, text in {
        "bearerd.yaml": own,
        "identity.json": json.dumps(identity),
        "roots.pem": world.google.ca(),
        "deployment.yaml": manifest,
    }.items():
        (folder / name).write_text(text)
    world.kube.namespace(namespace)
    files = [f"--from-file={folder / name}" for name in ("bearerd.yaml", "identity.json", "roots.pem")]
    world.kube.kubectl("--namespace", namespace, "create", "configmap", "app-bearerd", *files)
    world.kube.kubectl("--namespace", namespace, "apply", "-f", folder / "deployment.yaml")


def end(world, pod):
    """At once: the example's shell does not hear of SIGTERM. Another takes its place."""
    where, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    world.kube.kubectl("--namespace", where, "delete", "pod", name, "--grace-period=1", "--wait=true")


def credential(world, pod):
    return world.inside(pod, "bearerd").told()["credentials"][0]


def told(world, pod, reason, words):
    """Status and log say why there is no token."""

    def look():
        error = credential(world, pod)["lastError"]
        if not error or not error["message"].endswith(f"({reason})") or words not in error["message"]:
            raise NotYet(error)
        return True

    until(f"{reason} in the status", look, 90)

    def logged():
        lines = [json.loads(line) for line in world.kube.logs(pod, "bearerd").splitlines()]
        return any(line.get("reason") == reason and words in line["error"] for line in lines)

    until(f"{reason} in the log", logged)


def curl(world, pod):
    """A request of the application's, in its container."""
    url = "https://storage.googleapis.com/storage/v1/b?project=my-project"
    where = ("--namespace", pod["metadata"]["namespace"], "exec", pod["metadata"]["name"], "--container", "app")
    world.kube.kubectl(*where, "--", "curl", "--silent", "--show-error", "--fail", url)


def served(world, pool, mark):
    """The first request since then that storage took, which had the account's token."""

    def look():
        return [line for line in asked(world, mark) if not line.get("refused")]

    line = until("a request at the fake Google", look, 30)[0]
    if (line["authorization"], line.get("key"), line.get("subject")) != ("token", pool.account, pool.subject):
        raise Red(f"the token was another's: {line}")
    return line


def asked(world, mark):
    """The example's requests since then, apart from those of other cells' pods, which have a key's tokens."""
    lines = world.google.seen(mark, "storage", path="/storage/v1/b")
    return [line for line in lines if line.get("key") != world.key.name]


def not_restarted(world, pod):
    now = statuses(world.api.get("pods", pod["metadata"]["namespace"], pod["metadata"]["name"]))
    restarts = {name: one["restartCount"] for name, one in now.items()}
    if any(restarts.values()):
        raise Red(f"started again: {restarts}")


def in_volume(world, pod):
    """What the token says that lies in the sidecar's container now."""
    for _, content in world.inside(pod, "bearerd").files():
        if found := re.fullmatch(SHOWN, content.strip()):
            payload = found[0].split(b".")[1]
            return json.loads(base64.urlsafe_b64decode(payload + b"=="))
    raise Red("the sidecar's container holds no token of the cluster")


def nothing_shown(world, pod):
    """Neither the cluster's token nor Google's is anywhere in the application's container. The sidecar has both."""
    app, sidecar = world.inside(pod, "app"), world.inside(pod, "bearerd")
    secret = re.compile(SHOWN + b"|" + TOKEN)
    if not any(re.search(SHOWN, content) for _, content in sidecar.files()) or not sidecar.memory_holds(TOKEN):
        raise Red("the search finds neither token in the sidecar: it would find nothing anywhere")
    files = list(app.files())
    found = [path for path, content in files if secret.search(content)]
    found += [path for path in app.mounts() if path.startswith("/var/run/secrets")]
    if secret.search(app.environment()):
        found.append("environment")
    if app.memory_holds(secret.pattern):
        found.append("memory")
    if found:
        raise Red(f"the application's container holds a token: {found}")
    return f"no token in {len(files)} files, environment, mounts and memory"
