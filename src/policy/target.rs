//! Readings of a request target for matching. What goes upstream are the bytes as sent, never these.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// Path and query of a request, with the readings of the path that rules match.
#[derive(Debug)]
pub(super) struct RequestTarget<'a> {
    decoded: Cow<'a, [u8]>,
    resolved: Option<Vec<u8>>,
    query: &'a str,
}

impl<'a> RequestTarget<'a> {
    /// `text` is path and query as sent.
    pub(super) fn new(text: &'a str) -> Self {
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        let decoded: Cow<'_, [u8]> = percent_decode_str(path).into();
        let resolved = resolve(&decoded);
        Self { decoded, resolved, query }
    }

    /// The path, percent-decoded once.
    pub(super) fn decoded(&self) -> &[u8] {
        &self.decoded
    }

    /// The decoded path with dot segments resolved and slashes collapsed.
    pub(super) fn resolved(&self) -> &[u8] {
        self.resolved.as_deref().unwrap_or(&self.decoded)
    }

    /// Both readings as text, the second only where it differs.
    pub(super) fn readings(&self) -> (Cow<'_, str>, Option<Cow<'_, str>>) {
        (String::from_utf8_lossy(&self.decoded), self.resolved.as_deref().map(String::from_utf8_lossy))
    }

    /// The parameters of the query, names and values percent-decoded once.
    pub(super) fn parameters(&self) -> impl Iterator<Item = (Cow<'a, [u8]>, Cow<'a, [u8]>)> {
        self.query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decode_str(name).into(), percent_decode_str(value).into())
        })
    }
}

/// `None` when the path is already in that form, as nearly every one is.
fn resolve(path: &[u8]) -> Option<Vec<u8>> {
    let segments = || path.split(|byte| *byte == b'/').skip(1);
    let last = segments().count().saturating_sub(1);
    let odd = |(index, segment): (usize, &[u8])| matches!(segment, b"." | b"..") || segment.is_empty() && index < last;
    if path.starts_with(b"/") && !segments().enumerate().any(odd) {
        return None;
    }
    let mut kept: Vec<&[u8]> = Vec::new();
    for segment in path.split(|byte| *byte == b'/') {
        match segment {
            b"" | b"." => {}
            b".." => {
                kept.pop();
            }
            _ => kept.push(segment),
        }
    }
    let is_folder = matches!(path.rsplit(|byte| *byte == b'/').next(), Some(b"" | b"." | b".."));
    let mut resolved = Vec::with_capacity(path.len() + 1);
    for segment in &kept {
        resolved.push(b'/');
        resolved.extend_from_slice(segment);
    }
    if is_folder || kept.is_empty() {
        resolved.push(b'/');
    }
    Some(resolved)
}
