//! One request to an upstream: a proven connection, the credential on it, and a second try where that is safe.

use std::sync::Arc;

use http::{HeaderMap, Method, Request, Response, Uri, header, uri::PathAndQuery};
use hyper::body::Incoming;

use super::{
    Shared,
    error::{Failure, Kind},
    headers,
};
use crate::{
    authority::Authority,
    net::{
        body::{Progress, RequestBody},
        pool::{Broken, Connection, InUse, Offer, SendError},
        verified::ConnectError,
    },
    policy::Route,
    token::Bearer,
};

/// A request's head, cleaned and without credential.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) method: Method,
    pub(super) target: PathAndQuery,
    pub(super) headers: HeaderMap,
}

/// The credential for a request, and the route that says which field carries it.
#[derive(Clone, Copy)]
pub(super) struct Credential<'a> {
    pub(super) route: &'a Route,
    pub(super) token: &'a Bearer,
}

/// A request's body, and what is known of it for a second sending.
pub(super) struct Payload {
    pub(super) body: RequestBody,
    pub(super) progress: Option<Arc<Progress>>,
}

impl Payload {
    pub(super) fn empty() -> Self {
        Self { body: RequestBody::Empty, progress: None }
    }
}

/// What came of it.
pub(super) struct Sent {
    pub(super) response: Response<Incoming>,
    pub(super) in_use: InUse,
    /// The head once more, for a second sending with another token.
    pub(super) spare: Head,
    pub(super) progress: Option<Arc<Progress>>,
}

/// Sends the request on a connection that `offer` allows.
///
/// Sent again at most [`MOST_TRIES`] times: always when not a byte was written; after that only when the
/// upstream said that it did nothing (REFUSED_STREAM, GOAWAY), or when the method is idempotent, the body is held, and
/// the connection was an idle one that died without an answer.
pub(super) async fn send(
    shared: &Shared,
    authority: &Authority,
    offer: Offer,
    head: Head,
    payload: Payload,
    credential: Option<Credential<'_>>,
) -> Result<Sent, Failure> {
    let Payload { mut body, progress } = payload;
    let grpc = headers::is_grpc(&head.headers);
    let spare = head.clone();
    let mut head = Some(head);
    for _ in 0..MOST_TRIES {
        let connection = checkout(shared, authority, offer).await?;
        if grpc && !connection.is_h2() {
            return Err(Failure::new(Kind::Upstream, "no_h2", "gRPC needs HTTP/2, which the upstream does not speak"));
        }
        let Some(next) = head.take() else { break };
        let mut request = on(&connection, next, body)?;
        if let Some(credential) = &credential {
            headers::write_authorization(request.headers_mut(), credential.route, credential.token, &connection);
        }
        let sent = tokio::select! {
            biased;
            sent = connection.send(request) => sent,
            () = stalls(shared, progress.as_deref().filter(|_| !grpc)) => return Err(too_slow()),
        };
        match sent {
            Ok((response, in_use)) => return Ok(Sent { response, in_use, spare, progress }),
            Err(SendError { unsent: Some(request), .. }) => {
                let (parts, unsent) = request.into_parts();
                let target = parts.uri.into_parts().path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
                head = Some(Head { method: parts.method, target, headers: parts.headers });
                body = unsent;
            }
            Err(failed) => {
                let held = progress
                    .as_ref()
                    .map_or(Some(RequestBody::Empty), |progress| progress.whole().map(RequestBody::Full));
                let may = is_refused(&failed.broken) || (failed.reused && is_idempotent(&spare.method));
                let (true, Some(held)) = (may, held) else {
                    return Err(broken(shared, &failed.broken));
                };
                head = Some(spare.clone());
                body = held;
            }
        }
    }
    shared.metrics.upstream_connect_errors.with_label_values(&["reset"]).inc();
    Err(Failure::new(Kind::Upstream, "reset", "the upstream closed every connection without an answer"))
}

