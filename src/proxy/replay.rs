//! A request whose token the upstream refused: another token, and the request once more where that is safe.

use std::time::Duration;

use http::{Response, StatusCode, header};
use hyper::body::Incoming;

use super::{
    Shared,
    error::Failure,
    supply::{Chosen, Supply},
    upstream::{self, Credential, Payload, Sent},
};
use crate::{
    authority::Authority,
    net::{body::RequestBody, pool::Offer},
    token::Handle,
};

/// Whether another token may do better. A host that knows no self-signed tokens need not say so in these words.
pub(super) fn is_due(response: &Response<Incoming>, chosen: &Chosen) -> bool {
    says_invalid_token(response) || (chosen.is_self_signed && response.status() == StatusCode::UNAUTHORIZED)
}

/// A 401 that says that the token is not valid (RFC 6750 §3.1), or gRPC's UNAUTHENTICATED.
fn says_invalid_token(response: &Response<Incoming>) -> bool {
    if response.headers().get("grpc-status").is_some_and(|status| status == "16") {
        return true;
    }
    response.status() == StatusCode::UNAUTHORIZED
        && response
            .headers()
            .get_all(header::WWW_AUTHENTICATE)
            .iter()
            .any(|challenge| challenge.to_str().is_ok_and(|challenge| challenge.contains("invalid_token")))
}

/// One forced refresh, or an exchanged token in place of a self-signed one; one replay when the body is held. Otherwise
/// the 401 goes to the client as it is.
pub(super) async fn send(
    shared: &Shared,
    authority: &Authority,
    supply: &Supply,
    chosen: &Chosen,
    credential: Credential<'_>,
    sent: Sent,
) -> Result<Sent, Failure> {
    let (handle, refused) = (&chosen.handle, credential.token.generation);
    let held = match &sent.progress {
        None => Some(RequestBody::Empty),
        Some(progress) => progress.whole().map(RequestBody::Full),
    };
    let other = if chosen.is_self_signed { exchanged(shared, authority, supply) } else { None };
    let Some(body) = held else {
        if other.is_none() {
            handle.suspect(refused);
        }
        return Ok(sent);
    };
    let newer = match other {
        Some(other) => other.wait(WAIT_FOR_REFRESH).await.ok(),
        None => handle.renewed(refused, WAIT_FOR_REFRESH).await,
    };
    let Some(newer) = newer else { return Ok(sent) };
    let payload = Payload { body, progress: None };
    let credential = Credential { token: &newer, ..credential };
    upstream::send(shared, authority, Offer::Any, sent.spare.clone(), payload, Some(credential)).await
}

/// Remembers that a host refuses self-signed tokens; what it gets from now on.
fn exchanged(shared: &Shared, authority: &Authority, supply: &Supply) -> Option<Handle> {
    let host = authority.host()?;
    shared.refusals.add(host);
    supply.choose(host, &shared.refusals).filter(|chosen| !chosen.is_self_signed).map(|chosen| chosen.handle)
}

const WAIT_FOR_REFRESH: Duration = Duration::from_secs(5);
