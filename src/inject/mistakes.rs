//! What is wrong with the injector's settings: every mistake at once, each with its place in the file (pure).

use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use super::{
    finding::{self, shown},
    quantity,
    settings::{NOT_IN_PROFILES, Settings, is_key, is_label, is_no_proxy, is_object_name},
};
use crate::config::{self, Mark, Places};

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    /// Where it is said rather than in which field, if that is known.
    at: Option<Mark>,
    /// The field, such as `profiles.batch.secretName`; empty for the whole.
    path: String,
    message: String,
}

impl Mistake {
    fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { at: None, path: path.into(), message: message.into() }
    }
}

/// A line each: `settings.yaml:3:5: secretName: …`.
pub(super) fn lines(mistakes: &[Mistake], text: &str, name: &str) -> Vec<String> {
    let places = Places::of(text).ok();
    let line = |mistake: &Mistake| {
        let at = mistake.at.or_else(|| places.as_ref().map(|places| places.find(&mistake.path)));
        let at = at.map(|Mark { line, column }| format!(":{line}:{column}")).unwrap_or_default();
        let path = if mistake.path.is_empty() { String::new() } else { format!("{}: ", mistake.path) };
        let (name, path) = (finding::cut(name.to_owned(), 96), finding::cut(path, 96));
        finding::cut(format!("{name}{at}: {path}{}", mistake.message), 256)
    };
    mistakes.iter().take(MOST).map(line).collect()
}

/// Why a text is no settings at all; `error` is the parser's word for it, which may quote from the file.
pub(super) fn of_text(text: &str, error: &serde_yaml::Error) -> Vec<Mistake> {
    let places = match Places::of(text) {
        Ok(places) => places,
        Err(problem) => return vec![Mistake { at: problem.at, ..Mistake::new("", problem.message) }],
    };
    let twice =
        |(at, path): (Mark, String)| Mistake { at: Some(at), ..Mistake::new(path, "given twice, want it once") };
    let mut found: Vec<_> = places.doubles().into_iter().map(twice).collect();
    match serde_yaml::from_str::<Value>(text) {
        Ok(Value::Object(fields)) => {
            shape(&fields, "", &mut found);
            if !fields.contains_key("image") {
                found.push(Mistake::new("image", "missing, want an image reference"));
            }
            let profiles = fields.get("profiles").and_then(Value::as_object);
            for (name, profile) in profiles.into_iter().flatten() {
                let fields = profile.as_object();
                fields.into_iter().for_each(|fields| shape(fields, &format!("profiles.{name}."), &mut found));
            }
        }
        Ok(_) => found.push(Mistake::new("", "want a mapping with at least image")),
        Err(_) => {}
    }
    if found.is_empty() {
        let at = error.location().and_then(|at| Some((at.line().try_into().ok()?, at.column().try_into().ok()?)));
        let at = at.map(|(line, column)| Mark { line, column });
        found.push(Mistake { at, ..Mistake::new("", "not settings, want fields and values as documented") });
    }
    found
}

/// Everything that is wrong with settings that could be read.
pub(super) fn of_settings(settings: &Settings) -> Vec<Mistake> {
    let mut found = values(settings, "");
    let top = found.clone();
    for (name, profile) in &settings.profiles {
        let at = format!("profiles.{name}.");
        for field in NOT_IN_PROFILES.iter().filter(|field| profile.contains_key(**field)) {
            found
                .push(Mistake::new(format!("{at}{field}"), "the same for all sidecars, want it at the top level only"));
        }
        let before = found.len();
        shape(profile, &at, &mut found);
        if found.len() > before || NOT_IN_PROFILES.iter().any(|field| profile.contains_key(*field)) {
            continue;
        }
        match settings.with_profile(name) {
            // What is wrong at the top is wrong in each profile too, and told once.
            Ok(merged) => found.extend(values(&merged, &at).into_iter().filter(|mistake| {
                let same =
                    |top: &&Mistake| mistake.path == format!("{at}{}", top.path) && mistake.message == top.message;
                !top.iter().any(|top| same(&top))
            })),
            Err(error) => found.push(Mistake::new(at.trim_end_matches('.'), error)),
        }
    }
    found
}

