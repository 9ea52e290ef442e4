"""The servers process and its control port: keys go in, the log of requests comes out."""

import json
import subprocess
import urllib.request

LIMIT = 20  # seconds, for an answer on loopback

GOOGLE = "*.googleapis.com"
UNROUTED = "plain.example.com"


class Google:
    """Starts the servers; leaving the `with` block ends them."""

    def __init__(self, binary, folder, *more):
        self.errors = (folder / "servers.log").open("w")
        command = [binary, "-directory", folder, *more]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True
        )
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the servers ended: see {folder}/servers.log")
        told = json.loads(line)
        self.tls, self.control, self.ca = told["tls"], told["control"], told["ca"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()
        self.errors.close()

    def ask(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        # Past any proxy that the caller's environment names.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://{self.control}{path}", data=data, timeout=LIMIT) as answer:
            content = answer.read()
        return json.loads(content) if content else None

    def register(self, key):
        self.ask("/keys", key.registration())

    def log(self, since=0):
        return self.ask(f"/log?since={since}") or []

    def assertions(self):
        return self.ask("/assertions") or []

    def outage(self, on):
        self.ask(f"/outage/{'on' if on else 'off'}", {})

    def revoke(self, token):
        self.ask(f"/revoke/{token}", {})
