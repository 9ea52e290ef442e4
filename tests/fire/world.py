"""The sidecar as a process, the fake Google that it is beside, and what is measured of both."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "clients"))

from harness import google, keys, sidecar  # noqa: E402

# Both versions of control groups: where they are, what bounds memory and time, where a kill for want of memory is
# counted.
UNIFIED = pathlib.Path("/sys/fs/cgroup/cgroup.controllers").exists()
MEMORY = pathlib.Path("/sys/fs/cgroup" if UNIFIED else "/sys/fs/cgroup/memory")
CPU = pathlib.Path("/sys/fs/cgroup" if UNIFIED else "/sys/fs/cgroup/cpu")
MOST, KILLS = ("memory.max", "memory.events") if UNIFIED else ("memory.limit_in_bytes", "memory.oom_control")
HOST = "storage.googleapis.com"
MIB = 1 << 20
LIMIT = 60  # seconds
REQUESTS = 1_000_000  # far above what a cell at full length asks for


class Red(Exception):
    """The cell failed; the text says why."""


class World:
    """One fake Google and one sidecar on it."""

    def __init__(self, folder, servers_binary, client_binary):
        self.folder, self.client_binary = folder, client_binary
        self.servers = google.Google(servers_binary, folder, f"-most={REQUESTS}")
        self.key = keys.make("fire", "app")
        self.servers.register(self.key)
        (folder / "keys").mkdir()
        self.key.write(folder / "keys" / "key.json")
        self.sidecar = sidecar.Sidecar(os.environ["BEARERD"], folder, self.servers, folder / "keys" / "key.json")
        self.port = int(self.sidecar.proxy.rsplit(":", 1)[1])

    def again(self):
        """Another process in place of the one that ended, as a kubelet starts it: at once, with the same files."""
        one = self.sidecar
        with one.output.open("ab") as output:
            one.process = subprocess.Popen(
                [one.binary, "run", "--config", one.config],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=one.plain_environment(),
            )

    @contextlib.contextmanager
    def load(self, workers, pause):
        """The Go client in a loop; `report` is filled at the end."""
        report = {}
        output = self.folder / "load.log"
        with output.open("w+") as file:
            process = subprocess.Popen(
                [self.client_binary, "loop", f"-workers={workers}", f"-every={pause}"],
                env={"PATH": os.environ["PATH"], "HOME": str(self.folder)} | self.sidecar.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
            try:
                until("first request", lambda: '{"first":true}' in output.read_text())
                yield report
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(timeout=LIMIT)
        last = output.read_text().strip().splitlines()[-1]
        report.update(json.loads(last))

    def metrics(self):
        return fetch(f"{self.sidecar.health}/metrics")

    def metric(self, name):
        return sum(float(line.rsplit(" ", 1)[1]) for line in self.metrics().splitlines() if line.startswith(name))

    def status(self):
        return json.loads(fetch(f"{self.sidecar.control}/status.json"))

    def resident(self):
        """KiB of the sidecar's process."""
        status = pathlib.Path(f"/proc/{self.sidecar.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])

    def ask(self):
        """One request on a connection of its own, through CONNECT and TLS; its status."""
        context = ssl.create_default_context(cafile=self.sidecar.environment["SSL_CERT_FILE"])
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as plain:
            plain.sendall(f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n".encode())
            if b" 200" not in plain.recv(4096).split(b"\r\n")[0]:
                raise OSError("no tunnel")
            with context.wrap_socket(plain, server_hostname=HOST) as tls:
                tls.sendall(f"GET /storage/v1/b/cells HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
                return int(tls.recv(4096).split()[1])

    def end(self):
        if self.sidecar.process.poll() is None:
            self.sidecar.kill()
        self.servers.__exit__()


def fetch(url):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=LIMIT) as answer:
        return answer.read().decode()


def until(what, holds, limit=LIMIT):
    end = time.monotonic() + limit
    while time.monotonic() < end:
        found = holds()
        if found:
            return found
        time.sleep(0.01)
    raise Red(f"after {limit} s still no {what}")


def restart(world, group=None):
    """A new process, in a control group from its first moment where one is given."""
    world.sidecar.kill()
    if group is None:
        world.again()
    else:
        # A child begins in its parent's group; what the parent has in memory already stays counted where it was.
        (group / "cgroup.procs").write_text(str(os.getpid()))
        try:
            world.again()
        finally:
            (group.parent / "cgroup.procs").write_text(str(os.getpid()))
    world.sidecar.command("ready", "--wait", "10s")


def warm(world):
    """What is made once is made."""
    for _ in range(20):
        if world.ask() != 200:
            raise Red("no answer")
