//! All that a sidecar is built from. `config` makes it; everything in it is checked.

use std::net::SocketAddr;

use super::trust;
use crate::{
    credential::Spec, mqtt, net::dial, policy::Policy, secret::Secret, shutdown::DrainSettings, token, token_api::Entry,
};

/// The settings of one sidecar.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The credentials.
    pub credentials: Vec<Spec>,
    /// How early tokens are refreshed.
    pub refresh: token::Settings,
    /// Which request gets what.
    pub policy: Policy,
    /// How upstreams are reached and verified.
    pub upstream: Upstream,
    /// Where the pod's trust lies.
    pub trust: trust::Settings,
    /// Where we listen.
    pub listeners: Listeners,
    /// How many clients' connections may be open at once, tunnels among them.
    pub most_clients: usize,
    /// The MQTT doors.
    pub mqtt: Vec<mqtt::Settings>,
    /// What the metadata door gives.
    pub metadata: Metadata,
    /// The tokens that are handed out by name.
    pub tokens: Vec<Entry>,
    /// What clients of the proxy must give as `Proxy-Authorization` (`user:password`), where loopback is shared with
    /// other users.
    pub password: Option<Secret>,
    /// What must have happened before `/startupz` is 200.
    pub wait_for: WaitFor,
    /// When a drain is over.
    pub drain: DrainSettings,
    /// The log level that the configuration asks for.
    pub log_level: Option<String>,
}

/// Two descriptors each, as a rule, and far more than the program in a pod opens.
pub const MOST_CLIENTS: usize = 8192;

/// How upstreams are reached and verified.
#[derive(Clone, Debug, Default)]
pub struct Upstream {
    /// Addresses and the parent proxy.
    pub dial: dial::Settings,
    /// Roots (PEM) beside the public ones.
    pub extra_roots: Option<Vec<u8>>,
}

/// Where we listen; `None` is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listeners {
    /// The proxy: forward and CONNECT.
    pub proxy: Option<SocketAddr>,
    /// The metadata server.
    pub metadata: Option<SocketAddr>,
    /// Tokens handed out; bound only where there are entries at the start.
    pub token_api: Option<SocketAddr>,
    /// Probes and metrics, reachable from outside the pod.
    pub health: Option<SocketAddr>,
    /// Status and quit.
    pub control: Option<SocketAddr>,
}

/// What the metadata door gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metadata {
    /// There is none.
    Off,
    /// The placeholder.
    Placeholder,
    /// The real token.
    Token,
}

/// What must have happened before the application may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitFor {
    /// The listeners serve and the trust files exist.
    Listening,
    /// Also: every credential has a readable key.
    Credentials,
    /// Also: every credential has a token.
    Token,
}
