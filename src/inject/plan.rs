//! From a pod to what is to be done to it (pure).

use serde_json::{Value, json};

use super::{
    Asked, Outcome, Plan, Refused, Settings,
    annotations::{self, Choice, Findings},
    containers::{self, append},
    pod::{self, escape},
    shapes, sidecar,
};
use crate::config::PREFIX;

/// What is to be done to `pod`, an object with `metadata` and `spec`: a pod, or the template of one.
///
/// # Errors
/// Everything that is wrong with its annotations and its shape.
pub fn plan(pod: &Value, asked: Asked, settings: &Settings) -> Result<Plan, Refused> {
    let mut found = Findings::default();
    if pod::annotation(pod, "kubernetes.io/config.mirror").is_some() {
        return finish(Outcome::Skipped("a mirror pod"), Vec::new(), found);
    }
    let wish = annotations::wish(pod, &mut found);
    if !found.errors.is_empty() {
        return finish(Outcome::Skipped("unclear"), Vec::new(), found);
    }
    match (wish, asked) {
        (Some(false), _) => return finish(Outcome::Skipped("opted out"), Vec::new(), found),
        (None, Asked::ByPod) => return finish(Outcome::Skipped("not asked for"), Vec::new(), found),
        _ => {}
    }
    annotations::bound(pod, &mut found);
    if !found.errors.is_empty() {
        return finish(Outcome::Skipped("too large"), Vec::new(), found);
    }
    shapes::every(pod, &mut found);
    let choice = annotations::read(pod, settings, &mut found);
    let (outcome, patch) = match pod::all(pod).iter().find(|container| container.name == sidecar::NAME) {
        Some(sidecar) => (Outcome::Already, again(pod, sidecar.value, &choice, &mut found)),
        None => (Outcome::Injected, fresh(pod, &choice, &mut found)),
    };
    finish(outcome, patch, found)
}

fn finish(outcome: Outcome, patch: Vec<Value>, found: Findings) -> Result<Plan, Refused> {
    let Findings { errors, warnings } = found;
    if errors.is_empty() { Ok(Plan { outcome, patch, warnings }) } else { Err(Refused { errors, warnings }) }
}

/// The sidecar comes in.
fn fresh(pod: &Value, choice: &Choice, found: &mut Findings) -> Vec<Value> {
    let settings = &choice.settings;
    if settings.secret_name.is_empty() {
        let message = "missing, want the name of the Secret that holds the key";
        found.error(format!("{PREFIX}secret-name"), message, annotations::DOCS);
    }
    if pod::annotation(pod, STATUS).is_some() {
        found.warn(
            STATUS,
            "written by whoever injects, so it is replaced: there is no sidecar in this pod",
            annotations::DOCS,
        );
    }
    let served = containers::select(pod, choice, found);
    if served.is_empty() {
        found.warn("spec.containers", "no container is sent through the sidecar", annotations::DOCS);
    }
    let Some(running) = annotations::sidecar(pod, choice, &settings.config_text(), found) else { return Vec::new() };
    shapes::fresh(pod, settings, &running, found);
    let wanted = containers::wanted(choice, &running);
    // Before the sidecar, which moves the init containers by one.
    let mut patch: Vec<Value> =
        served.iter().flat_map(|container| containers::serve(container, &wanted, found)).collect();
    let spec = &pod["spec"];
    let container = sidecar::container(settings);
    patch.push(if spec["initContainers"].is_array() {
        json!({"op": "add", "path": "/spec/initContainers/0", "value": container})
    } else {
        json!({"op": "add", "path": "/spec/initContainers", "value": [container]})
    });
    append(&mut patch, &spec["volumes"], "/spec/volumes", sidecar::volumes(settings));
    let names: Vec<&str> = served.iter().map(|container| container.name).collect();
    let marks = [
        ("labels", vec![(INJECTED, "true".to_owned())]),
        ("annotations", vec![(STATUS, status(&names)), (EVICT, evictable(pod))]),
    ];
    if !pod["metadata"].is_object() {
        patch.push(json!({"op": "add", "path": "/metadata", "value": {}}));
    }
    for (map, entries) in marks {
        write(pod, map, entries, &mut patch);
    }
    patch
}

/// The sidecar is in; containers that came later get what the others have.
fn again(pod: &Value, sidecar: &Value, choice: &Choice, found: &mut Findings) -> Vec<Value> {
    let Some(text) = pod::annotation(pod, STATUS) else {
        let message = "'bearerd' is the sidecar's name, want another name for a container of your own";
        found.error("spec.containers", message, shapes::DOCS);
        return Vec::new();
    };
    let before: Option<Value> = serde_json::from_str(text).ok();
    let Some(handled) = before.as_ref().and_then(|before| before["containers"].as_array()) else {
        found.error(STATUS, "not what the injector wrote, want it left alone", annotations::DOCS);
        return Vec::new();
    };
    let served = containers::select(pod, choice, found);
    let later: Vec<_> = served.iter().filter(|container| !handled.iter().any(|name| name == container.name)).collect();
    // Its own configuration counts: the administrator's may be newer.
    let own = sidecar::config_text(sidecar).map_or_else(|| choice.settings.config_text(), str::to_owned);
    let Some(running) = annotations::sidecar(pod, choice, &own, found) else { return Vec::new() };
    if later.is_empty() {
        return Vec::new();
    }
    let wanted = containers::wanted(choice, &running);
    let mut patch: Vec<Value> =
        later.iter().flat_map(|container| containers::serve(container, &wanted, found)).collect();
    let names = handled.iter().filter_map(Value::as_str).chain(later.iter().map(|container| container.name));
    let names: Vec<&str> = names.collect();
    write(pod, "annotations", vec![(STATUS, status(&names))], &mut patch);
    patch
}

fn status(names: &[&str]) -> String {
    format!(r#"{{"version":"{}","containers":{}}}"#, env!("CARGO_PKG_VERSION"), json!(names))
}

/// Writes labels or annotations; a map is made where there is none.
fn write(pod: &Value, map: &str, entries: Vec<(&str, String)>, patch: &mut Vec<Value>) {
    if !pod["metadata"][map].is_object() {
        let all: serde_json::Map<_, _> =
            entries.into_iter().map(|(key, value)| (key.to_owned(), json!(value))).collect();
        patch.push(json!({"op": "add", "path": format!("/metadata/{map}"), "value": all}));
        return;
    }
    for (key, value) in entries {
        patch.push(json!({"op": "add", "path": format!("/metadata/{map}/{}", escape(key)), "value": value}));
    }
}

/// The volumes that do not keep a node from being scaled down, the user's first.
fn evictable(pod: &Value) -> String {
    let theirs = pod::annotation(pod, EVICT).unwrap_or_default().split(',').map(str::trim);
    let mut all: Vec<&str> = Vec::new();
    for name in theirs.filter(|name| !name.is_empty()).chain(["bearerd-trust", "bearerd-private"]) {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all.join(",")
}

const STATUS: &str = "bearerd.dev/status";
const INJECTED: &str = "bearerd.dev/injected";
const EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes";
