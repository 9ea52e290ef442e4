//! The cell that holds one token: written by one task, read by every request without waiting.
//!
//! The invariants live here: only success replaces a token, an expired one is never given, and who waits is
//! bounded in number and time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Notify, watch};

use super::{
    bearer::{Bearer, Maker, bearer},
    install::{Offer, replaces},
    keys::Candidate,
    schedule::{FORCED_EVERY, GUARD},
    status::{Condition, Resting, SlotStatus, Trouble},
};
use crate::{
    clock::{Clock, Moment},
    credential::{Reason, Token, Want},
};

/// Why there is no token, in the words of an answer to the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Unavailable {
    /// For `Retry-After`: 1 to 5.
    pub retry_after_seconds: u64,
    /// A label: one of [`Reason::label`], `starting`, `too_many_waiters` or `removed`.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

#[derive(Default)]
struct State {
    bearer: Option<Arc<Bearer>>,
    trouble: Option<Trouble>,
    /// When a refresh was last asked for by a 401.
    forced_at: Option<Moment>,
    /// Such a refresh is due or under way.
    forcing: bool,
    resting: Vec<Resting>,
    /// What makes the tokens.
    maker: Option<Candidate>,
    /// Counts up whenever a token is another identity's, as far as can be known: one by another key, or one made of such.
    lineage: u64,
    ended: bool,
}

/// The cell. The task owns the writing side, [`Handle`] is the reading side.
pub(super) struct Slot {
    state: watch::Sender<State>,
    clock: Clock,
    nudge: Notify,
    waiters: AtomicUsize,
}

/// Whether a token was taken into the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Installed {
    Yes,
    /// The one in hand lives at least as long: an endpoint that caches, or one that shortens lives.
    NotNewer,
}

impl Slot {
    pub(super) fn new(clock: Clock) -> Self {
        Self { state: watch::Sender::new(State::default()), clock, nudge: Notify::new(), waiters: AtomicUsize::new(0) }
    }

    /// The token to send now.
    pub(super) fn current(&self) -> Option<Arc<Bearer>> {
        let bearer = self.state.borrow().bearer.clone()?;
        (self.clock.now() + GUARD < bearer.expires).then_some(bearer)
    }

    /// The last token, expired or not.
    pub(super) fn last(&self) -> Option<Arc<Bearer>> {
        self.state.borrow().bearer.clone()
    }

    /// The only way in for a token. `is_by_another_key`: than the one in use.
    pub(super) fn install(&self, token: &Token, maker: Maker<'_>, is_by_another_key: bool) -> Installed {
        let now = self.clock.now();
        let mut installed = Installed::NotNewer;
        self.state.send_modify(|state| {
            let is_suspect = std::mem::take(&mut state.forcing);
            state.trouble = None;
            let old = state.bearer.as_deref();
            let is_same = old.is_some_and(|old| old.bare.as_bytes() == token.secret.expose());
            let offer = Offer { expires: token.expires(), is_same, is_by_another_key };
            let generation = old.map_or(0, |old| old.generation) + 1;
            if replaces(now, old.map(|old| old.expires), is_suspect, offer)
                && let Some(bearer) = bearer(token, generation, maker)
            {
                state.lineage += u64::from(is_by_another_key && state.bearer.is_some());
                state.bearer = Some(Arc::new(bearer));
                installed = Installed::Yes;
            }
        });
        installed
    }

    /// From now on tokens are made by this key.
    pub(super) fn is_made_by(&self, maker: &Candidate) {
        self.state.send_if_modified(|state| {
            state.maker = Some(maker.clone()).filter(|_| !state.ended);
            false
        });
    }

    /// The key that made the last token, also when its file has gone.
    pub(super) fn maker(&self) -> Option<Candidate> {
        self.state.borrow().maker.clone()
    }

    /// An attempt begins: what the last one said about the next is settled, so waiting is not in vain.
    pub(super) fn begin(&self) {
        let now = self.clock.now();
        self.state.send_if_modified(|state| {
            if let Some(trouble) = &mut state.trouble {
                trouble.next_try = Some(now);
            }
            false
        });
    }

    /// Records a failure. The token stays.
    pub(super) fn fail(&self, reason: Reason, message: &str, next_try: Option<Moment>) {
        let now = self.clock.now();
        self.state.send_modify(|state| {
            let (since, failures) = state.trouble.as_ref().map_or((now, 0), |before| (before.since, before.failures));
            let failures = failures.saturating_add(1);
            state.trouble = Some(Trouble { reason, message: message.to_owned(), since, failures, next_try });
            state.forcing = false;
        });
    }

