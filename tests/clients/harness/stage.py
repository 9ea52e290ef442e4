"""Runs a program through the sidecar and judges it by the servers' log, not by the program's word alone.

A cell is green where the program ended well, each expected request was logged, each API request carried the newest
token that the sidecar had been issued by then, and no head held a placeholder. It knows nothing of which cells exist.
"""

import dataclasses
import os
import re
import subprocess
import time

LIMIT = 60  # seconds, for one program
APIS = ("storage", "compute", "pubsub", "bigtable", "fleetengine")


class Red(Exception):
    """The cell failed; the text says why."""


@dataclasses.dataclass(frozen=True)
class Seen:
    """At least `least` requests in the log at `server`, whose fields match."""

    server: str
    least: int = 1
    path: str = ""  # found anywhere in the path, as a regular expression
    key: str = ""  # for exchanges, and where not the sidecar's key is expected
    method: str = ""
    upload: str = ""

    def matches(self, line):
        return (
            line["server"] == self.server
            and re.search(self.path, line["path"]) is not None
            and self.key in ("", line.get("key"))
            and self.method in ("", line["method"])
            and self.upload in ("", line.get("upload"))
            and not line.get("refused", False)
        )


@dataclasses.dataclass(frozen=True)
class Cell:
    """A program to run, and what the servers must have seen of it."""

    name: str
    command: tuple
    seen: tuple = ()
    environment: dict = dataclasses.field(default_factory=dict)
    prints: str = ""  # found in its standard output, as a regular expression
    direct: bool = True  # also runs without bearerd
    check: object = None  # called with its standard output; raises ValueError


class Stage:
    """What every cell plays on: servers, sidecar, and the environment of a program that holds no key."""

    def __init__(self, folder, servers, sidecar, sidecar_keys):
        self.folder, self.servers, self.sidecar = folder, servers, sidecar
        self.sidecar_keys = sidecar_keys
        self.mark = 0
        (folder / "home").mkdir()
        (folder / "output").mkdir()

    def begin(self):
        self.mark = len(self.servers.log())

    def window(self):
        """The log since `begin`."""
        return self.servers.log(self.mark)

    def program_environment(self, extra):
        bare = {"PATH": os.environ["PATH"], "HOME": str(self.folder / "home"), "LANG": "C.UTF-8"}
        return bare | self.sidecar.environment | extra

    def start(self, cell):
        """Runs the program of a cell to its end; its output is kept, and shown where it failed."""
        output = self.folder / "output" / cell.name.replace(" ", "-")
        with output.open("w+", errors="replace") as file:
            try:
                done = subprocess.run(
                    [str(part) for part in cell.command],
                    env=self.program_environment(cell.environment),
                    cwd=self.folder / "home",
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    timeout=LIMIT,
                )
                ended = f"exit status {done.returncode}"
            except subprocess.TimeoutExpired:
                ended = f"still running after {LIMIT} s"
        text = output.read_text(errors="replace")
        if ended != "exit status 0":
            raise Red(f"{ended}\n{text[-3000:]}")
        if re.search(cell.prints, text) is None:
            raise Red(f"its output does not match {cell.prints!r}: {text[-500:]}")
        if cell.check is not None:
            try:
                cell.check(text)
            except (ValueError, KeyError) as error:
                raise Red(f"{error}") from error
        return text

    def run(self, cell):
        self.begin()
        try:
            self.start(cell)
        except Red as error:
            raise Red(f"{error}\nthe servers saw:\n{self.told(self.window())}") from None
        return self.judge(cell.seen)

    def judge(self, seen):
        """Compares the log since `begin` with what a cell expects; returns what to print."""
        log = self.servers.log()
        lines = log[self.mark :]
        for line in lines:
            self.judge_line(line, seen, self.newest(log[: line["sequence"] - 1]))
        for expected in seen:
            found = sum(expected.matches(line) for line in lines)
            if found < expected.least:
                raise Red(f"the servers' log has {found} of {expected}\n{self.told(lines)}")
        return self.summary(lines)

    @staticmethod
    def judge_line(line, seen, newest):
        if line.get("placeholder") or line["authorization"] == "placeholder":
            raise Red(f"the placeholder arrived: {line}")
        if not any(expected.matches(line) for expected in seen):
            raise Red(f"a request that nobody expected: {line}")
        if line["server"] not in APIS:
            if line["authorization"] != "none":
                raise Red(f"a credential where none belongs: {line}")
        elif not any(expected.key and expected.matches(line) for expected in seen):
            if line["authorization"] != "token" or line["token"] != newest:
                raise Red(f"expected token #{newest} of the sidecar's key: {line}")

    def newest(self, log=None):
        """The number of the last token that was issued for a key of the sidecar's, in all of the log or a part."""
        lines = self.servers.log() if log is None else log
        issued = [line["issued"] for line in lines if line.get("issued") and line["key"] in self.sidecar_keys]
        return issued[-1] if issued else None

    def wait_for(self, what, found):
        """Polls the log until `found` holds; bounded."""
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            result = found()
            if result:
                return result
            time.sleep(0.02)
        raise Red(f"after {LIMIT} s still no {what}")

    @staticmethod
    def told(lines):
        return "\n".join(str(line) for line in lines[-10:])

    @staticmethod
    def summary(lines):
        keys = sorted({line["key"] for line in lines if line["server"] in APIS and line.get("key")})
        holders = f"token of key {', '.join(keys)}" if keys else "no token"
        return f"{len(lines)} request{'' if len(lines) == 1 else 's'}, {holders}"
