//! Following the configuration: waited for at the start, taken into use when it changes, and the last good one kept.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::sync::{Notify, watch};

use super::{
    ANNOTATIONS, ConfigNotes, Ground, Listeners, Settings, Sidecar, WaitFor, admin, bound::Bound, from_config,
};
use crate::{
    config::{self, Loaded, Sources, Written},
    net::listener::{Full, Listener},
    shutdown::Tasks,
    telemetry::Logs,
    watch::{Pace, Snapshot},
};

/// Where the configuration comes from.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// The configuration.
    pub config: Option<Written>,
    /// The downward API's file of annotations.
    pub annotations: Option<PathBuf>,
    /// What the command line says.
    pub flags: config::Flags,
}

/// What was read, ready to be used.
struct Good {
    loaded: Loaded,
    settings: Settings,
    /// Why the newest set of annotations is not in it; empty when it is.
    ignored: Vec<String>,
}

impl Origin {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// All problems at once.
    pub fn load(&self) -> Result<Loaded, Vec<config::Problem>> {
        config::load(&self.read()?)
    }

    /// Only reads the files.
    ///
    /// # Errors
    /// All problems at once.
    pub fn read(&self) -> Result<Sources, Vec<config::Problem>> {
        Sources::read(self.config.as_ref(), self.annotations.as_deref(), self.flags.clone())
    }
}

/// Reads the configuration again whenever one of its files changes.
#[derive(Debug)]
pub struct Follower {
    origin: Origin,
    ground: Ground,
    /// `None` when a flag fixed the log level.
    level: Option<Logs>,
    /// Rung when somebody wants the files to be read now.
    look_again: Arc<Notify>,
    changes: Vec<watch::Receiver<Snapshot>>,
    /// The last set of annotations that was good as a whole.
    annotations: Option<config::Source>,
    /// The settings that the sidecar was started with: some of them stay until the next start.
    started: Option<config::Settings>,
    /// What is in use, and what has been refused since: neither is said twice.
    in_use: Option<Loaded>,
    refused: Vec<String>,
    /// Why nothing may be started now, whatever the configuration says.
    hindrance: Hindrance,
}

/// Says what stands against a start, if anything does.
pub type Hindrance = fn() -> Option<String>;

impl Follower {
    /// Begins to watch the files of `origin`.
    pub fn new(origin: Origin, ground: Ground, level: Option<Logs>, look_again: Arc<Notify>) -> Self {
        let paths = [origin.config.as_ref().and_then(Written::path), origin.annotations.as_ref()];
        let watch = |path: &PathBuf| crate::watch::start(path.clone(), Pace::default(), ground.clock, &ground.tasks);
        let changes = paths.into_iter().flatten().map(watch).collect();
        Self {
            origin,
            ground,
            level,
            look_again,
            changes,
            annotations: None,
            started: None,
            in_use: None,
            refused: Vec::new(),
            hindrance: || None,
        }
    }

    /// The same, which starts nothing while `hindrance` has something to say.
    #[must_use]
    pub fn not_while(self, hindrance: Hindrance) -> Self {
        Self { hindrance, ..self }
    }

    /// Starts the sidecar as soon as there is a usable configuration and its ports are free. Until then `/startupz`
    /// says what is wrong.
    pub async fn start(mut self) -> (Sidecar, Self) {
        let mut probes = Probes::default();
        loop {
            // Nothing tells of its end.
            let hindrance = (self.hindrance)();
            let mut wait = hindrance.is_some().then_some(RETRY);
            let problems = match hindrance.map_or_else(|| self.read(), |hindrance| Err(vec![hindrance])) {
                Ok(good) => match self.try_start(&good, &mut probes).await {
                    Ok(sidecar) => {
                        self.note_started(&sidecar, good);
                        return (sidecar, self);
                    }
                    Err(error) => {
                        wait = Some(RETRY);
                        vec![format!("{error:#}")]
                    }
                },
                Err(problems) => problems,
            };
            self.ground.ready.wait_for("config", problems.join("; "));
            if self.is_news(&problems) {
                for problem in &problems {
                    match wait {
                        None => tracing::error!("no usable configuration yet: {problem}"),
                        Some(_) => tracing::error!("cannot start yet, tried again every 2 s: {problem}"),
                    }
                }
            }
            let sources = self.origin.read().unwrap_or_default();
            probes.answer(config::listeners(&sources).health, &self.ground).await;
            self.changed(wait).await;
        }
    }

