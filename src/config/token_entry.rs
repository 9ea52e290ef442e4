//! The shape of an entry of `tokens`, and whether its credential gives what it hands out.

use std::{path::PathBuf, time::Duration};

use super::{
    cursor::{Cursor, Fields},
    problem::{Place, Report, unknown},
    tokens, value,
};
use crate::{
    credential::{CredentialName, Kind, Parameters, Spec, Want},
    policy::TokenKind,
    token_api::{Entry, FORMAT, Field, FileFormat, FileSettings, Mapping, Path},
};

/// An entry as written, with the places of what is checked against the credentials.
#[derive(Clone, Debug)]
pub(super) struct PlacedEntry {
    name: String,
    place: Place,
    credential: (String, Place),
    token: (TokenKind, Place),
    audience: Option<(String, Place)>,
    path: Option<(Path, Place)>,
    json: Mapping,
    min_life: Option<(Duration, Place)>,
    file: Option<(FileSettings, Place)>,
}

impl PlacedEntry {
    /// The name of its credential.
    pub(super) fn credential(&self) -> &str {
        &self.credential.0
    }
}

/// Reads one entry.
pub(super) fn read(cursor: &Cursor<'_>, report: &mut Report) -> Option<PlacedEntry> {
    let fields = cursor.fields(FIELDS, report);
    let name = fields.required("name", report).and_then(|name| name.parse(report, value::name));
    let credential = placed(&fields, "credential", report, value::name);
    let token = placed(&fields, "token", report, value::token);
    for required in ["credential", "token"] {
        fields.required(required, report);
    }
    let entry = PlacedEntry {
        name: name?,
        place: cursor.place(),
        credential: credential?,
        token: token?,
        audience: placed(&fields, "audience", report, value::audience),
        path: placed(&fields, "path", report, Path::parse),
        json: fields.optional("json").map(|json| mapping(json, report)).unwrap_or_default(),
        min_life: placed(&fields, "minLife", report, |text| value::duration_within(text, "1s", "24h")),
        file: fields.optional("file").and_then(|cursor| Some((file(cursor, report)?, cursor.place()))),
    };
    Some(entry)
}

fn placed<T, E: ToString>(
    fields: &Fields<'_>,
    name: &str,
    report: &mut Report,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Option<(T, Place)> {
    let cursor = fields.optional(name)?;
    Some((cursor.parse(report, parse)?, cursor.place()))
}

fn mapping(cursor: &Cursor<'_>, report: &mut Report) -> Mapping {
    let mut pairs = Vec::new();
    for (key, value) in cursor.entries(MOST_KEYS, report) {
        if key.is_empty() || key.len() > MOST_KEY || key.chars().any(char::is_control) {
            report.problem(&value.place(), format!("want a key of 1 to {MOST_KEY} characters"));
        } else if pairs.iter().any(|(known, _)| known == key) {
            report.problem(&value.place(), "a key that is given twice");
        } else if let Some(field) = value.parse(report, field) {
            pairs.push((key.to_owned(), field));
        }
    }
    if !pairs.iter().any(|(_, field)| *field == Field::Token) {
        report.problem(&cursor.place(), "no key for the token itself, want one such as 'jwt: token'");
    }
    Mapping(pairs)
}

fn field(text: &str) -> Result<Field, String> {
    let found = Field::ALL.into_iter().find(|field| field.as_str() == text);
    found.ok_or_else(|| format!("want one of {}", Field::ALL.map(Field::as_str).join(", ")))
}

fn file(cursor: &Cursor<'_>, report: &mut Report) -> Option<FileSettings> {
    let fields = cursor.fields(&["path", "mode", "format"], report);
    let path = fields.required("path", report).and_then(|path| path.parse(report, file_path));
    let mode = fields.parse_or("mode", DEFAULT_MODE, report, mode);
    let format = fields.parse_or("format", FileFormat::Raw, report, |text| match text {
        "raw" => Ok(FileFormat::Raw),
        "json" => Ok(FileFormat::Json),
        _ => Err("want raw or json"),
    });
    Some(FileSettings { path: path?, mode, format })
}

fn file_path(text: &str) -> Result<PathBuf, String> {
    let path = value::path(text)?;
    if !path.is_absolute() || path.file_name().is_none() || text.ends_with('/') {
        return Err("want a file in full, such as /var/run/bearerd/tokens/driver".to_owned());
    }
    Ok(path)
}

/// Read and write only, and ours to read: nobody runs a token.
fn mode(text: &str) -> Result<u32, &'static str> {
    let digits = (3..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = u32::from_str_radix(text, 8).ok().filter(|_| digits);
    let is_sane = |mode: &u32| mode & !0o664 == 0 && mode & 0o400 != 0;
    mode.filter(is_sane)
        .ok_or("want permissions in octal such as \"0440\": read for whom you like, write for owner and group at most")
}

/// Entries that can be served; everything else is told.
pub(super) fn resolve(
    listed: &[PlacedEntry],
    credentials: &[Spec],
    door_is_open: bool,
    report: &mut Report,
) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for placed in listed {
        let Some(spec) = credentials.iter().find(|spec| spec.name.as_str() == placed.credential.0) else {
            let names = credentials.iter().map(|spec| spec.name.as_str());
            report.problem(&placed.credential.1, unknown("credential", &placed.credential.0, names));
            continue;
        };
        let entry = entry(placed, spec, report);
        distinct(&entry, placed, &entries, report);
        if !door_is_open && entry.file.is_none() {
            report.warning(&placed.place, "of no use: listeners.tokenApi is off, and the entry has no file");
        }
        entries.push(entry);
    }
    entries
}

