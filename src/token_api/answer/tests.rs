use std::time::Duration;

use super::*;

const ISSUED: u64 = 1_772_323_199;

fn handout(token: &str) -> Handout<'_> {
    let wall = |seconds, milliseconds| Wall(Duration::from_millis(seconds * 1000 + milliseconds));
    Handout::new(token, wall(ISSUED, 250), wall(ISSUED + 3600, 250), 3599)
}

#[test]
fn every_field_is_what_its_name_says() {
    for (field, value) in [
        (Field::Token, Value::from("ya29.x")),
        (Field::TokenType, "Bearer".into()),
        (Field::IssuedAtMs, 1_772_323_199_250_u64.into()),
        (Field::IssuedAtSeconds, 1_772_323_199_u64.into()),
        (Field::ExpiresAtMs, 1_772_326_799_250_u64.into()),
        (Field::ExpiresAtSeconds, 1_772_326_799_u64.into()),
        (Field::ExpiresInSeconds, 3599.into()),
        (Field::ExpiresAt, "2026-03-01T00:59:59Z".into()),
    ] {
        let mapping = Mapping(vec![("a".to_owned(), Field::Token), ("b".to_owned(), field)]);
        let written: Value = serde_json::from_str(&handout("ya29.x").written(FileFormat::Json, &mapping)).unwrap();
        assert_eq!((&written["a"], &written["b"]), (&Value::from("ya29.x"), &value), "{field:?}");
    }
}

#[test]
fn the_default_is_the_answer_of_a_token_endpoint_and_raw_is_the_token_alone() {
    let written: Value =
        serde_json::from_str(&handout("ya29.x").written(FileFormat::Json, &Mapping::default())).unwrap();
    assert_eq!(written, serde_json::json!({"access_token": "ya29.x", "expires_in": 3599, "token_type": "Bearer"}));
    assert_eq!(handout("ya29.x").written(FileFormat::Raw, &Mapping::default()), "ya29.x");
}

#[test]
fn a_jwt_tells_its_own_times_and_what_only_looks_like_one_does_not() {
    let jwt = |claims: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
    for (token, issued, expires) in [
        (jwt(r#"{"iat":5,"exp":3605}"#), 5, 3605),
        (jwt(r#"{"iat":5}"#), ISSUED, ISSUED + 3600),
        (jwt(r#"{"iat":"5","exp":3605}"#), ISSUED, ISSUED + 3600),
        (jwt("[]"), ISSUED, ISSUED + 3600),
        (jwt("no json"), ISSUED, ISSUED + 3600),
        (format!("{}.x", jwt(r#"{"iat":5,"exp":3605}"#)), ISSUED, ISSUED + 3600),
        ("ya29.c.b0AXv0zTO".to_owned(), ISSUED, ISSUED + 3600),
        ("opaque".to_owned(), ISSUED, ISSUED + 3600),
    ] {
        let handout = handout(&token);
        assert_eq!((handout.issued.seconds(), handout.expires.seconds()), (issued, expires), "{token}");
    }
}

#[test]
fn answers_are_for_nobodys_cache_and_refusals_have_words_of_their_own() {
    let mut labels: Vec<_> = Refusal::ALL.iter().map(|refusal| refusal.label()).chain([SHORT_LIVED]).collect();
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels.len(), Refusal::ALL.len() + 1);
    for refusal in Refusal::ALL {
        let answer: Answer = refusal.into();
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        assert_eq!((header("cache-control"), header("x-bearerd-error")), ("no-store", refusal.label()));
        assert_eq!(header("allow") == "GET", answer.status() == 405);
    }
    let answer = handout("t").answer(FileFormat::Raw, &Mapping::default());
    assert_eq!(answer.headers()["content-type"], "text/plain; charset=utf-8");
    let late = Unavailable { retry_after_seconds: 5, reason: "no_key", message: "no key yet".to_owned() };
    let answer = unavailable(&late);
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()), (503, "5"));
}
