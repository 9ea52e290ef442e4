//! Values as text: block YAML for what is added, and JSON as it came.
//!
//! Owns the order of keys: as they stood, new ones behind, `name` before all. Refuses to know where the text goes.

use serde_json::{Map, Value};

use super::{
    scalar,
    tree::{Kind, Node},
};

/// Lines of block YAML, each with `indent` spaces before it and `newline` behind it.
pub(super) fn block(value: &Value, old: Option<&Node>, indent: usize, newline: &str) -> String {
    let mut lines = Vec::new();
    push_block(value, old, &mut lines);
    lines.iter().map(|line| format!("{:indent$}{line}{newline}", "")).collect()
}

fn push_block(value: &Value, old: Option<&Node>, lines: &mut Vec<String>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value, old) in ordered(map, old) {
                let head = format!("{}:", scalar::block(key));
                match value {
                    Value::Object(map) if !map.is_empty() => {
                        lines.push(head);
                        push_indented(value, old, "  ", "  ", lines);
                    }
                    Value::Array(items) if !items.is_empty() => {
                        lines.push(head);
                        push_block(value, old, lines);
                    }
                    value => lines.push(format!("{head} {}", inline(value))),
                }
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                push_indented(item, same(old, item, index), "- ", "  ", lines);
            }
        }
        value => lines.push(inline(value)),
    }
}

fn push_indented(value: &Value, old: Option<&Node>, first: &str, rest: &str, lines: &mut Vec<String>) {
    let mut inner = Vec::new();
    push_block(value, old, &mut inner);
    let prefixes = std::iter::once(first).chain(std::iter::repeat(rest));
    lines.extend(prefixes.zip(inner).map(|(prefix, line)| format!("{prefix}{line}")));
}

fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => scalar::block(text),
        value => flow(value),
    }
}

/// On one line, inside flow collections too.
pub(super) fn flow(value: &Value) -> String {
    match value {
        Value::String(text) => scalar::quoted(text),
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let fields = ordered(map, None);
            let fields = fields.iter().map(|(key, value, _)| format!("{}: {}", scalar::quoted(key), flow(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        value => value.to_string(),
    }
}

/// JSON, with `step` before each level; `None` = on one line.
pub(super) fn json(value: &Value, old: Option<&Node>, step: Option<&str>, newline: &str) -> String {
    let mut out = String::new();
    Json { step, newline }.push(value, old, 0, &mut out);
    out
}

struct Json<'a> {
    step: Option<&'a str>,
    newline: &'a str,
}

impl Json<'_> {
    fn push(&self, value: &Value, old: Option<&Node>, depth: usize, out: &mut String) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                out.push('{');
                for (index, (key, value, old)) in ordered(map, old).into_iter().enumerate() {
                    self.separate(index, depth + 1, out);
                    out.push_str(&scalar::quoted(key));
                    out.push_str(if self.step.is_some() { ": " } else { ":" });
                    self.push(value, old, depth + 1, out);
                }
                self.line(depth, out);
                out.push('}');
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    self.separate(index, depth + 1, out);
                    self.push(item, same(old, item, index), depth + 1, out);
                }
                self.line(depth, out);
                out.push(']');
            }
            Value::String(text) => out.push_str(&scalar::quoted(text)),
            value => out.push_str(&value.to_string()),
        }
    }

    fn separate(&self, index: usize, depth: usize, out: &mut String) {
        if index > 0 {
            out.push(',');
        }
        self.line(depth, out);
    }

    fn line(&self, depth: usize, out: &mut String) {
        if let Some(step) = self.step {
            out.push_str(self.newline);
            out.push_str(&step.repeat(depth));
        }
    }
}

/// Fields in their old order, new ones behind; what names a thing comes first.
fn ordered<'a>(map: &'a Map<String, Value>, old: Option<&'a Node>) -> Vec<(&'a str, &'a Value, Option<&'a Node>)> {
    let place = |key: &str| match old.map(|node| &node.kind) {
        Some(Kind::Map { entries, .. }) => entries.iter().position(|entry| entry.key == key),
        _ => None,
    };
    let mut fields: Vec<_> = map.iter().map(|(key, value)| (key.as_str(), value)).collect();
    fields.sort_by_key(|(key, _)| {
        let rank = NAMING.iter().position(|name| name == key).unwrap_or(NAMING.len());
        (place(key).unwrap_or(usize::MAX), rank)
    });
    let with_old = |(key, value)| (key, value, old.and_then(|node| Some(&node.entry(key)?.value)));
    fields.into_iter().map(with_old).collect()
}

/// What an item was before: the one of the same name, else of the same place.
fn same<'a>(old: Option<&'a Node>, item: &Value, index: usize) -> Option<&'a Node> {
    let old = old?;
    let Kind::List { items, .. } = &old.kind else { return None };
    let Some(name) = item.get("name") else { return items.get(index) };
    items.iter().find(|node| node.entry("name").is_some_and(|entry| entry.value.value() == *name))
}

const NAMING: [&str; 3] = ["name", "key", "path"];
