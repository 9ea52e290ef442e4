//! The annotations of a pod: one table of names, and what the sidecar itself takes from them.
//!
//! Whoever may patch the pod can change these at any time, so they choose among what the administrator
//! listed: never an image, a command, a path or a listener.

use std::collections::BTreeMap;

use super::{
    cursor::Cursor,
    file::{self, MOST_ENDPOINTS, MOST_HOSTS, MOST_ROUTES, MOST_SCOPES, Placed, PlacedRoute},
    problem::{Place, Report, distance, unknown},
    settings::{EndpointSettings, LogLevel, MetadataMode, WaitFor},
    value,
    yaml::{Key, Kind, Mark, Node},
};
use crate::policy::HostPattern;

/// Every annotation begins with this.
pub const PREFIX: &str = "bearerd.dev/";

/// One name of the vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Annotation {
    /// The part after the prefix; one that ends in `.` is followed by a name of the user's choice.
    pub name: &'static str,
    /// Who acts on it.
    pub reader: Reader,
    /// A value that is accepted.
    pub example: &'static str,
    /// What it does.
    pub does: &'static str,
}

/// Who acts on an annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// The running sidecar, at every change.
    Sidecar,
    /// Whoever injects the sidecar, once.
    Injector,
    /// Nobody: we write it.
    Written,
}

macro_rules! vocabulary {
    ($($name:literal $reader:ident $example:literal $does:literal;)*) => {
        /// The whole vocabulary. Parsing, `explain`, docs and the chart's schema read this.
        pub const ANNOTATIONS: &[Annotation] =
            &[$(Annotation { name: $name, reader: Reader::$reader, example: $example, does: $does }),*];
    };
}

vocabulary! {
    "inject" Injector "enabled" "opts the pod in or out";
    "secret-name" Injector "app-google-key" "the Secret that holds the key";
    "secret-key" Injector "key.json" "the file in it";
    "scopes" Sidecar "cloud-platform,devstorage.read_only" "scopes of the token, short or full";
    "hosts" Sidecar "storage.googleapis.com,pubsub.googleapis.com" "hosts of the default route";
    "route." Sidecar "hosts=*.run.app token=id" "a route of one line";
    "mode" Injector "proxy" "how traffic gets in: proxy, endpoint or transparent";
    "endpoint." Sidecar "listen=14200 upstream=pubsub.googleapis.com" "a local port that is one API";
    "metadata" Sidecar "placeholder" "what the metadata server hands out: off, placeholder or token";
    "credentials" Injector "secret" "where credentials come from: secret, federation or workload-identity";
    "service-account" Sidecar "app@project.iam.gserviceaccount.com" "the account to impersonate";
    "containers" Injector "app" "only these containers get the environment";
    "skip-containers" Injector "logger" "these containers do not get the environment";
    "log-level" Sidecar "info" "how much is logged: error, warn, info, debug or trace";
    "cpu-request" Injector "10m" "of the sidecar";
    "cpu-limit" Injector "500m" "of the sidecar";
    "memory-request" Injector "24Mi" "of the sidecar";
    "memory-limit" Injector "128Mi" "of the sidecar";
    "wait-for" Sidecar "token" "what the application's start waits for: listening, credentials or token";
    "template" Injector "batch" "a profile that the administrator wrote in the chart";
    "no-proxy" Injector ".corp.example" "added to NO_PROXY";
    "status" Written "{}" "what was done";
    "injected" Written "true" "a label: the sidecar is in";
}

/// What annotations say, as far as the sidecar acts on it. `None` = nothing.
#[derive(Debug, Default)]
pub(super) struct Annotations {
    pub(super) scopes: Vec<Placed<String>>,
    pub(super) hosts: Option<Vec<Placed<HostPattern>>>,
    pub(super) routes: Vec<PlacedRoute>,
    pub(super) endpoints: Vec<Placed<EndpointSettings>>,
    pub(super) metadata: Option<Placed<MetadataMode>>,
    pub(super) log_level: Option<LogLevel>,
    pub(super) wait_for: Option<WaitFor>,
    pub(super) service_account: Option<Placed<String>>,
    /// What the injector acts on. `None` where there are no annotations to read.
    pub(super) shape: Option<BTreeMap<String, String>>,
    /// Whether a name that nobody knows leads to a warning: whoever let the pod in said no more.
    warns_of_unknown: bool,
    /// Of what there was too much.
    over: Vec<&'static str>,
}

