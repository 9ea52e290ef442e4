//! One line and one count per request, written when its answer has ended or its client has left. Secrets are impossible by type: a record
//! holds configured names, a canonical host and closed-set labels only.

use std::sync::{Arc, LazyLock};

use http::{Method, StatusCode};

use crate::{
    authority::Authority,
    clock::{Clock, Moment},
    metrics::Metrics,
    net::listener::Busy,
    policy::Route,
    shutdown::InFlight,
};

/// What is known of a request while it is served. Written when dropped, so that no way out can forget it.
pub(super) struct Record {
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
    pub(super) began: Moment,
    pub(super) door: &'static str,
    pub(super) method: &'static str,
    pub(super) authority: Option<Authority>,
    /// The route that matched.
    pub(super) route: Option<Arc<Route>>,
    /// What was done: `inject`, or why not.
    pub(super) decision: &'static str,
    /// What was answered; [`LEFT`] until then.
    pub(super) status: StatusCode,
    /// Keeps the sidecar from ending while the request is served.
    pub(super) _work: InFlight,
    /// Keeps the connection from being taken for an idle one.
    pub(super) _busy: Busy,
}

/// Counts and logs; the one place that does.
impl Drop for Record {
    fn drop(&mut self) {
        let route = self.route.as_ref().map_or(NO_ROUTE, |route| route.name.as_str());
        let took = self.began.until(self.clock.now());
        self.metrics.http_requests.with_label_values(&[route, self.method, code_label(&self.status)]).inc();
        self.metrics.http_request_duration.with_label_values(&[route]).observe(took.as_secs_f64());
        tracing::info!(
            door = self.door,
            method = self.method,
            host = self.authority.as_ref().map(tracing::field::display),
            route,
            decision = self.decision,
            code = self.status.as_u16(),
            ms = took.as_millis() as u64,
            "request"
        );
    }
}

/// The closed set of methods that metrics and logs know.
pub(super) fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::CONNECT => "CONNECT",
        _ => "other",
    }
}

/// The registered codes and our own 499; an upstream may answer with any number from 100 to 999.
fn code_label(status: &StatusCode) -> &str {
    if status.canonical_reason().is_some() || *status == *LEFT { status.as_str() } else { "other" }
}

/// The code of requests whose client left before the answer's head was there, as web servers commonly have it.
pub(super) static LEFT: LazyLock<StatusCode> =
    LazyLock::new(|| StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST));

/// The label of requests that no route matched.
pub(super) const NO_ROUTE: &str = "none";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_an_upstream_makes_up_share_one_label() {
        for (code, label) in [(200, "200"), (421, "421"), (499, "499"), (299, "other"), (999, "other")] {
            assert_eq!(code_label(&StatusCode::from_u16(code).unwrap()), label);
        }
    }
}
