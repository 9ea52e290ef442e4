"""Clients that are only slow, or leave in ugly ways: what they cost, and that others notice nothing."""

import collections
import contextlib
import os
import random
import socket
import subprocess
import threading
import time

from upstreams import RESET, endless
from world import HOST, Red, restart, until, warm

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
        with world.load(4, "100ms") as report:
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


def descriptors(world):
    return len(os.listdir(f"/proc/{world.sidecar.process.pid}/fd"))


def reset(one):
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    one.close()


def ugly_ends(port, opens):
    """Twelve ways to leave a connection in the middle of something, or to be left there; each is one connection."""
    tunnel = f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n".encode()
    get = b"GET http://slow.googleapis.com/short HTTP/1.1\r\nHost: slow.googleapis.com\r\n\r\n"
    post = b"POST http://slow.googleapis.com/ HTTP/1.1\r\nHost: slow.googleapis.com\r\nContent-Length: 1000\r\n\r\nten bytes."
    broken = b"GET http://reset.googleapis.com/ HTTP/1.1\r\nHost: reset.googleapis.com\r\n\r\n"
    download = b"GET http://slow.googleapis.com/object HTTP/1.1\r\nHost: slow.googleapis.com\r\n\r\n"
    vanish = b"GET http://slow.googleapis.com/vanish HTTP/1.1\r\nHost: slow.googleapis.com\r\n\r\n"

    def opened(text=b"", answer=0):
        one = socket.create_connection(("127.0.0.1", port), timeout=10)
        opens.append(None)
        if text:
            one.sendall(text)
        if answer:
            one.recv(answer)
        return one

    def half_closed():
        one = opened(get)
        one.shutdown(socket.SHUT_WR)
        one.close()

    def to_the_end():
        one = opened(vanish)
        while one.recv(65536):
            pass
        one.close()

    def in_hello():
        one = opened(tunnel, 1024)
        one.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        reset(one)

    quick = [
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
    # Each of the others costs a handshake with an upstream in Python.
    return 5 * quick + [lambda: reset(opened(download, 65536)), to_the_end]


def ugly(world, full):
    """Connections that end in twelve ugly ways leave neither descriptor nor memory behind."""
    count, workers = (1_000_000 if full else 20_000), 8
    with endless(world):
        warm(world)
        # Appended to by all threads, which a counter would not survive.
        opens = collections.deque(maxlen=count)
        ends = ugly_ends(world.port, opens)
        one_round(ends, 500, workers)
        base = until_quiet(world, None)
        before = world.resident()
        opens.clear()
        with world.load(2, "100ms" if full else "20ms") as report:
            one_round(ends, count, workers)
        if len(opens) < count * 0.99:
            raise Red(f"only {len(opens)} of {count} connections were opened")
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
