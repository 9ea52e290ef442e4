//! What happens to tokens and keys, for those who count it. Logging is not done here.

use std::time::Duration;

use crate::credential::{CredentialName, KeyReason, Reason, Want};

/// Told of every event, from the tasks that cause them: must not block. Everything is ignored by default.
pub trait Events: Send + Sync {
    /// A token came; it ends at `expires_at` (seconds since 1970, our wall clock).
    fn refreshed(&self, credential: &CredentialName, want: &Want, took: Duration, expires_at: u64) {
        let _ = (credential, want, took, expires_at);
    }

    /// A fetch failed.
    fn refresh_failed(&self, credential: &CredentialName, want: &Want, reason: Reason, took: Duration) {
        let _ = (credential, want, reason, took);
    }

    /// The last token has expired and no other came.
    fn expired(&self, credential: &CredentialName, want: &Want) {
        let _ = (credential, want);
    }

    /// A key file was read and can sign.
    fn key_loaded(&self, credential: &CredentialName, key_id: Option<&str>) {
        let _ = (credential, key_id);
    }

    /// A key file was refused.
    fn key_refused(&self, credential: &CredentialName, reason: KeyReason) {
        let _ = (credential, reason);
    }

    /// The tokens that the credential is for come from another key now; `from` is absent the first time.
    fn switched(&self, credential: &CredentialName, from: Option<&str>, to: Option<&str>) {
        let _ = (credential, from, to);
    }

    /// The machine was suspended or its wall clock set: connections from before are dead.
    fn time_jumped(&self) {}
}

/// Nobody is told.
impl Events for () {}
