//! From the files of a credential to its usable keys, newest first.
//!
//! The last good key of every file name stays while a broken one lies under it, and all keys stay when no
//! file is left: a mount that is torn, empty or gone takes nothing away.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use tokio::sync::watch;

use super::{Events, caught::caught, project::Project};
use crate::{
    clock::{Clock, Moment},
    credential::{KeyError, KeyReason, Source, Spec},
    secret::Secret,
    watch::{File, Snapshot, Unread},
};

/// A key that may be tried.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    /// The same for the same key, whatever its file is called.
    pub(super) id: u64,
    pub(super) source: Arc<Source>,
    pub(super) file: String,
    /// When it first lay there.
    pub(super) first_seen: Moment,
    modified: Duration,
    /// What the file held; none where no file is needed.
    content: Option<Arc<Secret>>,
}

impl Candidate {
    /// The same key, for a credential that has changed; none where that cannot use it.
    pub(super) fn read_for(&self, spec: &Spec) -> Option<Self> {
        let source = read(spec, self.content.as_ref()?).ok()?;
        Some(Self { source: Arc::new(source), ..self.clone() })
    }
}

/// A file that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The file's name; empty when the mount itself is the problem.
    pub file: String,
    /// Why.
    pub error: KeyError,
}

/// What lies in the files of one credential.
#[derive(Clone, Debug, Default)]
pub(super) struct KeySet {
    /// Newest first: first by when a key appeared, then by the file's time, then by name from the end of
    /// the alphabet (names tend to carry dates or numbers). Kubernetes gives all files of a volume one time.
    pub(super) candidates: Vec<Candidate>,
    pub(super) refused: Vec<Refused>,
    /// See [`Snapshot::is_stuck`].
    pub(super) is_stuck: bool,
    /// When keys were last taken in, in seconds since 1970.
    pub(super) loaded_at: Option<u64>,
    /// Zero before the first look.
    pub(super) version: u64,
}

impl KeySet {
    /// That of a credential which no file is needed for: one that never changes.
    pub(super) fn without_file(source: Option<Source>, clock: Clock) -> Self {
        let candidate = |source| Candidate {
            id: 1,
            source: Arc::new(source),
            file: String::new(),
            first_seen: clock.now(),
            modified: Duration::ZERO,
            content: None,
        };
        let candidates = source.map(candidate).into_iter().collect();
        Self { candidates, loaded_at: Some(clock.wall().seconds()), version: 1, ..Self::default() }
    }

    /// The same keys for a credential that has changed, as what is known before its files are looked at.
    pub(super) fn for_another(&self, spec: &Spec) -> Self {
        let candidates = self.candidates.iter().filter_map(|candidate| candidate.read_for(spec)).collect();
        Self { candidates, loaded_at: self.loaded_at, ..Self::default() }
    }

    /// The newest key of the project.
    pub(super) fn newest_of(&self, project: &Project) -> Option<&Candidate> {
        self.candidates.iter().find(|candidate| project.admits(&candidate.source))
    }

    /// Those of other projects.
    pub(super) fn foreign_to(&self, project: &Project) -> impl Iterator<Item = &Candidate> {
        self.candidates.iter().filter(|candidate| !project.admits(&candidate.source))
    }

    /// Why there is no key, for people.
    pub(super) fn why_none(&self) -> String {
        self.refused.first().map_or_else(
            || "no key is loaded".to_owned(),
            |refused| {
                let file = if refused.file.is_empty() { String::new() } else { format!("{}: ", refused.file) };
                format!("no usable key: {file}{}", refused.error)
            },
        )
    }
}

fn read(spec: &Spec, content: &Secret) -> Result<Source, KeyError> {
    // A parser that panics on a hostile file must not take the rotation with it.
    catch_unwind(AssertUnwindSafe(|| spec.load(content)))
        .unwrap_or_else(|_| Err(KeyError::new(KeyReason::Damaged, "reading it failed inside the sidecar")))
}

