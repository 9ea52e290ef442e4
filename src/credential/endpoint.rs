//! One exchange with Google's token endpoint: its pinned address, the form, the clock's correction.
//!
//! The transport is behind [`Post`], which `net` implements over verified TLS and tests replace.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use http::{HeaderMap, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

use super::{FetchError, Reason, Token, skew::Skew};
use crate::{
    clock::{Clock, Moment},
    secret::Secret,
};

/// A boxed future, so that [`Post`] can be a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A token endpoint. All there are stand in this file: no key file chooses where an assertion goes.
#[derive(Debug, PartialEq, Eq)]
pub struct TokenEndpoint {
    /// The URL, which is also the audience of assertions.
    pub url: &'static str,
    /// Its host, for DNS, SNI and the certificate.
    pub host: &'static str,
    /// Its path.
    pub path: &'static str,
}

impl TokenEndpoint {
    /// Google's. Private endpoints and tests are reached by dialling elsewhere under this name.
    pub const GOOGLE: &'static Self =
        &Self { url: "https://oauth2.googleapis.com/token", host: "oauth2.googleapis.com", path: "/token" };
}

/// Posts a form to a token endpoint over verified TLS. Never follows a redirect, never retries, and stops
/// reading at [`MOST_ANSWER_BYTES`].
pub trait Post: Send + Sync {
    /// Sends `form` (`application/x-www-form-urlencoded`) and reads the whole answer.
    fn post(&self, endpoint: &'static TokenEndpoint, form: Secret) -> BoxFuture<'_, Result<Answer, PostError>>;
}

/// The largest answer that is read.
pub const MOST_ANSWER_BYTES: usize = 64 * 1024;
/// The longest exchange, from name look-up to the last byte.
pub const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(10);

/// What an endpoint answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The `Date`, in seconds since 1970.
    pub date: Option<u64>,
    /// `Retry-After`, counted from `Date` where it is a date.
    pub retry_after: Option<Duration>,
    /// The body, which may hold a token.
    pub body: Secret,
}

impl Answer {
    /// Reads the fields that matter.
    pub fn new(status: u16, headers: &HeaderMap, body: Secret) -> Self {
        let date = headers.get(header::DATE).and_then(|value| http_date(value.to_str().ok()?));
        let retry_after = headers.get(header::RETRY_AFTER).and_then(|value| {
            let text = value.to_str().ok()?.trim();
            let seconds = text.parse::<u64>().ok();
            let seconds = seconds.or_else(|| Some(http_date(text)?.saturating_sub(date?)))?;
            Some(Duration::from_secs(seconds))
        });
        Self { status, date, retry_after, body }
    }
}

fn http_date(text: &str) -> Option<u64> {
    let time = httpdate::parse_http_date(text).ok()?;
    Some(time.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs())
}

/// Where a post failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostFailure {
    /// The name was not resolved.
    Dns,
    /// No connection.
    Connect,
    /// Too slow.
    Timeout,
    /// The TLS handshake failed.
    Tls,
    /// The certificate was not accepted.
    Certificate,
    /// The connection ended early, or spoke no HTTP.
    Reset,
    /// More than [`MOST_ANSWER_BYTES`].
    TooLarge,
}

impl PostFailure {
    fn reason(self) -> Reason {
        match self {
            Self::Dns => Reason::Dns,
            Self::Connect => Reason::Connect,
            Self::Timeout => Reason::Timeout,
            Self::Tls => Reason::Tls,
            Self::Certificate => Reason::Certificate,
            Self::Reset => Reason::Reset,
            Self::TooLarge => Reason::TooLarge,
        }
    }
}

/// A post that brought no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct PostError {
    /// Where it failed.
    pub failure: PostFailure,
    /// For people: addresses and causes, never what was sent or received.
    pub detail: String,
}

impl PostError {
    /// Puts both together.
    pub fn new(failure: PostFailure, detail: impl Into<String>) -> Self {
        Self { failure, detail: detail.into() }
    }
}

