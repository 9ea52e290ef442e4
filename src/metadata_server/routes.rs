//! The tree of values below `/computeMetadata/v1/`, built from what the pod claims to be. Pure.
//!
//! Tokens are marks in it without content, so no dump of the tree can carry one. Paths that would make an
//! SDK leave TLS and the proxy (`instance/platform-security/`, DirectPath) do not exist.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
};

use serde_json::{Map, Value as Json};

use super::{
    Pod,
    answer::{self, Answer},
    query::{Alt, Query},
};

/// What a path leads to.
#[derive(Debug, PartialEq)]
pub(super) enum Found<'t> {
    /// A directory asked for without its slash.
    Moved,
    /// A directory or value.
    Node(&'t Node),
    /// The access token.
    Token,
    /// The ID token.
    Identity,
    /// Nothing.
    Nothing,
}

/// A directory or a value.
#[derive(Debug, PartialEq)]
pub(super) enum Node {
    /// Its entries in the order of the list, and whether their names stay as they are in JSON.
    Directory {
        entries: Vec<(String, Self)>,
        verbatim: bool,
    },
    Text(String),
    Number(u64),
    Lines(Vec<String>),
    Token,
    Identity,
}

/// Everything below `/computeMetadata/v1/`.
pub(super) fn tree(pod: &Pod) -> Node {
    let mut project = vec![("numeric-project-id".to_owned(), Node::Number(pod.project_number()))];
    project.extend(optional("project-id", pod.project_id.as_ref()));
    directory(vec![
        ("instance", instance(pod)),
        ("project", Node::Directory { entries: project, verbatim: false }),
        ("universe", directory(vec![("universe-domain", Node::Text(pod.universe_domain.clone()))])),
    ])
}

fn instance(pod: &Pod) -> Node {
    let attributes = pod.attributes.iter().map(|(name, value)| (name.clone(), Node::Text(value.clone()))).collect();
    let mut accounts = vec![("default".to_owned(), account(pod))];
    // gcloud asks for tokens under the address it read from this list.
    if !pod.email.is_empty() && !pod.email.contains('/') {
        accounts.push((pod.email.clone(), account(pod)));
    }
    let mut entries = vec![("attributes".to_owned(), Node::Directory { entries: attributes, verbatim: true })];
    entries.push(("hostname".to_owned(), Node::Text(pod.name.clone())));
    entries.push(("id".to_owned(), Node::Number(number_of(&pod.name))));
    entries.push(("name".to_owned(), Node::Text(pod.name.clone())));
    entries.push(("service-accounts".to_owned(), Node::Directory { entries: accounts, verbatim: true }));
    entries.extend(optional("zone", pod.zone.as_ref()));
    Node::Directory { entries, verbatim: false }
}

fn account(pod: &Pod) -> Node {
    directory(vec![
        ("aliases", Node::Lines(vec!["default".to_owned()])),
        ("email", Node::Text(pod.email.clone())),
        ("identity", Node::Identity),
        ("scopes", Node::Lines(pod.scopes.clone())),
        ("token", Node::Token),
    ])
}

fn directory(entries: Vec<(&str, Node)>) -> Node {
    let entries = entries.into_iter().map(|(name, node)| (name.to_owned(), node)).collect();
    Node::Directory { entries, verbatim: false }
}

fn optional(name: &str, value: Option<&String>) -> Option<(String, Node)> {
    value.map(|value| (name.to_owned(), Node::Text(value.clone())))
}

