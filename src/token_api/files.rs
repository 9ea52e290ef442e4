//! Tokens kept in files: each written anew, whole or not at all, whenever its token changes. Nothing here ends by itself,
//! and what cannot be written is tried again.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::{
    entry::{Entry, FileSettings},
    supply::Supply,
};
use crate::{
    backoff::Backoff,
    clock::{Clock, Moment, Wall},
    file::{self, Keep},
    metrics::Metrics,
    shutdown::Tasks,
    token::{
        Bearer, Handle, Tokens,
        schedule::{FORCED_EVERY, TICK},
    },
};

/// All files.
#[derive(Debug)]
pub struct Files {
    supply: Supply,
    tasks: Tasks,
    metrics: Arc<Metrics>,
    kept: Mutex<BTreeMap<String, Kept>>,
    turns: Mutex<BTreeMap<PathBuf, Turn>>,
}

/// Held by whoever writes a file. A write that hangs goes on after its keeper has ended, and two would share one draft.
type Turn = Arc<tokio::sync::Mutex<()>>;

/// How a file stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FileStatus {
    /// When it was last written.
    pub written: Option<Wall>,
    /// Why the newest token is not in it.
    pub problem: Option<String>,
}

/// A file at work, until it is dropped.
#[derive(Debug)]
struct Kept {
    file: FileSettings,
    status: Arc<Mutex<FileStatus>>,
    stop: CancellationToken,
}

impl Files {
    /// None yet.
    pub fn new(tokens: Tokens, clock: Clock, tasks: Tasks, metrics: Arc<Metrics>) -> Self {
        Self { supply: Supply { tokens, clock }, tasks, metrics, kept: Mutex::default(), turns: Mutex::default() }
    }

    /// Keeps the files of `entries` from now on, and no others. One that is no longer kept stays where it is: whoever
    /// reads it would take its absence for an error, and the token in it ends by itself.
    pub fn apply(&self, entries: &[Entry]) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *kept);
        for entry in entries {
            let Some(file) = &entry.file else { continue };
            // Anew even where nothing has changed: the credential may have, and then its reader is another.
            let status = before.remove(&entry.name).filter(|before| before.file == *file);
            let status = status.map(|before| before.status.clone()).unwrap_or_default();
            if let Some(one) = self.start(entry, file, status) {
                kept.insert(entry.name.clone(), one);
            }
        }
    }

    /// How the file of an entry stands, where it has one.
    pub fn status(&self, entry: &str) -> Option<FileStatus> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(entry).map(|kept| kept.status.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn turn(&self, path: &Path) -> Turn {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry(path.to_owned()).or_default().clone()
    }

    fn start(&self, entry: &Entry, file: &FileSettings, status: Arc<Mutex<FileStatus>>) -> Option<Kept> {
        let handle = self.supply.handle(entry)?;
        let stop = CancellationToken::new();
        let keeper = Keeper {
            entry: entry.clone(),
            file: file.clone(),
            handle,
            supply: self.supply.clone(),
            metrics: self.metrics.clone(),
            status: status.clone(),
            turn: self.turn(&file.path),
        };
        let stopped = stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                never = keeper.run() => match never {},
            }
        });
        Some(Kept { file: file.clone(), status, stop })
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// THE task of one file.
struct Keeper {
    entry: Entry,
    file: FileSettings,
    handle: Handle,
    supply: Supply,
    metrics: Arc<Metrics>,
    status: Arc<Mutex<FileStatus>>,
    turn: Turn,
}

impl Keeper {
    async fn run(self) -> Infallible {
        let clock = self.supply.clock;
        let mut written: Option<Arc<Bearer>> = None;
        let mut failures = 0;
        loop {
            let token = self.next(written.as_deref()).await;
            match self.write(&token).await {
                Ok(()) => {
                    self.note_written(failures > 0);
                    failures = 0;
                    written = Some(token);
                }
                Err(error) => {
                    failures += 1;
                    self.note_failed(&error, failures);
                    clock.sleep(AGAIN.wait(failures, rand::random())).await;
                }
            }
        }
    }

    /// The next token after `written`. Tokens are refreshed ahead of time; where that leaves less than `minLife`, this
    /// asks for one.
    async fn next(&self, written: Option<&Bearer>) -> Arc<Bearer> {
        let generation = written.map_or(0, |token| token.generation);
        let due = written.map(|token| token.expires - self.entry.min_life);
        tokio::select! {
            token = self.handle.newer_than(generation) => token,
            never = self.hurry(generation, due) => match never {},
        }
    }

