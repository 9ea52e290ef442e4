//! Reading a tree field by field: each step either gives a value or adds to the report.

use super::{
    problem::{Place, Report, is_plain, quoted, unknown},
    yaml::{Kind, Node},
};

/// A node and the path to it.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    node: &'a Node,
    path: String,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written<'a> {
    Nothing,
    /// Without quotes.
    Plain(&'a str),
    Quoted(&'a str),
    List,
    Map,
}

/// The fields of a mapping whose names are all known.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    pub(super) place: Place,
    /// Whether something here was refused as a whole, so that what is missing is no news.
    pub(super) is_partial: bool,
    fields: Vec<(&'a str, Cursor<'a>)>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(node: &'a Node, path: impl Into<String>) -> Self {
        Self { node, path: path.into() }
    }

    pub(super) fn place(&self) -> Place {
        Place { at: Some(self.node.at), path: self.path.clone() }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self.node.kind, Kind::Null)
    }

    /// The mapping here; nothing counts as an empty one. Names outside `accepted` are problems.
    pub(super) fn fields(&self, accepted: &[&'static str], report: &mut Report) -> Fields<'a> {
        let mut found: Vec<(&'a str, Cursor<'a>)> = Vec::new();
        let mut is_partial = false;
        if !matches!(self.node.kind, Kind::Map(_) | Kind::Null) {
            is_partial = true;
            report.problem(&self.place(), format!("want a mapping of {}", accepted.join(", ")));
        }
        if let Kind::Map(entries) = &self.node.kind {
            for (key, node) in entries {
                let path = if self.path.is_empty() { key.name.clone() } else { format!("{}.{}", self.path, key.name) };
                let place = Place { at: Some(key.at), path: self.path.clone() };
                if found.iter().any(|(name, _)| *name == key.name) {
                    report.problem(&place, format!("field{} is given twice", quoted(&key.name)));
                } else if accepted.contains(&key.name.as_str()) {
                    found.push((key.name.as_str(), Cursor { node, path }));
                } else if !report.is_full_of_problems() {
                    report.problem(&place, unknown("field", &key.name, accepted.iter().copied()));
                }
            }
        }
        Fields { place: self.place(), is_partial, fields: found }
    }

    /// The items of the list here, at most `most`.
    pub(super) fn items(&self, most: usize, report: &mut Report) -> Vec<Self> {
        let items = match &self.node.kind {
            Kind::List(items) => items,
            Kind::Null => return Vec::new(),
            _ => {
                report.problem(&self.place(), "want a list");
                return Vec::new();
            }
        };
        if items.len() > most {
            report.problem(&self.place(), format!("{} entries, want at most {most}", items.len()));
            return Vec::new();
        }
        let child = |(index, node)| Self { node, path: format!("{}[{index}]", self.path) };
        items.iter().enumerate().map(child).collect()
    }

    /// The same of a list that must not be empty; `none` says so.
    pub(super) fn some_items(&self, most: usize, none: &str, report: &mut Report) -> Vec<Self> {
        if matches!(&self.node.kind, Kind::List(items) if items.is_empty()) {
            report.problem(&self.place(), none);
        }
        self.items(most, report)
    }

    /// The names and values of a mapping with free names, at most `most`.
    pub(super) fn entries(&self, most: usize, report: &mut Report) -> Vec<(&'a str, Self)> {
        let fields = match &self.node.kind {
            Kind::Map(fields) => fields,
            Kind::Null => return Vec::new(),
            _ => {
                report.problem(&self.place(), "want a mapping");
                return Vec::new();
            }
        };
        if fields.len() > most {
            report.problem(&self.place(), format!("{} entries, want at most {most}", fields.len()));
            return Vec::new();
        }
        let child = |(key, node): &'a (super::yaml::Key, Node)| {
            let name = if is_plain(&key.name) { key.name.as_str() } else { "…" };
            (key.name.as_str(), Self { node, path: format!("{}[\"{name}\"]", self.path) })
        };
        fields.iter().map(child).collect()
    }

    /// The text here. Nothing at all is a problem: an empty text is written `""`.
    pub(super) fn text(&self, report: &mut Report) -> Option<&'a str> {
        match &self.node.kind {
            Kind::Text(text) if text.len() > LONGEST => {
                report.problem(&self.place(), format!("longer than {LONGEST} bytes"));
                None
            }
            Kind::Text(text) => Some(text),
            Kind::Null => {
                report.problem(&self.place(), "empty, want a value");
                None
            }
            Kind::List(_) | Kind::Map(_) => {
                report.problem(&self.place(), "want a single value");
                None
            }
        }
    }

    /// What is written here, for values whose shape is the user's.
    pub(super) fn written(&self) -> Written<'a> {
        match &self.node.kind {
            Kind::Null => Written::Nothing,
            Kind::Text(text) if self.node.is_plain => Written::Plain(text),
            Kind::Text(text) => Written::Quoted(text),
            Kind::List(_) => Written::List,
            Kind::Map(_) => Written::Map,
        }
    }

    /// The value that `parse` makes of the text here. Its error says what is accepted.
    pub(super) fn parse<T, E: ToString>(
        &self,
        report: &mut Report,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        match parse(self.text(report)?) {
            Ok(value) => Some(value),
            Err(error) => {
                report.problem(&self.place(), error.to_string());
                None
            }
        }
    }
}

impl<'a> Fields<'a> {
    /// The field, if it is there. One without value (`hosts:`) counts as absent.
    pub(super) fn optional(&self, name: &str) -> Option<&Cursor<'a>> {
        self.fields.iter().find(|(field, cursor)| *field == name && !cursor.is_null()).map(|(_, cursor)| cursor)
    }

    /// The field; its absence is a problem.
    pub(super) fn required(&self, name: &str, report: &mut Report) -> Option<&Cursor<'a>> {
        let found = self.optional(name);
        if found.is_none() && !self.is_partial {
            report.problem(&self.place, format!("missing field '{name}'"));
        }
        found
    }

    /// The parsed field, or `default` where it is absent or wrong.
    pub(super) fn parse_or<T, E: ToString>(
        &self,
        name: &str,
        default: T,
        report: &mut Report,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> T {
        self.optional(name).and_then(|cursor| cursor.parse(report, parse)).unwrap_or(default)
    }

    /// A list, each entry parsed; wrong ones are left out. `None` where the field is absent.
    pub(super) fn list<T, E: ToString>(
        &self,
        name: &str,
        most: usize,
        report: &mut Report,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<Vec<T>> {
        let items = self.optional(name)?.items(most, report);
        Some(items.iter().filter_map(|item| item.parse(report, &parse)).collect())
    }
}

/// Longer than any path, host, scope or proxy address.
const LONGEST: usize = 4096;