impl Annotations {
    fn is_over(&mut self, place: &Place, what: &'static str, most: usize, report: &mut Report) {
        if !self.over.contains(&what) {
            self.over.push(what);
            report.problem(place, format!("more than {most} {what}"));
        }
    }
}

/// Reads the downward API's file of annotations.
pub(super) fn read(text: &str, warns_of_unknown: bool, report: &mut Report) -> Annotations {
    let mut found = Annotations { shape: Some(BTreeMap::new()), warns_of_unknown, ..Annotations::default() };
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
        let at = Mark { line: index + 1, column: 1 };
        let Some((key, value)) = parse_line(line) else {
            let place = Place { at: Some(at), path: String::new() };
            report.problem(&place, "not a line of the downward API, want key=\"value\" with its escapes");
            continue;
        };
        let place = Place { at: Some(at), path: key.to_owned() };
        match key.strip_prefix(PREFIX) {
            Some(name) => entry(name, &value, &place, &mut found, report),
            None => warn_near_miss(key, at, report),
        }
    }
    found
}

fn entry(name: &str, value: &str, place: &Place, found: &mut Annotations, report: &mut Report) {
    let Some((annotation, suffix)) = look_up(name) else {
        let is_full = if found.warns_of_unknown { report.is_full_of_warnings() } else { report.is_full_of_problems() };
        if is_full {
            return;
        }
        let shown = |annotation: &'static Annotation| annotation.name;
        // Without the user's own part, `rout.reports` is still near `route.`.
        let stem = name.split_once('.').map_or(name, |(stem, _)| &name[..=stem.len()]);
        let place = Place { at: place.at, path: String::new() };
        let message = unknown("annotation", stem, ANNOTATIONS.iter().map(shown));
        return if found.warns_of_unknown { report.warning(&place, message) } else { report.problem(&place, message) };
    };
    if annotation.reader == Reader::Injector
        && let Some(shape) = &mut found.shape
    {
        shape.insert(place.path.clone(), value.trim().to_owned());
    }
    if annotation.reader != Reader::Sidecar {
        return;
    }
    if value.trim().is_empty() {
        report.problem(place, format!("empty, want a value such as {}", annotation.example));
        return;
    }
    let Some(mark) = place.at else { return };
    let node = match annotation.name {
        "scopes" | "hosts" => Node { at: mark, is_plain: false, kind: list(value, mark) },
        "route." | "endpoint." => match one_line(value, mark) {
            Some(node) => node,
            None => return report.problem(place, format!("want name=value pairs such as {}", annotation.example)),
        },
        _ => text(value.trim(), mark),
    };
    apply(annotation, suffix, &Cursor::new(&node, place.path.clone()), found, report);
}

fn apply(annotation: &Annotation, suffix: &str, cursor: &Cursor<'_>, found: &mut Annotations, report: &mut Report) {
    let place = cursor.place();
    match annotation.name {
        "scopes" => {
            let items = cursor.items(MOST_SCOPES, report);
            found.scopes = items.iter().filter_map(|item| placed(item, report, value::scope)).collect();
        }
        "hosts" => {
            let items = cursor.items(MOST_HOSTS, report);
            found.hosts = Some(items.iter().filter_map(|item| placed(item, report, value::pattern)).collect());
        }
        // Told once: what follows compares each with all.
        "route." if found.routes.len() == MOST_ROUTES => found.is_over(&place, "routes", MOST_ROUTES, report),
        "endpoint." if found.endpoints.len() == MOST_ENDPOINTS => {
            found.is_over(&place, "endpoints", MOST_ENDPOINTS, report);
        }
        "route." => match value::name(suffix) {
            Ok(name) => {
                let fields = cursor.fields(file::route_fields(), report);
                found.routes.extend(file::route(name, &fields, report));
            }
            Err(error) => report.problem(&place, error),
        },
        "endpoint." => {
            if let Err(error) = value::name(suffix) {
                report.problem(&place, error);
            }
            found.endpoints.extend(file::endpoint(cursor, report));
        }
        "metadata" => found.metadata = placed(cursor, report, value::metadata_mode),
        "log-level" => found.log_level = cursor.parse(report, value::log_level),
        "wait-for" => found.wait_for = cursor.parse(report, value::wait_for),
        "service-account" => found.service_account = placed(cursor, report, value::service_account),
        _ => {}
    }
}

