//! The query parameters that a metadata server understands. Unknown ones are ignored, as there.

use std::{borrow::Cow, time::Duration};

use percent_encoding::percent_decode_str;

use super::answer::Refusal;

/// A query, taken apart. Every parameter may occur once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query<'a> {
    pub(super) recursive: bool,
    /// `None` means text for values and lists, JSON for what is recursive.
    pub(super) alt: Option<Alt>,
    pub(super) wait_for_change: bool,
    pub(super) last_etag: Option<Cow<'a, str>>,
    pub(super) timeout: Option<Duration>,
    pub(super) audience: Option<Cow<'a, str>>,
    /// `format=full`.
    pub(super) full: bool,
    pub(super) scopes: Option<Cow<'a, str>>,
    /// `transport`: the wish for a token bound to a channel.
    pub(super) bound: bool,
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alt {
    Text,
    Json,
}

impl<'a> Query<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, Refusal> {
        let mut query = Self::default();
        // Without an allocation per parameter, and with a bound: there are fewer names than bits.
        let mut seen = 0_u16;
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(at) = KNOWN.iter().position(|known| *known == name) else { continue };
            if seen & (1 << at) != 0 {
                return Err(Refusal::Query);
            }
            seen |= 1 << at;
            query.take(name, decode(value)?)?;
        }
        Ok(query)
    }

    fn take(&mut self, name: &str, value: Cow<'a, str>) -> Result<(), Refusal> {
        match name {
            "recursive" => self.recursive = flag(&value)?,
            "wait_for_change" => self.wait_for_change = flag(&value)?,
            "alt" => {
                self.alt = Some(match &*value {
                    "text" => Alt::Text,
                    "json" => Alt::Json,
                    _ => return Err(Refusal::Query),
                });
            }
            "last_etag" => self.last_etag = Some(value),
            "timeout_sec" => {
                self.timeout = Some(Duration::from_secs(value.parse::<u32>().map_err(|_| Refusal::Query)?.into()));
            }
            "audience" => self.audience = Some(value),
            "format" => {
                self.full = match &*value {
                    "full" => true,
                    "standard" | "" => false,
                    _ => return Err(Refusal::Query),
                };
            }
            "scopes" => self.scopes = Some(value),
            _ => self.bound = true,
        }
        Ok(())
    }

    /// The scopes asked for; SDKs separate them with commas.
    pub(super) fn scopes(&self) -> impl Iterator<Item = &str> {
        let text = self.scopes.as_deref().unwrap_or_default();
        text.split([',', ' ']).filter(|scope| !scope.is_empty())
    }
}

/// Node and .NET send an audience as it is, others encode it: decoding serves both.
fn decode(value: &str) -> Result<Cow<'_, str>, Refusal> {
    let spaced = if value.contains('+') { Cow::Owned(value.replace('+', " ")) } else { Cow::Borrowed(value) };
    let decoded = match spaced {
        Cow::Borrowed(text) => percent_decode_str(text).decode_utf8().map_err(|_| Refusal::Query)?,
        Cow::Owned(text) => {
            Cow::Owned(percent_decode_str(&text).decode_utf8().map_err(|_| Refusal::Query)?.into_owned())
        }
    };
    if decoded.chars().any(char::is_control) { Err(Refusal::Query) } else { Ok(decoded) }
}

fn flag(value: &str) -> Result<bool, Refusal> {
    match value {
        _ if value.eq_ignore_ascii_case("true") => Ok(true),
        _ if value.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err(Refusal::Query),
    }
}

const KNOWN: [&str; 10] = [
    "recursive",
    "alt",
    "wait_for_change",
    "last_etag",
    "timeout_sec",
    "audience",
    "format",
    "scopes",
    "transport",
    "binding-enforcement",
];
