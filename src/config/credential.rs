//! The shape of a credential: its name and exactly one kind, each with its own fields.

use std::{path::PathBuf, time::Duration};

use serde_json::{Map, Value};

use super::{
    cursor::{Cursor, Fields, Written},
    file::{MOST_SCOPES, Placed},
    problem::Report,
    settings::{CLOUD_PLATFORM, default_credential},
    value,
};
use crate::credential::{
    CredentialName, Impersonated, Kind, Preset, Rule, Spec, Template,
    template::{self, RESERVED},
};

/// Reads one entry. One that is wrong keeps its name, so that routes are not called wrong for it too.
pub(super) fn read(cursor: &Cursor<'_>, report: &mut Report) -> Option<Placed<Spec>> {
    let names: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
    let fields = cursor.fields(&[&["name"], &names[..]].concat(), report);
    let name = fields.required("name", report).and_then(|name| name.parse(report, value::name));
    let given: Vec<_> = KINDS.iter().filter_map(|(name, read)| Some((fields.optional(name)?, read))).collect();
    let kind = match given[..] {
        [(section, read)] => Some(read(section, report)),
        [] if fields.is_partial => None,
        [] => {
            let message = format!("no kind of credential, want one of {}", names.join(", "));
            report.problem(&fields.place, message);
            None
        }
        [_, (second, _), ..] => {
            report.problem(&second.place(), "a second kind of credential, want one in each entry");
            None
        }
    };
    let name = CredentialName::new(&name?);
    let kind = kind.unwrap_or_else(|| default_credential(PathBuf::new()).kind);
    Some(Placed { value: Spec { name, kind }, place: cursor.place() })
}

/// Whatever is wrong stands in the report; the kind itself is never in doubt.
type Read = fn(&Cursor<'_>, &mut Report) -> Kind;

const KINDS: &[(&str, Read)] = &[
    ("serviceAccountKey", service_account_key),
    ("signedJwt", signed_jwt),
    ("externalAccount", external_account),
    ("impersonation", impersonation),
    ("metadataServer", metadata_server),
    ("authorizedUser", authorized_user),
    ("downscoped", downscoped),
];

fn service_account_key(cursor: &Cursor<'_>, report: &mut Report) -> Kind {
    let fields = cursor.fields(&["path", "scopes", "subject", "signBlob"], report);
    let path = fields.required("path", report).and_then(|path| path.parse(report, value::path));
    let subject = fields.parse_or("subject", None, report, value::subject);
    let signs_urls = fields.parse_or("signBlob", false, report, |text| match text {
        "off" => Ok(false),
        "signedUrl" => Ok(true),
        _ => Err("want off or signedUrl"),
    });
    let scopes = scopes(&fields, report);
    Kind::ServiceAccountKey { path: path.unwrap_or_default(), scopes, subject, signs_urls }
}

fn external_account(cursor: &Cursor<'_>, report: &mut Report) -> Kind {
    let fields = cursor.fields(&["path", "scopes", "serviceAccount"], report);
    let path = fields.required("path", report).and_then(|path| path.parse(report, value::path));
    // Empty is the file's own choice, as for every optional account.
    let account = fields.parse_or("serviceAccount", None, report, |text| {
        if text.is_empty() { Ok(None) } else { value::service_account(text).map(Some) }
    });
    Kind::ExternalAccount { path: path.unwrap_or_default(), scopes: scopes(&fields, report), account }
}

fn impersonation(cursor: &Cursor<'_>, report: &mut Report) -> Kind {
    let accepted = &["source", "serviceAccount", "delegates", "scopes", "lifetime"];
    let fields = cursor.fields(accepted, report);
    let source = source(&fields, report);
    let account =
        fields.required("serviceAccount", report).and_then(|field| field.parse(report, value::service_account));
    let delegates = fields.list("delegates", MOST_DELEGATES, report, value::service_account).unwrap_or_default();
    // Longer than an hour needs the organisation's leave, and Google then takes up to twelve.
    let within = |text: &str| value::duration_within(text, "10m", "12h");
    let lifetime = fields.parse_or("lifetime", Duration::from_secs(3600), report, within);
    let scopes = scopes(&fields, report);
    let impersonated = Impersonated { account: account.unwrap_or_default(), delegates, scopes, lifetime };
    Kind::Impersonation { source, impersonated }
}

fn metadata_server(cursor: &Cursor<'_>, report: &mut Report) -> Kind {
    let fields = cursor.fields(&["scopes"], report);
    Kind::MetadataServer { scopes: scopes(&fields, report) }
}

fn authorized_user(cursor: &Cursor<'_>, report: &mut Report) -> Kind {
    let fields = cursor.fields(&["path", "scopes"], report);
    let path = fields.required("path", report).and_then(|path| path.parse(report, value::path));
    // A person has agreed to certain scopes, and asking for others fails.
    let scopes = if fields.optional("scopes").is_some() { scopes(&fields, report) } else { Vec::new() };
    Kind::AuthorizedUser { path: path.unwrap_or_default(), scopes }
}

fn downscoped(cursor: &Cursor<'_>, report: &mut Report) -> Kind {
    let fields = cursor.fields(&["source", "rules"], report);
    let source = source(&fields, report);
    let mut rules = Vec::new();
    if let Some(list) = fields.required("rules", report) {
        for item in list.some_items(MOST_RULES, "no rules, want at least one", report) {
            rules.extend(rule(&item, report));
        }
    }
    Kind::Downscoped { source, rules }
}

fn rule(cursor: &Cursor<'_>, report: &mut Report) -> Option<Rule> {
    let fields = cursor.fields(&["resource", "permissions", "condition"], report);
    let resource = fields.required("resource", report).and_then(|field| field.parse(report, value::bucket));
    let permissions = fields.required("permissions", report);
    let permissions = permissions.map(|list| list.some_items(MOST_SCOPES, "no permissions, want at least one", report));
    let permissions = permissions.unwrap_or_default();
    let permissions = permissions.iter().filter_map(|item| item.parse(report, value::in_role)).collect();
    let condition = fields.parse_or("condition", String::new(), report, |text| Ok::<_, String>(text.to_owned()));
    Some(Rule { resource: resource?, permissions, condition })
}

/// The credential that another one is derived from. Whether there is one of that name is asked when all are read.
fn source(fields: &Fields<'_>, report: &mut Report) -> CredentialName {
    let name = fields.required("source", report).and_then(|field| field.parse(report, value::name));
    CredentialName::new(&name.unwrap_or_default())
}

/// The scopes of any kind that has them.
fn scopes(fields: &Fields<'_>, report: &mut Report) -> Vec<String> {
    let Some(scopes) = fields.optional("scopes") else { return vec![CLOUD_PLATFORM.to_owned()] };
    let items = scopes.some_items(MOST_SCOPES, "no scopes, want at least one such as cloud-platform", report);
    items.iter().filter_map(|item| item.parse(report, value::scope)).collect()
}

fn signed_jwt(cursor: &Cursor<'_>, report: &mut Report) -> Kind {
    let accepted = &["path", "preset", "keyId", "issuer", "subject", "audience", "lifetime", "claims"];
    let fields = cursor.fields(accepted, report);
    let path = fields.required("path", report).and_then(|path| path.parse(report, value::path));
    let preset = fields.optional("preset").and_then(|field| field.parse(report, preset));
    let mut template = preset.map_or_else(|| Template::new(""), Preset::template);
    let word = |text: &str| if text.is_empty() { Ok(Some(String::new())) } else { value::audience(text).map(Some) };
    template.key_id = fields.parse_or("keyId", template.key_id, report, word);
    template.issuer = fields.parse_or("issuer", template.issuer, report, word);
    template.subject = fields.parse_or("subject", template.subject, report, word);
    template.audience = fields.parse_or("audience", template.audience, report, value::audience);
    if template.audience.is_empty() && fields.optional("audience").is_none() && !fields.is_partial {
        report.problem(&fields.place, "missing field 'audience', want whom the token is for (a URL, or a project id)");
    }
    lifetime(&fields, &mut template, report);
    if let Some(field) = fields.optional("claims") {
        template.claims = claims(field, report);
    }
    Kind::SignedJwt { path: path.unwrap_or_default(), template }
}

fn preset(text: &str) -> Result<&'static Preset, String> {
    Preset::named(text).ok_or_else(|| format!("want one of {}", Preset::names().collect::<Vec<_>>().join(", ")))
}

