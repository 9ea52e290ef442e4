//! The composition root of the sidecar: settings → bound listeners → drained.
//!
//! Owns the order of a start and of an end, and which part gets which. Refuses to know how settings are written.
//! Called by `cli` and by the tests, which start the same thing in-process.

mod admin;
pub mod from_config;
mod identity;
mod observer;
mod post;
pub mod reload;
mod settings;
mod status;
pub mod trust;

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::sync::{Notify, watch};

pub use post::VerifiedPost;
pub use reload::Origin;
pub use settings::{Listeners, Metadata, Settings, Upstream, WaitFor};

use crate::{
    clock::{Clock, Wall},
    credential::{CredentialName, Want},
    metadata_server,
    metrics::Metrics,
    net::{
        client::Client,
        dial::{Dialer, SharedDialer},
        dns::Resolver,
        listener::Listener,
        pool::Pool,
        verified::{CONNECT_LABELS, TlsPolicies},
    },
    policy::{self, Action, DenyReason, PassReason, Placeholder},
    proxy::{Live, Parts, Proxy},
    ready::Readiness,
    shutdown::Tasks,
    tls,
    token::{Setup, Tokens},
};
use observer::{Observer, key_condition, token_condition};
use trust::Trust;

/// What a sidecar runs on, made before its settings are known.
#[derive(Clone, Debug)]
pub struct Ground {
    /// Every task.
    pub tasks: Tasks,
    /// Time.
    pub clock: Clock,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// What `/startupz` says.
    pub ready: Readiness,
}

impl Ground {
    /// A fresh one.
    ///
    /// # Errors
    /// When the metrics cannot be registered, which is a fault of ours.
    pub fn new(clock: Clock) -> anyhow::Result<Self> {
        let metrics = Arc::new(Metrics::new().context("metrics")?);
        Ok(Self { tasks: Tasks::new(), clock, metrics, ready: Readiness::new() })
    }
}

/// Where a sidecar listens; `None` where it does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// The proxy.
    pub proxy: Option<SocketAddr>,
    /// The metadata server.
    pub metadata: Option<SocketAddr>,
    /// Probes and metrics.
    pub health: Option<SocketAddr>,
    /// Status and quit.
    pub control: Option<SocketAddr>,
}

/// A running sidecar.
pub struct Sidecar {
    shared: Arc<Shared>,
}

/// What the parts of a running sidecar share with its status page.
struct Shared {
    ground: Ground,
    addresses: Addresses,
    started: Wall,
    settings: watch::Sender<Arc<Settings>>,
    live: watch::Sender<Arc<Live>>,
    tokens: Tokens,
    observer: Arc<Observer>,
    trust: Option<Trust>,
    /// What keeps the newest configuration from being used, and what waits for a restart.
    config_notes: std::sync::Mutex<ConfigNotes>,
}

/// What is to be said about the configuration.
#[derive(Clone, Debug, Default)]
pub struct ConfigNotes {
    /// Where it comes from.
    pub source: String,
    /// When the version in use was taken.
    pub loaded: Option<Wall>,
    /// Why the newest version was refused; empty when it was taken.
    pub problems: Vec<String>,
    /// When that was.
    pub refused: Option<Wall>,
    /// What is accepted but worth a word.
    pub warnings: Vec<String>,
}

