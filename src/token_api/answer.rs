//! What goes back: a token in the shape that the entry gives it, or a refusal. Pure.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::{Map, Value};

use super::entry::FileFormat;
use crate::{
    clock::{Wall, rfc3339},
    net::guard::Denied,
    token::Unavailable,
};

/// The type of every answer.
pub(super) type Answer = Response<Full<Bytes>>;

/// A piece of what is known about a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The token itself.
    Token,
    /// `Bearer`.
    TokenType,
    /// The beginning of its life in milliseconds since 1970.
    IssuedAtMs,
    /// The same in seconds.
    IssuedAtSeconds,
    /// The end of its life in milliseconds since 1970.
    ExpiresAtMs,
    /// The same in seconds.
    ExpiresAtSeconds,
    /// The life that is left, in seconds.
    ExpiresInSeconds,
    /// The end of its life as RFC 3339 writes it.
    ExpiresAt,
}

impl Field {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Token,
        Self::TokenType,
        Self::IssuedAtMs,
        Self::IssuedAtSeconds,
        Self::ExpiresAtMs,
        Self::ExpiresAtSeconds,
        Self::ExpiresInSeconds,
        Self::ExpiresAt,
    ];

    /// As written in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::TokenType => "tokenType",
            Self::IssuedAtMs => "issuedAtMs",
            Self::IssuedAtSeconds => "issuedAtSeconds",
            Self::ExpiresAtMs => "expiresAtMs",
            Self::ExpiresAtSeconds => "expiresAtSeconds",
            Self::ExpiresInSeconds => "expiresInSeconds",
            Self::ExpiresAt => "expiresAt",
        }
    }

    fn value(self, handout: &Handout<'_>) -> Value {
        let Handout { token, issued, expires, left_seconds } = handout;
        match self {
            Self::Token => (*token).into(),
            Self::TokenType => "Bearer".into(),
            Self::IssuedAtMs => milliseconds(*issued),
            Self::IssuedAtSeconds => issued.seconds().into(),
            Self::ExpiresAtMs => milliseconds(*expires),
            Self::ExpiresAtSeconds => expires.seconds().into(),
            Self::ExpiresInSeconds => (*left_seconds).into(),
            Self::ExpiresAt => rfc3339(*expires).into(),
        }
    }
}

/// Keys of an answer, and what stands under each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping(pub Vec<(String, Field)>);

impl Default for Mapping {
    /// The shape of OAuth's token endpoints (RFC 6749).
    fn default() -> Self {
        let pairs =
            [("access_token", Field::Token), ("expires_in", Field::ExpiresInSeconds), ("token_type", Field::TokenType)];
        Self(pairs.map(|(key, field)| (key.to_owned(), field)).into())
    }
}

/// A token on its way out.
pub(super) struct Handout<'a> {
    pub(super) token: &'a str,
    /// The beginning of its life, as its issuer counts.
    pub(super) issued: Wall,
    /// The end.
    pub(super) expires: Wall,
    /// Never more than the truth.
    pub(super) left_seconds: u64,
}

impl<'a> Handout<'a> {
    /// A token that began and ends at these times by our clock. A JWT says so itself, in the time of whoever will judge
    /// it: its own words are told, so that they hold where our clock is wrong.
    pub(super) fn new(token: &'a str, issued: Wall, expires: Wall, left_seconds: u64) -> Self {
        let (own_issued, own_expires) = own_times(token).unwrap_or((issued, expires));
        Self { token, issued: own_issued, expires: own_expires, left_seconds }
    }

    /// As an answer or a file holds it.
    pub(super) fn written(&self, format: FileFormat, mapping: &Mapping) -> String {
        match format {
            FileFormat::Raw => self.token.to_owned(),
            FileFormat::Json => {
                let pairs = mapping.0.iter().map(|(key, field)| (key.clone(), field.value(self)));
                Value::Object(pairs.collect::<Map<_, _>>()).to_string()
            }
        }
    }

    pub(super) fn answer(&self, format: FileFormat, mapping: &Mapping) -> Answer {
        let content_type = if format == FileFormat::Raw { TEXT } else { "application/json" };
        with(StatusCode::OK, content_type, self.written(format, mapping))
    }
}

/// `iat` and `exp`, where the token is a JWT that has them.
fn own_times(token: &str) -> Option<(Wall, Wall)> {
    let mut parts = token.split('.');
    let (_, claims, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else { return None };
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    let time = |name: &str| Some(Wall(std::time::Duration::from_secs(claims.get(name)?.as_u64()?)));
    Some((time("iat")?, time("exp")?))
}

fn milliseconds(wall: Wall) -> Value {
    u64::try_from(wall.0.as_millis()).unwrap_or(u64::MAX).into()
}

/// Why a request gets no token. A closed set: it is also a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// What no door on loopback takes.
    Denied(Denied),
    /// The header that shows that this door is meant is missing.
    Header,
    /// No entry has this path.
    UnknownPath,
    /// A parameter is missing.
    MissingParameter,
    /// A parameter that is no id.
    MalformedParameter,
    /// A parameter that is given twice.
    RepeatedParameter,
    /// A parameter that the entry does not have.
    UnknownParameter,
    /// Path and query give a parameter two values.
    Disagree,
    /// `format` is neither `raw` nor `json`.
    Format,
}

