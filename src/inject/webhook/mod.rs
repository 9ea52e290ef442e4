//! The admission server: its doors opened, its settings followed, its end announced before it comes.
//!
//! Owns the order in which the parts of `bearerd webhook` begin and end. Refuses to know what a review says and how
//! certificates come about. Called by `cli`.

mod client;
mod events;
mod follow;
mod server;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use kube::Client;
use tokio::sync::watch;

pub use client::in_cluster;

use super::{
    certificates::{self, Source},
    review::Result,
};
use crate::{
    admin::health,
    app::Ground,
    net::{
        http as plain,
        listener::{Full, Listener},
    },
    shutdown::DrainSettings,
};

/// What a webhook is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The injector's settings file.
    pub config: PathBuf,
    /// Where reviews come, over TLS.
    pub listen: SocketAddr,
    /// Where probes and scrapes come.
    pub health: SocketAddr,
    /// Who keeps the certificate.
    pub certificate: Source,
    /// How long it serves on after it has said that it will end.
    pub lame_duck: Duration,
}

/// A running webhook.
#[derive(Debug)]
pub struct Webhook {
    ground: Ground,
    lame_duck: Duration,
    server: Arc<server::Server>,
    /// Where reviews come.
    pub address: SocketAddr,
    /// Where probes and scrapes come.
    pub health: SocketAddr,
}

impl Webhook {
    /// Reads the settings, opens the doors and begins to keep the certificate. `client` is needed for certificates of
    /// its own and for Events.
    ///
    /// # Errors
    /// Everything that is wrong with the settings file, a line each; an address that is in use.
    pub fn start(options: Options, client: Option<Client>, ground: Ground) -> anyhow::Result<Self> {
        let settings = follow::read(&options.config).map_err(|problems| anyhow::anyhow!("{}", problems.join("\n")))?;
        let (publish, settings) = watch::channel(Arc::new(settings));
        let bind = |address, most, full| {
            Listener::bind(address, most, full).with_context(|| format!("cannot listen on {address}"))
        };
        let reviews = bind(options.listen, MOST_CONNECTIONS, Full::EndsIdle)?;
        let probes = bind(options.health, MOST_PROBES, Full::EndsOldest)?;
        let (address, health) = (reviews.address(), probes.address());
        for result in Result::ALL {
            ground.metrics.webhook_reviews.with_label_values(&[result.label()]);
        }
        ground.metrics.webhook_review_duration.with_label_values(&[] as &[&str]);
        let serving = certificates::start(options.certificate, client.as_ref(), &ground);
        let tls = serving.server_config().context("cannot speak TLS")?;
        let events = events::Events::start(client, &ground);
        let server = Arc::new(server::Server::new(settings, tls, events, ground.clone()));
        ground.tasks.spawn(follow::follow(options.config, publish, ground.clone()));
        let held = server.clone();
        ground.tasks.spawn(reviews.run(ground.tasks.clone(), move |stream, seat| {
            let server = held.clone();
            async move { server.serve(stream, seat).await }
        }));
        serve_health(&ground, probes);
        tracing::info!(%address, %health, version = env!("CARGO_PKG_VERSION"), "the webhook is listening");
        Ok(Self { ground, lame_duck: options.lame_duck, server, address, health })
    }

    /// Says that it will end, serves on until everybody has heard it, then finishes what is in flight. Whether all of
    /// that was done.
    pub async fn finish(&self) -> bool {
        // Endpoints learn late of a pod that is not ready, and API servers of the endpoints.
        self.ground.ready.wait_for(ENDING, "it is about to end");
        self.server.see_off();
        self.ground.clock.sleep(self.lame_duck).await;
        self.ground.tasks.finish(self.ground.clock, DRAIN).await
    }
}

fn serve_health(ground: &Ground, listener: Listener) {
    let held = ground.clone();
    let answer = Arc::new(move |request: http::Request<hyper::body::Incoming>| {
        let answer = health::respond(&request, &held.ready, held.ready.is_ready(), || held.metrics.render());
        async move { answer }
    });
    let (tasks, clock) = (ground.tasks.clone(), ground.clock);
    ground.tasks.spawn(listener.run(ground.tasks.clone(), move |stream, _| {
        let (tasks, answer) = (tasks.clone(), answer.clone());
        async move { plain::serve(stream, clock, &tasks, answer).await }
    }));
}

/// The condition that is never met again.
const ENDING: &str = "running";
/// What a lame duck needs at the least.
pub const LAME_DUCK: Duration = Duration::from_secs(5);
const DRAIN: DrainSettings = DrainSettings { linger: Duration::from_millis(500), deadline: Duration::from_secs(15) };
/// API servers keep a few connections each; the rest is room for whoever else calls.
const MOST_CONNECTIONS: usize = 256;
const MOST_PROBES: usize = 64;
