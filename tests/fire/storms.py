"""What ends the sidecar, changes its configuration, or takes its memory, under load."""

import contextlib
import json
import pathlib
import random
import resource
import socket
import threading
import time

from world import HOST, KILLS, LIMIT, MEMORY, MIB, MOST, Red, restart, until


def killed(world, full):
    """kill -9 under load, again and again: back within 300 ms, with the same CA, and only what was in flight is lost."""
    rounds = 50 if full else 10
    ca = pathlib.Path(world.sidecar.environment["NODE_EXTRA_CA_CERTS"])
    before, gaps = ca.read_bytes(), []
    with world.load(10, "10ms") as report:
        for _ in range(rounds):
            world.sidecar.process.kill()
            world.sidecar.process.wait()
            began = time.monotonic()
            world.again()

            def answers():
                with contextlib.suppress(OSError):
                    return world.ask() == 200

            until("answer after kill -9", answers, 10)
            gaps.append(time.monotonic() - began)
            # The load goes on for a while between two kills.
            time.sleep(0.5)
    if ca.read_bytes() != before:
        raise Red("the CA is another one")
    gaps.sort()
    if gaps[-1] > 0.3:
        raise Red(f"unavailable for {gaps[-1] * 1000:.0f} ms")
    # Workers try again after their pause: what fails is what was in flight, and what came before the port was back.
    most = rounds * 10 * (1 + int(gaps[-1] / 0.01))
    if not 0 < report["failures"] <= most:
        raise Red(f"{report}")
    told = f"{rounds} kills, back after {gaps[len(gaps) // 2] * 1000:.0f} ms, at most {gaps[-1] * 1000:.0f} ms"
    return f"{told}; {report['requests']} requests, {report['failures']} lost"


def ended(world, full):
    """SIGTERM under load: what the application still asks for succeeds until it is quiet, then the status is 0."""
    rounds, total = 10 if full else 2, 0
    for _ in range(rounds):
        with world.load(10, "10ms") as report:
            world.sidecar.process.terminate()
            time.sleep(2)
            if world.sidecar.process.poll() is not None:
                raise Red("it ended while requests came")
        began = time.monotonic()
        status = world.sidecar.process.wait(timeout=LIMIT)
        took = time.monotonic() - began
        if report["failures"] or status != 0:
            raise Red(f"exit status {status}, {report}")
        if took > 5:
            raise Red(f"it took {took:.1f} s to end after the last request")
        total += report["requests"]
        world.again()
        world.sidecar.command("ready", "--wait", "10s")
    return f"{rounds} ends, {total} requests, 0 failures, exit status 0"


def reloaded(world, full):
    """The configuration changes all the time, a third of it wrong: nothing is dropped, what is wrong is not used."""
    rounds = 1000 if full else 150
    good = json.loads(world.sidecar.config.read_text())
    dice = random.Random(7)
    wrong = 0
    taken = world.metric("bearerd_config_reloads_total")
    with world.load(10, "10ms") as report:
        for number in range(rounds):
            is_wrong = dice.random() < 0.3
            wrong += is_wrong
            text = "routes: [{name: " if is_wrong else json.dumps(good | {"drain": {"deadline": f"{20 + number % 9}s"}})
            draft = world.sidecar.config.with_suffix(".draft")
            draft.write_text(text)
            draft.replace(world.sidecar.config)
            time.sleep(0.03)
        draft.write_text(json.dumps(good))
        draft.replace(world.sidecar.config)
        until("last configuration in use", lambda: world.status()["config"]["lastError"] is None)
    taken = world.metric("bearerd_config_reloads_total") - taken
    if report["failures"] or taken < 2:
        raise Red(f"{taken} taken, {report}")
    return f"{rounds} changes, {wrong} of them wrong, {taken:.0f} taken; {report['requests']} requests, 0 failures"


class Greedy(threading.Thread):
    """Keeps connections open and gives nothing for them: silent ones, heads without end, handshakes without end."""

    def __init__(self, port, count, seed):
        super().__init__(daemon=True)
        self.port, self.count, self.dice = port, count, random.Random(seed)
        self.held, self.opened, self.stop = [], 0, False

    def run(self):
        while not self.stop:
            while len(self.held) < self.count and not self.stop:
                with contextlib.suppress(OSError):
                    self.held.append(self.open())
                    self.opened += 1
            victim = self.dice.randrange(len(self.held)) if self.held else None
            if victim is not None:
                self.held.pop(victim).close()
            time.sleep(0.001)
        for one in self.held:
            one.close()

    def open(self):
        one = socket.socket()
        one.settimeout(0.5)
        one.connect(("127.0.0.1", self.port))
        kind = self.dice.randrange(4)
        one.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            if kind == 1:
                one.send(b"GET http://storage.googleapis.com/ HTTP/1.1\r\nX-Long: " + b"a" * 30_000)
            elif kind == 2:
                name = f"h{self.dice.randrange(5000)}.googleapis.com:443"
                one.send(f"CONNECT {name} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
            elif kind == 3:
                one.send(f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n\x16\x03\x01\x02\x00".encode())
        return one


def squeezed(world, full):
    """10 000 greedy clients against a sidecar with 64 MiB: nobody is killed for memory, and a good client loses nothing."""
    clients, seconds = 10_000, 60 if full else 15
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if most != resource.RLIM_INFINITY and most < clients + 500:
        raise Red(f"{most} open files are too few for {clients} clients here")
    group = MEMORY / "bearerd-fire"
    group.mkdir(exist_ok=True)
    try:
        (group / MOST).write_text(str(64 * MIB))
        restart(world, group)
        before = world.resident()
        crowd = [Greedy(world.port, clients // 10, seed) for seed in range(10)]
        with world.load(4, "20ms") as report:
            for one in crowd:
                one.start()
            until("crowd", lambda: sum(one.opened for one in crowd) >= clients)
            end, most = time.monotonic() + seconds, 0
            while time.monotonic() < end:
                most = max(most, world.resident())
                time.sleep(0.1)
        for one in crowd:
            one.stop = True
        for one in crowd:
            one.join(LIMIT)
        opened = sum(one.opened for one in crowd)
        events = dict(line.split() for line in (group / KILLS).read_text().splitlines())
        if world.sidecar.process.poll() is not None or events["oom_kill"] != "0":
            raise Red(f"the sidecar ended: {events}")
        if report["failures"]:
            raise Red(f"the good client: {report}")
        time.sleep(12)
        after = world.resident()
        told = f"{opened} greedy connections, {report['requests']} good requests, 0 failures, slowest {report['slowestMs']} ms"
        return f"{told}; RSS {before} KiB before, {most} at most, {after} after"
    finally:
        restart(world)
        group.rmdir()
