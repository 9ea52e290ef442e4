//! TLS ended with a leaf of the pod's own CA, then HTTP/1.1 or h2 as the client's ALPN asks.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::{
    Shared,
    entry::{self, Context},
    request::Door,
};
use crate::{
    authority::Authority,
    net::{fair::Fair, head_gate::Refusals, listener::Seat, transport::Prefixed},
    tls::{self, Leaves},
};

/// Serves a tunnel that was opened for `authority`.
pub(super) async fn serve<S>(shared: &Arc<Shared>, leaves: &Leaves, authority: Authority, stream: S, seat: Seat)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Some(host) = authority.host() else { return };
    let tls = match tokio::time::timeout(HANDSHAKE, tls::accept(leaves, host.as_str(), stream)).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => {
            tracing::warn!(%host, reason = error.label(), "a client's TLS handshake failed: {error}");
            return refused(shared, error.label());
        }
        Err(_) => return refused(shared, "tls_timeout"),
    };
    let is_h2 = tls.get_ref().1.alpn_protocol() == Some(tls::H2);
    let door = Door::Intercept(authority);
    if is_h2 {
        serve_h2(shared, door, tls, seat).await;
    } else {
        entry::serve_http1(shared, door, tls, seat).await;
    }
}

/// HTTP/2 on a stream, each request of it through the pipeline.
async fn serve_h2<S>(shared: &Arc<Shared>, door: Door, mut stream: S, seat: Seat)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    if !begins_h2(&mut stream).await {
        return refused(shared, "h2_preface");
    }
    let stream = Prefixed::new(Bytes::from_static(PREFACE), Fair::new(stream));
    let context = Arc::new(Context::new(shared, door, Refusals::default(), seat));
    let held = context.clone();
    let service = service_fn(move |request| {
        let context = context.clone();
        async move { Ok::<_, std::convert::Infallible>(entry::dispatch(&context, request).await) }
    });
    let mut builder = hyper::server::conn::http2::Builder::new(shared.tasks.clone());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MOST_STREAMS)
        .max_header_list_size(MOST_HEAD)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(Duration::from_secs(300))
        .keep_alive_timeout(Duration::from_secs(20));
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = held.first_use.then_drained(&shared.tasks) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client's HTTP/2 connection ended with an error");
    }
}

/// Whether HTTP/2 begins in time: hyper would wait for its first bytes for ever.
async fn begins_h2<S: AsyncRead + Unpin>(stream: &mut S) -> bool {
    let mut first = [0; PREFACE.len()];
    matches!(tokio::time::timeout(HANDSHAKE, stream.read_exact(&mut first)).await, Ok(Ok(_))) && first == *PREFACE
}

fn refused(shared: &Shared, reason: &'static str) {
    shared.metrics.requests_refused.with_label_values(&[reason]).inc();
}

/// RFC 9113 §3.4.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HANDSHAKE: Duration = Duration::from_secs(5);
const STREAM_WINDOW: u32 = 256 * 1024;
/// Wide for the reason given in `net::pool`: small messages of a stream must not end the connection. But not
/// as wide as there: twice this, and unread frames of one byte hold 20 MiB.
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
const MOST_STREAMS: u32 = 100;
const MOST_HEAD: u32 = 32 * 1024;
const SEND_BUFFER: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn http2_begins_with_its_preface_and_in_time() {
        for (first, expected) in [(&PREFACE[..], true), (&PREFACE[..23], false), (&[b'x'; 24], false), (b"", false)] {
            let (mut near, mut far) = tokio::io::duplex(64);
            far.write_all(first).await.unwrap();
            assert_eq!(begins_h2(&mut near).await, expected, "{} bytes", first.len());
        }
    }
}
