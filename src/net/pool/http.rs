//! How HTTP/2 is spoken on upstream connections: buffers, windows, limits. For HTTP/1 see `net::answers`.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use hyper::client::conn::http2;
use hyper_util::rt::TokioTimer;

use crate::{net::body::RequestBody, shutdown::Tasks};

/// Drives `connection`; only it knows how many streams the upstream allows.
pub(super) async fn noting_most_streams<T>(
    mut connection: http2::Connection<T, RequestBody, Tasks>,
    most: Arc<AtomicUsize>,
) -> hyper::Result<()>
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    std::future::poll_fn(move |cx| {
        let polled = Pin::new(&mut connection).poll(cx);
        most.store(connection.current_max_send_streams(), Ordering::Release);
        polled
    })
    .await
}

pub(super) fn h2_settings(tasks: &Tasks) -> http2::Builder<Tasks> {
    let mut builder = http2::Builder::new(tasks.clone());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(H2_STREAM_WINDOW)
        .initial_connection_window_size(H2_CONNECTION_WINDOW)
        .max_send_buf_size(H2_SEND_BUFFER)
        .max_header_list_size(MOST_HEAD)
        .max_concurrent_reset_streams(64);
    builder
}

/// Until the upstream's SETTINGS have come; RFC 9113 §6.5.2 advises servers to allow no fewer.
pub(super) const H2_STREAMS_AT_FIRST: usize = 100;
const MOST_HEAD: u32 = 64 * 1024;
/// As many streams as servers allow, 100, all of them left unread, must leave room in the connection's window: else
/// downloads that nobody reads would starve every short call beside them.
const H2_STREAM_WINDOW: u32 = 512 * 1024;
/// Wide on purpose: h2 ends a connection with too many small DATA frames unread, and its budget is half of this at
/// 256 bytes a frame. With 1 MiB, 2 000 unread one-byte messages would cost every stream of the connection.
const H2_CONNECTION_WINDOW: u32 = 64 * 1024 * 1024;
const H2_SEND_BUFFER: usize = 256 * 1024;
