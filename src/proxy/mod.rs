//! The data plane: how a client's request comes in, gets its credential, and goes out.
//!
//! Owns the doors forward and intercept and the one pipeline behind them. Refuses to know how tokens are made, where
//! settings come from, and what a key is. Called by `app`, which hands it bound listeners and live settings.
//!
//! Life of a request: `entry` (a connection, through the head gate) → `connect` (CONNECT: intercept, tunnel or
//! refuse) → `request::serve` (the pipeline) → `upstream::send` (a connection that proved its name).

mod access_log;
mod body;
mod claims;
mod connect;
mod entry;
mod error;
mod headers;
mod intercept;
mod plain;
mod replay;
mod request;
mod sign;
mod supply;
mod tunnel;
mod upgrade;
mod upstream;

use std::{collections::HashMap, sync::Arc};

use tokio::{net::TcpStream, sync::watch};

pub use error::REFUSAL_LABELS;
pub use supply::Supply;

use crate::{
    clock::Clock,
    metrics::Metrics,
    net::{dial::SharedDialer, listener::Seat, pool::Pool},
    policy::{Placeholder, Policy},
    secret::Secret,
    shutdown::Tasks,
    tls::Leaves,
};

/// What may change while the sidecar runs.
#[derive(Debug)]
pub struct Live {
    /// Which request gets what.
    pub policy: Policy,
    /// The tokens of each route that injects, by the route's name.
    pub supplies: HashMap<String, Arc<Supply>>,
}

/// What the data plane works with.
pub struct Parts {
    /// Policy and tokens, replaced as one.
    pub live: watch::Receiver<Arc<Live>>,
    /// Proven connections.
    pub pool: Pool,
    /// Other connections: tunnels, and plain `http://` to hosts that no route names.
    pub dialer: SharedDialer,
    /// Leaf certificates of the pod CA; `None` when there is no CA and nothing is intercepted.
    pub leaves: Option<Arc<Leaves>>,
    /// This pod's placeholder.
    pub placeholder: Placeholder,
    /// `user:password` that clients must give, where loopback is shared with other users (`exec`).
    pub password: Option<Secret>,
    /// Spawns and counts.
    pub tasks: Tasks,
    /// Time.
    pub clock: Clock,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

struct Shared {
    parts: Parts,
    refusals: supply::Refusals,
}

impl std::ops::Deref for Shared {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

/// The proxy port.
#[derive(Clone)]
pub struct Proxy {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Proxy")
    }
}

impl Proxy {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        let refusals = supply::Refusals::new(parts.clock);
        Self { shared: Arc::new(Shared { parts, refusals }) }
    }

    /// Serves one client connection until it ends. A tunnel that it became keeps its seat.
    pub async fn serve(&self, stream: TcpStream, seat: Seat) {
        entry::serve(&self.shared, stream, seat).await;
    }
}
