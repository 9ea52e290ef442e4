//! What a replica does next about certificates (pure): the shared Secret, what the API server trusts, the clock → a step.
//!
//! No replica leads. Every step that others see is a write that fails when what it was decided on has changed, and what
//! the API server trusts is always written from a Secret that was read *after* that trust was: so trust never goes back
//! to an older state of the Secret. A leaf is signed only by an authority that has been trusted for a while, and an
//! authority is trusted for longer than the last leaf it can have signed.

use std::{collections::BTreeMap, time::Duration};

/// What one replica sees, certificates being told apart by `I`.
#[derive(Clone, Debug)]
pub(super) struct View<I> {
    /// The Secret.
    pub(super) stored: Stored<I>,
    /// What each entry of the registrations trusts; `None` when they could not be read.
    pub(super) entries: Option<Vec<Entry<I>>>,
    /// The authority that this replica knows the key of from an earlier look.
    pub(super) remembered: Option<I>,
    /// What this replica serves.
    pub(super) leaf: Option<Leaf<I>>,
    /// How long every entry has been seen to trust an authority, as far as it still does.
    pub(super) ages: BTreeMap<I, Duration>,
    /// Seconds since 1970.
    pub(super) wall: u64,
}

/// What the Secret holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stored<I> {
    /// It could not be read, or it is somebody else's.
    Unknown,
    /// There is none, or it is empty.
    Missing,
    /// It was ours and cannot be used.
    Broken,
    /// It can be used.
    Kept(Kept<I>),
}

/// A usable Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept<I> {
    /// Signs leaves.
    pub(super) current: I,
    /// Will sign once it has been trusted for long enough.
    pub(super) next: Option<I>,
    /// Signed leaves that may still be served.
    pub(super) previous: Vec<I>,
    /// When the last of those leaves has ended for sure, in seconds since 1970.
    pub(super) until: Option<u64>,
    /// Somebody wants a new authority.
    pub(super) asked: bool,
    /// The current one has lived two thirds of its life.
    pub(super) due: bool,
}

/// What one entry of a registration trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry<I> {
    /// The certificates that could be read.
    pub(super) trusts: Vec<I>,
    /// Whether there is nothing else in it.
    pub(super) is_clean: bool,
}

/// The leaf that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leaf<I> {
    /// Who signed it.
    pub(super) by: I,
    /// It has lived two thirds of its life.
    pub(super) due: bool,
}

/// What to do; after each the replica looks again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step<I> {
    /// Make an authority and a Secret for it.
    Create,
    /// Write back what this replica remembers.
    Restore,
    /// Keep trusting these, of which the Secret knows nothing but which leaves may hang on.
    Adopt(Vec<I>),
    /// Let every entry trust these.
    Publish(Vec<I>),
    /// Serve a new leaf of the current authority.
    Sign,
    /// Make the next authority.
    Begin,
    /// The next authority becomes the current one.
    Promote,
    /// The previous ones are trusted by nobody any more: forget them.
    Forget,
    /// Nothing, until the next look.
    Wait,
}

/// The next step. `settle` is how long an authority must have been trusted before it signs.
pub(super) fn decide<I: Ord + Clone>(view: &View<I>, settle: Duration) -> Step<I> {
    let kept = match &view.stored {
        Stored::Unknown => return blind(view),
        Stored::Missing | Stored::Broken if view.remembered.is_some() => return Step::Restore,
        Stored::Missing | Stored::Broken => return Step::Create,
        Stored::Kept(kept) => kept,
    };
    // Before anything else: what is served is trusted only later, but a replica that is not ready is not asked.
    let Some(leaf) = &view.leaf else { return Step::Sign };
    let strays = strays(view, kept, leaf);
    if !strays.is_empty() && kept.previous.len() + strays.len() <= MOST_PREVIOUS {
        return Step::Adopt(strays);
    }
    let entries = view.entries.as_deref();
    if entries.is_some_and(|entries| entries.iter().any(|entry| !kept.is_content(entry, view.wall))) {
        return Step::Publish(kept.trusted(view.wall));
    }
    if is_to_sign(view, kept, leaf, settle) {
        return Step::Sign;
    }
    if let Some(next) = &kept.next {
        let is_settled = view.ages.get(next).is_some_and(|age| *age >= settle);
        return if is_settled { Step::Promote } else { Step::Wait };
    }
    if entries.is_some() && !kept.previous.is_empty() && !kept.is_trusting_previous(view.wall) {
        return Step::Forget;
    }
    if (kept.due || kept.asked) && kept.previous.len() < MOST_PREVIOUS { Step::Begin } else { Step::Wait }
}

/// Without a Secret in sight: the leaf must not end because the API server is away.
fn blind<I: Ord>(view: &View<I>) -> Step<I> {
    let renews = |leaf: &Leaf<I>| leaf.due && view.remembered.as_ref() == Some(&leaf.by);
    if view.leaf.as_ref().is_some_and(renews) { Step::Sign } else { Step::Wait }
}

/// Whatever is trusted or served and unknown to the Secret: somebody may serve a leaf of it, as after the Secret was
/// deleted, or while the chart's kind of certificates is being changed.
fn strays<I: Ord + Clone>(view: &View<I>, kept: &Kept<I>, leaf: &Leaf<I>) -> Vec<I> {
    let trusted = view.entries.iter().flatten().flat_map(|entry| &entry.trusts);
    let mut strays: Vec<I> = trusted.chain([&leaf.by]).filter(|one| !kept.knows(one)).cloned().collect();
    strays.sort();
    strays.dedup();
    strays
}

fn is_to_sign<I: Ord>(view: &View<I>, kept: &Kept<I>, leaf: &Leaf<I>, settle: Duration) -> bool {
    if leaf.by == kept.current {
        return leaf.due;
    }
    // Whoever made it the current one has waited; this replica waits for itself, while its leaf is still good.
    view.ages.get(&kept.current).is_some_and(|age| *age >= settle || leaf.due)
}

impl<I: Ord + Clone> Kept<I> {
    /// What has to be trusted, best first.
    pub(super) fn trusted(&self, wall: u64) -> Vec<I> {
        let previous = self.previous.iter().filter(|_| self.is_trusting_previous(wall));
        [&self.current].into_iter().chain(&self.next).chain(previous).cloned().collect()
    }

    fn is_trusting_previous(&self, wall: u64) -> bool {
        self.until.is_none_or(|until| wall < until)
    }

    fn knows(&self, one: &I) -> bool {
        self.current == *one || self.next.as_ref() == Some(one) || self.previous.contains(one)
    }

    /// Whether an entry trusts what it must and nothing else. Near the end of the previous ones both is right, so that
    /// replicas whose clocks differ do not undo each other's writes.
    fn is_content(&self, entry: &Entry<I>, wall: u64) -> bool {
        let must = self.trusted(wall.saturating_add(SKEW));
        let may = self.trusted(wall);
        entry.is_clean
            && must.iter().all(|one| entry.trusts.contains(one))
            && entry.trusts.iter().all(|one| may.contains(one))
    }
}

/// Previous authorities that are kept at once: more new ones than this in one leaf's life are put off.
pub(super) const MOST_PREVIOUS: usize = 8;

/// By how many seconds the clocks of replicas may differ.
const SKEW: u64 = 3600;
