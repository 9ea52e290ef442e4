//! The strict HTTP/1 gate: stands between a client's stream and hyper and shows hyper good bytes only.
//!
//! Owns the syntax and framing of requests, message by message, on the raw bytes; refuses to know what a
//! request means, where it goes and what is answered. Every door that speaks HTTP/1 wraps its streams in
//! one, because hyper alone lets through what other readers read differently.
//!
//! A bad head is replaced by a stand-in request that only the gate can write; the service answers it
//! with the refusal, in its turn behind the good requests before it, and closes. A fault in a body whose
//! head hyper has already is a read error. Bytes after a CONNECT or WebSocket head stay in the gate
//! until the service has the `Upgraded` and opens it.

mod chunked;
mod class;
mod field;
mod h2;
mod head;
mod host;
mod line;
mod machine;
mod reason;
mod refusals;
mod request_line;
#[cfg(test)]
mod tests;

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use http::{Method, Request, Version, header};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::machine::{Machine, Verdict};
pub use self::{
    h2::refuses_h2,
    reason::{Reason, Refusal},
    refusals::Refusals,
};
use crate::clock::Clock;

/// Whether the gate lets nothing follow this request until it is opened: CONNECT and WebSocket handshakes.
///
/// An answer that does not open the tunnel must carry `Connection: close`, or the connection is silent
/// until its idle time is over. Asked of an HTTP/1 request behind a gate; the service must not switch
/// protocols for any other.
pub fn asks_for_tunnel<B>(request: &Request<B>) -> bool {
    let any = |name, lists: fn(&[u8]) -> bool| request.headers().get_all(name).iter().any(|v| lists(v.as_bytes()));
    request.method() == Method::CONNECT
        || (request.version() == Version::HTTP_11
            && any(header::CONNECTION, field::lists_upgrade)
            && any(header::UPGRADE, field::lists_websocket))
}

/// A client's stream that yields only bytes the gate has judged good.
pub struct HeadGate<S> {
    stream: S,
    machine: Machine,
    verdict: Verdict,
    /// What was read and could not be released at once: part of a head, of trailers, or what follows a
    /// CONNECT head. Freed whenever it is empty, so that an idle connection holds no buffer.
    held: BytesMut,
    /// How many bytes of `held` are released.
    ready: usize,
    /// The client will send no more.
    is_ended: bool,
    refusals: Refusals,
    clock: Clock,
    /// What is waited for, and for how much longer. Made only where a head comes in pieces.
    patience: Option<(Awaited, Timer)>,
}

type Timer = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What has its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    /// The rest of a head.
    RestOfHead,
    /// The first chunk behind a whole head.
    FirstChunk,
}

impl Awaited {
    fn patience(self) -> Duration {
        match self {
            Self::RestOfHead => HEAD,
            Self::FirstChunk => PATIENCE,
        }
    }
}

impl<S> HeadGate<S> {
    /// A gate that lets through HTTP/1 only.
    pub fn http1_only(stream: S, clock: Clock) -> (Self, Refusals) {
        Self::new(stream, clock, false)
    }

    /// A gate that lets through HTTP/1, and HTTP/2 when the connection begins with its preface.
    pub fn http1_or_h2_preface(stream: S, clock: Clock) -> (Self, Refusals) {
        Self::new(stream, clock, true)
    }

    fn new(stream: S, clock: Clock, allows_h2: bool) -> (Self, Refusals) {
        let refusals = Refusals::default();
        let gate = Self {
            stream,
            machine: Machine::new(allows_h2),
            verdict: Verdict::More,
            held: BytesMut::new(),
            ready: 0,
            is_ended: false,
            refusals: refusals.clone(),
            clock,
            patience: None,
        };
        (gate, refusals)
    }

    /// The stream and what was read from it but not yielded; for a tunnel that is open.
    pub fn into_parts(self) -> (S, Bytes) {
        (self.stream, self.held.freeze())
    }

