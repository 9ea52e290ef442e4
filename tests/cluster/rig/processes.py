"""The cluster's processes: each started with a log of its own, ended by its handle and nothing else."""

import subprocess

from rig.wait import Red

LIMIT = 20  # seconds, for an orderly end


class Processes:
    """Started in order, ended in reverse."""

    def __init__(self, folder):
        self.folder = folder
        self.running = {}

    def start(self, name, *command, **options):
        with self.log(name).open("ab") as log:
            self.running[name] = subprocess.Popen(
                [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options
            )

    def log(self, name):
        return self.folder / f"{name}.log"

    def alive(self, name):
        """Raises `Red` where the process has ended: waiting for it would only hide why."""
        status = self.running[name].poll()
        if status is not None:
            tail = self.log(name).read_text(errors="replace")[-1500:]
            raise Red(f"{name} ended with status {status}\n{tail}")

    def resident(self):
        """Name → MiB."""
        sizes = {}
        for name, process in self.running.items():
            with open(f"/proc/{process.pid}/status", encoding="ascii", errors="replace") as lines:
                sizes |= {name: int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS")}
        return sizes

    def end(self):
        for process in reversed(self.running.values()):
            process.terminate()
            try:
                process.wait(LIMIT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.running = {}
