//! One client connection: through the head gate into hyper, and each request to where it belongs.

use std::{convert::Infallible, sync::Arc, time::Duration};

use base64::Engine as _;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::{
    Shared,
    body::ResponseBody,
    connect,
    error::{Failure, Kind},
    request::{self, Door},
};
use crate::{
    net::{
        first_use::FirstUse,
        head_gate::{self, HeadGate, Reason, Refusal, Refusals},
        listener::Seat,
    },
    secret::Secret,
};

/// Serves a connection on the proxy port.
pub(super) async fn serve(shared: &Arc<Shared>, stream: TcpStream, seat: Seat) {
    let active = shared.metrics.connections_active.with_label_values(&["proxy"]);
    active.inc();
    serve_http1(shared, Door::Forward, stream, seat).await;
    active.dec();
}

/// HTTP/1.1 on a stream, each request of it through the pipeline.
pub(super) async fn serve_http1<S>(shared: &Arc<Shared>, door: Door, stream: S, seat: Seat)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (gate, refusals) = HeadGate::http1_only(stream, shared.clock);
    let context = Arc::new(Context::new(shared, door, refusals.clone(), seat));
    let held = context.clone();
    let service = service_fn(move |request| {
        let context = context.clone();
        // Boxed: hyper keeps room for the future on every connection, idle ones too, and this one is large.
        Box::pin(async move { Ok::<_, Infallible>(dispatch(&context, request).await) })
    });
    let connection = server().serve_connection(TokioIo::new(gate), service).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = held.first_use.then_drained(&shared.tasks) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Some(reason) = refusals.broken() {
        tracing::warn!(reason = reason.label(), "a client connection was closed: {}", reason.message());
        shared.metrics.requests_refused.with_label_values(&[reason.label()]).inc();
    } else if let Err(error) = ended {
        tracing::debug!(%error, "a client connection ended with an error");
    }
}

/// What the requests of one connection share.
pub(super) struct Context {
    pub(super) shared: Arc<Shared>,
    pub(super) door: Door,
    pub(super) refusals: Refusals,
    pub(super) first_use: FirstUse,
    /// Tunnels take a clone along: they outlive the connection that they came out of.
    pub(super) seat: Seat,
}

impl Context {
    pub(super) fn new(shared: &Arc<Shared>, door: Door, refusals: Refusals, seat: Seat) -> Self {
        Self { shared: shared.clone(), door, refusals, first_use: FirstUse::default(), seat }
    }
}

/// One request of a connection; what came by HTTP/2 has passed no gate.
pub(super) async fn dispatch(context: &Arc<Context>, request: Request<Incoming>) -> Response<ResponseBody> {
    let shared = &context.shared;
    // Not for a CONNECT or WebSocket handshake: a connection that was told to go would say `Connection: close` to it.
    if !context.refusals.is_sealed() {
        context.first_use.note();
    }
    let refusal = match request.version() {
        Version::HTTP_2 => head_gate::refuses_h2(&request).map(Refusal::from),
        _ => context.refusals.refusal(request.uri()),
    };
    if let Some(refusal) = refusal {
        return refuse(shared, &request, &refused(refusal));
    }
    if let (Door::Forward, Some(password)) = (&context.door, &shared.password)
        && !gives(&request, password)
    {
        return ask_for_password(shared, &request);
    }
    match (request.method(), &context.door) {
        (&Method::CONNECT, Door::Forward) => Box::pin(connect::serve(shared, request, &context.seat)).await,
        (&Method::CONNECT, Door::Intercept(_)) => refuse(shared, &request, &refused(Reason::TunnelRefused.into())),
        (&Method::OPTIONS, Door::Forward) if request.uri() == "*" => {
            let mut response = Response::new(ResponseBody::Empty);
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
        _ => {
            let mut response = request::serve(context, request).await;
            if context.refusals.is_sealed() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            response
        }
    }
}

/// Whether the request gives the password, as RFC 7617 writes it.
fn gives(request: &Request<Incoming>, password: &Secret) -> bool {
    let given = request.headers().get(header::PROXY_AUTHORIZATION).and_then(|value| {
        let (scheme, credentials) = value.to_str().ok()?.split_once(' ')?;
        let decoded = base64::engine::general_purpose::STANDARD.decode(credentials.trim()).ok()?;
        scheme.eq_ignore_ascii_case("basic").then(|| Secret::new(decoded))
    });
    given.is_some_and(|given| given == *password)
}

/// The one 407: curl and others give their password only when asked.
fn ask_for_password(shared: &Shared, request: &Request<Incoming>) -> Response<ResponseBody> {
    let status = Kind::Refused(StatusCode::PROXY_AUTHENTICATION_REQUIRED);
    let failure = Failure::new(status, "proxy_password", "this proxy belongs to another program");
    let mut response = refuse(shared, request, &failure);
    let challenge = HeaderValue::from_static("Basic realm=\"bearerd\"");
    response.headers_mut().insert(header::PROXY_AUTHENTICATE, challenge);
    response
}

/// What breaks a rule about heads.
fn refused(refusal: Refusal) -> Failure {
    Failure::new(Kind::Refused(refusal.status), refusal.reason.label(), refusal.reason.message())
}

/// Answers, counts and closes; of HTTP/2 only the stream.
fn refuse(shared: &Shared, request: &Request<Incoming>, failure: &Failure) -> Response<ResponseBody> {
    shared.metrics.requests_refused.with_label_values(&[failure.reason]).inc();
    tracing::warn!(reason = failure.reason, code = failure.status().as_u16(), "refused a request: {}", failure.message);
    let mut response = failure.response(false);
    if request.version() == Version::HTTP_2 {
        return if request.method() == Method::HEAD { response.map(|_| ResponseBody::Empty) } else { response };
    }
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn server() -> hyper::server::conn::http1::Builder {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(IDLE).max_headers(MOST_FIELDS).max_buf_size(BUFFER);
    builder
}

/// From the end of one request to the end of the next one's head.
const IDLE: Duration = Duration::from_secs(75);
/// The gate counts the same.
const MOST_FIELDS: usize = 100;
const BUFFER: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of the future that `serve` returns, without making one.
    fn size<'a, F>(_: impl FnOnce(&'a Arc<Shared>, TcpStream, Seat) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn the_future_of_a_connection_is_small() {
        // Every idle connection pays for it; what a request needs is boxed and gone with it.
        assert!(size(serve) <= 2048, "{} bytes", size(serve));
    }
}
