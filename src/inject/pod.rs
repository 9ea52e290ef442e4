//! A view of a pod as raw JSON. Refuses to judge: a field of an unexpected type reads as absent, and the API server
//! says so itself.

use serde_json::Value;

/// One container, and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Container<'a> {
    /// `containers` or `initContainers`.
    pub(super) list: &'static str,
    pub(super) index: usize,
    pub(super) name: &'a str,
    pub(super) value: &'a Value,
}

impl Container<'_> {
    pub(super) fn pointer(&self) -> String {
        format!("/spec/{}/{}", self.list, self.index)
    }
}

/// All containers, ordinary ones first. Ephemeral ones never come at creation.
pub(super) fn all(pod: &Value) -> Vec<Container<'_>> {
    let one = |list: &'static str| {
        items(&pod["spec"][list]).iter().enumerate().map(move |(index, value)| {
            let name = value["name"].as_str().unwrap_or_default();
            Container { list, index, name, value }
        })
    };
    one("containers").chain(one("initContainers")).collect()
}

/// The items of a list, none where there is no list.
pub(super) fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

pub(super) fn annotation<'a>(pod: &'a Value, key: &str) -> Option<&'a str> {
    pod["metadata"]["annotations"][key].as_str()
}

/// A piece of a JSON pointer.
pub(super) fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
