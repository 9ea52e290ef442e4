//! Keeps tokens fresh: one task for each credential and kind of token, and a cell that requests read.
//!
//! Refuses to know how a token is made (`credential` does), who may have it (`policy` does) and where it goes
//! (`proxy` does). Built by `app`; read by all doors through [`Handle`]; shown by `admin`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    credential::{CredentialName, Exchange, Parameters, Post, Reason, Spec, Want},
    shutdown::Tasks,
    watch::{Pace, Snapshot},
};

mod bearer;
mod caught;
mod credential;
mod events;
mod install;
mod keys;
mod parent;
mod project;
mod refresh;
mod rotate;
pub mod schedule;
mod siblings;
mod signature;
mod signed;
mod slot;
mod status;

pub use bearer::Bearer;
pub use events::Events;
pub use keys::Refused;
pub use schedule::Settings;
pub use signature::{Signature, SignatureError};
pub use slot::{Handle, UNAVAILABLE_LABELS, Unavailable};
pub use status::{Condition, CredentialStatus, KeyStatus, Resting, SlotStatus, Trouble};

use credential::{Credential, Kept};
use keys::KeySet;
use project::Project;
use refresh::Refresher;
use siblings::Siblings;
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

impl Tokens {
    /// No credentials yet.
    pub fn new(setup: Setup) -> Self {
        let settings = watch::Sender::new(Settings::default());
        let inner = Arc::new_cyclic(|inner: &Weak<Inner>| {
            let exchange = Exchange { parents: Some(Arc::new(Siblings::new(inner.clone()))), ..setup.exchange.clone() };
            Inner { setup: Setup { exchange, ..setup }, settings, credentials: Mutex::default() }
        });
        Self { inner }
    }

    /// Makes `specs` and `settings` the ones at work. Unchanged credentials are not disturbed. A changed one
    /// starts anew without its old token, which may be another identity's: requests wait for the first flight. So does
    /// whatever is derived from it, since its token was made of that identity's.
    pub fn apply(&self, specs: &[Spec], settings: Settings) {
        let setup = &self.inner.setup;
        self.apply_with(specs, settings, |spec| {
            let path = spec.path()?.to_owned();
            Some(crate::watch::start(path, setup.pace, setup.exchange.clock, &setup.tasks))
        });
    }

    fn apply_with(
        &self,
        specs: &[Spec],
        settings: Settings,
        files: impl Fn(&Spec) -> Option<watch::Receiver<Snapshot>>,
    ) {
        self.inner.settings.send_replace(settings);
        let mut credentials = self.lock();
        let old: Vec<Spec> = credentials.values().map(|credential| credential.spec.clone()).collect();
        let all = std::mem::take(&mut *credentials).into_iter();
        let (unchanged, mut changed): (BTreeMap<_, _>, BTreeMap<_, _>) =
            all.partition(|(name, _)| is_unchanged(name, &old, specs));
        *credentials = unchanged;
        for spec in specs {
            if !credentials.contains_key(&spec.name) {
                // With the same files it keeps to their project, whatever else has changed.
                let before = changed.remove(&spec.name).filter(|before| before.spec.path() == spec.path());
                let kept =
                    before.map(|before| (before.project.for_another(spec), before.keys.borrow().for_another(spec)));
                let credential = self.start(spec, files(spec), kept.unwrap_or_default(), specs.len());
                credentials.insert(spec.name.clone(), credential);
            }
        }
    }

    /// The reader of one kind of token of a credential; none when there is no such credential. The token is kept fresh
    /// from now on: for as long as somebody holds a reader, and after that until others take its place.
    pub fn handle(&self, credential: &CredentialName, want: &Want) -> Option<Handle> {
        let mut credentials = self.lock();
        let credential = credentials.get_mut(credential)?;
        credential.asked += 1;
        let asked = credential.asked;
        if let Some(kept) = credential.slots.get_mut(want) {
            kept.last_asked = asked;
            return Some(Handle::new(kept.slot.clone()));
        }
        credential.make_room();
        Some(Handle::new(self.start_slot(credential, want.clone(), 1)))
    }

    /// The reader of what a credential is for, where nobody asks for a token in particular; none when there is no such
    /// credential, or when its tokens have parameters.
    pub fn main(&self, credential: &CredentialName) -> Option<Handle> {
        let want = self.lock().get(credential)?.spec.first_want()?;
        self.handle(credential, &want)
    }

