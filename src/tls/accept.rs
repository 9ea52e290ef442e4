//! The server's side of an intercepted connection: the client's handshake, for one name.

use std::io;

use rustls::{AlertDescription, server::Acceptor};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use super::leaf::{LeafError, Leaves, is_same_name};

/// Ends the client's TLS for `host` (canonical), the name it gave in CONNECT.
///
/// SNI must repeat that name; a client without SNI is served, since it can only have meant that name.
/// The caller bounds the time this may take.
pub async fn accept<S>(leaves: &Leaves, host: &str, stream: S) -> Result<TlsStream<S>, AcceptError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut start = LazyConfigAcceptor::new(Acceptor::default(), stream).await.map_err(AcceptError::from_io)?;
    if start.client_hello().server_name().is_some_and(|sni| !is_same_name(sni, host)) {
        // rustls answers an unknown name with access_denied, which clients report as a matter of rights.
        let _ = start.io.write_all(&UNRECOGNISED_NAME).await;
        let _ = start.io.shutdown().await;
        return Err(AcceptError::OtherName);
    }
    let config = leaves.server_config(host)?;
    let mut stream = start.into_stream(config).await.map_err(AcceptError::from_io)?;
    stream.get_mut().1.set_buffer_limit(Some(MOST_UNSENT));
    Ok(stream)
}

/// Bytes that a connection holds for a reader who does not come: two records. A client that reads a byte a second
/// costs this much, and the library's own limit is twice that.
pub const MOST_UNSENT: usize = 32 * 1024;

/// Why an intercepted connection did not get as far as a request.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// SNI names another host than CONNECT did.
    #[error("the client's TLS asks for another host than its CONNECT")]
    OtherName,
    /// ALPN without h2 and http/1.1.
    #[error("the client's TLS offers no protocol we speak: h2 and http/1.1 are accepted")]
    Protocol,
    /// The client refused the leaf: it has not read the pod's trust files.
    #[error("the client does not trust the pod's CA: point its trust settings at the pod's bundle.pem")]
    Untrusted,
    /// Not TLS, too old, or against the protocol.
    #[error("the client's TLS cannot be served")]
    Tls(#[source] rustls::Error),
    /// The connection ended or failed.
    #[error("the connection failed during the TLS handshake")]
    Io(#[source] io::Error),
    /// No leaf for the name.
    #[error(transparent)]
    Leaf(#[from] LeafError),
}

impl AcceptError {
    /// Every label, so that each series exists from the start.
    pub const LABELS: [&'static str; 6] = ["sni", "alpn", "untrusted_ca", "tls", "io", "leaf"];

    /// A word for logs and metrics, from a closed set.
    pub fn label(&self) -> &'static str {
        match self {
            Self::OtherName => "sni",
            Self::Protocol => "alpn",
            Self::Untrusted => "untrusted_ca",
            Self::Tls(_) => "tls",
            Self::Io(_) => "io",
            Self::Leaf(_) => "leaf",
        }
    }

    fn from_io(error: io::Error) -> Self {
        let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
            return Self::Io(error);
        };
        match tls {
            rustls::Error::NoApplicationProtocol => Self::Protocol,
            // What OpenSSL, Go, Java, Node and rustls send when they refuse a certificate.
            rustls::Error::AlertReceived(
                AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnsupportedCertificate,
            ) => Self::Untrusted,
            other => Self::Tls(other.clone()),
        }
    }
}

/// A fatal `unrecognized_name` (112) in one plaintext record, as sent before any ServerHello.
const UNRECOGNISED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];