    async fn try_start(&self, good: &Good, probes: &mut Probes) -> anyhow::Result<Sidecar> {
        let Good { settings, ignored, .. } = good;
        if probes.served.is_some() {
            // Their port is one of those that the sidecar takes: it is given up only when the others are free.
            let others = Listeners { health: None, ..settings.listeners };
            Bound::bind(&others, &settings.mqtt, settings.most_clients)?;
            probes.end().await;
        }
        self.note_level(settings);
        // Shown by the probe, which `limit_waiting` lets pass in the end: a typing error should not wedge a pod.
        if ignored.is_empty() || settings.wait_for == WaitFor::Listening {
            self.ground.ready.met(ANNOTATIONS);
        } else {
            self.ground.ready.wait_for(ANNOTATIONS, format!("they are not used: {}", ignored.join("; ")));
        }
        Sidecar::start(settings.clone(), self.ground.clone())
    }

    fn note_started(&mut self, sidecar: &Sidecar, Good { loaded, ignored, .. }: Good) {
        self.note_taken(sidecar, words(&loaded.warnings));
        self.started = Some(loaded.settings.clone());
        self.in_use = Some(loaded);
        self.refused.clear();
        if !ignored.is_empty() && self.is_news(&ignored) {
            for problem in &ignored {
                tracing::error!("the annotations are not used: {problem}");
            }
        }
        self.note_refused(sidecar, ignored);
        self.ground.ready.met("config");
        sidecar.limit_waiting();
    }

    /// Applies every later version; never returns.
    pub async fn follow(mut self, sidecar: &Sidecar) -> &'static str {
        loop {
            let asked = self.changed(None).await;
            let problems = match self.read() {
                Ok(Good { loaded, settings, ignored }) => {
                    let is_in_use = self.in_use.as_ref() == Some(&loaded);
                    if is_in_use && ignored.is_empty() && self.refused.is_empty() {
                        if asked {
                            tracing::info!("the configuration was read again and is the one in use");
                        }
                    } else if !is_in_use || ignored.is_empty() {
                        // With the last good annotations the file alone decides whether there is anything new.
                        self.take(sidecar, loaded, settings);
                    }
                    ignored
                }
                Err(problems) => problems,
            };
            if problems.is_empty() {
                self.refused.clear();
                self.ground.ready.met(ANNOTATIONS);
                continue;
            }
            if self.is_news(&problems) {
                for problem in &problems {
                    tracing::error!("the changed configuration is not used: {problem}");
                }
            }
            self.note_refused(sidecar, problems);
        }
    }

    fn take(&mut self, sidecar: &Sidecar, loaded: Loaded, settings: Settings) {
        self.note_level(&settings);
        let mut warnings = words(&loaded.warnings);
        if let Some(started) = self.started.as_mut().filter(|started| started.shape.is_none()) {
            // The first that could be read: what the pod was made by, as far as can be known.
            started.shape.clone_from(&loaded.settings.shape);
        }
        warnings.extend(self.started.iter().flat_map(|old| config::needs_restart(old, &loaded.settings)));
        warnings.extend(sidecar.apply(settings));
        for warning in &warnings {
            tracing::warn!("configuration: {warning}");
        }
        tracing::info!("the changed configuration is in use");
        self.note_taken(sidecar, warnings);
        self.in_use = Some(loaded);
    }

    /// Counts what is wrong and says whether it is news: a file that is looked at again is not wrong again.
    fn is_news(&mut self, problems: &[String]) -> bool {
        let is_news = self.refused != problems;
        if is_news {
            self.ground.metrics.config_reload_failures.inc();
            self.refused = problems.to_vec();
        }
        is_news
    }

    /// Everything; or, when nothing but the annotations is wrong, the rest with the last good set of them, and where
    /// that is good no longer, or there was none, without: a set of annotations is taken whole or not at all, and takes
    /// nothing else with it. Else it would keep a narrower ceiling from coming into force.
    fn read(&mut self) -> Result<Good, Vec<String>> {
        let Origin { config, annotations, flags } = &self.origin;
        let newest = Sources::read(None, annotations.as_deref(), config::Flags::default());
        let sources = Sources::read(config.as_ref(), None, flags.clone()).map_err(|problems| words(&problems));
        let (mut sources, annotations, unreadable) = match (sources, newest) {
            (Ok(sources), Ok(newest)) => (sources, newest.annotations, None),
            (Ok(sources), Err(problems)) => (sources, None, Some(words(&problems))),
            (Err(mut problems), newest) => {
                problems.extend(newest.err().iter().flat_map(|more| words(more)));
                return Err(problems);
            }
        };
        let problems = match unreadable {
            Some(problems) => problems,
            None => {
                sources.annotations = annotations.clone();
                match load(&sources) {
                    Ok((loaded, settings)) => {
                        self.annotations = annotations;
                        return Ok(Good { loaded, settings, ignored: Vec::new() });
                    }
                    Err(problems) => problems,
                }
            }
        };
        let Some(last) = self.annotations.clone() else { return without(sources, problems) };
        sources.annotations = Some(last.clone());
        match load(&sources) {
            Ok((loaded, settings)) => Ok(Good { loaded, settings, ignored: problems }),
            Err(more) => {
                let mut ignored = problems;
                if annotations != Some(last) {
                    ignored.extend(more.into_iter().map(|problem| format!("the last good ones: {problem}")));
                }
                let good = without(sources, ignored)?;
                self.annotations = None;
                Ok(good)
            }
        }
    }

    /// Completes when a source may have changed, or somebody wants it to be read (`true`), or after `most`.
    async fn changed(&mut self, most: Option<Duration>) -> bool {
        let clock = self.ground.clock;
        let mut waits: FuturesUnordered<_> = self.changes.iter_mut().map(watch::Receiver::changed).collect();
        let source = async {
            // A watch ends only with everything else; without files there is nothing to wait for.
            if !matches!(waits.next().await, Some(Ok(()))) {
                std::future::pending::<()>().await;
            }
        };
        let late = async {
            match most {
                Some(most) => clock.sleep(most).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = source => false,
            () = self.look_again.notified() => true,
            () = late => false,
        }
    }

    fn note_level(&self, settings: &Settings) {
        if let (Some(level), Some(wanted)) = (&self.level, &settings.log_level) {
            level.set_level(wanted);
        }
    }

    fn note_taken(&self, sidecar: &Sidecar, warnings: Vec<String>) {
        let Origin { config, annotations, flags } = &self.origin;
        let paths = [annotations.as_ref(), flags.key.as_ref()];
        let paths = paths.into_iter().flatten().map(|path| path.display().to_string());
        let source: Vec<_> = config.iter().map(ToString::to_string).chain(paths).collect();
        let loaded = Some(self.ground.clock.wall());
        sidecar.note_config(|notes| {
            *notes = ConfigNotes { source: source.join(", "), loaded, warnings, ..ConfigNotes::default() };
        });
    }

    fn note_refused(&self, sidecar: &Sidecar, problems: Vec<String>) {
        if !problems.is_empty() {
            let now = self.ground.clock.wall();
            sidecar.note_config(|notes| (notes.problems, notes.refused) = (problems, Some(now)));
        }
    }
}