    /// A JWT for `parameters` with at least `least` to live, kept or signed on the spot by the newest key.
    ///
    /// # Errors
    ///
    /// When there is no such credential, or no key yet.
    pub fn signed(
        &self,
        credential: &CredentialName,
        parameters: &Parameters,
        least: Duration,
    ) -> Result<Arc<Bearer>, Unavailable> {
        let credentials = self.lock();
        let Some(credential) = credentials.get(credential) else {
            return Err(slot::unavailable(5, "removed", "the credential was removed from the configuration"));
        };
        let Some(key) = credential.signer(&*self.inner.setup.events) else {
            return Err(slot::unavailable(5, Reason::NoKey.label(), &credential.keys.borrow().why_none()));
        };
        credential.signed.token((key.id, &key.source), parameters, least, &self.inner.setup.exchange)
    }

    /// Signs `blob` for `account` with the key that made the access token in use, also when its file has gone.
    ///
    /// # Errors
    ///
    /// When the credential has no key, or one of another account.
    pub fn sign_blob(
        &self,
        credential: &CredentialName,
        account: &str,
        blob: &[u8],
    ) -> Result<Signature, SignatureError> {
        let credentials = self.lock();
        let gone = || SignatureError::NoKey("the credential was removed from the configuration".to_owned());
        let credential = credentials.get(credential).ok_or_else(gone)?;
        let none = || SignatureError::NoKey(credential.keys.borrow().why_none());
        signature::sign(&credential.in_use().ok_or_else(none)?.source, account, blob)
    }

    /// What there is, by name.
    pub fn status(&self) -> Vec<CredentialStatus> {
        self.lock().values().map(Credential::status).collect()
    }

    fn start(
        &self,
        spec: &Spec,
        files: Option<watch::Receiver<Snapshot>>,
        (project, before): (Project, KeySet),
        credentials: usize,
    ) -> Credential {
        let Setup { exchange, tasks, events, .. } = &self.inner.setup;
        let (publish, keys) = watch::channel(KeySet::default());
        let stop = CancellationToken::new();
        match (files, spec.without_file()) {
            (Some(files), _) => {
                let load =
                    keys::load(spec.clone(), (before, project.clone()), files, exchange.clock, events.clone(), publish);
                tasks.spawn(until(stop.clone(), load));
            }
            (None, source) => {
                publish.send_replace(KeySet::without_file(source, exchange.clock));
                events.key_loaded(&spec.name, None);
                // Kept: a channel without sender would look as if the task had ended.
                tasks.spawn(until(stop.clone(), async move {
                    let _publish = publish;
                    std::future::pending().await
                }));
            }
        }
        let mut credential = Credential {
            spec: spec.clone(),
            keys,
            project,
            slots: BTreeMap::new(),
            asked: 0,
            signed: signed::Cache::default(),
            stop,
        };
        // At once: the first request should find a token.
        if let Some(want) = spec.first_want() {
            self.start_slot(&mut credential, want, credentials);
        }
        credential
    }

    fn start_slot(&self, credential: &mut Credential, want: Want, credentials: usize) -> Arc<Slot> {
        let setup = &self.inner.setup;
        let slot = Arc::new(Slot::new(setup.exchange.clock));
        let refresher = Refresher::new(
            refresh::Subject {
                credential: credential.spec.name.clone(),
                want: want.clone(),
                slot: slot.clone(),
                project: credential.project.clone(),
            },
            credential.keys.clone(),
            self.inner.settings.subscribe(),
            setup,
            schedule::start_delay(credentials, (setup.random)()),
        );
        let stop = credential.stop.child_token();
        setup.tasks.spawn(until(stop.clone(), refresher.run()));
        credential.slots.insert(want, Kept { slot: slot.clone(), stop, last_asked: credential.asked });
        slot
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<CredentialName, Credential>> {
        self.inner.credentials.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a credential and all that it is derived from are the same before and after.
fn is_unchanged(name: &CredentialName, before: &[Spec], after: &[Spec]) -> bool {
    let find = |specs: &[Spec], name: &CredentialName| specs.iter().find(|spec| spec.name == *name).cloned();
    let mut next = Some(name.clone());
    // As many steps as there are credentials lead to the end of every chain; a circle is none of ours to judge.
    for _ in 0..=after.len() {
        let Some(name) = next else { return true };
        let (was, is) = (find(before, &name), find(after, &name));
        let is_same = match (&was, &is) {
            (Some(was), Some(is)) => was.makes_the_same_tokens(is),
            _ => was.is_none() && is.is_none(),
        };
        if !is_same {
            return false;
        }
        next = is.and_then(|spec| spec.kind.source().cloned());
    }
    true
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.lock().keys()).finish()
    }
}

async fn until(stop: CancellationToken, task: impl Future<Output = ()>) {
    tokio::select! {
        // First: a timer that is due just then must not make a removed key sign once more.
        biased;
        () = stop.cancelled() => {}
        () = task => {}
    }
}

#[cfg(test)]
mod tests;
