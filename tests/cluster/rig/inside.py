"""Looks into running containers from outside: files, environment, memory, and pages on the pod's own loopback."""

import json
import os
import pathlib
import re
import stat
import subprocess

from rig.kube import statuses

LARGEST = 64 << 20  # bytes of a file that are read
LIMIT = 10  # seconds, for one page


class Inside:
    """One container of a pod."""

    def __init__(self, node, pod, container):
        self.process = node.process(statuses(pod)[container]["containerID"])
        self.root = pathlib.Path(f"/proc/{self.process}/root")

    def files(self):
        """(path in the container, content) of every regular file, kernel's own file systems aside."""
        aside = {f"{self.root}/{name}" for name in ("proc", "sys", "dev")}
        for folder, folders, names in os.walk(self.root):
            folders[:] = [name for name in folders if f"{folder}/{name}" not in aside]
            for name in names:
                path = pathlib.Path(folder, name)
                if stat.S_ISREG(path.lstat().st_mode):
                    with path.open("rb") as file:
                        yield str(path)[len(str(self.root)) :], file.read(LARGEST)

    def environment(self):
        return pathlib.Path(f"/proc/{self.process}/environ").read_bytes()

    def mounts(self):
        return [line.split()[4] for line in pathlib.Path(f"/proc/{self.process}/mountinfo").read_text().splitlines()]

    def user(self):
        return int(self.status("Uid").split()[1])

    def resident(self):
        """KiB."""
        return int(self.status("VmRSS").split()[0])

    def status(self, field):
        text = pathlib.Path(f"/proc/{self.process}/status").read_text()
        return re.search(rf"^{field}:\s+(.*)$", text, re.M)[1]

    def memory_holds(self, pattern):
        """Whether the expression is anywhere in what the process may write to."""
        maps = pathlib.Path(f"/proc/{self.process}/maps").read_text().splitlines()
        with open(f"/proc/{self.process}/mem", "rb", 0) as memory:
            for line in maps:
                span, rights = line.split()[:2]
                if not rights.startswith("rw"):
                    continue
                start, end = (int(part, 16) for part in span.split("-"))
                try:
                    memory.seek(start)
                    if re.search(pattern, memory.read(end - start)):
                        return True
                except (OSError, OverflowError):
                    continue
        return False

    def page(self, url):
        """A page as something in the pod sees it."""
        command = ["nsenter", f"--net=/proc/{self.process}/ns/net", "curl", "--silent", "--noproxy", "*"]
        done = subprocess.run(
            [*command, "--max-time", str(LIMIT), url], check=True, capture_output=True, text=True
        )
        return done.stdout

    def told(self):
        """The sidecar's account of itself."""
        return json.loads(self.page("http://127.0.0.1:14191/status.json"))
