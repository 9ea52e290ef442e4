//! What STS, `iamcredentials` and a metadata server answer (pure): their shapes, and what their refusals mean.

use std::time::Duration;

use serde::Deserialize;
use zeroize::Zeroizing;

use super::{ENDPOINT, Kept, accepted, bad, header_safe, id_expiry, long_enough, sentence_of_status, usable, wiped};
use crate::{
    credential::{Answer, Class, FetchError, Reason, Token},
    secret::Secret,
};

/// The token of a token exchange (RFC 8693 §2.2.1). Without `expires_in` it lives as long as what was exchanged.
pub(in crate::credential) fn traded(kept: &Kept<'_>, inherits: Option<Duration>) -> Result<Token, FetchError> {
    // What stands before STS refuses in Google's own shape: an API that is switched off, a perimeter.
    let body = if kept.answer.status != 200 && status_of(kept.answer).is_some() {
        granted(kept, ENDPOINT)?
    } else {
        accepted(kept.answer)?
    };
    let token = usable(body, kept.sent, inherits)?;
    // Google may say more than what it was made of has left; nobody takes it that long.
    let lifetime = inherits.map_or(token.lifetime, |most| token.lifetime.min(most));
    long_enough(Token { lifetime, ..token })
}

/// The token of `generateAccessToken`.
pub(in crate::credential) fn impersonated(kept: &Kept<'_>) -> Result<Token, FetchError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Success {
        #[serde(default, deserialize_with = "wiped")]
        access_token: Option<Zeroizing<String>>,
        expire_time: Option<String>,
    }
    let body = granted(kept, IAM)?;
    let success: Success = serde_json::from_slice(body.expose()).map_err(|_| bad("without a token in JSON"))?;
    let secret = header_safe(success.access_token).ok_or_else(|| bad("without a usable `accessToken`"))?;
    let end: Option<jiff::Timestamp> = success.expire_time.and_then(|time| time.parse().ok());
    let end = end.and_then(|end| u64::try_from(end.as_second()).ok());
    let end = end.ok_or_else(|| bad("without a usable `expireTime`"))?;
    until(secret, end, kept)
}

/// The token of `generateIdToken`.
pub(in crate::credential) fn generated_id(kept: &Kept<'_>) -> Result<Token, FetchError> {
    #[derive(Deserialize)]
    struct Success {
        #[serde(default, deserialize_with = "wiped")]
        token: Option<Zeroizing<String>>,
    }
    let body = granted(kept, IAM)?;
    let success: Success = serde_json::from_slice(body.expose()).map_err(|_| bad("without a token in JSON"))?;
    id(header_safe(success.token), kept)
}

/// An ID token that is the whole body.
pub(in crate::credential) fn bare_id(kept: &Kept<'_>) -> Result<Token, FetchError> {
    let text = std::str::from_utf8(accepted(kept.answer)?.expose()).map_err(|_| bad("without an ID token"))?;
    id(header_safe(Some(Zeroizing::new(text.trim().to_owned()))), kept)
}

fn id(secret: Option<Secret>, kept: &Kept<'_>) -> Result<Token, FetchError> {
    let secret = secret.ok_or_else(|| bad("without a usable ID token"))?;
    let end = id_expiry(&secret).ok_or_else(|| bad("with an ID token that does not say when it ends"))?;
    until(secret, end, kept)
}

fn until(secret: Secret, end: u64, kept: &Kept<'_>) -> Result<Token, FetchError> {
    let lifetime = Duration::from_secs(end.saturating_sub(kept.now).min(super::LONGEST_SECONDS as u64));
    long_enough(Token { secret, sent: kept.sent, lifetime })
}

