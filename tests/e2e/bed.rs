//! The test bed: a fake Google, a real sidecar in this process, and the client's side of its doors.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    ops::Deref,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bearerd::{
    app::{Addresses, Ground, Listeners, MOST_CLIENTS, Metadata, Settings, Sidecar, Upstream, WaitFor, trust},
    authority::{Authority, Host},
    clock::Clock,
    credential::{CredentialName, Kind, Spec, expand_scope},
    demo::{FakeGoogle, KeyFile, Recorded},
    net::dial,
    policy::{HostPattern, Policy, Route, Unmatched},
    shutdown::{DrainSettings, Tasks},
    token,
};
use http::StatusCode;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::{
    capture,
    client::{Client, Door, within},
    raw,
};

pub(crate) const ACCOUNT: &str = "uploader@demo-project.iam.gserviceaccount.com";
pub(crate) const PROJECT: &str = "demo-project";
pub(crate) const STORAGE: &str = "storage.googleapis.com";

/// All that is there before the sidecar.
pub(crate) struct World {
    pub(crate) google: FakeGoogle,
    pub(crate) key: KeyFile,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) clock: Clock,
    /// Google's, the clients' and everybody else's, but not the sidecar's.
    pub(crate) tasks: Tasks,
}

/// A world with a sidecar in it.
pub(crate) struct Bed {
    world: Option<World>,
    pub(crate) addresses: Addresses,
    pub(crate) ground: Ground,
    at_first: BTreeSet<String>,
    sidecar: Option<Sidecar>,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::at(Clock::system()).await
    }

    /// On another clock, which Google and the sidecar share.
    pub(crate) async fn at(clock: Clock) -> Self {
        capture::begin();
        let tasks = Tasks::new();
        let google = FakeGoogle::start(&tasks, clock).await.unwrap();
        let key = google.add_account(ACCOUNT, PROJECT).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let world = Self { google, key, dir, clock, tasks };
        world.publish("..first", &[("key.json", world.key.json())]);
        world
    }

    /// Where the key is mounted.
    pub(crate) fn keys(&self) -> PathBuf {
        self.dir.path().join("keys")
    }

    /// Mounts these files as the kubelet does: a new directory, then `..data` put onto it in one step.
    pub(crate) fn publish(&self, version: &str, files: &[(&str, String)]) {
        let keys = self.keys();
        std::fs::create_dir_all(keys.join(version)).unwrap();
        for (name, content) in files {
            std::fs::write(keys.join(version).join(name), content).unwrap();
            let _ = std::os::unix::fs::symlink(Path::new("..data").join(name), keys.join(name));
        }
        std::os::unix::fs::symlink(version, keys.join("..data_tmp")).unwrap();
        std::fs::rename(keys.join("..data_tmp"), keys.join("..data")).unwrap();
    }

    /// Waits until the token endpoint has had so many requests.
    pub(crate) async fn exchanges_reach(&self, count: u64) {
        within("an exchange", self.google.exchanges_reach(count)).await;
    }

    /// Waits until the APIs have had so many requests.
    pub(crate) async fn requests_reach(&self, count: u64) {
        within("a request at Google's", self.google.requests_reach(count)).await;
    }

    /// Puts a sidecar into it, its settings changed first.
    pub(crate) fn start(self, change: impl FnOnce(&mut Settings)) -> Bed {
        let mut settings = settings(&self.google, self.dir.path());
        change(&mut settings);
        let ground = Ground::new(self.clock).unwrap();
        let sidecar = Sidecar::start(settings, ground.clone()).unwrap();
        let at_first = series(&ground);
        Bed { addresses: sidecar.addresses(), world: Some(self), ground, at_first, sidecar: Some(sidecar) }
    }

    /// All that must never be seen in a log: key, tokens, placeholder.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let mut secrets: Vec<String> = self.google.tokens().into_iter().map(|(token, _)| token).collect();
        let pem = self.key.pem();
        secrets.extend(pem.lines().filter(|line| !line.starts_with('-')).map(str::to_owned));
        secrets.extend(std::fs::read_to_string(self.dir.path().join("private/placeholder")));
        secrets
    }
}