/// All that an exchange needs besides the credential. Cheap to clone; one [`Skew`] serves the process.
#[derive(Clone)]
pub struct Exchange {
    /// The transport.
    pub post: Arc<dyn Post>,
    /// The clocks.
    pub clock: Clock,
    /// What is known about the wall clock's error.
    pub skew: Arc<Skew>,
}

impl Exchange {
    /// Over this transport, with a clock believed to be right.
    pub fn new(post: Arc<dyn Post>, clock: Clock) -> Self {
        Self { post, clock, skew: Arc::default() }
    }

    /// Posts an assertion and reads the token. `sign` gets the time to write into the assertion, in seconds
    /// since 1970; it is called twice when the endpoint refuses our time and its `Date` explains why. `read` gets the
    /// answer, when the request for it was sent, and the endpoint's time then.
    pub(super) async fn trade(
        &self,
        endpoint: &'static TokenEndpoint,
        sign: impl Fn(u64) -> Result<Secret, FetchError>,
        read: impl Fn(&Answer, Moment, u64) -> Result<Token, FetchError>,
    ) -> Result<Token, FetchError> {
        match self.trade_once(endpoint, &sign, &read).await {
            Err(Refusal { corrected: true, .. }) => self.trade_once(endpoint, &sign, &read).await,
            first => first,
        }
        .map_err(|refusal| refusal.error)
    }

    async fn trade_once(
        &self,
        endpoint: &'static TokenEndpoint,
        sign: impl Fn(u64) -> Result<Secret, FetchError>,
        read: impl Fn(&Answer, Moment, u64) -> Result<Token, FetchError>,
    ) -> Result<Token, Refusal> {
        let began = self.skew.server_seconds(self.clock.wall());
        let assertion = sign(began)?;
        let sent = self.clock.now();
        let post = self.post.post(endpoint, form(&assertion));
        // Tokio's time and not the clock's: a clock that runs fast for a demonstration makes no network fast.
        let answer = match tokio::time::timeout(EXCHANGE_TIMEOUT, post).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(no_answer(endpoint, &error).into()),
            Err(_) => {
                let message = format!("{}: no complete answer within 10 s", endpoint.host);
                return Err(FetchError::transient(Reason::Timeout, message).into());
            }
        };
        let (wall, round_trip) = (self.clock.wall(), sent.until(self.clock.now()));
        let result = read(&answer, sent, began);
        let refused_time = result.as_ref().is_err_and(|error| error.reason == Reason::Clock);
        let corrected = match answer.date {
            Some(date) if refused_time => self.skew.correct(wall, date),
            Some(date) => {
                self.skew.observe(wall, date, round_trip);
                false
            }
            None => false,
        };
        result.map_err(|error| Refusal { error, corrected })
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("clock", &self.clock).finish_non_exhaustive()
    }
}

/// A failure, and whether the clock's offset has changed because of it.
struct Refusal {
    error: FetchError,
    corrected: bool,
}

impl From<FetchError> for Refusal {
    fn from(error: FetchError) -> Self {
        Self { error, corrected: false }
    }
}

fn no_answer(endpoint: &TokenEndpoint, error: &PostError) -> FetchError {
    FetchError::transient(error.failure.reason(), format!("{}: {}", endpoint.host, error.detail))
}

/// The body of an RFC 7523 request.
fn form(assertion: &Secret) -> Secret {
    // A compact JWS needs no escaping, but a form is not the place to rely on it.
    let assertion = percent_encoding::percent_encode(assertion.expose(), FORM);
    let grant = utf8_percent_encode("urn:ietf:params:oauth:grant-type:jwt-bearer", FORM);
    let body = Zeroizing::new(format!("grant_type={grant}&assertion={assertion}"));
    Secret::new(body.as_bytes())
}

const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'*');

#[cfg(test)]
mod tests;