/// Fields that nobody knows, and values of the wrong kind. `at` is empty or ends in a dot.
fn shape(fields: &Map<String, Value>, at: &str, found: &mut Vec<Mistake>) {
    let known = serde_json::to_value(Settings::default()).unwrap_or_default();
    shape_like(fields, &known, at, found);
}

fn shape_like(fields: &Map<String, Value>, known: &Value, at: &str, found: &mut Vec<Mistake>) {
    let names = || known.as_object().into_iter().flat_map(|known| known.keys().map(String::as_str));
    for (name, value) in fields {
        let path = || format!("{at}{}", if config::is_plain(name) { name } else { "…" });
        let Some(default) = known.get(name) else {
            let message = match config::nearest(name, names()) {
                Some(near) => format!("unknown field, did you mean '{near}'?"),
                None => format!("unknown field, want one of {}", names().collect::<Vec<_>>().join(", ")),
            };
            found.push(Mistake::new(path(), message));
            continue;
        };
        match (name.as_str(), value) {
            ("extraRoots" | "resources", Value::Object(fields)) => {
                shape_like(fields, default, &format!("{}.", path()), found);
            }
            _ if fits(name, value, default) => {}
            _ => found.push(Mistake::new(path(), format!("want {}", wanted(name, default)))),
        }
    }
}

fn fits(name: &str, value: &Value, default: &Value) -> bool {
    let is_text = |value: &Value| !(value.is_null() || value.is_array() || value.is_object());
    match (name, value) {
        ("config", value) => value.is_object(),
        ("profiles", Value::Object(profiles)) => profiles.values().all(Value::is_object),
        ("unknownAnnotations" | "sharedProcesses", value) => value == "deny" || value == "warn",
        ("user", value) => value.is_null() || value.as_u64().is_some_and(|user| u32::try_from(user).is_ok()),
        (_, Value::Array(items)) => default.is_array() && items.iter().all(is_text),
        (_, Value::Object(fields)) => default.is_object() && fields.values().all(is_text),
        (_, value) => (default.is_boolean() && value.is_boolean()) || (default.is_string() && is_text(value)),
    }
}

fn wanted(name: &str, default: &Value) -> &'static str {
    match (name, default) {
        ("config", _) => "a mapping",
        ("profiles", _) => "a mapping of mappings",
        ("unknownAnnotations" | "sharedProcesses", _) => "deny or warn",
        ("user", _) => "a UID or null",
        (_, Value::Bool(_)) => "true or false",
        (_, Value::Array(_)) => "a list of texts",
        (_, Value::Object(_)) => "a mapping of texts",
        _ => "a text",
    }
}

fn values(settings: &Settings, at: &str) -> Vec<Mistake> {
    let mut found = Vec::new();
    let mut check = |good: bool, field: &str, message: String| {
        if !good {
            found.push(Mistake::new(format!("{at}{field}"), message));
        }
    };
    let one_of = |value: &str, want: &str| format!("{} is no choice, want {want}", shown(value));
    let object = |name: &str, kind: &str| {
        format!("{} is no name of a {kind}, want lower-case letters, digits, '-' and '.'", shown(name))
    };
    let file = |key: &str| format!("{} is no file of it, want letters, digits, '-', '_' and '.'", shown(key));
    let (pull, format) = (settings.image_pull_policy.as_str(), settings.log_format.as_str());
    let image = &settings.image;
    check(!image.is_empty() && !image.contains(char::is_whitespace), "image", "want an image reference".to_owned());
    let pulls = ["", "Always", "IfNotPresent", "Never"].contains(&pull);
    check(pulls, "imagePullPolicy", one_of(pull, "Always, IfNotPresent or Never"));
    check(settings.user != Some(0), "user", "0 is root, want another UID or null".to_owned());
    check(!settings.allow_hosts.is_empty(), "allowHosts", "empty, want at least one host".to_owned());
    check(["json", "text"].contains(&format), "logFormat", one_of(format, "json or text"));
    let (name, key) = (settings.secret_name.as_str(), settings.secret_key.as_str());
    check(name.is_empty() || is_object_name(name), "secretName", object(name, "Secret"));
    check(key.is_empty() || is_key(key), "secretKey", file(key));
    let (map, key) = (settings.extra_roots.config_map.as_str(), settings.extra_roots.key.as_str());
    check(map.is_empty() || is_object_name(map), "extraRoots.configMap", object(map, "ConfigMap"));
    check(is_key(key), "extraRoots.key", file(key));
    for (directory, secret) in &settings.secrets {
        let plain = is_label(directory) && directory.len() <= 40;
        let message = format!("{} is no name, want at most 40 lower-case letters, digits and '-'", shown(directory));
        check(plain, "secrets", message);
        let field = format!("secrets.{}", if plain { directory } else { "…" });
        check(directory != "default", &field, "that directory is secretName's, want another name".to_owned());
        check(is_object_name(secret), &field, object(secret, "Secret"));
    }
    for (index, item) in settings.no_proxy.iter().enumerate() {
        let message = format!("{} is no host, want host names, '.suffix' or addresses", shown(item));
        check(is_no_proxy(item), &format!("noProxy[{index}]"), message);
    }
    for (field, message) in quantity::problems(&settings.resources) {
        check(false, &format!("resources.{field}"), message);
    }
    found.extend(of_config(settings).into_iter().map(|(field, message)| Mistake::new(format!("{at}{field}"), message)));
    found
}

