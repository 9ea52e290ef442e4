"""What the cells play on: an OAuth server that nobody here wrote, and the release binary that gets its tokens there."""

import json
import os
import pathlib
import subprocess
import time
import urllib.request

from harness.sidecar import free_ports

# Seconds, for a command or for what bearerd does by itself: it tries what was refused again after some 5 s, then 10.
LIMIT = 30
POOL = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/"
# Without the colons of a Kubernetes account: zitadel keeps the subject behind one, in tokens that it reads again.
WORKLOAD = "workload-of-the-cluster"
NAMES = ("*.googleapis.com", "cluster.example.com")


class Red(Exception):
    """The cell failed; the text says why."""


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def certificates(folder):
    """A CA, and a certificate for the names of the servers."""
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1")
    openssl("req", "-x509", *curve, "-subj", "/CN=a CA", "-keyout", folder / "ca.key", "-out", folder / "ca.pem")
    names = ",".join(f"DNS:{name}" for name in NAMES)
    openssl("req", "-x509", *curve, "-subj", "/CN=servers", "-addext", f"subjectAltName={names}",
            "-addext", "basicConstraints=critical,CA:FALSE", "-CA", folder / "ca.pem", "-CAkey", folder / "ca.key",
            "-keyout", folder / "server.key", "-out", folder / "server.pem")


def page(url, body=None):
    """An answer, past any proxy that the caller's environment names."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    data = None if body is None else json.dumps(body).encode()
    with opener.open(url, data=data, timeout=LIMIT) as answer:
        return answer.read()


def until(what, holds):
    """Waits for what nobody announces."""
    end = time.monotonic() + LIMIT
    while not (found := holds()):
        if time.monotonic() > end:
            raise Red(f"after {LIMIT} s still not: {what}")
        time.sleep(0.05)
    return found


class Server:
    """The process with the server, and its control port."""

    def __init__(self, binary, library, folder):
        self.ca = folder / "ca.pem"
        self.errors = (folder / f"{library}.log").open("w")
        command = [binary, library, folder / "server.pem", folder / "server.key", self.ca]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True)
        line = self.process.stdout.readline()
        if not line:
            raise Red(f"the server ended: see {folder}/{library}.log")
        self.tls, self.control = (json.loads(line)[name] for name in ("tls", "control"))

    def ask(self, path, wish):
        return json.loads(page(f"http://{self.control}/{path}", wish))

    def register(self, key, public=None):
        self.ask("keys", {"email": key.email, "keyId": key.key_id, "public": key.public if public is None else public})

    def subject_token(self, seconds=600, forged=False, provider="cluster"):
        audience = f"https:{POOL}{provider}"
        return self.ask("subject", {
            "subject": WORKLOAD, "audience": audience, "seconds": seconds, "forged": forged})

    def exchanges(self, since=0):
        """Requests at the token endpoints: grant, status and the server's own code."""
        return [line for line in self.ask("log", since) if line.get("grant")]

    def end(self):
        self.process.kill()
        self.process.communicate()
        self.errors.close()


class Sidecar:
    """A running bearerd, whose configuration changes while it runs."""

    def __init__(self, binary, folder, server, federated):
        self.binary, self.folder, self.server, self.federated = binary, folder, server, federated
        self.config, self.output = folder / "bearerd.yaml", folder / "bearerd.log"
        self.key, self.identity, self.subject = (folder / name for name in ("key.json", "identity.json", "subject"))
        self.ports, self.process = free_ports(3), None
        # What the credentials ask for; any change of it starts them anew, without their old token.
        self.account, self.turn = "", 0

    def start(self):
        self.configure()
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [self.binary, "run", "--config", self.config], stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, env=self.bare())
        status, told = self.command("ready", "--wait", "10s")
        if status != 0:
            raise Red(f"not ready: {told}")
        self.environment = json.loads(self.command("env", "--format", "json")[1])

    def bare(self):
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder)}

    def configure(self):
        proxy, health, control = (f"127.0.0.1:{port}" for port in self.ports)
        self.status_page = f"http://{control}/status.json"
        self.metrics = f"http://{health}/metrics"
        scopes = ["cloud-platform", "openid"] + ["devstorage.read_only"] * (self.turn % 2)
        if self.federated:
            name, kind = "federated", {"externalAccount": {"path": str(self.identity), "scopes": scopes}}
        else:
            account = {"path": str(self.key), "scopes": scopes, "subject": self.account}
            name, kind = "default", {"serviceAccountKey": account}
        settings = {
            "credentials": [{"name": name, **kind}],
            "routes": [{"name": "google-apis", "hosts": ["*.googleapis.com"], "credential": name}],
            "listeners": {"proxy": proxy, "metadata": "off", "transparent": "off", "health": health,
                          "control": control},
            "trust": {"public": str(self.folder / "trust"), "private": str(self.folder / "private")},
            "upstream": {"extraRoots": str(self.server.ca),
                         "connectTo": {f"{name}:443": self.server.tls for name in NAMES}},
        }
        replace(self.config, json.dumps(settings, indent=2))

    def renew(self):
        """Has the next tokens asked for now."""
        self.turn += 1
        self.configure()

    def command(self, *arguments):
        done = subprocess.run(
            [self.binary, *arguments, "--config", self.config], stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=LIMIT, env=self.bare())
        return done.returncode, done.stdout + done.stderr

    def checked(self, name):
        """What `bearerd check` says of one credential's token."""
        status, text = self.command("check")
        lines = [line for line in text.splitlines() if f"token {name}" in line]
        if len(lines) != 1:
            raise Red(f"check, exit status {status}, says nothing of the token of {name}:\n{text}")
        return status, lines[0]

    def credential(self, name):
        return next(one for one in json.loads(page(self.status_page))["credentials"] if one["name"] == name)

    def asked(self, host):
        """What an API answers to a client that holds nothing: status, and whose token came."""
        command = ["curl", "--silent", "--show-error", "--max-time", "20", "--write-out", "\n%{http_code}"]
        done = subprocess.run(
            [*command, f"https://{host}/"], env=self.bare() | self.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=LIMIT)
        body, _, status = done.stdout.rpartition("\n")
        return int(status), json.loads(body)["subject"] if status == "200" else body

    def identify(self, provider="cluster", kind="jwt"):
        """Writes the file of the federated identity."""
        replace(self.identity, json.dumps({
            "type": "external_account",
            "audience": f"{POOL}{provider}",
            "subject_token_type": f"urn:ietf:params:oauth:token-type:{kind}",
            "token_url": "https://sts.googleapis.com/v1/token",
            "credential_source": {"file": str(self.subject)},
        }))

    def end(self):
        """Ends it as a kubelet does; returns its exit status."""
        self.process.terminate()
        return self.process.wait(timeout=LIMIT)

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def replace(path, text):
    """Puts a file in place whole, as a mount does."""
    new = pathlib.Path(f"{path}.new")
    new.write_text(text)
    os.replace(new, path)
