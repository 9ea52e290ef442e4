//! The dummy token that SDKs in this pod hold, recognised on requests.

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, header};

use super::route::X_SERVERLESS_AUTHORIZATION;

/// The placeholder of this pod. Worth nothing at Google, but it opens routes with
/// `clientAuthorization: require`, so it is not shown.
#[derive(Clone)]
pub struct Placeholder(Arc<str>);

impl Placeholder {
    /// `token` is what stands after `Bearer `.
    pub fn new(token: impl Into<Arc<str>>) -> Self {
        Self(token.into())
    }

    /// What the metadata server hands out.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `value` is the placeholder, bare or after `Bearer`; or the unsigned JWT around it, which the metadata
    /// server gives as an ID token.
    pub fn is(&self, value: &HeaderValue) -> bool {
        let value = value.as_bytes().trim_ascii();
        let token = match value.split_at_checked(SCHEME.len()) {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case(SCHEME) => rest.trim_ascii_start(),
            _ => value,
        };
        !self.0.is_empty() && (token == self.0.as_bytes() || self.is_named_by(token))
    }

    /// Whether `token` is a JWT without signature whose `jti` is the placeholder.
    fn is_named_by(&self, token: &[u8]) -> bool {
        #[derive(serde::Deserialize)]
        struct Claims<'a> {
            jti: &'a str,
        }
        let Some(rest) = token.strip_suffix(b".").filter(|rest| rest.len() <= MOST_JWT) else { return false };
        let mut parts = rest.split(|byte| *byte == b'.');
        let (Some(_), Some(payload), None) = (parts.next(), parts.next(), parts.next()) else { return false };
        let Ok(payload) = URL_SAFE_NO_PAD.decode(payload) else { return false };
        serde_json::from_slice::<Claims<'_>>(&payload).is_ok_and(|claims| *claims.jti == *self.0)
    }

    /// Whether any header at all is it.
    pub fn is_anywhere(&self, headers: &HeaderMap) -> bool {
        headers.values().any(|value| self.is(value))
    }

    /// Whether one of the headers that carry tokens holds it.
    pub fn is_in(&self, headers: &HeaderMap) -> bool {
        self.is_in_header(headers, header::AUTHORIZATION.as_str())
            || self.is_in_header(headers, X_SERVERLESS_AUTHORIZATION)
            || self.is_in_header(headers, header::PROXY_AUTHORIZATION.as_str())
    }

    pub(super) fn is_in_header(&self, headers: &HeaderMap, name: &str) -> bool {
        headers.get_all(name).iter().any(|value| self.is(value))
    }
}

impl fmt::Debug for Placeholder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Placeholder(..)")
    }
}

const SCHEME: &[u8] = b"bearer ";
/// Ours has half a KiB, more only by its audience.
const MOST_JWT: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unsigned_jwt_around_it_counts_as_the_placeholder_and_a_signed_or_foreign_one_does_not() {
        let placeholder = Placeholder::new("ya29.mark");
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let (head, ours) = (part(r#"{"alg":"none"}"#), part(r#"{"aud":"a","jti":"ya29.mark"}"#));
        let theirs = part(r#"{"aud":"a","jti":"ya29.other"}"#);
        for (token, is_it) in [
            (format!("{head}.{ours}."), true),
            (format!("Bearer {head}.{ours}."), true),
            (format!("{head}.{ours}.c2ln"), false),
            (format!("{head}.{ours}"), false),
            (format!("{head}.{ours}.."), false),
            (format!("{head}.{theirs}."), false),
            (format!("{head}.{}.", part("{}")), false),
            (format!("{head}.!."), false),
            (".".to_owned(), false),
        ] {
            assert_eq!(placeholder.is(&HeaderValue::from_str(&token).unwrap()), is_it, "{token}");
        }
    }
}
