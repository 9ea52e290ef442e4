//! An embedded fake Google: a token endpoint that verifies what it is sent, and APIs over TLS that
//! believe only the tokens it issued.
//! It knows Google's protocols and nothing of the sidecar: neither its settings nor its doors.
//! The `demo` command and the end-to-end tests start it and look into its record.

mod accounts;
mod api;
mod body;
mod certificates;
mod google;
mod grpc;
mod identities;
pub mod keys;
mod node;
mod objects;
mod record;
mod recording;
mod script;
mod server;
mod state;
mod storage;
pub mod story;
mod streams;
mod token_endpoint;
mod tokens;
mod upload;

#[cfg(test)]
mod tests;

pub use accounts::{AccountState, KeyState};
pub use google::FakeGoogle;
pub use keys::KeyFile;
pub use node::{FakeNode, NodeTrouble};
pub use record::{Admission, BodyRecord, Exchange, Outcome, Recorded};
pub use recording::{RecordedConnection, RecordingHost};
pub use script::{Certificate, DateHeader, Outage, Protocols, Script};
pub use storage::pattern;
pub use tokens::TokenRecord;
