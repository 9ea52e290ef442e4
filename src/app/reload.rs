//! Following the configuration: waited for at the start, taken into use when it changes, and the last good one kept.

use std::path::PathBuf;

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::sync::watch;

use super::{ANNOTATIONS, ConfigNotes, Ground, Settings, Sidecar, WaitFor, admin, from_config};
use crate::{
    config::{self, Loaded, Sources},
    net::listener::{Full, Listener},
    shutdown::Tasks,
    telemetry::Logs,
    watch::{Pace, Snapshot},
};

/// Where the configuration comes from.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// The configuration file.
    pub config: Option<PathBuf>,
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
        let sources = Sources::read(self.config.as_deref(), self.annotations.as_deref(), self.flags.clone())?;
        config::load(&sources)
    }
}

/// Reads the configuration again whenever one of its files changes.
#[derive(Debug)]
pub struct Follower {
    origin: Origin,
    ground: Ground,
    /// `None` when a flag fixed the log level.
    level: Option<Logs>,
    changes: Vec<watch::Receiver<Snapshot>>,
    /// The last set of annotations that was good as a whole.
    annotations: Option<config::Source>,
    /// The settings in use.
    in_use: Option<config::Settings>,
    /// The settings that the sidecar was started with: some of them stay until the next start.
    started: Option<config::Settings>,
    /// The newest version was refused, or its annotations were.
    is_refused: bool,
}

impl Follower {
    /// Begins to watch the files of `origin`.
    pub fn new(origin: Origin, ground: Ground, level: Option<Logs>) -> Self {
        let paths = [&origin.config, &origin.annotations];
        let watch = |path: &PathBuf| crate::watch::start(path.clone(), Pace::default(), ground.clock, &ground.tasks);
        let changes = paths.into_iter().flatten().map(watch).collect();
        Self { origin, ground, level, changes, annotations: None, in_use: None, started: None, is_refused: false }
    }

    /// Starts the sidecar as soon as there is a usable configuration. Until then `/startupz` says what is wrong.
    ///
    /// # Errors
    /// When a listener cannot be bound.
    pub async fn start(mut self) -> anyhow::Result<(Sidecar, Self)> {
        let Good { loaded, settings, ignored } = self.usable().await;
        self.note_level(&settings);
        if !ignored.is_empty() {
            self.ground.metrics.config_reload_failures.inc();
            for problem in &ignored {
                tracing::error!("the annotations are not used: {problem}");
            }
            // Shown by the probe, which `limit_waiting` lets pass in the end: a typing error should not wedge a pod.
            if settings.wait_for != WaitFor::Listening {
                self.ground.ready.wait_for(ANNOTATIONS, format!("they are not used: {}", ignored.join("; ")));
            }
        }
        let sidecar = Sidecar::start(settings, self.ground.clone())?;
        self.note_taken(&sidecar, words(&loaded.warnings));
        self.is_refused = !ignored.is_empty();
        self.note_refused(&sidecar, ignored);
        self.started = Some(loaded.settings.clone());
        self.in_use = Some(loaded.settings);
        sidecar.limit_waiting();
        Ok((sidecar, self))
    }

