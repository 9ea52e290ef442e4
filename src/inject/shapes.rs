//! Which pods cannot have a sidecar, and which should know something about theirs (pure).

use std::net::SocketAddr;

use serde_json::Value;

use super::{
    annotations::Findings,
    pod::{self, items},
    settings::{Settings, Strictness},
    sidecar,
};
use crate::config;

/// What holds for every pod, with the sidecar in it or not.
pub(super) fn every(pod: &Value, found: &mut Findings) {
    let spec = &pod["spec"];
    if spec["hostNetwork"] == true {
        found.error("spec.hostNetwork", "every pod of the node could use the sidecar's ports, want false", DOCS);
    }
    if spec["os"]["name"] == "windows" || spec["nodeSelector"]["kubernetes.io/os"] == "windows" {
        found.error("spec.os", "the sidecar runs on Linux only, want a Linux pod", DOCS);
    }
}

/// What holds for a pod that gets the sidecar now.
pub(super) fn fresh(pod: &Value, settings: &Settings, running: &config::Settings, found: &mut Findings) {
    clashes(pod, settings, running, found);
    shared_processes(pod, settings, found);
    users(pod, settings, found);
    secrets(pod, settings, found);
    if guaranteed(pod) && settings.resources.requests != settings.resources.limits {
        let message = "the sidecar's requests differ from its limits, so the pod is Burstable and not Guaranteed; want them equal";
        found.warn("spec.containers", message, DOCS);
    }
}

fn clashes(pod: &Value, settings: &Settings, running: &config::Settings, found: &mut Findings) {
    let ours = sidecar::volumes(settings);
    for volume in items(&pod["spec"]["volumes"]) {
        if ours.iter().any(|our| our["name"] == volume["name"]) {
            let name = volume["name"].as_str().unwrap_or_default();
            found.error("spec.volumes", format!("'{name}' is the sidecar's, want another name"), DOCS);
        }
    }
    let ports = ports(running);
    for container in pod::all(pod) {
        for port in items(&container.value["ports"]) {
            let tcp = port["protocol"].as_str().is_none_or(|protocol| protocol == "TCP");
            let number = port["containerPort"].as_u64().unwrap_or_default();
            let subject = format!("spec.{}[{}].ports", container.list, container.index);
            if tcp && ports.iter().any(|our| u64::from(*our) == number) {
                found.error(subject, format!("{number} is the sidecar's, want another port"), DOCS);
            } else if port["name"] == sidecar::METRICS {
                found.error(subject, format!("'{}' is the sidecar's, want another name", sidecar::METRICS), DOCS);
            }
        }
    }
}

/// Every port that is ours, by default or by configuration.
fn ports(running: &config::Settings) -> Vec<u16> {
    let all = |doors: config::ListenerSettings| {
        [doors.proxy, doors.metadata, doors.transparent, doors.token_api, doors.health, doors.control]
    };
    let doors = all(config::ListenerSettings::default()).into_iter().chain(all(running.listeners)).flatten();
    doors
        .chain(running.endpoints.iter().map(|endpoint| endpoint.listen))
        .chain(running.mqtt.iter().map(|door| door.listen))
        .map(|address: SocketAddr| address.port())
        .collect()
}

/// Processes of one UID that see each other: the key is in the reach of the other one, at the latest while the sidecar
/// starts and has not closed itself yet.
fn shared_processes(pod: &Value, settings: &Settings, found: &mut Findings) {
    // Where the platform chooses the UID, it is one for all containers of a pod.
    let is_shared =
        settings.user.is_none() || pod::all(pod).iter().any(|container| has_our_user(pod, container, settings));
    for field in ["shareProcessNamespace", "hostPID"] {
        if pod["spec"][field] != true {
            continue;
        }
        let subject = format!("spec.{field}");
        match (is_shared, settings.shared_processes) {
            (false, _) => found.warn(subject, "containers can see and end the sidecar's process, want false", DOCS),
            (true, Strictness::Warn) => {
                found.warn(subject, "a container with the sidecar's UID can read the key, want false", DOCS);
            }
            (true, Strictness::Deny) => {
                let message = "a container with the sidecar's UID can read the key, want false, or another UID";
                found.error(subject, message, DOCS);
            }
        }
    }
}

fn has_our_user(pod: &Value, container: &pod::Container<'_>, settings: &Settings) -> bool {
    let of_pod = pod["spec"]["securityContext"]["runAsUser"].as_u64();
    let user = container.value["securityContext"]["runAsUser"].as_u64().or(of_pod);
    user.is_some() && user == settings.user.map(u64::from)
}

fn users(pod: &Value, settings: &Settings, found: &mut Findings) {
    let Some(user) = settings.user else { return };
    for container in pod::all(pod) {
        if has_our_user(pod, &container, settings) {
            let subject = format!("spec.{}[{}].securityContext.runAsUser", container.list, container.index);
            found.warn(subject, format!("{user} is the sidecar's UID too, want another"), DOCS);
        }
    }
}

/// A key that is still in the application's own hands.
fn secrets(pod: &Value, settings: &Settings, found: &mut Findings) {
    let name = settings.secret_name.as_str();
    if name.is_empty() {
        return;
    }
    let holds = |volume: &&Value| {
        volume["secret"]["secretName"] == name
            || items(&volume["projected"]["sources"]).iter().any(|source| source["secret"]["name"] == name)
    };
    let volumes: Vec<&Value> =
        items(&pod["spec"]["volumes"]).iter().filter(holds).map(|volume| &volume["name"]).collect();
    for container in pod::all(pod) {
        let mounts = items(&container.value["volumeMounts"]).iter().any(|mount| volumes.contains(&&mount["name"]));
        let env = items(&container.value["env"]).iter().any(|env| env["valueFrom"]["secretKeyRef"]["name"] == name);
        let env_from = items(&container.value["envFrom"]).iter().any(|from| from["secretRef"]["name"] == name);
        if mounts || env || env_from {
            let subject = format!("spec.{}[{}]", container.list, container.index);
            found.warn(subject, format!("still gets the Secret '{name}' itself, want it with the sidecar only"), DOCS);
        }
    }
}

/// Whether the pod is Guaranteed as it comes: limits everywhere, and requests absent or equal.
fn guaranteed(pod: &Value) -> bool {
    let equal = |container: &pod::Container<'_>, name: &str| {
        let resources = &container.value["resources"];
        let limit = &resources["limits"][name];
        limit.is_string() && (resources["requests"][name].is_null() || resources["requests"][name] == *limit)
    };
    let all = pod::all(pod);
    !all.is_empty() && all.iter().all(|container| equal(container, "cpu") && equal(container, "memory"))
}

pub(super) const DOCS: &str = "kubernetes.md#pod-shapes";
