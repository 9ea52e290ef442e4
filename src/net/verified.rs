//! A TLS connection that has proved its name. Nothing else in the program can make one, and nothing else may
//! carry a credential.

use std::{io, sync::Arc, time::Duration};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    authority::{Authority, Host},
    net::{
        dial::{DialError, Dialer, Purpose},
        transport::Transport,
    },
    tls,
};

/// How TLS to upstreams is done: the same verification, other offers of protocols.
#[derive(Clone, Debug)]
pub struct TlsPolicies {
    /// Offers h2 and http/1.1.
    pub any: Arc<rustls::ClientConfig>,
    /// Offers http/1.1 only: upgrades (WebSocket) need it.
    pub http1: Arc<rustls::ClientConfig>,
    /// Offers nothing: what follows is not HTTP.
    pub plain: Arc<rustls::ClientConfig>,
}

/// A stream whose peer showed a certificate for `host`, checked against our roots.
#[derive(Debug)]
pub struct Verified {
    stream: Box<TlsStream<Transport>>,
    host: Host,
}

/// Why there is no verified connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No connection at all.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The peer's certificate is not valid for the name.
    #[error("the certificate was not accepted: {}", why(.0))]
    Certificate(rustls::CertificateError),
    /// The handshake failed otherwise.
    #[error("the TLS handshake failed ({0})")]
    Tls(String),
    /// The handshake took too long.
    #[error("no TLS handshake within {} s", HANDSHAKE.as_secs())]
    HandshakeTimeout,
    /// Only names are verified, and for HTTP only on port 443.
    #[error("only a name on port 443 can be verified")]
    NotVerifiable,
    /// HTTP could not be started on the connection.
    #[error("the connection was closed at once")]
    Closed,
    /// Every connection to the authority is full, and no more may be opened.
    #[error("every connection to the upstream is full")]
    Full,
    /// Another request's attempt to connect failed a moment ago.
    #[error("{message}")]
    Shared {
        /// Its label.
        label: &'static str,
        /// Its message.
        message: String,
    },
}

impl ConnectError {
    /// The metric label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Dial(error) => error.label(),
            Self::Certificate(_) => "certificate",
            Self::Tls(_) => "tls",
            Self::HandshakeTimeout => "timeout",
            Self::NotVerifiable => "not_verifiable",
            Self::Closed => "closed",
            Self::Full => "full",
            Self::Shared { label, .. } => label,
        }
    }
}

/// Every label of [`ConnectError`], for series that exist from the start.
pub const CONNECT_LABELS: [&str; 11] = [
    "dns",
    "forbidden_address",
    "connect",
    "timeout",
    "parent_proxy",
    "certificate",
    "tls",
    "not_verifiable",
    "closed",
    "full",
    "reset",
];

impl Verified {
    /// Dials, shakes hands, and checks the certificate for the authority's name.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(
        dialer: &Dialer,
        config: &Arc<rustls::ClientConfig>,
        authority: &Authority,
    ) -> Result<Self, ConnectError> {
        if authority.port != 443 {
            return Err(ConnectError::NotVerifiable);
        }
        Self::connect_to_broker(dialer, config, authority).await
    }

    /// The same at any port, for protocols other than HTTP: where a broker listens is the administrator's own word.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect_to_broker(
        dialer: &Dialer,
        config: &Arc<rustls::ClientConfig>,
        authority: &Authority,
    ) -> Result<Self, ConnectError> {
        let host = authority.host().ok_or(ConnectError::NotVerifiable)?;
        let name = ServerName::try_from(host.to_string()).map_err(|_| ConnectError::NotVerifiable)?;
        let transport = dialer.dial(authority, Purpose::Verified).await?;
        let handshake = TlsConnector::from(config.clone()).connect(name, transport);
        let mut stream = tokio::time::timeout(HANDSHAKE, handshake)
            .await
            .map_err(|_| ConnectError::HandshakeTimeout)?
            .map_err(|error| classify(&error))?;
        stream.get_mut().1.set_buffer_limit(Some(tls::MOST_UNSENT));
        Ok(Self { stream: Box::new(stream), host: host.clone() })
    }

    /// The name that was proved.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Whether h2 was agreed on.
    pub fn is_h2(&self) -> bool {
        self.stream.get_ref().1.alpn_protocol() == Some(b"h2")
    }

    /// The stream itself, for protocols other than HTTP.
    pub fn into_io(self) -> impl AsyncRead + AsyncWrite + Unpin + Send + use<> {
        self.stream
    }

    /// The stream, for the HTTP layer of this folder.
    pub(super) fn into_stream(self) -> Box<TlsStream<Transport>> {
        self.stream
    }
}

/// In words of our own: rustls repeats every name of the certificate, and the peer chose those.
fn why(error: &rustls::CertificateError) -> &'static str {
    use rustls::CertificateError as E;
    match error {
        E::NotValidForName | E::NotValidForNameContext { .. } => "it is for other names",
        E::Expired | E::ExpiredContext { .. } => "it has expired",
        E::NotValidYet | E::NotValidYetContext { .. } => "it is not valid yet",
        E::UnknownIssuer => "its issuer is not among the roots",
        E::Revoked => "it has been revoked",
        E::BadSignature => "its signature is wrong",
        E::BadEncoding => "it cannot be read",
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => "it is not for servers",
        _ => "it breaks the rules of certificates",
    }
}

fn classify(error: &io::Error) -> ConnectError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(reason)) => ConnectError::Certificate(reason.clone()),
        Some(other) => ConnectError::Tls(other.to_string()),
        None => ConnectError::Tls(error.kind().to_string()),
    }
}

const HANDSHAKE: Duration = Duration::from_secs(10);
