//! The health door: probes and metrics, the only thing that is reachable from outside the pod. Pure.
//!
//! Whoever can reach the pod can ask here, so nothing here changes anything or tells more than it must.

use http::{Method, StatusCode};

use super::{Answer, TEXT, answer, text, without_body, wrong_method};
use crate::ready::Readiness;

/// Answers a probe or a scrape.
///
/// `serving` is whether the doors are open. A token outage does not touch it: it would otherwise take every pod of a
/// fleet out of service at once. `metrics` is called only for a scrape.
pub fn respond<B>(
    request: &http::Request<B>,
    readiness: &Readiness,
    serving: bool,
    metrics: impl FnOnce() -> String,
) -> Answer {
    let path = request.uri().path();
    if !matches!(path, "/livez" | "/readyz" | "/startupz" | "/metrics") {
        return text(StatusCode::NOT_FOUND, "not found\n");
    }
    let head = request.method() == Method::HEAD;
    if !head && request.method() != Method::GET {
        return wrong_method("GET, HEAD");
    }
    let answer = match path {
        // That this runs at all is the heartbeat.
        "/livez" => text(StatusCode::OK, "ok\n"),
        "/readyz" if serving => text(StatusCode::OK, "ok\n"),
        "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "the doors are not open\n"),
        "/startupz" => startup(readiness),
        _ => answer(StatusCode::OK, METRICS, metrics()),
    };
    if head { without_body(answer) } else { answer }
}

/// Ready, or one line for each condition that is not met.
fn startup(readiness: &Readiness) -> Answer {
    let unmet = readiness.unmet();
    if unmet.is_empty() {
        return text(StatusCode::OK, "ok\n");
    }
    let lines: String = unmet.iter().map(|(name, reason)| format!("{name}: {reason}\n")).collect();
    answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, lines)
}

/// The text format that every version of Prometheus reads.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
