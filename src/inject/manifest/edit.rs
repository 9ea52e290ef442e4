//! Changes a document where it changed, so that every other byte of it stays.
//!
//! Owns the way from a tree and the value it is to have to edits of the text. It may be wrong about odd layouts: its
//! caller reads the result back. Called by `file`.

use std::ops::Range;

use serde_json::{Map, Value};

use super::{
    render,
    tree::{self, Entry, Kind, Node, Style},
};

/// Bytes of the file and what comes in their place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) range: Range<usize>,
    pub(super) text: String,
}

/// The layout is none that can be edited in place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unfit;

/// What has to be edited so that `root` comes to mean `wanted`.
pub(super) fn edits(text: &str, root: &Node, wanted: &Value, newline: &str) -> Result<Vec<Edit>, Unfit> {
    let mut editor = Editor { text, newline, edits: Vec::new() };
    editor.node(root, wanted)?;
    Ok(editor.edits)
}

/// The text with all edits made; those of one place stay in their order.
pub(super) fn apply(text: &str, mut edits: Vec<Edit>) -> Result<String, Unfit> {
    edits.sort_by_key(|edit| edit.range.start);
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for edit in edits {
        out.push_str(text.get(at..edit.range.start).ok_or(Unfit)?);
        out.push_str(&edit.text);
        at = edit.range.end;
    }
    out.push_str(text.get(at..).ok_or(Unfit)?);
    Ok(out)
}

struct Editor<'a> {
    text: &'a str,
    newline: &'a str,
    edits: Vec<Edit>,
}

impl Editor<'_> {
    fn node(&mut self, old: &Node, wanted: &Value) -> Result<(), Unfit> {
        if old.value() == *wanted {
            return Ok(());
        }
        match (&old.kind, wanted) {
            (Kind::Map { entries, flow }, Value::Object(map)) => self.map(old, entries, *flow, map),
            (Kind::List { items, flow }, Value::Array(all)) => self.list(old, items, *flow, all),
            // The anchor keeps its meaning, only this use of it changes.
            (Kind::Alias(_) | Kind::Scalar { style: Style::Inline, .. }, _) => {
                self.replace(old.range.clone(), render::flow(wanted));
                Ok(())
            }
            _ => Err(Unfit),
        }
    }

    fn map(&mut self, old: &Node, entries: &[Entry], flow: bool, map: &Map<String, Value>) -> Result<(), Unfit> {
        let merged = tree::merged(entries);
        let own = |key: &str| entries.iter().find(|entry| entry.key == key && key != tree::MERGE);
        if !merged.keys().all(|key| map.contains_key(key)) {
            return Err(Unfit);
        }
        for entry in entries.iter().filter(|entry| entry.key != tree::MERGE) {
            let wanted = map.get(&entry.key).ok_or(Unfit)?;
            if !flow && is_nothing(&entry.value) && is_something(wanted) {
                self.fill(old, entry, wanted)?;
            } else {
                self.node(&entry.value, wanted)?;
            }
        }
        let is_new = |(key, value): &(&String, &Value)| own(key).is_none() && merged.get(*key) != Some(value);
        let new: Map<String, Value> =
            map.iter().filter(is_new).map(|(key, value)| (key.clone(), value.clone())).collect();
        if new.is_empty() {
            return Ok(());
        }
        if flow {
            let fields = render::flow(&Value::Object(new));
            self.extend_flow(old, entries.last().map(|entry| entry.value.range.end), &fields[1..fields.len() - 1]);
            return Ok(());
        }
        let lines = render::block(&Value::Object(new), None, old.column, self.newline);
        self.insert_lines(self.next_line(old.range.end), lines);
        Ok(())
    }

    /// `annotations:` and `annotations: {}` become a block below their key.
    fn fill(&mut self, map: &Node, entry: &Entry, wanted: &Value) -> Result<(), Unfit> {
        let behind = self.text.get(entry.key_range.end..entry.value.range.end.max(entry.key_range.end)).ok_or(Unfit)?;
        let colon = match behind.find(':') {
            Some(at) => entry.key_range.end + at + 1,
            // An empty value ends before the colon.
            None => {
                let rest = self.text.get(entry.key_range.end..).ok_or(Unfit)?;
                let before = rest.find(':').filter(|at| rest[..*at].trim().is_empty()).ok_or(Unfit)?;
                entry.key_range.end + before + 1
            }
        };
        let end = entry.value.range.end.max(colon);
        let between = self.text.get(colon..end).ok_or(Unfit)?.trim();
        let line_end = self.next_line(end);
        let rest = self.text.get(end..line_end).ok_or(Unfit)?.trim();
        // An anchor or a tag stands before it, or more behind it.
        if !["", "{}", "[]"].contains(&between) || !(rest.is_empty() || rest.starts_with('#')) {
            return Err(Unfit);
        }
        if !between.is_empty() {
            self.replace(colon..end, String::new());
        }
        // The items of a list stand below their key, fields are indented.
        let indent = map.column + if wanted.is_array() { 0 } else { 2 };
        self.insert_lines(line_end, render::block(wanted, None, indent, self.newline));
        Ok(())
    }

    fn list(&mut self, old: &Node, items: &[Node], flow: bool, wanted: &[Value]) -> Result<(), Unfit> {
        let places = align(items, wanted).ok_or(Unfit)?;
        let mut from = 0;
        for (item, place) in items.iter().zip(places) {
            let new = &wanted[from..place];
            if flow {
                let texts: String = new.iter().map(|value| format!("{}, ", render::flow(value))).collect();
                self.replace(item.range.start..item.range.start, texts);
            } else if !new.is_empty() {
                let (column, line) = self.dash(item)?;
                self.insert_lines(self.above_comments(line), self.items(new, column));
            }
            self.node(item, &wanted[place])?;
            from = place + 1;
        }
        let new = &wanted[from..];
        if new.is_empty() {
            return Ok(());
        }
        if flow {
            let texts: Vec<String> = new.iter().map(render::flow).collect();
            self.extend_flow(old, items.last().map(|item| item.range.end), &texts.join(", "));
            return Ok(());
        }
        let (column, _) = self.dash(items.last().ok_or(Unfit)?)?;
        self.insert_lines(self.next_line(old.range.end), self.items(new, column));
        Ok(())
    }

    fn items(&self, new: &[Value], column: usize) -> String {
        render::block(&Value::Array(new.to_vec()), None, column, self.newline)
    }

    /// `{` and `[` end where their last value does, or open with nothing inside.
    fn extend_flow(&mut self, old: &Node, last: Option<usize>, text: &str) {
        match last {
            Some(end) => self.replace(end..end, format!(", {text}")),
            None => self.replace(old.range.start + 1..old.range.start + 1, text.to_owned()),
        }
    }

    /// Column of the dash of an item, and where its line begins.
    fn dash(&self, item: &Node) -> Result<(usize, usize), Unfit> {
        let mut end = item.range.start;
        loop {
            let start = self.text.get(..end).ok_or(Unfit)?.rfind('\n').map_or(0, |at| at + 1);
            let line = &self.text[start..end];
            let body = line.trim();
            if body.is_empty() || body.starts_with('#') {
                end = start.checked_sub(1).ok_or(Unfit)?;
                continue;
            }
            let mut words = body.split_whitespace();
            let is_dash = words.next() == Some("-");
            let only_properties =
                words.take_while(|word| !word.starts_with('#')).all(|word| word.starts_with(['&', '!']));
            let column = line.len() - line.trim_start_matches(' ').len();
            return if is_dash && only_properties { Ok((column, start)) } else { Err(Unfit) };
        }
    }

    /// Comments directly above a line belong to it.
    fn above_comments(&self, mut line: usize) -> usize {
        while line > 0 {
            let start = self.text[..line - 1].rfind('\n').map_or(0, |at| at + 1);
            if !self.text[start..line].trim_start().starts_with('#') {
                break;
            }
            line = start;
        }
        line
    }

    /// Where the line behind `at` begins; `at` itself if a line begins there.
    fn next_line(&self, at: usize) -> usize {
        if at > 0 && self.text[..at].ends_with('\n') {
            return at;
        }
        self.text[at..].find('\n').map_or(self.text.len(), |end| at + end + 1)
    }

    fn insert_lines(&mut self, at: usize, lines: String) {
        let open = at > 0 && !self.text[..at].ends_with('\n');
        // Behind a last line without an end, the lines come without one too.
        let text = if open { format!("{}{}", self.newline, lines.trim_end_matches(self.newline)) } else { lines };
        self.replace(at..at, text);
    }

    fn replace(&mut self, range: Range<usize>, text: String) {
        if !(range.is_empty() && text.is_empty()) {
            self.edits.push(Edit { range, text });
        }
    }
}

