"""What keeps the sidecar from starting, from accepting, and from getting its turn."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import time

from world import CPU, HOST, LIMIT, UNIFIED, Red, fetch, restart, until

TICKS = os.sysconf("SC_CLK_TCK")


def neighbour(world, full):
    """A process of another container with our user id, seen in a shared namespace: nothing starts until it has gone.
    Another process of our own container, as probes are, is none."""
    del full
    world.sidecar.kill()
    other = probe = None
    # Another user's, as a pod's first process is.
    first = ["setpriv", "--reuid=65535", "--clear-groups", "sleep", "infinity"]
    namespace = subprocess.Popen(["unshare", "--pid", "--mount-proc", "--fork", *first], start_new_session=True)
    try:
        inside = until("first process of the namespace", lambda: child(namespace))
        until("its user", lambda: "Uid:\t65535" in pathlib.Path(f"/proc/{inside}/status").read_text())
        # As a container runtime joins a pod's namespace: the parent stays outside, so that inside it is 0.
        join = ["nsenter", "--target", inside, "--pid", "--mount"]
        # A container has mounts of its own; what is started in ours later has ours.
        other = subprocess.Popen([*join, "unshare", "--mount", "sleep", "infinity"], start_new_session=True)
        until("its mounts", lambda: child(other) and mounts(child(other)) != mounts(inside))
        probe = subprocess.Popen([*join, "sleep", "infinity"], start_new_session=True)
        one = world.sidecar

        def start(*flags):
            with one.output.open("wb") as output:
                one.process = subprocess.Popen(
                    [*join, one.binary, "run", "--config", one.config, *flags],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=one.plain_environment(),
                    start_new_session=True,
                )

        def told():
            return "has our user id" in one.output.read_text()

        start("--shared-processes=warn")
        one.command("ready", "--wait", "10s")
        until("warning", told)
        if world.ask() != 200:
            raise Red("no answer although it was told to start")
        end(one.process)
        # What was waited for is its parent.
        until("end of the one before", lambda: not listens(one.health))
        start()
        until("refusal", told)
        until("its probes", lambda: listens(one.health))
        said = starting(world)
        if "--shared-processes=warn" not in said:
            raise Red(f"/startupz said {said!r}")
        with contextlib.suppress(OSError):
            world.ask()
            raise Red("it served beside a neighbour of its own user id")
        end(other)
        other = None
        one.command("ready", "--wait", "10s")
        if world.ask() != 200:
            raise Red("no answer with the neighbour gone")
        return "nothing started beside a process of the same user id, unless told to, and all of it once that had gone"
    finally:
        for process in (other, probe):
            if process is not None:
                end(process)
        # With its first process the namespace ends, and everything in it.
        end(namespace)
        end(world.sidecar.process)
        world.again()
        world.sidecar.command("ready", "--wait", "10s")


def listens(url):
    """Whether anything does, at the host and port of `url`."""
    host, port = url.removeprefix("http://").rsplit(":", 1)
    with socket.socket() as one:
        return one.connect_ex((host, int(port))) == 0


def child(process):
    """The id of the one child of a process, as soon as there is one."""
    return pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().strip()


def mounts(pid):
    return os.readlink(f"/proc/{pid}/ns/mnt")


def starting(world):
    """What /startupz answers, whatever its status."""
    import urllib.error  # noqa: PLC0415

    try:
        return fetch(f"{world.sidecar.health}/startupz")
    except urllib.error.HTTPError as error:
        return error.read().decode()


def end(process):
    """With its children: what joins a namespace of processes has to fork."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=LIMIT)


def refused(world, full):
    """The kernel refuses every accept for a while, in five ways: no loop spins, and service is back within a second."""
    seconds, told, trace = (10 if full else 3), [], world.folder / "refused"
    for error in ("EMFILE", "ENFILE", "ENOMEM", "ECONNABORTED", "EPROTO"):
        pid = world.sidecar.process.pid
        inject = ["-e", "trace=accept4", "-e", f"inject=accept4:error={error}"]
        command = ["strace", "-f", "-p", str(pid), *inject, "-o", str(trace)]
        tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until("tracer", lambda: "TracerPid:\t0" not in pathlib.Path(f"/proc/{pid}/status").read_text())
        before, waiting = busy(pid), []
        for _ in range(50):
            one = socket.create_connection(("127.0.0.1", world.port))
            waiting.append(one)
        time.sleep(seconds)
        share = (busy(pid) - before) / seconds
        tracer.terminate()
        tracer.wait(timeout=LIMIT)
        for one in waiting:
            one.close()
        began = time.monotonic()

        def answers():
            with contextlib.suppress(OSError):
                return world.ask() == 200

        until("answer", answers, 5)
        took = time.monotonic() - began
        refusals = trace.read_text().count(f"-1 {error} ")
        # A pause of 50 ms after each; far fewer would mean that nobody asked any more.
        if not 5 * seconds <= refusals <= 30 * seconds:
            raise Red(f"{error}: accept was refused {refusals} times")
        if share > 0.2 or took > 1:
            raise Red(f"{error}: {share:.0%} of a core, back after {took:.2f} s")
        told.append(f"{error} {share:.1%}, {took * 1000:.0f} ms")
    return f"{seconds} s each; of a core meanwhile, and back after: {'; '.join(told)}"


def busy(pid):
    """Seconds of processor time so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def starved(world, full):
    """A twentieth of a core and a thousand idle connections: tokens that live a minute are refreshed in time."""
    seconds = 180 if full else 40
    group = CPU / "bearerd-fire"
    group.mkdir(exist_ok=True)
    crowd = []
    try:
        if UNIFIED:
            (group / "cpu.max").write_text("5000 100000")
        else:
            (group / "cpu.cfs_period_us").write_text("100000")
            (group / "cpu.cfs_quota_us").write_text("5000")
        world.servers.ask("/lifetime/60", {})
        restart(world, group)
        for _ in range(1000):
            crowd.append(socket.create_connection(("127.0.0.1", world.port)))
            crowd[-1].send(f"GET http://{HOST}/ HTTP/1.1\r\nHost".encode() if len(crowd) % 10 == 0 else b"")
        until("a token", lambda: world.metric("bearerd_token_refreshes_total") >= 1)
        first, least = world.metric("bearerd_token_refreshes_total"), 60.0
        with world.load(1, "500ms") as report:
            end_at = time.monotonic() + seconds
            while time.monotonic() < end_at:
                left = world.metric("bearerd_token_expiry_timestamp_seconds") - time.time()
                least = min(least, left)
                time.sleep(1)
        refreshes = world.metric("bearerd_token_refreshes_total") - first
        # A minute's token is refreshed at an age of 12 to 18 s.
        if least < 60 - 18 - 5 or report["failures"] or refreshes < seconds / 18 - 1:
            raise Red(f"{least:.0f} s were left at least, {refreshes:.0f} refreshes, {report}")
        told = f"{refreshes:.0f} refreshes in {seconds} s, never less than {least:.0f} s of 60 left"
        return f"{told}; {report['requests']} requests, 0 failures, slowest {report['slowestMs']} ms"
    finally:
        for one in crowd:
            one.close()
        world.servers.ask("/lifetime/3599", {})
        restart(world)
        group.rmdir()


