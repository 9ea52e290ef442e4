"""Everything a cell can touch: the cluster, the chart in it, the fake Google, keys, and namespaces with what apps need."""

import json
import os
import subprocess

from harness import keys
from rig import google, images, install, pods
from rig.inside import Inside
from rig.kube import Kube, is_ready
from rig.node import PAUSE, Node
from rig.plane import Plane, network
from rig.processes import Processes
from rig.wait import NotYet, Red, until

RELEASE = "bearerd"
NAMESPACE = "bearerd-system"
APPS = "apps"
ROOTS = "google-roots"
IMAGE = "ghcr.io/bearerd/bearerd"
CHART = install.REPOSITORY / "charts" / "bearerd"
UNROUTED = "plain.example.com"  # inside the ceiling, and no route of the default names it
SETTLE = "5s"  # instead of ten minutes: how long a new CA is trusted before it signs
HELM_LIMIT = 180  # seconds


class World:
    """Started once, shared by all cells."""

    def __init__(self, folder, tools, binary):
        self.folder, self.tools, self.binary = folder, tools, binary
        self.processes = Processes(folder)
        self.plane = Plane(folder, self.processes, tools["kubernetes"])
        self.node = Node(folder, self.processes, tools["kubernetes"], self.plane, f"/{folder.name}")
        self.kubeconfig = self.plane.certificates / "admin.kubeconfig"
        self.kube = self.api = self.google = None
        self.key = keys.make("first", "app")
        self.tag = ""

    def start(self):
        """From nothing to a node that is ready and a fake Google in a pod."""
        if not self.binary.exists():
            raise Red(f"no bearerd at {self.binary}: build the static one, or set BEARERD")
        network()
        self.node.start_runtime()
        self.plane.start()
        self.load_images()
        self.node.start_kubelet()
        self.api = self.plane.api
        self.kube = Kube(self.api, self.tools["helm"] / "kubectl", self.kubeconfig)
        self.node.ready()
        self.google = google.Google(self.kube)
        self.google.start()
        self.google.register(self.key)
        version = self.api.ask("GET", "/version")["gitVersion"]
        sizes = ", ".join(f"{name} {size} MiB" for name, size in self.processes.resident().items())
        return f"Kubernetes {version}; {sizes}"

    def load_images(self):
        ours = {
            PAUSE: self.tools["pause"],
            pods.CLIENT: self.tools["client"],
            google.IMAGE: self.tools["servers"],
        }
        for name, binary in ours.items():
            archive = self.folder / "image.tar"
            images.write(archive, name, binary)
            self.node.load(archive)
        told = subprocess.run([self.binary, "--version"], check=True, capture_output=True, text=True).stdout
        self.tag = told.split()[1]
        make = install.REPOSITORY / "tests" / "image" / "make"
        subprocess.run([make, self.binary, archive, f"{IMAGE}:{self.tag}"], check=True, capture_output=True, text=True)
        self.node.load(archive)

    # -- the chart

    def values(self):
        """What an administrator here would write: where Google is, and its CA."""
        return {
            "extraArgs": [f"--ca-settle={SETTLE}"],
            "sidecar": {
                "allowHosts": ["*.googleapis.com", UNROUTED],
                "extraRoots": {"configMap": ROOTS, "key": "ca.crt"},
                "config": {
                    "upstream": {
                        "connectTo": {f"{name}:443": self.google.tls for name in ("*.googleapis.com", UNROUTED)}
                    }
                },
            },
        }

    def helm(self, *arguments, **options):
        command = [self.tools["helm"] / "helm", "--kubeconfig", self.kubeconfig, "--namespace", NAMESPACE, *arguments]
        own = {name: str(self.folder / "helm") for name in ("HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME")}
        return subprocess.run(
            list(map(str, command)),
            check=True,
            capture_output=True,
            text=True,
            timeout=HELM_LIMIT,
            env=os.environ | own,
            **options,
        ).stdout

    def values_file(self, **changes):
        path = self.folder / "values.json"
        values = self.values()
        values["sidecar"] |= changes
        path.write_text(json.dumps(values))
        return path

    def install(self):
        """`helm install --wait` of the chart as it is; what it needs beside values is one ConfigMap for each namespace."""
        # `helm test` starts a pod with a sidecar in the release's own namespace.
        self.kube.namespace(NAMESPACE)
        self.kube.apply(NAMESPACE, pods.config_map(ROOTS, ca_crt=self.google.ca()))
        wait = ("--wait", "--timeout", "120s")
        self.helm("install", RELEASE, CHART, "--values", self.values_file(), *wait)
        ready = self.webhooks()
        if len(ready) != 2:
            raise Red(f"{len(ready)} webhooks are ready after --wait")
        return f"{len(ready)} webhooks, {', '.join(f'{self.inside(pod, self.main(pod)).resident()} KiB' for pod in ready)}"

    def webhooks(self):
        """Its pods that are ready."""
        selector = self.api.get("deployments", NAMESPACE, RELEASE)["spec"]["selector"]["matchLabels"]
        labels = ",".join(f"{name}={value}" for name, value in selector.items())
        return [
            pod
            for pod in self.api.list("pods", NAMESPACE, labels)
            if is_ready(pod) and "deletionTimestamp" not in pod["metadata"]
        ]

    @staticmethod
    def main(pod):
        return pod["spec"]["containers"][0]["name"]

    # -- what apps need

    def prepare(self):
        self.apps(APPS)

    def apps(self, namespace):
        """A namespace with the key's Secret and the fake Google's CA."""
        self.kube.namespace(namespace)
        self.kube.apply(namespace, pods.secret(self.key), pods.config_map(ROOTS, ca_crt=self.google.ca()))

    def inside(self, pod, container):
        return Inside(self.node, pod, container)

    def deploy(self, name, *arguments, **options):
        """Applies a Deployment and waits for its pod; returns that as stored, having made sure that it was injected."""
        self.kube.apply(APPS, pods.deployment(name, *arguments, **options))
        pod = self.kube.running(APPS, name)[0]
        injected(pod)
        return pod

    def remove(self, kind, name, namespace=APPS):
        self.kube.kubectl("--namespace", namespace, "delete", kind, name, "--wait=true", "--timeout=60s")

    def asked(self, pod, container="app"):
        """The client's report, once it has ended."""

        def look():
            lines = self.kube.logs(pod, container).splitlines()
            if not lines or not lines[-1].startswith('{"requests"'):
                raise NotYet(lines[-1:] or "no output")
            return json.loads(lines[-1])

        return until("report of the client", look)

    # -- the end

    def tell(self, say):
        """After a failure: what the webhooks and the cluster said last."""
        for pod in self.api.list("pods", NAMESPACE) if self.api else ():
            name = pod["metadata"]["name"]
            text = self.kube.kubectl("--namespace", NAMESPACE, "logs", name, "--tail=8", check=False)
            say(f"-- {name}: {text.stdout}{text.stderr}")

    def end(self):
        """Takes everything down in order; the namespaces take what is left."""
        if self.api is not None and "kubelet" in self.processes.running:
            self.processes.running["kubelet"].terminate()
            self.processes.running.pop("kubelet").wait()
        if "containerd" in self.processes.running:
            self.node.clear()
        self.processes.end()


def injected(pod):
    """Raises `Red` unless the stored pod has the sidecar as its first init container, and only once."""
    names = [one["name"] for one in pod["spec"].get("initContainers", ())]
    if names[:1] != ["bearerd"] or names.count("bearerd") != 1:
        raise Red(f"{pod['metadata']['name']} has init containers {names}")
    if pod["metadata"].get("labels", {}).get("bearerd.dev/injected") != "true":
        raise Red(f"{pod['metadata']['name']} does not carry the label bearerd.dev/injected")
