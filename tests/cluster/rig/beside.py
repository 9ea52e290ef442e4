"""Another injecting webhook, as clusters have them: it adds a container to every pod, and is asked after ours."""

import base64
import http.server
import json
import ssl
import threading

from rig import pki, pods
from rig.api import Refused
from rig.plane import ADDRESS
from rig.wait import until

PORT = 9443
NAME = "zz-beside"  # configurations are asked in the order of their names


class Beside:
    """Listens and is registered from `with` to its end. `asked`: at each call, whether our sidecar was in already."""

    ADDED = "added"

    def __init__(self, world):
        self.world, self.asked = world, []
        folder = world.folder / "beside"
        folder.mkdir(exist_ok=True)
        self.authority = pki.Authority(folder)
        self.authority.sign("beside", "/CN=beside", "serverAuth", f"IP:{ADDRESS}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "beside.crt", folder / "beside.key")
        self.server = http.server.ThreadingHTTPServer((ADDRESS, PORT), self.handler())
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.world.api.create("mutatingwebhookconfigurations", "", self.configuration())
        try:
            until("a pod that goes through it", self.is_asked)
        except BaseException:
            self.__exit__()
            raise
        self.asked.clear()
        return self

    def __exit__(self, *_):
        self.world.api.delete("mutatingwebhookconfigurations", "", NAME)
        self.server.shutdown()
        self.server.server_close()

    def is_asked(self):
        """The API server learns of a configuration some moments after it is stored."""
        self.asked.clear()
        dry = pods.pod("dry", labels={"beside": "true"})
        try:
            self.world.api.ask("POST", self.world.api.path("pods", "default", query="dryRun=All"), dry)
        except Refused:
            return False
        return bool(self.asked)

    def configuration(self):
        bundle = base64.b64encode(self.authority.certificate.read_bytes()).decode()
        hook = {
            "name": "beside.example.org",
            "clientConfig": {"url": f"https://{ADDRESS}:{PORT}/", "caBundle": bundle},
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }
        kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration"}
        return kind | {"metadata": {"name": NAME}, "webhooks": [hook]}

    def handler(self):
        beside = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["request"]
                answer = {"uid": request["uid"], "allowed": True} | beside.patch(request["object"]["spec"])
                review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer}
                content = json.dumps(review).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        return Handler

    def patch(self, spec):
        self.asked.append(any(one["name"] == "bearerd" for one in spec.get("initContainers", ())))
        if any(one["name"] == self.ADDED for one in spec["containers"]):
            return {}
        # It asks some times and then stays, as a container beside an app does.
        value = pods.container(("loop", "-count=5", "-stay"), self.ADDED)
        text = json.dumps([{"op": "add", "path": "/spec/containers/-", "value": value}])
        return {"patchType": "JSONPatch", "patch": base64.b64encode(text.encode()).decode()}
