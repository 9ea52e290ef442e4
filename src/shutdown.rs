//! The only place that spawns: every task is tracked, and one deadline bounds the whole shutdown.
//!
//! Two signals: *draining* (finish what is in flight, tell clients) and *ended* (stop now). Owns also the
//! count of work in flight, which decides when a drain is over.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::clock::Clock;

/// A cloneable handle on every task of one sidecar.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    draining: CancellationToken,
    ended: CancellationToken,
    work: Arc<Work>,
}

/// Counters of work, for the end of a drain.
#[derive(Debug, Default)]
struct Work {
    in_flight: AtomicU64,
    begun: AtomicU64,
}

/// When a drain is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainSettings {
    /// End when nothing is in flight and nothing new came for this long.
    pub linger: Duration,
    /// End at this time whatever is in flight.
    pub deadline: Duration,
}

impl Default for DrainSettings {
    fn default() -> Self {
        Self { linger: Duration::from_secs(1), deadline: Duration::from_secs(25) }
    }
}

impl Tasks {
    /// A fresh set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `task` until it ends or everything is ended.
    pub fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let ended = self.ended.clone();
        #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
        self.tracker.spawn(async move {
            tokio::select! {
                biased;
                () = ended.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Completes when a drain begins.
    pub async fn draining(&self) {
        self.draining.cancelled().await;
    }

    /// Whether a drain has begun.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Begins the drain: clients are told, listeners keep accepting.
    pub fn drain(&self) {
        self.draining.cancel();
    }

    /// Completes when everything has been told to stop.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Marks one piece of client work (a request, a tunnel) until the guard is dropped.
    pub fn begin(&self) -> InFlight {
        self.work.in_flight.fetch_add(1, Ordering::AcqRel);
        self.work.begun.fetch_add(1, Ordering::AcqRel);
        InFlight { work: self.work.clone() }
    }

    /// How many pieces of work are in flight.
    pub fn in_flight(&self) -> u64 {
        self.work.in_flight.load(Ordering::Acquire)
    }

    /// Drains, then stops every task. Returns whether all work had ended before the deadline.
    pub async fn finish(&self, clock: Clock, settings: DrainSettings) -> bool {
        self.drain();
        let idle = self.idle(clock, settings);
        let clean = idle.await;
        self.ended.cancel();
        self.tracker.close();
        self.tracker.wait().await;
        clean
    }

    /// Stops every task now: a second signal.
    pub fn end(&self) {
        self.draining.cancel();
        self.ended.cancel();
    }

    async fn idle(&self, clock: Clock, settings: DrainSettings) -> bool {
        let begin = clock.now();
        let deadline = begin + settings.deadline;
        let mut quiet_since = begin;
        let mut begun = self.work.begun.load(Ordering::Acquire);
        let mut was_busy = false;
        loop {
            let now = clock.now();
            let seen = self.work.begun.load(Ordering::Acquire);
            let busy = self.in_flight() > 0;
            if busy || seen != begun {
                quiet_since = now;
                begun = seen;
            }
            if !busy && quiet_since.until(now) >= settings.linger {
                return true;
            }
            if now >= deadline || self.ended.is_cancelled() {
                // What was ended just now is not in flight any more, but it was not done either.
                return !(busy || was_busy && self.ended.is_cancelled());
            }
            was_busy = busy;
            // Polled: a notification per request would cost the hot path what only the last second needs.
            tokio::select! {
                () = clock.sleep(Duration::from_millis(10)) => {}
                () = self.ended.cancelled() => {}
            }
        }
    }
}

/// Work in flight until dropped.
#[derive(Debug)]
pub struct InFlight {
    work: Arc<Work>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.work.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Lets hyper spawn its HTTP/2 streams through [`Tasks`].
impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, task: F) {
        self.spawn(async move {
            task.await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(linger: u64, deadline: u64) -> DrainSettings {
        DrainSettings { linger: Duration::from_secs(linger), deadline: Duration::from_secs(deadline) }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_sidecar_ends_after_the_linger() {
        let (tasks, clock) = (Tasks::new(), Clock::virtual_time());
        let begin = clock.now();
        assert!(tasks.finish(clock, settings(2, 25)).await);
        assert_eq!(begin.until(clock.now()).as_secs(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_comes_during_the_drain_is_awaited() {
        let (tasks, clock) = (Tasks::new(), Clock::virtual_time());
        let worker = tasks.clone();
        tasks.spawn(async move {
            clock.sleep(Duration::from_millis(1500)).await;
            let _guard = worker.begin();
            clock.sleep(Duration::from_secs(5)).await;
        });
        let begin = clock.now();
        assert!(tasks.finish(clock, settings(2, 25)).await);
        let took = begin.until(clock.now()).as_millis();
        assert!((8_500..8_600).contains(&took), "{took} ms");
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_takes_nothing_with_it() {
        let (tasks, clock) = (Tasks::new(), Clock::virtual_time());
        let (told, mut hears) = tokio::sync::mpsc::channel(1);
        tasks.spawn(async move {
            clock.sleep(Duration::from_secs(1)).await;
            let _ = told.send(()).await;
        });
        for _ in 0..100 {
            let guard = tasks.begin();
            tasks.spawn(async move {
                let _guard = guard;
                panic!("as a parser might");
            });
        }
        assert!(hears.recv().await.is_some(), "another task ended with it");
        assert_eq!(tasks.in_flight(), 0, "work of a panicked task stays in flight for ever");
        assert!(tasks.finish(clock, settings(1, 25)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_cuts_work_that_does_not_end() {
        let (tasks, clock) = (Tasks::new(), Clock::virtual_time());
        let worker = tasks.clone();
        tasks.spawn(async move {
            let _guard = worker.begin();
            std::future::pending::<()>().await;
        });
        tokio::task::yield_now().await;
        let begin = clock.now();
        assert!(!tasks.finish(clock, settings(1, 3)).await);
        assert_eq!(begin.until(clock.now()).as_secs(), 3);
    }
}
