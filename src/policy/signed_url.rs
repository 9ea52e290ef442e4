//! Signatures for signed URLs: the one thing of `iamcredentials` that a credential may allow.
//!
//! An SDK without a key asks `signBlob` for the signature under a signed URL. Any other blob would be a token of the
//! account in the making (a JWT is a blob too), so what is signed must be the string of a V4 signed URL
//! (<https://cloud.google.com/storage/docs/authentication/signatures#string-to-sign>) and nothing else.

use http::Method;

use super::{minting::has_method_override, target::RequestTarget};
use crate::{authority::Host, policy::Facts};

/// The account whose signature a request asks for, when it is a `signBlob` in its plain form.
pub(super) fn account(host: &Host, facts: &Facts<'_>, target: &RequestTarget<'_>) -> Option<String> {
    if host.as_str() != HOST || *facts.method != Method::POST || has_method_override(facts.headers) {
        return None;
    }
    let (decoded, resolved) = target.readings();
    // Decoded and resolved alike, so that there is one reading.
    if resolved.is_some_and(|resolved| resolved != decoded) {
        return None;
    }
    let account = decoded.strip_prefix("/v1/projects/-/serviceAccounts/")?.strip_suffix(":signBlob")?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"@.-_".contains(&byte);
    (!account.is_empty() && account.bytes().all(is_plain)).then(|| account.to_owned())
}

/// Whether `blob` is the string to sign of a V4 signed URL: algorithm, time, scope, and the hash of the request.
pub fn is_string_to_sign(blob: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(blob) else { return false };
    let lines: Vec<&str> = text.split('\n').collect();
    let [ALGORITHM, time, scope, hash] = lines[..] else { return false };
    let Some((day, rest)) = time.split_at_checked(DAY) else { return false };
    let Some(place) = scope.strip_prefix(day).and_then(|rest| rest.strip_prefix('/')) else { return false };
    let Some(location) = place.strip_suffix("/storage/goog4_request") else { return false };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let clock = rest.strip_prefix('T').and_then(|rest| rest.strip_suffix('Z'));
    digits(day)
        && clock.is_some_and(|clock| clock.len() == 6 && digits(clock))
        && (1..=63).contains(&location.len())
        && location.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && hash.len() == 64
        && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The one name under which SDKs ask.
const HOST: &str = "iamcredentials.googleapis.com";
const ALGORITHM: &str = "GOOG4-RSA-SHA256";
/// `20261126`.
const DAY: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_string_of_a_signed_url_is_signed() {
        let hash = "a".repeat(64);
        let good = format!("GOOG4-RSA-SHA256\n20261126T101112Z\n20261126/auto/storage/goog4_request\n{hash}");
        assert!(is_string_to_sign(good.as_bytes()));
        assert!(is_string_to_sign(good.replace("auto", "europe-west1").as_bytes()));
        for (from, to) in [
            ("GOOG4-RSA-SHA256", "GOOG4-HMAC-SHA256"),
            ("GOOG4-RSA-SHA256\n", ""),
            ("GOOG4-RSA-SHA256\n", "GOOG4-RSA-SHA256\n\n"),
            ("T101112Z", "T10111Z"),
            ("T101112Z", "T101112"),
            ("T101112Z", " 101112Z"),
            ("20261126/auto", "20261127/auto"),
            ("20261126/auto", "20261126/"),
            ("auto", "../x"),
            ("auto", "AUTO"),
            ("storage", "iam"),
            ("goog4_request", "goog4_request/x"),
            ("goog4_request\n", "goog4_request"),
            (hash.as_str(), "b"),
            ("aaaa", "AAAA"),
            ("aaaa", "gggg"),
        ] {
            assert!(!is_string_to_sign(good.replacen(from, to, 1).as_bytes()), "{from} -> {to}");
        }
        for blob in [
            &b""[..],
            b"eyJhbGciOiJSUzI1NiJ9.eyJzY29wZSI6ImEifQ",
            b"{\"expiration\":\"2026-11-26T00:00:00Z\",\"conditions\":[]}",
            b"GET\n\n\n1700000000\n/bucket/object",
            b"\xff\xfe",
        ] {
            assert!(!is_string_to_sign(blob));
        }
        assert!(!is_string_to_sign(format!("{good}\n").as_bytes()));
        assert!(!is_string_to_sign(format!(" {good}").as_bytes()));
    }
}
