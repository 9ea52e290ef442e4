//! `POST https://oauth2.googleapis.com/token`: assertions judged, tokens issued, trouble on demand.

use std::{io, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde_json::json;
use tokio::sync::watch;

use super::{
    accounts::{Now, Refusal},
    body::{self, Body},
    identities,
    record::{Exchange, Outcome},
    script::{Outage, Script},
    server::Abort,
    state::{State, lock},
    tokens::Wish,
};

/// Names in the hello that mean the token endpoint alone.
pub(super) const HOSTS: &[&str] = &["oauth2.googleapis.com"];

/// Whether this place is a token endpoint, today's or one of the two that old key files name.
pub(super) fn is_for(authority: &str, path: &str) -> bool {
    HOSTS.contains(&authority) || ENDPOINTS.contains(&(authority, path))
}

pub(super) async fn answer(
    request: Request<Incoming>,
    authority: &str,
    state: &Arc<State>,
) -> Result<Response<Body>, Abort> {
    let path = request.uri().path().to_owned();
    if !ENDPOINTS.contains(&(authority, path.as_str())) || request.method() != Method::POST {
        return Ok(page(StatusCode::NOT_FOUND));
    }
    let mut exchange = Exchange {
        number: 0,
        account: None,
        key_id: None,
        outcome: Outcome::Outage,
        version: request.version(),
        authorization: request.headers().contains_key(header::AUTHORIZATION),
        at: state.clock.now(),
    };
    let script = state.script();
    if !script.token_delay.is_zero() {
        state.clock.sleep(script.token_delay).await;
    }
    let changes = state.script_changes();
    let outage = state.meet_outage(false);
    let answered = match &outage {
        Outage::None => {
            let result = judged(request, authority, &path, state, &script, &mut exchange).await;
            result.unwrap_or_else(|refusal| {
                exchange.outcome = Outcome::Refused(refusal.error);
                refused(&refusal)
            })
        }
        Outage::Truncated => {
            let result = judged(request, authority, &path, state, &script, &mut exchange).await;
            result.map_or_else(|refusal| refused(&refusal), cut_short)
        }
        _ => {
            state.record.exchange(exchange);
            let troubled = trouble(outage, changes).await?;
            return Ok(with_retry_after(troubled, &script));
        }
    };
    state.record.exchange(exchange);
    Ok(with_retry_after(answered, &script))
}

async fn judged(
    request: Request<Incoming>,
    authority: &str,
    path: &str,
    state: &State,
    script: &Script,
    exchange: &mut Exchange,
) -> Result<Response<Body>, Refusal> {
    let form = Limited::new(request.into_body(), MAX_BODY).collect().await;
    let form = form.map_err(|_| Refusal::new("invalid_request", "Bad Request"))?.to_bytes();
    let has_people = !lock(&state.identities).people.is_empty();
    if has_people && field(&form, "grant_type").as_deref() == Some("refresh_token") {
        return Ok(identities::refreshed(&form, state));
    }
    if field(&form, "grant_type").as_deref() != Some(GRANT_TYPE) {
        return Err(Refusal::new("unsupported_grant_type", "Invalid grant_type"));
    }
    let assertion = field(&form, "assertion")
        .ok_or_else(|| Refusal::new("invalid_request", "Missing required parameter: assertion"))?;
    let now = Now { wall: state.wall(), moment: state.clock.now() };
    let audience = format!("https://{authority}{path}");
    let grant = lock(&state.accounts).judge(&assertion, &audience, now)?;
    exchange.account = Some(grant.account.clone());
    exchange.key_id = Some(grant.key_id.clone());
    let (lifetime, wall) = (script.lifetime, now.wall.seconds());
    let wish = Wish { lifetime, wall, length: script.token_length, same: script.same_token };
    let (text, record) = lock(&state.tokens).issue(grant, now.moment, &wish);
    exchange.outcome = Outcome::Issued(record.number);
    if record.audience.is_some() {
        return Ok(json_answer(StatusCode::OK, &json!({ "id_token": text })));
    }
    let left = now.moment.until(record.expires).as_secs();
    let expires_in = script.expires_in.clone().unwrap_or_else(|| json!(left));
    Ok(json_answer(StatusCode::OK, &json!({ "access_token": text, "expires_in": expires_in, "token_type": "Bearer" })))
}

fn refused(refusal: &Refusal) -> Response<Body> {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
    if refusal.description.is_empty() {
        return json_answer(status, &json!({ "error": refusal.error }));
    }
    json_answer(status, &json!({ "error": refusal.error, "error_description": refusal.description }))
}

async fn trouble(outage: Outage, mut changes: watch::Receiver<Arc<Script>>) -> Result<Response<Body>, Abort> {
    let token = || json!({ "access_token": "ya29.never-issued", "expires_in": 3599, "token_type": "Bearer" });
    Ok(match outage {
        Outage::None | Outage::Refuse | Outage::TlsError | Outage::Truncated => return Err(Abort),
        Outage::Blackhole => {
            let _ = changes.changed().await;
            return Err(Abort);
        }
        Outage::Status(code) => page(StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)),
        Outage::Error { status, error, description } => {
            refused(&Refusal { status, ..Refusal::new(error, description) })
        }
        Outage::EmptyBody => as_json(StatusCode::OK, body::empty()),
        Outage::Html => page(StatusCode::OK),
        Outage::HalfJson => {
            let mut text = token().to_string();
            text.truncate(text.len() / 2);
            as_json(StatusCode::OK, body::full(text))
        }
        Outage::Endless => {
            let spaces = Bytes::from_static(&[b' '; 8192]);
            as_json(StatusCode::OK, body::frames(std::iter::repeat_with(move || Ok(Frame::data(spaces.clone())))))
        }
        Outage::Drip => {
            let letters = Bytes::from(token().to_string());
            let letters = (0..letters.len()).map(move |at| Ok(Frame::data(letters.slice(at..=at))));
            let second = std::time::Duration::from_secs(1);
            as_json(StatusCode::OK, body::paced(letters, crate::clock::Clock::system(), second))
        }
        Outage::Nested => {
            let mut text = "[".repeat(100_000);
            text.push_str(&"]".repeat(100_000));
            as_json(StatusCode::OK, body::full(text))
        }
        Outage::Redirect(to) => {
            let mut response = page(StatusCode::FOUND);
            if let Ok(to) = HeaderValue::try_from(to) {
                response.headers_mut().insert(header::LOCATION, to);
            }
            response
        }
        Outage::Answer(status, bytes) => {
            as_json(StatusCode::from_u16(status).unwrap_or(StatusCode::OK), body::full(bytes))
        }
    })
}

