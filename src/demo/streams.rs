//! Answers that take their time: delays, drips, events, trailers, upgraded connections.

use std::{io, time::Duration};

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body::Frame;
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    api::{Call, json_answer},
    body::{self, Body},
    server::Abort,
};
use crate::{clock::Clock, shutdown::Tasks};

/// `?ms=`: the head comes after that long.
pub(super) async fn slow(call: Call, clock: Clock) -> Result<Response<Body>, Abort> {
    let wait = milliseconds(&call, 1000);
    call.body.drain().await?;
    clock.sleep(wait).await;
    Ok(json_answer(StatusCode::OK, &json!({ "waited_ms": wait.as_millis() })))
}

/// `?chunks=&bytes=&ms=`: a chunk of zeros every so often.
pub(super) async fn drip(call: Call, clock: Clock) -> Result<Response<Body>, Abort> {
    let chunk = usize::try_from(call.number("bytes").unwrap_or(1)).unwrap_or(MAX_CHUNK).min(MAX_CHUNK);
    let chunk = Bytes::from(vec![b'0'; chunk]);
    let chunks = (0..call.number("chunks").unwrap_or(10)).map(move |_| Ok(Frame::data(chunk.clone())));
    let every = milliseconds(&call, 100);
    call.body.drain().await?;
    Ok(Response::new(body::paced(chunks, clock, every)))
}

/// `?count=&ms=`: server-sent events.
pub(super) async fn events(call: Call, clock: Clock) -> Result<Response<Body>, Abort> {
    let count = call.number("count").unwrap_or(3);
    let every = milliseconds(&call, 100);
    call.body.drain().await?;
    let events = (1..=count).map(|number| Ok(Frame::data(Bytes::from(format!("id: {number}\ndata: tick\n\n")))));
    let mut response = Response::new(body::paced(events, clock, every));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    Ok(response)
}

/// A body with a trailer `x-demo-trailer`.
pub(super) async fn trailers(call: Call) -> Result<Response<Body>, Abort> {
    call.body.drain().await?;
    let mut trailers = HeaderMap::new();
    trailers.insert("x-demo-trailer", HeaderValue::from_static("end"));
    let frames = [Ok(Frame::data(Bytes::from_static(b"body\n"))), Ok(Frame::trailers(trailers))];
    let mut response = Response::new(body::frames(frames.into_iter()));
    response.headers_mut().insert(header::TRAILER, HeaderValue::from_static("x-demo-trailer"));
    Ok(response)
}

pub(super) fn wants_upgrade(request: &Request<Incoming>) -> bool {
    let connection = request.headers().get(header::CONNECTION).and_then(|value| value.to_str().ok());
    let upgrade =
        connection.is_some_and(|value| value.split(',').any(|word| word.trim().eq_ignore_ascii_case("upgrade")));
    request.uri().path() == "/ws" && upgrade && request.headers().contains_key(header::UPGRADE)
}

/// 101, then every byte comes back.
pub(super) fn upgrade(call: &Call, upgrade: OnUpgrade, tasks: &Tasks) -> Response<Body> {
    tasks.spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            // The other side's end of the connection is the end of this task, good or bad.
            let _ = echo(TokioIo::new(upgraded)).await;
        }
    });
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Some(protocol) = call.headers.get(header::UPGRADE) {
        headers.insert(header::UPGRADE, protocol.clone());
    }
    if let Some(accept) = call.headers.get(header::SEC_WEBSOCKET_KEY).and_then(accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

async fn echo(mut stream: TokioIo<hyper::upgrade::Upgraded>) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(&buffer[..read]).await?;
        stream.flush().await?;
    }
}

/// RFC 6455 §4.2.2: SHA-1 of the key and a constant.
fn accept(key: &HeaderValue) -> Option<HeaderValue> {
    let text = [key.as_bytes(), b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &text);
    HeaderValue::try_from(STANDARD.encode(hash)).ok()
}

fn milliseconds(call: &Call, default: u64) -> Duration {
    Duration::from_millis(call.number("ms").unwrap_or(default).min(600_000))
}

const MAX_CHUNK: usize = 1 << 20;
