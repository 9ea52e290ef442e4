//! THE pipeline: every request of every door passes here, once.
//!
//! 1 facts (the authority from the verified place) → 2 `policy.decide` → 3 token → 4 strip → 5 send, where the
//! credential is written → 6 relay body and trailers → 7 count and log.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;

use super::{
    Live, Shared,
    access_log::{LEFT, Record, method_label},
    body::{End, Relay, ResponseBody},
    claims,
    entry::Context,
    error::{Failure, Kind},
    headers::{self, ProxyAuthorization},
    plain, replay, sign,
    supply::{Chosen, Supply},
    upgrade,
    upstream::{self, Credential, Head, Payload, Sent},
};
use crate::{
    authority::Authority,
    net::{
        body::{ClientBody, Progress, RequestBody},
        gather::Gathered,
        listener::Seat,
        pool::{InUse, Offer},
    },
    policy::{Decision, Facts, Placeholder, QuotaProject, Route, TokenKind},
    token::{Bearer, Handle},
};

/// The way a request came in.
#[derive(Clone, Debug)]
pub(super) enum Door {
    /// An absolute URL on the proxy port.
    Forward,
    /// Inside a TLS tunnel that was opened for this authority.
    Intercept(Authority),
}

impl Door {
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Intercept(_) => "intercept",
        }
    }

    fn proxy_authorization(&self) -> ProxyAuthorization {
        match self {
            Self::Forward => ProxyAuthorization::IsOurs,
            Self::Intercept(_) => ProxyAuthorization::IsTheirs,
        }
    }
}

/// Serves one request. Every failure becomes an answer.
pub(super) async fn serve(context: &Context, request: Request<Incoming>) -> Response<ResponseBody> {
    let shared = &context.shared;
    let grpc = headers::is_grpc(request.headers());
    let is_head = request.method() == Method::HEAD;
    let mut record = begin(shared, &context.door, &context.seat, &request);
    match exchange(context, request, &mut record).await {
        Ok(answer) => answer.finish(record),
        Err(failure) => {
            shared.metrics.requests_refused.with_label_values(&[failure.reason]).inc();
            record.decision = failure.reason;
            record.status = failure.status();
            drop(record);
            let response = failure.response(grpc);
            // hyper leaves the body out by itself over HTTP/1.1; over HTTP/2 it would be a protocol error.
            if is_head { response.map(|_| ResponseBody::Empty) } else { response }
        }
    }
}

/// An answer with its head cleaned, and what its end must settle.
pub(super) enum Answer {
    /// An upstream's.
    Relayed {
        response: Response<Incoming>,
        /// The pooled connection it came on; `None` for one that is not kept.
        in_use: Option<InUse>,
        progress: Option<Arc<Progress>>,
    },
    /// Of our own making.
    Local(Response<ResponseBody>),
}

impl Answer {
    /// Step 7 is attached to the end of the body.
    fn finish(self, mut record: Record) -> Response<ResponseBody> {
        match self {
            Self::Relayed { response, in_use, progress } => {
                record.status = response.status();
                if let Some(progress) = &progress {
                    progress.forget();
                }
                let end = Some(End { in_use, progress, record });
                response.map(|incoming| ResponseBody::Relay(Box::new(Relay { incoming: Gathered::new(incoming), end })))
            }
            Self::Local(response) => {
                record.status = response.status();
                drop(record);
                response
            }
        }
    }
}

fn begin(shared: &Shared, door: &Door, seat: &Seat, request: &Request<Incoming>) -> Record {
    Record {
        metrics: shared.metrics.clone(),
        clock: shared.clock,
        began: shared.clock.now(),
        door: door.label(),
        method: method_label(request.method()),
        authority: None,
        route: None,
        decision: "none",
        status: *LEFT,
        _work: shared.tasks.begin(),
        _busy: seat.busy(),
    }
}

async fn exchange(context: &Context, request: Request<Incoming>, record: &mut Record) -> Result<Answer, Failure> {
    let (shared, door) = (&context.shared, &context.door);
    let live = shared.live.borrow().clone();
    let claimed = match door {
        Door::Forward => claims::of_forward(request.uri(), request.headers())?,
        Door::Intercept(authority) => {
            claims::of_intercept(authority, request.uri(), request.headers())?;
            authority.clone()
        }
    };
    let Some(authority) = over_tls(&live, door, &claimed, request.uri().scheme()) else {
        record.authority = Some(claimed.clone());
        return Box::pin(plain::forward(shared, &live, &claimed, request, record)).await;
    };
    record.authority = Some(authority.clone());
    let plan = decide(shared, &live, &authority, &request, record)?;
    let token = match &plan {
        Plan::Sign(supply, account) => return Box::pin(sign::answer(supply, account, request)).await,
        Plan::Inject(_, _, chosen) => Some(token(&chosen.handle).await?),
        Plan::Pass { .. } => None,
    };
    let credential = plan.credential(token.as_deref());
    let cleaning = plan.cleaning(token.as_deref(), &shared.placeholder);
    if upgrade::is_wanted(&request) {
        return Box::pin(upgrade::exchange(context, &authority, request, cleaning, credential)).await;
    }
    let (head, payload) = prepare(door, request, cleaning);
    let sent = upstream::send(shared, &authority, Offer::Any, head, payload, credential).await?;
    let sent = match (&plan, credential) {
        (Plan::Inject(_, supply, chosen), Some(credential)) if replay::is_due(&sent.response, chosen) => {
            Box::pin(replay::send(shared, &authority, supply, chosen, credential, sent)).await?
        }
        _ => sent,
    };
    relay(sent)
}

