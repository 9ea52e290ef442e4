"""The webhook under fire: replicas that go, a CA that changes, none left, and another webhook beside it."""

import base64
import os
import signal
import socket
import ssl

from rig import pods
from rig.api import Refused
from rig.beside import Beside
from rig.storm import Storm
from rig.wait import Red, until
from rig.world import APPS, NAMESPACE, RELEASE, injected

AUTHORITY = f"{RELEASE}-webhook-ca"
ROTATE = "bearerd.dev/rotate-ca"
KINDS = ("mutatingwebhookconfigurations", "validatingwebhookconfigurations")
LEAST = 500  # pods


def bundles(world):
    """Every entry's caBundle, as PEM."""
    found = [
        hook["clientConfig"].get("caBundle", "") for kind in KINDS for hook in world.api.get(kind, "", RELEASE)["webhooks"]
    ]
    return [base64.b64decode(text).decode() for text in found]


def served_by(address, authority):
    """Whether the webhook at an address shows a certificate that this CA alone vouches for."""
    context = ssl.create_default_context(cadata=authority)
    try:
        with socket.create_connection((address, 10250), timeout=5) as plain:
            with context.wrap_socket(plain, server_hostname=f"{RELEASE}.{NAMESPACE}.svc"):
                return True
    except (OSError, ssl.SSLError):
        return False


def current(world):
    return world.api.secret(NAMESPACE, AUTHORITY)["ca.crt"].decode()


def judge(storm, least=LEAST):
    if storm.failures or storm.bare or storm.made() < least:
        raise Red(
            f"{storm.made()} pods, {len(storm.failures)} failures {storm.failures[:3]}, {storm.bare} without the sidecar"
        )


def storm(world):
    """A replica deleted and the CA rotated while pods are created, each by a single request: none fails."""
    old = current(world)
    with Storm(world, APPS, "storm") as blowing:
        until("the first hundred pods", lambda: blowing.made() > 100)
        gone = world.webhooks()[0]["metadata"]["name"]
        world.api.delete("pods", NAMESPACE, gone)
        world.kube.kubectl("--namespace", NAMESPACE, "annotate", "secret", AUTHORITY, f"{ROTATE}=now")
        new = until("another current CA", lambda: (now := current(world)) != old and now, 120)
        until("two webhooks", lambda: len(world.webhooks()) == 2)
        until(
            "both webhooks with a leaf of the new CA",
            lambda: all(served_by(pod["status"]["podIP"], new) for pod in world.webhooks()),
            120,
        )
        done = blowing.made()
        until("as many pods as wanted", lambda: blowing.made() > max(LEAST, done + 50), 120)
    clean_up(world, "storm")
    judge(blowing)
    if not all(new.strip() in bundle for bundle in bundles(world)):
        raise Red("the new CA is not in every caBundle")
    return f"{blowing.figures()}, 0 failures; replica {gone} deleted, CA rotated"


def kill(world):
    """kill -9 of a replica. Until its endpoint is gone the API server may meet a closed port: creators ask again."""
    with Storm(world, APPS, "kill", patient=True) as blowing:
        until("the first hundred pods", lambda: blowing.made() > 100)
        victim = world.webhooks()[0]
        os.kill(world.inside(victim, world.main(victim)).process, signal.SIGKILL)

        def restarted():
            pod = world.api.find("pods", NAMESPACE, victim["metadata"]["name"])
            return pod and pod["status"]["containerStatuses"][0]["restartCount"] > 0

        until("restart of the replica", restarted)
        until("two webhooks", lambda: len(world.webhooks()) == 2)
        done = blowing.made()
        until("as many pods as wanted", lambda: blowing.made() > max(LEAST, done + 50), 120)
    clean_up(world, "kill")
    judge(blowing)
    return f"{blowing.figures()}, 0 failures, {blowing.retries} asked again while a killed replica was still listed"


def clean_up(world, prefix):
    """Pods without a node are gone at once."""
    names = [pod["metadata"]["name"] for pod in world.api.list("pods", APPS)]
    for name in names:
        if name.startswith(f"{prefix}-") and name.removeprefix(f"{prefix}-").isdigit():
            world.api.delete("pods", APPS, name, "gracePeriodSeconds=0")


def down(world):
    """No webhook at all: who opted in is refused, everybody else is not."""
    scale = ("--namespace", NAMESPACE, "scale", f"deployment/{RELEASE}")
    world.kube.kubectl(*scale, "--replicas=0")
    until("no webhook", lambda: not world.webhooks())
    until("refusal", lambda: turned_away(world, "opted"))
    world.api.create("pods", APPS, pods.pod("other", pods.spec(("loop", "-count=1")), labels={}))
    world.kube.kubectl(*scale, "--replicas=2")
    until("two webhooks", lambda: len(world.webhooks()) == 2)

    def admitted():
        try:
            return world.api.create("pods", APPS, pods.pod("opted"))
        except Refused:
            return None

    injected(until("pod that is admitted again", admitted))
    world.remove("pod", "opted")
    world.remove("pod", "other")
    return "opted-in refused, others created, admitted again afterwards"


def turned_away(world, name):
    try:
        world.api.create("pods", APPS, pods.pod(name))
    except Refused as refused:
        if "failed calling webhook" not in refused.message and "no endpoints" not in refused.message:
            raise
        return True
    # A replica in its lame duck still answers.
    world.api.delete("pods", APPS, name, "gracePeriodSeconds=0")
    until("end of the pod", lambda: world.api.find("pods", APPS, name) is None)
    return False


def second(world):
    """Another injecting webhook, asked after ours, adds a container: asked again, ours gives that what it needs too."""
    with Beside(world) as beside:
        world.kube.apply(APPS, pods.pod("second"))
        pod = world.kube.running(APPS, "second")[0]
        told = beside.asked
    injected(pod)
    if told != [True]:
        raise Red(f"the other webhook was to be asked once, after ours, and was asked {told}")
    containers = {one["name"]: one for one in pod["spec"]["containers"]}
    added, app = containers[Beside.ADDED], containers["app"]
    ours = {one["name"]: one["value"] for one in app["env"]}
    theirs = {one["name"]: one["value"] for one in added.get("env", ())}
    mounts = [one["mountPath"] for one in added["volumeMounts"]]
    if ours != theirs or "/var/run/bearerd/trust" not in mounts:
        raise Red(f"the added container has {theirs} and {mounts}")
    report = world.asked(pod, Beside.ADDED)
    world.remove("pod", "second")
    return f"{len(theirs)} variables and the trust mount; its {report['requests']} requests succeeded"