    /// Applies every later version; never returns.
    pub async fn follow(mut self, sidecar: &Sidecar) -> &'static str {
        loop {
            self.changed().await;
            let problems = match self.read() {
                Ok(Good { loaded, settings, ignored }) => {
                    // The first look at the files is a change too, and so is a return to what is in use.
                    if self.in_use.as_ref() != Some(&loaded.settings) || (self.is_refused && ignored.is_empty()) {
                        self.take(sidecar, &loaded, settings);
                    }
                    self.in_use = Some(loaded.settings);
                    ignored
                }
                Err(problems) => problems,
            };
            self.is_refused = !problems.is_empty();
            if problems.is_empty() {
                self.ground.ready.met(ANNOTATIONS);
                continue;
            }
            self.ground.metrics.config_reload_failures.inc();
            for problem in &problems {
                tracing::error!("the changed configuration is not used: {problem}");
            }
            self.note_refused(sidecar, problems);
        }
    }

    fn take(&self, sidecar: &Sidecar, loaded: &Loaded, settings: Settings) {
        self.note_level(&settings);
        let mut warnings = words(&loaded.warnings);
        warnings.extend(self.started.iter().flat_map(|old| config::needs_restart(old, &loaded.settings)));
        warnings.extend(sidecar.apply(settings));
        for warning in &warnings {
            tracing::warn!("configuration: {warning}");
        }
        tracing::info!("the changed configuration is in use");
        self.note_taken(sidecar, warnings);
    }

    async fn usable(&mut self) -> Good {
        let mut waiting = None;
        loop {
            match self.read() {
                Ok(good) => {
                    self.ground.ready.met("config");
                    if let Some(tasks) = waiting.take() {
                        end(tasks).await;
                    }
                    return good;
                }
                Err(problems) => {
                    self.ground.metrics.config_reload_failures.inc();
                    for problem in &problems {
                        tracing::error!("no usable configuration yet: {problem}");
                    }
                    self.ground.ready.wait_for("config", problems.join("; "));
                    waiting.get_or_insert_with(|| self.answer_probes());
                    self.changed().await;
                }
            }
        }
    }

    /// Probes are answered on the default port while there is no configuration.
    fn answer_probes(&self) -> Tasks {
        let tasks = Tasks::new();
        let ground = Ground { tasks: tasks.clone(), ..self.ground.clone() };
        if let Some(address) = config::ListenerSettings::default().health {
            match Listener::bind(address, 16, Full::EndsOldest) {
                Ok(listener) => admin::serve_health(&ground, listener),
                Err(error) => tracing::warn!(%error, %address, "probes cannot be answered"),
            }
        }
        tasks
    }

    /// Everything; or, when nothing but the annotations is wrong, the rest with the last good set of them (none at
    /// the first start): a set of annotations is taken whole or not at all, and takes nothing else with it.
    fn read(&mut self) -> Result<Good, Vec<String>> {
        let Origin { config, annotations, flags } = &self.origin;
        let newest = Sources::read(None, annotations.as_deref(), config::Flags::default());
        let sources = Sources::read(config.as_deref(), None, flags.clone()).map_err(|problems| words(&problems));
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
        sources.annotations = self.annotations.clone();
        match load(&sources) {
            Ok((loaded, settings)) => Ok(Good { loaded, settings, ignored: problems }),
            Err(_) => Err(problems),
        }
    }

    /// Completes when a source may have changed.
    async fn changed(&mut self) {
        let mut waits: FuturesUnordered<_> = self.changes.iter_mut().map(watch::Receiver::changed).collect();
        // A watch ends only with everything else; without files there is nothing to wait for.
        if !matches!(waits.next().await, Some(Ok(()))) {
            std::future::pending::<()>().await;
        }
    }

    fn note_level(&self, settings: &Settings) {
        if let (Some(level), Some(wanted)) = (&self.level, &settings.log_level) {
            level.set_level(wanted);
        }
    }

    fn note_taken(&self, sidecar: &Sidecar, warnings: Vec<String>) {
        let source = self.origin.config.as_deref().or(self.origin.flags.key.as_deref());
        let source = source.map_or_else(|| "defaults".to_owned(), |path| path.display().to_string());
        let loaded = Some(self.ground.clock.wall());
        sidecar.note_config(|notes| *notes = ConfigNotes { source, loaded, warnings, ..ConfigNotes::default() });
    }

    fn note_refused(&self, sidecar: &Sidecar, problems: Vec<String>) {
        if !problems.is_empty() {
            let now = self.ground.clock.wall();
            sidecar.note_config(|notes| (notes.problems, notes.refused) = (problems, Some(now)));
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

async fn end(tasks: Tasks) {
    let at_once = crate::shutdown::DrainSettings { linger: std::time::Duration::ZERO, ..Default::default() };
    tasks.finish(crate::clock::Clock::system(), at_once).await;
}