/// Promises the whole body and breaks off after ten bytes.
fn cut_short(whole: Response<Body>) -> Response<Body> {
    let (mut parts, whole) = whole.into_parts();
    if let Some(length) = http_body::Body::size_hint(&whole).exact() {
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    let pieces = [Ok(Frame::data(Bytes::from_static(b"{\"access_t"))), Err(io::Error::other("cut short"))];
    Response::from_parts(parts, body::frames(pieces.into_iter()))
}

pub(super) fn with_retry_after(mut response: Response<Body>, script: &Script) -> Response<Body> {
    let wait = script.retry_after.as_ref().and_then(|wait| HeaderValue::try_from(wait).ok());
    if let Some(wait) = wait.filter(|_| response.status() != StatusCode::OK) {
        response.headers_mut().insert(header::RETRY_AFTER, wait);
    }
    response
}

pub(super) fn refused_with(status: u16, error: &'static str, description: &str) -> Response<Body> {
    refused(&Refusal { status, ..Refusal::new(error, description) })
}

pub(super) fn json_answer(status: StatusCode, json: &serde_json::Value) -> Response<Body> {
    as_json(status, body::full(format!("{json:#}")))
}

pub(super) fn as_json(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, max-age=0, must-revalidate"));
    headers.insert(header::VARY, HeaderValue::from_static("Origin, X-Origin, Referer"));
    response
}

/// The front end's page.
fn page(status: StatusCode) -> Response<Body> {
    let number = status.as_u16();
    let reason = status.canonical_reason().unwrap_or("Error");
    let text = format!(
        "<!DOCTYPE html>\n<html lang=en>\n<title>Error {number} ({reason})!!1</title>\n<p><b>{number}.</b> <ins>That’s \
         an error.</ins>\n"
    );
    let mut response = Response::new(body::full(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=UTF-8"));
    response
}

/// A field of a form, decoded.
pub(super) fn field(form: &[u8], name: &str) -> Option<String> {
    let form = std::str::from_utf8(form).ok()?;
    let value = form.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))?.1;
    let spaced = value.replace('+', " ");
    percent_encoding::percent_decode_str(&spaced).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

const ENDPOINTS: &[(&str, &str)] = &[
    ("oauth2.googleapis.com", "/token"),
    ("www.googleapis.com", "/oauth2/v4/token"),
    ("accounts.google.com", "/o/oauth2/token"),
];

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

const MAX_BODY: usize = 64 * 1024;
