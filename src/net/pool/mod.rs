//! Connections to upstreams that have proved their name, kept for the next request.
//!
//! Our own pool over hyper's connections, so that a head with `Authorization` can only be written on a
//! checked-out [`Connection`]: the proof and the sender are one value. Keyed by authority and protocol offer;
//! it knows nothing of tokens or routes. `proxy` is its only caller.

mod connection;
mod http;
mod place;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicUsize},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::sync::{Notify, watch};

use self::{
    connection::Kind,
    http::{H2_STREAMS_AT_FIRST, h2_settings, noting_most_streams},
    place::{OpenStream, Place, SharedH2},
};
pub use connection::{Broken, Connection, InUse, Names, SendError};

use crate::{
    authority::Authority,
    clock::Clock,
    net::{
        answers::{self, AnswerFirst},
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
    tls: TlsPolicies,
    tasks: Tasks,
    clock: Clock,
    /// Held only to look at or change the lists, never across an await.
    places: Mutex<HashMap<Authority, Place>>,
    /// Rung when an h2 stream ends, for those who wait for room.
    freed: Arc<Notify>,
}

/// How a connection attempt ended, for those who wait for it.
#[derive(Clone, Debug)]
enum Attempt {
    Running,
    Done,
    Failed { label: &'static str, message: String },
}

impl Pool {
    /// An empty pool; its reaper runs in `tasks`.
    pub fn new(dialer: SharedDialer, tls: TlsPolicies, tasks: &Tasks, clock: Clock) -> Self {
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
        let config = self.tls.any.clone();
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
            let stream = TokioIo::new(AnswerFirst::new(stream.into_inner()));
            let (sender, connection) = answers::http1().handshake(stream).await.map_err(|_| ConnectError::Closed)?;
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
        let config = self.tls.http1.clone();
        let names = Arc::new(Names::new(authority)?);
        let verified = Verified::connect(&self.dialer, &config, authority).await?;
        let stream = TokioIo::new(AnswerFirst::new(verified.into_stream()));
        let (sender, connection) = answers::http1().handshake(stream).await.map_err(|_| ConnectError::Closed)?;
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
            place.reap(now);
            place.is_used()
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Authority, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const REAP: Duration = Duration::from_secs(15);
const WAIT: Duration = Duration::from_secs(10);
const MOST_AUTHORITIES: usize = 1024;
const MOST_H2: usize = 8;