    /// The stream under the gate.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    fn yield_ready(&mut self, buf: &mut ReadBuf<'_>) {
        let count = self.ready.min(buf.remaining());
        buf.put_slice(&self.held[..count]);
        self.held.advance(count);
        self.ready -= count;
        if self.held.is_empty() {
            self.held = BytesMut::new();
        }
    }

    /// Judges what was read into `buf` after `before`, and takes back out of it what is not good yet.
    fn judge(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let new = &buf.filled()[before..];
        let judgement = if self.held.is_empty() {
            // The usual case: whole messages, judged where hyper reads them from, never copied.
            let judgement = self.machine.judge(new);
            self.held.extend_from_slice(&new[judgement.release..]);
            buf.set_filled(before + judgement.release);
            judgement
        } else {
            self.held.extend_from_slice(new);
            buf.set_filled(before);
            let judgement = self.machine.judge(&self.held);
            self.ready = judgement.release;
            judgement
        };
        // Whatever was released ends what was waited for; the next head has a time of its own.
        if judgement.release > 0 || self.patience.as_ref().map(|(awaited, _)| *awaited) != self.awaited() {
            self.patience = None;
        }
        self.conclude(judgement.verdict);
    }

    fn conclude(&mut self, verdict: Verdict) {
        self.verdict = verdict;
        match verdict {
            Verdict::More | Verdict::Transparent => {}
            Verdict::Opaque => self.refusals.seal(),
            Verdict::Refuse(reason) => {
                self.held.truncate(self.ready);
                self.held.extend_from_slice(self.refusals.stand_in(reason).as_bytes());
                self.ready = self.held.len();
            }
            Verdict::Break(reason) => {
                self.held.truncate(self.ready);
                self.refusals.set_broken(reason);
            }
        }
    }

    fn awaited(&self) -> Option<Awaited> {
        if self.machine.holds_a_head() {
            return Some(Awaited::FirstChunk);
        }
        self.machine.is_within_a_head().then_some(Awaited::RestOfHead)
    }

    /// Ready when the time of what is waited for is over: a head is let go without its first chunk, or refused
    /// without its rest.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(awaited) = self.awaited() else { return Poll::Pending };
        let clock = self.clock;
        let (_, patience) = self
            .patience
            .get_or_insert_with(|| (awaited, Box::pin(async move { clock.sleep(awaited.patience()).await })));
        ready!(patience.as_mut().poll(cx));
        self.patience = None;
        match awaited {
            Awaited::FirstChunk => self.ready = self.machine.let_go(),
            Awaited::RestOfHead => {
                let verdict = self.machine.give_up(Reason::SlowHead);
                self.conclude(verdict);
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> HeadGate<S> {
    /// Ready when the gate is open, or the client has gone without a word.
    fn poll_sealed(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.refusals.wake_when_open(cx.waker());
        while !self.refusals.is_open() {
            if self.is_ended || self.held.len() >= MAX_OPAQUE {
                return Poll::Pending;
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
            self.held.extend_from_slice(&buf.filled()[before..]);
            self.is_ended = buf.filled().len() == before;
            buf.set_filled(before);
            if self.is_ended && self.held.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
        self.verdict = Verdict::Transparent;
        self.ready = self.held.len();
        Poll::Ready(Ok(()))
    }

    /// Takes what a client goes on sending after the last word was said, as far as it is there: closing
    /// a socket with unread bytes resets it, and a reset takes our answer with it.
    fn discard(&mut self, cx: &mut Context<'_>) {
        let mut space = [0; 1024];
        for _ in 0..64 {
            let mut buf = ReadBuf::new(&mut space);
            if !matches!(Pin::new(&mut self.stream).poll_read(cx, &mut buf), Poll::Ready(Ok(())) if !buf.filled().is_empty())
            {
                return;
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HeadGate<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let gate = self.get_mut();
        let before = buf.filled().len();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if gate.ready > 0 {
                gate.yield_ready(buf);
            }
            if buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
            match gate.verdict {
                Verdict::More => {}
                Verdict::Transparent => return Pin::new(&mut gate.stream).poll_read(cx, buf),
                // Never an end of file: hyper would drop the answer that is under way.
                Verdict::Refuse(_) => return Poll::Pending,
                Verdict::Break(reason) => return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, reason))),
                Verdict::Opaque => {
                    ready!(gate.poll_sealed(cx, buf))?;
                    if gate.verdict == Verdict::Opaque {
                        return Poll::Ready(Ok(()));
                    }
                    continue;
                }
            }
            match Pin::new(&mut gate.stream).poll_read(cx, buf) {
                Poll::Ready(Ok(())) if buf.filled().len() == before => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => gate.judge(buf, before),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => ready!(gate.poll_patience(cx)),
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for HeadGate<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let gate = self.get_mut();
        if matches!(gate.verdict, Verdict::Refuse(_) | Verdict::Break(_) | Verdict::Opaque) {
            gate.discard(cx);
        }
        Pin::new(&mut gate.stream).poll_shutdown(cx)
    }
}

/// How long a whole head waits for its first chunk. Without a bound, a client that waits for our answer
/// before it sends any would wait for ever (full duplex is legal); a second is far more than honest
/// segments lie apart on a loopback.
const PATIENCE: Duration = Duration::from_secs(1);

/// From the first byte of a head to its last, however many bytes come in between. How long a connection may be idle
/// is the server's business.
const HEAD: Duration = Duration::from_secs(10);

/// What follows a CONNECT head is held up to here: enough for any ClientHello we read.
const MAX_OPAQUE: usize = 16 * 1024;
