"""`bearerd inject`: the same sidecar written into the manifest, so that the webhook has nothing to add."""

import json
import subprocess

from rig import pods
from rig.wait import Red
from rig.world import APPS, NAMESPACE, injected


def settings(world):
    """The settings file that the chart rendered, as the API server has it."""
    for one in world.api.list("configmaps", NAMESPACE):
        text = (one.get("data") or {}).get("config.yaml", "")
        if "image:" in text or '"image"' in text:
            return text
    raise Red("no ConfigMap of the release holds the injector's settings")


def inject(world):
    """`bearerd inject -f … | kubectl apply -f -`; what the Deployment says is what its pod has."""
    config, manifest = world.folder / "settings.yaml", world.folder / "manifest.yaml"
    config.write_text(settings(world))
    manifest.write_text(json.dumps(pods.deployment("offline")))
    done = subprocess.run(
        [world.binary, "inject", "-f", manifest, "--config", config], check=True, capture_output=True, text=True
    )
    mark = world.google.mark()
    applied = world.kube.kubectl("--namespace", APPS, "apply", "--filename", "-", given=done.stdout)
    pod = world.kube.running(APPS, "offline")[0]
    injected(pod)
    stored = world.api.get("deployments", APPS, "offline")["spec"]["template"]["spec"]
    for kind in ("initContainers", "containers"):
        for written, made in zip(stored[kind], pod["spec"][kind], strict=True):
            differ = [key for key in written if key != "volumeMounts" and written[key] != made.get(key)]
            differ += [one for one in written.get("volumeMounts", ()) if one not in made["volumeMounts"]]
            if differ:
                raise Red(f"the webhook changed {differ} of {written['name']}: {made}")
    line = world.google.await_seen(mark, "storage", authorization="token")[0]
    world.remove("deployment", "offline")
    return f"pod as written, token #{line['token']}{', ' + applied.stderr.strip() if applied.stderr else ''}"
