"""manifests/examples/federation: a pod without any key of Google's, known by the token that its kubelet writes."""

import json
import re

from cells.newcomer import load_example
from cells.traffic import TOKEN
from rig import install
from rig.kube import statuses
from rig.wait import NotYet, Red, until

EXAMPLE = install.REPOSITORY / "manifests" / "examples" / "federation"
# Of a cluster: three parts, of which the first two are objects of JSON.
SHOWN = rb"eyJ[\w-]{20,}\.eyJ[\w-]{40,}\.[\w-]{40,}"
RENEWED = 600  # seconds: the shortest life that the kubelet takes, of which it waits for four fifths


def federation(world):
    """The example as it is; Google's side is put right step by step, and the pod says each time what is missing."""
    identity = json.loads((EXAMPLE / "identity.json").read_text())
    account = re.search(r"/serviceAccounts/([^:]+):", identity["service_account_impersonation_url"])[1]
    mark, subject = world.google.mark(), "system:serviceaccount:federated:app"
    deploy(world, "federated", identity, (EXAMPLE / "deployment.yaml").read_text())
    pod = world.kube.running("federated", "app")[0]
    refused(world, pod, "invalid_request")
    until("the reason in the application's own output", lambda: "invalid_request" in world.kube.logs(pod, "app"))
    trust(world, identity, keys=[])
    refused(world, pod, "invalid_signature")
    trust(world, identity)
    refused(world, pod, "permission_denied")
    if world.google.seen(mark, "storage", key=account):
        raise Red("a request went out before there was a token")
    bind(world, identity, account, subject)
    until("a token", lambda: credential(world, pod)["state"] == "valid", 90)
    restarts = statuses(world.api.get("pods", "federated", pod["metadata"]["name"]))["bearerd"]["restartCount"]
    if restarts:
        raise Red(f"the sidecar was started {restarts} times more")
    # The application asks once a minute, and at its start.
    end(world, "pod", pod["metadata"]["name"], "federated")
    pod = world.kube.running("federated", "app")[0]
    line = world.google.await_seen(mark, "storage", authorization="token", key=account)[0]
    if line["subject"] != subject:
        raise Red(f"the token was another's: {line}")
    searched = nothing_shown(world, pod)
    end(world, "deployment", "app", "federated")
    return f"{subject} as {account}, token #{line['token']}, after three refusals, each told; {searched}"


def renewed(world):
    """The kubelet renews the token in its volume, and from then on the new one is shown. Without an account: the
    principal itself has the token."""
    identity = json.loads((EXAMPLE / "identity.json").read_text())
    del identity["service_account_impersonation_url"]
    trust(world, identity)
    # So that exchanges are frequent.
    world.google.raw("POST", "/lifetime/120", {})
    mark = world.google.mark()
    text = (EXAMPLE / "deployment.yaml").read_text()
    deploy(world, "renewed", identity, text.replace("expirationSeconds: 3600", f"expirationSeconds: {RENEWED}"))
    first = world.google.await_seen(mark, "sts", limit=60)[0]["shown"]

    def another():
        lines = world.google.seen(mark, "sts")
        if any(line.get("refused") for line in lines):
            raise Red(f"a refusal: {lines[-1]}")
        return {line["shown"] for line in lines} - {first}

    until("another token of the cluster", another, RENEWED + 120, 5)
    world.google.raw("POST", "/lifetime/0", {})
    count = len(world.google.seen(mark, "sts"))
    failed = [line for line in world.google.seen(mark, "storage") if line["authorization"] != "token"]
    if failed:
        raise Red(f"requests without a token: {failed[:3]}")
    end(world, "deployment", "app", "renewed")
    return f"{count} exchanges, the last with another token of the cluster; {len(world.google.seen(mark, 'storage'))} requests"


def deploy(world, namespace, identity, manifest):
    """The commands at the head of the example's manifest, where Google is said as it is for every pod here."""
    load_example(world)
    folder = world.folder / namespace
    folder.mkdir()
    upstream = {"connectTo": {"*.googleapis.com:443": world.google.tls}, "extraRoots": "/etc/bearerd/roots.pem"}
    own = (EXAMPLE / "bearerd.yaml").read_text() + f"upstream: {json.dumps(upstream)}\n"
    for name, text in {
        "bearerd.yaml": own,
        "identity.json": json.dumps(identity),
        "roots.pem": world.google.ca(),
        "deployment.yaml": manifest,
    }.items():
        (folder / name).write_text(text)
    world.kube.namespace(namespace)
    files = [f"--from-file={folder / name}" for name in ("bearerd.yaml", "identity.json", "roots.pem")]
    world.kube.kubectl("--namespace", namespace, "create", "configmap", "app-bearerd", *files)
    world.kube.kubectl("--namespace", namespace, "apply", "-f", folder / "deployment.yaml")


def end(world, kind, name, namespace):
    """At once: the example's shell does not hear of SIGTERM."""
    world.kube.kubectl("--namespace", namespace, "delete", kind, name, "--grace-period=1", "--wait=false")
    until("no pod of it", lambda: all(pod["metadata"]["name"] != name for pod in world.kube.pods(namespace, "app")))


def trust(world, identity, keys=None):
    """What a pool is told of this cluster: its issuer and keys, as docs/federation.md reads them. `keys` are others'."""
    issuer = json.loads(raw(world, "/.well-known/openid-configuration"))["issuer"]
    own = json.loads(raw(world, "/openid/v1/jwks"))["keys"]
    provider = {"audience": identity["audience"], "issuer": issuer, "keys": {"keys": own if keys is None else keys}}
    world.google.raw("POST", "/providers", provider)


def raw(world, path):
    return world.kube.kubectl("get", "--raw", path).stdout


def bind(world, identity, account, subject):
    pool = identity["audience"].removeprefix("//").split("/providers/")[0]
    world.google.raw("POST", "/bindings", {"account": account, "principal": f"principal://{pool}/subject/{subject}"})


def credential(world, pod):
    return world.inside(pod, "bearerd").told()["credentials"][0]


def refused(world, pod, reason):
    """Status and log say why there is no token."""

    def look():
        error = credential(world, pod)["lastError"]
        if not error or not error["message"].endswith(f"({reason})"):
            raise NotYet(error)
        return True

    until(f"{reason} in the status", look, 90)
    until(f"{reason} in the log", lambda: reason in world.kube.logs(pod, "bearerd"))


def nothing_shown(world, pod):
    """Neither the cluster's token nor Google's is anywhere in the application's container. The sidecar has both."""
    app, sidecar = world.inside(pod, "app"), world.inside(pod, "bearerd")
    secret = re.compile(SHOWN + b"|" + TOKEN)
    if not any(re.search(SHOWN, content) for _, content in sidecar.files()) or not sidecar.memory_holds(TOKEN):
        raise Red("the search finds neither token in the sidecar: it would find nothing anywhere")
    files = list(app.files())
    found = [path for path, content in files if secret.search(content)]
    found += [path for path in app.mounts() if path.startswith("/var/run/secrets")]
    if secret.search(app.environment()):
        found.append("environment")
    if app.memory_holds(secret.pattern):
        found.append("memory")
    if found:
        raise Red(f"the application's container holds a token: {found}")
    return f"no token in {len(files)} files, environment, mounts and memory"
