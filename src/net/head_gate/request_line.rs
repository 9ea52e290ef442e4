//! The first line of a head: method, target and version.

use super::{
    Reason,
    class::{self, PATH, QUERY, TOKEN},
    host,
};

/// 8 KiB, what the large servers take.
pub(super) const MAX_TARGET: usize = 8 * 1024;
/// Longer than any registered method; a bound for those that are not.
pub(super) const MAX_METHOD: usize = 64;

/// What of the request line decides about the rest of the head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RequestLine {
    pub(super) is_connect: bool,
    pub(super) is_http_10: bool,
}

impl RequestLine {
    /// `line` is without its CRLF and holds text only.
    pub(super) fn parse(line: &[u8]) -> Result<Self, Reason> {
        let (method, rest) = line.split_at(class::span(line, TOKEN));
        let rest = match (method, rest) {
            ([], _) => return Err(Reason::Method),
            (_, [b' ', rest @ ..]) => rest,
            _ => return Err(Reason::RequestLine),
        };
        let target_end = rest.iter().position(|&byte| byte == b' ').ok_or(Reason::RequestLine)?;
        let (target, version) = (&rest[..target_end], &rest[target_end + 1..]);
        if method.len() > MAX_METHOD {
            return Err(Reason::Method);
        }
        if target.len() > MAX_TARGET {
            return Err(Reason::TargetTooLong);
        }
        // Separate from other versions only to name the fault well: a second space, or text after it.
        if target.is_empty() || version.contains(&b' ') {
            return Err(Reason::RequestLine);
        }
        let is_http_10 = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            _ => return Err(Reason::Version),
        };
        if echoes(method) {
            return Err(Reason::MethodRefused);
        }
        if is_target(method, target) {
            Ok(Self { is_connect: method == b"CONNECT", is_http_10 })
        } else {
            Err(Reason::Target)
        }
    }
}

/// Whether the answer to the method is the request itself, with what we added to it.
pub(super) fn echoes(method: &[u8]) -> bool {
    method.eq_ignore_ascii_case(b"TRACE") || method.eq_ignore_ascii_case(b"TRACK")
}

fn is_target(method: &[u8], target: &[u8]) -> bool {
    if method == b"CONNECT" {
        return host::is_authority_with_port(target);
    }
    match target {
        b"*" => method == b"OPTIONS",
        [b'/', ..] => is_path_and_query(target),
        _ => is_absolute(target),
    }
}

fn is_absolute(target: &[u8]) -> bool {
    let starts_with = |scheme: &[u8]| target.get(..scheme.len()).is_some_and(|t| t.eq_ignore_ascii_case(scheme));
    let rest = if starts_with(b"http://") {
        &target[b"http://".len()..]
    } else if starts_with(b"https://") {
        &target[b"https://".len()..]
    } else {
        return false;
    };
    let authority_end = rest.iter().position(|&byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, path_and_query) = rest.split_at(authority_end);
    host::is_authority(authority) && is_path_and_query(path_and_query)
}

/// Whether HTTP/2 may say this in `:path`: what HTTP/1.1 could send in origin-form, or `*`.
pub(super) fn is_path_of_h2(method: &[u8], path: &[u8]) -> bool {
    matches!(path, [b'*'] | [b'/', ..]) && is_target(method, path)
}

fn is_path_and_query(bytes: &[u8]) -> bool {
    let path_end = bytes.iter().position(|&byte| byte == b'?').unwrap_or(bytes.len());
    let (path, query) = bytes.split_at(path_end);
    class::span(path, PATH) == path.len() && class::span(query, QUERY) == query.len()
}
