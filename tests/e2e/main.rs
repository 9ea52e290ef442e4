//! The real sidecar, in-process, against a fake Google with real sockets, TLS and signatures.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on should stop")]

mod bed;
mod inject;
