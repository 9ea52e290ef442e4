//! What the sidecar runs on, checked and complete. Plain data; `Default` is the contract's defaults.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use crate::{
    authority::Authority,
    credential::{Kind, Spec},
    policy::{DEFAULT_CREDENTIAL, HostPattern, Policy, Route, Unmatched},
    secret::Secret,
    shutdown::DrainSettings,
    token_api::Entry,
};

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What tokens are made with; names are distinct.
    pub credentials: Vec<Spec>,
    /// Which requests get one.
    pub policy: PolicySettings,
    /// The doors.
    pub listeners: ListenerSettings,
    /// Local ports that are one API each.
    pub endpoints: Vec<EndpointSettings>,
    /// The tokens that are handed out.
    pub tokens: Vec<Entry>,
    /// Local MQTT ports.
    pub mqtt: Vec<MqttSettings>,
    /// What the metadata server hands out.
    pub metadata: MetadataMode,
    /// Where trust is published and kept.
    pub trust: TrustSettings,
    /// The way out.
    pub upstream: UpstreamSettings,
    /// Threads; 1 = one thread for everything.
    pub workers: usize,
    /// The token life to keep in hand.
    pub availability: Duration,
    /// How it ends.
    pub drain: DrainSettings,
    /// What must have happened before `/startupz` says so.
    pub wait_for: WaitFor,
    /// How much is logged.
    pub log_level: LogLevel,
    /// The annotations that the injector made this pod by, with their values; `None` where annotations are not read.
    pub shape: Option<BTreeMap<String, String>>,
}

/// What [`Policy`] is built of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySettings {
    /// First match wins.
    pub routes: Vec<Route>,
    /// Requests without route.
    pub unmatched: Unmatched,
    /// Where a credential may go at all; never empty.
    pub allow: Vec<HostPattern>,
}

/// Addresses to listen on; `None` = off, port 0 = any free one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// Forward and intercept.
    pub proxy: Option<SocketAddr>,
    /// Metadata server.
    pub metadata: Option<SocketAddr>,
    /// Redirected connections.
    pub transparent: Option<SocketAddr>,
    /// Tokens handed out.
    pub token_api: Option<SocketAddr>,
    /// Probes and metrics; the only one that may be reached from outside.
    pub health: Option<SocketAddr>,
    /// Status page, status and quit.
    pub control: Option<SocketAddr>,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSettings {
    /// Where, on loopback.
    pub listen: SocketAddr,
    /// The API it is.
    pub upstream: Authority,
}

/// One MQTT door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MqttSettings {
    /// Where, on loopback.
    pub listen: SocketAddr,
    /// The broker, spoken to over TLS: a name, and any port.
    pub upstream: Authority,
    /// What makes the password.
    pub credential: String,
    /// The user that the broker is told.
    pub username: String,
}

/// What the metadata server hands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataMode {
    /// Nothing.
    Off,
    /// A dummy that only intercept replaces.
    Placeholder,
    /// The real token.
    Token,
}

/// Where trust is published and kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustSettings {
    /// What applications read.
    pub public: PathBuf,
    /// The CA's key.
    pub private: PathBuf,
}

/// The way out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// A PEM file of roots to trust beside the public ones.
    pub extra_roots: Option<PathBuf>,
    /// Other places to dial. TLS is verified for the original name.
    pub connect_to: Vec<ConnectTo>,
    /// The proxy to go through.
    pub parent_proxy: Option<ParentProxy>,
}

/// One redirected name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectTo {
    /// Which names.
    pub host: HostPattern,
    /// At which port.
    pub port: u16,
    /// Where they are dialled.
    pub to: Authority,
}

/// A proxy of the company's, spoken to with CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentProxy {
    /// Whether the proxy itself is spoken to over TLS.
    pub tls: bool,
    /// Where it is.
    pub authority: Authority,
    /// `user:password`, percent-decoded.
    pub user_info: Option<Secret>,
}