async fn checkout(shared: &Shared, authority: &Authority, offer: Offer) -> Result<Connection, Failure> {
    shared.pool.checkout(authority, offer).await.map_err(|error| unreachable(shared, &error))
}

fn unreachable(shared: &Shared, error: &ConnectError) -> Failure {
    let label = error.label();
    shared.metrics.upstream_connect_errors.with_label_values(&[label]).inc();
    let kind = match label {
        "timeout" => Kind::Timeout,
        "forbidden_address" => Kind::Denied,
        // Worth a retry by the client, with gRPC as with REST.
        "full" => return Failure::no_token(label, error.to_string(), 1),
        _ => Kind::Upstream,
    };
    Failure::new(kind, label, format!("the upstream could not be reached: {error}"))
}

pub(super) fn broken(shared: &Shared, broken: &Broken) -> Failure {
    let error = match broken {
        Broken::Http(error) => error,
        Broken::Interim => {
            return Failure::new(Kind::Upstream, "bad_answer", "the upstream sent interim answers without end");
        }
    };
    if error.is_user() {
        // The client's own body ended in an error: it is the client that broke off.
        return Failure::new(Kind::Malformed, "client_body", "the request's body did not arrive whole");
    }
    shared.metrics.upstream_connect_errors.with_label_values(&["reset"]).inc();
    if error.is_parse() {
        return Failure::new(Kind::Upstream, "bad_answer", "the upstream's answer is not valid HTTP");
    }
    Failure::new(Kind::Upstream, "reset", "the upstream closed the connection without an answer")
}

/// Completes when the client's body comes too slowly; never where there is none.
///
/// Asked until the answer begins: from then on both ways are open, and a quiet one is nobody's fault. Not asked of gRPC,
/// whose client may be quiet for hours before its server has anything to say.
pub(super) async fn stalls(shared: &Shared, progress: Option<&Progress>) {
    match progress {
        Some(progress) => progress.stalls(shared.clock).await,
        None => std::future::pending().await,
    }
}

/// The answer to that.
pub(super) fn too_slow() -> Failure {
    let kind = Kind::Refused(http::StatusCode::REQUEST_TIMEOUT);
    Failure::new(kind, "slow_body", "the request's body came at less than 1 KiB a minute")
}

/// The request in the form that the connection's protocol takes.
fn on(connection: &Connection, head: Head, body: RequestBody) -> Result<Request<RequestBody>, Failure> {
    let names = connection.names();
    let mut request = Request::new(body);
    *request.method_mut() = head.method;
    *request.headers_mut() = head.headers;
    let mut uri = http::uri::Parts::default();
    uri.path_and_query = Some(head.target);
    if connection.is_h2() {
        request.headers_mut().remove(header::HOST);
        headers::join_cookies(request.headers_mut());
        uri.scheme = Some(http::uri::Scheme::HTTPS);
        uri.authority = Some(names.uri.clone());
        *request.version_mut() = http::Version::HTTP_2;
    } else {
        headers::join_cookies(request.headers_mut());
        request.headers_mut().insert(header::HOST, names.host.clone());
    }
    *request.uri_mut() = Uri::from_parts(uri)
        .map_err(|_| Failure::new(Kind::Malformed, "bad_target", "the request's target cannot be forwarded"))?;
    Ok(request)
}

/// RFC 9110 §9.2.2.
fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::PUT | Method::DELETE | Method::OPTIONS)
}

/// The upstream did no work on it (RFC 9113 §8.7): it refused the stream, or its GOAWAY names an earlier one as the
/// last that it looked at. h2 gives a stream that error in no other case.
fn is_refused(broken: &Broken) -> bool {
    let Broken::Http(error) = broken else { return false };
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(h2) = inner.downcast_ref::<h2::Error>() {
            return h2.reason() == Some(h2::Reason::REFUSED_STREAM) || h2.is_go_away() && h2.is_remote();
        }
        source = inner.source();
    }
    false
}

const MOST_TRIES: usize = 4;
