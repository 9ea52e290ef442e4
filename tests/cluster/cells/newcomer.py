"""docs/kubernetes.md as somebody new follows it: its commands word for word, in a cluster that has nothing of ours."""

import os
import re
import subprocess

from rig import images, install, pods
from rig.wait import Red, until
from rig.world import RELEASE, ROOTS, injected

PAGE = install.REPOSITORY / "docs" / "kubernetes.md"
EXAMPLE = install.REPOSITORY / "manifests" / "examples" / "deployment.yaml"
LIMIT = 180  # seconds, for one command
PROGRAMS = ("curl", "sh", "sleep")


def first_request(world):
    """The page's first commands. Between them only what the page takes for granted: where Google is, and its roots."""
    world.helm("uninstall", RELEASE, "--wait")
    left = world.kube.kubectl("get", "mutatingwebhookconfiguration", RELEASE, check=False)
    if left.returncode == 0:
        raise Red("the registration outlived helm uninstall")
    folder = clone(world)
    load_example(world)
    mark, told = world.google.mark(), ""
    commands = section("## From zero to the first request")
    for command in commands:
        told = run(world, folder, command).strip()
        if command.startswith("helm install"):
            release, namespace = command.split()[2], re.search(r"--namespace (\S+)", command)[1]
            values = ("--reuse-values", "--values", world.values_file(), "--wait", "--timeout=120s")
            run(world, folder, f"helm upgrade {release} charts/bearerd --namespace {namespace} {' '.join(map(str, values))}")
        if command.startswith("kubectl create namespace"):
            world.kube.apply(command.split()[3], pods.config_map(ROOTS, ca_crt=world.google.ca()))
    world.google.await_seen(mark, "storage", authorization="token", key=world.key.name)
    if not told.startswith("{"):
        raise Red(f"the last command printed {told[:200]}")
    return f"{len(commands)} commands, answer {told.split()[0][:40]}"


def kustomize(world):
    """manifests/base in place of the chart; then the Job's and the CronJob's example, as far as an API server checks them."""
    folder = world.folder / "clone"
    run(world, folder, "helm uninstall bearerd --namespace bearerd --wait")
    run(world, folder, "kubectl apply -k manifests/base")
    run(world, folder, "kubectl rollout status deployment/bearerd --namespace bearerd --timeout=2m")
    examples = ("job.yaml", "cronjob.yaml", "several-identities/deployment.yaml")
    for example in examples:
        run(world, folder, f"kubectl apply --dry-run=server --namespace team-a -f manifests/examples/{example}")
    run(world, folder, "kubectl apply --namespace team-a -f manifests/examples/job.yaml")

    def pod():
        found = world.api.list("pods", "team-a", "batch.kubernetes.io/job-name=report")
        return found[0] if found else None

    injected(until("the Job's pod", pod, 60))
    run(world, folder, "kubectl delete --namespace team-a -f manifests/examples/job.yaml --wait=true")
    return f"rolled out, {len(examples)} examples taken, a Job's pod injected"


def section(heading):
    """The commands of all shell blocks under a heading."""
    found = re.search(rf"^{re.escape(heading)}$(.*?)^## ", PAGE.read_text(), re.M | re.S)
    commands = re.findall(r"^```sh\n(.*?)^```$", found[1] if found else "", re.M | re.S)
    lines = [line for block in commands for line in block.splitlines() if line]
    if not lines:
        raise Red(f"{PAGE.name} has no commands under {heading}")
    return lines


def clone(world):
    """What lies before a newcomer: the repository, and a key."""
    folder = world.folder / "clone"
    folder.mkdir()
    for name in ("charts", "manifests"):
        (folder / name).symlink_to(install.REPOSITORY / name)
    world.key.write(folder / "key.json")
    return folder


def run(world, folder, command):
    tools = str(world.tools["helm"])
    environment = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}", "KUBECONFIG": str(world.kubeconfig)}
    environment |= {name: str(world.folder / "helm") for name in ("HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME")}
    done = subprocess.run(
        ["sh", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT
    )
    if done.returncode:
        raise Red(f"{command}: exit status {done.returncode}: {(done.stderr or done.stdout)[-600:]}")
    return done.stdout


def load_example(world):
    """The example's image under its own name: curl, a shell and what they are linked with, all Debian's."""
    name = re.search(r"image: (\S+)", EXAMPLE.read_text())[1]
    files = []
    for program in PROGRAMS:
        path = subprocess.run(["which", program], check=True, capture_output=True, text=True).stdout.strip()
        linked = subprocess.run(["ldd", path], check=True, capture_output=True, text=True).stdout
        files += [(path, f"bin/{program}")]
        files += [(library, library.lstrip("/")) for library in re.findall(r"(/\S+) \(0x", linked)]
    archive = world.folder / "image.tar"
    images.write_files(archive, name, dict((inside, path) for path, inside in files), ["/bin/sh"])
    world.node.load(archive)
