//! Clients as applications have them: through each door, with bodies of every kind.

use std::{io, time::Duration};

use bearerd::{
    demo::{RecordedConnection, RecordingHost},
    shutdown::Tasks,
};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, Uri, header, uri::PathAndQuery};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::mpsc,
};

use crate::bed::Bed;

/// The body of every request of a test.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// The way to Google.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Forward,
    InterceptH1,
    InterceptH2,
}

pub(crate) const DOORS: [Door; 3] = [Door::Forward, Door::InterceptH1, Door::InterceptH2];

/// One connection to one host through one door.
pub(crate) struct Client {
    door: Door,
    host: String,
    sender: Sender,
}

enum Sender {
    H1(http1::SendRequest<Body>),
    H2(http2::SendRequest<Body>),
}

impl Client {
    /// Opens it.
    pub(crate) async fn open(bed: &Bed, door: Door, host: &str) -> Self {
        let sender = match door {
            Door::Forward => {
                let stream = TcpStream::connect(bed.addresses.proxy.unwrap()).await.unwrap();
                Sender::H1(h1(bed, stream).await)
            }
            Door::InterceptH1 => Sender::H1(h1(bed, bed.connect(host, &[b"http/1.1"]).await).await),
            Door::InterceptH2 => {
                let stream = TokioIo::new(bed.connect(host, &[b"h2"]).await);
                let (sender, connection) = h2_settings(bed).handshake(stream).await.unwrap();
                bed.tasks.spawn(async move {
                    let _ = connection.await;
                });
                Sender::H2(sender)
            }
        };
        Self { door, host: host.to_owned(), sender }
    }

    /// Sends a request whose target is in origin-form; host and scheme are put where the door wants them, unless
    /// the request has them.
    pub(crate) async fn try_send(&mut self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        let request = self.place(request);
        match &mut self.sender {
            Sender::H1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Sender::H2(sender) => sender.send_request(request).await,
        }
    }

    /// The same, which must succeed in time.
    pub(crate) async fn send(&mut self, request: Request<Body>) -> Response<Incoming> {
        within("an answer's head", self.try_send(request)).await.unwrap()
    }

    /// The same with the whole body.
    pub(crate) async fn call(&mut self, request: Request<Body>) -> Response<Bytes> {
        within("a whole answer", async { whole(self.try_send(request).await.unwrap()).await }).await
    }

    /// Several requests at once on one HTTP/2 connection.
    pub(crate) fn h2(&self) -> http2::SendRequest<Body> {
        let Sender::H2(sender) = &self.sender else { panic!("not HTTP/2") };
        sender.clone()
    }

    /// Whether the connection is still good for a request.
    pub(crate) fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::H1(sender) => sender.is_closed(),
            Sender::H2(sender) => sender.is_closed(),
        }
    }

    /// Where this client's requests say they go.
    pub(crate) fn place(&self, mut request: Request<Body>) -> Request<Body> {
        if request.uri().authority().is_none() {
            let target = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
            let mut uri = http::uri::Parts::default();
            uri.path_and_query = Some(target);
            let scheme = match self.door {
                Door::Forward => Some(http::uri::Scheme::HTTP),
                Door::InterceptH1 => None,
                Door::InterceptH2 => Some(http::uri::Scheme::HTTPS),
            };
            if scheme.is_some() {
                uri.authority = Some(self.host.parse().unwrap());
                uri.scheme = scheme;
            }
            *request.uri_mut() = Uri::from_parts(uri).unwrap();
        }
        if self.door != Door::InterceptH2 && !request.headers().contains_key(header::HOST) {
            request.headers_mut().insert(header::HOST, self.host.parse().unwrap());
        }
        request
    }
}

/// With a window as wide as gRPC's own libraries need none: h2 ends a connection on which too many small frames lie
/// unread, and half of this window is what may.
fn h2_settings(bed: &Bed) -> http2::Builder<Tasks> {
    let mut builder = http2::Builder::new(bed.tasks.clone());
    builder.initial_connection_window_size(64 << 20);
    builder
}

/// An HTTP/1.1 client on a stream.
pub(crate) async fn h1<S>(bed: &Bed, stream: S) -> http1::SendRequest<Body>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    bed.tasks.spawn(async move {
        let _ = connection.with_upgrades().await;
    });
    sender
}

/// The answer with its whole body.
pub(crate) async fn whole(response: Response<Incoming>) -> Response<Bytes> {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Response::from_parts(parts, body)
}

/// A GET.
pub(crate) fn get(target: &str) -> Request<Body> {
    Request::get(target).body(empty()).unwrap()
}

/// A GET with these fields.
pub(crate) fn get_with(target: &str, fields: &[(&str, &str)]) -> Request<Body> {
    with(get(target), fields)
}

/// A POST of these bytes.
pub(crate) fn post(target: &str, body: impl Into<Bytes>) -> Request<Body> {
    Request::post(target).body(full(body)).unwrap()
}

/// Adds fields.
pub(crate) fn with(mut request: Request<Body>, fields: &[(&str, &str)]) -> Request<Body> {
    for (name, value) in fields {
        request.headers_mut().append(http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
    }
    request
}

pub(crate) fn empty() -> Body {
    full(Bytes::new())
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body that a test feeds while it is sent; its length is not told beforehand.
pub(crate) fn fed() -> (Feed, Body) {
    let (feed, frames) = mpsc::channel::<io::Result<Frame<Bytes>>>(16);
    let frames = futures_util::stream::unfold(frames, |mut frames| async move {
        let frame = frames.recv().await?;
        Some((frame, frames))
    });
    (Feed(feed), UnsyncBoxBody::new(StreamBody::new(frames)))
}

/// The end of a fed body that is held by the test. Dropped, the body ends well.
pub(crate) struct Feed(mpsc::Sender<io::Result<Frame<Bytes>>>);

impl Feed {
    pub(crate) async fn data(&self, bytes: impl Into<Bytes>) {
        within("room in a body", self.0.send(Ok(Frame::data(bytes.into())))).await.unwrap();
    }

    /// The same, as long as somebody takes it.
    pub(crate) async fn try_data(&self, bytes: impl Into<Bytes>) -> Result<(), ()> {
        self.0.send(Ok(Frame::data(bytes.into()))).await.map_err(|_| ())
    }

    pub(crate) async fn trailers(&self, trailers: HeaderMap) {
        within("room in a body", self.0.send(Ok(Frame::trailers(trailers)))).await.unwrap();
    }

    /// Breaks the body off.
    pub(crate) async fn fail(self) {
        within("room in a body", self.0.send(Err(io::Error::other("broken off")))).await.unwrap();
    }
}

/// Waits with a limit, so that what hangs fails by its name.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("{what}: not within {} s", LIMIT.as_secs()))
}

/// Waits until a recording host has seen what is wanted.
pub(crate) async fn recorded(host: &RecordingHost, wanted: impl Fn(&[RecordedConnection]) -> bool) {
    within("what a recording host should see", host.until(wanted)).await;
}

/// Waits until something holds that nobody can be told of.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    within(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    })
    .await;
}

/// Far more than anything here takes, also on a machine that does much else.
const LIMIT: Duration = Duration::from_secs(30);
