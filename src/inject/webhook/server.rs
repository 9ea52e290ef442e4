//! Reviews over HTTPS: who may be heard, how much, for how long.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    body::{Body as _, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::{
    net::TcpStream,
    sync::{Semaphore, SemaphorePermit, watch},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::events::Events;
use crate::{
    app::Ground,
    inject::{
        Settings,
        review::{Door, Result as Outcome, Reviewed, review},
    },
    net::{first_use::FirstUse, listener::Seat},
};

/// Answers reviews with the newest settings.
pub(super) struct Server {
    settings: watch::Receiver<Arc<Settings>>,
    tls: TlsAcceptor,
    events: Events,
    ground: Ground,
    /// Kilobytes of bodies that may be in memory at once.
    room: Semaphore,
    /// It is about to end, so kept connections are not to be used again.
    ending: AtomicBool,
}

/// What one connection is doing, so that one which does nothing ends.
#[derive(Debug, Default)]
struct Activity {
    first_use: FirstUse,
    in_flight: AtomicUsize,
    used: AtomicBool,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("ending", &self.ending).finish_non_exhaustive()
    }
}

impl Server {
    pub(super) fn new(
        settings: watch::Receiver<Arc<Settings>>,
        tls: Arc<ServerConfig>,
        events: Events,
        ground: Ground,
    ) -> Self {
        Self {
            settings,
            tls: TlsAcceptor::from(tls),
            events,
            ground,
            room: Semaphore::new(ROOM),
            ending: AtomicBool::new(false),
        }
    }

    /// From now on every answer says that its connection ends. API servers speak HTTP/1.1 to webhooks, keep connections
    /// beyond the endpoint that they were made for, and send a review once: one that meets the end of an idle connection
    /// would fail.
    pub(super) fn see_off(&self) {
        self.ending.store(true, Ordering::Release);
    }

    /// One connection, from its handshake to its end.
    pub(super) async fn serve(self: &Arc<Self>, stream: TcpStream, seat: Seat) {
        match timeout(HANDSHAKE, self.tls.accept(stream)).await {
            Ok(Ok(stream)) => self.http(stream, seat).await,
            // Also every port scan and every probe that only connects.
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        }
    }

    async fn http(self: &Arc<Self>, stream: TlsStream<TcpStream>, seat: Seat) {
        let is_h2 = stream.get_ref().1.alpn_protocol() == Some(crate::tls::H2);
        let activity = Arc::new(Activity::default());
        let (server, noted) = (self.clone(), activity.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (server, activity, busy) = (server.clone(), noted.clone(), seat.busy());
            async move {
                let _busy = (activity.begin(), busy);
                let _work = server.ground.tasks.begin();
                let mut answer = server.answer(request).await;
                if !is_h2 && server.ending.load(Ordering::Acquire) {
                    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(answer)
            }
        });
        let io = TokioIo::new(stream);
        if is_h2 {
            let mut builder = hyper::server::conn::http2::Builder::new(self.ground.tasks.clone());
            builder.timer(TokioTimer::new()).max_concurrent_streams(MOST_STREAMS).max_header_list_size(MOST_HEAD);
            builder.keep_alive_interval(Some(IDLE / 10)).keep_alive_timeout(HANDSHAKE);
            let connection = builder.serve_connection(io, service);
            tokio::pin!(connection);
            tokio::select! {
                _ = &mut connection => return,
                () = activity.first_use.then_drained(&self.ground.tasks) => {}
                () = activity.idle() => {}
            }
            connection.as_mut().graceful_shutdown();
            let _ = timeout(ANSWER, connection).await;
        } else {
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HANDSHAKE);
            builder.max_buf_size(MOST_HEAD as usize).max_headers(MOST_FIELDS);
            let connection = builder.serve_connection(io, service);
            tokio::pin!(connection);
            tokio::select! {
                _ = &mut connection => return,
                () = activity.first_use.then_drained(&self.ground.tasks) => {}
                () = activity.idle() => {}
            }
            connection.as_mut().graceful_shutdown();
            let _ = timeout(ANSWER, connection).await;
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let begun = self.ground.clock.now();
        let Some(door) = Door::at(request.uri().path()) else {
            return refused(StatusCode::NOT_FOUND, "not found: /mutate, /mutate/namespace and /validate are here");
        };
        let reviewed = match self.read(request).await {
            Ok(body) => {
                let settings = self.settings.borrow().clone();
                review(door, &body, &settings).map_err(|bad| refused(StatusCode::BAD_REQUEST, &bad.to_string()))
            }
            Err(refusal) => Err(refusal),
        };
        let took = begun.until(self.ground.clock.now());
        let metrics = &self.ground.metrics;
        let result = reviewed.as_ref().map_or(Outcome::Malformed, |reviewed| reviewed.result);
        metrics.webhook_reviews.with_label_values(&[result.label()]).inc();
        metrics.webhook_review_duration.with_label_values(&[] as &[&str]).observe(took.as_secs_f64());
        match reviewed {
            Ok(reviewed) => {
                log(door, &reviewed, took);
                self.events.note(&reviewed);
                answered(reviewed.body)
            }
            Err(refusal) => {
                tracing::warn!(door = door.label(), code = refusal.status().as_u16(), "no review");
                refusal
            }
        }
    }

