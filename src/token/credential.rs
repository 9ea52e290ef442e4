//! One credential at work: its keys, and a slot for each kind of its tokens.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    Events, Handle, Refused,
    keys::{Candidate, KeySet},
    project::{Project, WRONG_PROJECT},
    signed,
    slot::Slot,
    status::{CredentialStatus, KeyStatus},
};
use crate::credential::{KeyError, KeyReason, Spec, Want};

/// A credential at work. Its tasks stop when it is dropped.
pub(super) struct Credential {
    pub(super) spec: Spec,
    pub(super) keys: watch::Receiver<KeySet>,
    pub(super) project: Project,
    pub(super) slots: BTreeMap<Want, Kept>,
    /// Counts up with every handle that is asked for.
    pub(super) asked: u64,
    pub(super) signed: signed::Cache,
    pub(super) stop: CancellationToken,
}

/// A slot at work.
pub(super) struct Kept {
    pub(super) slot: Arc<Slot>,
    pub(super) stop: CancellationToken,
    /// The [`Credential::asked`] of its last handle.
    pub(super) last_asked: u64,
}

impl Credential {
    /// The newest key of the project signs, and where none lies there any more, the one before: as with exchanged tokens,
    /// but that no endpoint proves it first.
    pub(super) fn signer(&self, events: &dyn Events) -> Option<Candidate> {
        let keys = self.keys.borrow();
        if let Some(newest) = keys.newest_of(&self.project) {
            self.project.settle(newest);
        }
        let foreign: Vec<_> = keys.foreign_to(&self.project).cloned().collect();
        self.project.tell(&self.spec.name, &foreign, &keys.candidates, events);
        self.project.last()
    }

    /// The key that makes tokens now: where there are none yet, the one that will be tried first.
    pub(super) fn in_use(&self) -> Option<Candidate> {
        let main = self.spec.first_want().and_then(|want| self.slots.get(&want)?.slot.maker());
        let newest = || self.keys.borrow().newest_of(&self.project).cloned();
        main.or_else(|| self.project.last()).or_else(newest)
    }

    pub(super) fn status(&self) -> CredentialStatus {
        let mut keys = self.keys.borrow().clone();
        if self.slots.is_empty() {
            let error = || KeyError::new(KeyReason::WrongProject, WRONG_PROJECT);
            let foreign = keys.foreign_to(&self.project).map(|key| Refused { file: key.file.clone(), error: error() });
            let foreign: Vec<_> = foreign.collect();
            keys.refused.extend(foreign);
        }
        let key = |candidate: &Candidate| KeyStatus {
            file: candidate.file.clone(),
            key_id: candidate.source.key_id().map(ToOwned::to_owned),
            account: candidate.source.account().map(ToOwned::to_owned),
            project: candidate.source.project().map(ToOwned::to_owned),
        };
        let slots = self.slots.iter();
        CredentialStatus {
            name: self.spec.name.clone(),
            kind: self.spec.kind.label(),
            in_use: self.in_use().as_ref().map(key),
            keys: keys.candidates.iter().map(key).collect(),
            refused: keys.refused,
            is_stuck: keys.is_stuck,
            loaded_at: keys.loaded_at,
            tokens: slots.map(|(want, kept)| (want.clone(), Handle::new(kept.slot.clone()).status())).collect(),
        }
    }

    /// Ends the slot that nobody holds and that was not asked for longest, when there are as many as there may be.
    /// ID tokens have an audience for each host, and a route's hosts have no number.
    pub(super) fn make_room(&mut self) {
        if self.slots.len() < MOST_SLOTS {
            return;
        }
        let is_free = |(want, kept): &(&Want, &Kept)| !want.is_main() && Arc::strong_count(&kept.slot) <= OWN_HOLDERS;
        let oldest = self.slots.iter().filter(is_free).min_by_key(|(_, kept)| kept.last_asked);
        if let Some(want) = oldest.map(|(want, _)| want.clone())
            && let Some(kept) = self.slots.remove(&want)
        {
            kept.end();
        }
    }
}

impl Kept {
    fn end(&self) {
        self.stop.cancel();
        self.slot.end();
    }
}

impl Drop for Credential {
    fn drop(&mut self) {
        self.stop.cancel();
        self.slots.values().for_each(Kept::end);
    }
}

/// Slots of one credential, each with a task and a token.
const MOST_SLOTS: usize = 256;
/// Who holds a slot that nobody reads: the map and the task.
const OWN_HOLDERS: usize = 2;
