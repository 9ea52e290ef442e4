"""Installs what the cells need, once: everything is kept under ~/.cache/bearerd, keyed by what it was made of.

Versions come from the lock files beside the programs. It knows nothing of servers or cells. `run` calls `everything`.
"""

import concurrent.futures
import fcntl
import hashlib
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent.parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "bearerd"
DEBIAN = {
    "curl": "curl",
    "openssl": "openssl",
    "java": "openjdk-17-jdk-headless",
    "javac": "openjdk-17-jdk-headless",
    "keytool": "openjdk-17-jdk-headless",
    "mvn": "maven",
    "node": "nodejs",
    "npm": "npm",
}
# Debian's Go is too old for what the servers are made of, so it can't be helped out with.
REQUIRED = (*DEBIAN, "go")
COPY_DEPENDENCIES = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"


class Broken(Exception):
    """A tool is missing, or a step failed: the whole run fails."""


def call(command, **options):
    """Runs an installer; its output is shown only where it failed."""
    done = subprocess.run(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **options,
    )
    if done.returncode != 0:
        output = done.stdout.decode(errors="replace")[-4000:]
        raise Broken(f"{' '.join(str(part) for part in command)}: exit status {done.returncode}\n{output}")


def debian():
    """Debian's packages for the commands that are missing; a command still missing is an error."""
    missing = sorted({package for command, package in DEBIAN.items() if shutil.which(command) is None})
    if importlib.util.find_spec("ensurepip") is None:
        missing.append("python3-venv")
    if missing:
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        call(["apt-get", "update", "-q"], env=environment)
        call(["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing], env=environment)
    absent = [command for command in REQUIRED if shutil.which(command) is None]
    if absent:
        raise Broken(f"missing: {', '.join(absent)}")


def digest(*parts):
    """Names a cache entry by the bytes of files and texts, so that any change makes a new one."""
    total = hashlib.sha256()
    for part in parts:
        content = part.read_bytes() if isinstance(part, pathlib.Path) else str(part).encode()
        total.update(len(content).to_bytes(8, "big") + content)
    return total.hexdigest()[:16]


def version(*command):
    return subprocess.run(command, check=True, capture_output=True).stdout.decode().strip()


def kept(kind, key, make):
    """The folder `kind-key`, made anew unless an earlier run finished it. Two runs at once wait for each other."""
    folder = CACHE / f"{kind}-{key}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{kind}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / ".complete").exists():
            for old in CACHE.glob(f"{kind}-*"):
                shutil.rmtree(old)
            folder.mkdir()
            make(folder)
            (folder / ".complete").touch()
    return folder


def python():
    """A virtual environment with the pinned packages; returns its interpreter."""
    pinned = HERE / "python" / "requirements.txt"

    def make(folder):
        call([sys.executable, "-m", "venv", folder])
        call([folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--requirement", pinned])

    return kept("python", digest(pinned, sys.version), make) / "bin" / "python"


def node():
    """The locked npm packages; returns the folder for NODE_PATH."""
    manifests = [HERE / "node" / "package.json", HERE / "node" / "package-lock.json"]

    def make(folder):
        for manifest in manifests:
            shutil.copy(manifest, folder)
        call(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder)

    return kept("node", digest(*manifests, version("node", "--version")), make) / "node_modules"


def java():
    """Maven's artifacts and our classes; returns the class path."""
    project, sources = HERE / "java" / "pom.xml", sorted((HERE / "java" / "src").glob("*.java"))

    def make(folder):
        # Maven leaves its `target` beside the pom: the copy keeps the work tree clean.
        shutil.copy(project, folder)
        call(["mvn", "-B", "-q", COPY_DEPENDENCIES, f"-DoutputDirectory={folder}/lib"], cwd=folder)
        call(["javac", "-cp", f"{folder}/lib/*", "-d", folder / "classes", *sources])

    folder = kept("java", digest(project, *sources, version("javac", "-version")), make)
    return f"{folder}/classes:{folder}/lib/*"


def golang(name):
    """Builds the Go program in folder `name`; returns the binary."""
    sources = sorted(path for path in (HERE / name).iterdir() if path.suffix in (".go", ".mod", ".sum"))

    def make(folder):
        # Stripped: linking the debugging information takes longer than compiling what changed. Static, so that the
        # same binaries run in images that hold nothing else.
        command = ["go", "build", "-trimpath", "-ldflags=-s -w", "-o", folder / name, "."]
        call(command, cwd=HERE / name, env=os.environ | {"GOTOOLCHAIN": "local", "CGO_ENABLED": "0"})

    return kept(f"go-{name}", digest(*sources, version("go", "version")), make) / name


def both_golang():
    """One after the other, since each takes all cores; the second finds the first's packages built."""
    return golang("servers"), golang("go")


def everything(say):
    """All of it, side by side; returns what the cells start programs with."""
    debian()
    steps = {"python": python, "node": node, "java": java, "go": both_golang}
    with concurrent.futures.ThreadPoolExecutor() as pool:

        def timed(name):
            began = time.monotonic()
            made = steps[name]()
            say(f"tools {name}  ({time.monotonic() - began:.1f} s)")
            return made

        return dict(zip(steps, pool.map(timed, steps)))
