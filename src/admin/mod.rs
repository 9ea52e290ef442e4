//! Owns what operators and probes ask of the sidecar: health, metrics, the status page and the request to quit, as pure functions from request to answer.
//! Refuses to know how the state came about, how metrics are kept, and who listens: it gets them as values and closures.
//! Called by `app`, once for the health door and once for the control door.

pub mod control;
pub mod health;
mod page;
pub mod status;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

/// What goes back.
pub type Answer = Response<Full<Bytes>>;

/// An answer that is never kept, framed or taken for another type.
fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let body: Bytes = body.into();
    let length = body.len();
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// A line for people.
fn text(status: StatusCode, line: &'static str) -> Answer {
    answer(status, TEXT, line)
}

/// No such method here; the right ones are told.
fn wrong_method(allowed: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "wrong method\n");
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    answer
}

/// The head of an answer to HEAD: the length stays that of the body which GET would get.
fn without_body(answer: Answer) -> Answer {
    answer.map(|_| Full::default())
}

const TEXT: &str = "text/plain; charset=utf-8";
