//! Connections to upstreams that have proved their name, kept for the next request.
//!
//! Our own pool over hyper's connections, so that a head with `Authorization` can only be written on a
//! checked-out [`Connection`]: the proof and the sender are one value. Keyed by authority and protocol offer;
//! it knows nothing of tokens or routes. `proxy` is its only caller.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{HeaderValue, Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Notify, watch};

use crate::{
    authority::Authority,
    clock::{Clock, Moment},
    net::{
        body::RequestBody,
        dial::SharedDialer,
        verified::{ConnectError, TlsPolicies, Verified},
    },
    shutdown::Tasks,
};

/// Which protocols an upstream connection may speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Offer {
    /// h2 or http/1.1, as the upstream likes.
    Any,
    /// http/1.1 on a connection that carries this one request (an upgrade).
    Http1Once,
}

/// The pool.
#[derive(Clone, Debug)]
pub struct Pool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dialer: SharedDialer,
    tls: watch::Receiver<TlsPolicies>,
    tasks: Tasks,
    clock: Clock,
    /// Held only to look at or change the lists, never across an await.
    places: Mutex<HashMap<Authority, Place>>,
    /// Rung when an h2 stream ends, for those who wait for room.
    freed: Arc<Notify>,
}

/// What is known and open for one authority.
#[derive(Debug, Default)]
struct Place {
    names: Option<Arc<Names>>,
    h1: Vec<IdleH1>,
    h2: Vec<SharedH2>,
    /// Set while somebody connects, unless the upstream is known to speak only http/1.1.
    connecting: Option<watch::Receiver<Attempt>>,
    only_h1: bool,
}

#[derive(Debug)]
struct IdleH1 {
    sender: http1::SendRequest<RequestBody>,
    since: Moment,
}

#[derive(Clone, Debug)]
struct SharedH2 {
    sender: http2::SendRequest<RequestBody>,
    streams: Arc<AtomicUsize>,
    /// What the upstream's SETTINGS allow at this moment.
    most_streams: Arc<AtomicUsize>,
    last_used: Moment,
}

/// How a connection attempt ended, for those who wait for it.
#[derive(Clone, Debug)]
enum Attempt {
    Running,
    Done,
    Failed { label: &'static str, message: String },
}

/// A checked-out connection: the proof that the upstream is who it claims to be, and the only way to send.
#[derive(Debug)]
pub struct Connection {
    names: Arc<Names>,
    kind: Kind,
    /// Whether an earlier request used it: then a failure before any answer may be the keep-alive race.
    reused: bool,
    home: Option<Arc<Shared>>,
}

/// One authority in the forms that requests need, made once per upstream.
#[derive(Debug)]
pub struct Names {
    /// What was proved.
    pub authority: Authority,
    /// The value of `Host`.
    pub host: HeaderValue,
    /// The value of `:authority`.
    pub uri: http::uri::Authority,
}

impl Names {
    fn new(authority: &Authority) -> Result<Self, ConnectError> {
        let host = authority.host().ok_or(ConnectError::NotVerifiable)?.as_str();
        Ok(Self {
            authority: authority.clone(),
            host: HeaderValue::from_str(host).map_err(|_| ConnectError::NotVerifiable)?,
            uri: host.parse().map_err(|_| ConnectError::NotVerifiable)?,
        })
    }
}

#[derive(Debug)]
enum Kind {
    H1(http1::SendRequest<RequestBody>),
    H2 { sender: http2::SendRequest<RequestBody>, _open: OpenStream },
}

/// Kept until the answer's body has ended. Dropped early, it closes an http/1.1 connection.
#[derive(Debug)]
pub struct InUse {
    names: Arc<Names>,
    kind: Kind,
    home: Option<Arc<Shared>>,
}

/// A failed exchange.
#[derive(Debug)]
pub struct SendError {
    /// The request, when not one byte of it was written.
    pub unsent: Option<Request<RequestBody>>,
    /// Whether the connection had served a request before.
    pub reused: bool,
    /// What hyper says.
    pub error: hyper::Error,
}

impl Pool {
    /// An empty pool; its reaper runs in `tasks`.
    pub fn new(dialer: SharedDialer, tls: watch::Receiver<TlsPolicies>, tasks: &Tasks, clock: Clock) -> Self {
        let shared = Arc::new(Shared {
            dialer,
            tls,
            tasks: tasks.clone(),
            clock,
            places: Mutex::new(HashMap::new()),
            freed: Arc::new(Notify::new()),
        });
        let reaped = Arc::downgrade(&shared);
        tasks.spawn(async move {
            loop {
                tokio::time::sleep(REAP).await;
                let Some(shared) = reaped.upgrade() else { return };
                shared.reap();
            }
        });
        Self { shared }
    }

