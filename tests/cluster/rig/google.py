"""The fake Google: the client tests' servers, here as a pod of their own, steered through their control port."""

import json
import urllib.request

from rig.wait import until

IMAGE = "local.test/google:1"
NAMESPACE = "google"
TLS, CONTROL = 8443, 8080
LIMIT = 20  # seconds, for one answer

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "google", "labels": {"app": "google"}},
    "spec": {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
        "containers": [
            {
                "name": "servers",
                "image": IMAGE,
                "args": ["-stay", "-directory=/state", f"-tls=0.0.0.0:{TLS}", f"-control=0.0.0.0:{CONTROL}"],
                "readinessProbe": {"httpGet": {"path": "/ca", "port": CONTROL}, "periodSeconds": 1},
                "volumeMounts": [{"name": "state", "mountPath": "/state"}],
            }
        ],
        "volumes": [{"name": "state", "emptyDir": {}}],
    },
}


class Google:
    """Where it is, what it saw, and how it behaves."""

    def __init__(self, kube):
        self.kube = kube
        self.address = ""

    def start(self):
        self.kube.namespace(NAMESPACE)
        self.kube.apply(NAMESPACE, POD)
        self.address = self.kube.running(NAMESPACE, "google")[0]["status"]["podIP"]

    @property
    def tls(self):
        return f"{self.address}:{TLS}"

    def raw(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.address}:{CONTROL}{path}", data=data, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=LIMIT) as answer:
            return answer.read()

    def ca(self):
        return self.raw("GET", "/ca").decode()

    def register(self, key):
        self.raw("POST", "/keys", key.registration())

    def forget(self, key):
        """Deletes a key, and ends the tokens it was given for."""
        self.raw("DELETE", f"/keys/{key.name}")

    def delay(self, duration):
        self.raw("POST", f"/delay/{duration}", {})

    def log(self, since=0):
        return json.loads(self.raw("GET", f"/log?since={since}")) or []

    def mark(self):
        return len(self.log())

    def seen(self, since, server, **fields):
        """Lines of the log whose fields are these."""
        return [
            line
            for line in self.log(since)
            if line["server"] == server and all(line.get(name) == value for name, value in fields.items())
        ]

    def await_seen(self, since, server, limit=30, **fields):
        return until(f"{server} {fields} at the fake Google", lambda: self.seen(since, server, **fields), limit)
