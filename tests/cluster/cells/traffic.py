"""A Deployment's requests: with the right token, with a new key, and along routes that change while it runs."""

import datetime
import json
import re

from harness import keys
from rig import pods
from rig.kube import statuses
from rig.wait import Red, until
from rig.world import APPS, UNROUTED

TOKEN = rb"ya29\.c\.[\w-]{40}"
EVIL = "evil.example.org"


def first(world):
    """Label and Secret, and the unmodified client has what it needs, except the credential itself."""
    mark = world.google.mark()
    pod = world.deploy("first")
    line = world.google.await_seen(mark, "storage", authorization="token", key=world.key.name)[0]
    wrong = [line for line in world.google.log(mark) if line.get("placeholder") or line.get("refused")]
    if wrong:
        raise Red(f"the fake Google saw {wrong[:3]}")
    app, sidecar = world.inside(pod, "app"), world.inside(pod, "bearerd")
    searched = nothing_secret(world, pod, app, sidecar)
    if sidecar.user() == app.user():
        raise Red(f"both containers run as {app.user()}")
    return f"token #{line['token']}; {searched}; {started(world)}; sidecar {sidecar.resident()} KiB"


def started(world, pods=6):
    """How long applications waited for their sidecars; a kubelet looks once a second, so it takes several to tell."""
    for count in range(2, pods + 1):
        world.kube.kubectl("--namespace", APPS, "scale", "deployment/first", f"--replicas={count}")
        found = world.kube.running(APPS, "first", count=count)
    took = sorted(started_in(world, pod) for pod in found)
    world.kube.kubectl("--namespace", APPS, "scale", "deployment/first", "--replicas=1")
    until("one pod again", lambda: len(world.kube.pods(APPS, "first")) == 1)
    return f"{took[len(took) // 2]:.2f} s from key readable to app started ({took[0]:.2f} to {took[-1]:.2f} in {pods} pods)"


def nothing_secret(world, pod, app, sidecar):
    """Looks for the key and for tokens everywhere in the app's container. The sidecar's shows that looking finds them."""
    chunk = world.key.private.split("\n")[2].encode()
    key = re.compile(re.escape(json.dumps(chunk.decode())[1:-1].encode()) + b"|-----BEGIN (RSA )?PRIVATE KEY")
    secret = re.compile(key.pattern + b"|" + TOKEN)
    if not any(key.search(content) for _, content in sidecar.files()) or not sidecar.memory_holds(TOKEN):
        raise Red("the search finds neither the key nor the token in the sidecar: it would find nothing anywhere")
    files = list(app.files())
    found = [path for path, content in files if secret.search(content)]
    stored = next(one for one in pod["spec"]["containers"] if one["name"] == "app")
    texts = {"environment": app.environment(), "stored container": json.dumps(stored).encode()}
    found += [name for name, text in texts.items() if secret.search(text)]
    volumes = {one["name"] for one in pod["spec"]["volumes"] if "secret" in one}
    found += [f"mount of {one['name']}" for one in stored["volumeMounts"] if one["name"] in volumes]
    found += [path for path in app.mounts() if path.startswith("/var/run/secrets/bearerd")]
    if app.memory_holds(TOKEN):
        found.append("memory")
    if found:
        raise Red(f"the application's container holds a secret: {found}")
    return f"no key and no token in {len(files)} files, environment, mounts and memory"


def started_in(world, pod):
    """Seconds between the first lines of the two containers' logs, as the runtime stamped them."""

    def stamp(container):
        line = until(
            f"output of {container}", lambda: world.kube.logs(pod, container, "--timestamps").split("\n")[0]
        )
        text = line.split()[0]
        return datetime.datetime.fromisoformat(text[:26].rstrip("Z") + "+00:00").timestamp()

    return stamp("app") - stamp("bearerd")


def rotation(world):
    """A new key by `kubectl apply` while requests go on; then the old one ends at Google; nobody notices."""
    new = keys.make("second", "app")
    world.google.register(new)
    pod = world.deploy("rotation", pods.spec(("loop", "-workers=4")))
    mark = world.google.mark()
    world.google.await_seen(mark, "storage", key=world.key.name)
    world.kube.apply(APPS, pods.secret(new))
    world.google.await_seen(mark, "storage", limit=90, key=new.name)
    until("last request with the old key", lambda: settled(world, new), 90)
    world.google.forget(world.key)
    after = world.google.mark()
    until("50 requests without the old key", lambda: len(world.google.seen(after, "storage", key=new.name)) > 50)
    world.kube.kubectl("--namespace", APPS, "scale", "deployment/rotation", "--replicas=0")
    report = finished(world, pod)
    world.key = new
    if report["failures"]:
        raise Red(f"{report}")
    counts = [len(world.google.seen(mark, "storage", key=name)) for name in ("first", "second")]
    return f"{report['requests']} requests, 0 failures; {counts[0]} with the old key and {counts[1]} with the new"


def settled(world, key):
    """Whether every sidecar here serves with the new key alone: other pods rotate at their kubelet's own time."""
    for name in ("rotation", "first"):
        for pod in world.kube.pods(APPS, name):
            credentials = world.inside(pod, "bearerd").told()["credentials"]
            if not any(key.key_id in json.dumps(one) for one in credentials):
                return False
    return True


def finished(world, pod):
    """The report of a client that was told to end, read until the very end of its output."""
    follow = world.kube.logs(pod, "app", "--follow", "--tail=5")
    lines = [line for line in follow.splitlines() if line.startswith('{"requests"')]
    if not lines:
        raise Red(f"no report: {follow[-500:]}")
    return json.loads(lines[-1])


def live(world):
    """`kubectl annotate` gives a host a credential in a running pod, and nothing beyond the ceiling."""
    pod = world.deploy("live", pods.spec(("loop", f"-url=https://{UNROUTED}/", "-every=200ms")))
    name, sidecar = pod["metadata"]["name"], world.inside(pod, "bearerd")
    annotate = ("--namespace", APPS, "annotate", "pod", name, "--overwrite")
    mark = world.google.mark()
    world.google.await_seen(mark, "plain", authorization="none")
    world.kube.kubectl(*annotate, f"bearerd.dev/route.plain=hosts={UNROUTED}")
    world.google.await_seen(mark, "plain", limit=90, authorization="token", key=world.key.name)
    routes = route_names(sidecar)
    world.kube.kubectl(*annotate, f"bearerd.dev/route.evil=hosts={EVIL}")
    error = until("refusal in /status.json", lambda: sidecar.told()["config"]["lastError"], 90)
    if "bearerd.dev/route.evil" not in error["message"] or UNROUTED not in error["message"]:
        raise Red(f"the refusal does not say why: {error}")
    if route_names(sidecar) != routes:
        raise Red(f"routes changed from {routes} to {route_names(sidecar)}")
    mark = world.google.mark()
    world.google.await_seen(mark, "plain", authorization="token")
    after = [line for line in world.google.seen(mark, "plain") if line["authorization"] != "token"]
    now = statuses(world.api.get("pods", APPS, name))
    if after or any(one["restartCount"] for one in now.values()):
        raise Red(f"the old routes did not stay: {after[:3]} {now}")
    world.remove("deployment", "live")
    return f"route taken live; refused: {error['message'][:120]}"


def route_names(sidecar):
    return [(route["name"], route["hosts"]) for route in sidecar.told()["routes"]]
