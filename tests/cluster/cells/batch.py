"""Pods that end: the sidecar must neither hold them open nor spoil how they end."""

from rig import pods
from rig.kube import describe, statuses
from rig.wait import Red, until
from rig.world import APPS, injected


def ended_well(pod):
    """The stored pod Succeeded, and the sidecar's own end was exit status 0."""
    injected(pod)
    state = statuses(pod)["bearerd"]["state"]
    if state.get("terminated", {}).get("exitCode") != 0:
        raise Red(f"the sidecar did not exit 0: {describe(pod)}")
    return f"{pod['metadata']['name']} {pod['status']['phase']}, sidecar exit 0"


def job(world):
    world.kube.apply(APPS, pods.job("batch"))
    pod = world.kube.ended(APPS, "app=batch")
    report = world.asked(pod)
    until("job that is complete", lambda: world.api.get("jobs", APPS, "batch")["status"].get("succeeded") == 1)
    return f"{ended_well(pod)}, {report['requests']} requests"


def cronjob_begun(world):
    """Only makes it: its minute passes while other cells are played."""
    world.kube.apply(APPS, pods.cronjob("nightly"))
    return "every minute"


def cronjob_ended(world):
    """The pod that the controller made at its minute."""
    if world.api.find("cronjobs", APPS, "nightly") is None:
        cronjob_begun(world)
    pod = world.kube.ended(APPS, "app=nightly", 150)
    return ended_well(pod)
