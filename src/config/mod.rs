//! What the outside world asked for, as one checked set of settings.
//!
//! Owns the configuration file's shape, the vocabulary of annotations and their order: defaults, then file,
//! then annotations, then flags. Refuses to know what settings are for: it opens no socket, reads no key, and
//! says everything that is wrong at once instead of stopping at the first. Called by `app` at the start and at
//! every change, and by `check`, `explain` and `inject`.

use std::{
    fmt,
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

mod account;
mod annotated;
mod annotated_route;
mod annotations;
mod changes;
mod credential;
mod cursor;
mod file;
mod merge;
mod mqtt;
mod problem;
#[cfg(test)]
mod samples;
mod scope;
mod settings;
mod token_entry;
mod tokens;
mod value;
mod yaml;

pub use annotations::{ANNOTATIONS, Annotation, PREFIX, Reader, is_near_miss, look_up};
pub use changes::needs_restart;
pub use problem::{Problem, is_plain, nearest};
pub use settings::{
    ConnectTo, EndpointSettings, ListenerSettings, LogLevel, MetadataMode, MqttSettings, ParentProxy, PolicySettings,
    Settings, TrustSettings, UpstreamSettings, WaitFor,
};
pub use yaml::{Mark, Places};

use cursor::Cursor;
use merge::Reports;
use problem::{Place, Report};

/// A text, and the name its problems are told under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file as the user named it.
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// What the command line says about settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--key`: the file or directory of the default credential.
    pub key: Option<PathBuf>,
    /// `--allow-hosts`, each a comma-separated list.
    pub allow_hosts: Vec<String>,
    /// `--allow-accounts`, each a comma-separated list.
    pub allow_accounts: Vec<String>,
    /// `--allow-scopes`, each a comma-separated list.
    pub allow_scopes: Vec<String>,
    /// `--allow-metadata-token`.
    pub allow_metadata_token: bool,
    /// `--unknown-annotations warn`.
    pub warns_of_unknown: bool,
    /// `--log-level`.
    pub log_level: Option<String>,
    /// `--wait-for`.
    pub wait_for: Option<String>,
}

/// Everything that settings are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// The configuration file.
    pub file: Option<Source>,
    /// The downward API's file of annotations.
    pub annotations: Option<Source>,
    /// The command line.
    pub flags: Flags,
}

/// Good settings, and what is odd about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// To run on.
    pub settings: Settings,
    /// To be logged and shown.
    pub warnings: Vec<Problem>,
}

/// Makes settings, or says everything that is wrong.
///
/// Annotations count whole or not at all: one bad one fails the load, and the caller stays with what it has.
pub fn load(sources: &Sources) -> Result<Loaded, Vec<Problem>> {
    let name = |source: &Option<Source>, default: &str| {
        Report::new(source.as_ref().map_or_else(|| default.to_owned(), |source| source.name.clone()))
    };
    let mut file_report = name(&sources.file, "configuration");
    let mut annotations_report = name(&sources.annotations, "annotations");
    let mut flags_report = Report::new("command line");
    let root = sources.file.as_ref().map(|source| yaml::parse(&source.text, &mut file_report));
    let file = match &root {
        Some(Some(root)) => file::read(&Cursor::new(root, ""), &mut file_report),
        // Without a tree there is nothing to check the rest against.
        Some(None) => return Err(file_report.problems),
        None => file::File::default(),
    };
    let annotations = sources
        .annotations
        .as_ref()
        .map(|source| annotations::read(&source.text, sources.flags.warns_of_unknown, &mut annotations_report));
    let mut reports =
        Reports { file: &mut file_report, annotations: &mut annotations_report, flags: &mut flags_report };
    let settings = merge::merge(file, annotations.unwrap_or_default(), &sources.flags, &mut reports);
    let mut problems = file_report.problems;
    problems.sort_by_key(|problem| problem.at);
    problems.append(&mut annotations_report.problems);
    problems.append(&mut flags_report.problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut warnings = file_report.warnings;
    warnings.append(&mut annotations_report.warnings);
    Ok(Loaded { settings, warnings })
}

/// The doors, as far as the file can be read at all: whoever asks a sidecar why it does not start must find it
/// where its file says, whatever else is wrong there.
pub fn listeners(sources: &Sources) -> ListenerSettings {
    let mut report = Report::new("");
    let root = sources.file.as_ref().and_then(|source| yaml::parse(&source.text, &mut report));
    root.map_or_else(ListenerSettings::default, |root| file::read(&Cursor::new(&root, ""), &mut report).listeners)
}

/// Where the configuration is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// `--config`: in a file, which is followed.
    InFile(PathBuf),
    /// `--config-text`: the text itself, which stays as it is. In a pod it stands in the container's environment:
    /// that cannot change once the pod exists, and probes see it too.
    Inline(String),
}

impl Written {
    /// The file to follow, if any.
    pub fn path(&self) -> Option<&PathBuf> {
        match self {
            Self::InFile(path) => Some(path),
            Self::Inline(_) => None,
        }
    }

    fn read(&self) -> Result<Source, Problem> {
        match self {
            Self::InFile(path) => read(path, MOST_CONFIG),
            Self::Inline(text) => Ok(Source { name: "--config-text".to_owned(), text: text.clone() }),
        }
    }
}

/// As whoever asks where settings came from is told.
impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InFile(path) => path.display().fmt(f),
            Self::Inline(_) => f.write_str("--config-text"),
        }
    }
}

impl Sources {
    /// Reads the files.
    pub fn read(config: Option<&Written>, annotations: Option<&Path>, flags: Flags) -> Result<Self, Vec<Problem>> {
        let file = config.map(Written::read).transpose();
        let annotations = annotations.map(|path| read(path, MOST_ANNOTATIONS)).transpose();
        match (file, annotations) {
            (Ok(file), Ok(annotations)) => Ok(Self { file, annotations, flags }),
            (file, annotations) => Err([file.err(), annotations.err()].into_iter().flatten().collect()),
        }
    }
}

/// A length of time as configuration writes it: `10s`, `40m`, `1h`.
///
/// # Errors
/// Says what is accepted.
pub fn duration(text: &str) -> Result<Duration, String> {
    value::duration(text)
}

/// A kind of token, as flags and routes write it.
///
/// # Errors
/// Says what is accepted.
pub fn token_kind(text: &str) -> Result<crate::policy::TokenKind, String> {
    value::token(text)
}

/// Reads a whole text file that is not larger than `most`.
fn read(path: &Path, most: u64) -> Result<Source, Problem> {
    let name = path.display().to_string();
    let problem = |message: String| {
        let mut report = Report::new(name.clone());
        report.problem(&Place::default(), message);
        report.problems.remove(0)
    };
    let failed = |error: std::io::Error| problem(format!("cannot be read: {error}"));
    let file = crate::file::open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(problem("not a file".to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > most {
        return Err(problem(format!("larger than {} KiB", most / 1024)));
    }
    let text = String::from_utf8(bytes).map_err(|_| problem("not UTF-8".to_owned()))?;
    Ok(Source { name, text })
}

/// A few hundred routes; nobody writes more by hand.
const MOST_CONFIG: u64 = 64 * 1024;

/// Kubernetes bounds all annotations of an object to 256 KiB; quoting can make four bytes of one.
const MOST_ANNOTATIONS: u64 = 1024 * 1024;

#[cfg(test)]
mod tests;