fn lifetime(fields: &Fields<'_>, template: &mut Template, report: &mut Report) {
    let Some(field) = fields.optional("lifetime") else { return };
    let within = |text: &str| value::duration_within(text, "2m", "24h");
    let Some(lifetime) = field.parse(report, within) else { return };
    template.lifetime = lifetime;
    if lifetime > template.longest() {
        report.problem(&field.place(), "Fleet Engine refuses more than an hour, want a duration from 2m to 1h");
    }
}

/// Claims as JSON: what YAML would read as a number or a boolean is one, every other scalar is text.
fn claims(cursor: &Cursor<'_>, report: &mut Report) -> Map<String, Value> {
    let mut claims = Map::new();
    for (name, value) in cursor.entries(MOST_CLAIMS, report) {
        if RESERVED.contains(&name) {
            let message = format!("a claim with a meaning of its own, want none of {}", RESERVED.join(", "));
            report.problem(&value.place(), message);
        } else if claims.contains_key(name) {
            report.problem(&value.place(), "a claim that is given twice");
        } else if let Some(claim) = claim(&value, report) {
            claims.insert(name.to_owned(), claim);
        }
    }
    claims
}

fn claim(cursor: &Cursor<'_>, report: &mut Report) -> Option<Value> {
    match cursor.written() {
        Written::Nothing => Some(Value::Null),
        Written::Plain(text) | Written::Quoted(text) => {
            if let Err(message) = template::check_text(text) {
                report.problem(&cursor.place(), message);
                return None;
            }
            let typed = match cursor.written() {
                Written::Plain("true" | "false") => serde_json::from_str(text).ok(),
                Written::Plain(text) if text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) => {
                    serde_json::from_str::<serde_json::Number>(text).ok().map(Value::Number)
                }
                _ => None,
            };
            cursor.text(report).map(|text| typed.unwrap_or_else(|| text.into()))
        }
        Written::List => cursor.items(MOST_CLAIMS, report).iter().map(|item| claim(item, report)).collect(),
        Written::Map => {
            let entries = cursor.entries(MOST_CLAIMS, report);
            entries.iter().map(|(name, value)| Some(((*name).to_owned(), claim(value, report)?))).collect()
        }
    }
}

const MOST_CLAIMS: usize = 64;
/// Google's own bound of a boundary.
const MOST_RULES: usize = 10;
const MOST_DELEGATES: usize = 8;
