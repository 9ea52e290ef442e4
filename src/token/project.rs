//! The one judgement of projects, for all tokens and signatures of a credential.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Events, keys::Candidate};
use crate::credential::{CredentialName, KeyReason, Realm, Source, Spec};

/// The project of the first key that proved itself, and the last key that did. No key of another project takes over: that
/// would be access to other data, and is a new pod's to make. All that belongs to one credential shares it.
#[derive(Clone, Debug, Default)]
pub(super) struct Project(Arc<watch::Sender<Settled>>);

#[derive(Debug, Default)]
struct Settled {
    project: Option<Realm>,
    last: Option<Candidate>,
    /// Keys of other projects that were told of.
    told: Vec<u64>,
}

/// What a task has to know of the others' successes: whether a project is settled, and the id of the last good key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing(bool, Option<u64>);

impl Settled {
    fn standing(&self) -> Standing {
        Standing(self.project.is_some(), self.last.as_ref().map(|last| last.id))
    }
}

impl Project {
    /// The same project, for a changed credential: with the last good key, whose file may be gone.
    pub(super) fn for_another(&self, spec: &Spec) -> Self {
        let settled = self.0.borrow();
        let last = settled.last.as_ref().and_then(|last| last.read_for(spec));
        Self(Arc::new(watch::Sender::new(Settled { project: settled.project.clone(), last, told: Vec::new() })))
    }

    /// A key has proved itself. Whether it may be used.
    pub(super) fn settle(&self, candidate: &Candidate) -> bool {
        let mut is_admitted = false;
        self.0.send_if_modified(|settled| {
            let before = settled.standing();
            if settled.project.is_none() {
                settled.project = candidate.source.realm();
            }
            is_admitted = admits(settled.project.as_ref(), &candidate.source);
            if is_admitted {
                settled.last = Some(candidate.clone());
            }
            settled.standing() != before
        });
        is_admitted
    }

    /// Whether a key may be tried. One whose file tells no project always may.
    pub(super) fn admits(&self, source: &Source) -> bool {
        admits(self.0.borrow().project.as_ref(), source)
    }

    /// How things stand.
    pub(super) fn standing(&self) -> Standing {
        self.0.borrow().standing()
    }

    /// Completes when they stand otherwise.
    pub(super) async fn other_than(&self, known: Standing) {
        // Cannot fail: the sender is here.
        let _ = self.0.subscribe().wait_for(|settled| settled.standing() != known).await;
    }

    /// The last key that proved itself, also when its file has gone.
    pub(super) fn last(&self) -> Option<Candidate> {
        self.0.borrow().last.clone()
    }

    /// Tells of keys of other projects, of each once. `all` are those that lie there now.
    pub(super) fn tell(
        &self,
        credential: &CredentialName,
        foreign: &[Candidate],
        all: &[Candidate],
        events: &dyn Events,
    ) {
        let mut news = Vec::new();
        self.0.send_if_modified(|settled| {
            settled.told.retain(|told| all.iter().any(|candidate| candidate.id == *told));
            news.extend(foreign.iter().filter(|candidate| !settled.told.contains(&candidate.id)).cloned());
            settled.told.extend(news.iter().map(|candidate| candidate.id));
            false
        });
        for candidate in news {
            let (file, key_id, reason) = (&candidate.file, candidate.source.key_id(), KeyReason::WrongProject);
            tracing::warn!(
                %credential,
                file,
                key_id,
                reason = reason.label(),
                error = WRONG_PROJECT,
                "key refused, the last good one stays"
            );
            events.key_refused(credential, reason);
        }
    }
}

fn admits(project: Option<&Realm>, source: &Source) -> bool {
    project.zip(source.realm()).is_none_or(|(ours, theirs)| *ours == theirs)
}

/// Why a good key is never tried.
pub(super) const WRONG_PROJECT: &str =
    "it belongs to another project or universe than the key in use; restart the pod to change it";
