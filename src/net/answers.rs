//! What an upstream may do over HTTP/1 before and beside its answer: the limits of every client connection of ours.
//!
//! hyper ignores interim answers without counting them, and takes a failed write for the end of the exchange although
//! an answer may lie ready. Called by the pool, by our own client, and by plain forwarding.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
};

use http::Request;
use hyper::client::conn::http1;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
};

/// How HTTP/1 is spoken to upstreams: a head of an answer has at most 64 KiB and 100 fields.
pub fn http1() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.max_headers(MOST_FIELDS).max_buf_size(MOST_HEAD);
    builder
}

/// Counts the interim (1xx) answers to one request.
#[derive(Debug)]
pub struct Interim {
    counted: Arc<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    seen: AtomicU32,
    too_many: Notify,
}

impl Interim {
    /// Has those to `request` counted.
    pub fn of<B>(request: &mut Request<B>) -> Self {
        let counted = Arc::new(Counted::default());
        let counts = counted.clone();
        hyper::ext::on_informational(request, move |_| {
            if counts.seen.fetch_add(1, Ordering::Relaxed) >= MOST_INTERIM {
                counts.too_many.notify_one();
            }
        });
        Self { counted }
    }

    /// Completes when there were too many.
    pub async fn too_many(&self) {
        self.counted.too_many.notified().await;
    }
}

/// A stream whose failed writes do not hide what can still be read.
///
/// An upstream that refuses an upload may answer, close and reset while we write. What it said is more than that it
/// hung up, so a write that fails is taken for done, and reading says how it ended: with the answer or with an error.
#[derive(Debug)]
pub struct AnswerFirst<S> {
    stream: S,
    is_deaf: bool,
}

impl<S> AnswerFirst<S> {
    /// Around `stream`.
    pub fn new(stream: S) -> Self {
        Self { stream, is_deaf: false }
    }

    /// What `polled` means to a writer of `length` bytes.
    fn or_deaf(&mut self, polled: Poll<io::Result<usize>>, length: usize) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Ready(Err(_)) => {
                self.is_deaf = true;
                Poll::Ready(Ok(length))
            }
            polled => polled,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for AnswerFirst<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // hyper gives ever larger buffers to whoever fills them, and a piece of an answer keeps all of its buffer: for
        // a client that does not read on, four times what is in it.
        let most = buf.remaining().min(MOST_READ);
        let mut some = ReadBuf::new(buf.initialize_unfilled_to(most));
        let polled = Pin::new(&mut self.stream).poll_read(cx, &mut some);
        let read = some.filled().len();
        buf.advance(read);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AnswerFirst<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_deaf {
            return Poll::Ready(Ok(buf.len()));
        }
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.or_deaf(polled, buf.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = bufs.iter().map(|buf| buf.len()).sum();
        if self.is_deaf {
            return Poll::Ready(Ok(length));
        }
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.or_deaf(polled, length)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_deaf {
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(&mut self.stream).poll_flush(cx).map_ok(|()| 0);
        self.or_deaf(polled, 0).map_ok(|_| ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_deaf {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

const MOST_FIELDS: usize = 100;
const MOST_HEAD: usize = 64 * 1024;
/// One TLS record.
const MOST_READ: usize = 16 * 1024;
const MOST_INTERIM: u32 = 16;
