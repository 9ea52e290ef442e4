"""`kubectl` as a user has it, with what it prints kept, and waits on what the API server has stored."""

import json
import subprocess

from rig.wait import NotYet, Red, until

LIMIT = 120  # seconds, for one command


class Kube:
    """One user with all rights."""

    def __init__(self, api, kubectl, kubeconfig):
        self.api, self.command = api, [str(kubectl), "--kubeconfig", str(kubeconfig)]

    def kubectl(self, *arguments, given="", check=True):
        """Runs it; the result has `stdout` and `stderr`."""
        return subprocess.run(
            [*self.command, *map(str, arguments)],
            input=given,
            check=check,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )

    def apply(self, namespace, *values, check=True):
        # A List, since an older kubectl takes no separators between documents of JSON.
        given = json.dumps({"apiVersion": "v1", "kind": "List", "items": values})
        return self.kubectl("--namespace", namespace, "apply", "--filename", "-", given=given, check=check)

    def namespace(self, name):
        self.apply("default", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        until(f"service account in {name}", lambda: self.api.find("serviceaccounts", name, "default"))

    def pods(self, namespace, app):
        found = self.api.list("pods", namespace, f"app={app}")
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def running(self, namespace, app, count=1, limit=90):
        """Waits until so many pods are ready; returns them as stored."""

        def look():
            pods = self.pods(namespace, app)
            ready = [pod for pod in pods if is_ready(pod)]
            if len(ready) < count:
                raise NotYet("; ".join(describe(pod) for pod in pods) or "there is none")
            return ready

        return until(f"{count} ready of app={app}", look, limit)

    def ended(self, namespace, labels, limit=90):
        """Waits until a pod has run to its end; returns it as stored."""

        def look():
            pods = self.api.list("pods", namespace, labels)
            for pod in pods:
                if pod["status"]["phase"] in ("Succeeded", "Failed"):
                    return pod
            raise NotYet("; ".join(describe(pod) for pod in pods) or "there is none")

        pod = until(f"end of {labels}", look, limit)
        if pod["status"]["phase"] != "Succeeded":
            raise Red(f"{describe(pod)}\n{self.all_logs(pod)}")
        return pod

    def logs(self, pod, container, *options):
        where = ("--namespace", pod["metadata"]["namespace"], "logs", pod["metadata"]["name"])
        return self.kubectl(*where, "--container", container, *options).stdout

    def all_logs(self, pod):
        spec = pod["spec"]
        names = [one["name"] for one in (*spec.get("initContainers", ()), *spec["containers"])]
        return "\n".join(f"-- {name}\n{self.logs(pod, name, '--tail=15')}" for name in names)

    def events(self, namespace, name):
        found = self.api.list("events", namespace)
        return [event for event in found if event["involvedObject"].get("name", "").startswith(name)]


def is_ready(pod):
    conditions = pod["status"].get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def statuses(pod):
    status = pod["status"]
    return {one["name"]: one for kind in ("init", "") for one in status.get(kind_name(kind), ())}


def kind_name(kind):
    return "initContainerStatuses" if kind else "containerStatuses"


def describe(pod):
    states = {name: one["state"] for name, one in statuses(pod).items()}
    return f"{pod['metadata']['name']} {pod['status'].get('phase')} {json.dumps(states)[:600]}"
