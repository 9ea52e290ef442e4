//! Logs: set up once, level changed while running, written in batches.
//!
//! One line per request is the price of being able to say what happened; a `write` per line would cost more than the
//! request itself. Lines are gathered for 50 ms at most; warnings and errors are written at once, and so is
//! everything until somebody promises to flush.

use std::{
    fmt,
    io::{self, Write},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;
use tracing::{Level as Severity, Metadata, field::Field, level_filters::LevelFilter};
use tracing_subscriber::{
    Registry,
    field::MakeExt,
    filter::Targets,
    fmt::{
        MakeWriter,
        format::{Writer, debug_fn},
        layer,
    },
    layer::SubscriberExt,
    reload,
    util::SubscriberInitExt,
};

use crate::shutdown::Tasks;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The logs of a running program.
#[derive(Clone, Debug)]
pub struct Logs {
    level: reload::Handle<Targets, Registry>,
    gathered: Gathered,
}

/// The words accepted as a level.
pub const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

impl Logs {
    /// Sets the level of our own lines; `level` is one of [`LEVELS`].
    pub fn set_level(&self, level: &str) {
        if self.level.reload(filter(level)).is_err() {
            tracing::warn!("the log level could not be changed");
        }
    }

    /// From now on lines are gathered; a task of `tasks` writes them.
    pub fn gather(&self, tasks: &Tasks) {
        let gathered = self.gathered.clone();
        gathered.shared.gathering.store(true, Ordering::Release);
        tasks.spawn(async move {
            loop {
                gathered.shared.begun.notified().await;
                tokio::time::sleep(GATHER).await;
                gathered.flush();
            }
        });
    }

    /// Writes what is gathered, and every later line at once: the end is near.
    pub fn flush(&self) {
        self.gathered.shared.gathering.store(false, Ordering::Release);
        self.gathered.flush();
    }
}

/// Starts logging to standard error. A second call in one process keeps the first (tests).
pub fn start(format: Format, level: &str) -> Logs {
    let (filter, handle) = reload::Layer::new(filter(level));
    let gathered = Gathered::default();
    let registry = tracing_subscriber::registry().with(filter);
    let started = match format {
        Format::Text => {
            let text = layer().with_target(false).fmt_fields(debug_fn(write_field).delimited(" "));
            registry.with(text.with_writer(gathered.clone())).try_init()
        }
        Format::Json => {
            let json = layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
            registry.with(json.with_writer(gathered.clone())).try_init()
        }
    };
    if started.is_err() {
        tracing::debug!("logging was started before");
    }
    Logs { level: handle, gathered }
}

/// The message as it is, then `name=value`, quoted only where the value would not be one word.
fn write_field(line: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let value = format!("{value:?}");
    let name = field.name();
    if name == "message" {
        let is_line = !value.contains(char::is_control);
        return if is_line { line.write_str(&value) } else { write!(line, "{}", value.escape_debug()) };
    }
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || c == '"';
    match value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        // A string, which arrives quoted and escaped.
        Some(word) if !word.is_empty() && !word.contains(|c| is_odd(c) || c == '\\') => write!(line, "{name}={word}"),
        None if value.contains(is_odd) => write!(line, "{name}={value:?}"),
        _ if value.contains(char::is_control) => write!(line, "{name}={value:?}"),
        _ => write!(line, "{name}={value}"),
    }
}

/// Only our own lines: other crates' debug lines may show what they carry.
fn filter(level: &str) -> Targets {
    let level = if LEVELS.contains(&level) { level } else { "info" };
    Targets::new().with_target("bearerd", level.parse::<LevelFilter>().unwrap_or(LevelFilter::INFO))
}

/// Lines that wait to be written.
#[derive(Clone, Debug, Default)]
struct Gathered {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    lines: Mutex<Vec<u8>>,
    gathering: AtomicBool,
    /// Rung when the first line of a batch came.
    begun: Notify,
}

impl Gathered {
    fn add(&self, line: &[u8], at_once: bool) {
        let gathering = self.shared.gathering.load(Ordering::Acquire);
        let mut lines = self.shared.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = lines.is_empty();
        lines.extend_from_slice(line);
        if at_once || !gathering || lines.len() >= MOST_GATHERED {
            write(&mut lines);
        } else if is_first {
            self.shared.begun.notify_one();
        }
    }

    fn flush(&self) {
        write(&mut self.shared.lines.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Nothing can be done about a standard error that takes no lines.
fn write(lines: &mut Vec<u8>) {
    if !lines.is_empty() {
        let _ = io::stderr().lock().write_all(lines);
        lines.clear();
    }
}

/// Takes one line; the formatter writes it whole.
#[derive(Debug)]
struct Line<'a> {
    gathered: &'a Gathered,
    at_once: bool,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.gathered.add(bytes, self.at_once);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Gathered {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Line { gathered: self, at_once: true }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Self::Writer {
        Line { gathered: self, at_once: *meta.level() <= Severity::WARN }
    }
}

/// Short enough that a reader does not notice, long enough for thousands of lines.
const GATHER: Duration = Duration::from_millis(50);
const MOST_GATHERED: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(gathered: &Gathered) -> usize {
        gathered.shared.lines.lock().unwrap().len()
    }

    #[test]
    fn lines_wait_only_when_somebody_flushes_and_warnings_never() {
        let gathered = Gathered::default();
        gathered.add(b"", false);
        assert_eq!(waiting(&gathered), 0);
        gathered.shared.gathering.store(true, Ordering::Release);
        gathered.add(b"\n", false);
        assert_eq!(waiting(&gathered), 1);
        gathered.add(b"\n", true);
        assert_eq!(waiting(&gathered), 0);
    }

    #[test]
    fn what_waits_is_bounded() {
        let gathered = Gathered::default();
        gathered.shared.gathering.store(true, Ordering::Release);
        for _ in 0..2 * MOST_GATHERED {
            gathered.add(b"\n", false);
            assert!(waiting(&gathered) < MOST_GATHERED);
        }
    }

    #[test]
    fn a_line_is_readable_and_stays_one_line() {
        #[derive(Clone, Default)]
        struct Kept(Arc<Mutex<Vec<u8>>>);
        impl Write for Kept {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let kept = Kept::default();
        let writer = kept.clone();
        let text = layer().with_target(false).without_time().fmt_fields(debug_fn(write_field).delimited(" "));
        let subscriber = tracing_subscriber::registry().with(text.with_writer(move || writer.clone()));
        tracing::subscriber::with_default(subscriber, || {
            let (host, error) = ("storage.googleapis.com", io::Error::other("two words"));
            tracing::info!(host, shown = %host, code = 200, empty = "", odd = "a\nb", %error, "a request");
            tracing::info!("not\none line");
        });
        let lines = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let fields = r#"code=200 empty="" odd="a\nb" error="two words""#;
        let first = format!(" INFO a request host=storage.googleapis.com shown=storage.googleapis.com {fields}\n");
        assert_eq!(lines, format!("{first} INFO not\\none line\n"));
    }

    #[test]
    fn only_our_own_lines_pass() {
        let filter = filter("info");
        assert!(filter.would_enable("bearerd::proxy", &Severity::INFO));
        assert!(!filter.would_enable("bearerd::proxy", &Severity::DEBUG));
        assert!(!filter.would_enable("h2::codec", &Severity::ERROR));
    }
}
