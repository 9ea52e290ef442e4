//! A client without a key: it knows a proxy, a metadata server and a bundle of roots, and remembers every byte it
//! was ever sent.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
    sync::mpsc,
};
use tokio_rustls::TlsConnector;

use super::super::state::lock;
use crate::{shutdown::Tasks, tls};

/// The body of every request.
pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// One client.
pub(super) struct Client {
    proxy: SocketAddr,
    metadata: SocketAddr,
    token_api: Option<SocketAddr>,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    tasks: Tasks,
    seen: Seen,
}

/// Everything received, after TLS.
type Seen = Arc<Mutex<Vec<u8>>>;

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    /// The body as JSON, `null` where it is none.
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// What the sidecar calls the reason of its own refusal.
    pub(super) fn reason(&self) -> &str {
        self.headers.get("x-bearerd-error").and_then(|reason| reason.to_str().ok()).unwrap_or("none given")
    }
}

impl Client {
    /// Trusts what `bundle` says, as programs do that are given `SSL_CERT_FILE`.
    pub(super) fn new(
        proxy: SocketAddr,
        metadata: SocketAddr,
        token_api: Option<SocketAddr>,
        bundle: &Path,
        tasks: &Tasks,
    ) -> io::Result<Self> {
        let roots = tls::client_roots(Some(&std::fs::read(bundle)?)).map_err(io::Error::other)?;
        let config = |protocol| tls::client_config(roots.clone(), &[protocol]).map_err(io::Error::other);
        let (http1, http2) = (config(tls::HTTP11)?, config(tls::H2)?);
        Ok(Self { proxy, metadata, token_api, http1, http2, tasks: tasks.clone(), seen: Seen::default() })
    }

    pub(super) fn proxy(&self) -> SocketAddr {
        self.proxy
    }

    /// What an SDK asks for on a GCE machine.
    pub(super) async fn ask_metadata(&self, path: &str) -> io::Result<Answer> {
        let mut request = get(&self.metadata.to_string(), path);
        request.headers_mut().insert("metadata-flavor", HeaderValue::from_static("Google"));
        self.http1(dialled(self.metadata).await?).await?.send(request).await
    }

    /// What a backend asks for, to hand it on.
    pub(super) async fn ask_token_api(&self, path: &str) -> io::Result<Answer> {
        let address = self.token_api.ok_or_else(|| io::Error::other("the sidecar has no token API"))?;
        let mut request = get(&address.to_string(), path);
        request.headers_mut().insert("x-bearerd-token-request", HeaderValue::from_static("true"));
        self.http1(dialled(address).await?).await?.send(request).await
    }

    /// A request with an absolute URL, to the proxy port.
    pub(super) async fn forward(&self, request: Request<Body>) -> io::Result<Answer> {
        self.http1(dialled(self.proxy).await?).await?.send(request).await
    }

    /// HTTP/1.1 over TLS through CONNECT.
    pub(super) async fn https(&self, host: &str) -> io::Result<Http1> {
        let stream = secure(&self.http1, host, self.tunnel(host).await?).await?;
        self.http1(stream).await
    }

    /// HTTP/2 over TLS through CONNECT.
    pub(super) async fn http2(&self, host: &str) -> io::Result<Http2> {
        let stream = secure(&self.http2, host, self.tunnel(host).await?).await?;
        let stream = TokioIo::new(Remembered { stream, seen: self.seen.clone() });
        let (sender, connection) = http2::handshake(self.tasks.clone(), stream).await.map_err(io::Error::other)?;
        self.tasks.spawn(async move {
            let _ = connection.await;
        });
        Ok(Http2 { sender, seen: self.seen.clone() })
    }

    /// HTTP/1.1 over TLS past the sidecar.
    pub(super) async fn direct(&self, address: SocketAddr, host: &str) -> io::Result<Http1> {
        let stream = secure(&self.http1, host, dialled(address).await?).await?;
        self.http1(stream).await
    }

    /// Whether any of `secrets` was among what it was sent.
    pub(super) fn has_seen(&self, secrets: &[String]) -> bool {
        let seen = lock(&self.seen);
        let firsts: std::collections::BTreeSet<u8> =
            secrets.iter().filter_map(|secret| secret.bytes().next()).collect();
        let begins = seen.iter().enumerate().filter(|(_, byte)| firsts.contains(byte));
        let mut rests = begins.map(|(at, _)| seen.get(at..).unwrap_or_default());
        rests.any(|rest| secrets.iter().any(|secret| rest.starts_with(secret.as_bytes())))
    }

    /// Bytes received so far.
    pub(super) fn received(&self) -> usize {
        lock(&self.seen).len()
    }

    async fn http1<S>(&self, stream: S) -> io::Result<Http1>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream = TokioIo::new(Remembered { stream, seen: self.seen.clone() });
        let (sender, connection) = http1::handshake(stream).await.map_err(io::Error::other)?;
        self.tasks.spawn(async move {
            let _ = connection.await;
        });
        Ok(Http1 { sender })
    }

    async fn tunnel(&self, host: &str) -> io::Result<TcpStream> {
        let mut stream = dialled(self.proxy).await?;
        let head = format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") && head.len() < MOST_HEAD {
            // One by one: what follows the head belongs to TLS.
            head.push(stream.read_u8().await?);
        }
        lock(&self.seen).extend_from_slice(&head);
        match head.get(9..12) {
            Some(b"200") => Ok(stream),
            status => {
                let status = String::from_utf8_lossy(status.unwrap_or_default()).into_owned();
                Err(io::Error::other(format!("CONNECT was answered with {status}")))
            }
        }
    }
}

