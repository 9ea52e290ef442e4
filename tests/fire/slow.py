"""Attacks by slowness: who does not go on is cut in time, and a good client beside them waits no longer."""

import asyncio
import contextlib
import json
import pathlib
import random
import statistics
import subprocess
import sys
import time

from upstreams import endless
from world import HOST, LIMIT, Red, fetch, warm

from harness import sidecar

GOOD = pathlib.Path(__file__).resolve().parent / "good.py"
HEAD = f"GET http://{HOST}/ HTTP/1.1\r\nHost: {HOST}\r\nX: ".encode()
BODY = b"POST http://slow.googleapis.com/ HTTP/1.1\r\nHost: slow.googleapis.com\r\nContent-Length: 1000000\r\n\r\n"
TUNNEL = f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n".encode()
CLIENTS = 'bearerd_connections_active{door="proxy"}'
READ = b"GET http://slow.googleapis.com/object HTTP/1.1\r\nHost: slow.googleapis.com\r\n\r\n"
# What differs between two rounds of the same on a machine that does other things too.
NOISE = 1  # ms
ROUNDS, SECONDS = 3, 2
COMES = 10  # s, in which a crowd comes
# A body's minute begins when the upstream was reached, which takes seconds where thousands come at once.
LATE = {"bodies": 5}  # s


def slow(world, full):
    """Heads, handshakes and (--full) bodies that never end are cut; who reads slowly stays. All are there while a good
    client's time is taken, which is compared with its time while another sidecar is attacked: a crowd takes its turns
    on this machine wherever it goes."""
    # Four thousand in all at full size.
    count = 1300 if full else 500
    with endless(world):
        warm(world)
        alone = percentiles(world)
        with twin(world) as other:
            _, elsewhere = asyncio.run(Attack(world, other, count, full).play())
        lives, beside = asyncio.run(Attack(world, Victim.of(world), count, full).play())
    told = []
    for kind, (limit, lived) in lives.items():
        if len(lived) < count or max(lived) > limit + LATE.get(kind, 1) or min(lived) < limit - 2:
            raise Red(f"{len(lived)} {kind}: cut after {min(lived):.1f} to {max(lived):.1f} s, {limit} s were expected")
        told.append(f"{kind} cut after {min(lived):.1f} to {max(lived):.1f} s")
    rounds = (alone, elsewhere, beside)
    before, control, good = (statistics.median(one["p99"] for one in some) for some in rounds)
    failures = sum(one["failures"] for some in rounds for one in some)
    told.append(f"99th percentile of a good client {good} ms, {control} with another attacked, {before} with none")
    # Where others keep the machine busy, the quiet rounds are no quicker.
    if failures or good > 1.2 * max(before, control) + NOISE:
        raise Red(f"{failures} failures; {told[-1]}; {beside}")
    return f"{count} of each: {', '.join(told)}; {sum(one['requests'] for one in beside)} requests beside them, 0 failures"


class Victim:
    """Where a sidecar's proxy listens, and how many clients it has."""

    def __init__(self, port, health):
        self.port, self.health = port, health

    @classmethod
    def of(cls, world):
        return cls(world.port, world.sidecar.health)

    def clients(self):
        text = fetch(f"{self.health}/metrics")
        return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(CLIENTS))


@contextlib.contextmanager
def twin(world):
    """Another sidecar with the same settings, at ports and in folders of its own."""
    settings = json.loads(world.sidecar.config.read_text())
    ports = dict(zip(("proxy", "metadata", "health", "control"), sidecar.free_ports(4), strict=True))
    folder = world.folder / "twin"
    folder.mkdir(exist_ok=True)
    settings["listeners"] |= {door: f"127.0.0.1:{port}" for door, port in ports.items()} | {"tokenApi": "off"}
    settings["trust"] = {"public": str(folder / "trust"), "private": str(folder / "private")}
    settings["tokens"] = []
    settings["credentials"] = settings["credentials"][:1]
    config, one = folder / "bearerd.yaml", world.sidecar
    config.write_text(json.dumps(settings))
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([one.binary, "run", "--config", config], env=one.plain_environment(), **quiet)
    try:
        ready = [one.binary, "ready", "--wait", "10s", "--config", config]
        subprocess.run(ready, check=True, env=one.plain_environment(), **quiet)
        yield Victim(ports["proxy"], f"http://127.0.0.1:{ports['health']}")
    finally:
        process.kill()
        process.wait()


