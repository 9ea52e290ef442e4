//! Plain `http://` to hosts that no route names: carried as it is, on a path that cannot reach a token.
//!
//! Nothing here takes a credential, a handle or a proven connection.

use http::{Request, Uri, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

use super::{
    Live, Shared,
    access_log::Record,
    connect::unreachable,
    error::{Failure, Kind},
    headers,
    request::{self, Answer, Cleaning, Door},
    upstream::{self, Head},
};
use crate::{
    authority::Authority,
    net::{
        answers::{self, AnswerFirst, Interim},
        dial::Purpose,
        pool::Broken,
    },
    policy::Decision,
};

/// Sends the request on a connection of its own, in clear.
pub(super) async fn forward(
    shared: &Shared,
    live: &Live,
    authority: &Authority,
    request: Request<Incoming>,
    record: &mut Record,
) -> Result<Answer, Failure> {
    let cleaning = match allowed(shared, live, authority, &request, record)? {
        true => Cleaning::OffPlaceholder(&shared.placeholder),
        false => Cleaning::Hops,
    };
    let (Head { method, target, mut headers }, payload) = request::prepare(&Door::Forward, request, cleaning);
    let host = authority.to_string();
    let host = host.strip_suffix(":80").unwrap_or(&host);
    let host = host.parse().map_err(|_| Failure::new(Kind::Malformed, "bad_authority", "the host cannot be sent"))?;
    headers.insert(header::HOST, host);
    let mut outgoing = Request::new(payload.body);
    *outgoing.method_mut() = method;
    *outgoing.uri_mut() = Uri::from(target);
    *outgoing.headers_mut() = headers;
    let stream = shared.dialer.dial(authority, Purpose::Opaque).await.map_err(|error| unreachable(shared, &error))?;
    let broken = |error| upstream::broken(shared, &Broken::Http(error));
    let stream = TokioIo::new(AnswerFirst::new(stream));
    let (mut sender, connection) = answers::http1().handshake(stream).await.map_err(broken)?;
    shared.tasks.spawn(async move {
        let _ = connection.await;
    });
    let interim = Interim::of(&mut outgoing);
    let pace = payload.progress.as_deref().filter(|_| !headers::is_grpc(outgoing.headers()));
    let mut response = tokio::select! {
        biased;
        () = interim.too_many() => return Err(upstream::broken(shared, &Broken::Interim)),
        () = upstream::stalls(shared, pace) => return Err(upstream::too_slow()),
        sent = sender.send_request(outgoing) => sent.map_err(broken)?,
    };
    request::check_answer(&response)?;
    headers::strip_response(response.headers_mut());
    Ok(Answer::Relayed { response, in_use: None, progress: payload.progress })
}

/// Whether the placeholder must be taken off, or why the request is refused.
fn allowed(
    shared: &Shared,
    live: &Live,
    authority: &Authority,
    request: &Request<Incoming>,
    record: &mut Record,
) -> Result<bool, Failure> {
    match live.policy.decide(&request::facts(shared, authority, request)) {
        Decision::Deny { route, reason } => {
            record.route = route.cloned();
            Err(Failure::new(Kind::Denied, reason.label(), reason.message()))
        }
        Decision::Pass { route, reason, strip_placeholder } => {
            record.route = route.cloned();
            record.decision = reason.label();
            shared.metrics.requests_passed.with_label_values(&[reason.label()]).inc();
            Ok(strip_placeholder)
        }
        // Unreachable while credentials go to port 443 only; answered, not asserted.
        Decision::Inject { .. } | Decision::SignBlob { .. } => {
            Err(Failure::new(Kind::Denied, "plaintext", "a credential is never sent over plain http"))
        }
    }
}
