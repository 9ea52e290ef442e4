//! What goes back to an SDK: values, lists, tokens and refusals, all with the headers of a metadata server.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

/// The type of every answer: a body of known length, because .NET takes a chunked one for "not on GCE".
pub type Answer = Response<Full<Bytes>>;

/// Why a request got no value. A closed set: it is also a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Not HTTP/1.1.
    Version,
    /// A method other than GET.
    Method,
    /// A target or `Host` that is no valid authority or path.
    Malformed,
    /// A header that may occur once occurs twice.
    Repeated,
    /// A GET with a body.
    Body,
    /// A target longer than any SDK sends.
    TooLong,
    /// A `Host` that is not a name of the metadata server.
    ForeignHost,
    /// The target and `Host` name different authorities.
    Disagree,
    /// Headers that only a relay adds.
    Relayed,
    /// Headers that only a browser adds.
    Browser,
    /// No `Metadata-Flavor: Google`.
    Flavor,
    /// The door is switched off.
    Off,
    /// No such path.
    Unknown,
    /// A query parameter with a value that is not understood, or given twice.
    Query,
    /// A token bound to ALTS or mTLS, which is never given.
    Bound,
    /// Scopes of which the credential has none.
    Scopes,
    /// An audience that no `token: id` route names.
    Audience,
    /// The audience of gcloud itself, which it asks for beside every access token.
    GcloudAudience,
    /// More audiences in a minute than the limit.
    ManyAudiences,
    /// More hanging requests than the limit.
    ManyWaits,
    /// The credential is not known yet.
    NotReady,
}

impl Refusal {
    /// Every refusal, for those who register metrics.
    pub const ALL: [Self; 21] = [
        Self::Version,
        Self::Method,
        Self::Malformed,
        Self::Repeated,
        Self::Body,
        Self::TooLong,
        Self::ForeignHost,
        Self::Disagree,
        Self::Relayed,
        Self::Browser,
        Self::Flavor,
        Self::Off,
        Self::Unknown,
        Self::Query,
        Self::Bound,
        Self::Scopes,
        Self::Audience,
        Self::GcloudAudience,
        Self::ManyAudiences,
        Self::ManyWaits,
        Self::NotReady,
    ];

    /// The status line it becomes.
    pub fn status(self) -> StatusCode {
        self.parts().0
    }

    /// A stable word for metrics and the `x-bearerd-error` header.
    pub fn label(self) -> &'static str {
        self.parts().1
    }

    /// The same for people.
    pub fn message(self) -> &'static str {
        self.parts().2
    }

    /// A state that passes is 503, since SDKs take 403 and 404 for final (the Rust one for the life of the process).
    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::Version => (S::HTTP_VERSION_NOT_SUPPORTED, "version", "only HTTP/1.1 is spoken here"),
            Self::Method => (S::METHOD_NOT_ALLOWED, "method", "only GET is answered here"),
            Self::Malformed => (S::BAD_REQUEST, "malformed", "the request target or the Host header is malformed"),
            Self::Repeated => (S::BAD_REQUEST, "repeated_header", "a header that may occur once occurs twice"),
            Self::Body => (S::BAD_REQUEST, "body", "a metadata request has no body"),
            Self::TooLong => (S::URI_TOO_LONG, "too_long", "the request target is too long"),
            Self::ForeignHost => (S::NOT_FOUND, "foreign_host", "the Host header does not name a metadata server"),
            Self::Disagree => (S::MISDIRECTED_REQUEST, "disagree", "the target and the Host header disagree"),
            Self::Relayed => (S::FORBIDDEN, "relayed", "relayed requests are refused"),
            Self::Browser => (S::FORBIDDEN, "browser", "requests from a browser are refused"),
            Self::Flavor => (S::FORBIDDEN, "flavor", "the header Metadata-Flavor: Google is missing"),
            Self::Off => (S::NOT_FOUND, "off", "the metadata server is switched off"),
            Self::Unknown => (S::NOT_FOUND, "unknown_path", "there is no such path"),
            Self::Query => (S::BAD_REQUEST, "query", "a query parameter is missing, malformed or given twice"),
            Self::Bound => (S::NOT_FOUND, "bound_token", "tokens bound to ALTS or mTLS are not given here"),
            Self::Scopes => (S::FORBIDDEN, "scopes", "the credential has none of these scopes"),
            Self::Audience => (S::FORBIDDEN, "audience", "no route with token: id has this audience"),
            Self::GcloudAudience => (S::NOT_FOUND, "gcloud_audience", "there is no ID token for gcloud itself"),
            Self::ManyAudiences => (S::TOO_MANY_REQUESTS, "many_audiences", "too many different audiences"),
            Self::ManyWaits => (S::SERVICE_UNAVAILABLE, "many_waits", "too many requests wait for a change"),
            Self::NotReady => (S::SERVICE_UNAVAILABLE, "not_ready", "the credential is not known yet"),
        }
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        let status = refusal.status();
        let mut answer = with(status, TEXT, format!("{}\n", refusal.message()));
        let headers = answer.headers_mut();
        headers.insert("x-bearerd-error", HeaderValue::from_static(refusal.label()));
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        // An absent server is what SDKs should find when it is off, and this header is how they know one.
        if refusal == Refusal::Off {
            headers.remove(FLAVOR);
        }
        answer
    }
}

/// The request and answer header by which SDKs and the server know each other.
pub(super) const FLAVOR: &str = "metadata-flavor";

/// The content type of a value or a list, as the real server has it.
pub(super) const TEXT: &str = "application/text";

/// Python refuses JSON under any other type.
pub(super) const JSON: &str = "application/json";

/// An answer with the headers that every answer carries, refusals too.
pub(super) fn with(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let body: Bytes = body.into();
    let length = body.len();
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(FLAVOR, HeaderValue::from_static("Google"));
    headers.insert(header::SERVER, HeaderValue::from_static("Metadata Server for VM"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// A value or list, which has a version that `wait_for_change` compares.
pub(super) fn value(content_type: &'static str, body: String, etag: &str) -> Answer {
    let mut answer = with(StatusCode::OK, content_type, body);
    if let Ok(etag) = HeaderValue::from_str(etag) {
        answer.headers_mut().insert(header::ETAG, etag);
    }
    answer
}

/// The slash form of a directory. Relative, so that it holds under whatever name we were asked.
pub(super) fn moved(path: &str, query: &str) -> Answer {
    let mut answer = with(StatusCode::MOVED_PERMANENTLY, TEXT, "");
    let mark = if query.is_empty() { "" } else { "?" };
    match HeaderValue::from_str(&format!("{path}/{mark}{query}")) {
        Ok(location) => {
            answer.headers_mut().insert(header::LOCATION, location);
            answer
        }
        Err(_) => Refusal::Malformed.into(),
    }
}

/// No token at the moment: the JSON error form of token endpoints, which SDKs show.
pub(super) fn unavailable(message: &str, retry_after: std::time::Duration) -> Answer {
    let body = serde_json::json!({"error": "temporarily_unavailable", "error_description": message}).to_string();
    let mut answer = with(StatusCode::SERVICE_UNAVAILABLE, JSON, body);
    let headers = answer.headers_mut();
    headers.insert("x-bearerd-error", HeaderValue::from_static("no_token"));
    headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after.as_secs().clamp(1, 60)));
    answer
}