fn entry(placed: &PlacedEntry, spec: &Spec, report: &mut Report) -> Entry {
    let (token, token_place) = &placed.token;
    if let Err(message) = tokens::gives(&spec.kind, *token) {
        report.problem(token_place, message);
    }
    let want = want(placed, report);
    let parameters = if *token == TokenKind::Jwt { spec.parameters() } else { Vec::new() };
    let path = path(placed, &parameters, report);
    let min_life = min_life(placed, lifetime(&spec.kind), report);
    let file = placed.file.as_ref().filter(|(_, place)| {
        if !parameters.is_empty() {
            let names = parameters.join(", ");
            report
                .problem(place, format!("the credential has parameters ({names}), and a file is asked for by nobody"));
        }
        parameters.is_empty()
    });
    Entry {
        name: placed.name.clone(),
        credential: CredentialName::new(&placed.credential.0),
        want,
        parameters,
        path,
        json: placed.json.clone(),
        min_life,
        file: file.map(|(file, _)| file.clone()),
    }
}

fn want(placed: &PlacedEntry, report: &mut Report) -> Want {
    let audience = match (&placed.audience, placed.token.0) {
        (Some((_, place)), kind) if kind != TokenKind::Id => {
            report.problem(place, format!("audience goes with token: id only, and this entry's token is {kind}"));
            ""
        }
        (Some((audience, _)), _) => audience,
        (None, TokenKind::Id) => {
            report.problem(&placed.place, "missing field 'audience', want whom the ID token is for");
            ""
        }
        (None, _) => "",
    };
    match placed.token.0 {
        TokenKind::Access => Want::Access,
        TokenKind::SelfSigned => Want::SelfSigned,
        TokenKind::Id => Want::Id(audience.into()),
        TokenKind::Jwt => Want::Jwt(Parameters::none()),
    }
}

fn path(placed: &PlacedEntry, parameters: &[String], report: &mut Report) -> Path {
    if parameters.iter().any(|name| name == FORMAT) {
        let message = format!("the credential has a parameter '{FORMAT}', which means the form of the answer here");
        report.problem(&placed.credential.1, message);
    }
    let Some((path, place)) = &placed.path else { return Path::of_name(&placed.name) };
    if let Some(stranger) = path.parameters().find(|name| !parameters.iter().any(|known| known == name)) {
        let accepted = parameters.iter().map(String::as_str);
        report.problem(place, unknown("parameter", stranger, accepted));
    }
    path.clone()
}

fn min_life(placed: &PlacedEntry, lifetime: Duration, report: &mut Report) -> Duration {
    let Some((min_life, place)) = &placed.min_life else { return Entry::default_life(lifetime) };
    if *min_life + SPENT_AT_FIRST >= lifetime {
        let seconds = lifetime.saturating_sub(SPENT_AT_FIRST).as_secs();
        report.problem(place, format!("no token lives so long, want less than {seconds}s"));
    }
    *min_life
}

/// How long a credential's tokens live as a rule. Google's own live for an hour.
fn lifetime(kind: &Kind) -> Duration {
    match kind {
        Kind::SignedJwt { template, .. } => template.lifetime,
        Kind::Impersonation { impersonated, .. } => impersonated.lifetime,
        Kind::ServiceAccountKey { .. }
        | Kind::ExternalAccount { .. }
        | Kind::MetadataServer { .. }
        | Kind::AuthorizedUser { .. }
        | Kind::Downscoped { .. } => Duration::from_secs(3600),
    }
}

/// Names, paths and files are each one entry's alone.
fn distinct(entry: &Entry, placed: &PlacedEntry, before: &[Entry], report: &mut Report) {
    if before.iter().any(|other| other.name == entry.name) {
        report.problem(&placed.place, format!("a second entry named '{}', want distinct names", entry.name));
    } else if let Some(other) = before.iter().find(|other| other.path.overlaps(&entry.path)) {
        let place = placed.path.as_ref().map_or(&placed.place, |(_, place)| place);
        let message = format!("its path {} overlaps that of '{}' ({})", entry.path, other.name, other.path);
        report.problem(place, message);
    }
    let same_file = |other: &&Entry| {
        let of = |entry: &Entry| entry.file.as_ref().map(|file| file.path.clone());
        of(other).is_some() && of(other) == of(entry)
    };
    if let (Some(other), Some((_, place))) = (before.iter().find(same_file), &placed.file) {
        report.problem(place, format!("'{}' has the same file, want one for each", other.name));
    }
}

const FIELDS: &[&str] = &["name", "credential", "token", "audience", "path", "json", "minLife", "file"];

pub(super) const MOST_ENTRIES: usize = 32;
const MOST_KEYS: usize = 16;
const MOST_KEY: usize = 64;
const DEFAULT_MODE: u32 = 0o440;
/// `iat` is set back by ten seconds, and a token takes a moment to arrive.
const SPENT_AT_FIRST: Duration = Duration::from_secs(11);

#[cfg(test)]
mod tests;
