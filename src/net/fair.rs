//! A stream that lets others have their turn.
//!
//! h2 works on as long as there is something to read, and a client that floods always has something: beside it, on
//! the one thread that all share, everybody else would wait. tokio's own budget counts reads, not bytes, and allows
//! two megabytes of frames at once.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Reads at most 32 KiB before whoever reads has to come again.
#[derive(Debug)]
pub struct Fair<S> {
    stream: S,
    /// Since the last time that there was nothing.
    read: usize,
}

impl<S> Fair<S> {
    /// Wraps `stream`.
    pub fn new(stream: S) -> Self {
        Self { stream, read: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Fair<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.read >= TURN {
            self.read = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if polled.is_pending() {
            self.read = 0;
        }
        ready!(polled)?;
        self.read += buffer.filled().len() - before;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Fair<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Two full DATA frames, or three and a half thousand of the smallest. Much less would cost uploads: every turn ends
/// with a round through the scheduler.
const TURN: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[test]
    fn a_reader_with_endless_bytes_has_to_come_again() {
        let mut stream = Fair::new(tokio::io::repeat(7));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut reads = Vec::new();
        for _ in 0..40 {
            let mut space = [0; 8192];
            let mut buffer = ReadBuf::new(&mut space);
            reads.push(Pin::new(&mut stream).poll_read(&mut cx, &mut buffer).is_pending());
        }
        let pauses: Vec<usize> = (0..40).filter(|index| reads[*index]).collect();
        assert_eq!(pauses, [4, 9, 14, 19, 24, 29, 34, 39]);
    }

    #[tokio::test]
    async fn nothing_is_lost_and_the_end_is_the_end() {
        let bytes = vec![7; 1 << 20];
        let mut read = Vec::new();
        Fair::new(&bytes[..]).read_to_end(&mut read).await.unwrap();
        assert_eq!(read, bytes);
    }
}
