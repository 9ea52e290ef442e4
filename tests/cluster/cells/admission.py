"""What is let in: under Pod Security's *restricted*, and nothing whose annotations or shape are wrong."""

import json

from rig import pods
from rig.api import Refused
from rig.wait import Red, until
from rig.world import APPS, injected

STRICT = "restricted"
SHOWN = "docs: "  # what a message ends in: where to read on


def restricted(world):
    """A namespace that enforces *restricted* takes the pod with our container in it, and it works there."""
    world.apps(STRICT)
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    world.api.merge("namespaces", "", STRICT, {"metadata": {"labels": labels}})
    loose = pods.pod("loose", labels={})
    try:
        world.api.create("pods", STRICT, loose)
        raise Red("the namespace enforces nothing: it took a pod without any security context")
    except Refused as refused:
        if "PodSecurity" not in refused.message:
            raise
    own = pods.spec()
    own["containers"][0]["securityContext"] = pods.RESTRICTED
    mark = world.google.mark()
    world.kube.apply(STRICT, pods.deployment("strict", own))
    injected(world.kube.running(STRICT, "strict")[0])
    line = world.google.await_seen(mark, "storage", authorization="token")[0]
    until("the event of an injection", lambda: [one for one in world.kube.events(STRICT, "strict") if one["reason"] == "Injected"])
    world.remove("namespace", STRICT, "default")
    return f"admitted and running, token #{line['token']}"


def refused(world):
    """Each mistake: a Warning at `kubectl apply` of the Deployment, and the same words in the ReplicaSet's events."""
    host_network = pods.spec(hostNetwork=True)
    reserved = {"containers": [pods.container(pods.LOOP), pods.container(pods.LOOP, "bearerd")]}
    mistakes = {
        "beyond": (pods.spec(), {"bearerd.dev/hosts": "evil.example.org"}, ("bearerd.dev/hosts", "evil.example.org")),
        "misspelt": (pods.spec(), {"bearerd.dev/secert-name": "x"}, ("secert-name", "secret-name")),
        "several": (
            pods.spec(),
            {"bearerd.dev/scopes": "not a scope", "bearerd.dev/memory-limit": "lots"},
            ("bearerd.dev/scopes", "bearerd.dev/memory-limit"),
        ),
        "network": (host_network, {}, ("spec.hostNetwork",)),
        "reserved": (reserved, {}, ("spec.containers", "another name")),
    }
    for name, (own, annotations, words) in mistakes.items():
        warned = world.kube.apply(APPS, pods.deployment(name, own, annotations=annotations)).stderr
        holds("kubectl apply", warned, ("Warning:", SHOWN, *words))
        message = until(f"event of {name}", lambda: told_by_events(world, name, "FailedCreate"))
        holds("the ReplicaSet's events", message, (SHOWN, *words))
        message = until(f"our event of {name}", lambda: told_by_events(world, name, "InjectionRefused"))
        holds("our own event", message, words)
        described = world.kube.kubectl("--namespace", APPS, "describe", "replicaset", "--selector", f"app={name}").stdout
        holds("kubectl describe", described, words)
        if world.kube.pods(APPS, name):
            raise Red(f"{name} has a pod")
        world.remove("deployment", name)
    return f"{len(mistakes)} mistakes, each warned at apply and told in events"


def told_by_events(world, name, reason):
    events = world.kube.events(APPS, name)
    found = [
        event["message"]
        for event in events
        if event["reason"] == reason and event["involvedObject"]["kind"] == "ReplicaSet"
    ]
    return found[0] if found else None


def holds(where, text, words):
    missing = [word for word in words if word not in text]
    if missing:
        raise Red(f"{where} does not say {json.dumps(missing)}: {text[:1200]}")
