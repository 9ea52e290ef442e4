//! The one place of this door that writes a credential: into CONNECT, on a connection that proved its name.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::connect::Connect;
use crate::{net::verified::Verified, token::Bearer};

/// Sends the client's CONNECT with the token as password. What comes back is the broker's side of the session.
pub(super) async fn log_in(
    broker: Verified,
    connect: &Connect,
    username: &str,
    token: &Bearer,
) -> io::Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<>> {
    let too_long = || io::Error::from(io::ErrorKind::InvalidInput);
    let packet = connect.with(username, token.bare.as_bytes()).ok_or_else(too_long)?;
    let mut stream = broker.into_io();
    stream.write_all(&packet).await?;
    stream.flush().await?;
    Ok(stream)
}
