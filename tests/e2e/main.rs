//! The real sidecar, in-process, against a fake Google with real sockets, TLS and signatures.
//!
//! Every test ends by searching what was logged meanwhile, at TRACE, for every secret it knew, and by counting panics
//! (`bed::Bed`, on drop).

#![allow(clippy::unwrap_used, reason = "everything here is a test or a part of one")]

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on should stop")]

mod bed;
mod bodies;
mod capture;
mod client;
mod connect;
mod inject;
mod parent;
mod protocol;
mod raw;
mod websocket;