    /// In ticks: a machine that was suspended meanwhile would sleep on.
    async fn hurry(&self, generation: u64, due: Option<Moment>) -> Infallible {
        let clock = self.supply.clock;
        let Some(mut due) = due else { return std::future::pending().await };
        loop {
            if clock.now() >= due {
                self.handle.suspect(generation);
                due = clock.now() + FORCED_EVERY;
            }
            clock.sleep(clock.now().until(due).min(TICK)).await;
        }
    }

    /// On a thread for what may block: the file system may hang.
    async fn write(&self, token: &Bearer) -> io::Result<()> {
        let content = self.supply.handout(token).written(self.file.format, &self.entry.json);
        let (path, mode, content) = (self.file.path.clone(), self.file.mode, Zeroizing::new(content));
        let turn = self.turn.clone().lock_owned().await;
        let written = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
                return Err(io::Error::from(io::ErrorKind::InvalidFilename));
            };
            file::replace(directory, name, content.as_bytes(), mode, Keep::AcrossKill)
        });
        written.await.unwrap_or_else(|_| Err(io::Error::other("the write was cut off"))).map(|_| ())
    }

    fn note_written(&self, is_again: bool) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        *status = FileStatus { written: Some(self.supply.clock.wall()), problem: None };
        if is_again {
            tracing::info!(entry = self.entry.name, path = %self.file.path.display(), "token file written again");
        }
    }

    fn note_failed(&self, error: &io::Error, failures: u32) {
        let path = self.file.path.display();
        self.metrics.token_file_failures.with_label_values(&[&self.entry.name]).inc();
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let problem = format!("cannot write {path}: {error}; want a directory that exists and that bearerd may write");
        if failures == 1 || status.problem.as_ref() != Some(&problem) {
            tracing::error!(entry = self.entry.name, %path, %error, "token file not written, tried again");
        }
        status.problem = Some(problem);
    }
}

/// A volume that is mounted late is noticed soon; one that never comes costs little.
const AGAIN: Backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(30) };

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::{
        credential::{Answer, BoxFuture, Kind, Post, PostError, Request, Spec, Template, Want},
        token::{Settings, Setup},
        token_api::{FileFormat, Mapping},
    };

    /// Nothing is exchanged here.
    struct NoPost;

    impl Post for NoPost {
        fn post(&self, _: Request) -> BoxFuture<'_, Result<Answer, PostError>> {
            Box::pin(async { panic!("an exchange") })
        }
    }

    #[tokio::test]
    async fn nobody_writes_a_file_while_another_write_of_it_goes_on() {
        let (clock, tasks, place) = (Clock::system(), Tasks::new(), tempfile::tempdir().unwrap());
        let tokens = Tokens::new(Setup::new(Arc::new(NoPost), clock, tasks.clone()));
        let kind = Kind::SignedJwt { path: "/nowhere".into(), template: Template::new("project") };
        tokens.apply(&[Spec { name: "device".into(), kind }], Settings::default());
        let files = Files::new(tokens.clone(), clock, tasks.clone(), Arc::new(Metrics::new().unwrap()));
        let file = FileSettings { path: place.path().join("token"), mode: 0o600, format: FileFormat::Raw };
        let entry = Entry {
            name: "t".to_owned(),
            credential: "device".into(),
            want: Want::Access,
            parameters: Vec::new(),
            path: crate::token_api::Path::parse("/t").unwrap(),
            json: Mapping::default(),
            min_life: Duration::ZERO,
            file: Some(file.clone()),
        };
        let keeper = |turn: Turn| Keeper {
            entry: entry.clone(),
            file: file.clone(),
            handle: tokens.main(&"device".into()).unwrap(),
            supply: files.supply.clone(),
            metrics: files.metrics.clone(),
            status: Arc::default(),
            turn,
        };
        let now = clock.now();
        let bare = HeaderValue::from_static("a-token");
        let (issued, expires) = (now, now + Duration::from_secs(60));
        let token =
            Bearer { header: bare.clone(), bare, issued, expires, generation: 1, key_id: None, quota_project: None };
        let hanging = files.turn(&file.path).lock_owned().await;
        let (one, other) = (keeper(files.turn(&file.path)), keeper(files.turn(&place.path().join("other"))));
        let short = Duration::from_millis(50);
        assert!(tokio::time::timeout(short, one.write(&token)).await.is_err(), "it waits");
        assert!(!file.path.exists());
        other.write(&token).await.unwrap();
        drop(hanging);
        one.write(&token).await.unwrap();
        drop((one, other));
        files.turn(&place.path().join("third"));
        assert_eq!(files.turns.lock().unwrap().len(), 1, "only those in use are remembered");
        tasks.end();
    }
}
