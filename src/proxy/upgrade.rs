//! WebSocket: an upstream connection of its own, and raw bytes only after the upstream agreed with 101.

use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

use super::{
    body::ResponseBody,
    entry::Context,
    error::{Failure, Kind},
    headers,
    request::{self, Answer, Cleaning},
    tunnel,
    upstream::{self, Credential},
};
use crate::{
    authority::Authority,
    net::{head_gate::asks_for_tunnel, pool::Offer},
};

/// Whether the request asks for a WebSocket (RFC 6455 §4.1): in the words of the gate, which holds back what follows.
pub(super) fn is_wanted(request: &Request<Incoming>) -> bool {
    request.method() != Method::CONNECT && asks_for_tunnel(request)
}

fn lists(headers: &HeaderMap, name: &http::HeaderName, token: &str) -> bool {
    headers.get_all(name).iter().any(|value| {
        value.to_str().is_ok_and(|value| value.split(',').any(|item| item.trim().eq_ignore_ascii_case(token)))
    })
}

/// Sends the request; on 101 carries bytes both ways, on anything else relays the answer and closes.
pub(super) async fn exchange(
    context: &Context,
    authority: &Authority,
    mut request: Request<Incoming>,
    cleaning: Cleaning<'_>,
    credential: Option<Credential<'_>>,
) -> Result<Answer, Failure> {
    let shared = &context.shared;
    let client = hyper::upgrade::on(&mut request);
    let (mut head, payload) = request::prepare(&context.door, request, cleaning);
    ask_for_websocket(&mut head.headers);
    let sent = upstream::send(shared, authority, Offer::Http1Once, head, payload, credential).await?;
    let mut response = sent.response;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        request::check_answer(&response)?;
        headers::strip_response(response.headers_mut());
        return Ok(Answer::Relayed { response, in_use: None, progress: None });
    }
    if !lists(response.headers(), &header::UPGRADE, "websocket") {
        return Err(Failure::new(Kind::Upstream, "bad_answer", "the upstream switched to another protocol than asked"));
    }
    let upstream = hyper::upgrade::on(&mut response);
    let mut switched = http::Response::new(ResponseBody::Empty);
    *switched.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *switched.headers_mut() = std::mem::take(response.headers_mut());
    headers::strip_response(switched.headers_mut());
    ask_for_websocket(switched.headers_mut());
    let busy = context.seat.busy();
    let (work, seat, refusals) = (shared.tasks.begin(), context.seat.clone(), context.refusals.clone());
    shared.tasks.spawn(async move {
        if let (Ok(client), Ok(upstream)) = tokio::join!(client, upstream) {
            refusals.open();
            tunnel::carry(TokioIo::new(client), TokioIo::new(upstream)).await;
        }
        drop((work, busy, seat, sent.in_use));
    });
    Ok(Answer::Local(switched))
}

fn ask_for_websocket(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}
