//! Which key to try next (pure): make before break.
//!
//! A new key is tried as soon as it lies there, and only its success switches to it; the key in use stays in
//! use until then, also when its file has gone. A refused key is tried again, slowly, for ever.

use std::time::Duration;

use super::{
    Resting,
    keys::{Candidate, KeySet},
    project::{Project, WRONG_PROJECT},
    schedule,
};
use crate::{clock::Moment, credential::FetchError};

/// What an attempt is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A token is needed: any key will do.
    Refresh,
    /// The token in hand is good: only keys newer than the one in use are of interest.
    Rotate,
}

#[derive(Debug)]
struct Entry {
    candidate: Candidate,
    /// Whether its file is still there.
    is_present: bool,
    failures: u32,
    next_try: Option<Moment>,
    error: Option<FetchError>,
}

/// The keys of one refresh task in order of preference, with what is known about each.
#[derive(Debug, Default)]
pub(super) struct Ring {
    entries: Vec<Entry>,
    active: Option<u64>,
    foreign: Vec<Candidate>,
    /// The credential's.
    project: Project,
    /// That of the keys that made this ring's own tokens, which prove nothing where no endpoint has looked at them.
    own: Project,
    /// What is made of the keys proves none: only the last that another task has proven is used, once there is one.
    follows: bool,
}

/// What an update of the files brought.
#[derive(Debug, Default)]
pub(super) struct Update {
    /// There are keys that were never tried.
    pub(super) has_new: bool,
    /// Keys of another project than the one in use. They are not tried.
    pub(super) foreign: Vec<Candidate>,
}

impl Ring {
    /// Without keys, for a credential of this project.
    pub(super) fn of(project: Project, follows: bool) -> Self {
        Self { project, follows, ..Self::default() }
    }

    /// Takes over the keys that lie there now.
    pub(super) fn update(&mut self, keys: &KeySet) -> Update {
        let mut update = Update::default();
        let mut old = std::mem::take(&mut self.entries);
        self.give_up_foreign(&old);
        let leader = self.project.last().filter(|_| self.follows).map(|last| last.id);
        for candidate in &keys.candidates {
            if !self.project.admits(&candidate.source) || !self.own.admits(&candidate.source) {
                update.foreign.push(candidate.clone());
                continue;
            }
            if leader.is_some_and(|leader| leader != candidate.id) {
                continue;
            }
            let known = old.iter().position(|entry| entry.candidate.id == candidate.id);
            update.has_new |= known.is_none();
            self.entries.push(match known {
                Some(at) => Entry { is_present: true, candidate: candidate.clone(), ..old.swap_remove(at) },
                None => {
                    Entry { candidate: candidate.clone(), is_present: true, failures: 0, next_try: None, error: None }
                }
            });
        }
        self.foreign.clone_from(&update.foreign);
        // The key in use outlives its file until another has succeeded, as the last resort.
        let last = self.project.last().map(|last| last.id);
        let serves = |entry: &Entry| [self.active, last].contains(&Some(entry.candidate.id));
        let orphans = old.into_iter().filter(serves).filter(|entry| self.project.admits(&entry.candidate.source));
        self.entries.extend(orphans.map(|entry| Entry { is_present: false, ..entry }));
        update.has_new |= self.take_last();
        update
    }

    /// So does the last key that proved itself for any of the credential's tokens, for one that is asked for later.
    fn take_last(&mut self) -> bool {
        let is_known = |last: &Candidate| self.entries.iter().any(|entry| entry.candidate.id == last.id);
        let last = self.project.last().filter(|last| !is_known(last) && self.own.admits(&last.source));
        let is_new = last.is_some();
        self.entries.extend(last.map(|candidate| Entry {
            candidate,
            is_present: false,
            failures: 0,
            next_try: None,
            error: None,
        }));
        is_new
    }

    /// What keys were refused for does not hold any more: all may be tried now.
    pub(super) fn forgive(&mut self) {
        for entry in &mut self.entries {
            (entry.failures, entry.next_try) = (0, None);
        }
    }

    /// The key in use is of another project than the one that has proved itself since: it is in use no more.
    fn give_up_foreign(&mut self, entries: &[Entry]) {
        let in_use = entries.iter().find(|entry| Some(entry.candidate.id) == self.active);
        if in_use.is_some_and(|entry| !self.project.admits(&entry.candidate.source)) {
            (self.active, self.own) = (None, Project::default());
        }
    }

    /// Whether there is no key at all.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The keys to try now, one after the other until one succeeds.
    pub(super) fn plan(&self, purpose: Purpose, now: Moment) -> Vec<Candidate> {
        let ready = |entry: &&Entry| entry.next_try.is_none_or(|next| next <= now);
        self.of_interest(purpose).iter().filter(ready).map(|entry| entry.candidate.clone()).collect()
    }

