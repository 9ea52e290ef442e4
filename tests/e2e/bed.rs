//! The test bed: a fake Google, a real sidecar in this process, and clients.

use std::{path::PathBuf, time::Duration};

use bearerd::{
    app::{Ground, Listeners, Metadata, Settings, Sidecar, Upstream, WaitFor, trust},
    authority::{Authority, Host},
    clock::Clock,
    credential::{CredentialName, Kind, Spec, expand_scope},
    demo::{FakeGoogle, KeyFile},
    net::dial,
    policy::{HostPattern, Policy, Route, Unmatched},
    shutdown::{DrainSettings, Tasks},
    token,
};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

pub(crate) const ACCOUNT: &str = "uploader@demo-project.iam.gserviceaccount.com";
pub(crate) const PROJECT: &str = "demo-project";

/// Everything that a test needs.
pub(crate) struct Bed {
    pub(crate) google: FakeGoogle,
    pub(crate) sidecar: Sidecar,
    #[expect(dead_code, reason = "for the tests of rotation")]
    pub(crate) key: KeyFile,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) ground: Ground,
    _google_tasks: Tasks,
}

impl Bed {
    /// A sidecar with one key and the default route.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// The same, its settings changed first.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        let clock = Clock::system();
        let google_tasks = Tasks::new();
        let google = FakeGoogle::start(&google_tasks, clock).await.unwrap();
        let key = google.add_account(ACCOUNT, PROJECT).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("keys")).unwrap();
        std::fs::write(dir.path().join("keys/key.json"), key.json()).unwrap();
        let mut settings = settings(&google, dir.path().into());
        change(&mut settings);
        let ground = Ground::new(clock).unwrap();
        let sidecar = Sidecar::start(settings, ground.clone()).unwrap();
        Self { google, sidecar, key, dir, ground, _google_tasks: google_tasks }
    }

    /// A request with an absolute URL to the proxy port.
    pub(crate) async fn forward(&self, request: Request<Full<Bytes>>) -> Response<Bytes> {
        let stream = TcpStream::connect(self.sidecar.addresses().proxy.unwrap()).await.unwrap();
        one_request(stream, request).await
    }

    /// A TLS connection to `host` through CONNECT.
    pub(crate) async fn connect(&self, host: &str, alpn: &[&[u8]]) -> TlsStream<TcpStream> {
        let stream = self.tunnel(&format!("{host}:443")).await.unwrap();
        self.handshake(stream, host, alpn).await.unwrap()
    }

    /// The client's TLS, trusting the pod's bundle.
    pub(crate) async fn handshake(
        &self,
        stream: TcpStream,
        name: &str,
        alpn: &[&[u8]],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let pem = std::fs::read(self.dir.path().join("trust/ca.pem")).unwrap();
        let roots = bearerd::tls::client_roots(Some(&pem)).unwrap();
        let config = bearerd::tls::client_config(roots, alpn).unwrap();
        let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
        tokio_rustls::TlsConnector::from(config).connect(name, stream).await
    }

    /// A tunnel through CONNECT, or the status of its refusal.
    pub(crate) async fn tunnel(&self, target: &str) -> Result<TcpStream, StatusCode> {
        let mut stream = TcpStream::connect(self.sidecar.addresses().proxy.unwrap()).await.unwrap();
        let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = read_head(&mut stream).await;
        let status: u16 = answer.get(9..12).unwrap_or("0").parse().unwrap_or(0);
        match StatusCode::from_u16(status) {
            Ok(StatusCode::OK) => Ok(stream),
            Ok(status) => Err(status),
            Err(_) => panic!("not HTTP: {answer:?}"),
        }
    }

    /// An intercepted request over HTTP/1.1.
    pub(crate) async fn intercept(&self, request: Request<Full<Bytes>>) -> Response<Bytes> {
        let host = request.headers()["host"].to_str().unwrap().to_owned();
        one_request(self.connect(&host, &[b"http/1.1"]).await, request).await
    }

    /// An intercepted request over HTTP/2.
    pub(crate) async fn intercept_h2(&self, request: Request<Full<Bytes>>) -> Response<Bytes> {
        let host = request.uri().host().unwrap().to_owned();
        let stream = TokioIo::new(self.connect(&host, &[b"h2"]).await);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        self.ground.tasks.spawn(async move {
            let _ = connection.await;
        });
        whole(sender.send_request(request).await.unwrap()).await
    }
}

/// One request on a connection of its own.
pub(crate) async fn one_request<S>(stream: S, request: Request<Full<Bytes>>) -> Response<Bytes>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let exchange = async { whole(sender.send_request(request).await.unwrap()).await };
    tokio::select! {
        response = exchange => response,
        ended = connection => panic!("the connection ended first: {ended:?}"),
    }
}

/// The answer with its whole body.
pub(crate) async fn whole(response: Response<hyper::body::Incoming>) -> Response<Bytes> {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Response::from_parts(parts, body)
}

/// Reads up to the end of a head.
pub(crate) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { break };
        head.push(byte);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// A GET with `Host`.
pub(crate) fn get(host: &str, target: &str) -> Request<Full<Bytes>> {
    Request::get(target).header("host", host).body(Full::default()).unwrap()
}

/// Settings as a configuration with one key would give them, all ports free ones.
pub(crate) fn settings(google: &FakeGoogle, dir: PathBuf) -> Settings {
    let any = Some("127.0.0.1:0".parse().unwrap());
    let apis = || vec![HostPattern::parse("*.googleapis.com").unwrap()];
    let mut connect_to = dial::ConnectTo::default();
    let fake = Authority::parse(&google.address().to_string(), None).unwrap();
    connect_to.below(Host::parse("googleapis.com").unwrap(), 443, fake);
    Settings {
        credentials: vec![Spec {
            name: CredentialName::new("default"),
            kind: Kind::ServiceAccountKey {
                path: dir.join("keys"),
                scopes: vec![expand_scope("cloud-platform")],
                subject: None,
            },
        }],
        refresh: token::Settings::default(),
        policy: Policy::new(vec![Route::google_apis(apis())], Unmatched::Pass, apis()),
        upstream: Upstream {
            dial: dial::Settings { connect_to, parent: None },
            extra_roots: Some(google.ca_pem().into_bytes()),
        },
        trust: trust::Settings { public: dir.join("trust"), private: dir.join("private") },
        listeners: Listeners { proxy: any, metadata: any, health: any, control: any },
        metadata: Metadata::Placeholder,
        wait_for: WaitFor::Token,
        password: None,
        drain: DrainSettings { linger: Duration::from_millis(20), deadline: Duration::from_secs(5) },
        log_level: None,
    }
}
