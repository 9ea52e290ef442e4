//! The process itself: limits, what others may see of it, the runtime, signals, panics.

use std::{io, panic, time::Duration};

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
};

use crate::metrics;

/// Closes the process to other eyes: not dumpable, so that `/proc/self/mem` and `environ` belong to root, and no core
/// file is written. A command that we start is as usual again.
pub(super) fn close_to_others() {
    if set_dumpable_behavior(DumpableBehavior::NotDumpable).is_err() {
        tracing::warn!("the process could not be closed to debuggers");
    }
}

/// Raises the number of open files to what is allowed, and closes the process to other eyes for good.
pub(super) fn harden() {
    let files = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files }) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "the limit of core files stays as it is");
    }
    close_to_others();
}

/// One thread by default: a sidecar's load fits, and memory is a third.
pub(super) fn runtime(workers: usize) -> io::Result<Runtime> {
    let mut builder = if workers > 1 { Builder::new_multi_thread() } else { Builder::new_current_thread() };
    if workers > 1 {
        builder.worker_threads(workers);
    }
    builder.enable_all().max_blocking_threads(MOST_BLOCKING).thread_keep_alive(Duration::from_secs(5)).build()
}

/// A panic says where, never what: its payload could hold anything.
pub(super) fn report_panics() {
    panic::set_hook(Box::new(|info| {
        metrics::count_panic();
        let place = info.location().map_or_else(String::new, ToString::to_string);
        tracing::error!(place, "panic: one connection or one refresh is lost");
    }));
}

/// The signals that end a sidecar.
pub(super) struct Ending {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Ending {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.hangup.recv() => HANGUP,
        }
    }
}

/// What [`Ending::next`] calls it.
pub(super) const HANGUP: &str = "SIGHUP";

const MOST_BLOCKING: usize = 4;
