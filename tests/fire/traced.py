"""What leaves the process, as the kernel sees it: every byte that it writes, every address that it connects to."""

import contextlib
import json
import pathlib
import re
import socket
import subprocess
import urllib.request

from world import HOST, LIMIT, Red, fetch, until

from harness import keys

# The end-to-end tests' spellings of loopback, of the link and of the metadata server.
SPELLINGS = pathlib.Path(__file__).resolve().parent.parent / "e2e" / "connect.rs"
WRITES = "write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,sendmmsg"


@contextlib.contextmanager
def tracing(world, calls):
    """Restarts the sidecar below strace; `calls` are in the file from its first moment to its last. It hands out no
    tokens: those would be in what it writes."""
    world.sidecar.kill()
    trace, one = world.folder / "trace", world.sidecar
    usual = one.config.read_text()
    settings = json.loads(usual)
    one.config.write_text(json.dumps(settings | {"credentials": settings["credentials"][:1], "tokens": []}))
    # Longer than the largest record of TLS; a whole token would otherwise be cut out of what is shown.
    command = ["strace", "-f", "-qq", "-s", "70000", "-e", f"trace={calls}", "-e", "signal=none", "-o", trace]
    with one.output.open("wb") as output:
        one.process = subprocess.Popen(
            [*command, one.binary, "run", "--config", one.config],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=one.plain_environment(),
        )
    try:
        one.command("ready", "--wait", "30s")
        yield trace
        # The tracer ends with what it traces.
        one.command("quit")
        one.process.wait(timeout=LIMIT)
    finally:
        one.kill()
        one.config.write_text(usual)
        world.again()
        one.command("ready", "--wait", "10s")


def written(world, full):
    """Key, assertion and token are in no byte that the process writes: not to a socket, a file, its log or its pages."""
    rounds = 20 if full else 5
    with tracing(world, WRITES) as trace:
        one = world.sidecar
        statuses = [world.ask() for _ in range(rounds)] + [plain(world, f"http://{HOST}/storage/v1/b/cells")]
        if set(statuses) != {200}:
            raise Red(f"answers {statuses}")
        # What is refused, what goes out without a credential, and what people look at.
        for target in ("http://127.0.0.1:1/", "http://iamcredentials.googleapis.com/v1/x:signBlob", "/"):
            plain(world, target)
        host = re.sub(r"^http://", "", json.loads(one.config.read_text())["listeners"]["metadata"])
        token = "http://" + host + "/computeMetadata/v1/instance/service-accounts/default/token"
        flavored = urllib.request.Request(token, headers={"Metadata-Flavor": "Google"})
        given = json.loads(fetch(flavored))["access_token"]
        for page in one.pages().values():
            fetch(page)
        # Another key, an answer of 401, and an outage.
        second = keys.make("traced", "app")
        world.servers.register(second)
        second.write(world.folder / "keys" / "key.json")
        until("the second key", lambda: second.key_id in world.metrics())
        world.servers.ask("/outage/on", {})
        world.key.write(world.folder / "keys" / "key.json")
        until("a failed exchange", lambda: world.metric("bearerd_token_refresh_failures_total") >= 1)
        statuses = [world.ask() for _ in range(rounds)]
        world.servers.ask("/outage/off", {})
        if set(statuses) != {200}:
            raise Red(f"answers during the outage {statuses}")
    text = trace.read_text(errors="replace")
    # A search that finds nothing proves something only where it finds what is there.
    if given not in text or "HTTP/1.1 403" not in text or second.key_id not in text:
        raise Red("the trace does not show what is written")
    secrets = {"a token": "ya29.c.", "an assertion": "eyJ", "its field": "assertion="}
    for which, key in (("first", world.key), ("second", second)):
        lines = key.private.strip().splitlines()
        secrets |= {f"line {number} of the {which} key": line for number, line in enumerate(lines[1:-1])}
    for what, secret in secrets.items():
        if secret in text:
            raise Red(f"{what} was written")
    calls = text.count("\n")
    return f"{calls} calls, {len(text) / 1e6:.1f} MB: {len(secrets)} pieces of keys, assertions and tokens in none of them"


def connected(world, full):
    """Spellings of what is local cause no connection, whichever way they are asked for; only the upstream is dialled."""
    del full
    table = SPELLINGS.read_text().split("const LOCAL", 1)[1].split("];", 1)[0]
    hosts = re.findall(r'^ +"([^"\\]+)",$', table, re.M)
    if len(hosts) < 60:
        raise Red(f"only {len(hosts)} spellings found")
    with socket.create_server(("127.0.0.1", 0)) as victim:
        port = victim.getsockname()[1]
        with tracing(world, "connect") as trace:
            if world.ask() != 200:
                raise Red("no answer")
            for host in hosts:
                for head in (f"CONNECT {host}:{port}", f"GET http://{host}:{port}/", f"GET https://{host}:{port}/"):
                    status = ask(world, head, f"{host}:{port}")
                    if status not in (400, 403):
                        raise Red(f"{head}: {status}")
    connects = re.findall(r"connect\(\d+, \{(.*?)\}", trace.read_text())
    own, other = world.servers.tls.rsplit(":", 1), []
    for address in connects:
        is_upstream = f"htons({own[1]})" in address and own[0] in address
        if not is_upstream:
            other.append(address)
    if not connects or other:
        raise Red(f"{len(connects)} connects, of them {other}")
    return f"{len(hosts)} spellings, {3 * len(hosts)} requests refused; {len(connects)} connects, all to the upstream"


def ask(world, head, host):
    """The status of one request on a connection of its own."""
    with socket.create_connection(("127.0.0.1", world.port), timeout=LIMIT) as one:
        one.sendall(f"{head} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return int(one.makefile("rb").readline().split()[1])


def plain(world, target):
    host = target.removeprefix("http://").split("/")[0]
    return ask(world, f"GET {target}", host or "localhost")
