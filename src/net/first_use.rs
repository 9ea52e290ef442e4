//! When a drain may tell a connection to go: not before its first request.
//!
//! hyper closes a connection that is told to go while it has served nothing. An application that is still at work
//! opens new connections during the drain, and each of them has a request on its way.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use crate::shutdown::Tasks;

/// Whether a connection has been used. One per connection, with one task that waits.
#[derive(Debug, Default)]
pub struct FirstUse {
    used: AtomicBool,
    first: Notify,
}

impl FirstUse {
    /// A request has come.
    pub fn note(&self) {
        if !self.used.load(Ordering::Relaxed) && !self.used.swap(true, Ordering::AcqRel) {
            self.first.notify_one();
        }
    }

    /// Completes when there is a drain and the connection has been used.
    pub async fn then_drained(&self, tasks: &Tasks) {
        tasks.draining().await;
        if !self.used.load(Ordering::Acquire) {
            self.first.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_drain_waits_for_the_first_request_and_no_longer() {
        for drained_first in [true, false] {
            let (tasks, use_) = (Tasks::new(), FirstUse::default());
            let mut told = std::pin::pin!(use_.then_drained(&tasks));
            for step in [drained_first, !drained_first] {
                assert!(told.as_mut().now_or_never().is_none());
                if step { tasks.drain() } else { use_.note() }
            }
            told.await;
            use_.note();
        }
    }
}
