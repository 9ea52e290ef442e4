"""The one node: containerd, runc, a bridge for pods and the kubelet, and a way to look into what runs there."""

import json
import pathlib
import subprocess

from rig.plane import ADDRESS, NODE
from rig.processes import LIMIT
from rig.wait import until

SOCKET = "/run/containerd-cluster.sock"
PODS = "10.88.0.0/16"
PAUSE = "local.test/pause:1"

CONTAINERD = """version = 2
root = "{folder}/containerd"
state = "/run/containerd-cluster"
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true  # a CI machine may lack CAP_SYS_RESOURCE
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
"""

BRIDGE = {
    "cniVersion": "0.4.0",
    "name": "pods",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "pods0",
            "isGateway": True,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "dataDir": "/run/cni-addresses",
                "ranges": [[{"subnet": PODS}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
    ],
}


def kubelet_settings(folder, certificates, cgroup):
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "0.0.0.0",
        "port": 10250,
        "readOnlyPort": 0,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup,
        "failCgroupV1": False,
        "failSwapOn": False,
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "podLogsDir": f"{folder}/pod-logs",
        "volumePluginDir": f"{folder}/volume-plugins",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": f"{certificates}/ca.crt"},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "enforceNodeAllocatable": [],
        "evictionHard": {
            "memory.available": "1Mi",
            "nodefs.available": "0%",
            "imagefs.available": "0%",
            "nodefs.inodesFree": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        "makeIPTablesUtilChains": False,
        "maxPods": 110,
        "nodeStatusUpdateFrequency": "2s",
        # A changed Secret or annotation is in the pod within seconds instead of a minute.
        "syncFrequency": "2s",
        "configMapAndSecretChangeDetectionStrategy": "Watch",
        "serializeImagePulls": False,
    }


class Node:
    """Ready some seconds after `start`."""

    def __init__(self, folder, processes, programs, plane, cgroup):
        self.folder, self.processes, self.programs = folder, processes, programs
        self.plane, self.cgroup = plane, cgroup

    def start_runtime(self):
        (self.folder / "cni").mkdir()
        (self.folder / "cni" / "10-pods.conflist").write_text(json.dumps(BRIDGE))
        settings = self.folder / "containerd.toml"
        settings.write_text(CONTAINERD.format(folder=self.folder, socket=SOCKET, pause=PAUSE))
        self.processes.start("containerd", "/usr/bin/containerd", "--config", settings)
        until("containerd that answers", self.answers)

    def answers(self):
        self.processes.alive("containerd")
        return subprocess.run(["ctr", "--address", SOCKET, "version"], capture_output=True).returncode == 0

    def load(self, archive):
        self.ctr("images", "import", archive)

    def start_kubelet(self):
        settings = self.folder / "kubelet.json"
        settings.write_text(json.dumps(kubelet_settings(self.folder, self.plane.certificates, self.cgroup)))
        self.ctr("images", "label", PAUSE, "io.cri-containerd.pinned=pinned")
        told = {
            "config": settings,
            "kubeconfig": self.plane.certificates / "node.kubeconfig",
            "root-dir": self.folder / "kubelet",
            "cert-dir": self.folder / "kubelet" / "pki",
            "hostname-override": NODE,
            "node-ip": ADDRESS,
        }
        self.processes.start("kubelet", self.programs / "kubelet", *(f"--{name}={value}" for name, value in told.items()))

    def restart_kubelet(self):
        """As an upgrade of the node does; pods run on meanwhile."""
        kubelet = self.processes.running.pop("kubelet")
        kubelet.terminate()
        kubelet.wait(LIMIT)
        self.start_kubelet()

    def ready(self):
        until("node that is ready", self.is_ready)

    def is_ready(self):
        self.processes.alive("kubelet")
        node = self.plane.api.find("nodes", "", NODE) or {"status": {}}
        conditions = {one["type"]: one["status"] for one in node["status"].get("conditions", ())}
        return conditions.get("Ready") == "True" and not node["spec"].get("taints")

    def ctr(self, *arguments):
        command = ["ctr", "--address", SOCKET, "--namespace", "k8s.io", *map(str, arguments)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def process(self, container_id):
        """The process id of a container, as this namespace counts."""
        wanted = container_id.removeprefix("containerd://")
        for line in self.ctr("tasks", "list").splitlines()[1:]:
            name, process, *_ = line.split()
            if name == wanted:
                return int(process)
        raise LookupError(f"containerd has no task {wanted}")

    def clear(self):
        """Ends what containerd still runs, so that its shims and mounts do not outlive it."""
        for line in self.ctr("tasks", "list").splitlines()[1:]:
            # One that has just ended by itself is gone as well.
            command = ["ctr", "--address", SOCKET, "--namespace", "k8s.io", "tasks", "delete", "--force", line.split()[0]]
            subprocess.run(command, capture_output=True)
        for mount in reversed(pathlib.Path("/proc/self/mounts").read_text().splitlines()):
            path = mount.split()[1]
            if path.startswith(str(self.folder)):
                subprocess.run(["umount", "--lazy", path], check=False)
