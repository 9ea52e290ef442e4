"""Upstreams that Google would not be: without end, without patience, or gone in the middle."""

import asyncio
import contextlib
import json
import pathlib
import socket
import ssl
import struct
import subprocess
import threading

from world import LIMIT, restart

RESET = struct.pack("ii", 1, 0)


class Endless(threading.Thread):
    """An upstream over TLS, as `slow.googleapis.com`: 1 GiB for /object, a part of that for /vanish, patience for what sends, and
    two bytes for everything else, of which it keeps no log. At another port it resets whoever comes."""

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
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while await self.answered(reader, writer):
                pass
        writer.transport.abort()

    async def answered(self, reader, writer):
        """Whether the connection may have another request."""
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith((b"POST ", b"PUT ")):
            await self.end_of(reader)
            return False
        if not head.startswith((b"GET /object ", b"GET /vanish ")):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await writer.drain()
            return True
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n" + b"a" * 1000)
        await writer.drain()
        if head.startswith(b"GET /vanish "):
            # In the middle, and without a word of TLS.
            return False
        # A write after the other end has gone is no error to asyncio, only a warning, for ever.
        gone = asyncio.ensure_future(self.end_of(reader))
        while not gone.done():
            writer.write(b"a" * 65536)
            await writer.drain()
            await asyncio.sleep(0)
        return False

    @staticmethod
    async def end_of(reader):
        with contextlib.suppress(OSError):
            while await reader.read(65536):
                pass

    async def reset(self, _, writer):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()

    def stop(self):
        self.loop.call_soon_threadsafe(self.end.set)
        self.join(LIMIT)


@contextlib.contextmanager
def endless(world):
    """The sidecar, started anew with that upstream."""
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
