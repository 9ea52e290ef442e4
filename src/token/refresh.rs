//! THE task of one (credential, want): the only place that fetches its token. It never ends by itself.
//!
//! Single flight by construction: one task, one attempt at a time, and readers only ask it to hurry. No panic,
//! error or silence of what it calls ends it.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{
    Events, Setup,
    caught::caught,
    install::SENSIBLE,
    keys::{Candidate, KeySet},
    parent::{self, Parent},
    project::{Project, Standing},
    rotate::{Purpose, Ring},
    schedule::{self, GUARD, Settings, TICK, USELESS_PAUSE},
    slot::{Installed, Slot},
};
use crate::{
    clock::{Clock, Moment, Wall},
    credential::{Class, CredentialName, Exchange, FetchError, Reason, Token, Want},
};

/// What the task is about.
pub(super) struct Subject {
    pub(super) credential: CredentialName,
    pub(super) want: Want,
    pub(super) slot: Arc<Slot>,
    pub(super) project: Project,
}

/// The state of the task.
pub(super) struct Refresher {
    credential: CredentialName,
    want: Want,
    slot: Arc<Slot>,
    keys: watch::Receiver<KeySet>,
    settings: watch::Receiver<Settings>,
    exchange: Exchange,
    clock: Clock,
    events: Arc<dyn Events>,
    random: fn() -> f64,
    ring: Ring,
    project: Project,
    /// What the ring knows of it.
    known: Standing,
    /// Where this is derived from another credential.
    parent: Option<Parent>,
    /// When the token in hand should be replaced.
    due: Moment,
    /// No attempt before.
    not_before: Moment,
    /// Transient failures in a row.
    failures: u32,
    /// What the last attempt failed for want of a token of.
    missed: Option<CredentialName>,
    has_tried: bool,
    /// The generation whose expiry has been reported.
    reported: u64,
    seen: (Moment, Wall),
}

impl Refresher {
    pub(super) fn new(
        Subject { credential, want, slot, project }: Subject,
        keys: watch::Receiver<KeySet>,
        settings: watch::Receiver<Settings>,
        setup: &Setup,
        start_delay: Duration,
    ) -> Self {
        let clock = setup.exchange.clock;
        let now = clock.now();
        Self {
            credential,
            slot,
            keys,
            settings,
            exchange: setup.exchange.clone(),
            clock,
            events: setup.events.clone(),
            random: setup.random,
            ring: Ring::of(project.clone(), want == Want::SelfSigned),
            want,
            project,
            known: Standing::default(),
            parent: None,
            due: now,
            not_before: now + start_delay,
            failures: 0,
            missed: None,
            has_tried: false,
            reported: 0,
            seen: (now, clock.wall()),
        }
    }

    /// Runs for ever.
    pub(super) async fn run(mut self) {
        self.keys.mark_changed();
        loop {
            if caught(self.step()).await.is_err() {
                // The fetch has its own net, so this is a bug elsewhere. Slowly on.
                let _ = caught(async { tracing::error!(credential = %self.credential, "refresh task panicked") }).await;
                self.clock.sleep(USELESS_PAUSE).await;
            }
        }
    }

    async fn step(&mut self) {
        if self.keys.has_changed().unwrap_or(false) || self.known != self.project.standing() {
            self.take_keys();
        }
        let now = self.clock.now();
        self.notice_switch(now);
        self.notice_jump(now);
        self.notice_expiry(now);
        match self.purpose(now) {
            Some(purpose) => {
                self.attempt(purpose).await;
                self.slot.show_resting(self.ring.resting());
            }
            None => self.rest(now).await,
        }
    }

    async fn rest(&mut self, now: Moment) {
        // What was asked for cannot be done now: its waiters should know.
        if self.slot.is_forcing() && now >= self.not_before {
            self.slot.stop_forcing();
        }
        let wake = self.next_wake(now);
        let keys = async {
            if self.keys.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            self.keys.mark_changed();
        };
        let source = parent::arrival(self.missed.as_ref(), &self.exchange);
        let switch = parent::switched(self.parent.as_ref(), &self.exchange);
        tokio::select! {
            () = switch => {}
            () = self.project.other_than(self.known) => {}
            () = self.clock.sleep(now.until(wake)) => {}
            () = keys => {}
            () = source => {
                self.missed = None;
                self.not_before = self.clock.now();
            }
            () = self.slot.nudged() => {
                // Somebody waits: the polite delay at the start is over.
                if !self.has_tried {
                    self.not_before = self.clock.now();
                }
            }
        }
    }

    /// What to do now, if anything.
    fn purpose(&self, now: Moment) -> Option<Purpose> {
        if now < self.not_before {
            return None;
        }
        let can = |purpose| !self.ring.plan(purpose, now).is_empty();
        // First what is needed: it tries the newer keys as well, but does not depend on them.
        if self.needs_token(now) && can(Purpose::Refresh) {
            return Some(Purpose::Refresh);
        }
        can(Purpose::Rotate).then_some(Purpose::Rotate)
    }

