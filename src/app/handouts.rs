//! What is handed out: the entries in force, the tokens that are kept fresh for them, and their files.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::Ground;
use crate::{
    token::{Handle, Tokens},
    token_api::{Door, Entry, FileStatus, Files},
};

/// The tokens handed out by one sidecar.
pub(super) struct Handouts {
    entries: watch::Sender<Arc<Vec<Entry>>>,
    tokens: Tokens,
    files: Files,
    /// Held so that each entry finds a fresh token from the start, whether or not somebody has asked.
    warm: Mutex<Vec<Handle>>,
}

impl Handouts {
    /// None yet.
    pub(super) fn new(tokens: &Tokens, ground: &Ground) -> Self {
        let files = Files::new(tokens.clone(), ground.clock, ground.tasks.clone(), ground.metrics.clone());
        let entries = watch::Sender::new(Arc::new(Vec::new()));
        Self { entries, tokens: tokens.clone(), files, warm: Mutex::default() }
    }

    /// Hands out these and no others from now on. The credentials have been applied before.
    pub(super) fn apply(&self, entries: &[Entry]) {
        let without_parameters = entries.iter().filter(|entry| entry.parameters.is_empty());
        let warm = without_parameters.filter_map(|entry| self.tokens.handle(&entry.credential, &entry.want)).collect();
        *self.warm.lock().unwrap_or_else(PoisonError::into_inner) = warm;
        self.files.apply(entries);
        self.entries.send_replace(Arc::new(entries.to_vec()));
    }

    /// The door to them.
    pub(super) fn door(&self, listen: std::net::SocketAddr, ground: &Ground) -> Door {
        Door::new(listen, self.entries.subscribe(), self.tokens.clone(), ground.clock, ground.metrics.clone())
    }

    /// The entries in force, each with how its file stands.
    pub(super) fn status(&self) -> Vec<(Entry, Option<FileStatus>)> {
        let entries = self.entries.borrow().clone();
        entries.iter().map(|entry| (entry.clone(), self.files.status(&entry.name))).collect()
    }
}
