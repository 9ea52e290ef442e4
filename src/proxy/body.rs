//! The body of every answer to a client: ours, or an upstream's carried through frame by frame.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::access_log::Record;
use crate::net::{body::Progress, gather::Gathered, pool::InUse};

/// The body of an answer.
pub(super) enum ResponseBody {
    /// None.
    Empty,
    /// Of our own making.
    Full(Bytes),
    /// An upstream's.
    Relay(Box<Relay>),
}

/// An upstream's body, with what must happen at its end.
pub(super) struct Relay {
    pub(super) incoming: Gathered<Incoming>,
    pub(super) end: Option<End>,
}

/// What is settled when a body ends.
pub(super) struct End {
    /// The connection it came on; `None` for one that is not kept.
    pub(super) in_use: Option<InUse>,
    /// Whether the request's body has been sent whole; `None` when it had none. An answer that came early leaves
    /// the connection in a state that no other request may meet.
    pub(super) progress: Option<Arc<Progress>>,
    pub(super) record: Record,
}

impl Relay {
    fn settle(&mut self) {
        let Some(end) = self.end.take() else { return };
        if end.progress.is_none_or(|progress| progress.ended())
            && let Some(in_use) = end.in_use
        {
            in_use.finish();
        }
        drop(end.record);
    }
}

impl Body for ResponseBody {
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
            Self::Relay(relay) => {
                let frame = ready!(Pin::new(&mut relay.incoming).poll_frame(cx));
                match &frame {
                    None => relay.settle(),
                    Some(Ok(_)) if relay.incoming.is_end_stream() => relay.settle(),
                    Some(_) => {}
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Relay(relay) => relay.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Relay(relay) => relay.incoming.size_hint(),
        }
    }
}

/// An answer without a body is never polled: it is settled when hyper lets go of it. One that the client left half
/// way takes its connection with it.
impl Drop for Relay {
    fn drop(&mut self) {
        if self.incoming.is_end_stream() {
            self.settle();
        }
    }
}
