//! What is wrong with a configuration, and where. Every check adds to one report; nothing stops at the first.

use std::fmt;

use super::yaml::Mark;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, as the user named it, or the flag.
    pub source: String,
    /// Line and column, both from 1, where there are any.
    pub at: Option<Mark>,
    /// The field, such as `routes[2].hosts[0]`; empty for the whole.
    pub path: String,
    /// What is wrong and what is accepted. Never a value that could be a secret.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        if let Some(Mark { line, column }) = self.at {
            write!(f, ":{line}:{column}")?;
        }
        f.write_str(": ")?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

/// Problems and warnings of one source, as they are found.
#[derive(Debug)]
pub(super) struct Report {
    source: String,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

/// A place that can be complained about after the text was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) at: Option<Mark>,
    pub(super) path: String,
}

impl Report {
    pub(super) fn new(source: impl Into<String>) -> Self {
        Self { source: source.into(), problems: Vec::new(), warnings: Vec::new() }
    }

    pub(super) fn problem(&mut self, place: &Place, message: impl Into<String>) {
        // A hostile file has no say in how much is printed.
        if !self.is_full_of_problems() {
            let problem = self.new_problem(place, message.into());
            self.problems.push(problem);
        }
    }

    pub(super) fn warning(&mut self, place: &Place, message: impl Into<String>) {
        if !self.is_full_of_warnings() {
            let warning = self.new_problem(place, message.into());
            self.warnings.push(warning);
        }
    }

    /// Whether no further problem is told: then nothing that costs time need be found out about one.
    pub(super) fn is_full_of_problems(&self) -> bool {
        self.problems.len() >= MOST
    }

    /// The same of warnings.
    pub(super) fn is_full_of_warnings(&self) -> bool {
        self.warnings.len() >= MOST
    }

    fn new_problem(&self, place: &Place, message: String) -> Problem {
        Problem { source: self.source.clone(), at: place.at, path: place.path.clone(), message }
    }
}

/// `unknown field 'hots', did you mean 'hosts'?` and what is accepted. The word is shown only if it is short
/// and plain: it may be anything that was pasted into the wrong place.
pub(super) fn unknown<'a>(what: &str, word: &str, accepted: impl Iterator<Item = &'a str> + Clone) -> String {
    let shown = quoted(word);
    let hint = nearest(word, accepted.clone()).map(|near| format!(", did you mean '{near}'?")).unwrap_or_default();
    let list: Vec<&str> = accepted.collect();
    let list = if list.is_empty() { "nothing".to_owned() } else { list.join(", ") };
    format!("unknown {what}{shown}{hint} (accepted: {list})")
}

/// ` 'word'`, or nothing where it should not be repeated.
pub(super) fn quoted(word: &str) -> String {
    if is_plain(word) { format!(" '{word}'") } else { String::new() }
}

/// Whether a word can be shown: no password, no key and no token that was pasted into the wrong place is so short and
/// plain. `*` and `:` are for hosts with a port.
pub fn is_plain(word: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.<>/*:".contains(&byte);
    let token = ["ya29.", "AIza", "GOCSPX-", "1//"].iter().any(|start| word.starts_with(start));
    word.len() <= 64 && word.bytes().all(plain) && !token
}

/// The accepted word that `word` was probably meant to be.
pub fn nearest<'a>(word: &str, accepted: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = accepted.map(|candidate| (distance(word, candidate), candidate)).min_by_key(|(distance, _)| *distance);
    near.filter(|(distance, candidate)| *distance <= 2.max(candidate.len() / 3)).map(|(_, candidate)| candidate)
}

/// Edits between two words: insert, delete, replace, swap two neighbours. Case does not count.
pub(super) fn distance(a: &str, b: &str) -> usize {
    if a.len().max(b.len()) > 128 {
        return usize::MAX;
    }
    let (a, b) = (a.to_ascii_lowercase().into_bytes(), b.to_ascii_lowercase().into_bytes());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut best = (above[j] + usize::from(x != y)).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or_default()
}

const MOST: usize = 100;