/// Probes answered before there is a sidecar: alive, not ready, and why.
#[derive(Default)]
struct Probes {
    served: Option<(SocketAddr, Tasks)>,
    /// Where it was tried last.
    asked: Option<SocketAddr>,
}

impl Probes {
    async fn answer(&mut self, address: Option<SocketAddr>, ground: &Ground) {
        let is_known = self.asked == address;
        if is_known && self.served.is_some() {
            return;
        }
        self.end().await;
        self.asked = address;
        let Some(address) = address else { return };
        let tasks = Tasks::new();
        let ground = Ground { tasks: tasks.clone(), ..ground.clone() };
        match Listener::bind(address, 16, Full::EndsOldest) {
            Ok(listener) => {
                tracing::info!(health = %listener.address(), "answering probes until there is one");
                admin::serve_health(&ground, listener, false, || ());
                self.served = Some((address, tasks));
            }
            Err(error) if !is_known => tracing::warn!(%error, %address, "probes cannot be answered"),
            Err(_) => {}
        }
    }

    async fn end(&mut self) {
        if let Some((_, tasks)) = self.served.take() {
            let at_once = crate::shutdown::DrainSettings { linger: Duration::ZERO, ..Default::default() };
            tasks.finish(crate::clock::Clock::system(), at_once).await;
        }
    }
}

/// The rest without annotations, which are wrong; where it is wrong too, both are said.
fn without(sources: Sources, mut problems: Vec<String>) -> Result<Good, Vec<String>> {
    match load(&Sources { annotations: None, ..sources }) {
        Ok((loaded, settings)) => Ok(Good { loaded, settings, ignored: problems }),
        Err(more) => {
            let news = more.into_iter().filter(|problem| !problems.contains(problem)).collect::<Vec<_>>();
            problems.extend(news);
            Err(problems)
        }
    }
}

fn load(sources: &Sources) -> Result<(Loaded, Settings), Vec<String>> {
    let loaded = config::load(sources).map_err(|problems| words(&problems))?;
    let settings = from_config::settings(&loaded.settings).map_err(|error| vec![format!("{error:#}")])?;
    Ok((loaded, settings))
}

fn words(problems: &[config::Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

/// How soon a port that was taken is tried again.
const RETRY: Duration = Duration::from_secs(2);
