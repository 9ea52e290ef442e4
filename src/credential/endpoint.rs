//! One exchange with Google's token endpoint: its pinned address, the form, the clock's correction.
//!
//! The transport is behind [`Post`], which `net` implements over verified TLS and tests replace.

use std::{borrow::Cow, fmt, future::Future, path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use http::{HeaderMap, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use zeroize::Zeroizing;

use super::{
    CredentialName, FetchError, Reason, Token,
    answer::Kept,
    confided::Confided,
    parents::Parents,
    skew::{self, Skew},
};
use crate::{
    authority::Authority,
    clock::{Clock, Moment},
    secret::Secret,
};

/// A boxed future, so that [`Post`] can be a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A host that credentials are sent to for tokens. All there are stand in this file: no mounted file chooses one.
/// Private and regional endpoints, and tests, are reached by dialling elsewhere under these names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiHost(&'static str);

impl ApiHost {
    /// OAuth's token endpoint.
    pub const OAUTH: Self = Self("oauth2.googleapis.com");
    /// The Security Token Service (RFC 8693).
    pub const STS: Self = Self("sts.googleapis.com");
    /// Tokens of accounts that another one may impersonate.
    pub const IAM_CREDENTIALS: Self = Self("iamcredentials.googleapis.com");

    /// All of them.
    pub const ALL: [Self; 3] = [Self::OAUTH, Self::STS, Self::IAM_CREDENTIALS];

    /// The name, for DNS, SNI and the certificate.
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

/// A token endpoint.
#[derive(Debug, PartialEq, Eq)]
pub struct TokenEndpoint {
    /// The URL, which is also the audience of assertions.
    pub url: &'static str,
    /// Its host.
    pub host: ApiHost,
    /// Its path.
    pub path: &'static str,
}

impl TokenEndpoint {
    /// Google's.
    pub const GOOGLE: &'static Self =
        &Self { url: "https://oauth2.googleapis.com/token", host: ApiHost::OAUTH, path: "/token" };
    /// Google's for the exchange of tokens.
    pub const STS: &'static Self =
        &Self { url: "https://sts.googleapis.com/v1/token", host: ApiHost::STS, path: "/v1/token" };
}

/// A request for a token.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where to.
    pub host: ApiHost,
    /// The path.
    pub path: Cow<'static, str>,
    /// The body and its type.
    pub body: RequestBody,
    /// Sent as `Authorization: Bearer …`.
    pub bearer: Option<Secret>,
}

/// The body of a [`Request`].
#[derive(Clone, Debug)]
pub enum RequestBody {
    /// `application/x-www-form-urlencoded`.
    Form(Secret),
    /// `application/json`.
    Json(String),
}

/// Something that we get ourselves: a subject token, or what the real metadata server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Get {
    /// The content of a file.
    File(PathBuf),
    /// By HTTP.
    Url {
        /// Over TLS, at port 443.
        is_tls: bool,
        /// Where to.
        authority: Authority,
        /// Path and query.
        target: String,
        /// What is sent along.
        headers: HeaderMap,
    },
}

/// Asks for tokens: over verified TLS, but for what [`Get`] says. Never follows a redirect, never retries, and stops
/// reading at [`MOST_ANSWER_BYTES`].
pub trait Post: Send + Sync {
    /// Sends a request and reads the whole answer.
    fn post(&self, request: Request) -> BoxFuture<'_, Result<Answer, PostError>>;

    /// Gets something and reads the whole answer.
    fn get(&self, _: Get) -> BoxFuture<'_, Result<Answer, PostError>> {
        Box::pin(async { Err(PostError::new(PostFailure::Connect, "this transport gets nothing")) })
    }
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
    /// `Metadata-Flavor: Google`: no other server says that.
    pub is_of_metadata_server: bool,
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
        let is_of_metadata_server = headers.get("metadata-flavor").is_some_and(|flavor| flavor == "Google");
        Self { status, date, retry_after, is_of_metadata_server, body }
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
    /// Where derived credentials find the token that they are derived from.
    pub parents: Option<Arc<dyn Parents>>,
}

impl Exchange {
    /// Over this transport, with a clock believed to be right.
    pub fn new(post: Arc<dyn Post>, clock: Clock) -> Self {
        Self { post, clock, skew: Arc::default(), parents: None }
    }

    /// Posts an assertion and reads the token. `sign` gets the time to write into the assertion, in seconds
    /// since 1970; it is called twice when the endpoint refuses our time and its `Date` explains why. `read` gets the
    /// answer, when the request for it was sent, and the endpoint's time when it answered.
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