/// The authority on port 443, for what goes over TLS; `None` for plain `http://` to a host that no route names.
///
/// `http://` to a routed host means "bearerd, do the TLS": it never leaves the pod in clear.
fn over_tls(live: &Live, door: &Door, claimed: &Authority, scheme: Option<&http::uri::Scheme>) -> Option<Authority> {
    let plain = matches!(door, Door::Forward) && scheme.is_some_and(|scheme| *scheme == http::uri::Scheme::HTTP);
    if !plain {
        return Some(claimed.clone());
    }
    let host = claimed.host()?;
    let secure = Authority { port: 443, ..claimed.clone() };
    let routed = live.policy.routes().iter().any(|route| route.has_host(host));
    (matches!(claimed.port, 80 | 443) && routed).then_some(secure)
}

/// What becomes of a request that is sent on.
enum Plan {
    Inject(Arc<Route>, Arc<Supply>, Chosen),
    /// Answered here, for this account.
    Sign(Arc<Supply>, String),
    Pass {
        strip_placeholder: bool,
    },
}

impl Plan {
    fn credential<'a>(&'a self, token: Option<&'a Bearer>) -> Option<Credential<'a>> {
        match (self, token) {
            (Self::Inject(route, ..), Some(token)) => Some(Credential { route, token }),
            _ => None,
        }
    }

    fn cleaning<'a>(&'a self, token: Option<&'a Bearer>, placeholder: &'a Placeholder) -> Cleaning<'a> {
        match self {
            Self::Inject(route, ..) => Cleaning::ForCredential(route, token, placeholder),
            Self::Pass { strip_placeholder: true } => Cleaning::OffPlaceholder(placeholder),
            Self::Pass { strip_placeholder: false } | Self::Sign(..) => Cleaning::Hops,
        }
    }
}

/// What is taken off a request, beside what belongs to one hop only.
#[derive(Clone, Copy)]
pub(super) enum Cleaning<'a> {
    /// Nothing else.
    Hops,
    /// The placeholder everywhere.
    OffPlaceholder(&'a Placeholder),
    /// What the client sent where our credential goes, and the placeholder everywhere.
    ForCredential(&'a Route, Option<&'a Bearer>, &'a Placeholder),
}

/// Step 2.
fn decide(
    shared: &Shared,
    live: &Live,
    authority: &Authority,
    request: &Request<Incoming>,
    record: &mut Record,
) -> Result<Plan, Failure> {
    match live.policy.decide(&facts(shared, authority, request)) {
        Decision::SignBlob { route, account } => {
            record.route = Some(route.clone());
            record.decision = "sign";
            let supply = live.supplies.get(&route.name).ok_or_else(no_credential)?;
            Ok(Plan::Sign(supply.clone(), account))
        }
        Decision::Inject { route } => {
            record.route = Some(route.clone());
            record.decision = "inject";
            let supply = live.supplies.get(&route.name).ok_or_else(no_credential)?;
            let host = authority.host().ok_or_else(no_credential)?;
            let chosen = supply.choose(host, &shared.refusals).ok_or_else(no_credential)?;
            Ok(Plan::Inject(route.clone(), supply.clone(), chosen))
        }
        Decision::Pass { route, reason, strip_placeholder } => {
            record.route = route.cloned();
            record.decision = reason.label();
            shared.metrics.requests_passed.with_label_values(&[reason.label()]).inc();
            Ok(Plan::Pass { strip_placeholder })
        }
        Decision::Deny { route, reason } => {
            record.route = route.cloned();
            Err(Failure::new(Kind::Denied, reason.label(), reason.message()))
        }
    }
}

fn no_credential() -> Failure {
    Failure::no_token("no_credential", "the route's credential is not configured", 5)
}

/// What policy judges a request by; the same for every path that a request can take.
pub(super) fn facts<'a>(shared: &'a Shared, authority: &'a Authority, request: &'a Request<Incoming>) -> Facts<'a> {
    Facts {
        authority,
        method: request.method(),
        target: request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str),
        headers: request.headers(),
        placeholder: Some(&shared.placeholder),
    }
}

/// Step 3: the current token without waiting, or the one that is being fetched.
async fn token(handle: &Handle) -> Result<Arc<Bearer>, Failure> {
    if let Some(token) = handle.current() {
        return Ok(token);
    }
    handle.wait(WAIT_FOR_TOKEN).await.map_err(|unavailable| {
        Failure::no_token(unavailable.reason, unavailable.message, unavailable.retry_after_seconds)
    })
}

