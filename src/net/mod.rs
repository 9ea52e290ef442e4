//! Sockets and HTTP connections.
//!
//! Owns how connections are accepted, opened, proved and kept. Refuses to know routes, credentials and tokens.
//! Called by `credential` (our own requests) and by every door.

pub mod answers;
pub mod body;
pub mod client;
pub mod dial;
pub mod dns;
pub mod fair;
pub mod first_use;
pub mod gather;
pub mod guard;
pub mod head_gate;
pub mod http;
pub mod listener;
pub mod parent;
pub mod pool;
pub mod transport;
pub mod verified;
