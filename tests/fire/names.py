"""Names without number."""

import contextlib
import random
import socket
import ssl

from good import answer
from upstreams import endless
from world import Red, warm

UPSTREAM = "slow.googleapis.com"


def labels(world, full):
    """Hosts, paths, methods, fields and SNIs without number: no series is made of them, and no memory stays."""
    count = 1_000_000 if full else 20_000
    with endless(world):
        bomb = Bomb(world)
        warm(world)
        # The first round fills what is bounded: more names than there are leaves kept.
        bomb.requests(count // 8)
        bomb.tunnels(count // 8)
        bomb.handshakes(600)
        before, first = world.resident(), bomb.answered
        bomb.requests(count // 2)
        bomb.tunnels(count // 4)
        bomb.handshakes(count // 20)
        after, page = world.resident(), len(world.metrics())
    sent = count // 2 + count // 4 + count // 20
    if bomb.answered - first != sent:
        raise Red(f"{bomb.answered - first} answers to {sent}")
    if page > 256 * 1024 or after - before > 1024:
        raise Red(f"a metrics page of {page} bytes, RSS {before} -> {after} KiB")
    return f"{bomb.answered} made-up names: a metrics page of {page // 1024} KiB, RSS {before} -> {after} KiB"


class Bomb:
    """Says names that it makes up, and counts what was answered."""

    def __init__(self, world):
        self.dice, self.port, self.answered = random.Random(3), world.port, 0
        self.context = ssl.create_default_context(cafile=world.sidecar.environment["SSL_CERT_FILE"])

    def word(self):
        return f"w{self.dice.getrandbits(64):x}"

    def open(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def requests(self, number):
        """Methods; paths, queries and fields; and hosts that are not those of the URL."""
        one = self.open()
        answers = one.makefile("rb")
        for _ in range(number):
            word = self.word()
            kind = self.dice.randrange(3)
            if kind == 0:
                text = f"{word.upper()} http://{UPSTREAM}/ HTTP/1.1\r\nHost: {UPSTREAM}\r\n\r\n"
            elif kind == 1:
                text = f"GET http://{UPSTREAM}/{word}?{word} HTTP/1.1\r\nHost: {UPSTREAM}\r\nX-{word}: {word}\r\n\r\n"
            else:
                text = f"GET http://{UPSTREAM}/ HTTP/1.1\r\nHost: {word}.googleapis.com\r\n\r\n"
            one.sendall(text.encode())
            _, is_last = answer(answers)
            self.answered += 1
            if is_last:
                answers.close()
                one.close()
                one = self.open()
                answers = one.makefile("rb")
        answers.close()
        one.close()

    def tunnels(self, number):
        for _ in range(number):
            with self.open() as one:
                self.answered += self.tunnel(one, f"{self.word()}.googleapis.com")

    def tunnel(self, one, name):
        one.sendall(f"CONNECT {name}:443 HTTP/1.1\r\nHost: {name}:443\r\n\r\n".encode())
        return one.recv(1024).startswith(b"HTTP/1.1 200 ")

    def handshakes(self, number):
        """Half of them say a name for which a leaf is made, half of them another than that of their tunnel."""
        for count in range(number):
            name = f"{self.word()}.googleapis.com"
            said = name if count % 2 else f"{self.word()}.googleapis.com"
            with self.open() as one:
                self.tunnel(one, name)
                try:
                    self.context.wrap_socket(one, server_hostname=said).close()
                    is_good = True
                except (ssl.SSLError, OSError):
                    is_good = False
                self.answered += is_good == (said == name)
