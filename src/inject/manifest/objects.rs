//! Which objects a document holds, and where in them a pod is described.
//!
//! Owns the kinds of workloads. Refuses to know YAML: it works on values and pointers. Called by `file`.

use serde_json::Value;

use super::tree::Node;

/// An object of a document, alone or in a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Object {
    /// RFC 6901, from the document's root.
    pub(super) pointer: String,
    /// Kind and name as `kubectl` prints them, such as `deployment/web`.
    pub(super) label: String,
    /// Where the pod is, from the document's root; `None` for kinds without one.
    pub(super) pod: Option<String>,
}

/// Every object of a document; none if it is no object of Kubernetes.
pub(super) fn find(document: &Value) -> Vec<Object> {
    let mut found = Vec::new();
    collect(document, "", None, 0, &mut found);
    found
}

fn collect(value: &Value, pointer: &str, of_list: Option<&str>, depth: usize, found: &mut Vec<Object>) {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
    let Some(kind) = text("/kind").or(of_list) else { return };
    if let (Some(of), Some(Value::Array(items)), true) =
        (kind.strip_suffix("List"), value.get("items"), depth < DEEPEST)
    {
        let of = Some(of).filter(|of| !of.is_empty());
        for (index, item) in items.iter().enumerate() {
            collect(item, &format!("{pointer}/items/{index}"), of, depth + 1, found);
        }
        return;
    }
    // Items of a typed list may leave it out.
    let group = text("/apiVersion").map(|version| version.split_once('/').map_or("", |(group, _)| group));
    let pod = pod_of(kind, group).map(|below| format!("{pointer}{below}"));
    let name = text("/metadata/name").map(str::to_owned);
    let name = name.or_else(|| text("/metadata/generateName").map(|start| format!("{start}*")));
    let label = format!("{}/{}", kind.to_lowercase(), name.as_deref().unwrap_or("?"));
    found.push(Object { pointer: pointer.to_owned(), label: shown(&label), pod });
}

/// The pod's place in an object of that kind. Others use the same names for shapes of their own.
fn pod_of(kind: &str, group: Option<&str>) -> Option<&'static str> {
    let (groups, pod) = match kind {
        "Pod" => (&[""][..], ""),
        "PodTemplate" => (&[""][..], "/template"),
        "ReplicationController" => (&[""][..], "/spec/template"),
        "Deployment" | "ReplicaSet" | "DaemonSet" | "StatefulSet" => (&["apps", "extensions"][..], "/spec/template"),
        "Job" => (&["batch"][..], "/spec/template"),
        "CronJob" => (&["batch"][..], "/spec/jobTemplate/spec/template"),
        _ => return None,
    };
    group.is_none_or(|group| groups.contains(&group)).then_some(pod)
}

/// The line that a finding about a pod is about: that of the annotation, label or field, or of what is nearest.
pub(super) fn line(root: &Node, pod: &str, subject: &str) -> Option<usize> {
    let mut line = root.line;
    let mut node = root;
    for part in pod.split('/').skip(1) {
        (node, line) = step(node, part)?;
    }
    for home in ["annotations", "labels"] {
        let Some(metadata) = node.entry("metadata") else { break };
        if let Some(found) = metadata.value.entry(home).and_then(|home| home.value.entry(subject)) {
            return Some(found.key_line);
        }
    }
    for part in subject.split(['.', '[', ']']).filter(|part| !part.is_empty()) {
        let Some(found) = step(node, part) else { break };
        (node, line) = found;
    }
    Some(line)
}

fn step<'a>(node: &'a Node, part: &str) -> Option<(&'a Node, usize)> {
    if let Some(entry) = node.entry(part) {
        return Some((&entry.value, entry.key_line));
    }
    let item = node.item(part.parse().ok()?)?;
    Some((item, item.line))
}

/// A name from a file does not move the terminal's cursor.
fn shown(text: &str) -> String {
    text.chars().take(300).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Lists in lists.
const DEEPEST: usize = 4;