/// Step 4: head and body, cleaned.
pub(super) fn prepare(door: &Door, request: Request<Incoming>, cleaning: Cleaning<'_>) -> (Head, Payload) {
    let (parts, incoming) = request.into_parts();
    let target = parts.uri.into_parts().path_and_query.unwrap_or_else(|| http::uri::PathAndQuery::from_static("/"));
    let mut headers = parts.headers;
    headers::strip_request(&mut headers, door.proxy_authorization());
    match cleaning {
        Cleaning::Hops => {}
        Cleaning::OffPlaceholder(placeholder) => headers::strip_placeholder(&mut headers, placeholder),
        Cleaning::ForCredential(route, token, placeholder) => {
            headers::strip_placeholder(&mut headers, placeholder);
            clean_for(route, token, &mut headers);
        }
    }
    let payload = if hyper::body::Body::is_end_stream(&incoming) {
        Payload::empty()
    } else {
        let (body, progress) = ClientBody::new(incoming, headers::keeps_trailer);
        Payload { body: RequestBody::Client(body), progress: Some(progress) }
    };
    (Head { method: parts.method, target, headers }, payload)
}

/// Whatever the client sent where our credential goes, is removed; the quota project is added where absent. A
/// credential that goes elsewhere leaves the application's own `Authorization` alone: that is what such routes are for.
fn clean_for(route: &Route, token: Option<&Bearer>, headers: &mut HeaderMap) {
    headers.remove(&route.header);
    if !headers.contains_key(QUOTA_PROJECT)
        && let Some(project) = quota_project(route, token)
    {
        headers.insert(QUOTA_PROJECT, project);
    }
}

/// What the route says, else what the credential's file says. Only Google's own APIs are told the latter, which are what
/// access tokens go to: other services have no use for the name of a project.
fn quota_project(route: &Route, token: Option<&Bearer>) -> Option<HeaderValue> {
    match &route.quota_project {
        QuotaProject::Is(project) => HeaderValue::from_str(project).ok(),
        QuotaProject::Unsaid => None,
        QuotaProject::OfCredential => {
            let is_for_google = matches!(route.token, TokenKind::Access | TokenKind::SelfSigned);
            token.filter(|_| is_for_google)?.quota_project.clone()
        }
    }
}

/// A second sending with another token counts against the project of that one, where the first did against its own's.
pub(super) fn follow_quota_project(route: &Route, refused: &Bearer, newer: &Bearer, headers: &mut HeaderMap) {
    let (before, after) = (quota_project(route, Some(refused)), quota_project(route, Some(newer)));
    if headers.get(QUOTA_PROJECT) != before.as_ref() {
        return;
    }
    match after {
        Some(project) => headers.insert(QUOTA_PROJECT, project),
        None => headers.remove(QUOTA_PROJECT),
    };
}

/// Step 6: the answer, its head cleaned.
fn relay(sent: Sent) -> Result<Answer, Failure> {
    let Sent { mut response, in_use, progress, .. } = sent;
    check_answer(&response)?;
    headers::strip_response(response.headers_mut());
    Ok(Answer::Relayed { response, in_use: Some(in_use), progress })
}

/// Refuses what makes no sense as an answer to what was sent.
pub(super) fn check_answer(response: &Response<Incoming>) -> Result<(), Failure> {
    let message = match response.status() {
        _ if head_size(response.headers()) > MOST_HEAD => "the head of the upstream's answer is larger than 64 KiB",
        _ if !is_framed_once(response) => "the length of the upstream's answer can be read in two ways",
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => "the upstream asked for proxy authentication",
        StatusCode::SWITCHING_PROTOCOLS => "the upstream switched protocols without being asked",
        _ => return Ok(()),
    };
    Err(Failure::new(Kind::Upstream, "bad_answer", message))
}

/// hyper's buffer may hold somewhat more than it is told to.
fn head_size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum()
}

/// Whether everybody reads the same length. hyper takes `chunked` before `Content-Length`, and any other coding for a
/// body that ends with its connection; the next reader need not. Without a body of its own (`HEAD`, 204, 304) an answer
/// may tell a length, but not in two ways either.
fn is_framed_once(response: &Response<Incoming>) -> bool {
    let headers = response.headers();
    let is_single = |name| headers.get_all(name).iter().nth(1).is_none();
    if response.version() == Version::HTTP_2 {
        return true;
    }
    match headers.get(header::TRANSFER_ENCODING) {
        None => is_single(header::CONTENT_LENGTH),
        Some(coding) => {
            coding.as_bytes().eq_ignore_ascii_case(b"chunked")
                && is_single(header::TRANSFER_ENCODING)
                && !headers.contains_key(header::CONTENT_LENGTH)
                && response.version() == Version::HTTP_11
        }
    }
}

/// Longer than a token endpoint needs, shorter than a client waits.
const WAIT_FOR_TOKEN: Duration = Duration::from_secs(10);
const MOST_HEAD: usize = 64 * 1024;
const QUOTA_PROJECT: HeaderName = HeaderName::from_static("x-goog-user-project");
