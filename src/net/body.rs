//! The one type of body that we send to upstreams.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::gather::Gathered;

/// The body of a request to an upstream.
#[derive(Debug, Default)]
pub enum RequestBody {
    /// None.
    #[default]
    Empty,
    /// Held in memory: our own requests, and small ones that may have to be sent twice.
    Full(Bytes),
    /// The client's, as it comes.
    Client(ClientBody),
}

/// A client's body as it streams through, with a copy of its first bytes for a second sending.
#[derive(Debug)]
pub struct ClientBody {
    incoming: Gathered<Incoming>,
    progress: Arc<Progress>,
    keep_trailer: fn(&http::HeaderName) -> bool,
}

/// How far a client's body has got, seen from outside.
#[derive(Debug)]
pub struct Progress {
    ended: AtomicBool,
    /// What has passed so far; `None` once it is too much, or no longer wanted. `Bytes` share memory, so this
    /// costs a reference, not a copy.
    passed: Mutex<Option<Vec<Bytes>>>,
}

impl Progress {
    /// Whether the whole body has been read.
    pub fn ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// The whole body, when it has ended and was small enough to be kept.
    pub fn whole(&self) -> Option<Bytes> {
        if !self.ended() {
            return None;
        }
        self.lock().as_ref().map(|parts| match parts.as_slice() {
            [] => Bytes::new(),
            [one] => one.clone(),
            many => Bytes::from(many.concat()),
        })
    }

    /// Nobody will send the body again.
    pub fn forget(&self) {
        *self.lock() = None;
    }

    fn note(&self, data: &Bytes) {
        let mut passed = self.lock();
        if let Some(parts) = &mut *passed {
            let length: usize = parts.iter().map(Bytes::len).sum();
            if length + data.len() > MOST_KEPT || parts.len() >= MOST_PARTS {
                *passed = None;
            } else {
                parts.push(data.clone());
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Vec<Bytes>>> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientBody {
    /// Wraps `incoming`; trailers that `keep_trailer` refuses are dropped.
    pub fn new(incoming: Incoming, keep_trailer: fn(&http::HeaderName) -> bool) -> (Self, Arc<Progress>) {
        let ended = AtomicBool::new(incoming.is_end_stream());
        let progress = Arc::new(Progress { ended, passed: Mutex::new(Some(Vec::new())) });
        (Self { incoming: Gathered::new(incoming), progress: progress.clone(), keep_trailer }, progress)
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.incoming).poll_frame(cx));
        let frame = match frame {
            Some(Ok(frame)) => Some(Ok(this.pass(frame))),
            other => other,
        };
        if frame.is_none() || this.incoming.is_end_stream() {
            this.progress.ended.store(true, Ordering::Release);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl ClientBody {
    fn pass(&self, frame: Frame<Bytes>) -> Frame<Bytes> {
        if let Some(data) = frame.data_ref() {
            self.progress.note(data);
            return frame;
        }
        // Trailers are not kept, so a body that has them is sent once only.
        self.progress.forget();
        match frame.into_trailers() {
            Ok(trailers) => Frame::trailers(kept(&trailers, self.keep_trailer)),
            Err(frame) => frame,
        }
    }
}

fn kept(trailers: &http::HeaderMap, keep: fn(&http::HeaderName) -> bool) -> http::HeaderMap {
    trailers.iter().filter(|(name, _)| keep(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        match this {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *this = Self::Empty;
                Poll::Ready((!bytes.is_empty()).then_some(Ok(Frame::data(bytes))))
            }
            Self::Client(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Client(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Client(body) => body.size_hint(),
        }
    }
}

/// The most of a body that is kept for a second sending.
const MOST_KEPT: usize = 64 * 1024;
const MOST_PARTS: usize = 64;