def measure(world):
    """The command that takes a good client's time."""
    return [sys.executable, GOOD, str(world.port), world.sidecar.environment["SSL_CERT_FILE"], str(SECONDS)]


def percentiles(world):
    return [json.loads(subprocess.run(measure(world), check=True, capture_output=True).stdout) for _ in range(ROUNDS)]


class Attack:
    """All kinds at once, each by a crowd that stays as large: who is cut comes again. `play` says how long connections of a
    kind lived, and what the good client saw meanwhile."""

    def __init__(self, world, victim, count, full):
        self.world, self.victim, self.count = world, victim, count
        self.kinds = {"heads": (10, self.head), "handshakes": (5, self.handshake)}
        if full:
            # The limit is looked at once a minute, from the head on.
            self.kinds["bodies"] = (60, self.body)
        # They are the ones that cost memory, see `readers`.
        self.readers = [self.reader() for _ in range(count // 10)]
        self.is_over = False

    async def play(self):
        readers = [asyncio.ensure_future(one) for one in self.readers]
        kinds = {
            kind: (limit, [asyncio.ensure_future(self.again(min(limit, COMES), attack)) for _ in range(self.count)])
            for kind, (limit, attack) in self.kinds.items()
        }
        # What is measured is a crowd that is there, not one that comes.
        await asyncio.sleep(COMES)
        beside = []
        for _ in range(ROUNDS):
            good = await asyncio.create_subprocess_exec(*measure(self.world), stdout=subprocess.PIPE)
            beside.append(json.loads((await good.communicate())[0]))
        there = self.victim.clients()
        self.is_over = True
        gone = sum(one.done() for one in readers)
        lives = {kind: (limit, sum(await asyncio.gather(*slots), [])) for kind, (limit, slots) in kinds.items()}
        for one in readers:
            one.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        if gone or there < self.count:
            raise Red(f"{gone} of {len(readers)} slow readers were cut, {there} clients were there")
        return lives, beside

    async def again(self, spread, attack):
        """One place in the crowd. Strangers keep no step: all at the same moment would be a flood."""
        lives = []
        await asyncio.sleep(random.random() * spread)
        while not self.is_over:
            lives.append(await attack())
        return lives

    async def open(self, text):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.victim.port)
        writer.write(text)
        return reader, writer

    async def head(self):
        return await self.until_cut(*await self.open(HEAD), time.monotonic(), b"x")

    async def body(self):
        return await self.until_cut(*await self.open(BODY), time.monotonic(), b"x")

    async def handshake(self):
        reader, writer = await self.open(TUNNEL)
        await reader.readuntil(b"\r\n\r\n")
        began = time.monotonic()
        writer.write(b"\x16\x03\x01\x02\x00\x01")
        return await self.until_cut(reader, writer, began, b"")

    async def reader(self):
        reader, writer = await self.open(READ)
        try:
            while await reader.read(1024):
                await asyncio.sleep(1)
        finally:
            writer.transport.abort()

    @staticmethod
    async def until_cut(reader, writer, began, drop):
        async def drip():
            with contextlib.suppress(OSError):
                while True:
                    await asyncio.sleep(1)
                    writer.write(drop)
                    await writer.drain()

        dripping = asyncio.ensure_future(drip()) if drop else None
        with contextlib.suppress(OSError):
            while await asyncio.wait_for(reader.read(4096), LIMIT + 30):
                pass
        lived = time.monotonic() - began
        if dripping:
            dripping.cancel()
        writer.transport.abort()
        return lived
