//! The door: one question, one answer. It serves what the newest configuration lists, and nothing else exists.

use std::{net::SocketAddr, sync::Arc};

use http::Request;
use tokio::sync::watch;

use super::{
    HEADER,
    answer::{self, Answer, Refusal},
    entry::{self, Entry},
    supply::Supply,
};
use crate::{
    clock::Clock,
    metrics::Metrics,
    net::guard::{self, Head},
    token::Tokens,
};

/// The door. One for each sidecar, shared by its connections.
#[derive(Debug)]
pub struct Door {
    listen: SocketAddr,
    entries: watch::Receiver<Arc<Vec<Entry>>>,
    supply: Supply,
    metrics: Arc<Metrics>,
}

impl Door {
    /// A door at `listen` to the newest of `entries`.
    pub fn new(
        listen: SocketAddr,
        entries: watch::Receiver<Arc<Vec<Entry>>>,
        tokens: Tokens,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { listen, entries, supply: Supply { tokens, clock }, metrics }
    }

    /// Answers one request. The body is never read.
    pub async fn handle<B>(&self, request: Request<B>) -> Answer {
        let (parts, _) = request.into_parts();
        let head = Head { method: &parts.method, uri: &parts.uri, version: parts.version, headers: &parts.headers };
        match self.answer(head).await {
            Ok(answer) => answer,
            Err(refusal) => {
                self.refused(refusal.label());
                refusal.into()
            }
        }
    }

    async fn answer(&self, head: Head<'_>) -> Result<Answer, Refusal> {
        guard::check(head, self.listen, &[])?;
        is_meant(head)?;
        let entries = self.entries.borrow().clone();
        let (entry, in_path) = entry::find(&entries, head.uri.path()).ok_or(Refusal::UnknownPath)?;
        let question = entry::question(entry, &in_path, head.uri.query().unwrap_or_default())?;
        Ok(match self.supply.token(entry, &question.parameters).await {
            Ok(token) => {
                let handout = self.supply.handout(&token);
                self.metrics.tokens_handed_out.with_label_values(&[&entry.name]).inc();
                let life_seconds = handout.left_seconds;
                tracing::info!(entry = entry.name, credential = %entry.credential, life_seconds, "token handed out");
                handout.answer(question.format, &entry.json)
            }
            Err(unavailable) => {
                self.refused(unavailable.reason);
                answer::unavailable(&unavailable)
            }
        })
    }

    fn refused(&self, reason: &'static str) {
        self.metrics.requests_refused.with_label_values(&[reason]).inc();
        tracing::warn!(reason, "no token handed out");
    }
}

/// Either header will do: that of a metadata server is what SDKs and their users have at hand.
fn is_meant(head: Head<'_>) -> Result<(), Refusal> {
    let own = guard::once(head.headers, HEADER)?;
    let flavor = guard::once(head.headers, "metadata-flavor")?;
    if own == Some("true") || flavor == Some("Google") { Ok(()) } else { Err(Refusal::Header) }
}
