//! What happens to tokens and keys, counted.

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;

use crate::{
    clock::Clock,
    credential::{CredentialName, KeyReason, Reason, Want},
    metrics::Metrics,
    net::pool::Pool,
    ready::Readiness,
    token::Events,
};

/// Turns events into metrics and readiness.
pub(super) struct Observer {
    pub(super) metrics: Arc<Metrics>,
    pub(super) ready: Readiness,
    pub(super) clock: Clock,
    /// Rung when a key was loaded or switched: the pod's identity may be another.
    pub(super) changed: Arc<Notify>,
    /// Emptied when time jumped. Set once the pool exists.
    pub(super) pool: std::sync::OnceLock<Pool>,
}

impl Observer {
    /// Lets every series of a credential begin at 0.
    pub(super) fn begin(&self, credential: &str) {
        self.metrics.token_refreshes.with_label_values(&[credential]);
        for reason in Reason::ALL {
            self.metrics.token_refresh_failures.with_label_values(&[credential, reason.label()]);
        }
        for reason in KeyReason::ALL {
            self.metrics.key_load_failures.with_label_values(&[credential, reason.label()]);
        }
    }
}

impl Events for Observer {
    fn refreshed(&self, credential: &CredentialName, want: &Want, took: Duration, expires_at: u64) {
        let name = credential.as_str();
        self.metrics.token_refreshes.with_label_values(&[name]).inc();
        self.metrics.token_refresh_duration.observe(took.as_secs_f64());
        if want.is_main() {
            let expires_at = i64::try_from(expires_at).unwrap_or(i64::MAX);
            self.metrics.token_expiry.with_label_values(&[name]).set(expires_at);
            self.ready.met(&token_condition(name));
        }
    }

    fn refresh_failed(&self, credential: &CredentialName, _: &Want, reason: Reason, took: Duration) {
        self.metrics.token_refresh_failures.with_label_values(&[credential.as_str(), reason.label()]).inc();
        self.metrics.token_refresh_duration.observe(took.as_secs_f64());
    }

    fn key_loaded(&self, credential: &CredentialName, _: Option<&str>) {
        let now = i64::try_from(self.clock.wall().seconds()).unwrap_or(i64::MAX);
        self.metrics.key_load_timestamp.with_label_values(&[credential.as_str()]).set(now);
        self.ready.met(&key_condition(credential.as_str()));
        self.changed.notify_one();
    }

    fn key_refused(&self, credential: &CredentialName, reason: KeyReason) {
        self.metrics.key_load_failures.with_label_values(&[credential.as_str(), reason.label()]).inc();
    }

    fn switched(&self, credential: &CredentialName, _: Option<&str>, to: Option<&str>) {
        self.metrics.key_in_use(credential.as_str(), to.unwrap_or("none"));
        self.changed.notify_one();
    }

    fn time_jumped(&self) {
        if let Some(pool) = self.pool.get() {
            pool.drop_idle();
        }
    }
}

/// The readiness condition of a credential's first token.
pub(super) fn token_condition(credential: &str) -> String {
    format!("token {credential}")
}

/// The readiness condition of a credential's first readable key.
pub(super) fn key_condition(credential: &str) -> String {
    format!("key {credential}")
}