/// What must have happened before the application starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitFor {
    /// The doors are open.
    Listening,
    /// The credentials are loaded too.
    Credentials,
    /// There is a token too.
    Token,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Only what fails.
    Error,
    /// What is refused too.
    Warn,
    /// One line per request too.
    Info,
    /// For those who look for a fault.
    Debug,
    /// Everything, still without secrets.
    Trace,
}

impl PolicySettings {
    /// The policy itself.
    pub fn build(&self) -> Policy {
        Policy::new(self.routes.clone(), self.unmatched, self.allow.clone())
    }
}

impl UpstreamSettings {
    /// Where to dial for `authority` instead, if anywhere. An exact name beats a wildcard, a longer wildcard a
    /// shorter one.
    pub fn connect_to(&self, authority: &Authority) -> Option<&Authority> {
        let host = authority.host()?;
        let fits = |entry: &&ConnectTo| entry.port == authority.port && entry.host.matches(host);
        let rank = |entry: &&ConnectTo| (entry.host.is_exact(), entry.host.zone().as_str().len());
        self.connect_to.iter().filter(fits).max_by_key(rank).map(|entry| &entry.to)
    }
}

impl ListenerSettings {
    /// Whether a door exists at which traffic is intercepted.
    pub fn intercepts(&self) -> bool {
        self.proxy.is_some() || self.transparent.is_some()
    }
}

impl MetadataMode {
    /// As written in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Placeholder => "placeholder",
            Self::Token => "token",
        }
    }
}

impl LogLevel {
    /// As written in configuration and as `tracing` reads it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl WaitFor {
    /// As written in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Listening => "listening",
            Self::Credentials => "credentials",
            Self::Token => "token",
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        let zone = default_zone();
        Self {
            credentials: vec![default_credential(DEFAULT_KEY.into())],
            policy: PolicySettings {
                routes: vec![Route::google_apis(zone.clone())],
                unmatched: Unmatched::Pass,
                allow: zone,
            },
            listeners: ListenerSettings::default(),
            endpoints: Vec::new(),
            tokens: Vec::new(),
            mqtt: Vec::new(),
            metadata: MetadataMode::Placeholder,
            trust: TrustSettings::default(),
            upstream: UpstreamSettings::default(),
            workers: 1,
            availability: Duration::from_secs(40 * 60),
            drain: DrainSettings::default(),
            wait_for: WaitFor::Listening,
            log_level: LogLevel::Info,
            shape: None,
        }
    }
}

/// The one credential of a sidecar that was told nothing.
pub(super) fn default_credential(path: PathBuf) -> Spec {
    let scopes = vec![CLOUD_PLATFORM.to_owned()];
    Spec {
        name: DEFAULT_CREDENTIAL.into(),
        kind: Kind::ServiceAccountKey { path, scopes, subject: None, signs_urls: false },
    }
}

/// Where its key lies.
pub(super) const DEFAULT_KEY: &str = "/var/run/secrets/bearerd/default";

impl Default for ListenerSettings {
    fn default() -> Self {
        let loopback = |port| Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        Self {
            proxy: loopback(14180),
            metadata: loopback(14181),
            transparent: loopback(14182),
            token_api: loopback(14183),
            health: Some(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 14190))),
            control: loopback(14191),
        }
    }
}

impl Default for TrustSettings {
    fn default() -> Self {
        Self { public: "/var/run/bearerd/trust".into(), private: "/var/run/bearerd/private".into() }
    }
}

/// Where credentials go when nobody says otherwise.
#[expect(clippy::expect_used, reason = "a constant that the tests of `HostPattern` read")]
pub(super) fn default_zone() -> Vec<HostPattern> {
    vec![HostPattern::parse("*.googleapis.com").expect("a good pattern")]
}

/// The scope of every Google Cloud API.
pub(super) const CLOUD_PLATFORM: &str = "https://www.googleapis.com/auth/cloud-platform";
