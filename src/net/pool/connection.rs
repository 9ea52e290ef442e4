//! One checked-out connection, and what happens to it after its request.

use std::sync::Arc;

use http::{HeaderValue, Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};

use super::{Shared, place::OpenStream};
use crate::{
    authority::Authority,
    net::{answers::Interim, body::RequestBody, verified::ConnectError},
};

/// A checked-out connection: the proof that the upstream is who it claims to be, and the only way to send.
#[derive(Debug)]
pub struct Connection {
    pub(super) names: Arc<Names>,
    pub(super) kind: Kind,
    /// Whether an earlier request used it: then a failure before any answer may be the keep-alive race.
    pub(super) reused: bool,
    pub(super) home: Option<Arc<Shared>>,
}

/// One authority in the forms that requests need, made once per upstream.
#[derive(Debug)]
pub struct Names {
    /// What was proved.
    pub authority: Authority,
    /// The value of `Host`.
    pub host: HeaderValue,
    /// The value of `:authority`.
    pub uri: http::uri::Authority,
}

impl Names {
    pub(super) fn new(authority: &Authority) -> Result<Self, ConnectError> {
        let host = authority.host().ok_or(ConnectError::NotVerifiable)?.as_str();
        Ok(Self {
            authority: authority.clone(),
            host: HeaderValue::from_str(host).map_err(|_| ConnectError::NotVerifiable)?,
            uri: host.parse().map_err(|_| ConnectError::NotVerifiable)?,
        })
    }
}

#[derive(Debug)]
pub(super) enum Kind {
    H1(http1::SendRequest<RequestBody>),
    H2 { sender: http2::SendRequest<RequestBody>, _open: OpenStream },
}

/// Kept until the answer's body has ended. Dropped early, it closes an http/1.1 connection.
#[derive(Debug)]
pub struct InUse {
    names: Arc<Names>,
    kind: Kind,
    home: Option<Arc<Shared>>,
}

/// A failed exchange.
#[derive(Debug)]
pub struct SendError {
    /// The request, when not one byte of it was written.
    pub unsent: Option<Request<RequestBody>>,
    /// Whether the connection had served a request before.
    pub reused: bool,
    /// Why.
    pub broken: Broken,
}

/// What broke an exchange.
#[derive(Debug)]
pub enum Broken {
    /// What hyper says.
    Http(hyper::Error),
    /// More interim answers than anybody has a use for.
    Interim,
}

impl Connection {
    /// The authority whose name was proved, in the forms that requests need.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Whether it speaks HTTP/2.
    pub fn is_h2(&self) -> bool {
        matches!(self.kind, Kind::H2 { .. })
    }

    /// Sends one request and waits for the head of the answer.
    ///
    /// # Errors
    /// With the request back when not a byte of it was written.
    pub async fn send(mut self, mut request: Request<RequestBody>) -> Result<(Response<Incoming>, InUse), SendError> {
        let sent = match &mut self.kind {
            Kind::H1(sender) => {
                let interim = Interim::of(&mut request);
                tokio::select! {
                    // First: the last one may come together with the answer.
                    biased;
                    () = interim.too_many() => {
                        return Err(SendError { unsent: None, reused: false, broken: Broken::Interim });
                    }
                    sent = sender.try_send_request(request) => sent,
                }
            }
            Kind::H2 { sender, .. } => sender.try_send_request(request).await,
        };
        match sent {
            Ok(response) => Ok((response, InUse { names: self.names, kind: self.kind, home: self.home })),
            Err(mut failed) => {
                let unsent = failed.take_message();
                Err(SendError { unsent, reused: self.reused, broken: Broken::Http(failed.into_error()) })
            }
        }
    }
}

impl InUse {
    /// The answer's body has ended, and the request's too: the connection may serve another request.
    pub fn finish(self) {
        let Some(home) = self.home else { return };
        if let Kind::H1(sender) = self.kind
            && !sender.is_closed()
        {
            let since = home.clock.now();
            let mut places = home.lock();
            let Some(place) = places.get_mut(&self.names.authority) else { return };
            place.keep(sender, since);
        }
    }
}
