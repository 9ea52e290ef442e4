//! A client in memory, and futures run to where nothing more can happen.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What the other side wrote.
pub type Written = Arc<Mutex<Vec<u8>>>;

/// Says `bytes` in pieces and then nothing more. Never pending, so that no timer is ever started.
pub struct Client {
    bytes: Vec<u8>,
    at: usize,
    cuts: Cuts,
    written: Written,
}

/// Where reads end.
#[derive(Clone, Copy, Debug)]
pub enum Cuts {
    /// Nowhere.
    Whole,
    /// After each byte.
    Each,
    /// Once, there.
    At(usize),
}

impl Cuts {
    /// The three ways that every input is shown in; the place of one cut comes out of the input's length.
    pub fn all(len: usize, choice: u8) -> [Self; 3] {
        [Self::Whole, Self::Each, Self::At(len * usize::from(choice) / 256)]
    }

    fn end(self, at: usize, len: usize) -> usize {
        match self {
            Self::Each => at + 1,
            Self::At(cut) if at < cut => cut,
            _ => len,
        }
    }
}

impl Client {
    pub fn new(bytes: &[u8], cuts: Cuts) -> (Self, Written) {
        let written = Written::default();
        (Self { bytes: bytes.to_vec(), at: 0, cuts, written: written.clone() }, written)
    }
}

impl AsyncRead for Client {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let at = self.at;
        let end = self.cuts.end(at, self.bytes.len()).min(self.bytes.len()).min(at + buf.remaining());
        buf.put_slice(&self.bytes[at..end]);
        self.at = end;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Client {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.written.lock().unwrap().extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Runs `future` until it is done, or pending with nobody left to wake it: `None`.
pub fn run<F: Future>(future: F) -> Option<F::Output> {
    let woken = Arc::new(Woken(AtomicBool::new(true)));
    let waker = Waker::from(woken.clone());
    let mut cx = Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    let mut turns = 0_u64;
    while woken.0.swap(false, Ordering::SeqCst) {
        turns += 1;
        assert!(turns < 1_000_000, "it wakes itself for ever");
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return Some(output);
        }
    }
    None
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}
