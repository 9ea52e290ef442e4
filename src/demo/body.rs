//! Bodies: what the fake answers with, and a meter on what it is sent.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use aws_lc_rs::digest;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;

use super::state::State;
use crate::clock::Clock;

/// The body of every answer.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

pub(super) fn empty() -> Body {
    full(Bytes::new())
}

/// Frames as an iterator gives them, as fast as they are taken.
pub(super) fn frames<I>(frames: I) -> Body
where
    I: Iterator<Item = io::Result<Frame<Bytes>>> + Send + Unpin + 'static,
{
    Frames { frames, pause: None }.boxed_unsync()
}

/// The same with a pause before each frame.
pub(super) fn paced<I>(frames: I, clock: Clock, every: Duration) -> Body
where
    I: Iterator<Item = io::Result<Frame<Bytes>>> + Send + Unpin + 'static,
{
    Frames { frames, pause: Some(Pause { clock, every, running: None }) }.boxed_unsync()
}

struct Frames<I> {
    frames: I,
    pause: Option<Pause>,
}

struct Pause {
    clock: Clock,
    every: Duration,
    running: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<I> http_body::Body for Frames<I>
where
    I: Iterator<Item = io::Result<Frame<Bytes>>> + Unpin,
{
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(pause) = &mut self.pause {
            let (clock, every) = (pause.clock, pause.every);
            let running = pause.running.get_or_insert_with(|| Box::pin(async move { clock.sleep(every).await }));
            ready!(running.as_mut().poll(context));
            pause.running = None;
        }
        Poll::Ready(self.frames.next())
    }
}

/// A request's body that writes its length, hash and trailers into the record.
pub(super) struct Measured {
    inner: Incoming,
    state: Arc<State>,
    number: u64,
    length: u64,
    hash: digest::Context,
    trailers: HeaderMap,
    ended: bool,
}

impl Measured {
    pub(super) fn new(inner: Incoming, state: Arc<State>, number: u64) -> Self {
        let hash = digest::Context::new(&digest::SHA256);
        Self { inner, state, number, length: 0, hash, trailers: HeaderMap::new(), ended: false }
    }

    /// The next piece of data; trailers are recorded and skipped.
    pub(super) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        while let Some(frame) = self.frame().await {
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// Reads to the end and forgets.
    pub(super) async fn drain(mut self) -> io::Result<()> {
        while self.next().await?.is_some() {}
        Ok(())
    }

    /// All of it, if it is no longer than `limit`.
    pub(super) async fn collect_up_to(&mut self, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let mut all = Vec::new();
        while let Some(data) = self.next().await? {
            if all.len() + data.len() > limit {
                return Ok(None);
            }
            all.extend_from_slice(&data);
        }
        Ok(Some(all))
    }
}

impl http_body::Body for Measured {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let next = ready!(Pin::new(&mut self.inner).poll_frame(context));
        Poll::Ready(match next {
            None => {
                self.ended = true;
                None
            }
            Some(Err(error)) => Some(Err(io::Error::other(error))),
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.length += data.len() as u64;
                    self.hash.update(data);
                } else if let Some(trailers) = frame.trailers_ref() {
                    self.trailers = trailers.clone();
                    self.ended = true;
                }
                Some(Ok(frame))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// On drop, so that a body nobody read to its end is in the record too.
impl Drop for Measured {
    fn drop(&mut self) {
        let complete = self.ended || self.inner.is_end_stream();
        let sha256 = hex(self.hash.clone().finish().as_ref());
        let (length, trailers) = (self.length, std::mem::take(&mut self.trailers));
        self.state.record.amend(self.number, |request| {
            request.body = super::record::BodyRecord { complete, length, sha256, trailers };
        });
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}