    /// A connection to `authority`, an idle one if there is one.
    ///
    /// # Errors
    /// See [`ConnectError`]; never later than about twenty seconds.
    pub async fn checkout(&self, authority: &Authority, offer: Offer) -> Result<Connection, ConnectError> {
        if offer == Offer::Http1Once {
            return self.shared.connect_once(authority).await;
        }
        let deadline = tokio::time::Instant::now() + WAIT;
        loop {
            let freed = self.shared.freed.notified();
            match self.shared.look(authority) {
                Look::Found(connection) => return Ok(connection),
                Look::Connect(ticket) => return self.shared.connect(authority, ticket).await,
                Look::Wait(mut attempt) => {
                    let ended = attempt.wait_for(|state| !matches!(state, Attempt::Running));
                    let outcome = tokio::time::timeout_at(deadline, ended).await.map_err(|_| ConnectError::Full)?;
                    if let Ok(state) = outcome
                        && let Attempt::Failed { label, message } = &*state
                    {
                        return Err(ConnectError::Shared { label, message: message.clone() });
                    }
                }
                Look::Full => {
                    tokio::time::timeout_at(deadline, freed).await.map_err(|_| ConnectError::Full)?;
                }
            }
        }
    }

    /// Drops every idle connection: after a suspend they are dead, after a trust change they are stale.
    pub fn drop_idle(&self) {
        self.shared.lock().clear();
    }
}

enum Look {
    Found(Connection),
    Connect(Option<Ticket>),
    Wait(watch::Receiver<Attempt>),
    Full,
}

/// The right to connect while others wait. Dropped without a word, the next waiter tries.
#[derive(Debug)]
struct Ticket {
    shared: Arc<Shared>,
    authority: Authority,
    attempt: watch::Sender<Attempt>,
}

impl Ticket {
    fn end(self, state: Attempt) {
        self.attempt.send_replace(state);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(place) = self.shared.lock().get_mut(&self.authority) {
            place.connecting = None;
        }
        self.attempt.send_if_modified(|state| {
            let running = matches!(state, Attempt::Running);
            if running {
                *state = Attempt::Done;
            }
            running
        });
    }
}

impl Shared {
    fn look(self: &Arc<Self>, authority: &Authority) -> Look {
        let now = self.clock.now();
        let mut places = self.lock();
        let Some(place) = places.get_mut(authority) else {
            if places.len() >= MOST_AUTHORITIES {
                places.retain(|_, place| place.is_used());
            }
            let place = places.entry(authority.clone()).or_default();
            return self.begin(authority, place);
        };
        if let Some(names) = place.names.clone()
            && let Some(kind) = place.take(now, &self.freed)
        {
            return Look::Found(Connection { names, kind, reused: true, home: Some(self.clone()) });
        }
        if place.only_h1 {
            return Look::Connect(None);
        }
        if let Some(attempt) = &place.connecting {
            return Look::Wait(attempt.clone());
        }
        if place.h2.len() >= MOST_H2 {
            return Look::Full;
        }
        self.begin(authority, place)
    }

    fn begin(self: &Arc<Self>, authority: &Authority, place: &mut Place) -> Look {
        let (attempt, waiters) = watch::channel(Attempt::Running);
        place.connecting = Some(waiters);
        Look::Connect(Some(Ticket { shared: self.clone(), authority: authority.clone(), attempt }))
    }

    async fn connect(
        self: &Arc<Self>,
        authority: &Authority,
        ticket: Option<Ticket>,
    ) -> Result<Connection, ConnectError> {
        let config = self.tls.borrow().any.clone();
        let opened = match Verified::connect(&self.dialer, &config, authority).await {
            Ok(verified) => self.start(authority, verified).await,
            Err(error) => Err(error),
        };
        match (&opened, ticket) {
            (Ok(_), Some(ticket)) => ticket.end(Attempt::Done),
            (Err(error), Some(ticket)) => {
                ticket.end(Attempt::Failed { label: error.label(), message: error.to_string() });
            }
            (_, None) => {}
        }
        opened
    }

