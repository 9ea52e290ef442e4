//! The parts of a sidecar, each made from its settings.

use std::{collections::HashMap, sync::Arc};

use anyhow::Context as _;
use tokio::sync::Notify;

use super::{
    Ground, Settings, Upstream, VerifiedPost, WaitFor,
    observer::{Observer, key_condition, token_condition},
    trust::{self, Trust},
};
use crate::{
    authority::Host,
    clock::Clock,
    credential::ApiHost,
    net::{
        client::Client,
        dial::{Dialer, SharedDialer},
        dns::Resolver,
        verified::TlsPolicies,
    },
    policy::{self, Action},
    proxy::{Live, Supply},
    tls,
    token::{Setup, Tokens},
};

/// How upstreams are verified and dialled.
///
/// # Errors
/// When a certificate of `extra_roots` cannot be read.
pub fn upstream(settings: &Upstream, clock: Clock) -> anyhow::Result<(TlsPolicies, SharedDialer)> {
    let roots = tls::client_roots(settings.extra_roots.as_deref()).context("upstream.extraRoots")?;
    let policies = TlsPolicies {
        any: tls::client_config(roots.clone(), &[tls::H2, tls::HTTP11])?,
        http1: tls::client_config(roots.clone(), &[tls::HTTP11])?,
        plain: tls::client_config(roots, &[])?,
    };
    let endpoints = ApiHost::ALL.iter().filter_map(|host| Host::parse(host.as_str()).ok()).collect();
    let dialer = Dialer::new(Resolver::system(clock).keeping(endpoints), settings.dial.clone());
    Ok((policies, Arc::new(dialer)))
}

pub(super) fn observer(ground: &Ground) -> Observer {
    Observer {
        metrics: ground.metrics.clone(),
        ready: ground.ready.clone(),
        clock: ground.clock,
        changed: Arc::new(Notify::new()),
        pool: std::sync::OnceLock::new(),
    }
}

pub(super) fn tokens(
    settings: &Settings,
    ground: &Ground,
    dialer: &SharedDialer,
    tls: &TlsPolicies,
    observer: &Arc<Observer>,
) -> Tokens {
    for spec in &settings.credentials {
        let name = spec.name.as_str();
        observer.begin(name);
        if settings.wait_for != WaitFor::Listening {
            ground.ready.wait_for(&key_condition(name), "no readable key yet");
        }
        if settings.wait_for == WaitFor::Token && spec.first_want().is_some() {
            ground.ready.wait_for(&token_condition(name), "no token yet");
        }
    }
    let client = Client::new(dialer.clone(), tls.clone(), &ground.tasks);
    let mut setup = Setup::new(Arc::new(VerifiedPost(client)), ground.clock, ground.tasks.clone());
    setup.events = observer.clone();
    let tokens = Tokens::new(setup);
    tokens.apply(&settings.credentials, settings.refresh);
    tokens
}

/// Policy and the tokens that its routes need.
pub(super) fn live(settings: &Settings, tokens: &Tokens) -> Live {
    let injecting = settings.policy.routes().iter().filter(|route| route.action == Action::Inject);
    let supplies = injecting.filter_map(|route| Some((route.name.clone(), Arc::new(Supply::new(route, tokens)?))));
    Live { supplies: supplies.collect::<HashMap<_, _>>(), policy: settings.policy.clone() }
}

/// The pod's CA and files. Without them nothing is intercepted, and `/startupz` says why.
pub(super) fn trust(settings: &Settings, ground: &Ground) -> Option<Trust> {
    let zones = zones(&settings.policy);
    let made = trust::prepare(&settings.trust, &zones, settings.upstream.extra_roots.as_deref(), ground.clock);
    match made {
        Ok(trust) => {
            let expiry = i64::try_from(trust.leaves.ca().expires().seconds()).unwrap_or(i64::MAX);
            ground.metrics.ca_expiry.set(expiry);
            ground.ready.met("trust");
            Some(trust)
        }
        Err(error) => {
            let reason = format!("{error:#}; both folders of `trust` must be writable, in a pod by volumes");
            tracing::error!(error = reason, "no pod CA: nothing is intercepted");
            ground.ready.wait_for("trust", reason);
            None
        }
    }
}

/// The DNS zones that the CA may vouch for.
pub(super) fn zones(policy: &policy::Policy) -> Vec<String> {
    let mut zones: Vec<String> = policy.allow().iter().map(|pattern| pattern.zone().to_string()).collect();
    zones.sort();
    zones.dedup();
    zones
}