    /// The body, within bounds.
    async fn read(&self, request: Request<Incoming>) -> Result<Bytes, Response<Full<Bytes>>> {
        if request.method() != Method::POST {
            let mut answer = refused(StatusCode::METHOD_NOT_ALLOWED, "POST is accepted");
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            return Err(answer);
        }
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
        if !kind.is_some_and(|kind| kind.eq_ignore_ascii_case("application/json")) {
            return Err(refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "application/json is accepted"));
        }
        let hint = request.body().size_hint();
        let most = hint.upper().unwrap_or(MOST_BODY as u64);
        if most > MOST_BODY as u64 || hint.lower() > MOST_BODY as u64 {
            return Err(too_large());
        }
        let read = async {
            let _held = self.seat(most).await;
            Limited::new(request.into_body(), MOST_BODY).collect().await
        };
        match timeout(ANSWER, read).await {
            Err(_) => Err(refused(StatusCode::REQUEST_TIMEOUT, "the request took too long")),
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
            Ok(Err(_)) => Err(refused(StatusCode::BAD_REQUEST, "the request's body could not be read")),
        }
    }

    async fn seat(&self, bytes: u64) -> Option<SemaphorePermit<'_>> {
        let kilobytes = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX);
        // Fails only when it is closed, which it never is.
        self.room.acquire_many(kilobytes).await.ok()
    }
}

impl Activity {
    fn begin(self: &Arc<Self>) -> Busy {
        self.first_use.note();
        self.used.store(true, Ordering::Release);
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        Busy(self.clone())
    }

    /// Completes when the connection was not used for a while, at first for a short one.
    async fn idle(&self) {
        tokio::time::sleep(ANSWER).await;
        loop {
            let busy = self.in_flight.load(Ordering::Acquire) > 0;
            if !busy && !self.used.swap(false, Ordering::AcqRel) {
                return;
            }
            tokio::time::sleep(IDLE).await;
        }
    }
}

/// A request in flight until dropped.
struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

fn log(door: Door, reviewed: &Reviewed, took: Duration) {
    let owner = &reviewed.owner;
    tracing::info!(
        door = door.label(),
        namespace = reviewed.namespace,
        kind = owner.kind,
        name = owner.name,
        result = reviewed.result.label(),
        dry_run = reviewed.dry_run,
        micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        "review"
    );
}

fn answered(body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::from(body));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

fn refused(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::from(format!("bearerd: {message}\n")));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

fn too_large() -> Response<Full<Bytes>> {
    refused(StatusCode::PAYLOAD_TOO_LARGE, "the review is larger than 4 MiB")
}

/// An API server keeps no object above 1.5 MiB; a review may hold an old and a new one.
const MOST_BODY: usize = 4 * 1024 * 1024;
/// In kilobytes: four of the largest.
const ROOM: usize = 4 * (MOST_BODY / 1024 + 1);
const MOST_STREAMS: u32 = 100;
const MOST_HEAD: u32 = 16 * 1024;
const MOST_FIELDS: usize = 64;
const HANDSHAKE: Duration = Duration::from_secs(10);
/// API servers wait for 10 s by default, and for 30 s at most.
const ANSWER: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(300);