impl Refusal {
    /// Every refusal.
    pub const ALL: [Self; 18] = [
        Self::Denied(Denied::Version),
        Self::Denied(Denied::Method),
        Self::Denied(Denied::Malformed),
        Self::Denied(Denied::Repeated),
        Self::Denied(Denied::Body),
        Self::Denied(Denied::TooLong),
        Self::Denied(Denied::ForeignHost),
        Self::Denied(Denied::Disagree),
        Self::Denied(Denied::Relayed),
        Self::Denied(Denied::Browser),
        Self::Header,
        Self::UnknownPath,
        Self::MissingParameter,
        Self::MalformedParameter,
        Self::RepeatedParameter,
        Self::UnknownParameter,
        Self::Disagree,
        Self::Format,
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

    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::Denied(denied) => denied_parts(denied),
            Self::Header => (
                S::FORBIDDEN,
                "token_api_header",
                "the header X-Bearerd-Token-Request: true (or Metadata-Flavor: Google) is missing",
            ),
            Self::UnknownPath => (S::NOT_FOUND, "token_api_unknown_path", "no entry of tokens has this path"),
            Self::MissingParameter => {
                (S::BAD_REQUEST, "token_api_missing_parameter", "a parameter of this token is missing")
            }
            Self::MalformedParameter => (
                S::BAD_REQUEST,
                "token_api_malformed_parameter",
                "a parameter is malformed; accepted: 1 to 255 of A-Z a-z 0-9 . _ ~ -",
            ),
            Self::RepeatedParameter => (S::BAD_REQUEST, "token_api_repeated_parameter", "a parameter is given twice"),
            Self::UnknownParameter => {
                (S::BAD_REQUEST, "token_api_unknown_parameter", "a parameter that this token does not have")
            }
            Self::Disagree => {
                (S::BAD_REQUEST, "token_api_parameters_disagree", "path and query give a parameter two values")
            }
            Self::Format => (S::BAD_REQUEST, "token_api_format", "format is neither raw nor json"),
        }
    }
}

fn denied_parts(denied: Denied) -> (StatusCode, &'static str, &'static str) {
    use StatusCode as S;
    match denied {
        Denied::Version => (S::HTTP_VERSION_NOT_SUPPORTED, "token_api_version", "only HTTP/1.1 is spoken here"),
        Denied::Method => (S::METHOD_NOT_ALLOWED, "token_api_method", "only GET is answered here"),
        Denied::Malformed => {
            (S::BAD_REQUEST, "token_api_malformed", "the request target or the Host header is malformed")
        }
        Denied::Repeated => (S::BAD_REQUEST, "token_api_repeated_header", "a header that may occur once occurs twice"),
        Denied::Body => (S::BAD_REQUEST, "token_api_body", "a request for a token has no body"),
        Denied::TooLong => (S::URI_TOO_LONG, "token_api_too_long", "the request target is too long"),
        Denied::ForeignHost => {
            (S::FORBIDDEN, "token_api_foreign_host", "the Host header does not name this door on loopback")
        }
        Denied::Disagree => (S::MISDIRECTED_REQUEST, "token_api_disagree", "the target and the Host header disagree"),
        Denied::Relayed => (S::FORBIDDEN, "token_api_relayed", "relayed requests are refused"),
        Denied::Browser => (S::FORBIDDEN, "token_api_browser", "requests from a browser are refused"),
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        let (status, label, message) = refusal.parts();
        let mut answer = failed(status, label, message);
        if status == StatusCode::METHOD_NOT_ALLOWED {
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
        }
        answer
    }
}

/// No token now, but perhaps later.
pub(super) fn unavailable(unavailable: &Unavailable) -> Answer {
    let mut answer = failed(StatusCode::SERVICE_UNAVAILABLE, unavailable.reason, &unavailable.message);
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(unavailable.retry_after_seconds));
    answer
}

/// The reason of a 503 although there is a token: it has less to live than the entry wants.
pub const SHORT_LIVED: &str = "token_api_min_life";

fn failed(status: StatusCode, label: &'static str, message: &str) -> Answer {
    let mut answer = with(status, TEXT, format!("bearerd: {message}\n"));
    answer.headers_mut().insert("x-bearerd-error", HeaderValue::from_static(label));
    answer
}

/// Tokens are for whoever asked, and for nobody's cache; refusals too, since what is wrong now may be right soon.
fn with(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

const TEXT: &str = "text/plain; charset=utf-8";

#[cfg(test)]
mod tests;
