//! What a token endpoint's answer means (pure): a token, or an error with its class.
//!
//! The endpoint is behind verified TLS, yet front ends and middleboxes answer in its place with pages,
//! fragments and floods. Nothing here trusts more than it checks.

use std::time::Duration;

use serde::Deserialize;

use super::{
    Class, FetchError, Reason, Token,
    endpoint::{Answer, MOST_ANSWER_BYTES},
};
use crate::{clock::Moment, secret::Secret};

/// Less than this is a failed fetch: it would be spent before it is used.
const SHORTEST: Duration = Duration::from_secs(60);
/// The longest life that is believed: no Google token lives longer.
const LONGEST_SECONDS: f64 = 43_200.0;
/// Google documents no bound; tokens have 1 to 2 KiB.
const MOST_TOKEN_BYTES: usize = 16 * 1024;

/// The token in `answer`, whose request was sent at `sent`.
///
/// # Errors
///
/// Whatever is not a usable token, classified.
pub fn token(answer: &Answer, sent: Moment) -> Result<Token, FetchError> {
    if answer.body.len() > MOST_ANSWER_BYTES {
        return Err(FetchError::transient(Reason::TooLarge, "the token endpoint answered more than 64 KiB"));
    }
    match answer.status {
        200 => usable(&answer.body, sent),
        _ => Err(refusal(answer)),
    }
}

#[derive(Deserialize)]
struct Success {
    access_token: Option<String>,
    token_type: Option<String>,
    expires_in: Option<Seconds>,
    error: Option<String>,
}

impl Drop for Success {
    fn drop(&mut self) {
        use zeroize::Zeroize;
        self.access_token.zeroize();
    }
}

/// Some issuers write the number as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(f64),
    Text(String),
}

impl Seconds {
    fn lifetime(&self) -> Option<Duration> {
        let seconds = match self {
            Self::Number(number) => *number,
            Self::Text(text) => text.trim().parse().ok()?,
        };
        // NaN becomes zero, which is too short.
        Some(Duration::from_secs(seconds.clamp(0.0, LONGEST_SECONDS) as u64))
    }
}

fn usable(body: &Secret, sent: Moment) -> Result<Token, FetchError> {
    let bad = |what: &str| FetchError::transient(Reason::BadAnswer, format!("the token endpoint answered 200 {what}"));
    if body.is_empty() {
        return Err(bad("without a body"));
    }
    let mut success: Success = serde_json::from_slice(body.expose()).map_err(|_| bad("without a token in JSON"))?;
    if success.error.as_deref().is_some_and(|code| UNAVAILABLE.contains(&code)) {
        return Err(FetchError::transient(Reason::Unavailable, "the token endpoint says that it is unavailable"));
    }
    let text = success.access_token.take().ok_or_else(|| bad("without `access_token`"))?;
    let secret = Secret::from(text);
    if secret.is_empty() || secret.len() > MOST_TOKEN_BYTES || !secret.expose().iter().all(u8::is_ascii_graphic) {
        return Err(bad("with an `access_token` that no header can carry"));
    }
    // RFC 6749 5.1: case does not matter. Absent is taken as Bearer, which is what was asked for.
    if success.token_type.as_deref().is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return Err(bad("with a `token_type` other than Bearer"));
    }
    let lifetime = success.expires_in.as_ref().and_then(Seconds::lifetime);
    let lifetime = lifetime.ok_or_else(|| bad("without a usable `expires_in`"))?;
    if lifetime < SHORTEST {
        let message =
            format!("the token endpoint gave a token that lives {} s, at least 60 s needed", lifetime.as_secs());
        return Err(FetchError::transient(Reason::ShortLived, message));
    }
    Ok(Token { secret, sent, lifetime })
}

#[derive(Deserialize, Default)]
struct Failure {
    error: Option<String>,
    error_description: Option<String>,
}

