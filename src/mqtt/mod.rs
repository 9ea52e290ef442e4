//! The MQTT door: a local plaintext port, and behind it a broker over TLS that gets a fresh token as the password.
//!
//! Owns CONNECT, the relay behind it and the end of a session before that of its token. Refuses to know how tokens are
//! made and where settings come from. Called by `app`, which hands it bound listeners.
//!
//! Life of a session: `door` (the first packet, the broker, the token) → `login` (CONNECT with the token, on a
//! connection that proved its name) → `session` (packets both ways until the end). `connect`, `packet` and `quiet` are
//! pure.

mod connect;
mod door;
mod login;
mod packet;
mod properties;
mod quiet;
mod session;
mod standing;

use std::{net::SocketAddr, sync::Arc};

use tokio::net::TcpStream;

pub use connect::{Code, Connect, MOST as MOST_CONNECT, Refused, connack, length};
pub use packet::{Malformed, Packet, Piece, Scanner, Sender, Version};
pub use quiet::{Hold, Ledger, Plan, is_worth_a_session};
pub use standing::Standing;

use crate::{
    authority::Authority,
    clock::Clock,
    credential::CredentialName,
    metrics::Metrics,
    net::{dial::SharedDialer, listener::Seat},
    shutdown::Tasks,
    token::Tokens,
};

/// One entry of `mqtt`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where clients connect, on loopback.
    pub listen: SocketAddr,
    /// The broker: a name, and any port.
    pub upstream: Authority,
    /// What makes the token, of the kind that it is for.
    pub credential: CredentialName,
    /// The user that the broker is told.
    pub username: String,
}

/// What a door works with.
pub struct Parts {
    /// Its entry.
    pub settings: Settings,
    /// Whether that is still what the settings say.
    pub standing: Standing,
    /// All tokens.
    pub tokens: Tokens,
    /// The way to the broker.
    pub dialer: SharedDialer,
    /// How its certificate is checked; no protocol is offered.
    pub tls: Arc<rustls::ClientConfig>,
    /// Spawns and counts.
    pub tasks: Tasks,
    /// Time.
    pub clock: Clock,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// One door.
#[derive(Clone)]
pub struct Door {
    parts: Arc<Parts>,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Door").field(&self.parts.settings.listen).finish()
    }
}

impl Door {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        Self { parts: Arc::new(parts) }
    }

    /// Serves one client until its session has ended.
    pub async fn serve(&self, stream: TcpStream, seat: Seat) {
        door::serve(&self.parts, stream, seat).await;
    }
}

/// Reasons that are this door's own; others come from tokens and connections.
pub const REFUSAL_LABELS: [&str; 13] = [
    "mqtt_answer",
    "mqtt_auth",
    "mqtt_authentication",
    "mqtt_malformed",
    "mqtt_not_connect",
    "mqtt_packet",
    "mqtt_removed",
    "mqtt_second_connect",
    "mqtt_short_token",
    "mqtt_timeout",
    "mqtt_tls",
    "mqtt_too_long",
    "mqtt_version",
];

#[cfg(test)]
mod tests;
