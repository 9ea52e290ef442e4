//! YAML as a tree that remembers where everything stood.
//!
//! Typed deserialisation stops at the first error and knows no positions afterwards; a user with five
//! mistakes wants five messages. Scalars stay text, so `off` is no boolean and `1.10` no number.

use std::collections::HashMap;

use serde_yaml::granit_parser::{Event, Marker, Parser, ScalarStyle};

use super::problem::{Place, Problem, Report};

/// A line and a column, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// A value and where it begins.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) at: Mark,
    /// A text without quotes or tag: what other readers of YAML may take for a number or a boolean.
    pub(super) is_plain: bool,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// `~`, `null` or nothing.
    Null,
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// The name of a field and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) at: Mark,
    pub(super) name: String,
}

/// Reads one document. `None` after a syntax error, which is then in the report.
pub(super) fn parse(text: &str, report: &mut Report) -> Option<Node> {
    match (Builder { parser: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0 }).document() {
        Ok(node) => Some(node),
        Err(Failure { at, message }) => {
            report.problem(&Place { at, path: String::new() }, message);
            None
        }
    }
}

/// Where the fields of a text stand, for whoever judges it after it was read by other means.
#[derive(Debug)]
pub struct Places(Node);

impl Places {
    /// Reads one document.
    ///
    /// # Errors
    /// Why it is none, without a source.
    pub fn of(text: &str) -> Result<Self, Problem> {
        let mut report = Report::new("");
        match parse(text, &mut report) {
            Some(root) => Ok(Self(root)),
            None => Err(report.problems.remove(0)),
        }
    }

    /// Where the field of a path such as `routes[2].hosts` stands, or the innermost one around it that is there.
    pub fn find(&self, path: &str) -> Mark {
        let (mut node, mut at, mut rest) = (&self.0, self.0.at, path);
        while let Some((inner, mark, more)) = node.step(rest) {
            (node, at, rest) = (inner, mark, more);
        }
        at
    }

    /// Fields that are given twice: where the second stands, and its path.
    pub fn doubles(&self) -> Vec<(Mark, String)> {
        let mut found = Vec::new();
        self.0.doubles("", &mut found);
        found
    }
}

impl Node {
    /// One step of a path: what is there, where it stands, and the path from there.
    fn step<'a>(&self, path: &'a str) -> Option<(&Self, Mark, &'a str)> {
        match &self.kind {
            Kind::Null | Kind::Text(_) => None,
            Kind::List(items) => {
                let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
                let item = items.get(index.parse::<usize>().ok()?)?;
                Some((item, item.at, rest))
            }
            Kind::Map(fields) => {
                let path = path.strip_prefix('.').unwrap_or(path);
                // The user's names may have dots in them.
                let after = |key: &Key| {
                    let rest = path.strip_prefix(key.name.as_str())?;
                    (rest.is_empty() || rest.starts_with(['.', '['])).then_some(rest)
                };
                let there = fields.iter().filter_map(|(key, node)| Some((node, key.at, after(key)?)));
                there.min_by_key(|(_, _, rest)| rest.len())
            }
        }
    }

    fn doubles(&self, path: &str, found: &mut Vec<(Mark, String)>) {
        match &self.kind {
            Kind::Null | Kind::Text(_) => {}
            Kind::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    item.doubles(&format!("{path}[{index}]"), found);
                }
            }
            Kind::Map(fields) => {
                for (index, (key, node)) in fields.iter().enumerate() {
                    let dot = if path.is_empty() { "" } else { "." };
                    let path = format!("{path}{dot}{}", key.name);
                    if fields[..index].iter().any(|(before, _)| before.name == key.name) {
                        found.push((key.at, path.clone()));
                    }
                    node.doubles(&path, found);
                }
            }
        }
    }
}

struct Builder<'a> {
    parser: Parser<'a, serde_yaml::granit_parser::StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

struct Failure {
    at: Option<Mark>,
    message: String,
}

impl<'a> Builder<'a> {
    fn document(&mut self) -> Result<Node, Failure> {
        let mut root = None;
        loop {
            let (event, at) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(root.unwrap_or(Node { at, is_plain: false, kind: Kind::Null })),
                Event::DocumentStart(..) if root.is_some() => return fail(at, "a second document, want one"),
                Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
                event => root = Some(self.node(event, at, 0)?),
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Mark), Failure> {
        loop {
            match self.parser.next_event() {
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok((event, span))) => return Ok((event, mark(span.start))),
                Some(Err(error)) => return fail(mark(*error.marker()), &format!("not YAML: {}", error.info())),
                None => return Err(Failure { at: None, message: "not YAML: ends too early".to_owned() }),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, at: Mark, depth: usize) -> Result<Node, Failure> {
        if depth > DEEPEST {
            return fail(at, &format!("nested deeper than {DEEPEST}"));
        }
        self.count(1, at)?;
        let mut is_plain = false;
        let (kind, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                is_plain = style == ScalarStyle::Plain && tag.is_none();
                let is_null = is_plain && matches!(text.as_ref(), "" | "~" | "null" | "Null" | "NULL");
                (if is_null { Kind::Null } else { Kind::Text(text.into_owned()) }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => (Kind::List(self.list(depth)?), anchor),
            Event::MappingStart(_, anchor, _) => (Kind::Map(self.map(depth)?), anchor),
            Event::Alias(id) => return self.alias(id, at),
            _ => return fail(at, "not YAML: unexpected end"),
        };
        let node = Node { at, is_plain, kind };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    /// The positions of an alias are those of its anchor, where the text is that has to be changed.
    fn alias(&mut self, id: usize, at: Mark) -> Result<Node, Failure> {
        let Some(node) = self.anchors.get(&id).cloned() else { return fail(at, "an alias without its anchor") };
        self.count(size(&node), at)?;
        Ok(node)
    }

    /// Aliases of aliases grow without bound in a small file.
    fn count(&mut self, more: usize, at: Mark) -> Result<(), Failure> {
        self.nodes += more;
        if self.nodes > MOST_NODES { fail(at, &format!("more than {MOST_NODES} values")) } else { Ok(()) }
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Failure> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, at) => items.push(self.node(event, at, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<(Key, Node)>, Failure> {
        let mut fields: Vec<(Key, Node)> = Vec::new();
        loop {
            let (event, at) = self.next()?;
            let name = match event {
                Event::MappingEnd => return Ok(fields),
                Event::Scalar(name, ..) => name.into_owned(),
                _ => return fail(at, "a field name that is no text"),
            };
            let (event, value_at) = self.next()?;
            let node = self.node(event, value_at, depth + 1)?;
            fields.push((Key { at, name }, node));
        }
    }
}

fn size(node: &Node) -> usize {
    1 + match &node.kind {
        Kind::Null | Kind::Text(_) => 0,
        Kind::List(items) => items.iter().map(size).sum(),
        Kind::Map(fields) => fields.iter().map(|(_, node)| size(node)).sum(),
    }
}

fn mark(marker: Marker) -> Mark {
    Mark { line: marker.line(), column: marker.col() + 1 }
}

fn fail<T>(at: Mark, message: &str) -> Result<T, Failure> {
    Err(Failure { at: Some(at), message: message.to_owned() })
}

const DEEPEST: usize = 16;

const MOST_NODES: usize = 10_000;
