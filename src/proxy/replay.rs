//! A request whose token the upstream refused: another token, and the request once more where that is safe.

use std::time::Duration;

use http::{Response, StatusCode, header};
use hyper::body::Incoming;

use super::{
    Shared,
    error::Failure,
    request::follow_quota_project,
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
    let mut head = sent.spare.clone();
    follow_quota_project(credential.route, credential.token, &newer, &mut head.headers);
    let credential = Credential { token: &newer, ..credential };
    upstream::send(shared, authority, Offer::Any, head, payload, Some(credential)).await
}

/// Remembers that a host refuses self-signed tokens; what it gets from now on.
fn exchanged(shared: &Shared, authority: &Authority, supply: &Supply) -> Option<Handle> {
    let host = authority.host()?;
    shared.refusals.add(host);
    supply.choose(host, &shared.refusals).filter(|chosen| !chosen.is_self_signed).map(|chosen| chosen.handle)
}

const WAIT_FOR_REFRESH: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;
    use crate::{
        clock::Clock,
        policy::{QuotaProject, Route},
        token::Bearer,
    };

    #[test]
    fn a_second_sending_counts_against_the_project_of_its_own_token() {
        let now = Clock::system().now();
        let token = |project: &'static str| {
            let bare = HeaderValue::from_static("t");
            let quota_project = (!project.is_empty()).then(|| HeaderValue::from_static(project));
            Bearer { header: bare.clone(), bare, issued: now, expires: now, generation: 1, key_id: None, quota_project }
        };
        let of_route = QuotaProject::Is("route".to_owned());
        for (said, refused, newer, sent, expected) in [
            (QuotaProject::OfCredential, "old", "new", "old", "new"),
            (QuotaProject::OfCredential, "old", "", "old", ""),
            (QuotaProject::OfCredential, "", "new", "", "new"),
            (QuotaProject::OfCredential, "old", "new", "of-the-client", "of-the-client"),
            (QuotaProject::Unsaid, "old", "new", "", ""),
            (of_route, "old", "new", "route", "route"),
        ] {
            let mut headers = HeaderMap::new();
            if !sent.is_empty() {
                headers.insert("x-goog-user-project", HeaderValue::from_static(sent));
            }
            let route = Route { quota_project: said, ..Route::google_apis(Vec::new()) };
            follow_quota_project(&route, &token(refused), &token(newer), &mut headers);
            let left = headers.get("x-goog-user-project").map_or("", |value| value.to_str().unwrap());
            assert_eq!(left, expected, "{refused} {newer} {sent}");
        }
    }
}
