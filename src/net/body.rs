//! The one type of body that we send to upstreams.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::gather::Gathered;
use crate::clock::Clock;

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
    /// Bytes that have come.
    came: AtomicU64,
    /// Whether the upstream has room and the client is waited for.
    awaited: AtomicBool,
    /// What has passed so far; `None` once it is too much, or no longer wanted. `Bytes` share memory, so this
    /// costs a reference, not a copy.
    passed: Mutex<Option<Vec<Bytes>>>,
}

impl Progress {
    fn new(ended: bool) -> Self {
        Self {
            ended: AtomicBool::new(ended),
            came: AtomicU64::new(0),
            awaited: AtomicBool::new(false),
            passed: Mutex::new(Some(Vec::new())),
        }
    }

    /// Whether the whole body has been read.
    pub fn ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Completes when the client is waited for and less than 1 KiB came within the last minute. An upstream that takes
    /// nothing is no fault of the client.
    pub async fn stalls(&self, clock: Clock) {
        let mut before = self.came.load(Ordering::Relaxed);
        loop {
            clock.sleep(PACE_TIME).await;
            if self.ended() {
                return std::future::pending().await;
            }
            let came = self.came.load(Ordering::Relaxed);
            if self.awaited.load(Ordering::Relaxed) && came - before < PACE_BYTES {
                return;
            }
            before = came;
        }
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
        self.came.fetch_add(data.len() as u64, Ordering::Relaxed);
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
        let progress = Arc::new(Progress::new(incoming.is_end_stream()));
        (Self { incoming: Gathered::new(incoming), progress: progress.clone(), keep_trailer }, progress)
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.incoming).poll_frame(cx);
        this.progress.awaited.store(polled.is_pending(), Ordering::Relaxed);
        let frame = ready!(polled);
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
/// The least that a body must bring in such a time.
const PACE_BYTES: u64 = 1024;
const PACE_TIME: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client does in each second until it is told to go; the second in which that was.
    async fn cut(progress: &Progress, mut second: impl FnMut(&Progress, u64)) -> Option<u64> {
        let begin = tokio::time::Instant::now();
        let live = async {
            for at in 0..600 {
                second(progress, at);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            // The minute ends before its last second's successor begins.
            biased;
            () = progress.stalls(Clock::virtual_time()) => Some(begin.elapsed().as_secs()),
            () = live => None,
        }
    }

    fn came(progress: &Progress, bytes: usize) {
        progress.note(&Bytes::from(vec![0; bytes]));
        progress.awaited.store(true, Ordering::Relaxed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_must_bring_a_kibibyte_a_minute() {
        let fresh = || Progress::new(false);
        assert_eq!(cut(&fresh(), |progress, _| came(progress, 0)).await, Some(60), "nothing");
        assert_eq!(cut(&fresh(), |progress, _| came(progress, 17)).await, Some(60), "1020 bytes a minute");
        assert_eq!(cut(&fresh(), |progress, _| came(progress, 18)).await, None, "1080 bytes a minute");
        let stops = |progress: &Progress, at| came(progress, if at < 100 { 100 } else { 0 });
        assert_eq!(cut(&fresh(), stops).await, Some(180), "a good begin helps no longer than its minute");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_not_waited_for_is_not_too_slow() {
        assert_eq!(cut(&Progress::new(false), |_, _| {}).await, None, "the upstream has no room");
        assert_eq!(cut(&Progress::new(true), |progress, _| came(progress, 0)).await, None, "all has come");
    }
}
