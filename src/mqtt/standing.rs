//! Whether a door's own entry is still in the newest settings.

use std::sync::Arc;

use tokio::sync::watch;

use super::Settings;

/// A door is bound once and its entry does not change, but the newest settings may have another in its place or none.
/// Then nobody says any more that the credential of that name is for that broker: it may have become another one.
#[derive(Clone, Debug)]
pub struct Standing {
    entry: Settings,
    newest: watch::Receiver<Arc<Vec<Settings>>>,
}

impl Standing {
    /// Of `entry` among those of the newest settings, whose brokers lie below the newest ceiling.
    pub fn new(entry: Settings, newest: watch::Receiver<Arc<Vec<Settings>>>) -> Self {
        Self { entry, newest }
    }

    /// Whether an entry that is equal in all that it says is there now.
    pub(super) fn holds(&self) -> bool {
        self.newest.borrow().contains(&self.entry)
    }

    /// Completes when there is none.
    pub(super) async fn lost(&self) {
        let mut newest = self.newest.clone();
        if newest.wait_for(|entries| !entries.contains(&self.entry)).await.is_err() {
            // Nobody changes settings any more.
            std::future::pending().await
        }
    }
}
