//! A parent proxy (a corporate one): our connections are chained through its CONNECT.

use std::{io, sync::Arc, time::Duration};

use base64::Engine;
use bytes::{Bytes, BytesMut};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use crate::{
    authority::{Authority, Target},
    net::transport::{Prefixed, Transport},
    secret::Secret,
};

/// The parent proxy's place and how to talk to it.
#[derive(Clone)]
pub struct ParentProxy {
    /// Its host and port.
    pub authority: Authority,
    /// Set when it is reached over TLS (`https://`).
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// `user:password`.
    pub user_info: Option<Secret>,
}

impl std::fmt::Debug for ParentProxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ParentProxy({})", self.authority)
    }
}

/// What went wrong with the parent proxy.
#[derive(Debug, thiserror::Error)]
pub enum ParentError {
    /// Its TLS could not be verified.
    #[error("its TLS failed ({0})")]
    Tls(io::Error),
    /// The connection broke.
    #[error("the connection broke ({0})")]
    Io(#[from] io::Error),
    /// It answered CONNECT with another status than 2xx.
    #[error("it answered CONNECT with status {0}")]
    Status(u16),
    /// It answered something else than HTTP.
    #[error("it did not answer CONNECT with an HTTP status within {MOST_HEAD} bytes")]
    NotHttp,
    /// It did not answer in time.
    #[error("it did not answer CONNECT within {} s", ANSWER.as_secs())]
    Timeout,
}

impl ParentProxy {
    /// Opens a tunnel to `authority` over a fresh connection to the proxy.
    ///
    /// # Errors
    /// See [`ParentError`].
    pub async fn open(&self, stream: TcpStream, authority: &Authority) -> Result<Transport, ParentError> {
        let Some(config) = &self.tls else {
            return Ok(Transport::Tcp(self.connect(stream, authority).await?));
        };
        let name = match &self.authority.target {
            Target::Name(host) => ServerName::try_from(host.to_string()).map_err(io::Error::other)?,
            Target::Ip(address) => ServerName::from(*address),
        };
        let stream = TlsConnector::from(config.clone()).connect(name, stream).await.map_err(ParentError::Tls)?;
        Ok(Transport::Parent(Box::new(self.connect(stream, authority).await?)))
    }

    async fn connect<S>(&self, mut stream: S, authority: &Authority) -> Result<Prefixed<S>, ParentError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        stream.write_all(self.request(authority).as_bytes()).await?;
        stream.flush().await?;
        let rest = tokio::time::timeout(ANSWER, read_answer(&mut stream)).await.map_err(|_| ParentError::Timeout)??;
        Ok(Prefixed::new(rest, stream))
    }

    fn request(&self, authority: &Authority) -> Zeroizing<String> {
        let mut head = Zeroizing::new(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n"));
        if let Some(user_info) = &self.user_info {
            let encoded = Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(user_info.expose()));
            head.push_str("Proxy-Authorization: Basic ");
            head.push_str(&encoded);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        head
    }
}

/// Reads the answer's head; returns what came after it (an upstream that speaks first).
async fn read_answer<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Bytes, ParentError> {
    let mut head = BytesMut::with_capacity(1024);
    loop {
        if stream.read_buf(&mut head).await? == 0 {
            return Err(ParentError::NotHttp);
        }
        if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            let status = status(&head[..end]).ok_or(ParentError::NotHttp)?;
            if !(200..300).contains(&status) {
                return Err(ParentError::Status(status));
            }
            return Ok(head.split_off(end + 4).freeze());
        }
        if head.len() > MOST_HEAD {
            return Err(ParentError::NotHttp);
        }
    }
}

/// The status of `HTTP/1.x NNN …`.
fn status(head: &[u8]) -> Option<u16> {
    let rest = head.strip_prefix(b"HTTP/1.")?;
    let digits = rest.get(2..5).filter(|_| rest.get(1) == Some(&b' '))?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

const MOST_HEAD: usize = 8 * 1024;
const ANSWER: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(user_info: Option<&str>) -> ParentProxy {
        ParentProxy {
            authority: Authority::parse("proxy.corp:3128", None).unwrap(),
            tls: None,
            user_info: user_info.map(|text| Secret::from(text.to_owned())),
        }
    }

    #[test]
    fn the_request_carries_user_info_as_basic() {
        let to = Authority::parse("storage.googleapis.com:443", None).unwrap();
        assert_eq!(
            proxy(Some("user:pass")).request(&to).as_str(),
            "CONNECT storage.googleapis.com:443 HTTP/1.1\r\nHost: storage.googleapis.com:443\r\n\
             Proxy-Authorization: Basic dXNlcjpwYXNz\r\n\r\n"
        );
        assert!(!format!("{:?}", proxy(Some("user:pass"))).contains("pass"));
    }

    #[tokio::test]
    async fn answers_are_read_to_the_end_of_their_head_and_no_further() {
        for (answer, expected) in [
            ("HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\nSSH-2.0", Ok("SSH-2.0")),
            ("HTTP/1.0 200 OK\r\n\r\n", Ok("")),
            ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", Err("it answered CONNECT with status 407")),
            ("SSH-2.0-OpenSSH\r\n\r\n", Err("it did not answer CONNECT with an HTTP status within 8192 bytes")),
            ("HTTP/1.1 200", Err("it did not answer CONNECT with an HTTP status within 8192 bytes")),
        ] {
            let result = read_answer(&mut answer.as_bytes()).await;
            match expected {
                Ok(rest) => assert_eq!(result.unwrap(), rest.as_bytes(), "{answer}"),
                Err(message) => assert_eq!(result.unwrap_err().to_string(), message, "{answer}"),
            }
        }
    }
}
