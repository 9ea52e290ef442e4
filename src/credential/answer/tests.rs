//! Every kind of answer that has been seen, and some that only an attacker sends.

use super::*;
use crate::clock::Clock;

fn judge(status: u16, body: &str) -> Result<Token, FetchError> {
    judge_after(status, body, None)
}

fn judge_after(status: u16, body: &str, retry_after: Option<u64>) -> Result<Token, FetchError> {
    let retry_after = retry_after.map(Duration::from_secs);
    let answer = Answer { status, date: None, retry_after, is_of_metadata_server: false, body: Secret::new(body) };
    token(&answer, Clock::system().now())
}

fn success(expires_in: &str) -> String {
    format!(r#"{{"access_token":"ya29.c.abc..","expires_in":{expires_in},"token_type":"Bearer"}}"#)
}

#[test]
fn lifetimes_are_read_from_numbers_and_text_and_clamped() {
    for (written, seconds) in [
        ("3599", 3599),
        ("\"3599\"", 3599),
        ("3599.7", 3599),
        ("60", 60),
        ("1e99", 43_200),
        ("9223372036854775808", 43_200),
        ("43201", 43_200),
    ] {
        let token = judge(200, &success(written)).unwrap_or_else(|error| panic!("{written}: {error}"));
        assert_eq!(token.lifetime.as_secs(), seconds, "{written}");
        assert_eq!(token.secret.expose(), b"ya29.c.abc..", "padding dots stay");
    }
    for written in ["0", "-1", "1", "59", "59.9", "\"0\"", "\"-5\"", "\"NaN\""] {
        assert_eq!(judge(200, &success(written)).unwrap_err().reason, Reason::ShortLived, "{written}");
    }
    for written in ["null", "\"soon\"", "true", "[]", "{}"] {
        assert_eq!(judge(200, &success(written)).unwrap_err().reason, Reason::BadAnswer, "{written}");
    }
}

#[test]
fn a_200_without_a_usable_token_is_transient() {
    let long = format!(r#"{{"access_token":"{}","expires_in":3599}}"#, "a".repeat(20_000));
    let deep = format!("{{\"a\":{}", "[".repeat(60_000));
    let bodies = [
        "",
        "<html>",
        "{",
        "null",
        "[]",
        "{}",
        r#"{"access_token":"ya29.x""#,
        r#"{"access_token":"","expires_in":3599}"#,
        r#"{"access_token":7,"expires_in":3599}"#,
        r#"{"access_token":null,"expires_in":3599}"#,
        r#"{"access_token":"a b","expires_in":3599}"#,
        r#"{"access_token":"a\r\nX: y","expires_in":3599}"#,
        r#"{"access_token":"a\u0000","expires_in":3599}"#,
        r#"{"access_token":"ä","expires_in":3599}"#,
        r#"{"access_token":"a"}"#,
        r#"{"access_token":"a","access_token":"b","expires_in":3599}"#,
        r#"{"access_token":"a","expires_in":3599,"token_type":"MAC"}"#,
        r#"{"id_token":"eyJ.e.s","expires_in":3599}"#,
        &long,
        &deep,
    ];
    for body in bodies {
        let error = judge(200, body).unwrap_err();
        assert_eq!((error.class, error.reason), (Class::TRANSIENT, Reason::BadAnswer), "{body:.80}");
    }
    let flood = " ".repeat(MOST_ANSWER_BYTES + 1);
    assert_eq!(judge(200, &flood).unwrap_err().reason, Reason::TooLarge);
    assert!(judge(200, r#"{"access_token":"a","expires_in":3599,"token_type":"bearer"}"#).is_ok());
    assert!(judge(200, r#"{"access_token":"a","expires_in":3599}"#).is_ok());
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn every_answer_has_its_class() {
    const T: Class = Class::TRANSIENT;
    let grant = |text: &str| format!(r#"{{"error":"invalid_grant","error_description":"{text}"}}"#);
    let code = |code: &str| format!(r#"{{"error":"{code}"}}"#);
    let table: Vec<(u16, String, Class, Reason)> = vec![
        (400, grant("Invalid JWT Signature."), Class::Key, Reason::InvalidSignature),
        (
            400,
            grant("Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."),
            Class::Clock,
            Reason::Clock,
        ),
        (400, grant("Invalid grant: account not found"), Class::Key, Reason::AccountNotFound),
        (400, grant("Invalid JWT: No valid verifier found for issuer."), Class::Key, Reason::AccountNotFound),
        (400, grant("The account has been deleted"), Class::Key, Reason::AccountNotFound),
        (
            400,
            grant("Invalid JWT: Failed audience check. The right audience is https://x"),
            Class::Configuration,
            Reason::InvalidRequest,
        ),
        (400, grant("Robot is disabled."), Class::Key, Reason::AccountDisabled),
        (400, grant("Invalid issuer: Not a service account."), Class::Key, Reason::InvalidGrant),
        (400, grant(""), Class::Key, Reason::InvalidGrant),
        (400, code("invalid_grant"), Class::Key, Reason::InvalidGrant),
        (400, r#"{"error":"invalid_grant","error_description":null}"#.into(), Class::Key, Reason::InvalidGrant),
        (401, code("invalid_client"), Class::Key, Reason::InvalidClient),
        (401, code("deleted_client"), Class::Key, Reason::InvalidClient),
        (401, code("disabled_client"), Class::Key, Reason::InvalidClient),
        (401, code("unauthorized_client"), Class::Key, Reason::Unauthorized),
        (400, code("access_denied"), Class::Key, Reason::Unauthorized),
        (401, code("access_denied"), Class::Key, Reason::Unauthorized),
        (400, code("admin_policy_enforced"), Class::Key, Reason::Unauthorized),
        (403, code("org_internal"), Class::Key, Reason::Unauthorized),
        (400, code("invalid_scope"), Class::Key, Reason::InvalidScope),
        (400, code("invalid_request"), Class::Configuration, Reason::InvalidRequest),
        (400, code("unsupported_grant_type"), Class::Configuration, Reason::InvalidRequest),
        (404, "<html>".into(), Class::Configuration, Reason::InvalidRequest),
        (405, String::new(), Class::Configuration, Reason::InvalidRequest),
        (400, code("internal_failure"), T, Reason::Unavailable),
        (400, code("server_error"), T, Reason::Unavailable),
        (400, code("temporarily_unavailable"), T, Reason::Unavailable),
        (400, r#"{"error":"x","error_description":"internal_failure"}"#.into(), T, Reason::Unavailable),
        (200, code("temporarily_unavailable"), T, Reason::Unavailable),
        (404, code("server_error"), T, Reason::Unavailable),
        (500, code("internal_failure"), T, Reason::Unavailable),
        (408, String::new(), T, Reason::Unavailable),
        (425, String::new(), T, Reason::Unavailable),
        (429, String::new(), T, Reason::RateLimited),
        (429, code("rate_limit_exceeded"), T, Reason::RateLimited),
        (403, "<html>unusual traffic".into(), Class::Transient { retry_after: Some(UNUSUAL) }, Reason::RateLimited),
        (403, code("something_new"), T, Reason::Unknown),
        (400, code("something_new"), T, Reason::Unknown),
        (400, "{}".into(), T, Reason::Unknown),
        (400, "<html>".into(), T, Reason::Unknown),
        (400, r#"{"error":{"code":400,"status":"INVALID_ARGUMENT"}}"#.into(), T, Reason::Unknown),
        (401, String::new(), T, Reason::Unknown),
        (407, String::new(), T, Reason::Unknown),
        (402, String::new(), T, Reason::Unknown),
        (418, String::new(), T, Reason::Unknown),
        (451, String::new(), T, Reason::Unknown),
        (100, String::new(), T, Reason::Unknown),
        (101, String::new(), T, Reason::Unknown),
        (201, success("3599"), T, Reason::Unknown),
        (204, String::new(), T, Reason::Unknown),
        (206, success("3599"), T, Reason::Unknown),
        (301, String::new(), T, Reason::Redirect),
        (302, success("3599"), T, Reason::Redirect),
        (307, String::new(), T, Reason::Redirect),
        (308, code("invalid_grant"), T, Reason::Redirect),
        (500, String::new(), T, Reason::Unavailable),
        (501, String::new(), T, Reason::Unavailable),
        (502, "<html>".into(), T, Reason::Unavailable),
        (503, String::new(), T, Reason::Unavailable),
        (504, String::new(), T, Reason::Unavailable),
        (529, code("invalid_grant"), T, Reason::Unavailable),
        (599, String::new(), T, Reason::Unavailable),
        (600, String::new(), T, Reason::Unknown),
        (999, String::new(), T, Reason::Unknown),
    ];
    assert!(table.len() >= 60);
    for (status, body, class, reason) in table {
        let error = judge(status, &body).unwrap_err();
        assert_eq!((error.class, error.reason), (class, reason), "{status} {body}");
    }
    let hinted = judge_after(503, "", Some(7)).unwrap_err();
    assert_eq!(hinted.class, Class::Transient { retry_after: Some(Duration::from_secs(7)) });
}

#[test]
fn messages_repeat_words_but_nothing_that_could_be_a_secret() {
    let assertion = format!("eyJhbGciOiJSUzI1NiJ9.{}.{}", "e".repeat(300), "s".repeat(342));
    let body =
        format!(r#"{{"error":"invalid_grant","error_description":"Bad {assertion} and ya29.short\n\u001b[31m é."}}"#);
    let message = judge(400, &body).unwrap_err().message;
    assert_eq!(message, "the token endpoint answered 400 invalid_grant: Bad (…) and (…) (…) (…)");
    let code = format!(r#"{{"error":"{assertion}"}}"#);
    assert_eq!(judge(400, &code).unwrap_err().message, "the token endpoint answered 400");
    let known = r#"{"error":"invalid_grant","error_description":"Invalid JWT Signature."}"#;
    let message = judge(400, known).unwrap_err().message;
    assert_eq!(message, "the token endpoint answered 400 invalid_grant: Invalid JWT Signature");
}