impl Sidecar {
    /// Binds, then serves. Keys and tokens come when they come; nothing here waits for the network.
    ///
    /// # Errors
    /// When a listener cannot be bound or the roots cannot be read. A bad key or an unwritable trust folder is no
    /// error: it shows on `/startupz`.
    pub fn start(settings: Settings, ground: Ground) -> anyhow::Result<Self> {
        let bound = Bound::bind(&settings.listeners)?;
        let (tls, dialer) = upstream(&settings.upstream, ground.clock)?;
        dialer.own_ports(bound.ports());
        let tls = watch::Sender::new(tls);
        let observer = Arc::new(observer(&ground));
        let tokens = tokens(&settings, &ground, &dialer, &tls, &observer);
        let pool = Pool::new(dialer.clone(), tls.subscribe(), &ground.tasks, ground.clock);
        let _ = observer.pool.set(pool.clone());
        let live = watch::Sender::new(Arc::new(live(&settings, &tokens)));
        let trust = trust(&settings, &ground);
        let addresses = bound.addresses();
        let shared = Arc::new(Shared {
            started: ground.clock.wall(),
            ground,
            addresses,
            settings: watch::Sender::new(Arc::new(settings)),
            live,
            tokens,
            observer,
            trust,
            config_notes: std::sync::Mutex::default(),
        });
        shared.serve(bound, pool, dialer);
        shared.announce();
        Ok(Self { shared })
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.shared.addresses
    }

    /// Takes new settings into use without a restart: credentials, routes, refresh, drain. Returns what has to wait
    /// for the next start.
    pub fn apply(&self, settings: Settings) -> Vec<String> {
        let waiting = self.shared.needs_restart(&settings);
        self.shared.apply(settings);
        waiting
    }

    /// Changes what is to be said about the configuration.
    pub fn note_config(&self, change: impl FnOnce(&mut ConfigNotes)) {
        change(&mut self.shared.config_notes.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }

    /// What `/status.json` says.
    pub fn status(&self) -> crate::admin::status::Status {
        self.shared.status()
    }

    /// Where the trust files are, when there are any.
    pub fn trust_files(&self) -> Option<tls::TrustFiles> {
        self.shared.trust.as_ref().map(|trust| trust.files.clone())
    }

    /// Lets the application start after [`WAIT_LIMIT`] whatever is missing: a pod that waits for ever is worse than
    /// one that answers 503 and says why.
    pub fn limit_waiting(&self) {
        let shared = self.shared.clone();
        self.shared.ground.tasks.spawn(async move {
            shared.ground.clock.sleep(WAIT_LIMIT).await;
            for spec in &shared.settings.borrow().credentials.clone() {
                for condition in [key_condition(spec.name.as_str()), token_condition(spec.name.as_str())] {
                    if shared.ground.ready.met(&condition) {
                        tracing::error!(condition, "not met within 60 s: the application starts without it");
                    }
                }
            }
        });
    }

    /// Completes when somebody asked for the end by `POST /quit`.
    pub async fn asked_to_quit(&self) {
        self.shared.ground.tasks.draining().await;
    }

    /// Drains and ends. Returns whether everything in flight was done.
    pub async fn finish(self) -> bool {
        let drain = self.shared.settings.borrow().drain;
        self.shared.ground.tasks.finish(self.shared.ground.clock, drain).await
    }
}

/// The listeners, bound and not yet served.
struct Bound {
    proxy: Option<Listener>,
    metadata: Option<Listener>,
    health: Option<Listener>,
    control: Option<Listener>,
}

impl Bound {
    fn bind(listeners: &Listeners) -> anyhow::Result<Self> {
        let one = |name: &str, address: Option<SocketAddr>, most: usize| {
            address
                .map(|address| {
                    Listener::bind(address, most)
                        .with_context(|| format!("listeners.{name}: cannot listen on {address}"))
                })
                .transpose()
        };
        Ok(Self {
            proxy: one("proxy", listeners.proxy, MOST_CLIENTS)?,
            metadata: one("metadata", listeners.metadata, MOST_LOCAL)?,
            health: one("health", listeners.health, MOST_PROBES)?,
            control: one("control", listeners.control, MOST_PROBES)?,
        })
    }

    fn addresses(&self) -> Addresses {
        let of = |listener: &Option<Listener>| listener.as_ref().map(Listener::address);
        Addresses {
            proxy: of(&self.proxy),
            metadata: of(&self.metadata),
            health: of(&self.health),
            control: of(&self.control),
        }
    }

