//! What a pod's annotations ask of its injection.
//!
//! Those that the sidecar acts on are read by the sidecar's own code, so that what is let in here starts there.

use serde_json::{Map, Value};

use super::{
    finding::{Finding, shown},
    pod, quantity,
    settings::{Settings, Strictness, is_key, is_no_proxy, is_object_name},
};
use crate::config::{self, ANNOTATIONS, PREFIX, Reader};

/// The pod's own wishes over the administrator's.
pub(super) struct Choice {
    /// With the pod's template, Secret and resources in them.
    pub(super) settings: Settings,
    /// Only these containers, where any are named.
    pub(super) only: Vec<String>,
    /// Not these.
    pub(super) skip: Vec<String>,
}

/// Errors and warnings as they are found.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) errors: Vec<Finding>,
    pub(super) warnings: Vec<Finding>,
}

impl Findings {
    pub(super) fn error(&mut self, subject: impl Into<String>, message: impl Into<String>, anchor: &'static str) {
        if self.errors.len() < MOST {
            self.errors.push(Finding::new(subject, message, anchor));
        }
    }

    pub(super) fn warn(&mut self, subject: impl Into<String>, message: impl Into<String>, anchor: &'static str) {
        if self.warnings.len() < MOST {
            self.warnings.push(Finding::new(subject, message, anchor));
        }
    }
}

/// Whether the pod itself wants the sidecar; its label speaks before its annotation.
pub(super) fn wish(pod: &Value, found: &mut Findings) -> Option<bool> {
    let key = format!("{PREFIX}inject");
    let value = pod["metadata"]["labels"][&key].as_str().or_else(|| pod::annotation(pod, &key))?;
    match value {
        "enabled" | "true" => Some(true),
        "disabled" | "false" => Some(false),
        other => {
            found.error(key, format!("{} is no choice, want enabled or disabled", shown(other)), DOCS);
            None
        }
    }
}

/// Refuses more than the API server would store. It looks only after its webhooks, and each name that is nearly one of ours
/// costs them time.
pub(super) fn bound(pod: &Value, found: &mut Findings) {
    let all = pod["metadata"]["annotations"].as_object().into_iter().flatten();
    let bytes: usize = all.map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if bytes > MOST_BYTES {
        found.error("metadata.annotations", "more than 256 KiB, want at most what the API server stores", DOCS);
    }
}

/// Reads the annotations by the one table of them.
pub(super) fn read(pod: &Value, settings: &Settings, found: &mut Findings) -> Choice {
    let mut choice = Choice { settings: settings.clone(), only: Vec::new(), skip: Vec::new() };
    let empty = Map::new();
    let all = pod["metadata"]["annotations"].as_object().unwrap_or(&empty);
    // Before the rest, which goes over it.
    if let Some(template) = all.get(&format!("{PREFIX}template")).and_then(Value::as_str) {
        match settings.with_profile(template) {
            Ok(merged) => choice.settings = merged,
            Err(_) => found.error(format!("{PREFIX}template"), no_template(template, settings), DOCS),
        }
    }
    for (key, value) in all {
        let Some(name) = key.strip_prefix(PREFIX) else {
            near_miss(key, found);
            continue;
        };
        let value = value.as_str().unwrap_or_default();
        match config::look_up(name) {
            None => unknown(name, settings.unknown_annotations, found),
            Some((known, _)) if known.reader == Reader::Injector => {
                if let Err(message) = injector(known.name, value.trim(), &mut choice) {
                    found.error(key.clone(), message, DOCS);
                }
            }
            Some(_) => {}
        }
    }
    for key in pod["metadata"]["labels"].as_object().unwrap_or(&empty).keys() {
        near_miss(key, found);
    }
    for (field, message) in quantity::problems(&choice.settings.resources) {
        let (kind, name) = field.split_once('.').unwrap_or((&field, ""));
        found.error(format!("{PREFIX}{name}-{}", kind.trim_end_matches('s')), message, DOCS);
    }
    choice
}

/// What the sidecar will run on, as its own code reads it.
pub(super) fn sidecar(pod: &Value, choice: &Choice, text: &str, found: &mut Findings) -> Option<config::Settings> {
    let empty = Map::new();
    let all = pod["metadata"]["annotations"].as_object().unwrap_or(&empty);
    let mut lines = String::new();
    for (key, value) in all {
        let known = key.strip_prefix(PREFIX).and_then(config::look_up);
        if let (Some((known, _)), Some(value)) = (known, value.as_str())
            && known.reader == Reader::Sidecar
        {
            lines.push_str(&format!("{key}={}\n", go_quoted(value)));
        }
    }
    let source = |name: &str, text: String| Some(config::Source { name: name.to_owned(), text });
    let sources = config::Sources {
        file: source("config", text.to_owned()),
        annotations: source("annotations", lines),
        flags: choice.settings.flags(),
    };
    let subject = |problem: &config::Problem| {
        if problem.path.is_empty() { problem.source.clone() } else { problem.path.clone() }
    };
    match config::load(&sources) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                found.warn(subject(warning), with_value(warning, all), DOCS);
            }
            Some(loaded.settings)
        }
        Err(problems) => {
            for problem in &problems {
                found.error(subject(problem), with_value(problem, all), DOCS);
            }
            None
        }
    }
}

