//! What is open for one authority, and which of it serves the next request.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper::client::conn::{http1, http2};
use tokio::sync::{Notify, watch};

use super::{
    Attempt,
    connection::{Kind, Names},
};
use crate::{clock::Moment, net::body::RequestBody};

/// What is known and open for one authority.
#[derive(Debug, Default)]
pub(super) struct Place {
    pub(super) names: Option<Arc<Names>>,
    pub(super) h1: Vec<IdleH1>,
    pub(super) h2: Vec<SharedH2>,
    /// Set while somebody connects, unless the upstream is known to speak only http/1.1.
    pub(super) connecting: Option<watch::Receiver<Attempt>>,
    pub(super) only_h1: bool,
}

#[derive(Debug)]
pub(super) struct IdleH1 {
    pub(super) sender: http1::SendRequest<RequestBody>,
    pub(super) since: Moment,
}

#[derive(Clone, Debug)]
pub(super) struct SharedH2 {
    pub(super) sender: http2::SendRequest<RequestBody>,
    pub(super) streams: Arc<AtomicUsize>,
    /// What the upstream's SETTINGS allow at this moment.
    pub(super) most_streams: Arc<AtomicUsize>,
    pub(super) last_used: Moment,
}

impl Place {
    pub(super) fn is_used(&self) -> bool {
        !self.h1.is_empty() || !self.h2.is_empty() || self.connecting.is_some()
    }

    /// Lets go of what is closed, and of what has been idle for too long.
    pub(super) fn reap(&mut self, now: Moment) {
        self.h1.retain(|idle| !idle.sender.is_closed() && idle.since + H1_IDLE > now);
        self.h2.retain(|shared| {
            !shared.sender.is_closed()
                && (shared.streams.load(Ordering::Acquire) > 0 || shared.last_used + H2_IDLE > now)
        });
    }

    /// Keeps an http/1.1 connection for the next request.
    pub(super) fn keep(&mut self, sender: http1::SendRequest<RequestBody>, since: Moment) {
        if self.h1.len() < MOST_IDLE_H1 {
            self.h1.push(IdleH1 { sender, since });
        }
    }

    /// An open connection with room: h2 first, then the http/1.1 connection used last.
    pub(super) fn take(&mut self, now: Moment, freed: &Arc<Notify>) -> Option<Kind> {
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

/// Counts one open stream until dropped.
#[derive(Debug)]
pub(super) struct OpenStream {
    streams: Arc<AtomicUsize>,
    freed: Arc<Notify>,
}

impl OpenStream {
    pub(super) fn new(streams: &Arc<AtomicUsize>, freed: &Arc<Notify>) -> Self {
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

/// Below the 60 s or more after which servers close an idle connection, so that we rarely race with them.
const H1_IDLE: Duration = Duration::from_secs(55);
/// Google's front ends say GOAWAY after about four minutes without a stream.
const H2_IDLE: Duration = Duration::from_secs(200);
const MOST_IDLE_H1: usize = 256;
const MOST_STREAMS: usize = 1000;
