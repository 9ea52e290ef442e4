//! YAML and JSON as a tree that remembers which bytes of the file each value is.
//!
//! Owns reading: syntax, aliases and merge keys, duplicate keys, bounds. Refuses to know what the documents are about.
//! Called by `file`. The tree of `config` is for one small document with text only; here bytes must survive.

use std::{collections::HashMap, ops::Range};

use serde_json::{Map, Value};
use serde_yaml::granit_parser::{Event, Parser, ScalarStyle, Span, StrInput, StructureStyle};

use super::scalar;

/// A document of a file.
#[derive(Debug)]
pub(super) struct Document {
    /// Its bytes in the file, its markers with it.
    pub(super) range: Range<usize>,
    /// The line its content begins in, from 1.
    pub(super) line: usize,
    /// `None`: nothing but comments.
    pub(super) root: Option<Node>,
    /// What Kubernetes would not take, and where.
    pub(super) problems: Vec<Problem>,
    /// Where its comments stand.
    pub(super) comments: Vec<Range<usize>>,
}

/// What is wrong, and in which line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) line: usize,
    pub(super) message: String,
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    /// The bytes of its content, without anchor and tag; those of a block end with its last line.
    pub(super) range: Range<usize>,
    pub(super) line: usize,
    /// The column of its first key or item, from 0.
    pub(super) column: usize,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Scalar {
        value: Value,
        style: Style,
    },
    /// What its anchor stands for.
    Alias(Value),
    List {
        items: Vec<Node>,
        flow: bool,
    },
    Map {
        entries: Vec<Entry>,
        flow: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// Nothing stands there.
    Empty,
    /// Within lines, quoted or not.
    Inline,
    /// `|` and `>`.
    Block,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_range: Range<usize>,
    pub(super) key_line: usize,
    pub(super) value: Node,
}

impl Node {
    /// What it means, aliases and merge keys resolved.
    pub(super) fn value(&self) -> Value {
        match &self.kind {
            Kind::Scalar { value, .. } | Kind::Alias(value) => value.clone(),
            Kind::List { items, .. } => items.iter().map(Self::value).collect(),
            Kind::Map { entries, .. } => {
                let own = entries.iter().filter(|entry| entry.key != MERGE);
                let mut all = merged(entries);
                all.extend(own.map(|entry| (entry.key.clone(), entry.value.value())));
                Value::Object(all)
            }
        }
    }

    /// The field of that name, if it is written here.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        let Kind::Map { entries, .. } = &self.kind else { return None };
        entries.iter().find(|entry| entry.key == key)
    }

    pub(super) fn item(&self, index: usize) -> Option<&Self> {
        let Kind::List { items, .. } = &self.kind else { return None };
        items.get(index)
    }
}

/// What `<<` brings; earlier ones win.
pub(super) fn merged(entries: &[Entry]) -> Map<String, Value> {
    let mut all = Map::new();
    for entry in entries.iter().filter(|entry| entry.key == MERGE) {
        let sources = match entry.value.value() {
            Value::Array(sources) => sources,
            one => vec![one],
        };
        for (key, value) in sources
            .into_iter()
            .filter_map(|source| if let Value::Object(map) = source { Some(map) } else { None })
            .flatten()
        {
            all.entry(key).or_insert(value);
        }
    }
    all
}

/// Reads all documents of a file.
pub(super) fn parse(text: &str) -> Result<Vec<Document>, Problem> {
    let options = serde_yaml::granit_parser::options! { block_scalar_eof_without_line_feed: true };
    let parser = Parser::new_from_str_with_options(text, options);
    let mut builder =
        Builder { text, parser, anchors: HashMap::new(), nodes: 0, problems: Vec::new(), comments: Vec::new() };
    let mut documents: Vec<Document> = Vec::new();
    let mut start = 0;
    loop {
        let (event, span) = builder.next()?;
        match event {
            Event::StreamEnd => {
                // Comments at the end belong to the last one.
                if let Some(last) = documents.last_mut() {
                    last.range.end = text.len();
                }
                return Ok(documents);
            }
            Event::DocumentStart(..) if documents.len() == MOST_DOCUMENTS => {
                return Err(problem(&span, format!("more than {MOST_DOCUMENTS} documents")));
            }
            Event::DocumentStart(..) => {
                let document = builder.document(start)?;
                start = document.range.end;
                documents.push(document);
            }
            _ => {}
        }
    }
}