    /// Starts HTTP on a fresh connection and takes the first place on it.
    async fn start(self: &Arc<Self>, authority: &Authority, verified: Verified) -> Result<Connection, ConnectError> {
        let names = Arc::new(Names::new(authority)?);
        let is_h2 = verified.is_h2();
        let stream = TokioIo::new(verified.into_stream());
        let kind = if is_h2 {
            let (sender, connection) =
                h2_settings(&self.tasks).handshake(stream).await.map_err(|_| ConnectError::Closed)?;
            let most_streams = Arc::new(AtomicUsize::new(H2_STREAMS_AT_FIRST));
            self.run(noting_most_streams(connection, most_streams.clone()));
            let streams = Arc::new(AtomicUsize::new(0));
            let open = OpenStream::new(&streams, &self.freed);
            let shared = SharedH2 { sender: sender.clone(), streams, most_streams, last_used: self.clock.now() };
            let mut places = self.lock();
            let place = places.entry(authority.clone()).or_default();
            place.names = Some(names.clone());
            place.only_h1 = false;
            place.h2.push(shared);
            Kind::H2 { sender, _open: open }
        } else {
            let (sender, connection) = h1_settings().handshake(stream).await.map_err(|_| ConnectError::Closed)?;
            self.run(connection);
            let mut places = self.lock();
            let place = places.entry(authority.clone()).or_default();
            place.names = Some(names.clone());
            place.only_h1 = true;
            Kind::H1(sender)
        };
        Ok(Connection { names, kind, reused: false, home: Some(self.clone()) })
    }

    async fn connect_once(self: &Arc<Self>, authority: &Authority) -> Result<Connection, ConnectError> {
        let config = self.tls.borrow().http1.clone();
        let names = Arc::new(Names::new(authority)?);
        let verified = Verified::connect(&self.dialer, &config, authority).await?;
        let stream = TokioIo::new(verified.into_stream());
        let (sender, connection) = h1_settings().handshake(stream).await.map_err(|_| ConnectError::Closed)?;
        self.run(connection.with_upgrades());
        Ok(Connection { names, kind: Kind::H1(sender), reused: false, home: None })
    }

    /// Drives a connection. Its errors reach those who send on it.
    fn run<C>(&self, connection: C)
    where
        C: Future<Output = hyper::Result<()>> + Send + 'static,
    {
        self.tasks.spawn(async move {
            let _ = connection.await;
        });
    }

