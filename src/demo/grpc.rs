//! `demo.Echo` over HTTP/2: messages come back as they are, whatever their schema.
//!
//! Request metadata steers it: `x-demo-status` answers with that status at once (trailers only),
//! `x-demo-late-status` puts it in the trailers after the messages, `x-demo-count` sets how many
//! messages `ServerStream` sends.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::BodyExt as _;

use super::{
    api::Call,
    body::{self, Body, Measured},
    server::Abort,
};

pub(super) fn is_for(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

pub(super) async fn answer(mut call: Call) -> Result<Response<Body>, Abort> {
    if call.method != Method::POST || call.version != http::Version::HTTP_2 {
        return Ok(refused(13, "a call is a POST over HTTP/2"));
    }
    if let Some(status) = metadata(&call, "x-demo-status") {
        return Ok(refused(status, "as you asked: 100% & no more"));
    }
    let end = trailers(metadata(&call, "x-demo-late-status").unwrap_or(0));
    match call.uri.path() {
        "/demo.Echo/Unary" => Ok(match message(&mut call.body).await? {
            Ok(message) => accepted(body::frames([Ok(Frame::data(message)), Ok(Frame::trailers(end))].into_iter())),
            Err(refusal) => refusal,
        }),
        "/demo.Echo/ServerStream" => Ok(match message(&mut call.body).await? {
            Ok(message) => {
                let count = metadata(&call, "x-demo-count").unwrap_or(3).min(MAX_MESSAGES);
                let messages = (0..count).map(move |_| Ok(Frame::data(message.clone())));
                accepted(body::frames(messages.chain(std::iter::once(Ok(Frame::trailers(end))))))
            }
            Err(refusal) => refusal,
        }),
        "/demo.Echo/Bidi" => Ok(accepted(Bidi { request: call.body, end: Some(end) }.boxed_unsync())),
        _ => Ok(refused(12, "unknown method")),
    }
}

/// Trailers only: the status in the one and only head.
pub(super) fn refused(status: u32, message: &str) -> Response<Body> {
    let mut response = accepted(body::empty());
    response.headers_mut().extend(trailers(status));
    let text = percent_encoding::utf8_percent_encode(message, GRPC_MESSAGE).to_string();
    if let Ok(text) = HeaderValue::try_from(text) {
        response.headers_mut().insert("grpc-message", text);
    }
    response
}

fn accepted(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

fn trailers(status: u32) -> HeaderMap {
    HeaderMap::from_iter([(header::HeaderName::from_static("grpc-status"), HeaderValue::from(status))])
}

fn metadata(call: &Call, name: &str) -> Option<u32> {
    call.headers.get(name)?.to_str().ok()?.parse().ok()
}

/// The one message of a request, its five bytes of prefix included.
async fn message(body: &mut Measured) -> Result<Result<Bytes, Response<Body>>, Abort> {
    let Some(all) = body.collect_up_to(MAX_MESSAGE).await? else {
        return Ok(Err(refused(8, "message larger than 4 MiB")));
    };
    let mut lengths = Lengths::default();
    lengths.take(&all);
    Ok(if lengths.messages == 1 && lengths.at_boundary() {
        Ok(Bytes::from(all))
    } else {
        Err(refused(13, "expected one message"))
    })
}

/// Sends back each piece as it comes, then the status.
struct Bidi {
    request: Measured,
    end: Option<HeaderMap>,
}

impl http_body::Body for Bidi {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.end.is_none() {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.request).poll_frame(context).map(|frame| match frame {
            Some(Ok(frame)) if frame.is_data() => Some(Ok(frame)),
            Some(Err(error)) => Some(Err(error)),
            Some(Ok(_)) | None => self.end.take().map(|end| Ok(Frame::trailers(end))),
        })
    }
}

/// Counts messages in a run of bytes: one flag byte, four of length, the message.
#[derive(Default)]
struct Lengths {
    messages: u64,
    prefix: BytesMut,
    left: usize,
}

impl Lengths {
    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let eaten = self.left.min(bytes.len());
                self.left -= eaten;
                bytes = &bytes[eaten..];
                continue;
            }
            self.prefix.extend_from_slice(&bytes[..1]);
            bytes = &bytes[1..];
            if let [_, a, b, c, d] = *self.prefix {
                self.left = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
                self.messages += 1;
                self.prefix.clear();
            }
        }
    }

    fn at_boundary(&self) -> bool {
        self.left == 0 && self.prefix.is_empty()
    }
}

/// gRPC's own limit on a received message.
const MAX_MESSAGE: usize = 4 << 20;

const MAX_MESSAGES: u32 = 1_000_000;

/// All but printable ASCII, and `%` itself.
const GRPC_MESSAGE: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS.add(b'%');
