//! CONNECT: decide by the host alone; then intercept, carry unseen, or refuse.

use std::sync::Arc;

use bytes::BytesMut;
use http::{HeaderValue, Request, Response, header};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{
    Shared,
    access_log::{LEFT, Record, method_label},
    body::ResponseBody,
    error::{Failure, Kind},
    intercept, tunnel,
};
use crate::{
    authority::{Authority, Host},
    net::{
        dial::{DialError, Purpose},
        head_gate::HeadGate,
        listener::Seat,
        transport::Prefixed,
    },
    policy::Connect,
};

/// Answers a CONNECT. A refused one closes the connection: what the client already sent after it must never be
/// read as another request.
pub(super) async fn serve(shared: &Arc<Shared>, mut request: Request<Incoming>, seat: &Seat) -> Response<ResponseBody> {
    let mut record = begin(shared, seat);
    let upgrade = hyper::upgrade::on(&mut request);
    match open(shared, &request, upgrade, seat, &mut record).await {
        Ok(()) => {
            record.status = http::StatusCode::OK;
            drop(record);
            Response::new(ResponseBody::Empty)
        }
        Err(failure) => {
            shared.metrics.requests_refused.with_label_values(&[failure.reason]).inc();
            record.decision = failure.reason;
            record.status = failure.status();
            drop(record);
            let mut response = failure.response(false);
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            response
        }
    }
}

fn begin(shared: &Shared, seat: &Seat) -> Record {
    Record {
        metrics: shared.metrics.clone(),
        clock: shared.clock,
        began: shared.clock.now(),
        door: "connect",
        method: method_label(&http::Method::CONNECT),
        authority: None,
        route: None,
        decision: "none",
        status: *LEFT,
        _work: shared.tasks.begin(),
        _busy: seat.busy(),
    }
}

async fn open(
    shared: &Arc<Shared>,
    request: &Request<Incoming>,
    upgrade: OnUpgrade,
    seat: &Seat,
    record: &mut Record,
) -> Result<(), Failure> {
    let authority = target(request)?;
    record.authority = Some(authority.clone());
    let live = shared.live.borrow().clone();
    let verdict = match (live.policy.connect(&authority), authority.host()) {
        (Connect::Intercept, _) if shared.leaves.is_none() => return Err(no_ca()),
        (Connect::Intercept, Some(host)) if !is_covered(shared, host) => live.policy.connect_unseen(host),
        (verdict, _) => verdict,
    };
    match verdict {
        Connect::Refuse(reason) => Err(Failure::new(Kind::Denied, reason.label(), reason.message())),
        Connect::Intercept => {
            record.decision = "intercept";
            intercept_after(shared, authority, upgrade, seat.clone());
            Ok(())
        }
        Connect::Tunnel => {
            record.decision = "tunnel";
            tunnel_after(shared, &authority, upgrade, seat.clone()).await
        }
    }
}

/// Carried unseen, the placeholder would reach Google, and the application would look for the fault in Google's 401.
fn no_ca() -> Failure {
    Failure::no_token("no_ca", "there is no pod CA to intercept with: /startupz says why", 5)
}

/// Whether the CA may vouch for the name. Clients would refuse our leaf for a host that the configuration named after
/// the CA was made.
fn is_covered(shared: &Shared, host: &Host) -> bool {
    shared.leaves.as_ref().is_some_and(|leaves| leaves.ca().covers(host.as_str()))
}

fn target(request: &Request<Incoming>) -> Result<Authority, Failure> {
    let malformed =
        |error: crate::authority::AuthorityError| Failure::new(Kind::Malformed, "bad_authority", error.to_string());
    let claimed = request.uri().authority().map_or("", http::uri::Authority::as_str);
    let authority = Authority::parse(claimed, None).map_err(malformed)?;
    for host in request.headers().get_all(header::HOST) {
        let claimed = Authority::parse(host.to_str().unwrap_or(""), Some(authority.port)).map_err(malformed)?;
        if claimed != authority {
            return Err(Failure::new(Kind::Misdirected, "authority_mismatch", "CONNECT and Host name different hosts"));
        }
    }
    Ok(authority)
}

fn intercept_after(shared: &Arc<Shared>, authority: Authority, upgrade: OnUpgrade, seat: Seat) {
    let held = shared.clone();
    shared.tasks.spawn(async move {
        let Some(leaves) = held.leaves.clone() else { return };
        if let Some(stream) = upgraded(upgrade).await {
            let active = held.metrics.connections_active.with_label_values(&["intercept"]);
            active.inc();
            // One that is idle may have to make room: what serves the proxy port itself is gone.
            let ended = seat.clone();
            tokio::select! {
                () = intercept::serve(&held, &leaves, authority, stream, seat) => {}
                () = ended.ended() => {}
            }
            active.dec();
        }
    });
}

/// Dials before it says 200: a dial failure must not look like a broken tunnel.
async fn tunnel_after(
    shared: &Arc<Shared>,
    authority: &Authority,
    upgrade: OnUpgrade,
    seat: Seat,
) -> Result<(), Failure> {
    let upstream = shared.dialer.dial(authority, Purpose::Opaque).await.map_err(|error| unreachable(shared, &error))?;
    let (held, work, busy) = (shared.clone(), shared.tasks.begin(), seat.busy());
    shared.tasks.spawn(async move {
        if let Some(stream) = upgraded(upgrade).await {
            let active = held.metrics.connections_active.with_label_values(&["tunnel"]);
            active.inc();
            tunnel::carry(stream, upstream).await;
            active.dec();
        }
        drop((work, busy, seat));
    });
    Ok(())
}

/// The client's own stream, out of hyper and out of the gate, with what the client sent behind its CONNECT in front:
/// nothing of HTTP lies between client and TLS any more.
async fn upgraded(upgrade: OnUpgrade) -> Option<Prefixed<TcpStream>> {
    let parts = upgrade.await.ok()?.downcast::<TokioIo<HeadGate<TcpStream>>>().ok()?;
    let (stream, held) = parts.io.into_inner().into_parts();
    let early = match (parts.read_buf.is_empty(), held.is_empty()) {
        (_, true) => parts.read_buf,
        (true, false) => held,
        (false, false) => {
            let mut both = BytesMut::from(&parts.read_buf[..]);
            both.extend_from_slice(&held);
            both.freeze()
        }
    };
    Some(Prefixed::new(early, stream))
}

pub(super) fn unreachable(shared: &Shared, error: &DialError) -> Failure {
    let label = error.label();
    shared.metrics.upstream_connect_errors.with_label_values(&[label]).inc();
    let kind = match error {
        DialError::Forbidden => Kind::Denied,
        DialError::Timeout => Kind::Timeout,
        _ => Kind::Upstream,
    };
    Failure::new(kind, label, format!("the upstream could not be reached: {error}"))
}
