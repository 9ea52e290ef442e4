//! Answers of a token endpoint: a token that a header can carry and a second reader finds too, or a refusal that
//! repeats nothing secret.
//!
//! The first two bytes choose the status, the rest is the body.

#![no_main]

use bearerd::{
    clock::Clock,
    credential::{Answer, answer, endpoint::MOST_ANSWER_BYTES},
    secret::Secret,
};
use bearerd_fuzz::{seeds, target, words};
use http::{HeaderMap, HeaderValue, header};
use serde_json::Value;

target!(seeds(), |data: &[u8]| {
    let [choice, retry, body @ ..] = data else { return };
    let status = STATUSES[usize::from(*choice) % STATUSES.len()];
    let mut headers = HeaderMap::new();
    // Sometimes a part of the body is also what stands in the head.
    if retry % 4 == 1
        && let Ok(value) = HeaderValue::from_bytes(&body[..body.len().min(40)])
    {
        headers.insert(header::RETRY_AFTER, value.clone());
        headers.insert(header::DATE, value);
    }
    let sent = Clock::system().now();
    match answer::token(&Answer::new(status, &headers, Secret::new(body)), sent) {
        Ok(token) => {
            assert_eq!(status, 200);
            assert!(body.len() <= MOST_ANSWER_BYTES);
            // What stands in fields that nobody reads need not be UTF-8.
            let value: Value = match serde_json::from_str(&String::from_utf8_lossy(body)) {
                Ok(value) => value,
                // Nor need a number there be one that this reader can hold.
                Err(error) => return assert!(error.to_string().starts_with("number out of range"), "{error}"),
            };
            let text = value["access_token"].as_str().expect("a token");
            assert_eq!(token.secret.expose(), text.as_bytes());
            assert!(!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()), "{text:?} in a header");
            HeaderValue::from_str(&format!("Bearer {text}")).expect("a header value");
            assert!((60..=43_200).contains(&token.lifetime.as_secs()), "{:?}", token.lifetime);
            assert!(token.expires() > sent);
            let kind = &value["token_type"];
            assert!(kind.is_null() || kind.as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")), "{kind}");
        }
        Err(error) => {
            // Quotes are those of the debug form, never the body's.
            let text = format!("{error} {error:?}").replace('"', " ");
            assert!(text.len() < 5000, "{} bytes", text.len());
            assert!(error.to_string().chars().all(|character| !character.is_control()), "{error:?}");
            words::must_not_repeat(&text, body);
            let value: Value = serde_json::from_slice(body).unwrap_or_default();
            // With blanks in it, it may be a piece of our own sentence.
            let is_one_word = |token: &&str| token.len() > 16 && token.bytes().all(|byte| byte.is_ascii_graphic());
            let token = value["access_token"].as_str().filter(is_one_word);
            assert!(token.is_none_or(|token| !text.contains(token)), "{text}");
        }
    }
});

const STATUSES: [u16; 16] = [200, 400, 401, 403, 404, 405, 408, 425, 429, 500, 503, 204, 302, 307, 101, 999];

fn seeds() -> Vec<Vec<u8>> {
    let bodies = seeds::lines(include_str!("../seeds/token_answer.txt"));
    let with = |choice: u8, body: &[u8]| [&[choice, choice], body].concat();
    bodies.iter().enumerate().flat_map(|(index, body)| [with(0, body), with(index as u8, body)]).collect()
}
