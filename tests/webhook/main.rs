//! The webhook as a whole, against an API server of our own: certificates that replicas share, reviews over TLS that
//! is verified by what was written, an end without a lost review.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on should stop")]

mod certificates;
mod cluster;
mod reviewer;
mod reviews;

use std::{fs, net::SocketAddr, path::PathBuf, time::Duration};

use bearerd::{
    app::Ground,
    clock::Clock,
    inject::{
        certificates::{SelfManaged, Source},
        webhook::{Options, Webhook},
    },
};
use tempfile::TempDir;

use cluster::Cluster;
use reviewer::{Reviewer, plain_get};

/// How long a new CA is trusted before it signs: short, and long against what the fake API server takes.
const SETTLE: Duration = Duration::from_millis(1200);

/// One replica.
struct Replica {
    webhook: Webhook,
    ground: Ground,
    config: PathBuf,
    _directory: TempDir,
}

impl Replica {
    fn start(cluster: &Cluster) -> Self {
        let source = Source::SelfManaged(SelfManaged {
            namespace: "bearerd".to_owned(),
            secret: "bearerd-webhook-ca".to_owned(),
            registration: "bearerd".to_owned(),
            services: vec![reviewer::SERVICE.to_owned()],
            settle: SETTLE,
        });
        Self::with(source, Some(cluster.client()))
    }

    fn with(certificate: Source, client: Option<kube::Client>) -> Self {
        let directory = TempDir::new().unwrap();
        let config = directory.path().join("config.yaml");
        fs::write(&config, "image: ghcr.io/bearerd/bearerd:0.1.0\n").unwrap();
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let options = Options {
            config: config.clone(),
            listen: loopback,
            health: loopback,
            certificate,
            lame_duck: Duration::from_secs(1),
        };
        let ground = Ground::new(Clock::system()).unwrap();
        let webhook = Webhook::start(options, client, ground.clone()).unwrap();
        Self { webhook, ground, config, _directory: directory }
    }

    async fn ready(&self) {
        until("ready", async || self.probe("/readyz").await == 200).await;
    }

    async fn probe(&self, path: &str) -> u16 {
        plain_get(self.webhook.health, path).await.0
    }

    async fn metrics(&self) -> String {
        plain_get(self.webhook.health, "/metrics").await.1
    }

    fn reviewer(&self) -> Reviewer {
        Reviewer::new(self.webhook.address)
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.ground.tasks.end();
    }
}

/// Waits for a condition, for 20 s at most.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let tries = 1000;
    for _ in 0..tries {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{what}: not within 20 s");
}