    /// When a key that is waiting may be tried again, at the earliest.
    pub(super) fn next_try(&self, purpose: Purpose) -> Option<Moment> {
        self.of_interest(purpose).iter().filter_map(|entry| entry.next_try).min()
    }

    fn of_interest(&self, purpose: Purpose) -> &[Entry] {
        let end = match purpose {
            Purpose::Refresh => self.entries.len(),
            // Without a key in use there is nothing to rotate from.
            Purpose::Rotate => self.position(self.active).unwrap_or(0),
        };
        &self.entries[..end]
    }

    /// A token came from this key. Returns the key ids, old and new, when that is a switch.
    pub(super) fn succeeded(&mut self, id: u64) -> Option<(Option<String>, Option<String>)> {
        let key_id = |ring: &Self, id| {
            let entry = &ring.entries[ring.position(id)?];
            entry.candidate.source.key_id().map(ToOwned::to_owned)
        };
        let switch = (self.active != Some(id)).then(|| (key_id(self, self.active), key_id(self, Some(id))));
        self.active = Some(id);
        if let Some(at) = self.position(Some(id)) {
            self.own.settle(&self.entries[at].candidate);
            self.entries[at].failures = 0;
            self.entries[at].next_try = None;
            self.entries[at].error = None;
        }
        self.entries.retain(|entry| entry.is_present || entry.candidate.id == id);
        switch
    }

    /// The endpoint refused this key. Returns when it may be tried again.
    pub(super) fn refused(&mut self, id: u64, error: &FetchError, now: Moment, random: f64) -> Option<Moment> {
        let at = self.position(Some(id))?;
        let entry = &mut self.entries[at];
        entry.failures = entry.failures.saturating_add(1);
        // What a federated identity shows of itself is renewed by others, so that the next may be taken at any moment.
        let known_for = entry.candidate.first_seen.until(now);
        let age = if entry.candidate.source.shows_what_is_renewed() { Duration::ZERO } else { known_for };
        let next = now + schedule::after_refused_key(entry.failures, age, random);
        entry.next_try = Some(next);
        entry.error = Some(error.clone());
        Some(next)
    }

    /// The endpoint failed while this key was tried. One that is not in use, with others beside it, rests a
    /// little, so that a failure which only this key meets does not keep the others waiting: for seconds when
    /// one of them has yet to prove itself, and otherwise no longer than any other failure makes us wait, counted
    /// from when the attempt `began`.
    pub(super) fn set_aside(
        &mut self,
        id: u64,
        error: &FetchError,
        (began, now): (Moment, Moment),
        left: Duration,
        random: f64,
    ) -> Option<Moment> {
        let at = self.position(Some(id))?;
        if self.is_active(id) || self.entries.len() == 1 {
            return None;
        }
        let has_rival = self.entries.iter().any(|entry| {
            let is_other = entry.candidate.id != id && !self.is_active(entry.candidate.id);
            is_other && entry.next_try.is_none_or(|next| next <= now)
        });
        let entry = &mut self.entries[at];
        entry.failures = entry.failures.saturating_add(1);
        let wait = schedule::after_failure(error, entry.failures, left, random);
        let turn = if has_rival { schedule::USELESS_PAUSE } else { Duration::ZERO };
        entry.next_try = Some((began + wait).max(now + turn));
        entry.error = Some(error.clone());
        entry.next_try
    }

    /// The keys that are not used now, with the reasons, for the status page.
    pub(super) fn resting(&self) -> Vec<Resting> {
        let rest = |candidate: &Candidate, reason, message: &str, next_try| Resting {
            file: candidate.file.clone(),
            key_id: candidate.source.key_id().map(ToOwned::to_owned),
            reason,
            message: message.to_owned(),
            next_try,
        };
        let foreign = self.foreign.iter().map(|candidate| rest(candidate, "wrong_project", WRONG_PROJECT, None));
        let refused = self.entries.iter().filter_map(|entry| {
            let error = entry.error.as_ref()?;
            Some(rest(&entry.candidate, error.label(), &error.message, entry.next_try))
        });
        refused.chain(foreign).collect()
    }

    /// Whether any key made a token that counts.
    pub(super) fn is_in_use(&self) -> bool {
        self.active.is_some()
    }

    /// Whether this key made the last token.
    pub(super) fn is_active(&self, id: u64) -> bool {
        self.active == Some(id)
    }

    fn position(&self, id: Option<u64>) -> Option<usize> {
        self.entries.iter().position(|entry| Some(entry.candidate.id) == id)
    }
}

#[cfg(test)]
mod tests;
