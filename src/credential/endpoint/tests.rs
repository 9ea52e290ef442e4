//! The exchange over a transport that answers what a test says.

use std::sync::Mutex;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderName, HeaderValue};

use super::*;
use crate::credential::{AuthorizedUser, Class, Impersonated, Key, ServiceAccount, samples, sts::Trade};

type Script = Box<dyn FnMut(&serde_json::Value) -> Result<Answer, PostError> + Send>;

/// Decodes the assertion of each post and lets the script answer.
struct Scripted(Mutex<Script>);

impl Post for Scripted {
    fn post(&self, request: Request) -> BoxFuture<'_, Result<Answer, PostError>> {
        let endpoint = TokenEndpoint::GOOGLE;
        assert_eq!((request.host, &*request.path), (endpoint.host, endpoint.path));
        assert_eq!(endpoint.url, format!("https://{}{}", endpoint.host.as_str(), endpoint.path));
        let RequestBody::Form(form) = request.body else { panic!("a form") };
        let form = String::from_utf8(form.expose().to_vec()).unwrap();
        let assertion = form
            .strip_prefix("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=")
            .expect("the form of RFC 7523");
        let claims = assertion.split('.').nth(1).unwrap();
        let claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        let answer = (self.0.lock().unwrap())(&claims);
        Box::pin(async move { answer })
    }
}

fn exchange(script: impl FnMut(&serde_json::Value) -> Result<Answer, PostError> + Send + 'static) -> Exchange {
    Exchange::new(Arc::new(Scripted(Mutex::new(Box::new(script)))), Clock::virtual_time())
}

fn account() -> ServiceAccount {
    let scopes = ["https://www.googleapis.com/auth/a".to_owned(), "openid".to_owned()];
    ServiceAccount::new(Key::parse(samples::good(0).as_bytes()).unwrap(), &scopes, None)
}

fn answer(status: u16, date: Option<u64>, body: &str) -> Answer {
    Answer { status, date, retry_after: None, is_of_metadata_server: false, body: Secret::new(body) }
}

const TOKEN: &str = r#"{"access_token":"ya29.token","expires_in":3599,"token_type":"Bearer"}"#;
const WRONG_TIME: &str = r#"{"error":"invalid_grant","error_description":"Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values"}"#;

#[tokio::test(start_paused = true)]
async fn an_assertion_is_exchanged_for_a_token() {
    let exchange = exchange(|claims| {
        assert_eq!(claims["iss"], "robot@demo.iam.gserviceaccount.com");
        assert_eq!(claims["scope"], "https://www.googleapis.com/auth/a openid");
        assert_eq!(claims["aud"], "https://oauth2.googleapis.com/token");
        assert!(claims.get("sub").is_none());
        Ok(answer(200, None, TOKEN))
    });
    let token = account().access_token(&exchange).await.unwrap();
    assert_eq!(token.secret.expose(), b"ya29.token");
    assert_eq!(token.expires(), exchange.clock.now() + Duration::from_secs(3599));
}

