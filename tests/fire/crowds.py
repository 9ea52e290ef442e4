"""Clients that mean no good, or are only slow: what they cost, and that others notice nothing."""

import asyncio
import contextlib
import os
import pathlib
import random
import socket
import ssl
import struct
import subprocess
import threading
import time

from world import HOST, LIMIT, Red, restart, until

RESET = struct.pack("ii", 1, 0)


class Endless(threading.Thread):
    """An upstream over TLS, as `slow.googleapis.com`: a body of 1 GiB for GET, patience for everything else. At another
    port it resets whoever comes."""

    def __init__(self, world):
        super().__init__(daemon=True)
        self.world, self.ready = world, threading.Event()
        folder = world.folder
        self.key, self.certificate = folder / "slow.key", folder / "slow.pem"
        make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        name = ["-subj", "/CN=slow", "-addext", "subjectAltName=DNS:slow.googleapis.com"]
        # Its own root: a certificate that may sign others is refused as a server's.
        name += ["-addext", "basicConstraints=critical,CA:FALSE"]
        subprocess.run([*make, *name, "-keyout", self.key, "-out", self.certificate], check=True, capture_output=True)

    def run(self):
        self.loop = asyncio.new_event_loop()
        self.loop.run_until_complete(self.serve())

    async def serve(self):
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(self.certificate, self.key)
        server = await asyncio.start_server(self.answer, "127.0.0.1", 0, ssl=tls, backlog=1024)
        resets = await asyncio.start_server(self.reset, "127.0.0.1", 0, backlog=1024)
        self.port, self.resets = (one.sockets[0].getsockname()[1] for one in (server, resets))
        self.end = asyncio.Event()
        self.ready.set()
        await self.end.wait()

    async def answer(self, reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET "):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
                while True:
                    writer.write(b"a" * 65536)
                    await writer.drain()
            while await reader.read(65536):
                pass
        writer.transport.abort()

    async def reset(self, _, writer):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()

    def stop(self):
        self.loop.call_soon_threadsafe(self.end.set)
        self.join(LIMIT)


@contextlib.contextmanager
def endless(world):
    """The sidecar, started anew with that upstream."""
    import json  # noqa: PLC0415

    upstream = Endless(world)
    upstream.start()
    upstream.ready.wait(LIMIT)
    config = world.sidecar.config
    text = config.read_text()
    settings = json.loads(text)
    roots = world.folder / "roots.pem"
    theirs = pathlib.Path(settings["upstream"]["extraRoots"]).read_text()
    roots.write_text(theirs + upstream.certificate.read_text())
    settings["upstream"]["extraRoots"] = str(roots)
    settings["upstream"]["connectTo"] |= {
        "slow.googleapis.com:443": f"127.0.0.1:{upstream.port}",
        "reset.googleapis.com:443": f"127.0.0.1:{upstream.resets}",
    }
    config.write_text(json.dumps(settings))
    restart(world)
    try:
        yield upstream
    finally:
        config.write_text(text)
        restart(world)
        upstream.stop()


KINDS = {
    "HTTP/1.1 readers": ("--http1.1",),
    "HTTP/2 readers": ("--http2",),
    "senders": ("--http1.1", "-T", "/dev/zero", "-H", "Transfer-Encoding: chunked"),
}


def readers(world, full):
    """A hundred clients that read 1 KiB/s of 1 GiB by HTTP/1.1, then by HTTP/2, then a hundred that send as slowly."""
    seconds, told, requests = (60 if full else 8), [], 0
    with endless(world):
        for kind, flags in KINDS.items():
            before, most, report = slow_clients(world, flags, 100, seconds)
            more = (most - before) / 1024
            if report["failures"] or more > 32:
                raise Red(f"{kind}: {more:.1f} MiB more, {report}")
            told.append(f"{kind} {more:.1f} MiB")
            requests += report["requests"]
    return f"100 of each, RSS more at most: {', '.join(told)}; {requests} good requests, 0 failures"


def slow_clients(world, flags, count, seconds):
    """RSS before them and at most beside them, and what a good client saw."""
    restart(world)
    warm(world)
    environment = {"PATH": os.environ["PATH"]} | world.sidecar.environment
    command = ["curl", "-sS", "--limit-rate", "1k", "-o", os.devnull, "https://slow.googleapis.com/object", *flags]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    before = most = world.resident()
    crowd = []
    try:
        with world.load(4, "20ms") as report:
            crowd = [subprocess.Popen(command, env=environment, **quiet) for _ in range(count)]
            until("the crowd", lambda: world.metric("bearerd_connections_active") >= count)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                most = max(most, world.resident())
                time.sleep(0.1)
            ended = sum(one.poll() is not None for one in crowd)
    finally:
        for one in crowd:
            one.kill()
        for one in crowd:
            one.wait()
    if ended:
        raise Red(f"{ended} slow ones ended early")
    return before, most, report


def warm(world):
    """What is made once is made."""
    for _ in range(20):
        if world.ask() != 200:
            raise Red("no answer")


def descriptors(world):
    return len(os.listdir(f"/proc/{world.sidecar.process.pid}/fd"))


def reset(one):
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    one.close()


def ugly_ends(port):
    """Ten ways to leave a connection in the middle of something; each is one connection."""
    tunnel = f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n".encode()
    get = f"GET http://{HOST}/storage/v1/b/cells HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    post = f"POST http://{HOST}/upload HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 1000\r\n\r\nten bytes.".encode()
    broken = b"GET http://reset.googleapis.com/ HTTP/1.1\r\nHost: reset.googleapis.com\r\n\r\n"

    def opened(text=b"", answer=0):
        one = socket.create_connection(("127.0.0.1", port), timeout=10)
        if text:
            one.sendall(text)
        if answer:
            one.recv(answer)
        return one

    def half_closed():
        one = opened(get)
        one.shutdown(socket.SHUT_WR)
        one.close()

    def in_hello():
        one = opened(tunnel, 1024)
        one.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        reset(one)

    return [
        lambda: reset(opened()),
        lambda: reset(opened(get[:20])),
        half_closed,
        lambda: reset(opened(tunnel[:20])),
        lambda: opened(tunnel, 1024).close(),
        in_hello,
        lambda: opened(get).close(),
        lambda: reset(opened(get, 10)),
        lambda: reset(opened(post)),
        lambda: opened(broken, 10).close(),
    ]


def ugly(world, full):
    """Connections that end in ten ugly ways leave neither descriptor nor memory behind."""
    count, workers = (1_000_000 if full else 20_000), 8
    with endless(world):
        warm(world)
        ends = ugly_ends(world.port)
        one_round(ends, 500, workers)
        base = until_quiet(world, None)
        before = world.resident()
        with world.load(2, "20ms") as report:
            one_round(ends, count, workers)
        began = time.monotonic()
        quiet = until_quiet(world, base)
        took, after = time.monotonic() - began, world.resident()
    if report["failures"] or after - before > 2 * 1024:
        raise Red(f"RSS {before} -> {after} KiB, {report}")
    told = f"{count} connections, descriptors {base} before and {quiet} {took:.0f} s after"
    return f"{told}, RSS {before} -> {after} KiB; {report['requests']} good requests, 0 failures"


def one_round(ends, count, workers):
    def work(seed):
        dice = random.Random(seed)
        for _ in range(count // workers):
            with contextlib.suppress(OSError):
                dice.choice(ends)()

    threads = [threading.Thread(target=work, args=(seed,), daemon=True) for seed in range(workers)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()


def until_quiet(world, base):
    """The number of descriptors once no client is left, which is at most 5 more than `base`."""

    def quiet():
        # The status is asked on a connection of its own.
        is_left = world.metric('bearerd_connections_active{door="proxy"}') == 0
        found = descriptors(world)
        return found if is_left and (base is None or found <= base + 5) else None

    return until("end of all connections", quiet)


def labels(world, full):
    """Hosts, paths, methods and names without number: no series is made of them, and no memory stays."""
    count = 1_000_000 if full else 20_000
    dice = random.Random(3)
    warm(world)

    def bomb(number):
        one = socket.create_connection(("127.0.0.1", world.port), timeout=10)
        for _ in range(number):
            word = f"{dice.getrandbits(64):x}"
            kind = dice.randrange(3)
            if kind == 0:
                text = f"{word.upper()} http://{HOST}/ HTTP/1.1\r\nHost: {HOST}\r\n\r\n"
            elif kind == 1:
                text = f"GET http://{HOST}/{word}?{word} HTTP/1.1\r\nHost: {HOST}\r\nX-{word}: {word}\r\n\r\n"
            else:
                text = f"GET http://{HOST}/ HTTP/1.1\r\nHost: {word}.googleapis.com\r\n\r\n"
            one.sendall(text.encode())
            if b"\r\nconnection: close" in one.recv(65536).lower() or kind != 1:
                one.close()
                one = socket.create_connection(("127.0.0.1", world.port), timeout=10)
        one.close()

    def tunnels(number):
        for _ in range(number):
            name = f"{dice.getrandbits(64):x}.googleapis.com:443"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", world.port), timeout=10) as one:
                one.sendall(f"CONNECT {name} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
                one.recv(1024)

    bomb(count // 8)
    tunnels(count // 8)
    before = world.resident()
    bomb(count // 2)
    tunnels(count // 4)
    after, page = world.resident(), len(world.metrics())
    if page > 256 * 1024 or after - before > 1024:
        raise Red(f"a metrics page of {page} bytes, RSS {before} -> {after} KiB")
    return f"{count} made-up names: a metrics page of {page // 1024} KiB, RSS {before} -> {after} KiB"


def slow(world, full):
    """Heads and handshakes that never end: each is cut in time, and a good client beside them is as fast as without."""
    count = 4000 if full else 500
    with world.load(2, "10ms") as report:
        time.sleep(5)
    alone = report["slowestMs"]
    get = f"GET http://{HOST}/ HTTP/1.1\r\nHost: {HOST}\r\nX: ".encode()
    tunnel = f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n".encode()
    with world.load(2, "10ms") as report:
        lives = asyncio.run(attacks(world.port, count, get, tunnel))
    told = []
    for kind, (limit, lived) in lives.items():
        if max(lived) > limit + 1 or min(lived) < limit - 2:
            raise Red(f"{kind}: cut after {min(lived):.1f} to {max(lived):.1f} s, {limit} s were expected")
        told.append(f"{kind} cut after {min(lived):.1f} to {max(lived):.1f} s")
    if report["failures"]:
        raise Red(f"the good client: {report}")
    return f"{count} of each: {', '.join(told)}; slowest good request {report['slowestMs']} ms, {alone} ms without"


async def attacks(port, count, get, tunnel):
    """How long each connection lived, by kind, beside its limit."""

    async def head():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        began = time.monotonic()
        writer.write(get)

        async def drip():
            with contextlib.suppress(OSError):
                while True:
                    await asyncio.sleep(1)
                    writer.write(b"x")
                    await writer.drain()

        dripping = asyncio.ensure_future(drip())
        return await until_cut(reader, writer, began, dripping)

    async def handshake():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(tunnel)
        await reader.readuntil(b"\r\n\r\n")
        began = time.monotonic()
        writer.write(b"\x16\x03\x01\x02\x00\x01")
        return await until_cut(reader, writer, began, None)

    async def until_cut(reader, writer, began, dripping):
        with contextlib.suppress(OSError):
            while await asyncio.wait_for(reader.read(4096), LIMIT):
                pass
        lived = time.monotonic() - began
        if dripping:
            dripping.cancel()
        writer.transport.abort()
        return lived

    heads = asyncio.gather(*(head() for _ in range(count)))
    hellos = asyncio.gather(*(handshake() for _ in range(count)))
    return {"heads": (10, await heads), "handshakes": (5, await hellos)}
