//! What the gate and the service of one connection tell each other.

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    task::Waker,
};

use http::Uri;

use super::{Reason, Refusal};

/// The service's end of a [`HeadGate`](super::HeadGate): one per connection, cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Refusals {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The request the gate put in place of a bad one.
    stand_in: OnceLock<StandIn>,
    broken: OnceLock<Reason>,
    /// What follows a CONNECT or WebSocket head: neither yet (0), [`SEALED`] or [`OPEN`].
    seal: AtomicU8,
    /// Whoever reads from a sealed gate.
    reader: Mutex<Option<Waker>>,
}

#[derive(Debug)]
struct StandIn {
    path: String,
    refusal: Refusal,
}

impl Refusals {
    /// The refusal to answer a request with, if the request is the gate's stand-in for a bad one.
    ///
    /// The service asks this before all else. The path of a stand-in is 128 random bits drawn after the
    /// last byte that is shown to hyper, so that no client can write one.
    pub fn refusal(&self, uri: &Uri) -> Option<Refusal> {
        let stand_in = self.shared.stand_in.get()?;
        (uri.path() == stand_in.path).then_some(stand_in.refusal)
    }

    /// Why the gate broke the connection, if it did: for these reasons no request is answered.
    pub fn broken(&self) -> Option<Reason> {
        self.shared.broken.get().copied()
    }

    /// Lets through what follows a CONNECT or WebSocket head; false if there was no such head.
    ///
    /// To be called only with the `Upgraded` in hand, when hyper has let go of the connection. Until
    /// then the gate releases nothing, so that hyper cannot take those bytes for a request.
    pub fn open(&self) -> bool {
        let opened = self.shared.seal.compare_exchange(SEALED, OPEN, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if let Some(reader) = self.reader().take() {
            reader.wake();
        }
        opened
    }

    /// Whether the last head was a CONNECT or WebSocket handshake that nobody has opened the gate for. Nothing more
    /// will come through: an answer that does not switch must close.
    pub fn is_sealed(&self) -> bool {
        self.shared.seal.load(Ordering::Acquire) == SEALED
    }

    pub(super) fn is_open(&self) -> bool {
        self.shared.seal.load(Ordering::Acquire) == OPEN
    }

    pub(super) fn seal(&self) {
        self.shared.seal.store(SEALED, Ordering::Release);
    }

    pub(super) fn wake_when_open(&self, waker: &Waker) {
        *self.reader() = Some(waker.clone());
    }

    pub(super) fn set_broken(&self, reason: Reason) {
        // The first reason is the true one.
        let _ = self.shared.broken.set(reason);
    }

    /// Draws the stand-in for a request that is refused for `reason`.
    pub(super) fn stand_in(&self, reason: Reason) -> String {
        let path = format!("/{:032x}", rand::random::<u128>());
        let request = format!("GET {path} HTTP/1.1\r\nhost: refused.invalid\r\nconnection: close\r\n\r\n");
        let _ = self.shared.stand_in.set(StandIn { path, refusal: reason.into() });
        request
    }

    fn reader(&self) -> std::sync::MutexGuard<'_, Option<Waker>> {
        self.shared.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const SEALED: u8 = 1;
const OPEN: u8 = 2;
