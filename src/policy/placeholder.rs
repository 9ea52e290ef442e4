//! The dummy token that SDKs in this pod hold, recognised on requests.

use std::{fmt, sync::Arc};

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

    /// Whether `value` is the placeholder, bare or after `Bearer`.
    pub fn is(&self, value: &HeaderValue) -> bool {
        let value = value.as_bytes().trim_ascii();
        let token = match value.split_at_checked(SCHEME.len()) {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case(SCHEME) => rest.trim_ascii_start(),
            _ => value,
        };
        !self.0.is_empty() && token == self.0.as_bytes()
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
