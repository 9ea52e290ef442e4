//! What a token endpoint's answer means (pure): a token, or an error with its class.
//!
//! The endpoint is behind verified TLS, yet front ends and middleboxes answer in its place with pages,
//! fragments and floods. Nothing here trusts more than it checks.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use zeroize::Zeroizing;

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

mod derived;

pub(super) use derived::{bare_id, generated_id, impersonated, traded};

/// An answer, when the request for it was sent, and which time it was for the other side when it answered (seconds since
/// 1970).
pub(super) struct Kept<'a> {
    pub(super) answer: &'a Answer,
    pub(super) sent: Moment,
    pub(super) now: u64,
}

/// The token in `answer`, whose request was sent at `sent`.
///
/// # Errors
///
/// Whatever is not a usable token, classified.
pub fn token(answer: &Answer, sent: Moment) -> Result<Token, FetchError> {
    usable(accepted(answer)?, sent, None)
}

/// The ID token in `answer`, whose request was sent at `sent`, which was `now` (seconds since 1970) for the endpoint.
/// Its life stands in the token itself.
///
/// # Errors
///
/// Whatever is not a usable ID token, classified.
pub fn id_token(answer: &Answer, sent: Moment, now: u64) -> Result<Token, FetchError> {
    let success: IdSuccess =
        serde_json::from_slice(accepted(answer)?.expose()).map_err(|_| bad("without an ID token in JSON"))?;
    let secret = header_safe(success.id_token).ok_or_else(|| bad("without a usable `id_token`"))?;
    let expiry = id_expiry(&secret).ok_or_else(|| bad("with an `id_token` that does not say when it ends"))?;
    let lifetime = Duration::from_secs(expiry.saturating_sub(now).min(LONGEST_SECONDS as u64));
    long_enough(Token { secret, sent, lifetime })
}

/// The `exp` of a JWT, unverified: it came over a verified connection, and whoever gets it verifies it.
pub(super) fn id_expiry(token: &Secret) -> Option<u64> {
    #[derive(Deserialize)]
    struct Claims {
        exp: u64,
    }
    let mut parts = token.expose().split(|byte| *byte == b'.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    let payload = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload).ok()?);
    let claims: Claims = serde_json::from_slice(&payload).ok()?;
    parts.next().is_none().then_some(claims.exp)
}

/// The body of a success.
fn accepted(answer: &Answer) -> Result<&Secret, FetchError> {
    if answer.body.len() > MOST_ANSWER_BYTES {
        return Err(FetchError::transient(Reason::TooLarge, "the token endpoint answered more than 64 KiB"));
    }
    match answer.status {
        200 if answer.body.is_empty() => Err(bad("without a body")),
        200 => Ok(&answer.body),
        _ => Err(refusal(answer)),
    }
}

fn bad(what: &str) -> FetchError {
    FetchError::transient(Reason::BadAnswer, format!("the token endpoint answered 200 {what}"))
}

/// A token that a header can carry.
fn header_safe(text: Option<Zeroizing<String>>) -> Option<Secret> {
    let secret = Secret::new(text?.as_bytes());
    let is_safe = !secret.is_empty() && secret.len() <= MOST_TOKEN_BYTES;
    (is_safe && secret.expose().iter().all(u8::is_ascii_graphic)).then_some(secret)
}

fn long_enough(token: Token) -> Result<Token, FetchError> {
    if token.lifetime >= SHORTEST {
        return Ok(token);
    }
    let message =
        format!("the token endpoint gave a token that lives {} s, at least 60 s needed", token.lifetime.as_secs());
    Err(FetchError::transient(Reason::ShortLived, message))
}

#[derive(Deserialize)]
struct IdSuccess {
    #[serde(default, deserialize_with = "wiped")]
    id_token: Option<Zeroizing<String>>,
}

#[derive(Deserialize)]
struct Success {
    #[serde(default, deserialize_with = "wiped")]
    access_token: Option<Zeroizing<String>>,
    token_type: Option<String>,
    expires_in: Option<Seconds>,
    error: Option<String>,
}

pub(super) fn wiped<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Zeroizing<String>>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(Zeroizing::new))
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

fn usable(body: &Secret, sent: Moment, inherits: Option<Duration>) -> Result<Token, FetchError> {
    let success: Success = serde_json::from_slice(body.expose()).map_err(|_| bad("without a token in JSON"))?;
    if success.error.as_deref().is_some_and(|code| UNAVAILABLE.contains(&code)) {
        return Err(FetchError::transient(Reason::Unavailable, "the token endpoint says that it is unavailable"));
    }
    if success.access_token.is_none() {
        return Err(bad("without `access_token`"));
    }
    let secret =
        header_safe(success.access_token).ok_or_else(|| bad("with an `access_token` that no header can carry"))?;
    // RFC 6749 5.1: case does not matter. Absent is taken as Bearer, which is what was asked for.
    if success.token_type.as_deref().is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return Err(bad("with a `token_type` other than Bearer"));
    }
    let lifetime = success.expires_in.as_ref().map_or(inherits, Seconds::lifetime);
    let lifetime = lifetime.ok_or_else(|| bad("without a usable `expires_in`"))?;
    long_enough(Token { secret, sent, lifetime })
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
    FetchError::new(class, reason, sentence(ENDPOINT, answer.status, &failure))
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
        // STS: the pool or its provider is unknown, disabled or deleted.
        "invalid_target" => (Class::Configuration, Reason::InvalidRequest),
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

/// For people: who answered, the status, the code, and what is said, without anything long enough to be a secret.
fn sentence(who: &str, status: u16, failure: &Failure) -> String {
    let mut text = format!("{who} answered {status}");
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

/// The same for a refusal in the shape of `google.rpc.Status`.
fn sentence_of_status(who: &str, status: u16, code: Option<&str>, message: Option<&str>) -> String {
    let is_code = |code: &&str| code.len() <= 40 && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    let code = code.filter(is_code).map(str::to_ascii_lowercase);
    sentence(who, status, &Failure { error: code, error_description: message.map(ToOwned::to_owned) })
}

fn is_code(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte == b'_'
}

/// An assertion or a token is one long word; so is much else that has no place in a log line. What was sent is taken out
/// beside this, however short it is (`Confided`).
fn harmless(word: &str) -> &str {
    let short = word.len() <= 40 && word.bytes().all(|byte| byte.is_ascii_graphic());
    let token = word.starts_with("ya29.") || word.starts_with("eyJ");
    if short && !token { word } else { "(…)" }
}

/// Whoever exchanges assertions, subject tokens and refresh tokens.
const ENDPOINT: &str = "the token endpoint";
const UNAVAILABLE: [&str; 3] = ["internal_failure", "server_error", "temporarily_unavailable"];
const UNUSUAL: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
