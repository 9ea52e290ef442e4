"""The API server, asked directly: what it has stored is what the cells judge by."""

import base64
import http.client
import json
import ssl
import threading

LIMIT = 30  # seconds, for one answer
CORE = "/api/v1"
GROUPS = {
    "deployments": "/apis/apps/v1",
    "replicasets": "/apis/apps/v1",
    "jobs": "/apis/batch/v1",
    "cronjobs": "/apis/batch/v1",
    "endpointslices": "/apis/discovery.k8s.io/v1",
    "mutatingwebhookconfigurations": "/apis/admissionregistration.k8s.io/v1",
    "validatingwebhookconfigurations": "/apis/admissionregistration.k8s.io/v1",
}


class Refused(Exception):
    """The API server's own words."""

    def __init__(self, status, message):
        super().__init__(f"{status}: {message}")
        self.status, self.message = status, message


class Api:
    """One client; each thread has its own connection."""

    def __init__(self, address, port, certificates):
        self.address, self.port = address, port
        self.context = ssl.create_default_context(cafile=certificates / "ca.crt")
        self.context.load_cert_chain(certificates / "admin.crt", certificates / "admin.key")
        self.own = threading.local()

    def connection(self):
        if getattr(self.own, "connection", None) is None:
            self.own.connection = http.client.HTTPSConnection(
                self.address, self.port, timeout=LIMIT, context=self.context
            )
        return self.own.connection

    def ask(self, method, path, body=None, kind="application/json"):
        """The answer's body, parsed where it is JSON; `Refused` for any status but 2xx."""
        connection = self.connection()
        content = None if body is None else json.dumps(body)
        try:
            connection.request(method, path, content, {"Content-Type": kind})
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            self.own.connection = None
            raise
        parsed = json.loads(text) if answer.getheader("Content-Type", "").startswith("application/json") else text
        if not 200 <= answer.status < 300:
            raise Refused(answer.status, parsed["message"] if isinstance(parsed, dict) else parsed.decode())
        return parsed

    @staticmethod
    def path(kind, namespace, name="", query=""):
        where = f"/namespaces/{namespace}" if namespace else ""
        return f"{GROUPS.get(kind, CORE)}{where}/{kind}" + (f"/{name}" if name else "") + (f"?{query}" if query else "")

    def get(self, kind, namespace, name):
        return self.ask("GET", self.path(kind, namespace, name))

    def find(self, kind, namespace, name):
        """`get`, or None where there is no such thing."""
        try:
            return self.get(kind, namespace, name)
        except Refused as refused:
            if refused.status == 404:
                return None
            raise

    def list(self, kind, namespace, labels=""):
        query = f"labelSelector={labels.replace('=', '%3D').replace(',', '%2C')}" if labels else ""
        return self.ask("GET", self.path(kind, namespace, query=query))["items"]

    def create(self, kind, namespace, value):
        return self.ask("POST", self.path(kind, namespace), value)

    def delete(self, kind, namespace, name="", query=""):
        return self.ask("DELETE", self.path(kind, namespace, name, query))

    def merge(self, kind, namespace, name, value):
        return self.ask("PATCH", self.path(kind, namespace, name), value, "application/merge-patch+json")

    def secret(self, namespace, name):
        """A Secret's files."""
        data = self.get("secrets", namespace, name).get("data") or {}
        return {key: base64.b64decode(value) for key, value in data.items()}
