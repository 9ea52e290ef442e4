//! ID tokens: which audiences may be asked for, and the unsigned stand-in of placeholder mode. Pure but for
//! the short memory of audiences.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::HeaderValue;

use super::Pod;
use crate::clock::{Moment, Wall};

/// An audience that a `token: id` route gives reason to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Exactly this text.
    Exact(String),
    /// `https://` and one or more labels below this suffix (without `*.`), as in a route for `*.run.app`.
    Below(String),
}

impl Audience {
    /// The default audience of a route's host: `https://HOST`, or a pattern for `*.suffix`.
    pub fn of_host(host: &str) -> Self {
        match host.strip_prefix("*.") {
            Some(suffix) => Self::Below(suffix.to_ascii_lowercase()),
            None => Self::Exact(format!("https://{}", host.to_ascii_lowercase())),
        }
    }

    /// Whether `asked` is this audience. Path, port and user info have no place below a wildcard.
    pub fn covers(&self, asked: &str) -> bool {
        match self {
            Self::Exact(audience) => audience == asked,
            Self::Below(suffix) => {
                let host = asked.strip_prefix("https://").unwrap_or_default();
                let labels = host.strip_suffix(suffix.as_str()).and_then(|rest| rest.strip_suffix('.'));
                let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
                let label = |label: &str| !label.is_empty() && label.bytes().all(plain);
                host.len() <= 253 && labels.is_some_and(|labels| labels.split('.').all(label))
            }
        }
    }
}

/// An unsigned JWT that SDKs can read (they look at `exp`), which the proxy replaces on the way and no server
/// believes. `jti` is the pod's placeholder, so that it can be told from a stranger's.
pub(super) fn unsigned(pod: &Pod, placeholder: &HeaderValue, audience: &str, full: bool, now: Wall) -> String {
    let mut claims = serde_json::json!({
        "iss": "https://accounts.google.com",
        "aud": audience,
        "iat": now.seconds(),
        "exp": now.seconds() + 3600,
        "jti": placeholder.to_str().unwrap_or_default(),
    });
    if let Some(id) = &pod.unique_id {
        claims["sub"] = id.as_str().into();
        claims["azp"] = id.as_str().into();
    }
    // As at the real server, the address is there only in the full form.
    if full {
        claims["email"] = pod.email.as_str().into();
        claims["email_verified"] = true.into();
    }
    let part = |json: &serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
    format!("{}.{}.", part(&serde_json::json!({"alg": "none", "typ": "JWT"})), part(&claims))
}

/// The different audiences of the last minute, so that a client that makes up new ones cannot fill caches or
/// the token endpoint's quota.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<Vec<(String, Moment)>>);

impl Recent {
    /// Notes one use; false when it would be one audience too many.
    pub(super) fn admit(&self, audience: &str, now: Moment) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|(_, last)| last.until(now) < WINDOW);
        if let Some(entry) = seen.iter_mut().find(|(known, _)| known == audience) {
            entry.1 = now;
            return true;
        }
        let room = seen.len() < LIMIT;
        if room {
            seen.push((audience.to_owned(), now));
        }
        room
    }
}

/// Enough for a pod that calls many services, small against any quota.
const LIMIT: usize = 64;
const WINDOW: Duration = Duration::from_secs(60);
