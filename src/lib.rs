//! bearerd keeps a pod's Google credentials out of its application.
//!
//! It holds the service-account key, keeps tokens fresh, and writes `Authorization: Bearer …` on the
//! application's requests to Google, and on nothing else.
//!
//! Modules in dependency order, lowest first; those of one row never use each other, but for the first row, where
//! later ones may use earlier ones. `tests/architecture.rs` reads this table and holds it.
//!
//! ```text
//! authority clock secret file backoff ready shutdown telemetry metrics neighbours
//! tls
//! net
//! credential watch
//! token policy
//! proxy mqtt metadata_server token_api admin
//! config
//! environment app
//! check
//! inject demo
//! cli
//! ```

pub mod admin;
pub mod app;
pub mod authority;
pub mod backoff;
pub mod check;
pub mod cli;
pub mod clock;
pub mod config;
pub mod credential;
pub mod demo;
pub mod environment;
pub mod file;
pub mod inject;
pub mod metadata_server;
pub mod metrics;
pub mod mqtt;
pub mod neighbours;
pub mod net;
pub mod policy;
pub mod proxy;
pub mod ready;
pub mod secret;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
pub mod token;
pub mod token_api;
pub mod watch;