    fn needs_token(&self, now: Moment) -> bool {
        now >= self.due || self.slot.is_forcing() || self.slot.current().is_none()
    }

    /// The next moment at which something may have to be done; a tick at the latest.
    fn next_wake(&self, now: Moment) -> Moment {
        let expiry = self.slot.last().map(|bearer| bearer.expires - GUARD);
        let key = self.ring.next_try(Purpose::Refresh);
        let moments = [Some(self.due), Some(self.not_before), expiry, key];
        moments.into_iter().flatten().filter(|moment| *moment > now).fold(now + TICK, Ord::min)
    }

    fn take_keys(&mut self) {
        // First: what is known is not waited for again, also before the first keys.
        self.known = self.project.standing();
        let keys = self.keys.borrow_and_update().clone();
        if keys.version == 0 {
            return;
        }
        let was_in_use = self.ring.is_in_use();
        let update = self.ring.update(&keys);
        if was_in_use && !self.ring.is_in_use() {
            self.due = self.clock.now();
        }
        self.slot.show_resting(self.ring.resting());
        self.project.tell(&self.credential, &update.foreign, &keys.candidates, &*self.events);
        let derived_from = keys.candidates.first().and_then(|only| only.source.derived_from());
        if self.parent.is_none() {
            self.parent = derived_from.cloned().map(Parent::new);
        }
        if update.has_new && self.has_tried {
            self.not_before = self.clock.now();
        }
        if self.ring.is_empty() {
            self.slot.fail(Reason::NoKey, &keys.why_none(), None);
        }
    }

    /// Tries the keys of the plan until one succeeds.
    async fn attempt(&mut self, purpose: Purpose) {
        self.has_tried = true;
        self.slot.begin();
        let attempt = self.clock.now();
        if let Some(parent) = &mut self.parent {
            parent.ask(&self.exchange);
        }
        let mut last = None;
        let mut only_active = false;
        for candidate in self.ring.plan(purpose, self.clock.now()) {
            let is_active = self.ring.is_active(candidate.id);
            if only_active && !is_active {
                continue;
            }
            let begin = self.clock.now();
            let fetch = candidate.source.fetch(&self.want, &self.exchange);
            let result = caught(fetch).await.unwrap_or_else(|panicked| Err(panicked.into()));
            let error = match result.and_then(|token| self.unspent(token)) {
                Ok(token) if self.is_admitted(&candidate) => return self.succeeded(&candidate, &token, begin),
                Ok(_) => {
                    self.keys.mark_changed();
                    continue;
                }
                Err(error) => error,
            };
            self.note(&candidate, &error, begin);
            let wants = candidate.source.derived_from().filter(|_| error.reason == Reason::NoSource);
            self.missed = wants.cloned();
            if !error.class.is_about_the_key() {
                // The endpoint's trouble, most likely: the key in use is worth a try, all others are not.
                only_active = true;
            }
            last = Some(error);
            if only_active && is_active {
                break;
            }
        }
        if let Some(parent) = &mut self.parent {
            parent.fail();
        }
        if let Some(error) = last {
            self.failed(purpose, &error, attempt);
        }
    }

    /// Whether a key that made a token may be used: another task of the credential may have settled its project meanwhile.
    /// What is only signed here is no proof.
    fn is_admitted(&self, candidate: &Candidate) -> bool {
        match self.want {
            Want::SelfSigned => self.project.admits(&candidate.source),
            Want::Access | Want::Id(_) | Want::Jwt(_) => self.project.settle(candidate),
        }
    }

    /// The credential that this is derived from has become another's: so must its tokens, at once.
    fn notice_switch(&mut self, now: Moment) {
        if self.parent.as_mut().is_some_and(|parent| parent.has_just_switched(&self.exchange)) {
            (self.due, self.not_before) = (now, now);
            self.ring.forgive();
        }
    }

