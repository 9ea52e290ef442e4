"""The cells, in the order in which they are played on one cluster. Each takes the world and returns what to print."""

from cells import admission, batch, federation, lifetime, newcomer, offline, release, traffic, webhook

TABLE = {
    "first": traffic.first,
    "cronjob": batch.cronjob_begun,
    "rotation": traffic.rotation,
    "live": traffic.live,
    "drain": lifetime.drain,
    "job": batch.job,
    "restricted": admission.restricted,
    "refused": admission.refused,
    "second": webhook.second,
    "inject": offline.inject,
    "storm": webhook.storm,
    "kill": webhook.kill,
    "down": webhook.down,
    "upgrade": release.upgrade,
    "helm-test": release.helm_test,
    "cronjob-ended": batch.cronjob_ended,
    # It takes the chart away first.
    "first-request": newcomer.first_request,
    "kustomize": newcomer.kustomize,
    # It has a sidecar of its own writing.
    "federation": federation.federation,
}
# Played only where named: a kubelet renews no token within eight minutes.
LONG = {"renewed": federation.renewed}
