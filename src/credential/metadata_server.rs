//! The real metadata server as a source of tokens, on Google's own machines: the node's account, or that of Workload
//! Identity Federation for GKE.

use http::{HeaderMap, HeaderValue};

use super::{
    Answer, Exchange, FetchError, Get, Reason, Token,
    answer::{self, Kept},
};
use crate::authority::{Authority, Host, Target};

/// An access token for `scopes`.
pub(super) async fn access(scopes: &[String], exchange: &Exchange) -> Result<Token, FetchError> {
    let scopes =
        percent_encoding::utf8_percent_encode(&scopes.join(","), percent_encoding::NON_ALPHANUMERIC).to_string();
    let target = format!("{ACCOUNT}/token?scopes={scopes}");
    get(target, exchange, |kept| answer::token(kept.answer, kept.sent)).await
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
    let unusable = |_| FetchError::transient(Reason::Connect, "the metadata server's address is not usable");
    let host = Host::parse(HOST).map_err(unusable)?;
    let mut headers = HeaderMap::new();
    headers.insert("metadata-flavor", HeaderValue::from_static("Google"));
    let authority = Authority { target: Target::Name(host), port: 80 };
    let (now, sent) = (exchange.skew.server_seconds(exchange.clock.wall()), exchange.clock.now());
    let answer = exchange.get(Get::Url { is_tls: false, authority, target, headers }, "the metadata server").await?;
    check(&answer)?;
    read(&Kept { answer: &answer, sent, now })
}

/// Whatever else may answer at this address in a network says no such thing.
fn check(answer: &Answer) -> Result<(), FetchError> {
    match (answer.is_of_metadata_server, answer.status) {
        (true, 200) => Ok(()),
        (true, 404) => Err(FetchError::transient(Reason::AccountNotFound, "the metadata server knows no such account")),
        (true, status) => {
            Err(FetchError::transient(Reason::Unavailable, format!("the metadata server answered {status}")))
        }
        (false, _) => Err(FetchError::transient(Reason::BadAnswer, "what answered is no metadata server of Google's")),
    }
}

const HOST: &str = "metadata.google.internal";
const ACCOUNT: &str = "/computeMetadata/v1/instance/service-accounts/default";
