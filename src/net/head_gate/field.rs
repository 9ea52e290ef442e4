//! One field line, and the names that may not be played with.

use super::{
    Reason,
    class::{self, TOKEN},
};

/// A field line taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field<'a> {
    pub(super) name: &'a [u8],
    /// Without white space around it.
    pub(super) value: &'a [u8],
}

impl<'a> Field<'a> {
    /// `line` is without its CRLF, not empty, and holds text only.
    pub(super) fn parse(line: &'a [u8]) -> Result<Self, Reason> {
        if matches!(line, [b' ' | b'\t', ..]) {
            return Err(Reason::FoldedLine);
        }
        match line.split_at(class::span(line, TOKEN)) {
            (name @ [_, ..], [b':', value @ ..]) => Ok(Self { name, value: trim(value) }),
            _ => Err(Reason::FieldName),
        }
    }

    /// A name that something else has parsed.
    pub(super) fn named(name: &'a [u8]) -> Self {
        Self { name, value: &[] }
    }

    /// Whether the name is `lower`, in any case.
    pub(super) fn is(&self, lower: &[u8]) -> bool {
        self.name.eq_ignore_ascii_case(lower)
    }

    /// Whether the name becomes a guarded one when some reader turns `_` into `-`.
    pub(super) fn is_guarded_in_disguise(&self) -> bool {
        if !self.name.contains(&b'_') {
            return false;
        }
        // `authorization_` too: readers differ in what they do with the ends.
        let is_edge = |byte: &u8| matches!(byte, b'_' | b'-');
        let start = self.name.iter().take_while(|byte| is_edge(byte)).count();
        let end = self.name.len() - self.name.iter().rev().take_while(|byte| is_edge(byte)).count();
        let name = self.name.get(start..end).unwrap_or_default();
        GUARDED.iter().chain(HOP_BY_HOP).any(|guarded| {
            let same =
                |(&byte, &wanted): (&u8, &u8)| byte.eq_ignore_ascii_case(&wanted) || (byte == b'_' && wanted == b'-');
            name.len() == guarded.len() && name.iter().zip(guarded.iter()).all(same)
        })
    }

    /// Whether a trailer of this name would change what the head said.
    pub(super) fn is_refused_as_trailer(&self) -> bool {
        GUARDED.iter().chain(HOP_BY_HOP).any(|guarded| self.is(guarded)) || self.is_guarded_in_disguise()
    }
}

/// The elements of a comma list, trimmed, empty ones left out (RFC 9110 §5.6.1.2).
pub(super) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim).filter(|element| !element.is_empty())
}

/// Whether the list `value` of `Connection` holds `upgrade`.
pub(super) fn lists_upgrade(value: &[u8]) -> bool {
    elements(value).any(|option| option.eq_ignore_ascii_case(b"upgrade"))
}

/// Whether the list `value` of `Upgrade` holds `websocket`, with or without a version (`websocket/13`).
pub(super) fn lists_websocket(value: &[u8]) -> bool {
    let mut names = elements(value).filter_map(|element| element.split(|&byte| byte == b'/').next());
    names.any(|name| name.eq_ignore_ascii_case(b"websocket"))
}

/// Whether `element` is a token.
pub(super) fn is_token(element: &[u8]) -> bool {
    !element.is_empty() && class::span(element, TOKEN) == element.len()
}

/// Whether `name` must not be taken off a request because `Connection` says so.
pub(super) fn is_guarded(name: &[u8]) -> bool {
    GUARDED.iter().any(|guarded| name.eq_ignore_ascii_case(guarded))
}

/// Takes off SP and HTAB only: `trim_ascii` would also take what some reader believes to be content.
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Fields that frame, route or authorise a request.
const GUARDED: &[&[u8]] = &[
    b"host",
    b"content-length",
    b"transfer-encoding",
    b"content-type",
    b"content-encoding",
    b"cookie",
    b"authorization",
    b"proxy-authorization",
    b"x-serverless-authorization",
    b"x-goog-iam-authorization-token",
    b"x-goog-iam-authority-selector",
    b"x-goog-api-key",
    b"x-goog-user-project",
    b"x-http-method-override",
    b"clearblade-usertoken",
];

/// Fields for one hop, which `Connection` may name but a trailer or an underscore may not.
const HOP_BY_HOP: &[&[u8]] =
    &[b"connection", b"proxy-connection", b"keep-alive", b"te", b"trailer", b"upgrade", b"expect"];
