//! The real sidecar, in-process, against a fake Google with real sockets, TLS and signatures.
//!
//! Every test ends by searching what was logged meanwhile, at TRACE, for every secret it knew, and by counting panics
//! (`bed::Bed`, on drop).

#![allow(
    clippy::unwrap_used,
    clippy::large_futures,
    reason = "everything here is a test or a part of one, and none runs ten thousand times"
)]

mod authority;
mod bed;
mod bodies;
mod capture;
mod client;
mod connect;
mod drain;
mod exchange;
mod grpc;
mod inject;
mod metadata;
mod parent;
mod pool;
mod protocol;
mod raw;
mod refuse;
mod restart;
mod rotation;
mod secrets;
mod token;
mod websocket;
