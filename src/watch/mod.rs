//! Watches a mounted file or directory and publishes its content.
//!
//! Believes contents, not events: every event, overflow and poll means only "look again". Knows nothing of
//! what the files mean. Called by `token` for keys, and by `config` for its own file and the annotations.
//!
//! Kubernetes swaps a symlink (`..data`) for the whole directory at once, so a watch on the file itself dies
//! with the first update. The directories in which a link or a name could change are watched instead.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher, event::AccessKind, event::AccessMode};
use tokio::sync::{Notify, watch};

use crate::{clock::Clock, shutdown::Tasks};

mod mounts;
mod places;
mod scan;

pub use scan::{File, Problem, Unread};

/// What was found at a path, the newest content that could be read.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The files, by name. When a look finds nothing, those of the last look that found some stay.
    pub files: Arc<[File]>,
    /// Why the newest look did not find (all) files.
    pub problem: Option<Problem>,
    /// The mount follows no update: a single file was mounted (`subPath`), or its directory is gone.
    pub is_stuck: bool,
    /// How often the content has changed; zero before anything was read.
    pub version: u64,
}

/// How quickly to look again.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// From an event to the look: an update is a burst of events, and half of it is a torn file.
    pub settle: Duration,
    /// Without any event. Also what finds changes on file systems that report none.
    pub poll: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { settle: Duration::from_millis(100), poll: Duration::from_secs(30) }
    }
}

/// Looks once, now, in the calling thread.
pub fn look(path: &Path) -> Snapshot {
    let mut snapshot = Snapshot::default();
    merge(&mut snapshot, scan::scan(path));
    snapshot
}

/// Watches `path`, a file or a directory, until everything is ended or all receivers are gone.
///
/// The first look happens in the task: until then the receiver holds an empty snapshot of version zero.
pub fn start(path: PathBuf, pace: Pace, clock: Clock, tasks: &Tasks) -> watch::Receiver<Snapshot> {
    let (publish, receiver) = watch::channel(Snapshot::default());
    tasks.spawn(async move {
        let watching = Watching { look_again: Arc::default(), events: None, watched: BTreeMap::new(), path };
        tokio::select! {
            () = publish.closed() => {}
            () = watching.run(pace, clock, &publish) => {}
        }
    });
    receiver
}

/// The state of one watch.
struct Watching {
    path: PathBuf,
    /// Holds at most one wake-up: any number of events means one look.
    look_again: Arc<Notify>,
    events: Option<RecommendedWatcher>,
    /// Directories with their inode: a directory that was replaced needs a new watch under the old name.
    watched: BTreeMap<PathBuf, u64>,
}

impl Watching {
    async fn run(mut self, pace: Pace, clock: Clock, publish: &watch::Sender<Snapshot>) {
        self.events = self.listen();
        loop {
            // Watches first, so that a change during the look is an event after it.
            self.follow_places();
            let path = self.path.clone();
            // Off this thread: a hung network file system must not stop the traffic.
            if let Ok(look) = tokio::task::spawn_blocking(move || scan::scan(&path)).await {
                self.publish(publish, look);
            }
            tokio::select! {
                () = self.look_again.notified() => {
                    self.stop_listening();
                    clock.sleep(pace.settle).await;
                }
                () = clock.sleep(pace.poll) => {}
            }
        }
    }

    fn listen(&self) -> Option<RecommendedWatcher> {
        let look_again = self.look_again.clone();
        let on_event = move |event: notify::Result<notify::Event>| {
            // An overflow comes as an event of kind `Other`, an error means that events were lost: look at both.
            if event.map_or(true, |event| is_a_change(event.kind)) {
                look_again.notify_one();
            }
        };
        match notify::recommended_watcher(on_event) {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "no file events, polling only");
                None
            }
        }
    }

    /// One event is enough to look again. In a busy directory (a log beside the key) every further one would only
    /// cost a wake-up; the watches are set anew before the look, so none is missed.
    fn stop_listening(&mut self) {
        let Some(events) = self.events.as_mut() else { return };
        for place in std::mem::take(&mut self.watched).into_keys() {
            // Fails when the directory is gone, and its watch with it.
            let _ = events.unwatch(&place);
        }
    }

    fn follow_places(&mut self) {
        let Some(events) = self.events.as_mut() else { return };
        let wanted = places::places(&self.path);
        self.watched.retain(|place, inode| {
            let stays = wanted.get(place) == Some(inode);
            if !stays {
                // Fails when the directory is gone, and its watch with it.
                let _ = events.unwatch(place);
            }
            stays
        });
        for (place, inode) in wanted {
            if self.watched.contains_key(&place) {
                continue;
            }
            match events.watch(&place, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.watched.insert(place, inode)),
                Err(error) => tracing::debug!(path = %place.display(), %error, "directory is not watched"),
            }
        }
    }

    fn publish(&self, publish: &watch::Sender<Snapshot>, look: scan::Look) {
        publish.send_if_modified(|snapshot| {
            let was_stuck = snapshot.is_stuck;
            let changed = merge(snapshot, look);
            if snapshot.is_stuck && !was_stuck {
                tracing::warn!(path = %self.path.display(), "mounted with subPath: cannot see rotation");
            }
            changed
        });
    }
}

/// Takes what a look found into the snapshot. Whether that changed it.
fn merge(snapshot: &mut Snapshot, look: scan::Look) -> bool {
    let has_news = !look.files.is_empty() && *look.files != *snapshot.files;
    let changed = has_news || snapshot.problem != look.problem || snapshot.is_stuck != look.is_stuck;
    let is_first = snapshot.version == 0;
    if has_news {
        snapshot.files = look.files.into();
    }
    snapshot.problem = look.problem;
    snapshot.is_stuck = look.is_stuck;
    if changed || is_first {
        snapshot.version += 1;
    }
    changed || is_first
}

/// Opening and reading are events too: taking them for changes would make every look cause the next.
fn is_a_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests;
