//! Requests that are credentials already: a second one on them is an error or somebody else's identity.

use http::{HeaderMap, header};

use super::{decision::PassReason, target::RequestTarget};

/// Set when the request carries a signature, an HMAC, an API key or a token in its query.
///
/// Names are exact and count only with a value: `?Key=` or `?key` is an ordinary parameter. An
/// `upload_id` is none of these; SDKs send the token with it.
pub(super) fn find(target: &RequestTarget<'_>, headers: &HeaderMap) -> Option<PassReason> {
    in_query(target).or_else(|| in_headers(headers))
}

fn in_query(target: &RequestTarget<'_>) -> Option<PassReason> {
    let mut found = None;
    let (mut signature, mut access_id) = (false, false);
    for (name, _) in target.parameters().filter(|(_, value)| !value.is_empty()) {
        match name.as_ref() {
            // V4 of Google and of the S3-compatible API.
            b"X-Goog-Signature" | b"X-Amz-Signature" => return Some(PassReason::SignedUrl),
            b"Signature" => signature = true,
            b"GoogleAccessId" => access_id = true,
            b"key" => found = Some(PassReason::ApiKey),
            b"access_token" | b"oauth_token" => found = Some(PassReason::TokenInQuery),
            _ => {}
        }
    }
    // V2 needs both: `Signature` alone is a plausible name of anything.
    if signature && access_id { Some(PassReason::SignedUrl) } else { found }
}

fn in_headers(headers: &HeaderMap) -> Option<PassReason> {
    if headers.get_all(API_KEY).iter().any(|value| !value.is_empty()) {
        return Some(PassReason::ApiKey);
    }
    let is_hmac = |value: &http::HeaderValue| {
        let value = value.as_bytes().trim_ascii();
        HMAC_SCHEMES.iter().any(|scheme| {
            value.split_at_checked(scheme.len()).is_some_and(|(start, _)| start.eq_ignore_ascii_case(scheme))
        })
    };
    headers.get_all(header::AUTHORIZATION).iter().any(is_hmac).then_some(PassReason::Hmac)
}

const API_KEY: &str = "x-goog-api-key";

/// V2 and V4 of Cloud Storage, and what its S3-compatible API takes.
const HMAC_SCHEMES: [&[u8]; 4] = [b"GOOG1 ", b"GOOG4-", b"AWS4-", b"AWS "];