    /// Whether the last attempt failed.
    pub(super) fn is_in_trouble(&self) -> bool {
        self.state.borrow().trouble.is_some()
    }

    /// Whether a 401 asked for a refresh that has not been tried yet.
    pub(super) fn is_forcing(&self) -> bool {
        self.state.borrow().forcing
    }

    /// The wall clock was set: a token that was signed here by what it said, and seen by no endpoint, gives way to the next.
    pub(super) fn doubt(&self, want: &Want) {
        self.state.send_if_modified(|state| {
            let is_signed_here = state.maker.as_ref().is_some_and(|maker| maker.source.is_signed_here(want));
            state.forcing |= is_signed_here && state.bearer.is_some();
            false
        });
    }

    /// Gives up such a refresh: nothing can be tried now.
    pub(super) fn stop_forcing(&self) {
        self.state.send_if_modified(|state| std::mem::take(&mut state.forcing));
    }

    /// Shows the keys that are not used. Nobody waits for that.
    pub(super) fn show_resting(&self, resting: Vec<Resting>) {
        self.state.send_if_modified(|state| {
            state.resting = resting;
            false
        });
    }

    /// The credential is gone: nobody needs to wait any more.
    pub(super) fn end(&self) {
        // Who reads on from here needs no key.
        self.state.send_modify(|state| (state.ended, state.maker) = (true, None));
    }

    /// Completes when a reader needs a token that is not there.
    pub(super) async fn nudged(&self) {
        self.nudge.notified().await;
    }

    fn enter(&self) -> Option<Waiter<'_>> {
        let waiter = Waiter(&self.waiters);
        (self.waiters.fetch_add(1, Ordering::AcqRel) < MOST_WAITERS).then_some(waiter)
    }

    /// Whether waiting `limit` is in vain, and what to say then.
    fn hopeless(&self, limit: Duration) -> Option<Unavailable> {
        let state = self.state.borrow();
        if state.ended {
            return Some(unavailable(5, "removed", "the credential was removed from the configuration"));
        }
        let trouble = state.trouble.as_ref()?;
        let patience = self.clock.now() + limit;
        let in_vain = trouble.next_try.is_none_or(|next| next > patience);
        in_vain.then(|| self.explain(&state))
    }

    fn explain(&self, state: &State) -> Unavailable {
        let Some(trouble) = &state.trouble else {
            return unavailable(1, "starting", "no token yet: the first exchange has not ended");
        };
        let wait = trouble.next_try.map_or(MOST_RETRY_AFTER, |next| self.clock.now().until(next).as_secs() + 1);
        unavailable(wait, trouble.reason.label(), &trouble.message)
    }
}

/// Reads one slot. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    slot: Arc<Slot>,
}

impl Handle {
    pub(super) fn new(slot: Arc<Slot>) -> Self {
        Self { slot }
    }

    /// The token to send now; none when there is none or it has less than ten seconds left. Never waits.
    pub fn current(&self) -> Option<Arc<Bearer>> {
        self.slot.current()
    }

    /// The token, waiting for the one flight if there is none: at most `limit`, and ten seconds.
    ///
    /// # Errors
    ///
    /// Why there is none, as soon as waiting on is in vain. Dropping the future disturbs nobody.
    pub async fn wait(&self, limit: Duration) -> Result<Arc<Bearer>, Unavailable> {
        if let Some(bearer) = self.current() {
            return Ok(bearer);
        }
        let limit = limit.min(MOST_WAIT);
        let Some(_waiter) = self.slot.enter() else {
            return Err(unavailable(1, "too_many_waiters", "too many requests wait for a token already"));
        };
        let mut changes = self.slot.state.subscribe();
        self.slot.nudge.notify_one();
        let found = async {
            loop {
                if let Some(bearer) = self.current() {
                    return Ok(bearer);
                }
                if let Some(unavailable) = self.slot.hopeless(limit) {
                    return Err(unavailable);
                }
                // Cannot fail: the sender is in the slot that we hold.
                let _ = changes.changed().await;
            }
        };
        // Tokio's time and not the clock's: the client's patience does not run fast.
        match tokio::time::timeout(limit, found).await {
            Ok(result) => result,
            Err(_) => Err(self.slot.explain(&self.slot.state.borrow())),
        }
    }

