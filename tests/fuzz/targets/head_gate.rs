//! The gate in front of HTTP/1, hyper behind it, and a second reader: none may see other requests than the others.
//!
//! The first byte says where the stream is cut. Whatever the gate lets through is the same however it is cut, is
//! legal for the second reader, and is what hyper then serves; hyper never finds a fault that the gate overlooked.

#![no_main]

use std::{convert::Infallible, sync::Mutex, task::Poll};

use bearerd::{
    clock::Clock,
    net::head_gate::{HeadGate, Reason, Refusals, asks_for_tunnel},
};
use bearerd_fuzz::{
    http1::{self, Body, Message},
    memory::{Client, Cuts, run},
    seeds, target,
};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, Uri, Version, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1::Builder, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncRead;

target!(seeds::http1(), |data: &[u8]| {
    let Some((&choice, bytes)) = data.split_first() else { return };
    let cuts = Cuts::all(bytes.len(), choice);
    let [whole, each, some] = cuts.map(|cuts| passed(bytes, cuts));
    agree(bytes, &whole, &each);
    agree(bytes, &whole, &some);
    let messages = http1::read(&whole.bytes);
    // Only what a client sends before it was asked to is judged by how much came at once.
    let by_pieces = http1::read(&some.bytes);
    same_ends(&each, &http1::read(&each.bytes));
    serve(bytes, cuts[0], &whole, &messages);
    serve(bytes, cuts[2], &some, &by_pieces);
});

/// What came out of the gate.
#[derive(Debug)]
struct Passed {
    bytes: Vec<u8>,
    /// Where each part began that came out at once, and how long it was.
    parts: Vec<(usize, usize)>,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The client's own.
    Client,
    Refused(Reason),
    Broken(Reason),
    Sealed,
}