impl Failure {
    fn code(&self) -> &str {
        self.error.as_deref().unwrap_or_default()
    }

    fn description(&self) -> &str {
        self.error_description.as_deref().unwrap_or_default()
    }
}

fn refusal(answer: &Answer) -> FetchError {
    let failure: Failure = serde_json::from_slice(answer.body.expose()).unwrap_or_default();
    let (class, reason) = classify(answer.status, &failure, answer.retry_after);
    FetchError::new(class, reason, sentence(answer.status, &failure))
}

/// The class table. Words first: Google sends `internal_failure` with 400 as well as with 500.
fn classify(status: u16, failure: &Failure, retry_after: Option<Duration>) -> (Class, Reason) {
    let transient = Class::Transient { retry_after };
    let code = failure.code();
    if UNAVAILABLE.contains(&code) || UNAVAILABLE.contains(&failure.description()) {
        return (transient, Reason::Unavailable);
    }
    match status {
        300..=399 => return (transient, Reason::Redirect),
        429 => return (transient, Reason::RateLimited),
        408 | 425 | 500..=599 => return (transient, Reason::Unavailable),
        404 | 405 => return (Class::Configuration, Reason::InvalidRequest),
        400 | 401 | 403 => {}
        _ => return (transient, Reason::Unknown),
    }
    match code {
        "invalid_grant" => invalid_grant(failure.description()),
        "invalid_client" | "deleted_client" | "disabled_client" => (Class::Key, Reason::InvalidClient),
        "unauthorized_client" | "access_denied" | "admin_policy_enforced" | "org_internal" => {
            (Class::Key, Reason::Unauthorized)
        }
        "invalid_scope" => (Class::Key, Reason::InvalidScope),
        "invalid_request" | "unsupported_grant_type" => (Class::Configuration, Reason::InvalidRequest),
        // The "unusual traffic" page has no JSON: half a minute is what it wants at least.
        "" if status == 403 => (Class::Transient { retry_after: retry_after.or(Some(UNUSUAL)) }, Reason::RateLimited),
        _ => (transient, Reason::Unknown),
    }
}

fn invalid_grant(description: &str) -> (Class, Reason) {
    let says = |part: &str| description.to_ascii_lowercase().contains(part);
    if says("reasonable timeframe") || says("short-lived") {
        (Class::Clock, Reason::Clock)
    } else if says("audience") {
        (Class::Configuration, Reason::InvalidRequest)
    } else if says("signature") {
        (Class::Key, Reason::InvalidSignature)
    } else if says("disabled") {
        (Class::Key, Reason::AccountDisabled)
    } else if says("not found") || says("deleted") || says("no valid verifier") {
        (Class::Key, Reason::AccountNotFound)
    } else {
        (Class::Key, Reason::InvalidGrant)
    }
}

/// For people: the status, the code, and what the endpoint says, without anything long enough to be a secret.
fn sentence(status: u16, failure: &Failure) -> String {
    let mut text = format!("the token endpoint answered {status}");
    let code = failure.code();
    if !code.is_empty() && code.len() <= 40 && code.bytes().all(is_code) {
        text.push(' ');
        text.push_str(code);
    }
    let said = failure.description().split_whitespace().take(40).map(harmless).collect::<Vec<_>>().join(" ");
    if !said.is_empty() {
        text.push_str(": ");
        text.push_str(said.trim_end_matches('.'));
    }
    text
}

fn is_code(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte == b'_'
}

/// An assertion or a token is one long word; so is much else that has no place in a log line.
fn harmless(word: &str) -> &str {
    let short = word.len() <= 40 && word.bytes().all(|byte| byte.is_ascii_graphic());
    let token = word.starts_with("ya29.") || word.starts_with("eyJ");
    if short && !token { word } else { "(…)" }
}

const UNAVAILABLE: [&str; 3] = ["internal_failure", "server_error", "temporarily_unavailable"];
const UNUSUAL: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
