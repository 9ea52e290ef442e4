//! The real metadata server as a source of tokens, on Google's own machines: the node's account, or that of Workload
//! Identity Federation for GKE.

use std::sync::OnceLock;

use http::{HeaderMap, HeaderValue};

use super::{
    Answer, Class, Exchange, FetchError, Get, Reason, Token,
    answer::{self, Kept},
    key,
};
use crate::authority::{Authority, Host, Target};

/// The server of the node that we are on.
#[derive(Debug, PartialEq, Eq)]
pub struct MetadataServer {
    scopes: Vec<String>,
    /// Whose tokens it gives: asked with the first one, and the same for the life of a machine or pod.
    account: OnceLock<String>,
}

impl MetadataServer {
    /// That of this machine, for full scope URLs.
    pub fn new(scopes: &[String]) -> Self {
        Self { scopes: scopes.to_vec(), account: OnceLock::new() }
    }

    /// The account's address, as soon as the server has told it.
    pub(super) fn account(&self) -> Option<&str> {
        self.account.get().map(String::as_str)
    }

    /// An access token.
    pub(super) async fn access(&self, exchange: &Exchange) -> Result<Token, FetchError> {
        let scopes = self.scopes.join(",");
        let scopes = percent_encoding::utf8_percent_encode(&scopes, percent_encoding::NON_ALPHANUMERIC);
        let target = format!("{ACCOUNT}/token?scopes={scopes}");
        let token = get(target, exchange, |kept| answer::token(kept.answer, kept.sent)).await?;
        if self.account.get().is_none()
            && let Some(account) = account(exchange).await
        {
            // Only set once; whoever was first asked the same server.
            let _ = self.account.set(account);
        }
        Ok(token)
    }
}

/// The account's address; none where the server does not tell, since a token is of use without it.
async fn account(exchange: &Exchange) -> Option<String> {
    let answer = ask(format!("{ACCOUNT}/email"), exchange).await.ok()?;
    let text = std::str::from_utf8(answer.body.expose()).ok()?.trim();
    // GKE names an identity without account by its pool, which has no `@`.
    let is_plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    (key::is_email(text) || (text.ends_with(".svc.id.goog") && is_plain(text))).then(|| text.to_owned())
}

/// An ID token for `audience`.
pub(super) async fn id(audience: &str, exchange: &Exchange) -> Result<Token, FetchError> {
    let audience = percent_encoding::utf8_percent_encode(audience, percent_encoding::NON_ALPHANUMERIC);
    let target = format!("{ACCOUNT}/identity?audience={audience}&format=full");
    get(target, exchange, answer::bare_id).await
}

async fn get(
    target: String,
    exchange: &Exchange,
    read: fn(&Kept<'_>) -> Result<Token, FetchError>,
) -> Result<Token, FetchError> {
    let sent = exchange.clock.now();
    let answer = ask(target, exchange).await?;
    // Its time counts for its own tokens alone: what comes without TLS corrects no clock.
    read(&Kept { answer: &answer, sent, now: exchange.time_of(&answer) })
}

async fn ask(target: String, exchange: &Exchange) -> Result<Answer, FetchError> {
    let unusable = |_| FetchError::transient(Reason::Connect, "the metadata server's address is not usable");
    let host = Host::parse(HOST).map_err(unusable)?;
    let mut headers = HeaderMap::new();
    headers.insert("metadata-flavor", HeaderValue::from_static("Google"));
    let authority = Authority { target: Target::Name(host), port: 80 };
    let answer = exchange.get(Get::Url { is_tls: false, authority, target, headers }, "the metadata server").await?;
    check(&answer)?;
    Ok(answer)
}

/// Whatever else may answer at this address in a network says no such thing.
fn check(answer: &Answer) -> Result<(), FetchError> {
    match (answer.is_of_metadata_server, answer.status) {
        (true, 200) => Ok(()),
        (true, 404) => Err(FetchError::transient(Reason::AccountNotFound, "the metadata server knows no such account")),
        (true, status) => {
            let class = Class::Transient { retry_after: answer.retry_after };
            let reason = if status == 429 { Reason::RateLimited } else { Reason::Unavailable };
            Err(FetchError::new(class, reason, format!("the metadata server answered {status}")))
        }
        (false, _) => Err(FetchError::transient(Reason::BadAnswer, "what answered is no metadata server of Google's")),
    }
}

const HOST: &str = "metadata.google.internal";
const ACCOUNT: &str = "/computeMetadata/v1/instance/service-accounts/default";