/// Follows the path below `/computeMetadata/v1`, byte by byte: nothing is decoded or normalised, so there is no
/// second spelling of a path that a guard could miss. Only an account's `@` may be encoded.
pub(super) fn find<'t>(root: &'t Node, path: &str) -> Found<'t> {
    let mut node = root;
    let mut segments = path.split('/').skip(1).peekable();
    if segments.peek().is_none() {
        return Found::Moved;
    }
    while let Some(segment) = segments.next() {
        let Node::Directory { entries, .. } = node else { return Found::Nothing };
        if segment.is_empty() {
            return if segments.peek().is_none() { Found::Node(node) } else { Found::Nothing };
        }
        let name = match segment {
            // The spelling of older SDKs.
            "universe_domain" => "universe-domain",
            other => other,
        };
        let same = |entry: &str| entry == name || (entry.contains('@') && entry == name.replace("%40", "@"));
        let Some((_, below)) = entries.iter().find(|(entry, _)| same(entry)) else { return Found::Nothing };
        node = below;
    }
    match node {
        Node::Directory { .. } => Found::Moved,
        Node::Token => Found::Token,
        Node::Identity => Found::Identity,
        value => Found::Node(value),
    }
}

/// Writes a directory or value as the query asks; the second part is its version.
pub(super) fn write(node: &Node, query: &Query<'_>) -> (Answer, String) {
    let is_directory = matches!(node, Node::Directory { .. });
    let recursive = query.recursive && is_directory;
    let json = query.alt.map_or(recursive, |alt| alt == Alt::Json);
    let body = match (json, recursive) {
        (true, false) if is_directory => Json::from(node.names()).to_string(),
        (true, _) => node.json().unwrap_or(Json::Null).to_string(),
        (false, true) => {
            let mut lines = String::new();
            node.dump("", &mut lines);
            lines
        }
        (false, false) => node.text(),
    };
    let etag = etag(&body);
    let content_type = if json { answer::JSON } else { answer::TEXT };
    (answer::value(content_type, body, &etag), etag)
}

impl Node {
    /// The entries of a directory, sub-directories with a slash.
    fn names(&self) -> Vec<String> {
        let Self::Directory { entries, .. } = self else { return Vec::new() };
        let slash = |node: &Self| if matches!(node, Self::Directory { .. }) { "/" } else { "" };
        entries.iter().map(|(name, node)| format!("{name}{}", slash(node))).collect()
    }

    fn text(&self) -> String {
        let lines = |lines: &[String]| lines.iter().map(|line| format!("{line}\n")).collect();
        match self {
            Self::Directory { .. } => lines(&self.names()),
            Self::Lines(all) => lines(all),
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Token | Self::Identity => String::new(),
        }
    }

    /// `None` for tokens, which are in no dump.
    fn json(&self) -> Option<Json> {
        Some(match self {
            Self::Directory { entries, verbatim } => {
                let key = |name: &str| if *verbatim { name.to_owned() } else { camel(name) };
                let entries = entries.iter().filter_map(|(name, node)| Some((key(name), node.json()?)));
                Json::Object(entries.collect::<Map<_, _>>())
            }
            Self::Text(text) => Json::from(text.as_str()),
            Self::Number(number) => Json::from(*number),
            Self::Lines(lines) => Json::from(lines.clone()),
            Self::Token | Self::Identity => return None,
        })
    }

    /// `alt=text` of a recursive answer: one `path value` per line.
    fn dump(&self, prefix: &str, lines: &mut String) {
        match self {
            Self::Directory { entries, .. } => {
                for (name, node) in entries {
                    let slash = if prefix.is_empty() { "" } else { "/" };
                    node.dump(&format!("{prefix}{slash}{name}"), lines);
                }
            }
            Self::Token | Self::Identity => {}
            Self::Lines(all) => {
                for line in all {
                    lines.push_str(&format!("{prefix} {line}\n"));
                }
            }
            value => lines.push_str(&format!("{prefix} {}\n", value.text())),
        }
    }
}

/// `service-accounts` becomes `serviceAccounts`.
fn camel(name: &str) -> String {
    let mut parts = name.split('-');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut letters = part.chars();
        out.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        out.push_str(letters.as_str());
    }
    out
}

/// A version of a body. The hasher's keys are constant, so a restart does not wake those who wait for a change.
fn etag(body: &str) -> String {
    format!("{:016x}", hash(body))
}

/// A VM's id is a number; ours is made of the pod's name and stays the same for its life.
fn number_of(name: &str) -> u64 {
    // The first bit stays clear: JSON readers with signed numbers are common.
    hash(name) >> 1
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
