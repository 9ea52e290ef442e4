//! Who may ask a door on loopback that gives something away: the checks that a browser, a relay or a forged request does
//! not pass. Pure.
//!
//! They run before the path is looked up, so that a value or token is never computed for a request that is
//! refused.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, Method, Uri, Version, header, uri::Scheme};

/// Why a request is refused whatever it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Not HTTP/1.1.
    Version,
    /// A method other than GET.
    Method,
    /// A target or `Host` that is no valid authority or path.
    Malformed,
    /// A header that may occur once occurs twice.
    Repeated,
    /// A GET with a body.
    Body,
    /// A target longer than any client sends.
    TooLong,
    /// A `Host` that is no name of the door.
    ForeignHost,
    /// The target and `Host` name different authorities.
    Disagree,
    /// Headers that only a relay adds.
    Relayed,
    /// Headers that only a browser adds.
    Browser,
}

/// The head of a request, apart from its body.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a Method,
    /// The target in origin or absolute form.
    pub uri: &'a Uri,
    /// The version.
    pub version: Version,
    /// The headers.
    pub headers: &'a HeaderMap,
}

impl<'a> Head<'a> {
    /// The head of `request`.
    pub fn of<B>(request: &'a http::Request<B>) -> Self {
        Self { method: request.method(), uri: request.uri(), version: request.version(), headers: request.headers() }
    }
}

/// Passes what a client in this pod sends, and nothing else. `listen` is the door's own address, under which it may be
/// named; `names` are those that lead to it at the port of plain HTTP too.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(head: Head<'_>, listen: SocketAddr, names: &[&str]) -> Result<(), Denied> {
    if head.version != Version::HTTP_11 {
        return Err(Denied::Version);
    }
    if head.method != Method::GET {
        return Err(Denied::Method);
    }
    if head.uri.path_and_query().is_some_and(|target| target.as_str().len() > MAX_TARGET) {
        return Err(Denied::TooLong);
    }
    host(head, listen, names)?;
    body(head.headers)?;
    relay(head.headers)
}

/// The value of a header that may occur once.
///
/// # Errors
/// When it occurs twice, or is no visible ASCII.
pub fn once<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Denied> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(Denied::Repeated);
    }
    first.map(|value| value.to_str().map_err(|_| Denied::Malformed)).transpose()
}

/// One `Host` with one of our names, and the same in the target if it is in absolute form.
fn host(head: Head<'_>, listen: SocketAddr, names: &[&str]) -> Result<(), Denied> {
    let host = once(head.headers, header::HOST.as_str())?.ok_or(Denied::Malformed)?;
    let named = Named::parse(host).ok_or(Denied::Malformed)?;
    if !head.uri.path().starts_with('/') {
        return Err(Denied::Malformed);
    }
    if let Some(authority) = head.uri.authority() {
        if head.uri.scheme() != Some(&Scheme::HTTP) {
            return Err(Denied::Malformed);
        }
        if Named::parse(authority.as_str()).ok_or(Denied::Malformed)? != named {
            return Err(Denied::Disagree);
        }
    } else if head.uri.scheme().is_some() {
        return Err(Denied::Malformed);
    }
    if named.is_ours(listen, names) { Ok(()) } else { Err(Denied::ForeignHost) }
}

/// A `host[:port]` in one spelling: lower case, no trailing dot, the port of plain HTTP filled in.
#[derive(Debug, PartialEq, Eq)]
struct Named {
    host: String,
    port: u16,
}

impl Named {
    fn parse(text: &str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (inner, after) = rest.split_once(']')?;
                // A literal with a zone id does not parse.
                inner.parse::<std::net::Ipv6Addr>().ok()?;
                (inner, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let port = match port {
            None => 80,
            // `parse` alone takes "+80" as well.
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
            Some(_) => return None,
        };
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
        let valid = !host.is_empty() && host.bytes().all(plain) && port != 0;
        valid.then_some(Self { host, port })
    }

    /// Names of our own answer on the standard port and on ours; loopback only on ours, since its other ports belong to
    /// others.
    fn is_ours(&self, listen: SocketAddr, names: &[&str]) -> bool {
        let ours = self.port == listen.port();
        if names.contains(&self.host.as_str()) {
            return ours || self.port == 80;
        }
        let loopback = self.host == "localhost"
            || self.host.parse::<IpAddr>().is_ok_and(|ip| LOOPBACK.contains(&ip) || ip == listen.ip());
        ours && loopback
    }
}

/// A GET has no body: one here is a mistake or an attempt to hide a second request.
fn body(headers: &HeaderMap) -> Result<(), Denied> {
    let empty = once(headers, header::CONTENT_LENGTH.as_str())?.is_none_or(|length| length == "0");
    if empty && !headers.contains_key(header::TRANSFER_ENCODING) { Ok(()) } else { Err(Denied::Body) }
}

/// A relay (an open proxy an attacker speaks through) and a browser (a page in it) leave traces that no client sends.
fn relay(headers: &HeaderMap) -> Result<(), Denied> {
    for name in headers.keys() {
        let name = name.as_str();
        if RELAY.contains(&name) || name.starts_with("x-forwarded") || name.starts_with("x-envoy-") {
            return Err(Denied::Relayed);
        }
        if name == "origin" || name.starts_with("sec-fetch-") {
            return Err(Denied::Browser);
        }
    }
    Ok(())
}

/// The longest real query is an audience of about 200 bytes with a list of scopes.
const MAX_TARGET: usize = 4096;

const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)];

const RELAY: [&str; 13] = [
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-host",
    "x-original-url",
    "x-original-forwarded-for",
    "x-rewrite-url",
    "x-host",
    "true-client-ip",
    "cf-connecting-ip",
    "x-proxyuser-ip",
];