/// The body of a success where refusals are `google.rpc.Status` (AIP-193).
fn granted<'a>(kept: &'a Kept<'_>, who: &str) -> Result<&'a Secret, FetchError> {
    let answer = kept.answer;
    let (class, reason) = match answer.status {
        200 => return accepted(answer),
        // Bindings need minutes to be known, so that a refusal is not the last word.
        403 => (Class::Key, Reason::PermissionDenied),
        404 => (Class::Key, Reason::AccountNotFound),
        400 => (Class::Configuration, Reason::InvalidRequest),
        // The token that we asked with is the source's, which refreshes it.
        401 => (Class::TRANSIENT, Reason::Unauthorized),
        429 => (Class::Transient { retry_after: answer.retry_after }, Reason::RateLimited),
        300..=399 => (Class::TRANSIENT, Reason::Redirect),
        _ => (Class::Transient { retry_after: answer.retry_after }, Reason::Unavailable),
    };
    let Status { status, message } = status_of(answer).unwrap_or_default();
    Err(FetchError::new(class, reason, sentence_of_status(who, answer.status, status.as_deref(), message.as_deref())))
}

/// Who refuses an impersonation, apart from who refused or took what it is made of.
const IAM: &str = "iamcredentials.googleapis.com";

#[derive(Deserialize, Default)]
struct Status {
    status: Option<String>,
    message: Option<String>,
}

