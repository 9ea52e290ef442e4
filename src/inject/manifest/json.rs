//! JSON files: values one after the other, keys in their order, none twice.
//!
//! Called by `file`.

use std::{cell::Cell, fmt, ops::Range};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::tree::{Entry, Kind, Node, Problem, Style};

/// Where the values of a file stand.
pub(super) fn ranges(text: &str) -> Result<Vec<Range<usize>>, Problem> {
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    let mut ranges = Vec::new();
    let mut from = 0;
    while let Some(value) = stream.next() {
        value.map_err(|error| problem(&error, 0))?;
        let to = stream.byte_offset();
        let blank = text[from..to].len() - text[from..to].trim_start().len();
        ranges.push(from + blank..to);
        from = to;
    }
    Ok(ranges)
}

/// One value; the ranges of its parts are empty.
pub(super) fn parse(text: &str, range: &Range<usize>) -> Result<Node, Problem> {
    let left = Cell::new(MOST_NODES);
    let mut reader = serde_json::Deserializer::from_str(&text[range.clone()]);
    let lines_before = text[..range.start].matches('\n').count();
    Seed(&left).deserialize(&mut reader).map_err(|error| problem(&error, lines_before))
}

/// What one level is indented by; `None` when all stands on one line.
pub(super) fn step(text: &str) -> Option<&str> {
    let line = text.split('\n').nth(1)?;
    let step = &line[..line.len() - line.trim_start_matches([' ', '\t']).len()];
    Some(if step.is_empty() { "  " } else { step })
}

fn problem(error: &serde_json::Error, lines_before: usize) -> Problem {
    let text = error.to_string();
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    Problem { line: lines_before + error.line().max(1), message: format!("not JSON: {what}") }
}

struct Seed<'a>(&'a Cell<usize>);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Node, D::Error> {
        let left = self.0.get().checked_sub(1);
        self.0.set(left.ok_or_else(|| D::Error::custom(format!("more than {MOST_NODES} values")))?);
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(scalar(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(scalar(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(scalar(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(scalar(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(scalar(value))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(scalar(Value::Null))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(Seed(self.0))? {
            items.push(item);
        }
        Ok(node(Kind::List { items, flow: true }))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        while let Some(key) = access.next_key::<String>()? {
            if !seen.insert(key.clone()) {
                return Err(A::Error::custom(format!("'{key}' stands here again; want it once")));
            }
            let value = access.next_value_seed(Seed(self.0))?;
            entries.push(Entry { key, key_range: 0..0, key_line: 0, value });
        }
        Ok(node(Kind::Map { entries, flow: true }))
    }
}

fn scalar(value: impl Into<Value>) -> Node {
    node(Kind::Scalar { value: value.into(), style: Style::Inline })
}

fn node(kind: Kind) -> Node {
    Node { range: 0..0, line: 0, column: 0, kind }
}

const MOST_NODES: usize = 1_000_000;