fn placed<T>(
    cursor: &Cursor<'_>,
    report: &mut Report,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Option<Placed<T>> {
    cursor.parse(report, parse).map(|value| Placed { value, place: cursor.place() })
}

/// The annotation of that name, and the user's part of it.
pub fn look_up(name: &str) -> Option<(&'static Annotation, &str)> {
    ANNOTATIONS.iter().find_map(|annotation| match annotation.name.ends_with('.') {
        true => name.strip_prefix(annotation.name).map(|suffix| (annotation, suffix)),
        false => (annotation.name == name).then_some((annotation, "")),
    })
}

/// Somebody else's annotation, unless its prefix is ours but for a slip.
fn warn_near_miss(key: &str, at: Mark, report: &mut Report) {
    let Some((prefix, name)) = key.split_once('/').filter(|_| !report.is_full_of_warnings()) else { return };
    if is_near_miss(prefix) && look_up(name).is_some() {
        let place = Place { at: Some(at), path: key.to_owned() };
        report.warning(&place, format!("not our prefix, so it is ignored: did you mean '{PREFIX}{name}'?"));
    }
}

/// Whether a prefix was probably meant to be ours.
pub fn is_near_miss(prefix: &str) -> bool {
    let ours = PREFIX.trim_end_matches('/');
    prefix != ours && (prefix.starts_with("bearerd") || prefix.ends_with(ours) || distance(prefix, ours) <= 3)
}

/// `a, b` as a list.
fn list(value: &str, at: Mark) -> Kind {
    let items = value.split(',').map(|item| text(item.trim(), at));
    Kind::List(items.collect())
}

/// `hosts=a,b token=id` as a mapping, so that one reader serves file and annotations.
fn one_line(value: &str, at: Mark) -> Option<Node> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let is_list = matches!(name, "hosts" | "methods" | "paths");
        let node = if is_list { Node { at, is_plain: false, kind: list(value, at) } } else { text(value, at) };
        Some((Key { at, name: name.to_owned() }, node))
    };
    let fields: Option<Vec<_>> = value.split_whitespace().map(pair).collect();
    Some(Node { at, is_plain: false, kind: Kind::Map(fields?) })
}

fn text(value: &str, at: Mark) -> Node {
    Node { at, is_plain: false, kind: Kind::Text(value.to_owned()) }
}

/// One `key="value"`, as the kubelet writes it: the value is quoted as Go does.
fn parse_line(line: &str) -> Option<(&str, String)> {
    let (key, quoted) = line.split_once('=')?;
    let inside = quoted.strip_prefix('"')?.strip_suffix('"')?;
    if key.is_empty() || quoted.len() < 2 {
        return None;
    }
    unquote(inside).map(|value| (key, value))
}

fn unquote(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        if next == '"' {
            return None;
        }
        if next != '\\' {
            bytes.extend_from_slice(next.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let escape = rest.next()?;
        let digits = match escape {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            plain => {
                bytes.push(plain_escape(plain)?);
                continue;
            }
        };
        let code = rest.as_str().get(..digits).filter(|code| code.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        let code = u32::from_str_radix(code, 16).ok()?;
        rest = rest.as_str()[digits..].chars();
        if escape == 'x' {
            // A byte, not a character: Go writes what is no UTF-8 so.
            bytes.push(u8::try_from(code).ok()?);
        } else {
            bytes.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn plain_escape(escape: char) -> Option<u8> {
    Some(match escape {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        '\\' => b'\\',
        '"' => b'"',
        _ => return None,
    })
}