    /// Upstream said `invalid_token` to this generation: asks for one refresh, at most every 30 s.
    /// Whether one is now due or under way.
    pub fn suspect(&self, generation: u64) -> bool {
        let now = self.slot.clock.now();
        let mut forcing = false;
        let newly = self.slot.state.send_if_modified(|state| {
            let is_last = state.bearer.as_ref().is_some_and(|bearer| bearer.generation == generation);
            let is_allowed = state.forced_at.is_none_or(|last| last.until(now) >= FORCED_EVERY);
            let newly = is_last && is_allowed && !state.forcing;
            if newly {
                state.forcing = true;
                state.forced_at = Some(now);
            }
            forcing = is_last && state.forcing;
            newly
        });
        if newly {
            self.slot.nudge.notify_one();
        }
        forcing
    }

    /// After [`Handle::suspect`]: the next token, for the one replay; none when there will be none in time.
    pub async fn renewed(&self, generation: u64, limit: Duration) -> Option<Arc<Bearer>> {
        let mut changes = self.slot.state.subscribe();
        self.suspect(generation);
        let _waiter = self.slot.enter()?;
        let found = async {
            loop {
                if let Some(bearer) = self.current().filter(|bearer| bearer.generation > generation) {
                    return Some(bearer);
                }
                if !self.slot.is_forcing() {
                    return None;
                }
                let _ = changes.changed().await;
            }
        };
        tokio::time::timeout(limit.min(MOST_WAIT), found).await.ok().flatten()
    }

    /// The next valid token after `generation`, however long it takes: for those who pass tokens on.
    pub async fn newer_than(&self, generation: u64) -> Arc<Bearer> {
        let mut changes = self.slot.state.subscribe();
        loop {
            if let Some(bearer) = self.current().filter(|bearer| bearer.generation > generation) {
                return bearer;
            }
            // Cannot fail: the sender is in the slot that we hold.
            let _ = changes.changed().await;
        }
    }

    /// How often its tokens have become another identity's.
    pub(super) fn lineage(&self) -> u64 {
        self.slot.state.borrow().lineage
    }

    /// Completes when that is another number than `since`.
    pub(super) async fn switched(&self, since: u64) {
        // Cannot fail: the sender is in the slot that we hold.
        let _ = self.slot.state.subscribe().wait_for(|state| state.lineage != since).await;
    }

    /// Whether the credential has gone, or become another: nothing new comes here.
    pub fn has_ended(&self) -> bool {
        self.slot.state.borrow().ended
    }

    /// Whether the last attempt to fetch one failed.
    pub fn is_in_trouble(&self) -> bool {
        self.slot.is_in_trouble()
    }

    /// For the status page and metrics.
    pub fn status(&self) -> SlotStatus {
        let (now, wall) = (self.slot.clock.now(), self.slot.clock.wall());
        let state = self.slot.state.borrow();
        let condition = match &state.bearer {
            None => Condition::Empty,
            Some(bearer) if now + GUARD >= bearer.expires => Condition::Expired,
            Some(_) if state.trouble.is_some() => Condition::Stale,
            Some(_) => Condition::Fresh,
        };
        let bearer = state.bearer.as_deref();
        let expires = bearer.map(|bearer| bearer.expires);
        let expires_at = expires.map(|end| (wall.0 + now.until(end)).saturating_sub(end.until(now)).as_secs());
        SlotStatus {
            condition,
            generation: bearer.map_or(0, |bearer| bearer.generation),
            issued: bearer.map(|bearer| bearer.issued),
            expires,
            expires_at,
            key_id: bearer.and_then(|bearer| bearer.key_id.clone()),
            trouble: state.trouble.clone(),
            resting: state.resting.clone(),
        }
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Handle").field(&self.status().condition).finish()
    }
}

/// One of those who wait.
struct Waiter<'a>(&'a AtomicUsize);

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

pub(super) fn unavailable(wait: u64, reason: &'static str, message: &str) -> Unavailable {
    Unavailable { retry_after_seconds: wait.clamp(1, MOST_RETRY_AFTER), reason, message: message.to_owned() }
}

/// Every label of [`Unavailable`] that is none of [`Reason`]'s.
pub const UNAVAILABLE_LABELS: [&str; 3] = ["starting", "too_many_waiters", "removed"];

const MOST_WAITERS: usize = 10_000;
const MOST_WAIT: Duration = Duration::from_secs(10);
const MOST_RETRY_AFTER: u64 = 5;
