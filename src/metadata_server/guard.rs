//! Who may ask at all: what holds for every door on loopback, and the header by which SDKs show that they mean a
//! metadata server. Pure.

use std::net::SocketAddr;

use http::HeaderMap;

use super::answer::{FLAVOR, Refusal};
use crate::net::guard::{self, Denied, Head};

/// Passes what an SDK in this pod sends, and nothing else. `listen` is the door's own address, under which it
/// may be named too.
///
/// POST is refused although Python's bound-token mode would use it: what we give is not bound to a certificate, so we
/// must not seem to honour the wish. The environment we set switches that mode off.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(head: Head<'_>, listen: SocketAddr) -> Result<(), Refusal> {
    guard::check(head, listen, &NAMES)?;
    flavor(head.uri.path(), head.headers)
}

/// The header is required below `/computeMetadata`, but not on `/`, where detection only looks for it in the answer.
fn flavor(path: &str, headers: &HeaderMap) -> Result<(), Refusal> {
    let value = guard::once(headers, FLAVOR)?;
    let v1 = path
        .strip_prefix("/computeMetadata")
        .is_some_and(|rest| matches!(rest, "" | "/" | "/v1") || rest.starts_with("/v1/"));
    // The value's case matters to the real server too.
    if v1 && value != Some("Google") { Err(Refusal::Flavor) } else { Ok(()) }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Version => Self::Version,
            Denied::Method => Self::Method,
            Denied::Malformed => Self::Malformed,
            Denied::Repeated => Self::Repeated,
            Denied::Body => Self::Body,
            Denied::TooLong => Self::TooLong,
            Denied::ForeignHost => Self::ForeignHost,
            Denied::Disagree => Self::Disagree,
            Denied::Relayed => Self::Relayed,
            Denied::Browser => Self::Browser,
        }
    }
}

/// How the real server is called; with its IPv6 address.
const NAMES: [&str; 4] = ["metadata.google.internal", "metadata", "169.254.169.254", "fd20:ce::254"];
