"""The chart's life after its installation: upgrade, rollback, and its own test."""

from cells.webhook import bundles, clean_up, judge
from rig.storm import Storm
from rig.wait import Red
from rig.world import APPS, CHART, RELEASE, injected

REQUESTED = {"requests": {"cpu": "11m", "memory": "25Mi"}, "limits": {"memory": "65Mi"}}
WAIT = ("--wait", "--timeout", "120s")


def upgrade(world):
    """New values and back again while pods are created; certificates stay trusted, old and new pods run."""
    before = world.deploy("before")
    trusted = bundles(world)
    if not all(trusted):
        raise Red("an entry has no caBundle")
    with Storm(world, APPS, "upgrade") as blowing:
        world.helm("upgrade", RELEASE, CHART, "--values", world.values_file(resources=REQUESTED), *WAIT)
        after = world.deploy("after")
        world.helm("rollback", RELEASE, "1", *WAIT)
        back = world.deploy("back")
    clean_up(world, "upgrade")
    judge(blowing, 50)
    if bundles(world) != trusted:
        raise Red("the caBundle changed")
    asked = [pod["spec"]["initContainers"][0]["resources"]["requests"] for pod in (before, after, back)]
    if asked[1] != REQUESTED["requests"] or asked[0] != asked[2] or asked[0] == asked[1]:
        raise Red(f"the sidecars' requests were {asked}")
    mark = world.google.mark()
    for name in ("before", "after", "back"):
        injected(world.kube.running(APPS, name)[0])
    world.google.await_seen(mark, "storage", authorization="token", key=world.key.name)
    for name in ("before", "after", "back"):
        world.remove("deployment", name)
    return f"upgrade and rollback under load: {blowing.figures()}, 0 failures; caBundle as before"


def helm_test(world):
    """`helm test`, as NOTES tell users to run it."""
    world.helm("test", RELEASE, "--timeout", "120s")
    return "passed"