/// Where each old item comes to stand; the wanted ones between are new.
fn align(items: &[Node], wanted: &[Value]) -> Option<Vec<usize>> {
    let mut from = 0;
    let mut places = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let value = item.value();
        let rest = wanted.get(from..)?;
        let is_same = |other: &Value| match (value.get("name"), other.get("name")) {
            (Some(one), Some(other)) => one == other,
            _ => value == *other,
        };
        // Changed beyond recognition: it stays where it is, if enough places are left.
        let skip = rest.iter().position(is_same).unwrap_or(0);
        let left = items.len() - index;
        if rest.len() < skip + left {
            return None;
        }
        places.push(from + skip);
        from += skip + 1;
    }
    Some(places)
}

fn is_nothing(node: &Node) -> bool {
    match &node.kind {
        Kind::Scalar { style, .. } => *style == Style::Empty,
        Kind::Map { entries, .. } => entries.is_empty(),
        Kind::List { items, .. } => items.is_empty(),
        Kind::Alias(_) => false,
    }
}

fn is_something(value: &Value) -> bool {
    match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    }
}

/// The whole document anew, where it cannot be edited; its comments are lost.
pub(super) fn rewrite(text: &str, root: &Node, wanted: &Value, newline: &str) -> Edit {
    let start = root.range.start;
    let line = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let before = text[line..start].trim_start_matches('\u{feff}');
    let start = if before.trim().is_empty() { start - before.len() } else { start };
    let mut block = render::block(wanted, Some(root), 0, newline);
    if !before.trim().is_empty() {
        block.insert_str(0, newline);
    }
    let kept = text[..root.range.end].trim_end_matches(['\n', '\r']).len().max(start);
    let end = text[kept..].find(['\r', '\n']).map_or(text.len(), |at| kept + at);
    Edit { range: start..end, text: block.trim_end_matches(newline).to_owned() }
}