    fn ports(&self) -> Vec<u16> {
        let Addresses { proxy, metadata, health, control } = self.addresses();
        [proxy, metadata, health, control].into_iter().flatten().map(|address| address.port()).collect()
    }
}

/// How upstreams are verified and dialled.
///
/// # Errors
/// When a certificate of `extra_roots` cannot be read.
pub fn upstream(settings: &Upstream, clock: Clock) -> anyhow::Result<(TlsPolicies, SharedDialer)> {
    let roots = tls::client_roots(settings.extra_roots.as_deref()).context("upstream.extraRoots")?;
    let policies = TlsPolicies {
        any: tls::client_config(roots.clone(), &[tls::H2, tls::HTTP11])?,
        http1: tls::client_config(roots, &[tls::HTTP11])?,
    };
    let dialer = Dialer::new(Resolver::system(clock), settings.dial.clone());
    Ok((policies, Arc::new(dialer)))
}

fn observer(ground: &Ground) -> Observer {
    Observer {
        metrics: ground.metrics.clone(),
        ready: ground.ready.clone(),
        clock: ground.clock,
        changed: Arc::new(Notify::new()),
        pool: std::sync::OnceLock::new(),
    }
}

fn tokens(
    settings: &Settings,
    ground: &Ground,
    dialer: &SharedDialer,
    tls: &watch::Sender<TlsPolicies>,
    observer: &Arc<Observer>,
) -> Tokens {
    for spec in &settings.credentials {
        let name = spec.name.as_str();
        observer.begin(name);
        if settings.wait_for != WaitFor::Listening {
            ground.ready.wait_for(&key_condition(name), "no readable key yet");
        }
        if settings.wait_for == WaitFor::Token {
            ground.ready.wait_for(&token_condition(name), "no token yet");
        }
    }
    let client = Client::new(dialer.clone(), tls.subscribe(), &ground.tasks);
    let mut setup = Setup::new(Arc::new(VerifiedPost(client)), ground.clock, ground.tasks.clone());
    setup.events = observer.clone();
    let tokens = Tokens::new(setup);
    tokens.apply(&settings.credentials, settings.refresh);
    tokens
}

/// Policy and the tokens that its routes need.
fn live(settings: &Settings, tokens: &Tokens) -> Live {
    let injecting = settings.policy.routes().iter().filter(|route| route.action == Action::Inject);
    let handles = injecting.filter_map(|route| {
        let handle = tokens.handle(&CredentialName::new(&route.credential), &Want::Access)?;
        Some((route.name.clone(), handle))
    });
    Live { handles: handles.collect::<HashMap<_, _>>(), policy: settings.policy.clone() }
}

/// The pod's CA and files. Without them nothing is intercepted, and `/startupz` says why.
fn trust(settings: &Settings, ground: &Ground) -> Option<Trust> {
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
            let reason = format!("{error:#}");
            tracing::error!(error = reason, "no pod CA: nothing is intercepted");
            ground.ready.wait_for("trust", reason);
            None
        }
    }
}

/// The DNS zones that the CA may vouch for.
fn zones(policy: &policy::Policy) -> Vec<String> {
    let mut zones: Vec<String> = policy.allow().iter().map(|pattern| pattern.zone().to_string()).collect();
    zones.sort();
    zones.dedup();
    zones
}

