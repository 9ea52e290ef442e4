//! A node's metadata server, in plain HTTP on loopback: what a sidecar on Google's own machines asks.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use super::{
    body::{self, Body},
    google::FakeGoogle,
    state::lock,
    token_endpoint::field,
};
use crate::shutdown::Tasks;

/// A running metadata server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FakeNode {
    address: SocketAddr,
    node: Arc<Node>,
}

/// How it fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NodeTrouble {
    /// Not at all.
    #[default]
    None,
    /// Something else answers at its address: without `Metadata-Flavor`.
    Stranger,
    /// The same with a wrong one.
    OtherFlavor,
    /// This status, for everything.
    Status(u16),
    /// 200 without a token.
    Empty,
    /// 302 to elsewhere.
    Redirect,
}

#[derive(Debug)]
struct Node {
    google: FakeGoogle,
    account: String,
    trouble: Mutex<NodeTrouble>,
    asked: Mutex<Vec<String>>,
}

impl FakeNode {
    /// The server of a node whose account is `account`; its tokens are good at `google`.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(tasks: &Tasks, google: &FakeGoogle, account: &str) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let node = Arc::new(Node {
            google: google.clone(),
            account: account.to_owned(),
            trouble: Mutex::default(),
            asked: Mutex::default(),
        });
        tasks.spawn(accept(listener, node.clone(), tasks.clone()));
        Ok(Self { address, node })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it fails like this.
    pub fn trouble(&self, trouble: NodeTrouble) {
        *lock(&self.node.trouble) = trouble;
    }

    /// The targets that it was asked for, oldest first.
    pub fn asked(&self) -> Vec<String> {
        lock(&self.node.asked).clone()
    }
}

async fn accept(listener: TcpListener, node: Arc<Node>, tasks: Tasks) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else { return };
        let node = node.clone();
        tasks.spawn(async move {
            serve(stream, node).await;
            drop(place);
        });
    }
}

async fn serve(stream: TcpStream, node: Arc<Node>) {
    let service = service_fn(move |request| {
        let answer = node.answer(&request);
        async move { Ok::<_, io::Error>(answer) }
    });
    let mut builder = http1::Builder::new();
    // However it ends, the other side has seen it.
    let _ = builder.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await;
}

impl Node {
    fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        let target = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
        {
            let mut asked = lock(&self.asked);
            if asked.len() < MOST_REMEMBERED {
                asked.push(target);
            }
        }
        let trouble = *lock(&self.trouble);
        let mut response = match trouble {
            NodeTrouble::Status(code) => {
                let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                let mut response = text(status, "not now");
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("30"));
                response
            }
            NodeTrouble::Empty => text(StatusCode::OK, "{}"),
            NodeTrouble::Redirect => {
                let mut response = text(StatusCode::FOUND, "");
                response.headers_mut().insert(header::LOCATION, HeaderValue::from_static("http://evil.test/token"));
                response
            }
            _ => self.truth(request),
        };
        match trouble {
            NodeTrouble::Stranger => {}
            NodeTrouble::OtherFlavor => {
                response.headers_mut().insert(FLAVOR, HeaderValue::from_static("Amazon"));
            }
            _ => {
                response.headers_mut().insert(FLAVOR, HeaderValue::from_static("Google"));
            }
        }
        response
    }

    fn truth(&self, request: &Request<Incoming>) -> Response<Body> {
        let said = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        // Rules of the real one: who does not say whom it wants is a browser, or was led here by one.
        if said(FLAVOR) != Some("Google") || said("x-forwarded-for").is_some() {
            return text(StatusCode::FORBIDDEN, "Missing required header: Metadata-Flavor");
        }
        if said("host") != Some("metadata.google.internal") {
            return text(StatusCode::NOT_FOUND, "no such host");
        }
        let query = request.uri().query().unwrap_or_default().as_bytes();
        let Some(leaf) = request.uri().path().strip_prefix(ACCOUNT) else {
            return text(StatusCode::NOT_FOUND, "no such path");
        };
        match (leaf, field(query, "scopes"), field(query, "audience")) {
            ("token", Some(scopes), _) if !scopes.is_empty() => {
                let token = self.google.mint(&self.account);
                let life = self.google.state().script().lifetime.as_secs();
                text(
                    StatusCode::OK,
                    &json!({ "access_token": token, "expires_in": life, "token_type": "Bearer" }).to_string(),
                )
            }
            ("identity", _, Some(audience)) if field(query, "format").as_deref() == Some("full") => {
                text(StatusCode::OK, &self.google.mint_for(&self.account, Some(&audience)))
            }
            ("email", ..) => text(StatusCode::OK, &self.account),
            _ => text(StatusCode::BAD_REQUEST, "what is wanted?"),
        }
    }
}

fn text(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(body::full(text.to_owned()));
    *response.status_mut() = status;
    response
}

const FLAVOR: &str = "metadata-flavor";
const ACCOUNT: &str = "/computeMetadata/v1/instance/service-accounts/default/";
const MOST_CONNECTIONS: usize = 256;
const MOST_REMEMBERED: usize = 4096;
