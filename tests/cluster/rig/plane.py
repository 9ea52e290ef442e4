"""The control plane: etcd, API server, controller manager and scheduler on one address of a fresh network namespace."""

import ssl
import subprocess
import urllib.error
import urllib.request

from rig import pki
from rig.api import Api
from rig.wait import until

ADDRESS = "10.99.0.1"  # of the node, the API server and the harness
PORT = 6443
SERVICES = "10.96.0.0/16"
SERVICE = "10.96.0.1"  # the API server's own, where pods look for it
ETCD = 2379
NODE = "node1"


def network():
    """The one address, and the only Service that somebody has to play kube-proxy for: the API server's."""
    for command in ("ip link set lo up", f"ip addr add {ADDRESS}/32 dev lo"):
        subprocess.run(command.split(), check=True)
    rule = f"ip daddr {SERVICE} tcp dport 443 dnat to {ADDRESS}:{PORT};"
    hooks = ("prerouting", "output")
    chains = [f"chain {hook} {{ type nat hook {hook} priority -100; {rule} }};" for hook in hooks]
    subprocess.run(["nft", f"table ip cluster {{ {' '.join(chains)} }}"], check=True)


class Plane:
    """Starts in a few seconds; `api` is the way in."""

    def __init__(self, folder, processes, programs):
        self.folder, self.processes, self.programs = folder, processes, programs
        self.certificates = folder / "pki"
        self.api = None

    def start(self):
        pki.make(self.certificates, NODE, (ADDRESS, SERVICE, "127.0.0.1"))
        for name in pki.CLIENTS:
            pki.kubeconfig(self.certificates, name, f"https://{ADDRESS}:{PORT}")
        self.etcd()
        self.server()
        self.api = Api(ADDRESS, PORT, self.certificates)
        until("API server that is ready", self.ready, 120)
        self.controllers()
        until("service account in the namespace default", lambda: self.api.find("serviceaccounts", "default", "default"))

    def etcd(self):
        client, peer = f"http://127.0.0.1:{ETCD}", f"http://127.0.0.1:{ETCD + 1}"
        told = {
            "data-dir": self.folder / "etcd",
            "name": "it",
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"it={peer}",
        }
        # Nothing here outlives the run, so nothing is worth a wait for the disk.
        self.processes.start("etcd", "/usr/bin/etcd", *flags(told), "--unsafe-no-fsync")

        def healthy():
            self.processes.alive("etcd")
            try:
                return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{client}/health", timeout=2)
            except urllib.error.URLError:
                return None

        until("etcd that is healthy", healthy)

    def server(self):
        own = self.certificates
        told = {
            "etcd-servers": f"http://127.0.0.1:{ETCD}",
            "bind-address": ADDRESS,
            "advertise-address": ADDRESS,
            "secure-port": PORT,
            "tls-cert-file": own / "apiserver.crt",
            "tls-private-key-file": own / "apiserver.key",
            "client-ca-file": own / "ca.crt",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": own / "accounts.pub",
            "service-account-signing-key-file": own / "accounts.key",
            "authorization-mode": "Node,RBAC",
            "service-cluster-ip-range": SERVICES,
            "kubelet-client-certificate": own / "admin.crt",
            "kubelet-client-key": own / "admin.key",
            "kubelet-preferred-address-types": "InternalIP",
            # Without kube-proxy, it dials a webhook's endpoint itself.
            "enable-aggregator-routing": "true",
            "event-ttl": "15m",
            "profiling": "false",
        }
        self.processes.start("apiserver", self.programs / "kube-apiserver", *flags(told))

    def ready(self):
        self.processes.alive("apiserver")
        try:
            self.api.ask("GET", "/readyz")
            return self.api.find("namespaces", "", "default")
        except (OSError, ssl.SSLError):
            return None
        except Exception as error:  # not ready is an answer with any status
            if hasattr(error, "status"):
                return None
            raise

    def controllers(self):
        own = self.certificates
        manager = {
            "kubeconfig": own / "controller-manager.kubeconfig",
            "service-account-private-key-file": own / "accounts.key",
            "root-ca-file": own / "ca.crt",
            "use-service-account-credentials": "true",
            "leader-elect": "false",
            "bind-address": "127.0.0.1",
        }
        self.processes.start("controller-manager", self.programs / "kube-controller-manager", *flags(manager))
        scheduler = {
            "kubeconfig": own / "scheduler.kubeconfig",
            "leader-elect": "false",
            "bind-address": "127.0.0.1",
        }
        self.processes.start("scheduler", self.programs / "kube-scheduler", *flags(scheduler))


def flags(told):
    return [f"--{name}={value}" for name, value in told.items()]
