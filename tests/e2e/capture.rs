//! What was logged and how often something panicked, per test.
//!
//! A test is one thread with one runtime on it, so that its log is the thread's. What other threads log (the pool
//! that reads files) goes into one common place that every test searches.

use std::{
    cell::{Cell, RefCell},
    io,
    sync::{Mutex, Once, PoisonError},
};

use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

thread_local! {
    static OWN: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

static COMMON: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Starts to capture in this thread; the first call starts it for the process.
pub(crate) fn begin() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        // Our own lines only, as `telemetry` has it: the fake Google shares the process, and what its HTTP library
        // says at TRACE is not ours to answer for.
        let ours = Targets::new().with_target("bearerd", tracing::Level::TRACE);
        tracing_subscriber::registry().with(ours).with(tracing_subscriber::fmt::layer().with_writer(|| Line)).init();
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let _ = PANICS.try_with(|panics| panics.set(panics.get() + 1));
            usual(panic);
        }));
    });
    OWN.with_borrow_mut(|log| {
        log.get_or_insert_default();
    });
}

/// All that was logged so far by this test.
pub(crate) fn log() -> String {
    let mut all = OWN.with_borrow(|own| own.clone().unwrap_or_default());
    all.extend_from_slice(&COMMON.lock().unwrap_or_else(PoisonError::into_inner));
    String::from_utf8_lossy(&all).into_owned()
}

/// How many bytes that is.
pub(crate) fn length() -> usize {
    let common = COMMON.lock().unwrap_or_else(PoisonError::into_inner).len();
    OWN.with_borrow(|own| own.as_ref().map_or(0, Vec::len)) + common
}

/// Panics in this thread.
pub(crate) fn panics() -> u32 {
    PANICS.get()
}

struct Line;

impl io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let own = OWN.try_with(|log| {
            let mut log = log.borrow_mut();
            log.as_mut().map(|log| append(log, bytes)).is_some()
        });
        if !own.unwrap_or(false) {
            append(&mut COMMON.lock().unwrap_or_else(PoisonError::into_inner), bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn append(log: &mut Vec<u8>, bytes: &[u8]) {
    assert!(log.len() + bytes.len() <= MOST, "a test logs more than is kept");
    log.extend_from_slice(bytes);
}

const MOST: usize = 64 << 20;
