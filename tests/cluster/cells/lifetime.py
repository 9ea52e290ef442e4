"""The end of a pod: what it had under way still gets its answer."""

import subprocess

from cells.traffic import finished
from rig import pods
from rig.wait import Red, until
from rig.world import APPS, injected

WORKERS = 8


def drain(world):
    """`kubectl delete pod` while every worker waits for a slow answer: the app finishes, since the sidecar outlives it."""
    world.google.delay("1500ms")
    try:
        world.kube.apply(APPS, pods.pod("drain", pods.spec(("loop", f"-workers={WORKERS}", "-every=1ms"))))
        pod = world.kube.running(APPS, "drain")[0]
        injected(pod)
        mark = world.google.mark()
        until("requests of all workers", lambda: len(world.google.seen(mark, "storage")) >= WORKERS)
        where = ("--namespace", APPS)
        ending = subprocess.Popen(
            [*world.kube.command, *where, "delete", "pod", "drain", "--wait=true"], stdout=subprocess.DEVNULL
        )
        report = finished(world, pod)
        status = ending.wait(60)
    finally:
        world.google.delay("0s")
    if report["failures"] or not report["inFlight"] or status:
        raise Red(f"{report}, kubectl delete: exit status {status}")
    return f"{report['inFlight']} in flight at SIGTERM, {report['requests']} requests, 0 lost"
