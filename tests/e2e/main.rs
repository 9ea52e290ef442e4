//! The real sidecar, in-process, against a fake Google with real sockets, TLS and signatures.
//!
//! Every test ends by searching what was logged meanwhile, at TRACE, for every secret it knew, and by counting panics
//! (`bed::Bed`, on drop).

#![allow(
    clippy::unwrap_used,
    clippy::large_futures,
    reason = "everything here is a test or a part of one, and none runs ten thousand times"
)]

mod answers;
mod authority;
mod bed;
mod bodies;
mod broker;
mod capture;
#[path = "../../src/net/head_gate/tests/cases.rs"]
mod cases;
mod client;
mod clocks;
mod connect;
mod credentials;
mod derived;
mod drain;
mod echo;
mod exchange;
mod expect;
mod federation;
mod floods;
mod frames;
mod grpc;
mod h2;
mod handouts;
mod hostile;
mod identities;
mod inject;
mod limits;
mod matrix;
mod metadata;
mod mqtt;
mod names;
mod outage;
mod parent;
mod pool;
mod process;
mod protocol;
mod raw;
mod refuse;
mod restart;
mod rotation;
mod rotation_load;
mod scope;
mod secrets;
mod signing;
mod smuggling;
mod soak;
mod startup;
mod streams;
mod token;
mod token_files;
mod tokens;
mod unwelcome;
mod volumes;
mod websocket;

/// Whether tests run at full size: in `.ci/full`, with a release build.
fn full() -> bool {
    std::env::var_os("BEARERD_FULL").is_some()
}
