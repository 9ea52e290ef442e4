//! Our own requests: one fresh verified connection each, small bodies, hard limits.
//!
//! A fresh connection because these are rare (a token lasts an hour): a pooled one would mostly be dead.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    authority::Authority,
    net::{
        answers::{self, AnswerFirst},
        body::RequestBody,
        dial::{DialError, Purpose, SharedDialer},
        verified::{ConnectError, TlsPolicies, Verified},
    },
    shutdown::Tasks,
};

/// Sends our own requests.
#[derive(Clone, Debug)]
pub struct Client {
    dialer: SharedDialer,
    tls: TlsPolicies,
    tasks: Tasks,
}

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status; a redirect is an answer like any other and is never followed.
    pub status: StatusCode,
    /// Its fields.
    pub headers: http::HeaderMap,
    /// Its body, at most 64 KiB.
    pub body: Bytes,
}

/// No whole answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No verified connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No connection, where none has to be verified.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// No whole answer in time.
    #[error("no whole answer within {} s", WHOLE.as_secs())]
    Timeout,
    /// The connection broke.
    #[error("the connection broke before the answer was whole")]
    Broken,
    /// More than we are ready to read.
    #[error("the answer is larger than {} KiB", MOST_BODY / 1024)]
    TooLarge,
}

impl Client {
    /// A client over `dialer`.
    pub fn new(dialer: SharedDialer, tls: TlsPolicies, tasks: &Tasks) -> Self {
        Self { dialer, tls, tasks: tasks.clone() }
    }

    /// Sends `request` (origin-form target) to `authority`.
    ///
    /// # Errors
    /// See [`CallError`]; never later than about thirty seconds.
    pub async fn call(&self, authority: &Authority, request: Request<Bytes>) -> Result<Answer, CallError> {
        let config = self.tls.http1.clone();
        let verified = Verified::connect(&self.dialer, &config, authority).await?;
        tokio::time::timeout(WHOLE, self.exchange(verified.into_stream(), authority, request))
            .await
            .map_err(|_| CallError::Timeout)?
    }

    /// Sends `request` in plain text: to the real metadata server, or to where the administrator keeps subject tokens.
    /// Nothing of the pod's clients comes this way.
    ///
    /// # Errors
    /// See [`CallError`]; never later than about twenty seconds.
    pub async fn call_plain(&self, authority: &Authority, request: Request<Bytes>) -> Result<Answer, CallError> {
        let transport = self.dialer.dial(authority, Purpose::Own).await?;
        tokio::time::timeout(WHOLE, self.exchange(transport, authority, request))
            .await
            .map_err(|_| CallError::Timeout)?
    }

    async fn exchange<S>(&self, stream: S, authority: &Authority, request: Request<Bytes>) -> Result<Answer, CallError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream = TokioIo::new(AnswerFirst::new(stream));
        let (mut sender, connection) = answers::http1().handshake(stream).await.map_err(|_| CallError::Broken)?;
        self.tasks.spawn(async move {
            let _ = connection.await;
        });
        let (mut parts, body) = request.into_parts();
        let host = match authority.host() {
            Some(host) if matches!(authority.port, 80 | 443) => host.to_string(),
            _ => authority.to_string(),
        };
        parts.headers.insert(header::HOST, host.parse().map_err(|_| CallError::Broken)?);
        let request = Request::from_parts(parts, RequestBody::Full(body));
        let response = sender.send_request(request).await.map_err(|_| CallError::Broken)?;
        let (parts, mut incoming) = response.into_parts();
        let mut body = BytesMut::new();
        while let Some(frame) = incoming.frame().await {
            if let Ok(data) = frame.map_err(|_| CallError::Broken)?.into_data() {
                if body.len() + data.len() > MOST_BODY {
                    return Err(CallError::TooLarge);
                }
                body.extend_from_slice(&data);
            }
        }
        Ok(Answer { status: parts.status, headers: parts.headers, body: body.freeze() })
    }
}

/// From the first byte of the request to the last of the answer.
const WHOLE: Duration = Duration::from_secs(10);
const MOST_BODY: usize = 64 * 1024;
