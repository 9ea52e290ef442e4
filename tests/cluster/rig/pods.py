"""Manifests as a user writes them: what the sidecar needs is a label and the name of a Secret, and nothing more."""

import json

CLIENT = "local.test/client:1"
SECRET = "app-google-key"
OPT_IN = {"bearerd.dev/inject": "enabled"}
NAMED = {"bearerd.dev/secret-name": SECRET}
LOOP = ("loop",)
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def container(args, name="app", **more):
    return {"name": name, "image": CLIENT, "args": list(args), **more}


def spec(args=LOOP, **more):
    return {"containers": [container(args)], "terminationGracePeriodSeconds": 20} | more


def template(name, own, annotations=None, labels=None):
    marks = {"app": name} | (OPT_IN if labels is None else labels)
    return {"metadata": {"labels": marks, "annotations": NAMED | (annotations or {})}, "spec": own}


def pod(name, own=None, **more):
    inner = template(name, own or spec(), **more)
    inner["metadata"]["name"] = name
    return {"apiVersion": "v1", "kind": "Pod", **inner}


def deployment(name, own=None, replicas=1, **more):
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": template(name, own or spec(), **more),
        },
    }


def job(name, count=20):
    own = spec(("loop", f"-count={count}"), restartPolicy="Never")
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": template(name, own)},
    }


def cronjob(name):
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": name},
        "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": job(name)["spec"]}},
    }


def secret(key, name=SECRET):
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "type": "Opaque",
        "stringData": {"key.json": json.dumps(key.file())},
    }


def config_map(name, **files):
    data = {file.replace("_", "."): text for file, text in files.items()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}
