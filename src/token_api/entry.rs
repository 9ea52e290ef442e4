//! An entry of the token API, and what a request asks of it. Pure: no clock, no token.

use std::{borrow::Cow, path::PathBuf, time::Duration};

use percent_encoding::percent_decode_str;

use super::{
    answer::{Mapping, Refusal},
    path::Path,
};
use crate::{
    credential::{CredentialName, ParameterError, Parameters, Want},
    policy::TokenKind,
};

/// One kind of token that is handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Whose token.
    pub credential: CredentialName,
    /// Which of its tokens; a JWT here without its parameters.
    pub want: Want,
    /// The names of the parameters that every request gives.
    pub parameters: Vec<String>,
    /// Where it is asked for.
    pub path: Path,
    /// The shape of the answer.
    pub json: Mapping,
    /// No token is handed out with less to live.
    pub min_life: Duration,
    /// The file that it is kept in too.
    pub file: Option<FileSettings>,
}

/// A file that holds the newest token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSettings {
    /// Where; its directory must exist.
    pub path: PathBuf,
    /// Its permissions.
    pub mode: u32,
    /// What is in it.
    pub format: FileFormat,
}

/// What is in an answer or file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// The token, and not even a line feed.
    Raw,
    /// The entry's JSON.
    Json,
}

impl Entry {
    /// The kind of token, as configuration writes it.
    pub fn kind(&self) -> TokenKind {
        match self.want {
            Want::Access => TokenKind::Access,
            Want::SelfSigned => TokenKind::SelfSigned,
            Want::Id(_) => TokenKind::Id,
            Want::Jwt(_) => TokenKind::Jwt,
        }
    }

    /// The life that a token has left at least, where the entry says nothing, for tokens that live for `lifetime`:
    /// a quarter, which is when they are refreshed, and more than the ten minutes that Fleet Engine's samples subtract.
    pub fn default_life(lifetime: Duration) -> Duration {
        (lifetime / 4).min(MOST_DEFAULT_LIFE)
    }
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// A value for each parameter.
    pub parameters: Parameters,
    /// How the answer is written.
    pub format: FileFormat,
}

/// The entry that a path asks for, with the parameters in it; at most one, since no two overlap.
pub fn find<'a>(entries: &'a [Entry], path: &'a str) -> Option<(&'a Entry, Vec<(&'a str, &'a str)>)> {
    entries.iter().find_map(|entry| Some((entry, entry.path.taken(path)?)))
}

/// What a request asks of `entry`: each parameter once, in the path or in the query, and nothing else.
///
/// # Errors
/// Why it is refused; says nothing of what was sent.
pub fn question(entry: &Entry, in_path: &[(&str, &str)], query: &str) -> Result<Question, Refusal> {
    let mut given: Vec<(String, String)> = Vec::new();
    for (name, value) in in_path {
        given.push(((*name).to_owned(), decoded(value)?.into_owned()));
    }
    let mut format = None;
    let mut asked: Vec<&str> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if asked.contains(&name) {
            return Err(Refusal::RepeatedParameter);
        }
        asked.push(name);
        let value = decoded(value)?;
        if name == FORMAT {
            format = Some(match &*value {
                "raw" => FileFormat::Raw,
                "json" => FileFormat::Json,
                _ => return Err(Refusal::Format),
            });
        } else if let Some((_, in_path)) = given.iter().find(|(known, _)| known == name) {
            if *in_path != value {
                return Err(Refusal::Disagree);
            }
        } else {
            given.push((name.to_owned(), value.into_owned()));
        }
        if asked.len() > MOST_PARAMETERS {
            return Err(Refusal::UnknownParameter);
        }
    }
    let parameters = Parameters::new(given, &entry.parameters)?;
    Ok(Question { parameters, format: format.unwrap_or(FileFormat::Json) })
}

impl From<ParameterError> for Refusal {
    fn from(error: ParameterError) -> Self {
        match error {
            ParameterError::Missing(_) => Self::MissingParameter,
            ParameterError::Unknown(_) => Self::UnknownParameter,
            ParameterError::Repeated(_) => Self::RepeatedParameter,
            ParameterError::Malformed(_) => Self::MalformedParameter,
        }
    }
}

/// Clients encode what need not be encoded (`~` most of all): decoded once, an id is an id.
fn decoded(value: &str) -> Result<Cow<'_, str>, Refusal> {
    let hex = |at: usize| value.as_bytes().get(at).is_some_and(u8::is_ascii_hexdigit);
    let is_whole = value.match_indices('%').all(|(at, _)| hex(at + 1) && hex(at + 2));
    if !is_whole {
        return Err(Refusal::MalformedParameter);
    }
    percent_decode_str(value).decode_utf8().map_err(|_| Refusal::MalformedParameter)
}

/// The query parameter that chooses between JSON and the bare token.
pub const FORMAT: &str = "format";

/// More is not asked for unless an entry says so.
pub const MOST_DEFAULT_LIFE: Duration = Duration::from_secs(15 * 60);

/// More than any template has; the list is searched for each.
const MOST_PARAMETERS: usize = 64;

#[cfg(test)]
mod tests;