struct Builder<'a> {
    text: &'a str,
    parser: Parser<'a, StrInput<'a>>,
    /// Meaning, number of values and height of each anchor.
    anchors: HashMap<usize, (Value, usize, usize)>,
    /// Of the whole file, aliases with all they stand for.
    nodes: usize,
    problems: Vec<Problem>,
    comments: Vec<Range<usize>>,
}

impl<'a> Builder<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Problem> {
        loop {
            match self.parser.next_event() {
                Some(Ok((Event::Comment(..), span))) => self.comments.push(bytes(&span)),
                Some(Ok(found)) => return Ok(found),
                Some(Err(error)) => {
                    let line = error.marker().line().max(1);
                    return Err(Problem { line, message: format!("not YAML: {}", error.info()) });
                }
                None => return Err(Problem { line: 1, message: "not YAML: ends too early".to_owned() }),
            }
        }
    }

    fn document(&mut self, start: usize) -> Result<Document, Problem> {
        self.anchors.clear();
        let (event, span) = self.next()?;
        let root = self.node(event, &span, 0)?;
        let end = bytes(&self.next()?.1).end;
        let nothing = matches!(&root.kind, Kind::Scalar { style: Style::Empty, .. });
        Ok(Document {
            range: start..end,
            line: root.line,
            root: (!nothing).then_some(root),
            problems: std::mem::take(&mut self.problems),
            comments: std::mem::take(&mut self.comments),
        })
    }

    fn node(&mut self, event: Event<'a>, span: &Span, depth: usize) -> Result<Node, Problem> {
        if depth > DEEPEST {
            return Err(problem(span, format!("nested deeper than {DEEPEST}")));
        }
        self.count(1, span)?;
        let before = self.nodes;
        let mut range = bytes(span);
        let (kind, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let style = match style {
                    ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
                    ScalarStyle::Plain if range.is_empty() => Style::Empty,
                    _ => Style::Inline,
                };
                if style == Style::Block {
                    range.end = block_end(self.text, &range, &text);
                }
                let plain = self.text.get(range.clone()).is_none_or(|raw| !raw.starts_with(['"', '\'']));
                let plain = style == Style::Empty || style == Style::Inline && plain;
                let suffix = tag.as_ref().map(|tag| (tag.core_suffix(), tag.original()));
                (Kind::Scalar { value: self.scalar(&text, plain, suffix, span), style }, anchor)
            }
            Event::SequenceStart(style, anchor, tag) => {
                self.collection_tag(tag.as_deref().map(|tag| (tag.core_suffix(), tag.original())), "seq", span);
                let (items, end) = self.list(depth)?;
                let flow = style == StructureStyle::Flow;
                range.end = if flow { end } else { items.last().map_or(range.end, |last| last.range.end) };
                (Kind::List { items, flow }, anchor)
            }
            Event::MappingStart(style, anchor, tag) => {
                self.collection_tag(tag.as_deref().map(|tag| (tag.core_suffix(), tag.original())), "map", span);
                let (entries, end) = self.map(depth)?;
                let flow = style == StructureStyle::Flow;
                let last = |entry: &Entry| match &entry.value.kind {
                    // Behind its colon at least.
                    Kind::Scalar { style: Style::Empty, .. } => entry.key_range.end.max(entry.value.range.end),
                    _ => entry.value.range.end,
                };
                range.end = if flow { end } else { entries.last().map_or(range.end, last) };
                (Kind::Map { entries, flow }, anchor)
            }
            Event::Alias(id) => {
                let Some((value, size, height)) = self.anchors.get(&id).cloned() else {
                    return Err(problem(span, "an alias inside what it stands for".to_owned()));
                };
                self.count(size, span)?;
                if depth + height > DEEPEST {
                    return Err(problem(span, format!("nested deeper than {DEEPEST}")));
                }
                (Kind::Alias(value), 0)
            }
            _ => return Err(problem(span, "not YAML: unexpected end".to_owned())),
        };
        let node = Node { range, line: span.start.line(), column: span.start.col(), kind };
        if anchor != 0 {
            let value = node.value();
            let height = height(&value);
            self.anchors.insert(anchor, (value, 1 + self.nodes - before, height));
        }
        Ok(node)
    }

    fn scalar(&mut self, text: &str, plain: bool, tag: Option<(Option<&str>, String)>, span: &Span) -> Value {
        match tag {
            None if plain && scalar::is_no_json_number(text) => {
                self.note(span, format!("{text} is no number of JSON"));
                Value::Null
            }
            None if plain => scalar::resolve(text).unwrap_or_else(|| Value::from(text)),
            None => Value::from(text),
            Some((Some("str"), _)) => Value::from(text),
            Some((Some("null" | "bool" | "int" | "float"), _)) => {
                scalar::resolve(text).unwrap_or_else(|| Value::from(text))
            }
            Some((_, written)) => {
                self.note(span, format!("the tag {written} means nothing to Kubernetes"));
                Value::from(text)
            }
        }
    }

    fn collection_tag(&mut self, tag: Option<(Option<&str>, String)>, own: &str, span: &Span) {
        if let Some((core, written)) = tag
            && core != Some(own)
        {
            self.note(span, format!("the tag {written} means nothing to Kubernetes"));
        }
    }

    fn list(&mut self, depth: usize) -> Result<(Vec<Node>, usize), Problem> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, span) => return Ok((items, bytes(&span).end)),
                (event, span) => items.push(self.node(event, &span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<(Vec<Entry>, usize), Problem> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut lines: HashMap<String, usize> = HashMap::new();
        loop {
            let (event, span) = self.next()?;
            let key = match event {
                Event::MappingEnd => return Ok((entries, bytes(&span).end)),
                Event::Scalar(name, ..) => name.into_owned(),
                event => {
                    self.node(event, &span, depth + 1)?;
                    self.note(&span, "a field name that is no text".to_owned());
                    String::new()
                }
            };
            let line = span.start.line();
            if let Some(first) = lines.insert(key.clone(), line) {
                self.note(&span, format!("'{key}' stands here again, first in line {first}; want it once"));
            }
            let (event, value_span) = self.next()?;
            let value = self.node(event, &value_span, depth + 1)?;
            entries.push(Entry { key, key_range: bytes(&span), key_line: line, value });
        }
    }

    fn note(&mut self, span: &Span, message: String) {
        self.problems.push(problem(span, message));
    }

    /// Aliases of aliases grow without bound in a small file.
    fn count(&mut self, more: usize, span: &Span) -> Result<(), Problem> {
        self.nodes = self.nodes.saturating_add(more);
        if self.nodes > MOST_NODES { Err(problem(span, format!("more than {MOST_NODES} values"))) } else { Ok(()) }
    }
}

