//! The webhook's certificate: kept by itself, or read from files that others keep.
//!
//! Owns what is served, who signed it, and what the API server is told to trust. Refuses to know what a review is.
//! Called by the webhook, whose server asks at each handshake.

mod authority;
mod cluster;
mod files;
mod keeper;
mod serving;
mod shelf;
mod step;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use kube::Client;

pub(in crate::inject) use cluster::{MANAGER, chain};
pub use serving::Serving;
pub use shelf::ROTATE;

use crate::{app::Ground, metrics::Metrics};

/// Who keeps the certificate.
#[derive(Clone, Debug)]
pub enum Source {
    /// The webhooks themselves, through a Secret that they share.
    SelfManaged(SelfManaged),
    /// Whoever writes `tls.crt` and `tls.key` into this directory.
    Files(PathBuf),
}

/// Where the webhooks keep their certificates.
#[derive(Clone, Debug)]
pub struct SelfManaged {
    /// The Secret's namespace.
    pub namespace: String,
    /// The Secret.
    pub secret: String,
    /// The name of both registrations.
    pub registration: String,
    /// The names by which the API server calls the service.
    pub services: Vec<String>,
    /// How long an authority must have been trusted before it signs.
    pub settle: Duration,
}

/// Begins to keep the certificate; the condition `certificate` is met once the API server trusts what is served.
pub fn start(source: Source, client: Option<&Client>, ground: &Ground) -> Serving {
    let serving = Serving::default();
    ground.ready.wait_for(keeper::CONDITION, "there is none yet");
    match (source, client) {
        (Source::Files(directory), _) => {
            ground.tasks.spawn(files::follow(directory, serving.clone(), ground.clone()));
        }
        (Source::SelfManaged(its), Some(client)) => {
            let keeper = keeper::Keeper {
                cluster: cluster::Cluster::new(client, &its.namespace, &its.secret, &its.registration),
                names: its.services,
                settle: its.settle,
                serving: serving.clone(),
                ground: ground.clone(),
                shelf: None,
                leaf: None,
                since: BTreeMap::new(),
                complaint: None,
            };
            ground.tasks.spawn(keeper.run());
        }
        (Source::SelfManaged(_), None) => ground.ready.because(keeper::CONDITION, "there is no API server to ask"),
    }
    serving
}

fn publish_expiry(metrics: &Metrics, until: u64) {
    let until = i64::try_from(until).unwrap_or(i64::MAX);
    metrics.webhook_certificate_expiry.with_label_values(&[] as &[&str]).set(until);
}

/// How long an authority must have been trusted before it signs, unless told otherwise: API servers learn of a new
/// registration in seconds, and one that was cut off for minutes is no longer asked.
pub const SETTLE: Duration = Duration::from_secs(600);