    /// Sends a request once, bounded in time.
    pub(super) async fn ask(&self, request: Request) -> Result<Answer, FetchError> {
        let host = request.host.as_str();
        // Tokio's time and not the clock's: a clock that runs fast for a demonstration makes no network fast.
        match tokio::time::timeout(EXCHANGE_TIMEOUT, self.post.post(request)).await {
            Ok(answered) => answered.map_err(|error| no_answer(host, &error)),
            Err(_) => Err(too_slow(host)),
        }
    }

    /// What `ask` makes of the access token of another credential; once more with a newer one where one of `refusals`
    /// says that Google would not have the first.
    pub(super) async fn with_parent<F: Future<Output = Result<Token, FetchError>>>(
        &self,
        name: &CredentialName,
        refusals: &[Reason],
        ask: impl Fn(Token) -> F,
    ) -> Result<Token, FetchError> {
        let none = || FetchError::transient(Reason::NoSource, format!("there is no credential '{name}' here"));
        let parents = self.parents.as_ref().ok_or_else(none)?;
        let first = ask(parents.access(name).await?).await;
        match &first {
            Err(error) if refusals.contains(&error.reason) => match parents.another(name).await {
                Some(token) => ask(token).await,
                None => first,
            },
            _ => first,
        }
    }

    /// Asks once, and gives what `read` finds in the answer.
    pub(super) async fn ask_and_read(
        &self,
        request: Request,
        read: impl Fn(&Kept<'_>) -> Result<Token, FetchError>,
    ) -> Result<Token, FetchError> {
        let sent = self.clock.now();
        let confided = Confided::of(&request);
        let answer = self.ask(request).await?;
        let now = self.time_of(&answer);
        if let Some(date) = answer.date {
            self.skew.observe(self.clock.wall(), date, sent.until(self.clock.now()));
        }
        read(&Kept { answer: &answer, sent, now }).map_err(|error| confided.hide(error))
    }

    /// The time at which the other side answered, in its own words where it says a sensible one: what says when it ends
    /// says so by the clock of the same side, which ours need not agree with.
    pub(super) fn time_of(&self, answer: &Answer) -> u64 {
        let wall = self.clock.wall();
        let own = answer.date.filter(|date| skew::is_plausible(wall, *date));
        own.unwrap_or_else(|| self.skew.server_seconds(wall))
    }

    /// Gets something once, bounded in time; `what` names the other side in errors.
    pub(super) async fn get(&self, get: Get, what: &str) -> Result<Answer, FetchError> {
        match tokio::time::timeout(EXCHANGE_TIMEOUT, self.post.get(get)).await {
            Ok(answered) => answered.map_err(|error| no_answer(what, &error)),
            Err(_) => Err(too_slow(what)),
        }
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
        let form =
            form(&[("grant_type", b"urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", assertion.expose())]);
        let path = Cow::Borrowed(endpoint.path);
        let request = Request { host: endpoint.host, path, body: RequestBody::Form(form), bearer: None };
        let confided = Confided::of(&request);
        let answer = self.ask(request).await?;
        let (wall, round_trip) = (self.clock.wall(), sent.until(self.clock.now()));
        let result = read(&answer, sent, self.time_of(&answer));
        let refused_time = result.as_ref().is_err_and(|error| error.reason == Reason::Clock);
        let corrected = match answer.date {
            Some(date) if refused_time => self.skew.correct(wall, date),
            Some(date) => {
                self.skew.observe(wall, date, round_trip);
                false
            }
            None => false,
        };
        result.map_err(|error| Refusal { error: confided.hide(error), corrected })
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

fn no_answer(who: &str, error: &PostError) -> FetchError {
    FetchError::transient(error.failure.reason(), format!("{who}: {}", error.detail))
}

fn too_slow(who: &str) -> FetchError {
    FetchError::transient(Reason::Timeout, format!("{who}: no complete answer within 10 s"))
}

/// A body of the type `application/x-www-form-urlencoded`. A compact JWS needs no escaping, but a form is not the
/// place to rely on it.
pub(super) fn form(fields: &[(&str, &[u8])]) -> Secret {
    let mut body = Zeroizing::new(String::new());
    for (name, value) in fields {
        if !body.is_empty() {
            body.push('&');
        }
        let value = Zeroizing::new(percent_encoding::percent_encode(value, FORM).to_string());
        body.push_str(name);
        body.push('=');
        body.push_str(&value);
    }
    Secret::new(body.as_bytes())
}

const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'*');

#[cfg(test)]
mod tests;