/// The message, after the annotation's value where that is short, plain and not told yet.
fn with_value(problem: &config::Problem, annotations: &Map<String, Value>) -> String {
    let message = &problem.message;
    let about = annotations.iter().filter(|(key, _)| problem.path.starts_with(key.as_str()));
    let value = about.max_by_key(|(key, _)| key.len()).and_then(|(_, value)| value.as_str());
    match value.filter(|value| !value.is_empty() && config::is_plain(value) && !message.contains(value)) {
        Some(value) => format!("'{value}': {message}"),
        None => message.clone(),
    }
}

fn injector(name: &str, value: &str, choice: &mut Choice) -> Result<(), String> {
    if value.is_empty() {
        let example = ANNOTATIONS.iter().find(|known| known.name == name).map_or("", |known| known.example);
        return Err(format!("empty, want a value such as {example}"));
    }
    let settings = &mut choice.settings;
    let only = |served: &str| {
        if value == served { Ok(()) } else { Err(format!("{} is not in this version, want {served}", shown(value))) }
    };
    let names = || value.split(',').map(|item| item.trim().to_owned()).collect::<Vec<_>>();
    match name {
        "secret-name" if !is_object_name(value) => {
            return Err(format!(
                "{} is no name of a Secret, want lower-case letters, digits, '-' and '.'",
                shown(value)
            ));
        }
        "secret-key" if !is_key(value) => {
            return Err(format!("{} is no file of a Secret, want letters, digits, '-', '_' and '.'", shown(value)));
        }
        "secret-name" => value.clone_into(&mut settings.secret_name),
        "secret-key" => value.clone_into(&mut settings.secret_key),
        "mode" => return only("proxy"),
        "credentials" => return only("secret"),
        "containers" => choice.only = names(),
        "skip-containers" => choice.skip = names(),
        "no-proxy" => {
            let items = names();
            if let Some(bad) = items.iter().find(|item| !is_no_proxy(item)) {
                return Err(format!("{} is no host, want host names, '.suffix' or addresses", shown(bad)));
            }
            settings.no_proxy.extend(items);
        }
        _ => {
            if let Some((resource, kind)) = name.split_once('-')
                && matches!(resource, "cpu" | "memory")
            {
                let resources = &mut settings.resources;
                let values = if kind == "limit" { &mut resources.limits } else { &mut resources.requests };
                values.insert(resource.to_owned(), value.to_owned());
            }
        }
    }
    Ok(())
}

fn no_template(name: &str, settings: &Settings) -> String {
    let known: Vec<&str> = settings.profiles.keys().map(String::as_str).collect();
    let list = if known.is_empty() { "it left out, for there are none".to_owned() } else { known.join(", ") };
    format!("{} is no profile of the administrator's, want {list}", shown(name))
}

fn unknown(name: &str, lead: Strictness, found: &mut Findings) {
    let near = config::nearest(name, ANNOTATIONS.iter().map(|known| known.name));
    let hint = near.map_or_else(|| "see the list of them".to_owned(), |near| format!("did you mean '{near}'?"));
    let subject = if config::is_plain(name) { format!("{PREFIX}{name}") } else { PREFIX.to_owned() };
    let message = format!("no annotation of this version, {hint}");
    match lead {
        Strictness::Deny => found.error(subject, message, DOCS),
        Strictness::Warn => found.warn(subject, message, DOCS),
    }
}

/// Somebody else's key, unless its prefix is ours but for a slip.
fn near_miss(key: &str, found: &mut Findings) {
    if let Some((prefix, name)) = key.split_once('/')
        && config::is_near_miss(prefix)
        && config::look_up(name).is_some()
    {
        found.warn(key, format!("not our prefix, so it is ignored: did you mean '{PREFIX}{name}'?"), DOCS);
    }
}

/// As the kubelet writes a value into the downward API's file.
fn go_quoted(value: &str) -> String {
    let mut out = String::from("\"");
    for next in value.chars() {
        match next {
            '"' | '\\' => out.extend(['\\', next]),
            '\n' => out.push_str("\\n"),
            control if control.is_control() || control == '\u{2028}' => {
                out.push_str(&format!("\\U{:08x}", u32::from(control)));
            }
            plain => out.push(plain),
        }
    }
    out.push('"');
    out
}

pub(super) const DOCS: &str = "configuration.md#annotations";

const MOST: usize = 50;

/// `TotalAnnotationSizeLimitB` of Kubernetes' apimachinery.
const MOST_BYTES: usize = 256 * 1024;
