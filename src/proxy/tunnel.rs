//! Bytes carried unseen, both ways, with half-close and an idle limit.
//!
//! This module cannot name a token: what passes here passes without a credential.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Carries bytes until both sides have closed, or nothing moved for [`IDLE`], or one side has been closed for
/// [`HALF_CLOSED`] without the other moving.
pub(super) async fn carry<A, B>(client: A, upstream: B)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let moved = Arc::new(AtomicBool::new(false));
    let half = Arc::new(AtomicBool::new(false));
    let (client_read, client_write) = tokio::io::split(client);
    let (upstream_read, upstream_write) = tokio::io::split(upstream);
    let both = async {
        tokio::join!(
            one_way(client_read, upstream_write, &moved, &half),
            one_way(upstream_read, client_write, &moved, &half)
        )
    };
    tokio::select! {
        _ = both => {}
        () = idle(&moved, &half) => {}
    }
}

async fn one_way<R, W>(mut from: R, mut to: W, moved: &AtomicBool, half: &AtomicBool) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; BUFFER];
    let result = loop {
        match from.read(&mut buffer).await {
            Ok(0) => break Ok(()),
            Ok(read) => {
                moved.store(true, Ordering::Relaxed);
                if let Err(error) = to.write_all(&buffer[..read]).await {
                    break Err(error);
                }
                if let Err(error) = to.flush().await {
                    break Err(error);
                }
            }
            Err(error) => break Err(error),
        }
    };
    half.store(true, Ordering::Relaxed);
    let _ = to.shutdown().await;
    result
}

/// Completes when nothing has moved for the limit that applies.
async fn idle(moved: &AtomicBool, half: &AtomicBool) {
    let mut quiet = Duration::ZERO;
    loop {
        tokio::time::sleep(TICK).await;
        quiet = if moved.swap(false, Ordering::Relaxed) { Duration::ZERO } else { quiet + TICK };
        let limit = if half.load(Ordering::Relaxed) { HALF_CLOSED } else { IDLE };
        if quiet >= limit {
            return;
        }
    }
}

const BUFFER: usize = 16 * 1024;
const TICK: Duration = Duration::from_secs(15);
const IDLE: Duration = Duration::from_secs(3600);
const HALF_CLOSED: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_half_closed_tunnel_still_carries_the_other_way() {
        let (client, client_far) = tokio::io::duplex(64);
        let (upstream, mut upstream_far) = tokio::io::duplex(64);
        let tunnel = carry(client_far, upstream);
        let (mut client_read, mut client_write) = tokio::io::split(client);
        let talk = async {
            client_write.write_all(b"question").await.unwrap();
            client_write.shutdown().await.unwrap();
            let mut asked = Vec::new();
            upstream_far.read_to_end(&mut asked).await.unwrap();
            assert_eq!(asked, b"question");
            upstream_far.write_all(b"answer").await.unwrap();
            upstream_far.shutdown().await.unwrap();
            let mut answered = Vec::new();
            client_read.read_to_end(&mut answered).await.unwrap();
            assert_eq!(answered, b"answer");
        };
        tokio::join!(tunnel, talk);
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_whose_other_half_never_closes_ends() {
        let (client, client_far) = tokio::io::duplex(64);
        let (upstream, _held_open) = tokio::io::duplex(64);
        drop(client);
        let begin = tokio::time::Instant::now();
        carry(client_far, upstream).await;
        assert!(begin.elapsed() <= Duration::from_secs(90));
    }
}