/// Publishes a [`KeySet`] for every snapshot of `files`, for ever. `before` are the keys that are known before.
pub(super) async fn load(
    spec: Spec,
    (before, project): (KeySet, Project),
    mut files: watch::Receiver<Snapshot>,
    clock: Clock,
    events: Arc<dyn Events>,
    publish: watch::Sender<KeySet>,
) {
    let mut loader = Loader::new(spec, before, project);
    loop {
        let snapshot = files.borrow_and_update().clone();
        if snapshot.version > 0 {
            let (keys, news) = loader.take(&snapshot, clock.now(), clock.wall().seconds());
            publish.send_replace(keys);
            // Whoever listens may fail: the next key must be loaded all the same.
            let _ = caught(async { news.iter().for_each(|event| loader.tell(event, &*events)) }).await;
        }
        if files.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// What is known about one file name.
struct Known {
    content: Result<Secret, Unread>,
    good: Option<Candidate>,
    refused: Option<KeyError>,
}

/// Something worth a log line.
#[derive(Debug)]
enum News {
    Loaded(Candidate),
    Refused { refused: Refused, keeps_another: bool },
}

struct Loader {
    spec: Spec,
    files: BTreeMap<String, Known>,
    keys: KeySet,
    project: Project,
    next_id: u64,
}

impl Loader {
    fn new(spec: Spec, before: KeySet, project: Project) -> Self {
        let known = before.candidates.iter().map(|candidate| candidate.id).chain(project.last().map(|last| last.id));
        let next_id = known.max().unwrap_or_default() + 1;
        Self { spec, files: BTreeMap::new(), keys: before, project, next_id }
    }

    fn take(&mut self, snapshot: &Snapshot, now: Moment, wall: u64) -> (KeySet, Vec<News>) {
        let mut news = Vec::new();
        self.files.retain(|name, _| snapshot.files.iter().any(|file| file.name == *name));
        for file in snapshot.files.iter() {
            if self.files.get(&file.name).is_none_or(|known| known.content != file.content) {
                news.extend(self.take_file(file, now));
            }
        }
        let mut candidates: Vec<_> = self.files.values().filter_map(|known| known.good.clone()).collect();
        candidates.sort_by(|a, b| (b.first_seen, b.modified, &b.file).cmp(&(a.first_seen, a.modified, &a.file)));
        let mut ids = std::collections::HashSet::new();
        candidates.retain(|candidate| ids.insert(candidate.id));
        if !candidates.is_empty() {
            self.keys.candidates = candidates;
        }
        if news.iter().any(|event| matches!(event, News::Loaded(_))) {
            self.keys.loaded_at = Some(wall);
        }
        self.keys.refused = self.refused(snapshot);
        for refused in self.keys.refused.iter().filter(|refused| refused.file.is_empty()) {
            news.push(News::Refused { refused: refused.clone(), keeps_another: self.has_keys() });
        }
        self.keys.is_stuck = snapshot.is_stuck;
        self.keys.version += 1;
        (self.keys.clone(), news)
    }

    fn has_keys(&self) -> bool {
        !self.keys.candidates.is_empty()
    }

    fn take_file(&mut self, file: &File, now: Moment) -> Option<News> {
        let previous = self.files.remove(&file.name).and_then(|known| known.good);
        let (good, refused, news) = match self.read(file) {
            Ok(source) => match self.known(&source) {
                Some(same) => (Some(same), None, None),
                None => {
                    let (id, modified) = (self.next_id, file.modified);
                    self.next_id += 1;
                    let source = Arc::new(source);
                    let content = file.content.clone().ok().map(Arc::new);
                    let candidate =
                        Candidate { id, source, file: file.name.clone(), first_seen: now, modified, content };
                    (Some(candidate.clone()), None, Some(News::Loaded(candidate)))
                }
            },
            Err(error) => {
                let keeps_another = previous.is_some() || self.has_keys();
                let refused = Refused { file: file.name.clone(), error: error.clone() };
                (previous, Some(error), Some(News::Refused { refused, keeps_another }))
            }
        };
        self.files.insert(file.name.clone(), Known { content: file.content.clone(), good, refused });
        news
    }

    fn read(&self, file: &File) -> Result<Source, KeyError> {
        let content = file.content.as_ref().map_err(|unread| {
            let reason = if *unread == Unread::TooLarge { KeyReason::TooLarge } else { KeyReason::Unreadable };
            KeyError::new(reason, unread.to_string())
        })?;
        read(&self.spec, content)
    }

    /// The same key, seen before: under this name, another one, a moment ago under a name that is gone, or the last
    /// that proved itself.
    fn known(&self, source: &Source) -> Option<Candidate> {
        let under_names = self.files.values().filter_map(|known| known.good.as_ref());
        let last = self.project.last();
        let mut all = under_names.chain(&self.keys.candidates).chain(&last);
        all.find(|candidate| candidate.source.same_as(source)).cloned()
    }

    fn refused(&self, snapshot: &Snapshot) -> Vec<Refused> {
        let mount = snapshot.problem.map(|problem| Refused {
            file: String::new(),
            error: KeyError::new(KeyReason::Unreadable, problem.to_string()),
        });
        let files = self.files.iter().filter_map(|(name, known)| {
            let error = known.refused.clone()?;
            Some(Refused { file: name.clone(), error })
        });
        mount.into_iter().chain(files).collect()
    }

    fn tell(&self, event: &News, events: &dyn Events) {
        let credential = &self.spec.name;
        match event {
            News::Loaded(Candidate { source, file, .. }) => {
                let (key_id, account) = (source.key_id(), source.account());
                tracing::info!(%credential, file, key_id, account, "key loaded");
                events.key_loaded(credential, key_id);
            }
            News::Refused { refused: Refused { file, error }, keeps_another } => {
                let path = self.spec.path().unwrap_or_else(|| std::path::Path::new("")).display();
                let reason = error.reason.label();
                if *keeps_another {
                    tracing::warn!(%credential, %path, file, reason, %error, "key refused, the last good one stays");
                } else {
                    tracing::error!(%credential, %path, file, reason, %error, "key refused, and no other is loaded");
                }
                events.key_refused(credential, error.reason);
            }
        }
    }
}

#[cfg(test)]
mod tests;
