//! Connections: accepted, judged by the name in their hello, served.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use http::{HeaderValue, Request, Response, header};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use super::{
    api,
    body::{self, Body},
    identities,
    script::{Certificate, DateHeader, Outage, Script},
    state::{State, shifted},
    token_endpoint,
};
use crate::shutdown::Tasks;

/// Facts about a connection that its requests need.
pub(super) struct Connection {
    pub(super) number: u64,
    pub(super) sni: Option<String>,
}

/// Ends a connection (HTTP/1) or stream (HTTP/2) without an answer.
#[derive(Debug)]
pub(super) struct Abort;

impl fmt::Display for Abort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("aborted by script")
    }
}

impl std::error::Error for Abort {}

impl From<std::io::Error> for Abort {
    fn from(_: std::io::Error) -> Self {
        Self
    }
}

pub(super) async fn accept(listener: TcpListener, state: Arc<State>, tasks: Tasks) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, most likely: without a pause this loop would burn a core.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let (state, own) = (state.clone(), tasks.clone());
        tasks.spawn(async move {
            connection(stream, state, own).await;
            drop(place);
        });
    }
}

async fn connection(stream: TcpStream, state: Arc<State>, tasks: Tasks) {
    let number = state.record.connection();
    let (draining, aborting) = (state.draining.subscribe(), state.aborting.subscribe());
    let Some((stream, sni)) = handshake(stream, &state).await else {
        state.record.failed_handshake();
        return;
    };
    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let connection = Arc::new(Connection { number, sni });
    let service_state = state.clone();
    let service_tasks = tasks.clone();
    let service =
        service_fn(move |request| handle(request, connection.clone(), service_state.clone(), service_tasks.clone()));
    if h2 {
        let mut builder = http2::Builder::new(tasks);
        builder
            .timer(TokioTimer::new())
            .auto_date_header(false)
            .max_concurrent_streams(state.script().max_streams)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MAX_HEAD);
        let served = builder.serve_connection(TokioIo::new(stream), service);
        serve(served, |served| served.graceful_shutdown(), draining, aborting).await;
    } else {
        let mut builder = http1::Builder::new();
        builder.auto_date_header(false).timer(TokioTimer::new());
        let served = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
        serve(served, |served| served.graceful_shutdown(), draining, aborting).await;
    }
}

async fn serve<C>(
    served: C,
    finish: impl FnOnce(std::pin::Pin<&mut C>),
    mut draining: tokio::sync::watch::Receiver<u64>,
    mut aborting: tokio::sync::watch::Receiver<u64>,
) where
    C: Future<Output = hyper::Result<()>>,
{
    let mut served = std::pin::pin!(served);
    tokio::select! {
        _ = served.as_mut() => return,
        _ = aborting.changed() => return,
        _ = draining.changed() => finish(served.as_mut()),
    }
    tokio::select! {
        _ = served => {}
        _ = aborting.changed() => {}
    }
}

async fn handshake(stream: TcpStream, state: &State) -> Option<(TlsStream<TcpStream>, Option<String>)> {
    let _ = stream.set_nodelay(true);
    let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream);
    let hello = timeout(HANDSHAKE, hello).await.ok()?.ok()?;
    let sni = hello.client_hello().server_name().map(str::to_ascii_lowercase);
    let script = state.script();
    let name = sni.as_deref().unwrap_or("storage.googleapis.com");
    let mut certificate = script.certificates.get(name).copied().unwrap_or_default();
    if token_endpoint::HOSTS.contains(&name) {
        let mut changes = state.script_changes();
        match state.meet_outage(true) {
            Outage::Refuse => return None,
            Outage::Blackhole => {
                let _ = changes.changed().await;
                return None;
            }
            Outage::TlsError => certificate = Certificate::WrongName,
            _ => {}
        }
    }
    let config = state.certificates.server(name, certificate, script.protocols).ok()?;
    let stream = timeout(HANDSHAKE, hello.into_stream(config)).await.ok()?.ok()?;
    Some((stream, sni))
}

async fn handle(
    request: Request<Incoming>,
    connection: Arc<Connection>,
    state: Arc<State>,
    tasks: Tasks,
) -> Result<Response<Body>, Abort> {
    let authority = authority(&request);
    let is_head = request.method() == http::Method::HEAD;
    let mut response = if token_endpoint::is_for(&authority, request.uri().path()) {
        token_endpoint::answer(request, &authority, &state).await?
    } else if identities::is_for(&authority, &state) {
        identities::answer(request, &authority, &state).await?
    } else {
        api::answer(request, authority, &connection, &state, &tasks).await?
    };
    if is_head {
        response = without_body(response);
    }
    let script = state.script();
    if let Some(date) = date(&script, &state) {
        response.headers_mut().insert(header::DATE, date);
    }
    // Google offers HTTP/3 everywhere; a proxy that lets this through is left aside.
    response.headers_mut().insert(header::ALT_SVC, HeaderValue::from_static("h3=\":443\"; ma=2592000"));
    response.headers_mut().insert(header::SERVER, HeaderValue::from_static("ESF"));
    Ok(response)
}

/// The answer to a HEAD: hyper leaves the body out over HTTP/1.1 only.
fn without_body(response: Response<Body>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    if let Some(length) = http_body::Body::size_hint(&body).exact() {
        parts.headers.entry(header::CONTENT_LENGTH).or_insert(HeaderValue::from(length));
    }
    Response::from_parts(parts, body::empty())
}

/// What the request names as its host, without the default port.
fn authority(request: &Request<Incoming>) -> String {
    let named = request.uri().authority().map(http::uri::Authority::as_str);
    let host = || request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let named = named.or_else(host).unwrap_or_default().to_ascii_lowercase();
    named.strip_suffix(":443").map_or_else(|| named.clone(), str::to_owned)
}

fn date(script: &Script, state: &State) -> Option<HeaderValue> {
    let shift = match script.date {
        DateHeader::True => 0,
        DateHeader::Shifted(seconds) => seconds,
        DateHeader::Absent => return None,
        DateHeader::Garbage => return Some(HeaderValue::from_static("the day after tomorrow")),
    };
    let wall = shifted(state.wall(), shift);
    HeaderValue::try_from(httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(wall.seconds()))).ok()
}

const MAX_CONNECTIONS: usize = 4096;

const HANDSHAKE: Duration = Duration::from_secs(10);

/// h2 ends a connection on which small frames pile up unread: half this window, at 256 bytes each less
/// their length. Google takes floods of small messages, so this is room for 100 000.
const CONNECTION_WINDOW: u32 = 64 << 20;

/// What Google's front ends announce.
const MAX_HEAD: u32 = 65_536;