    fn reap(&self) {
        let now = self.clock.now();
        self.lock().retain(|_, place| {
            place.h1.retain(|idle| !idle.sender.is_closed() && idle.since + H1_IDLE > now);
            place.h2.retain(|shared| {
                !shared.sender.is_closed()
                    && (shared.streams.load(Ordering::Acquire) > 0 || shared.last_used + H2_IDLE > now)
            });
            place.is_used()
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Authority, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    fn is_used(&self) -> bool {
        !self.h1.is_empty() || !self.h2.is_empty() || self.connecting.is_some()
    }

    /// An open connection with room: h2 first, then the http/1.1 connection used last.
    fn take(&mut self, now: Moment, freed: &Arc<Notify>) -> Option<Kind> {
        self.h2.retain(|shared| !shared.sender.is_closed());
        for shared in &mut self.h2 {
            let open = shared.streams.load(Ordering::Acquire);
            if open < shared.most_streams.load(Ordering::Acquire).min(MOST_STREAMS) {
                shared.last_used = now;
                let open = OpenStream::new(&shared.streams, freed);
                return Some(Kind::H2 { sender: shared.sender.clone(), _open: open });
            }
        }
        let mut index = self.h1.len();
        while index > 0 {
            index -= 1;
            let idle = &self.h1[index];
            if idle.sender.is_closed() || idle.since + H1_IDLE <= now {
                self.h1.swap_remove(index);
            } else if idle.sender.is_ready() {
                return Some(Kind::H1(self.h1.swap_remove(index).sender));
            }
        }
        None
    }
}

impl Connection {
    /// The authority whose name was proved, in the forms that requests need.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Whether it speaks HTTP/2.
    pub fn is_h2(&self) -> bool {
        matches!(self.kind, Kind::H2 { .. })
    }

    /// Sends one request and waits for the head of the answer.
    ///
    /// # Errors
    /// With the request back when not a byte of it was written.
    pub async fn send(mut self, request: Request<RequestBody>) -> Result<(Response<Incoming>, InUse), SendError> {
        let sent = match &mut self.kind {
            Kind::H1(sender) => sender.try_send_request(request).await,
            Kind::H2 { sender, .. } => sender.try_send_request(request).await,
        };
        match sent {
            Ok(response) => Ok((response, InUse { names: self.names, kind: self.kind, home: self.home })),
            Err(mut failed) => {
                let unsent = failed.take_message();
                Err(SendError { unsent, reused: self.reused, error: failed.into_error() })
            }
        }
    }
}

impl InUse {
    /// The answer's body has ended, and the request's too: the connection may serve another request.
    pub fn finish(self) {
        let Some(home) = self.home else { return };
        if let Kind::H1(sender) = self.kind
            && !sender.is_closed()
        {
            let since = home.clock.now();
            let mut places = home.lock();
            let Some(place) = places.get_mut(&self.names.authority) else { return };
            if place.h1.len() < MOST_IDLE_H1 {
                place.h1.push(IdleH1 { sender, since });
            }
        }
    }
}

/// Counts one open stream until dropped.
#[derive(Debug)]
struct OpenStream {
    streams: Arc<AtomicUsize>,
    freed: Arc<Notify>,
}

impl OpenStream {
    fn new(streams: &Arc<AtomicUsize>, freed: &Arc<Notify>) -> Self {
        streams.fetch_add(1, Ordering::AcqRel);
        Self { streams: streams.clone(), freed: freed.clone() }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.streams.fetch_sub(1, Ordering::AcqRel);
        self.freed.notify_waiters();
    }
}

/// Drives `connection`; only it knows how many streams the upstream allows.
async fn noting_most_streams<T>(
    mut connection: http2::Connection<T, RequestBody, Tasks>,
    most: Arc<AtomicUsize>,
) -> hyper::Result<()>
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    std::future::poll_fn(move |cx| {
        let polled = Pin::new(&mut connection).poll(cx);
        most.store(connection.current_max_send_streams(), Ordering::Release);
        polled
    })
    .await
}

fn h1_settings() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.max_headers(MOST_FIELDS).max_buf_size(H1_BUFFER);
    builder
}

fn h2_settings(tasks: &Tasks) -> http2::Builder<Tasks> {
    let mut builder = http2::Builder::new(tasks.clone());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(H2_STREAM_WINDOW)
        .initial_connection_window_size(H2_CONNECTION_WINDOW)
        .max_send_buf_size(H2_SEND_BUFFER)
        .max_header_list_size(MOST_HEAD)
        .max_concurrent_reset_streams(64);
    builder
}

const REAP: Duration = Duration::from_secs(15);
/// Below the 60 s or more after which servers close an idle connection, so that we rarely race with them.
const H1_IDLE: Duration = Duration::from_secs(55);
/// Google's front ends say GOAWAY after about four minutes without a stream.
const H2_IDLE: Duration = Duration::from_secs(200);
const WAIT: Duration = Duration::from_secs(10);
const MOST_AUTHORITIES: usize = 1024;
const MOST_IDLE_H1: usize = 256;
const MOST_H2: usize = 8;
const MOST_STREAMS: usize = 1000;
/// Until the upstream's SETTINGS have come; RFC 9113 §6.5.2 advises servers to allow no fewer.
const H2_STREAMS_AT_FIRST: usize = 100;
const MOST_FIELDS: usize = 100;
const H1_BUFFER: usize = 64 * 1024;
const MOST_HEAD: u32 = 64 * 1024;
const H2_STREAM_WINDOW: u32 = 1024 * 1024;
/// Wide on purpose: h2 ends a connection with too many small DATA frames unread, and its budget is half of this at
/// 256 bytes a frame. With 1 MiB, 2 000 unread one-byte messages would cost every stream of the connection.
const H2_CONNECTION_WINDOW: u32 = 64 * 1024 * 1024;
const H2_SEND_BUFFER: usize = 256 * 1024;
