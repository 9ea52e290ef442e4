//! Keeps tokens fresh: one task for each credential and kind of token, and a cell that requests read.
//!
//! Refuses to know how a token is made (`credential` does), who may have it (`policy` does) and where it goes
//! (`proxy` does). Built by `app`; read by all doors through [`Handle`]; shown by `admin`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    credential::{CredentialName, Exchange, Post, Spec, Want},
    shutdown::Tasks,
    watch::{Pace, Snapshot},
};

mod caught;
mod events;
mod install;
mod keys;
mod refresh;
mod rotate;
pub mod schedule;
mod slot;
mod status;

pub use events::Events;
pub use keys::Refused;
pub use schedule::Settings;
pub use slot::{Bearer, Handle, UNAVAILABLE_LABELS, Unavailable};
pub use status::{Condition, CredentialStatus, KeyStatus, Resting, SlotStatus, Trouble};

use keys::KeySet;
use refresh::Refresher;
use slot::Slot;

/// What the tasks work with.
#[derive(Clone)]
pub struct Setup {
    /// How tokens are asked for.
    pub exchange: Exchange,
    /// Where tasks run.
    pub tasks: Tasks,
    /// Who is told.
    pub events: Arc<dyn Events>,
    /// How quickly key files are looked at again.
    pub pace: Pace,
    /// Uniform in `0.0..1.0`, for all jitter.
    pub random: fn() -> f64,
}

impl Setup {
    /// Over this transport, told to nobody.
    pub fn new(post: Arc<dyn Post>, clock: Clock, tasks: Tasks) -> Self {
        let exchange = Exchange::new(post, clock);
        Self { exchange, tasks, events: Arc::new(()), pace: Pace::default(), random: rand::random::<f64> }
    }
}

/// All credentials and their tokens. Cheap to clone.
#[derive(Clone)]
pub struct Tokens {
    inner: Arc<Inner>,
}

struct Inner {
    setup: Setup,
    settings: watch::Sender<Settings>,
    credentials: Mutex<BTreeMap<CredentialName, Credential>>,
}

/// A credential at work. Its tasks stop when it is dropped.
struct Credential {
    spec: Spec,
    keys: watch::Receiver<KeySet>,
    slots: BTreeMap<Want, Arc<Slot>>,
    stop: CancellationToken,
}

impl Tokens {
    /// No credentials yet.
    pub fn new(setup: Setup) -> Self {
        let settings = watch::Sender::new(Settings::default());
        Self { inner: Arc::new(Inner { setup, settings, credentials: Mutex::default() }) }
    }

    /// Makes `specs` and `settings` the ones at work. Unchanged credentials are not disturbed. A changed one
    /// starts anew without its old token, which may be another identity's: requests wait for the first flight.
    pub fn apply(&self, specs: &[Spec], settings: Settings) {
        let setup = &self.inner.setup;
        self.apply_with(specs, settings, |spec| {
            crate::watch::start(spec.path().clone(), setup.pace, setup.exchange.clock, &setup.tasks)
        });
    }

    fn apply_with(&self, specs: &[Spec], settings: Settings, files: impl Fn(&Spec) -> watch::Receiver<Snapshot>) {
        self.inner.settings.send_replace(settings);
        let mut credentials = self.lock();
        credentials.retain(|_, credential| specs.contains(&credential.spec));
        for spec in specs {
            if !credentials.contains_key(&spec.name) {
                let credential = self.start(spec, files(spec), specs.len());
                credentials.insert(spec.name.clone(), credential);
            }
        }
    }

    /// The reader of one kind of token of a credential; none when there is no such credential.
    pub fn handle(&self, credential: &CredentialName, want: &Want) -> Option<Handle> {
        let mut credentials = self.lock();
        let credential = credentials.get_mut(credential)?;
        let slot = match credential.slots.get(want) {
            Some(slot) => slot.clone(),
            None => self.start_slot(credential, want.clone(), 1),
        };
        Some(Handle::new(slot))
    }

    /// What there is, by name.
    pub fn status(&self) -> Vec<CredentialStatus> {
        self.lock().values().map(Credential::status).collect()
    }

    fn start(&self, spec: &Spec, files: watch::Receiver<Snapshot>, credentials: usize) -> Credential {
        let Setup { exchange, tasks, events, .. } = &self.inner.setup;
        let (publish, keys) = watch::channel(KeySet::default());
        let stop = CancellationToken::new();
        let load = keys::load(spec.clone(), files, exchange.clock, events.clone(), publish);
        tasks.spawn(until(stop.clone(), load));
        let mut credential = Credential { spec: spec.clone(), keys, slots: BTreeMap::new(), stop };
        // At once: the first request should find a token.
        self.start_slot(&mut credential, Want::Access, credentials);
        credential
    }

    fn start_slot(&self, credential: &mut Credential, want: Want, credentials: usize) -> Arc<Slot> {
        let setup = &self.inner.setup;
        let slot = Arc::new(Slot::new(setup.exchange.clock));
        let refresher = Refresher::new(
            refresh::Subject { credential: credential.spec.name.clone(), want: want.clone(), slot: slot.clone() },
            credential.keys.clone(),
            self.inner.settings.subscribe(),
            setup,
            schedule::start_delay(credentials, (setup.random)()),
        );
        setup.tasks.spawn(until(credential.stop.clone(), refresher.run()));
        credential.slots.insert(want, slot.clone());
        slot
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<CredentialName, Credential>> {
        self.inner.credentials.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.lock().keys()).finish()
    }
}

impl Credential {
    fn status(&self) -> CredentialStatus {
        let keys = self.keys.borrow().clone();
        let key = |candidate: &keys::Candidate| KeyStatus {
            file: candidate.file.clone(),
            key_id: candidate.source.key_id().map(ToOwned::to_owned),
            account: candidate.source.account().to_owned(),
            project: candidate.source.project().map(ToOwned::to_owned),
        };
        let slots = self.slots.iter();
        CredentialStatus {
            name: self.spec.name.clone(),
            keys: keys.candidates.iter().map(key).collect(),
            refused: keys.refused,
            is_stuck: keys.is_stuck,
            loaded_at: keys.loaded_at,
            tokens: slots.map(|(want, slot)| (want.clone(), Handle::new(slot.clone()).status())).collect(),
        }
    }
}

impl Drop for Credential {
    fn drop(&mut self) {
        self.stop.cancel();
        for slot in self.slots.values() {
            slot.end();
        }
    }
}

async fn until(stop: CancellationToken, task: impl Future<Output = ()>) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = task => {}
    }
}

#[cfg(test)]
mod tests;
