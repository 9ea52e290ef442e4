//! The composition root of the sidecar: settings → bound listeners → drained.
//!
//! Owns the order of a start and of an end, and which part gets which. Refuses to know how settings are written.
//! Called by `cli` and by the tests, which start the same thing in-process.

mod admin;
mod bound;
pub mod from_config;
mod handouts;
mod identity;
mod limits;
mod observer;
mod parts;
mod post;
pub mod reload;
mod series;
mod settings;
mod status;
pub mod trust;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::sync::watch;

pub use bound::Addresses;
pub use parts::upstream;
pub use post::VerifiedPost;
pub use reload::Origin;
pub use settings::{Listeners, MOST_CLIENTS, Metadata, Settings, Upstream, WaitFor};

use crate::{
    clock::{Clock, Wall},
    metadata_server,
    metrics::Metrics,
    mqtt,
    net::{dial::SharedDialer, listener::Listener, pool::Pool, verified::TlsPolicies},
    policy::Placeholder,
    proxy::{Live, Parts, Proxy},
    ready::Readiness,
    shutdown::Tasks,
    tls,
    token::Tokens,
};
use handouts::Handouts;
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

/// A running sidecar.
pub struct Sidecar {
    shared: Arc<Shared>,
}

/// What the parts of a running sidecar share with its status page.
struct Shared {
    ground: Ground,
    addresses: Addresses,
    mqtt: Vec<SocketAddr>,
    /// The entries of `mqtt` in the newest settings, whatever doors were opened at the start.
    doors: watch::Sender<Arc<Vec<mqtt::Settings>>>,
    started: Wall,
    settings: watch::Sender<Arc<Settings>>,
    live: watch::Sender<Arc<Live>>,
    tokens: Tokens,
    handouts: Handouts,
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
        let mut bound = bound::Bound::bind(&settings.listeners, &settings.mqtt, settings.most_clients)?;
        let (tls, dialer) = upstream(&settings.upstream, ground.clock)?;
        dialer.own_ports(bound.ports());
        let observer = Arc::new(parts::observer(&ground));
        let tokens = parts::tokens(&settings, &ground, &dialer, &tls, &observer);
        let pool = Pool::new(dialer.clone(), tls.clone(), &ground.tasks, ground.clock);
        let _ = observer.pool.set(pool.clone());
        let live = watch::Sender::new(Arc::new(parts::live(&settings, &tokens)));
        let trust = parts::trust(&settings, &ground);
        let (addresses, mqtt) = (bound.addresses(), bound.mqtt());
        let handouts = Handouts::new(&tokens, &ground);
        handouts.apply(&settings.tokens);
        let shared = Arc::new(Shared {
            started: ground.clock.wall(),
            ground,
            addresses,
            mqtt,
            doors: watch::Sender::new(Arc::new(settings.mqtt.clone())),
            settings: watch::Sender::new(Arc::new(settings)),
            live,
            tokens,
            handouts,
            observer,
            trust,
            config_notes: std::sync::Mutex::default(),
        });
        shared.serve_mqtt(std::mem::take(&mut bound.mqtt), &dialer, &tls);
        shared.serve(bound, pool, dialer);
        shared.announce();
        Ok(Self { shared })
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.shared.addresses
    }

    /// Where its MQTT doors are, in the order of their entries.
    pub fn mqtt_addresses(&self) -> &[SocketAddr] {
        &self.shared.mqtt
    }

    /// Takes new settings into use without a restart: credentials, routes, entries of `tokens`, refresh, drain. Returns what has to wait
    /// for the next start.
    pub fn apply(&self, settings: Settings) -> Vec<String> {
        let waiting = self.shared.not_intercepted(&settings);
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

    /// What is waited for, each with the reason of this moment.
    pub fn unmet(&self) -> Vec<(String, String)> {
        self.shared.say_why();
        self.shared.ground.ready.unmet()
    }

    /// Where the trust files are, when there are any.
    pub fn trust_files(&self) -> Option<tls::TrustFiles> {
        self.shared.trust.as_ref().map(|trust| trust.files.clone())
    }

    /// Lets the application start after a minute whatever is missing: a pod that waits for ever is worse than
    /// one that answers 503 and says why.
    pub fn limit_waiting(&self) {
        let shared = self.shared.clone();
        self.shared.ground.tasks.spawn(async move {
            shared.ground.clock.sleep(WAIT_LIMIT).await;
            let credentials = shared.settings.borrow().credentials.clone();
            let names = credentials.iter().map(|spec| spec.name.as_str());
            let conditions = names.flat_map(|name| [key_condition(name), token_condition(name)]);
            for condition in conditions.chain([ANNOTATIONS.to_owned()]) {
                if shared.ground.ready.met(&condition) {
                    let token = condition.starts_with("token ").then_some("none");
                    tracing::error!(condition, token, "not met within 60 s: the application starts without it");
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

impl Shared {
    fn serve(self: &Arc<Self>, bound: bound::Bound, pool: Pool, dialer: SharedDialer) {
        let ground = &self.ground;
        series::begin(&self.ground.metrics, &self.settings.borrow());
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
            ground.tasks.spawn(listener.run(tasks, move |stream, seat| {
                let proxy = proxy.clone();
                async move { proxy.serve(stream, seat).await }
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
        if let Some(listener) = bound.token_api {
            let door = self.handouts.door(listener.address(), ground);
            admin::serve_token_api(ground, listener, Arc::new(door));
        }
        if let Some(listener) = bound.health {
            let shared = self.clone();
            admin::serve_health(ground, listener, true, move || shared.say_why());
        }
        if let Some(listener) = bound.control {
            admin::serve_control(self, listener);
        }
    }

    fn serve_mqtt(&self, listeners: Vec<Listener>, dialer: &SharedDialer, tls: &TlsPolicies) {
        let ground = &self.ground;
        for (listener, settings) in listeners.into_iter().zip(&self.settings.borrow().mqtt) {
            let door = mqtt::Door::new(mqtt::Parts {
                settings: settings.clone(),
                standing: mqtt::Standing::new(settings.clone(), self.doors.subscribe()),
                tokens: self.tokens.clone(),
                dialer: dialer.clone(),
                tls: tls.plain.clone(),
                tasks: ground.tasks.clone(),
                clock: ground.clock,
                metrics: ground.metrics.clone(),
            });
            ground.tasks.spawn(listener.run(ground.tasks.clone(), move |stream, seat| {
                let door = door.clone();
                async move { door.serve(stream, seat).await }
            }));
        }
    }

    fn placeholder(&self) -> Placeholder {
        // Without trust files nothing is intercepted, so one that is lost at the next start harms nobody.
        let made = || Placeholder::new(format!("{:032x}", rand::random::<u128>()));
        self.trust.as_ref().map_or_else(made, |trust| trust.placeholder.clone())
    }

    fn apply(&self, settings: Settings) {
        series::begin_configured(&self.ground.metrics, &settings);
        for spec in &settings.credentials {
            self.observer.begin(spec.name.as_str());
        }
        // Ahead of the credentials: a door that is gone must not find the next one of its credential's name.
        self.doors.send_replace(Arc::new(settings.mqtt.clone()));
        self.tokens.apply(&settings.credentials, settings.refresh);
        self.handouts.apply(&settings.tokens);
        self.live.send_replace(Arc::new(parts::live(&settings, &self.tokens)));
        self.settings.send_replace(Arc::new(settings));
        self.ground.metrics.config_reloads.inc();
        self.observer.changed.notify_one();
    }

    /// Hosts of `new` that the CA, which applications have read, may not vouch for.
    fn not_intercepted(&self, new: &Settings) -> Vec<String> {
        let mut waiting = Vec::new();
        if let Some(trust) = &self.trust {
            for zone in parts::zones(&new.policy) {
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
        let Addresses { proxy, metadata, token_api, health, control } = self.addresses;
        let show = |address: Option<SocketAddr>| address.map_or_else(|| "off".to_owned(), |at| at.to_string());
        tracing::info!(
            proxy = show(proxy),
            metadata = show(metadata),
            token_api = show(token_api),
            health = show(health),
            control = show(control),
            mqtt = self.mqtt.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
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

/// The readiness condition of annotations that can be used.
const ANNOTATIONS: &str = "annotations";

/// How long `waitFor` may keep the application waiting.
const WAIT_LIMIT: Duration = Duration::from_secs(60);
