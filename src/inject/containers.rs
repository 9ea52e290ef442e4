//! Which containers send their traffic through the sidecar, and what they get for it (pure).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    annotations::{Choice, DOCS, Findings},
    finding::shown,
    pod::{self, Container, items},
    shapes, sidecar,
};
use crate::{
    config::{self, PREFIX},
    environment::{self, Existing, How, Proxy, Trust, Wanted},
};

/// The containers that are served.
pub(super) fn select<'a>(pod: &'a Value, choice: &Choice, found: &mut Findings) -> Vec<Container<'a>> {
    let all: Vec<_> = pod::all(pod).into_iter().filter(|container| container.name != sidecar::NAME).collect();
    for (key, names) in [("containers", &choice.only), ("skip-containers", &choice.skip)] {
        for name in names.iter().filter(|name| !all.iter().any(|container| container.name == **name)) {
            let near = config::nearest(name, all.iter().map(|container| container.name));
            let hint = near.map_or_else(|| "want one of this pod".to_owned(), |near| format!("did you mean '{near}'?"));
            found.error(format!("{PREFIX}{key}"), format!("{} is no container, {hint}", shown(name)), DOCS);
        }
    }
    if let Some(both) = choice.only.iter().find(|name| choice.skip.contains(name)) {
        found.error(
            format!("{PREFIX}containers"),
            format!("{} is in skip-containers too, want it in one", shown(both)),
            DOCS,
        );
    }
    let named = |container: &Container<'_>| choice.only.iter().any(|name| name == container.name);
    let served = |container: &Container<'_>| {
        let wanted = if choice.only.is_empty() { !MESHES.contains(&container.name) } else { named(container) };
        wanted && !choice.skip.iter().any(|name| name == container.name)
    };
    all.into_iter().filter(served).collect()
}

/// The environment that the containers need.
pub(super) fn wanted(choice: &Choice, running: &config::Settings) -> Wanted {
    let settings = &choice.settings;
    let proxy = running.listeners.proxy;
    Wanted {
        proxy: proxy.map(|address| Proxy { address, user_info: None }),
        metadata: running.listeners.metadata.filter(|_| running.metadata != config::MetadataMode::Off),
        trust: proxy.map(|_| Trust::under(sidecar::TRUST)),
        project: (!settings.project.is_empty()).then(|| settings.project.clone()),
        http_proxy: settings.http_proxy,
        kubernetes: true,
        no_proxy: settings.no_proxy.clone(),
        ..Wanted::default()
    }
}

/// The operations that give one container its environment and the trust files.
pub(super) fn serve(container: &Container<'_>, wanted: &Wanted, found: &mut Findings) -> Vec<Value> {
    let subject = format!("spec.{}[{}]", container.list, container.index);
    let at = container.pointer();
    let env = items(&container.value["env"]);
    let mut patch = Vec::new();
    if !items(&container.value["envFrom"]).is_empty() {
        let message =
            "variables from there cannot be seen and ours go over them, want proxy and trust variables in env";
        found.warn(format!("{subject}.envFrom"), message, shapes::DOCS);
    }
    let variables = environment::environment(wanted, &existing(env));
    for warning in environment::warnings(&variables) {
        found.warn(format!("{subject}.env"), warning, shapes::DOCS);
    }
    let mut more = Vec::new();
    for variable in variables.iter().filter(|variable| variable.how != How::Kept) {
        let entry = json!({"name": variable.name, "value": variable.value});
        // Of two with one name the last counts.
        match env.iter().rposition(|known| known["name"] == variable.name) {
            Some(index) if env[index] == entry => {}
            Some(index) => patch.push(json!({"op": "replace", "path": format!("{at}/env/{index}"), "value": entry})),
            None => more.push(entry),
        }
    }
    append(&mut patch, &container.value["env"], &format!("{at}/env"), more);
    mount(container, &subject, &mut patch, found);
    patch
}

fn mount(container: &Container<'_>, subject: &str, patch: &mut Vec<Value>, found: &mut Findings) {
    let ours = json!({"name": "bearerd-trust", "mountPath": sidecar::TRUST, "readOnly": true});
    for mount in items(&container.value["volumeMounts"]) {
        let path = mount["mountPath"].as_str().unwrap_or_default();
        if *mount == ours {
            return;
        }
        if format!("{}/", path.trim_end_matches('/')).starts_with("/var/run/bearerd/") {
            found.error(
                format!("{subject}.volumeMounts"),
                format!("{} is the sidecar's, want another path", shown(path)),
                shapes::DOCS,
            );
        }
    }
    let at = format!("{}/volumeMounts", container.pointer());
    append(patch, &container.value["volumeMounts"], &at, vec![ours]);
}

/// Adds to the end of a list, which is made where there is none.
pub(super) fn append(patch: &mut Vec<Value>, list: &Value, at: &str, more: Vec<Value>) {
    if more.is_empty() {
        return;
    }
    if list.is_array() {
        patch.extend(more.into_iter().map(|item| json!({"op": "add", "path": format!("{at}/-"), "value": item})));
    } else {
        patch.push(json!({"op": "add", "path": at, "value": more}));
    }
}

fn existing(env: &[Value]) -> BTreeMap<String, Existing> {
    let one = |entry: &Value| {
        let literal = || Existing::Literal(entry["value"].as_str().unwrap_or_default().to_owned());
        let value = if entry["valueFrom"].is_null() { literal() } else { Existing::Reference };
        Some((entry["name"].as_str()?.to_owned(), value))
    };
    env.iter().filter_map(one).collect()
}

/// Carry other containers' traffic or set them up; ours is none of their business.
const MESHES: [&str; 8] = [
    "istio-proxy",
    "istio-init",
    "istio-validation",
    "linkerd-proxy",
    "linkerd-init",
    "linkerd-network-validator",
    "vault-agent",
    "vault-agent-init",
];
