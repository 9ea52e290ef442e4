//! bearerd keeps a pod's Google credentials out of its application.
//!
//! It holds the service-account key, keeps tokens fresh, and writes `Authorization: Bearer …` on the
//! application's requests to Google, and on nothing else.
//!
//! Modules in dependency order, lowest first; `tests/architecture.rs` holds the order.

pub mod backoff;
pub mod clock;
pub mod ready;
pub mod secret;
pub mod shutdown;
