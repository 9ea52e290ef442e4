//! What the fake's connections share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::{
    accounts::Accounts,
    certificates::Certificates,
    identities::Identities,
    objects::Objects,
    record::Record,
    script::{Outage, Script},
    tokens::Tokens,
};
use crate::clock::{Clock, Wall};

/// One fake Google.
pub(super) struct State {
    pub(super) clock: Clock,
    pub(super) certificates: Certificates,
    pub(super) accounts: Mutex<Accounts>,
    pub(super) tokens: Mutex<Tokens>,
    pub(super) identities: Mutex<Identities>,
    pub(super) objects: Mutex<Objects>,
    pub(super) record: Record,
    script: watch::Sender<Arc<Script>>,
    /// Bumped to close connections in order.
    pub(super) draining: watch::Sender<u64>,
    /// Bumped to drop connections.
    pub(super) aborting: watch::Sender<u64>,
}

impl State {
    pub(super) fn new(clock: Clock, certificates: Certificates) -> Self {
        Self {
            clock,
            certificates,
            accounts: Mutex::default(),
            tokens: Mutex::default(),
            identities: Mutex::default(),
            objects: Mutex::default(),
            record: Record::default(),
            script: watch::Sender::default(),
            draining: watch::Sender::new(0),
            aborting: watch::Sender::new(0),
        }
    }

    pub(super) fn script(&self) -> Arc<Script> {
        self.script.borrow().clone()
    }

    pub(super) fn change_script(&self, change: impl FnOnce(&mut Script)) {
        self.script.send_modify(|script| change(Arc::make_mut(script)));
    }

    /// The outage that the next connection (`below_http`) or request meets, counted against its times.
    pub(super) fn meet_outage(&self, below_http: bool) -> Outage {
        let mut met = Outage::None;
        self.script.send_if_modified(|script| {
            if script.outage == Outage::None || (below_http && !script.outage.is_below_http()) {
                return false;
            }
            met = script.outage.clone();
            let Some(times) = script.outage_times else { return false };
            let script = Arc::make_mut(script);
            script.outage_times = times.checked_sub(1).filter(|&left| left > 0);
            if script.outage_times.is_none() {
                script.outage = Outage::None;
            }
            // Not told to those in the black hole: they entered while it was there.
            false
        });
        met
    }

    /// Sees changes of the script from now on. Taken before an outage is met, so that the end of a black
    /// hole is not missed.
    pub(super) fn script_changes(&self) -> watch::Receiver<Arc<Script>> {
        self.script.subscribe()
    }

    /// Google's idea of the time.
    pub(super) fn wall(&self) -> Wall {
        shifted(self.clock.wall(), self.script().skew)
    }
}

pub(super) fn shifted(wall: Wall, seconds: i64) -> Wall {
    Wall(std::time::Duration::from_secs(wall.seconds().saturating_add_signed(seconds)))
}

/// Takes a lock; a panic elsewhere does not make the data worse than it was.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
