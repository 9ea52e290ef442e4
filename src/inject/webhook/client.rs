//! The way to the API server, as the pod's service account.

use std::time::Duration;

use anyhow::Context as _;
use kube::{Client, Config};

/// A client for the cluster that this process runs in.
///
/// # Errors
/// Outside of a cluster.
pub fn in_cluster() -> anyhow::Result<Client> {
    let mut config = Config::incluster().context(
        "not in a cluster: the webhook needs the service account that Kubernetes mounts into its pod \
         (automountServiceAccountToken), and KUBERNETES_SERVICE_HOST",
    )?;
    config.connect_timeout = Some(CONNECT);
    Client::try_from(config).context("cannot make a client for the API server")
}

const CONNECT: Duration = Duration::from_secs(5);