/// What the sidecar itself would say about its configuration and its ceiling: field and message.
fn of_config(settings: &Settings) -> Vec<(String, String)> {
    let file = Some(config::Source { name: "config".to_owned(), text: settings.config_text() });
    let loaded = config::load(&config::Sources { file, annotations: None, flags: settings.flags() });
    let running = match loaded {
        Ok(loaded) => loaded.settings,
        Err(problems) => {
            // Lines of the text that we wrote ourselves would mislead; its fields are those of the file.
            let field = |path: &str| match path {
                "" => "config".to_owned(),
                "--allow-hosts" => "allowHosts".to_owned(),
                "--allow-accounts" => "allowAccounts".to_owned(),
                "--allow-scopes" => "allowScopes".to_owned(),
                "--log-level" => "logLevel".to_owned(),
                path => format!("config.{path}"),
            };
            return problems.into_iter().map(|problem| (field(&problem.path), problem.message)).collect();
        }
    };
    let mut found = Vec::new();
    let mut say = |field: &str, message: &str| found.push((format!("config.{field}"), message.to_owned()));
    if running.upstream.parent_proxy.is_some_and(|proxy| proxy.user_info.is_some()) {
        say("upstream.parentProxy", "with a password that everyone who reads pods would see, want none");
    }
    if running.trust != config::TrustSettings::default() {
        say("trust", "the injector mounts its own directories, want it left out");
    }
    let doors = running.listeners;
    for (name, door) in [("proxy", doors.proxy), ("metadata", doors.metadata), ("health", doors.health)] {
        if door.is_some_and(|address: SocketAddr| address.port() == 0) {
            say(&format!("listeners.{name}"), "port 0 is another one at every start, want a fixed port");
        }
    }
    found
}

/// A profile's numbers as the texts that they are meant as: the top level reads them so.
pub(super) fn as_texts(profile: &Map<String, Value>) -> Map<String, Value> {
    let text = |value: &Value| if value.is_number() { json!(value.to_string()) } else { value.clone() };
    let field = |(name, value): (&String, &Value)| {
        let value = match (name.as_str(), value) {
            ("config" | "user" | "profiles", value) => value.clone(),
            ("resources", Value::Object(kinds)) => Value::Object(
                kinds
                    .iter()
                    .map(|(kind, values)| {
                        let values = values
                            .as_object()
                            .map(|values| values.iter().map(|(name, value)| (name.clone(), text(value))).collect());
                        (kind.clone(), values.map_or(Value::Null, Value::Object))
                    })
                    .collect(),
            ),
            (_, Value::Array(items)) => Value::Array(items.iter().map(text).collect()),
            (_, Value::Object(fields)) => {
                Value::Object(fields.iter().map(|(name, value)| (name.clone(), text(value))).collect())
            }
            (_, value) => text(value),
        };
        (name.clone(), value)
    };
    profile.iter().map(field).collect()
}

const MOST: usize = 50;
