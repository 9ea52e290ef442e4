//! Logs: set up once, level changed while running.

use tracing_subscriber::{EnvFilter, Registry, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Changes the level of a running program.
#[derive(Clone, Debug)]
pub struct Level {
    handle: reload::Handle<EnvFilter, Registry>,
}

/// The words accepted as a level.
pub const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

impl Level {
    /// Sets the level of our own lines; `level` is one of [`LEVELS`].
    pub fn set(&self, level: &str) {
        if self.handle.reload(filter(level)).is_err() {
            tracing::warn!("the log level could not be changed");
        }
    }
}

/// Starts logging to standard error. A second call in one process keeps the first (tests).
pub fn start(format: Format, level: &str) -> Level {
    let (filter, handle) = reload::Layer::new(filter(level));
    let registry = tracing_subscriber::registry().with(filter);
    let started = match format {
        Format::Text => registry.with(fmt::layer().with_writer(std::io::stderr).with_target(false)).try_init(),
        Format::Json => {
            let json = fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
            registry.with(json.with_writer(std::io::stderr)).try_init()
        }
    };
    if started.is_err() {
        tracing::debug!("logging was started before");
    }
    Level { handle }
}

/// Only our own lines: other crates' debug lines may show what they carry.
fn filter(level: &str) -> EnvFilter {
    let level = if LEVELS.contains(&level) { level } else { "info" };
    EnvFilter::new(format!("off,bearerd={level}"))
}