impl Deref for Bed {
    type Target = World;

    fn deref(&self) -> &World {
        self.world.as_ref().unwrap()
    }
}

/// What holds for every test.
impl Drop for Bed {
    fn drop(&mut self) {
        let Some(world) = self.world.as_ref().filter(|_| !std::thread::panicking()) else { return };
        assert_eq!(capture::panics(), 0, "something panicked");
        // A series that is born with its first event hides that event from `increase()`.
        let late: Vec<_> = series(&self.ground).difference(&self.at_first).cloned().collect();
        assert!(late.is_empty(), "series that were not there at the start: {late:?}");
        let log = capture::log();
        let page = self.ground.metrics.render();
        for secret in world.secrets() {
            assert!(!log.contains(&secret), "a secret was logged");
            assert!(!page.contains(&secret), "a secret is on the metrics page");
        }
    }
}

impl Bed {
    /// Another version of the mounted files, as a kubelet puts it there.
    pub(crate) fn publish(&self, version: &str, files: &[(&str, String)]) {
        self.world.as_ref().unwrap().publish(version, files);
    }

    /// A sidecar with one key and the default route.
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// The same, its settings changed first.
    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        World::new().await.start(change)
    }

    /// One connection to `host`.
    pub(crate) async fn client(&self, door: Door, host: &str) -> Client {
        within("a connection", Client::open(self, door, host)).await
    }

    /// A TLS connection to `host` through CONNECT.
    pub(crate) async fn connect(&self, host: &str, alpn: &[&[u8]]) -> TlsStream<TcpStream> {
        let stream = self.tunnel(&format!("{host}:443")).await.unwrap();
        within("a handshake", self.handshake(stream, host, alpn)).await.unwrap()
    }

    /// The client's TLS, trusting the pod's CA.
    pub(crate) async fn handshake(
        &self,
        stream: TcpStream,
        name: &str,
        alpn: &[&[u8]],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        handshake(stream, self.client_tls(alpn), name).await
    }

    /// The client's TLS settings, trusting the pod's CA.
    pub(crate) fn client_tls(&self, alpn: &[&[u8]]) -> rustls::ClientConfig {
        client_tls(self.dir.path(), alpn)
    }

    /// A tunnel through CONNECT, or the answer that refused it.
    pub(crate) async fn tunnel(&self, target: &str) -> Result<TcpStream, raw::Answer> {
        let mut stream = raw::proxy(self).await;
        let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        raw::write(&mut stream, head.as_bytes()).await;
        let answer = raw::answer(&mut stream).await;
        if answer.status() == StatusCode::OK { Ok(stream) } else { Err(answer) }
    }

    /// This pod's placeholder.
    pub(crate) fn placeholder(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("private/placeholder")).unwrap()
    }

    /// The text of the token in use, when Google issued but one.
    pub(crate) fn only_token(&self) -> String {
        let tokens = self.google.tokens();
        assert_eq!(tokens.len(), 1, "one token was expected");
        tokens[0].0.clone()
    }

    /// The last request that reached an API.
    pub(crate) fn last(&self) -> Recorded {
        self.google.requests().pop().unwrap()
    }

    /// The value of a series on the metrics page; 0 when it is not there.
    pub(crate) fn metric(&self, series: &str) -> u64 {
        let page = self.ground.metrics.render();
        let value =
            page.lines().find_map(|line| line.strip_prefix("bearerd_")?.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// How many requests were refused for this reason.
    pub(crate) fn refused(&self, reason: &str) -> u64 {
        self.metric(&format!("requests_refused_total{{reason=\"{reason}\"}}"))
    }

    /// The sidecar.
    pub(crate) fn sidecar(&self) -> &Sidecar {
        self.sidecar.as_ref().unwrap()
    }

    /// The sidecar, to be finished.
    pub(crate) fn take_sidecar(&mut self) -> Sidecar {
        self.sidecar.take().unwrap()
    }

    /// Kills the sidecar where it stands; what it left behind is found by the next one.
    pub(crate) fn kill(mut self) -> World {
        self.ground.tasks.end();
        self.world.take().unwrap()
    }
}

/// The counters by reason, which are closed sets.
fn series(ground: &Ground) -> BTreeSet<String> {
    let page = ground.metrics.render();
    let by_reason = page.lines().filter(|line| line.contains("reason=\"")).filter_map(|line| line.rsplit_once(' '));
    by_reason.map(|(series, _)| series.to_owned()).collect()
}

/// A client's TLS settings, trusting the CA of the pod with this folder.
pub(crate) fn client_tls(dir: &Path, alpn: &[&[u8]]) -> rustls::ClientConfig {
    let pem = std::fs::read(dir.join("trust/ca.pem")).unwrap();
    let roots = bearerd::tls::client_roots(Some(&pem)).unwrap();
    (*bearerd::tls::client_config(roots, alpn).unwrap()).clone()
}

/// A client's TLS for `name`.
pub(crate) async fn handshake(
    stream: TcpStream,
    config: rustls::ClientConfig,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Settings as a configuration with one key would give them, all ports free ones.
fn settings(google: &FakeGoogle, dir: &Path) -> Settings {
    let any = Some("127.0.0.1:0".parse().unwrap());
    let mut settings = Settings {
        credentials: vec![credential("default", dir.join("keys"))],
        refresh: token::Settings::default(),
        policy: default_policy(Unmatched::Pass),
        upstream: Upstream { dial: dial::Settings::default(), extra_roots: Some(google.ca_pem().into_bytes()) },
        trust: trust::Settings { public: dir.join("trust"), private: dir.join("private") },
        listeners: Listeners { proxy: any, metadata: any, token_api: None, health: any, control: any },
        mqtt: Vec::new(),
        most_clients: MOST_CLIENTS,
        metadata: Metadata::Placeholder,
        tokens: Vec::new(),
        wait_for: WaitFor::Token,
        password: None,
        drain: DrainSettings { linger: Duration::from_millis(20), deadline: Duration::from_secs(5) },
        log_level: None,
    };
    send_below(&mut settings, "googleapis.com", google.address());
    settings
}

/// A credential with keys at `path`.
pub(crate) fn credential(name: &str, path: PathBuf) -> Spec {
    let scopes = vec![expand_scope("cloud-platform")];
    Spec {
        name: CredentialName::new(name),
        kind: Kind::ServiceAccountKey { path, scopes, subject: None, signs_urls: false },
    }
}

/// The one default route.
pub(crate) fn default_policy(unmatched: Unmatched) -> Policy {
    Policy::new(vec![Route::google_apis(apis())], unmatched, apis())
}

/// The default route, changed.
pub(crate) fn routed(settings: &mut Settings, change: impl FnOnce(&mut Route)) {
    let mut route = Route::google_apis(apis());
    change(&mut route);
    settings.policy = Policy::new(vec![route], Unmatched::Pass, apis());
}

/// `*.googleapis.com`.
pub(crate) fn apis() -> Vec<HostPattern> {
    vec![HostPattern::parse("*.googleapis.com").unwrap()]
}

/// `connectTo` for one name.
pub(crate) fn send_to(settings: &mut Settings, name: &str, port: u16, address: SocketAddr) {
    let address = Authority::parse(&address.to_string(), None).unwrap();
    settings.upstream.dial.connect_to.exact(Host::parse(name).unwrap(), port, address);
}

/// `connectTo` for every name below a zone, at port 443.
pub(crate) fn send_below(settings: &mut Settings, zone: &str, address: SocketAddr) {
    let address = Authority::parse(&address.to_string(), None).unwrap();
    settings.upstream.dial.connect_to.below(Host::parse(zone).unwrap(), 443, address);
}
