//! What an API server does: TLS to the service's name, trusted by a bundle, one review after another.

use std::{io, net::SocketAddr, sync::Arc};

use bearerd::tls;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

pub(crate) const SERVICE: &str = "bearerd.bearerd.svc";

#[derive(Clone, Copy)]
pub(crate) struct Reviewer {
    address: SocketAddr,
}

/// An open connection of HTTP/2.
pub(crate) type Connection = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

impl Reviewer {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    pub(crate) async fn dial(&self, bundle: &[u8], alpn: &[&[u8]]) -> io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(bundle) {
            roots.add(root.map_err(io::Error::other)?).map_err(io::Error::other)?;
        }
        let config = tls::client_config(Arc::new(roots), alpn).map_err(io::Error::other)?;
        let stream = TcpStream::connect(self.address).await?;
        TlsConnector::from(config).connect(ServerName::try_from(SERVICE).unwrap(), stream).await
    }

    /// A connection of HTTP/2, as an API server keeps it; its task ends with it.
    pub(crate) async fn connect(&self, bundle: &[u8], tasks: &bearerd::shutdown::Tasks) -> io::Result<Connection> {
        let stream = self.dial(bundle, &[tls::H2]).await?;
        let made = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (sender, connection) = made.map_err(io::Error::other)?;
        tasks.spawn(async move { drop(connection.await) });
        Ok(sender)
    }

    /// One request on a new connection of HTTP/1.1.
    pub(crate) async fn send(&self, bundle: &[u8], request: Request<Full<Bytes>>) -> io::Result<(StatusCode, Bytes)> {
        let stream = self.dial(bundle, &[tls::HTTP11]).await?;
        let made = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = made.map_err(io::Error::other)?;
        let answer = async {
            let answer = sender.send_request(request).await.map_err(io::Error::other)?;
            whole(answer).await
        };
        tokio::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            _ = connection => answer.await,
        }
    }

    /// One review on a new connection: the handshake is part of what may fail.
    pub(crate) async fn review(&self, bundle: &[u8], path: &str, review: &Value) -> io::Result<Value> {
        let (status, body) = self.send(bundle, post(path, review.to_string())).await?;
        if status != StatusCode::OK {
            return Err(io::Error::other(format!("{status}: {}", String::from_utf8_lossy(&body))));
        }
        serde_json::from_slice(&body).map_err(io::Error::other)
    }
}

pub(crate) async fn whole(answer: Response<hyper::body::Incoming>) -> io::Result<(StatusCode, Bytes)> {
    let status = answer.status();
    let body = answer.into_body().collect().await.map_err(io::Error::other)?;
    Ok((status, body.to_bytes()))
}

pub(crate) fn post(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(format!("https://{SERVICE}{path}?timeout=5s"))
        .header(header::HOST, SERVICE)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body.into()))
        .unwrap()
}

/// A pod that comes from a ReplicaSet.
pub(crate) fn pod_review(name: &str, metadata: Value) -> Value {
    let mut object = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [{"name": "app", "image": "app"}]},
    });
    object["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": "u-1", "controller": true}]);
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": format!("uid-{name}"),
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "shop",
            "operation": "CREATE",
            "object": object,
        },
    })
}

/// A probe or a scrape.
pub(crate) async fn plain_get(address: SocketAddr, path: &str) -> (u16, String) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let request = Request::get(path).header(header::HOST, "probe").body(Full::<Bytes>::default()).unwrap();
    let answer = async {
        let (status, body) = whole(sender.send_request(request).await.unwrap()).await.unwrap();
        (status.as_u16(), String::from_utf8(body.to_vec()).unwrap())
    };
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        _ = connection => answer.await,
    }
}
