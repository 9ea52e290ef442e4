//! What must have happened before the sidecar says that it has started.
//!
//! Owns named conditions and their reasons; knows nothing of what they mean. `app` registers them,
//! `admin` shows them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// The set of conditions, shared by those who meet them and those who ask.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    waiting: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Readiness {
    /// An empty set: ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition that is not met yet, or changes its reason.
    pub fn wait_for(&self, name: &str, reason: impl Into<String>) {
        self.lock().insert(name.to_owned(), reason.into());
    }

    /// Changes the reason of a condition that is still waited for; one that is met stays met.
    pub fn because(&self, name: &str, reason: impl Into<String>) {
        if let Some(known) = self.lock().get_mut(name) {
            *known = reason.into();
        }
    }

    /// Marks a condition as met, and says whether it was not before. It never blocks again, unless it is set again.
    pub fn met(&self, name: &str) -> bool {
        self.lock().remove(name).is_some()
    }

    /// The unmet conditions, each with its reason; empty when ready.
    pub fn unmet(&self) -> Vec<(String, String)> {
        let waiting = self.lock();
        waiting.iter().map(|(name, reason)| (name.clone(), reason.clone())).collect()
    }

    /// Whether every condition is met.
    pub fn is_ready(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_when_every_condition_is_met() {
        let ready = Readiness::new();
        ready.wait_for("token", "no token yet");
        ready.wait_for("config", "routes[0]: unknown credential");
        ready.met("token");
        assert!(!ready.is_ready());
        assert_eq!(ready.unmet(), [("config".to_owned(), "routes[0]: unknown credential".to_owned())]);
        ready.because("config", "routes[1]: unknown credential");
        assert_eq!(ready.unmet()[0].1, "routes[1]: unknown credential");
        ready.met("config");
        ready.because("config", "too late");
        assert!(ready.is_ready());
    }
}
