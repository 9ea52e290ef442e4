//! The control door, on loopback: the status page, the same as JSON, and the request to drain and exit. Pure.
//!
//! The application is not trusted with it, nor is a page in a developer's browser: every request must name a
//! loopback host (a rebound name is refused), and `quit` wants a header that neither a form nor a simple SSRF sends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};

use super::{Answer, answer, page, status::Status, text, without_body, wrong_method};

/// An answer and what it promises.
#[derive(Debug)]
pub struct Reply {
    /// What goes back.
    pub answer: Answer,
    /// The sidecar must drain and exit.
    pub quit: bool,
}

/// Answers one request; `status` is called only for those who may see it.
pub fn respond<B>(request: &Request<B>, status: impl FnOnce() -> Status) -> Reply {
    let quit = request.uri().path() == "/quit";
    let refusal = if quit { quit_refusal(request) } else { view_refusal(request) };
    let answer = match refusal {
        Some(refusal) => refusal,
        None if quit => return Reply { answer: text(StatusCode::ACCEPTED, "draining\n"), quit: true },
        None => view(request, status),
    };
    Reply { answer, quit: false }
}

fn view<B>(request: &Request<B>, status: impl FnOnce() -> Status) -> Answer {
    let answer = match request.uri().path() {
        "/" => page(&status()),
        "/status.json" => match serde_json::to_vec_pretty(&status()) {
            Ok(json) => answer(StatusCode::OK, "application/json", json),
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the status cannot be written\n"),
        },
        _ => text(StatusCode::NOT_FOUND, "not found\n"),
    };
    if request.method() == Method::HEAD { without_body(answer) } else { answer }
}

/// No script, no picture, no other site: whatever a name in it holds, the page can only be read.
fn page(status: &Status) -> Answer {
    let mut answer = answer(StatusCode::OK, "text/html; charset=utf-8", page::render(status));
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

/// A person may open the page, a script of another site may not fetch it.
fn view_refusal<B>(request: &Request<B>) -> Option<Answer> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Some(wrong_method("GET, HEAD"));
    }
    let headers = request.headers();
    let fetched = |name: &str, value: &[&str]| {
        headers.get_all(name).iter().any(|sent| !value.iter().any(|value| sent.as_bytes() == value.as_bytes()))
    };
    let foreign = headers.contains_key(header::ORIGIN)
        || fetched("sec-fetch-site", &["none", "same-origin"])
        || fetched("sec-fetch-mode", &["navigate"])
        || fetched("sec-fetch-dest", &["document"]);
    refusal(request, foreign)
}

fn quit_refusal<B>(request: &Request<B>) -> Option<Answer> {
    if request.method() != Method::POST {
        return Some(wrong_method("POST"));
    }
    let headers = request.headers();
    let browser = headers.contains_key(header::ORIGIN) || headers.keys().any(|name| name.as_str().starts_with("sec-"));
    refusal(request, browser).or_else(|| {
        let meant = only(headers, "x-bearerd-quit").is_some_and(|value| value == "true");
        (!meant).then(|| text(StatusCode::FORBIDDEN, "the header X-Bearerd-Quit: true is missing\n"))
    })
}

fn refusal<B>(request: &Request<B>, browser: bool) -> Option<Answer> {
    let headers = request.headers();
    let relay = |name: &str| matches!(name, "forwarded" | "via" | "x-real-ip") || name.starts_with("x-forwarded");
    let loopback = only(headers, "host").is_some_and(is_loopback)
        && request.uri().authority().is_none_or(|authority| is_loopback(authority.as_str()));
    if !loopback {
        Some(text(StatusCode::FORBIDDEN, "the Host header must name a loopback address\n"))
    } else if browser {
        Some(text(StatusCode::FORBIDDEN, "requests of web pages are refused\n"))
    } else if headers.keys().any(|name| relay(name.as_str())) {
        Some(text(StatusCode::FORBIDDEN, "relayed requests are refused\n"))
    } else {
        None
    }
}

/// Any port, since a port-forward seldom keeps it; a rebound name is the danger, and that is no loopback host.
fn is_loopback(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest),
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port_is_fine = match port.strip_prefix(':') {
        None => port.is_empty(),
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok(),
    };
    let address = host.parse::<IpAddr>();
    let named = host.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|ip| ip == IpAddr::V4(Ipv4Addr::LOCALHOST) || ip == IpAddr::V6(Ipv6Addr::LOCALHOST));
    named && port_is_fine
}

/// The value of a header that occurs exactly once.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    if values.next().is_some() { None } else { first.to_str().ok() }
}

const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