impl Shared {
    fn serve(self: &Arc<Self>, bound: Bound, pool: Pool, dialer: SharedDialer) {
        let ground = &self.ground;
        self.begin_series();
        let placeholder = self.placeholder();
        let proxy = Proxy::new(Parts {
            live: self.live.subscribe(),
            pool,
            dialer,
            leaves: self.trust.as_ref().map(|trust| trust.leaves.clone()),
            placeholder: placeholder.clone(),
            password: self.settings.borrow().password.clone(),
            tasks: ground.tasks.clone(),
            clock: ground.clock,
            metrics: ground.metrics.clone(),
        });
        if let Some(listener) = bound.proxy {
            let tasks = ground.tasks.clone();
            ground.tasks.spawn(listener.run(tasks, move |stream, _| {
                let proxy = proxy.clone();
                async move { proxy.serve(stream).await }
            }));
        }
        if let Some(listener) = bound.metadata {
            let pods = identity::watch(self);
            let mode = match self.settings.borrow().metadata {
                Metadata::Off => metadata_server::Mode::Off,
                Metadata::Placeholder => identity::placeholder_mode(&placeholder),
                Metadata::Token => metadata_server::Mode::Token,
            };
            let settings = metadata_server::Settings { mode, listen: listener.address() };
            let source = identity::Source { shared: self.clone() };
            let server = metadata_server::Server::new(settings, pods, source, ground.clock, ground.tasks.clone());
            admin::serve_metadata(ground, listener, Arc::new(server));
        }
        if let Some(listener) = bound.health {
            admin::serve_health(ground, listener);
        }
        if let Some(listener) = bound.control {
            admin::serve_control(self, listener);
        }
    }

    fn placeholder(&self) -> Placeholder {
        // Without trust files nothing is intercepted, so one that is lost at the next start harms nobody.
        let made = || Placeholder::new(format!("{:032x}", rand::random::<u128>()));
        self.trust.as_ref().map_or_else(made, |trust| trust.placeholder.clone())
    }

    /// Lets the series of closed sets begin at 0.
    fn begin_series(&self) {
        let metrics = &self.ground.metrics;
        for reason in PassReason::ALL {
            metrics.requests_passed.with_label_values(&[reason.label()]);
        }
        for reason in DenyReason::ALL {
            metrics.requests_refused.with_label_values(&[reason.label()]);
        }
        for reason in CONNECT_LABELS {
            metrics.upstream_connect_errors.with_label_values(&[reason]);
        }
    }

    fn apply(&self, settings: Settings) {
        for spec in &settings.credentials {
            self.observer.begin(spec.name.as_str());
        }
        self.tokens.apply(&settings.credentials, settings.refresh);
        self.live.send_replace(Arc::new(live(&settings, &self.tokens)));
        self.settings.send_replace(Arc::new(settings));
        self.ground.metrics.config_reloads.inc();
        self.observer.changed.notify_one();
    }

    /// What of `new` cannot change while we run.
    fn needs_restart(&self, new: &Settings) -> Vec<String> {
        let old = self.settings.borrow().clone();
        let mut waiting = Vec::new();
        if old.listeners != new.listeners {
            waiting.push("listeners: a change takes effect at the next start".to_owned());
        }
        if old.metadata != new.metadata {
            waiting.push("metadata.mode: a change takes effect at the next start".to_owned());
        }
        if let Some(trust) = &self.trust {
            for zone in zones(&new.policy) {
                if !trust.leaves.ca().covers(&zone) {
                    waiting.push(format!(
                        "{zone}: not intercepted until the pod is made anew, since applications have read the CA"
                    ));
                }
            }
        }
        waiting
    }

    fn announce(&self) {
        let Addresses { proxy, metadata, health, control } = self.addresses;
        let show = |address: Option<SocketAddr>| address.map_or_else(|| "off".to_owned(), |at| at.to_string());
        tracing::info!(
            proxy = show(proxy),
            metadata = show(metadata),
            health = show(health),
            control = show(control),
            version = env!("CARGO_PKG_VERSION"),
            "listening"
        );
    }
}

impl std::fmt::Debug for Sidecar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sidecar").field("addresses", &self.shared.addresses).finish_non_exhaustive()
    }
}

/// How long `waitFor` may keep the application waiting.
const WAIT_LIMIT: Duration = Duration::from_secs(60);
const MOST_CLIENTS: usize = 8192;
const MOST_LOCAL: usize = 256;
const MOST_PROBES: usize = 16;