/// An HTTP/1.1 connection.
pub(super) struct Http1 {
    sender: http1::SendRequest<Body>,
}

impl Http1 {
    pub(super) async fn send(&mut self, request: Request<Body>) -> io::Result<Answer> {
        self.sender.ready().await.map_err(io::Error::other)?;
        let response = self.sender.send_request(request).await.map_err(io::Error::other)?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }
}

/// An HTTP/2 connection for gRPC.
pub(super) struct Http2 {
    sender: http2::SendRequest<Body>,
    seen: Seen,
}

impl Http2 {
    /// Opens a call; its messages follow.
    pub(super) async fn call(&mut self, host: &str, method: &str, placeholder: &str) -> io::Result<Call> {
        let (sender, mut messages) = mpsc::channel::<Bytes>(1);
        let frames = futures_util::stream::poll_fn(move |context| {
            messages.poll_recv(context).map(|message| message.map(|message| Ok(Frame::data(message))))
        });
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("https://{host}{method}"))
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .header(header::AUTHORIZATION, format!("Bearer {placeholder}"))
            .body(StreamBody::new(frames).boxed_unsync())
            .map_err(io::Error::other)?;
        self.sender.ready().await.map_err(io::Error::other)?;
        let response = self.sender.send_request(request);
        Ok(Call { sender: Some(sender), waiting: Some(Box::pin(response)), body: None, seen: self.seen.clone() })
    }
}

/// A gRPC call under way.
pub(super) struct Call {
    sender: Option<mpsc::Sender<Bytes>>,
    waiting: Option<Waiting>,
    body: Option<Incoming>,
    seen: Seen,
}

/// The head of the answer, which may come only after the first message was sent.
type Waiting = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

impl Call {
    /// Sends a message.
    pub(super) async fn send(&self, text: &str) -> io::Result<()> {
        let sender = self.sender.as_ref().ok_or_else(|| io::Error::other("the call has no more messages"))?;
        sender.send(framed(text)).await.map_err(io::Error::other)
    }

    /// Says that no more messages come.
    pub(super) fn close(&mut self) {
        self.sender = None;
    }

    /// Whether this message comes next.
    pub(super) async fn brings(&mut self, text: &str) -> io::Result<bool> {
        let wanted = framed(text);
        let mut got = Vec::new();
        while got.len() < wanted.len() {
            match self.frame().await? {
                Some(frame) if frame.is_data() => got.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
                _ => return Ok(false),
            }
        }
        Ok(got == wanted)
    }

    /// `grpc-status`, which must come in trailers.
    pub(super) async fn status(&mut self) -> io::Result<Option<String>> {
        while let Some(frame) = self.frame().await? {
            if let Some(trailers) = frame.trailers_ref() {
                let status = trailers.get("grpc-status").and_then(|status| status.to_str().ok());
                return Ok(status.map(str::to_owned));
            }
        }
        Ok(None)
    }

    async fn frame(&mut self) -> io::Result<Option<Frame<Bytes>>> {
        if let Some(waiting) = self.waiting.take() {
            let response = waiting.await.map_err(io::Error::other)?;
            // On the wire heads are compressed, so these would not be found there.
            remember(&self.seen, response.headers());
            self.body = Some(response.into_body());
        }
        let Some(body) = &mut self.body else { return Ok(None) };
        let frame = body.frame().await.transpose().map_err(io::Error::other)?;
        if let Some(trailers) = frame.as_ref().and_then(Frame::trailers_ref) {
            remember(&self.seen, trailers);
        }
        Ok(frame)
    }
}

/// A GET.
pub(super) fn get(host: &str, target: &str) -> Request<Body> {
    request(Method::GET, host, target)
}

/// A request without a body.
pub(super) fn request(method: Method, host: &str, target: &str) -> Request<Body> {
    let mut request = Request::new(Full::default().boxed_unsync());
    *request.method_mut() = method;
    // Both are texts of the story, so neither can be refused.
    *request.uri_mut() = target.parse().unwrap_or_default();
    if let Ok(host) = HeaderValue::try_from(host) {
        request.headers_mut().insert(header::HOST, host);
    }
    request
}

/// The same request, with a bearer token.
pub(super) fn with_bearer(mut request: Request<Body>, token: &str) -> Request<Body> {
    if let Ok(value) = HeaderValue::try_from(format!("Bearer {token}")) {
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    request
}

/// Without Nagle's delay, as every HTTP client dials.
async fn dialled(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn secure(
    config: &Arc<ClientConfig>,
    host: &str,
    stream: TcpStream,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    TlsConnector::from(config.clone()).connect(name, stream).await
}

/// A message with its prefix: not compressed, so many bytes.
fn framed(text: &str) -> Bytes {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes();
    Bytes::from([&[0], &length[..], text.as_bytes()].concat())
}

fn remember(seen: &Seen, headers: &HeaderMap) {
    let mut seen = lock(seen);
    for value in headers.values() {
        seen.extend_from_slice(value.as_bytes());
    }
}

/// A stream whose reader's every byte is remembered.
struct Remembered<S> {
    stream: S,
    seen: Seen,
}

impl<S: AsyncRead + Unpin> AsyncRead for Remembered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let mut seen = lock(&self.seen);
        if seen.len() > MOST_SEEN {
            // Better no answer than one that nobody looked through.
            return Poll::Ready(Err(io::Error::other("the demo's memory is full")));
        }
        seen.extend_from_slice(buffer.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Remembered<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

const MOST_HEAD: usize = 16 * 1024;

/// The whole story is less than one of the sixteen.
const MOST_SEEN: usize = 16 << 20;