fn status_of(answer: &Answer) -> Option<Status> {
    #[derive(Deserialize)]
    struct Failure {
        error: Status,
    }
    serde_json::from_slice::<Failure>(answer.body.expose()).ok().map(|failure| failure.error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, date: None, retry_after: None, is_of_metadata_server: false, body: Secret::new(body) }
    }

    fn read(
        status: u16,
        body: &str,
        read: impl Fn(&Kept<'_>) -> Result<Token, FetchError>,
    ) -> Result<(Vec<u8>, u64), (Class, Reason)> {
        let answer = answer(status, body);
        let kept = Kept { answer: &answer, sent: Clock::system().now(), now: 1_700_000_000 };
        let token = read(&kept).map_err(|error| (error.class, error.reason))?;
        Ok((token.secret.expose().to_vec(), token.lifetime.as_secs()))
    }

    #[test]
    fn a_traded_token_never_outlives_what_it_was_made_of() {
        let minutes = |minutes: u64| Some(Duration::from_secs(60 * minutes));
        for (body, inherits, expected) in [
            (r#"{"access_token":"t","expires_in":3599}"#, None, Ok(3599)),
            (r#"{"access_token":"t","expires_in":3599}"#, minutes(10), Ok(600)),
            (r#"{"access_token":"t"}"#, minutes(10), Ok(600)),
            (r#"{"access_token":"t"}"#, None, Err(Reason::BadAnswer)),
            (r#"{"access_token":"t"}"#, Some(Duration::from_secs(30)), Err(Reason::ShortLived)),
            (r#"{"expires_in":3599}"#, None, Err(Reason::BadAnswer)),
            (r#"{"access_token":"t","expires_in":3599,"token_type":"N_A"}"#, None, Err(Reason::BadAnswer)),
            (r#"{"access_token":"t","expires_in":"3599"}"#, None, Ok(3599)),
            (r#"{"access_token":"t t","expires_in":3599}"#, None, Err(Reason::BadAnswer)),
            ("<html>", minutes(10), Err(Reason::BadAnswer)),
            ("", minutes(10), Err(Reason::BadAnswer)),
        ] {
            let got = read(200, body, |kept| traded(kept, inherits));
            assert_eq!(got.map(|(_, life)| life).map_err(|(_, reason)| reason), expected, "{body}");
        }
    }

    #[test]
    fn refusals_of_sts_are_classified() {
        for (status, body, class, reason) in [
            (400, r#"{"error":"invalid_target"}"#, Class::Configuration, Reason::InvalidRequest),
            (400, r#"{"error":"invalid_request"}"#, Class::Configuration, Reason::InvalidRequest),
            (400, r#"{"error":"invalid_grant"}"#, Class::Key, Reason::InvalidGrant),
            (401, r#"{"error":"unauthorized_client"}"#, Class::Key, Reason::Unauthorized),
            (403, r#"{"error":{"status":"PERMISSION_DENIED","message":"x"}}"#, Class::Key, Reason::PermissionDenied),
            (429, r#"{"error":{"status":"RESOURCE_EXHAUSTED"}}"#, Class::TRANSIENT, Reason::RateLimited),
            (503, r#"{"error":{"status":"UNAVAILABLE"}}"#, Class::TRANSIENT, Reason::Unavailable),
            (500, "<html>", Class::TRANSIENT, Reason::Unavailable),
            (302, "", Class::TRANSIENT, Reason::Redirect),
        ] {
            assert_eq!(read(status, body, |kept| traded(kept, None)), Err((class, reason)), "{status} {body}");
        }
    }

    #[test]
    fn id_tokens_say_when_they_end() {
        use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
        let jwt = |claims: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        let good = jwt(r#"{"exp":1700003600}"#);
        let life = |got: Result<(Vec<u8>, u64), (Class, Reason)>| got.map(|(_, life)| life).map_err(|(_, why)| why);
        for (text, expected) in [
            (good.clone(), Ok(3600)),
            (format!("{good}\n"), Ok(3600)),
            (jwt(r#"{"exp":1700000010}"#), Err(Reason::ShortLived)),
            (jwt(r#"{"exp":1}"#), Err(Reason::ShortLived)),
            (jwt("{}"), Err(Reason::BadAnswer)),
            (jwt(r#"{"exp":"soon"}"#), Err(Reason::BadAnswer)),
            ("not a token".to_owned(), Err(Reason::BadAnswer)),
            (String::new(), Err(Reason::BadAnswer)),
        ] {
            assert_eq!(life(read(200, &text, bare_id)), expected, "{text}");
            let body = serde_json::json!({ "token": text.trim() }).to_string();
            assert_eq!(life(read(200, &body, generated_id)), expected, "{text}");
        }
        assert_eq!(life(read(200, r#"{"id_token":"x"}"#, generated_id)), Err(Reason::BadAnswer));
    }

    #[test]
    fn an_impersonated_token_ends_when_it_says() {
        let good = r#"{"accessToken":"ya29.x","expireTime":"2023-11-14T23:13:20Z"}"#;
        assert_eq!(read(200, good, impersonated), Ok((b"ya29.x".to_vec(), 3600)));
        for body in [
            "{}",
            r#"{"accessToken":"ya29.x"}"#,
            r#"{"accessToken":"ya29.x","expireTime":"tomorrow"}"#,
            r#"{"accessToken":"a b","expireTime":"2023-11-14T23:13:20Z"}"#,
            r#"{"expireTime":"2023-11-14T23:13:20Z"}"#,
        ] {
            assert_eq!(read(200, body, impersonated), Err((Class::TRANSIENT, Reason::BadAnswer)), "{body}");
        }
        let spent = r#"{"accessToken":"ya29.x","expireTime":"2023-11-14T22:13:30Z"}"#;
        assert_eq!(read(200, spent, impersonated), Err((Class::TRANSIENT, Reason::ShortLived)));
    }

    #[test]
    fn refusals_of_iam_are_classified() {
        for (status, class, reason) in [
            (403, Class::Key, Reason::PermissionDenied),
            (404, Class::Key, Reason::AccountNotFound),
            (400, Class::Configuration, Reason::InvalidRequest),
            (401, Class::TRANSIENT, Reason::Unauthorized),
            (429, Class::TRANSIENT, Reason::RateLimited),
            (302, Class::TRANSIENT, Reason::Redirect),
            (500, Class::TRANSIENT, Reason::Unavailable),
            (503, Class::TRANSIENT, Reason::Unavailable),
        ] {
            let body = r#"{"error":{"code":403,"status":"PERMISSION_DENIED","message":"Permission denied"}}"#;
            assert_eq!(read(status, body, impersonated), Err((class, reason)), "{status}");
            assert_eq!(read(status, "<html>", generated_id), Err((class, reason)), "{status}");
        }
    }
    #[test]
    fn a_refusal_names_who_refused() {
        let body = r#"{"error":{"code":403,"status":"PERMISSION_DENIED","message":"Permission denied"}}"#;
        let answer = answer(403, body);
        let kept = Kept { answer: &answer, sent: Clock::system().now(), now: 1_700_000_000 };
        let said = |error: FetchError| error.message;
        assert_eq!(
            (impersonated(&kept).map_err(said).err(), traded(&kept, None).map_err(said).err()),
            (
                Some("iamcredentials.googleapis.com answered 403 permission_denied: Permission denied".to_owned()),
                Some("the token endpoint answered 403 permission_denied: Permission denied".to_owned()),
            )
        );
    }
}