#[tokio::test(start_paused = true)]
async fn a_wrong_clock_is_corrected_once_from_the_date() {
    for difference in [-86_000_i64, -3_600, 3_600, 86_000] {
        let wall = Clock::virtual_time().wall().seconds();
        let server = wall.saturating_add_signed(difference);
        let posts = Arc::new(Mutex::new(0));
        let counted = posts.clone();
        let exchange = exchange(move |claims| {
            *counted.lock().unwrap() += 1;
            let iat = claims["iat"].as_u64().unwrap();
            let right = iat.abs_diff(server) <= 60;
            Ok(answer(if right { 200 } else { 400 }, Some(server), if right { TOKEN } else { WRONG_TIME }))
        });
        // Samples from before the clock jumped.
        for _ in 0..5 {
            exchange.skew.observe(exchange.clock.wall(), wall, Duration::ZERO);
        }
        assert!(account().access_token(&exchange).await.is_ok(), "{difference} s");
        assert_eq!(*posts.lock().unwrap(), 2);
        assert!(account().access_token(&exchange).await.is_ok());
        assert_eq!(*posts.lock().unwrap(), 3, "the correction is kept");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_time_without_explanation_is_not_retried_here() {
    for date in [None, Some(0), Some(4_000_000_000), Some(Clock::virtual_time().wall().seconds())] {
        let posts = Arc::new(Mutex::new(0));
        let counted = posts.clone();
        let exchange = exchange(move |_| {
            *counted.lock().unwrap() += 1;
            Ok(answer(400, date, WRONG_TIME))
        });
        let error = account().access_token(&exchange).await.unwrap_err();
        assert_eq!(error.class, Class::Clock);
        assert_eq!(*posts.lock().unwrap(), 1, "date {date:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_endpoint_is_given_up_after_ten_seconds() {
    struct Silent;
    impl Post for Silent {
        fn post(&self, _: Request) -> BoxFuture<'_, Result<Answer, PostError>> {
            Box::pin(std::future::pending())
        }
    }
    let exchange = Exchange::new(Arc::new(Silent), Clock::virtual_time());
    let begin = exchange.clock.now();
    let error = account().access_token(&exchange).await.unwrap_err();
    assert_eq!((error.class, error.reason), (Class::TRANSIENT, Reason::Timeout));
    assert_eq!(begin.until(exchange.clock.now()), EXCHANGE_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn failures_of_the_transport_are_transient_and_keep_their_reason() {
    for (failure, reason) in [
        (PostFailure::Dns, Reason::Dns),
        (PostFailure::Connect, Reason::Connect),
        (PostFailure::Timeout, Reason::Timeout),
        (PostFailure::Tls, Reason::Tls),
        (PostFailure::Certificate, Reason::Certificate),
        (PostFailure::Reset, Reason::Reset),
        (PostFailure::TooLarge, Reason::TooLarge),
    ] {
        let exchange = exchange(move |_| Err(PostError::new(failure, "10.0.0.1:443: no luck")));
        let error = account().access_token(&exchange).await.unwrap_err();
        assert_eq!((error.class, error.reason), (Class::TRANSIENT, reason));
        assert_eq!(error.to_string(), "oauth2.googleapis.com: 10.0.0.1:443: no luck");
    }
}

/// Repeats all that it was sent, in words as short as are repeated.
struct Echo(fn(String) -> String, usize);

impl Post for Echo {
    fn post(&self, request: Request) -> BoxFuture<'_, Result<Answer, PostError>> {
        let mut sent = match &request.body {
            RequestBody::Form(form) => String::from_utf8(form.expose().to_vec()).unwrap(),
            RequestBody::Json(json) => json.clone(),
        };
        sent.push('&');
        sent.extend(request.bearer.iter().map(|bearer| String::from_utf8(bearer.expose().to_vec()).unwrap()));
        let plain = percent_encoding::percent_decode_str(&sent).decode_utf8().unwrap().into_owned();
        let words = |text: &str| {
            let pieces: Vec<String> = text.split('&').flat_map(|field| pieces(field, self.1)).collect();
            pieces.join(" ")
        };
        let body = (self.0)(format!("Bad Request: {} {}", words(&sent), words(&plain)));
        Box::pin(async move { Ok(answer(400, None, &body)) })
    }
}

fn pieces(text: &str, size: usize) -> Vec<String> {
    text.as_bytes().chunks(size).map(|piece| String::from_utf8_lossy(piece).into_owned()).collect()
}

fn oauth(said: String) -> String {
    serde_json::json!({ "error": "invalid_grant", "error_description": said }).to_string()
}

fn rpc(said: String) -> String {
    serde_json::json!({ "error": { "status": "INVALID_ARGUMENT", "message": said } }).to_string()
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_repeats_what_it_was_sent_does_not_get_it_into_a_message() {
    let person = serde_json::json!({
        "type": "authorized_user", "client_id": "me.apps", "client_secret": "hunter2/of-mine",
        "refresh_token": "1//0gShortButSecret", "universe_domain": "googleapis.com",
    });
    let person = AuthorizedUser::load(person.to_string().as_bytes(), &[]).unwrap();
    let impersonated = Impersonated {
        account: "a@b.iam.gserviceaccount.com".to_owned(),
        delegates: Vec::new(),
        scopes: vec!["https://www.googleapis.com/auth/a".to_owned()],
        lifetime: Duration::from_secs(3600),
    };
    let subject_token = Secret::new("subject/token/of/a-cluster");
    let account = account();
    for size in [7, 31] {
        let exchange = |shape| Exchange::new(Arc::new(Echo(shape, size)), Clock::virtual_time());
        let trade = Trade {
            subject_token: &subject_token,
            subject_token_type: "urn:ietf:params:oauth:token-type:jwt",
            audience: Some("//iam.googleapis.com/a"),
            scope: None,
            options: None,
            inherits: None,
        };
        let bearer = Secret::new("ya29.a-token-of-the-source");
        for (what, error) in [
            ("refresh token", person.access(&exchange(oauth)).await.unwrap_err()),
            ("assertion", account.access_token(&exchange(oauth)).await.unwrap_err()),
            ("subject token", trade.token(&exchange(oauth)).await.unwrap_err()),
            ("bearer", impersonated.access(bearer, &exchange(rpc)).await.unwrap_err()),
        ] {
            let said = error.message;
            assert!(said.contains("400 invalid_") && said.contains(": Bad Request: "), "{what}: {said}");
            for secret in ["hunter2", "mine", "0gShort", "Secret", "ya29", "source", "subject/", "luster", "eyJ"] {
                assert!(!said.contains(secret), "{what}: {said}");
            }
        }
    }
}

#[test]
fn retry_after_is_read_as_seconds_and_as_a_date() {
    let read = |pairs: &[(HeaderName, &str)]| {
        let headers = pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()));
        Answer::new(503, &headers.collect(), Secret::new("")).retry_after.map(|wait| wait.as_secs())
    };
    let now = (header::DATE, "Tue, 15 Nov 1994 08:12:31 GMT");
    for (value, seconds) in [
        ("120", Some(120)),
        ("0", Some(0)),
        (" 7 ", Some(7)),
        ("-1", None),
        ("soon", None),
        ("99999999999999999999999", None),
        ("Tue, 15 Nov 1994 08:14:31 GMT", Some(120)),
        ("Tue, 15 Nov 1994 08:00:00 GMT", Some(0)),
    ] {
        assert_eq!(read(&[now.clone(), (header::RETRY_AFTER, value)]), seconds, "{value}");
    }
    let lonely = (header::RETRY_AFTER, "Tue, 15 Nov 1994 08:14:31 GMT");
    assert_eq!(read(&[lonely]), None, "a date needs the server's own clock");
}

/// What says of itself when it ends, by a server whose clock differs from ours.
struct Ending {
    server: u64,
}

impl Ending {
    fn answer(&self, body: String) -> BoxFuture<'_, Result<Answer, PostError>> {
        let answer = Answer { is_of_metadata_server: true, ..answer(200, Some(self.server), &body) };
        Box::pin(async { Ok(answer) })
    }

    fn id_token(&self) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(format!(r#"{{"exp":{}}}"#, self.server + 1800)))
    }
}

impl Post for Ending {
    fn post(&self, request: Request) -> BoxFuture<'_, Result<Answer, PostError>> {
        let end = jiff::Timestamp::from_second(i64::try_from(self.server).unwrap() + 1800).unwrap();
        let body = match request.path.rsplit(':').next().unwrap() {
            "generateAccessToken" => format!(r#"{{"accessToken":"ya29.x","expireTime":"{end}"}}"#),
            "generateIdToken" => format!(r#"{{"token":"{}"}}"#, self.id_token()),
            _ => format!(r#"{{"id_token":"{}"}}"#, self.id_token()),
        };
        self.answer(body)
    }

    fn get(&self, _: Get) -> BoxFuture<'_, Result<Answer, PostError>> {
        self.answer(self.id_token())
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_says_when_it_ends_ends_then_whatever_our_clock_says() {
    let account_of = |name: &str| Impersonated {
        account: name.to_owned(),
        delegates: Vec::new(),
        scopes: vec!["a".to_owned()],
        lifetime: Duration::from_secs(1800),
    };
    let whom = account_of("a@p.iam.gserviceaccount.com");
    for difference in [-86_000_i64, -3_600, -240, 0, 240, 3_600, 86_000] {
        for what in ["generateAccessToken", "generateIdToken", "jwt-bearer", "metadata"] {
            let clock = Clock::virtual_time();
            let server = clock.wall().seconds().saturating_add_signed(difference);
            let exchange = Exchange::new(Arc::new(Ending { server }), clock);
            let bearer = Secret::new("ya29.source");
            let token = match what {
                "generateAccessToken" => whom.access(bearer, &exchange).await,
                "generateIdToken" => whom.id("https://a.run.app", bearer, &exchange).await,
                "jwt-bearer" => account().id_token("https://a.run.app", &exchange).await,
                _ => crate::credential::metadata_server::id("https://a.run.app", &exchange).await,
            };
            let life = token.unwrap().lifetime.as_secs();
            assert!((1798..=1801).contains(&life), "{what} {difference}: {life}");
            // What comes without TLS corrects no clock.
            let learnt = if what == "metadata" { 0 } else { difference };
            assert!((exchange.skew.offset_seconds() - learnt).abs() <= 1, "{what} {difference}");
        }
    }
}