fn height(value: &Value) -> usize {
    let below = match value {
        Value::Array(items) => items.iter().map(height).max(),
        Value::Object(map) => map.values().map(height).max(),
        _ => None,
    };
    below.map_or(0, |below| below + 1)
}

/// The parser counts the blank lines behind a block scalar to it.
fn block_end(text: &str, range: &Range<usize>, value: &str) -> usize {
    let slice = text.get(range.clone()).unwrap_or_default();
    let kept = value.ends_with("\n\n") || value.trim().is_empty();
    let body = if kept { slice.trim_end_matches([' ', '\t']) } else { slice.trim_end() };
    let line_break = slice[body.len()..].find('\n').filter(|_| !kept).map_or(0, |at| at + 1);
    range.start + body.len() + line_break
}

fn bytes(span: &Span) -> Range<usize> {
    let start = span.start.byte_offset().unwrap_or_default();
    start..span.end.byte_offset().unwrap_or(start).max(start)
}

fn problem(span: &Span, message: String) -> Problem {
    Problem { line: span.start.line(), message }
}

/// The merge key of YAML 1.1.
pub(super) const MERGE: &str = "<<";

const DEEPEST: usize = 64;

const MOST_NODES: usize = 1_000_000;

const MOST_DOCUMENTS: usize = 10_000;
