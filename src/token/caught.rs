//! Runs a future and turns its panic into an error, so that a task outlives what it calls.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    task::{Context, Poll},
};

use crate::credential::{FetchError, Reason};

/// A future that panicked.
#[derive(Debug)]
pub(super) struct Panicked;

/// Runs `future`. What a panic leaves half-changed must be state that the caller can go on with.
pub(super) async fn caught<F: Future>(future: F) -> Result<F::Output, Panicked> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(move |context: &mut Context<'_>| {
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(_) => Poll::Ready(Err(Panicked)),
        }
    })
    .await
}

impl From<Panicked> for FetchError {
    fn from(Panicked: Panicked) -> Self {
        Self::transient(Reason::Panic, "the fetch failed inside the sidecar")
    }
}