    fn succeeded(&mut self, candidate: &Candidate, token: &Token, begin: Moment) {
        let (now, key_id) = (self.clock.now(), candidate.source.key_id());
        let is_of_another = self.parent.as_mut().is_some_and(Parent::take);
        let is_by_another_key = !self.ring.is_active(candidate.id) || is_of_another;
        self.slot.is_made_by(candidate);
        let installed = self.slot.install(token, candidate.source.as_ref().into(), is_by_another_key);
        (self.failures, self.missed, self.not_before) = (0, None, now);
        self.due = match installed {
            Installed::Yes => {
                token.sent + schedule::refresh_age(token.lifetime, *self.settings.borrow(), (self.random)())
            }
            Installed::NotNewer => now + schedule::after_no_progress(self.usable_life(now), (self.random)()),
        }
        .max(now + USELESS_PAUSE);
        let credential = &self.credential;
        if let Some((from, to)) = self.ring.succeeded(candidate.id) {
            tracing::info!(%credential, from, to, account = candidate.source.account(), "key in use");
            if self.want.is_main() {
                self.events.switched(credential, from.as_deref(), to.as_deref());
            }
        }
        let (took, left) = (begin.until(now), now.until(token.expires()));
        let (expires_at, next) = ((self.clock.wall().0 + left).as_secs(), now.until(self.due));
        tracing::info!(
            %credential,
            want = self.want.label(),
            key_id,
            life_seconds = left.as_secs(),
            took_ms = took.as_millis(),
            next_seconds = next.as_secs(),
            "token refreshed"
        );
        self.events.refreshed(credential, &self.want, took, expires_at);
    }

    /// A machine may be suspended between question and answer: such a token is none, or the cell would be left with
    /// the old key's while the new key counts as the one in use.
    fn unspent(&self, token: Token) -> Result<Token, FetchError> {
        if self.clock.now().until(token.expires()) >= SENSIBLE {
            return Ok(token);
        }
        Err(FetchError::transient(Reason::Timeout, "the life of the token had passed when the answer came"))
    }

    /// Records, logs and counts one failed exchange, and lets the key rest where others should have their turn.
    fn note(&mut self, candidate: &Candidate, error: &FetchError, begin: Moment) {
        let now = self.clock.now();
        let random = (self.random)();
        let again = if error.class.is_about_the_key() {
            self.ring.refused(candidate.id, error, now, random)
        } else {
            self.ring.set_aside(candidate.id, error, (begin, now), self.usable_life(now), random)
        };
        let credential = &self.credential;
        tracing::warn!(
            %credential,
            want = self.want.label(),
            file = candidate.file,
            key_id = candidate.source.key_id(),
            reason = error.label(),
            %error,
            life_seconds = self.usable_life(now).as_secs(),
            again_seconds = again.map(|again| now.until(again).as_secs()),
            "token refresh failed"
        );
        self.events.refresh_failed(credential, &self.want, error.reason, begin.until(now));
    }

    fn failed(&mut self, purpose: Purpose, error: &FetchError, attempt: Moment) {
        let now = self.clock.now();
        let next = match error.class {
            Class::Key | Class::Configuration => self.ring.next_try(purpose),
            Class::Transient { .. } | Class::Clock => {
                self.failures = self.failures.saturating_add(1);
                let asked = if let Class::Transient { retry_after } = error.class { retry_after } else { None };
                let (left, random) = (self.usable_life(now), (self.random)());
                let wait = schedule::after_failure(error, self.failures, left, random);
                // An endpoint that said nothing for ten seconds has been given that much of the wait already.
                let wait = if asked.is_none() { schedule::shortened(wait, attempt.until(now)) } else { wait };
                let floor = if error.reason == Reason::ShortLived { USELESS_PAUSE } else { Duration::ZERO };
                self.not_before = now + wait.max(floor);
                Some(self.not_before)
            }
        };
        // A new key that does not work yet is no trouble of the token in hand.
        if purpose == Purpose::Refresh {
            self.slot.fail(error.reason, &error.message, next);
        }
    }

    /// The life of the token in hand that may still be used.
    fn usable_life(&self, now: Moment) -> Duration {
        self.slot.last().map(|bearer| now.until(bearer.expires - GUARD)).unwrap_or_default()
    }

    /// Reports each expired token once. From then on every second counts.
    fn notice_expiry(&mut self, now: Moment) {
        let Some(bearer) = self.slot.last() else { return };
        // Without trouble this is a machine that woke up: the next attempt will tell.
        if now + GUARD < bearer.expires || self.reported == bearer.generation || !self.slot.is_in_trouble() {
            return;
        }
        self.reported = bearer.generation;
        self.not_before = self.not_before.min(now + USELESS_PAUSE);
        let (credential, want) = (&self.credential, &self.want);
        tracing::error!(%credential, want = want.label(), "token expired and could not be replaced");
        self.events.expired(credential, want);
    }

    fn notice_jump(&mut self, now: Moment) {
        let seen = (now, self.clock.wall());
        let (wall_delta, boot_delta) = schedule::deltas(std::mem::replace(&mut self.seen, seen), seen);
        let wall_jumped = schedule::wall_jumped(wall_delta, boot_delta);
        if wall_jumped {
            // What was learnt about the old wall clock does not hold for the new one, nor what was signed by it.
            self.exchange.skew.forget();
            self.slot.doubt(&self.want);
        }
        if wall_jumped || boot_delta > (TICK * 4).as_secs_f64() {
            tracing::debug!(wall_seconds = wall_delta, boot_seconds = boot_delta, "time jumped");
            self.events.time_jumped();
        }
    }
}
