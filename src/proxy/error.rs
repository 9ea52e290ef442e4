//! Our own failures, in the shapes that clients display well.
//!
//! Never a 401 (clients would refresh credentials that are not at fault), never an echo of the request.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use super::body::ResponseBody;

/// A request that we answer ourselves, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) kind: Kind,
    /// The closed-set label: metric, log and `x-bearerd-error` carry the same word.
    pub(super) reason: &'static str,
    /// For people; constant texts and configured names only.
    pub(super) message: String,
    /// Seconds after which a retry may help.
    pub(super) retry_after: Option<u64>,
}

/// What kind of failure; it decides the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The request is malformed.
    Malformed,
    /// Another status of the 4xx class, as the head gate says.
    Refused(StatusCode),
    /// Its claims about where it goes disagree.
    Misdirected,
    /// Policy says no.
    Denied,
    /// No token at the moment.
    NoToken,
    /// The upstream cannot be reached or broke.
    Upstream,
    /// The upstream took too long.
    Timeout,
}

impl Failure {
    pub(super) fn new(kind: Kind, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, reason, message: message.into(), retry_after: None }
    }

    pub(super) fn no_token(reason: &'static str, message: impl Into<String>, retry_after: u64) -> Self {
        Self { kind: Kind::NoToken, reason, message: message.into(), retry_after: Some(retry_after) }
    }

    pub(super) fn status(&self) -> StatusCode {
        match self.kind {
            Kind::Malformed => StatusCode::BAD_REQUEST,
            Kind::Refused(status) => status,
            Kind::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Kind::Denied => StatusCode::FORBIDDEN,
            Kind::NoToken => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Upstream => StatusCode::BAD_GATEWAY,
            Kind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// `google.rpc.Code`, number and name (AIP-193).
    fn code(&self) -> (u8, &'static str) {
        match self.kind {
            Kind::Malformed | Kind::Refused(_) | Kind::Misdirected => (3, "INVALID_ARGUMENT"),
            Kind::Denied => (7, "PERMISSION_DENIED"),
            Kind::NoToken | Kind::Upstream | Kind::Timeout => (14, "UNAVAILABLE"),
        }
    }

    /// The word that BigQuery's and Storage's retry logic looks at.
    fn legacy_reason(&self) -> &'static str {
        match self.kind {
            Kind::Malformed | Kind::Refused(_) | Kind::Misdirected => "badRequest",
            Kind::Denied => "forbidden",
            Kind::NoToken | Kind::Upstream | Kind::Timeout => "backendError",
        }
    }

    /// The answer in gRPC's or in JSON's shape.
    pub(super) fn response(&self, grpc: bool) -> Response<ResponseBody> {
        let mut response = if grpc { self.grpc() } else { self.json() };
        response.headers_mut().insert(ERROR, HeaderValue::from_static(self.reason));
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }

    /// Trailers-only: one HEADERS frame with the status.
    fn grpc(&self) -> Response<ResponseBody> {
        let mut response = Response::new(ResponseBody::Empty);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(u16::from(self.code().0)));
        let message = percent_encoding::utf8_percent_encode(&self.text(), GRPC_MESSAGE).to_string();
        if let Ok(message) = HeaderValue::from_str(&message) {
            headers.insert("grpc-message", message);
        }
        response
    }

    /// Both the current and the legacy form: some libraries read only `errors[0].reason`.
    fn json(&self) -> Response<ResponseBody> {
        let text = self.text();
        let status = self.status();
        let body = serde_json::json!({
            "error": {
                "code": status.as_u16(),
                "message": text,
                "status": self.code().1,
                "errors": [{"message": text, "domain": "global", "reason": self.legacy_reason()}],
                "details": [{
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": self.reason.to_ascii_uppercase(),
                    "domain": "bearerd.dev",
                }],
            }
        });
        let body = Bytes::from(format!("{body}\n"));
        let mut response = Response::new(ResponseBody::Full(body));
        *response.status_mut() = status;
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=UTF-8"));
        response
    }

    /// Several SDKs print only the message, so it names us and the reason.
    fn text(&self) -> String {
        format!("bearerd: {} ({})", self.message, self.reason)
    }
}

/// Reasons that are the data plane's own; others come from policy, the head gate, TLS, tokens and connections.
pub const REFUSAL_LABELS: [&str; 15] = [
    "authority_mismatch",
    "bad_answer",
    "bad_authority",
    "bad_target",
    "client_body",
    "h2_preface",
    "no_ca",
    "no_credential",
    "no_h2",
    "not_a_proxy_request",
    "plaintext",
    "proxy_password",
    "sign_blob",
    "slow_body",
    "tls_timeout",
];

/// Carries the reason on every answer of our own making.
pub(super) const ERROR: HeaderName = HeaderName::from_static("x-bearerd-error");

/// What gRPC's HTTP/2 mapping asks to be percent-encoded.
const GRPC_MESSAGE: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS.add(b'%');

#[cfg(test)]
mod tests {
    use super::*;

    fn denied() -> Failure {
        Failure::new(Kind::Denied, "minting", "this API hands out credentials")
    }

    #[test]
    fn json_has_both_forms_and_the_reason_in_the_message() {
        let response = denied().response(false);
        assert_eq!(response.status(), 403);
        assert_eq!(response.headers()[ERROR], "minting");
        let ResponseBody::Full(body) = response.into_body() else { panic!("no body") };
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["error"]["status"], "PERMISSION_DENIED");
        assert_eq!(body["error"]["errors"][0]["reason"], "forbidden");
        assert_eq!(body["error"]["details"][0]["reason"], "MINTING");
        assert_eq!(body["error"]["message"], "bearerd: this API hands out credentials (minting)");
    }

    #[test]
    fn grpc_is_trailers_only_with_status_200() {
        let response = Failure::no_token("token_endpoint", "no token: 100% down", 3).response(true);
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], "14");
        assert_eq!(response.headers()["grpc-message"], "bearerd: no token: 100%25 down (token_endpoint)");
        assert_eq!(response.headers()["retry-after"], "3");
        assert!(matches!(response.into_body(), ResponseBody::Empty));
    }

    #[test]
    fn no_failure_of_ours_is_a_401() {
        for kind in [Kind::Malformed, Kind::Misdirected, Kind::Denied, Kind::NoToken, Kind::Upstream, Kind::Timeout] {
            assert_ne!(Failure::new(kind, "x", "x").status(), 401);
        }
    }
}