fn passed(bytes: &[u8], cuts: Cuts) -> Passed {
    let (client, _) = Client::new(bytes, cuts);
    let (mut gate, refusals) = HeadGate::http1_only(client, Clock::system());
    let (mut out, mut parts) = (Vec::new(), Vec::new());
    let mut space = vec![0; 64 * 1024];
    let end = run(std::future::poll_fn(|cx| {
        loop {
            let mut buf = tokio::io::ReadBuf::new(&mut space);
            match std::pin::Pin::new(&mut gate).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if buf.filled().is_empty() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => {
                    parts.push((out.len(), buf.filled().len()));
                    out.extend_from_slice(buf.filled());
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }));
    let end = match end {
        Some(Ok(())) => End::Client,
        Some(Err(error)) => {
            let reason = error.get_ref().and_then(|cause| cause.downcast_ref::<Reason>());
            assert_eq!(reason.copied(), refusals.broken());
            End::Broken(*reason.expect("an error of the gate"))
        }
        None if refusals.is_sealed() => End::Sealed,
        None => End::Refused(take_stand_in(&mut out, &refusals)),
    };
    let end = if end == End::Client && refusals.is_sealed() { End::Sealed } else { end };
    // Without the gate's own request.
    parts.retain(|(at, _)| *at < out.len());
    Passed { bytes: out, parts, end }
}

/// The gate's own request in place of the bad one.
fn take_stand_in(out: &mut Vec<u8>, refusals: &Refusals) -> Reason {
    const LENGTH: usize =
        "GET /0123456789abcdef0123456789abcdef HTTP/1.1\r\nhost: refused.invalid\r\nconnection: close\r\n\r\n".len();
    let at = out.len().checked_sub(LENGTH).expect("a stand-in");
    let text = String::from_utf8(out.split_off(at)).expect("a stand-in");
    let path: Uri = text.split(' ').nth(1).and_then(|path| path.parse().ok()).expect("its path");
    refusals.refusal(&path).expect("the refusal").reason
}

fn agree(bytes: &[u8], one: &Passed, other: &Passed) {
    if one.bytes == other.bytes && one.end == other.end {
        return;
    }
    // A client that waits for `100 Continue` gets its head judged without its first chunk; one that does not wait
    // after all is refused with the head if the chunk came with it, else broken off. Nothing else depends on pieces.
    let reason = |end| match end {
        End::Refused(reason) | End::Broken(reason) => Some(reason),
        _ => None,
    };
    let waits = bytes.to_ascii_lowercase().windows(12).any(|part| part == b"100-continue");
    let [short, long] = if one.bytes.len() < other.bytes.len() { [one, other] } else { [other, one] };
    let excused = waits
        && matches!((short.end, long.end), (End::Refused(_), End::Broken(_)))
        && reason(short.end) == reason(long.end)
        && long.bytes.starts_with(&short.bytes);
    assert!(excused, "the gate lets other bytes through when they come in other pieces:\n{one:?}\n{other:?}");
}

/// Shown byte by byte, the gate lets a byte out at once, but for heads (with the line of the first chunk, mostly) and
/// for what stands behind the last chunk: so it tells where it believes that a message begins and ends.
fn same_ends(passed: &Passed, messages: &[Message]) {
    let long = |at: usize| passed.parts.iter().find(|(begin, length)| *begin == at && *length > 1);
    for message in messages {
        let head = long(message.at).map(|(at, length)| at + length);
        assert!(head.is_some_and(|end| end >= message.head_end), "to the gate no head: {message:?}");
    }
    for (at, length) in passed.parts.iter().filter(|(_, length)| *length > 1) {
        let known = messages.iter().any(|message| message.at == *at || message.trailers_at == Some(*at));
        assert!(known, "to the gate a head or trailers of {length} bytes, to others a body, at {at}: {messages:?}");
    }
}

/// Set on every answer of the service; hyper's own answers lack it.
const OURS: &str = "x-answered-by-the-service";

struct Seen {
    head: http::request::Parts,
    body: Option<(Bytes, HeaderMap)>,
}

/// Serves the stream by hyper behind a gate and compares.
fn serve(bytes: &[u8], cuts: Cuts, passed: &Passed, messages: &[Message]) {
    let (client, written) = Client::new(bytes, cuts);
    let (gate, refusals) = HeadGate::http1_only(client, Clock::system());
    let seen = Mutex::new(Vec::new());
    let service = service_fn(async |request: Request<Incoming>| {
        let response = Response::builder().header(OURS, "1");
        if let Some(refusal) = refusals.refusal(request.uri()) {
            let response = response.status(refusal.status).header(header::CONNECTION, "close");
            return Ok::<_, Infallible>(response.body(Full::<Bytes>::default()).expect("an answer"));
        }
        let opens_tunnel = asks_for_tunnel(&request);
        let (head, body) = request.into_parts();
        let collected = body.collect().await.ok().map(|collected| {
            let trailers = collected.trailers().cloned().unwrap_or_default();
            (collected.to_bytes(), trailers)
        });
        seen.lock().unwrap().push(Seen { head, body: collected });
        let response = if opens_tunnel { response.status(403).header(header::CONNECTION, "close") } else { response };
        Ok(response.body(Full::default()).expect("an answer"))
    });
    // As the program's own doors, but for the timers.
    let mut server = Builder::new();
    server.half_close(true).max_headers(100).max_buf_size(64 * 1024);
    let ended = run(server.serve_connection(TokioIo::new(gate), service));
    assert!(ended.is_some(), "the connection hangs");
    let answers = String::from_utf8_lossy(&written.lock().unwrap()).into_owned();
    for answer in answers.split("HTTP/1.").skip(1) {
        assert!(answer.contains(OURS) || answer.contains(" 100 "), "hyper found a fault the gate had not: {answers}");
    }

    let seen = seen.into_inner().unwrap();
    assert!(seen.len() <= messages.len(), "hyper saw {} requests, the gate let {} through", seen.len(), messages.len());
    for (seen, message) in seen.iter().zip(messages) {
        same(seen, message);
    }
    let last = seen.last().zip(messages.get(seen.len().wrapping_sub(1)));
    let may_stop = last.is_some_and(|(seen, message)| message.may_close() || seen.body.is_none());
    assert!(
        seen.len() == messages.len() || may_stop,
        "hyper saw {} requests, the gate let {} through: {passed:?}",
        seen.len(),
        messages.len()
    );
}

fn same(seen: &Seen, message: &Message) {
    assert_eq!(seen.head.method.as_str(), message.method);
    assert_eq!(Some(&seen.head.uri), Uri::try_from(&message.target[..]).ok().as_ref());
    assert_eq!(seen.head.version == Version::HTTP_10, message.is_http_10);
    assert_eq!(fields(&seen.head.headers), sorted(message.fields.clone()));
    let Some((bytes, trailers)) = &seen.body else {
        return assert!(message.body.is_none(), "hyper saw half a body where there is a whole one: {message:?}");
    };
    let body = Body { bytes: bytes.to_vec(), trailers: fields(trailers) };
    let expected = message.body.as_ref().expect("hyper saw a whole body where there is half a one");
    assert_eq!(body.bytes, expected.bytes);
    assert_eq!(body.trailers, sorted(expected.trailers.clone()));
}

fn fields(map: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    sorted(map.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect())
}

/// By name, several of one name in their order.
fn sorted(mut fields: Vec<(String, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    fields.sort_by(|one, other| one.0.cmp(&other.0));
    fields
}
