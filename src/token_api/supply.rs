//! The token for one question, and never one with less to live than the entry says.

use std::{sync::Arc, time::Duration};

use super::{
    answer::{Handout, SHORT_LIVED},
    entry::Entry,
};
use crate::{
    clock::{Clock, Wall},
    credential::{Parameters, Want},
    token::{Bearer, Handle, Tokens, Unavailable},
};

/// Where the tokens of all entries come from.
#[derive(Clone, Debug)]
pub(super) struct Supply {
    pub(super) tokens: Tokens,
    pub(super) clock: Clock,
}

impl Supply {
    /// The reader of the one token of an entry without parameters.
    pub(super) fn handle(&self, entry: &Entry) -> Option<Handle> {
        self.tokens.handle(&entry.credential, &entry.want)
    }

    /// A token with at least the entry's `minLife` to live.
    ///
    /// One that depends on parameters is kept or signed on the spot. Any other is kept fresh ahead of time, so that it has
    /// more than that as a rule. Where it has not, a JWT is signed anew; for an exchanged one the endpoint is asked once
    /// more, at most every 30 s, and if that brings nothing there is none: a client that counts on what is left would
    /// find less than it was promised.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn token(&self, entry: &Entry, parameters: &Parameters) -> Result<Arc<Bearer>, Unavailable> {
        if !entry.parameters.is_empty() {
            return self.signed(entry, parameters);
        }
        let Some(handle) = self.handle(entry) else {
            return Err(none(5, "removed", "the credential was removed from the configuration"));
        };
        let token = handle.wait(WAIT).await?;
        if self.lives(entry, &token) {
            return Ok(token);
        }
        if let Want::Jwt(parameters) = &entry.want {
            return self.signed(entry, parameters);
        }
        let next = handle.renewed(token.generation, WAIT).await;
        next.filter(|token| self.lives(entry, token)).ok_or_else(short_lived)
    }

    fn signed(&self, entry: &Entry, parameters: &Parameters) -> Result<Arc<Bearer>, Unavailable> {
        let token = self.tokens.signed(&entry.credential, parameters, entry.min_life)?;
        if self.lives(entry, &token) { Ok(token) } else { Err(short_lived()) }
    }

    fn lives(&self, entry: &Entry, token: &Bearer) -> bool {
        self.clock.now().until(token.expires) >= entry.min_life
    }

    /// What is known about a token, to be written down.
    pub(super) fn handout<'a>(&self, token: &'a Bearer) -> Handout<'a> {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        let issued = Wall((wall.0 + now.until(token.issued)).saturating_sub(token.issued.until(now)));
        let left = now.until(token.expires);
        // Only what is fit for a header becomes a token, and only visible ASCII is.
        let text = token.bare.to_str().unwrap_or_default();
        Handout::new(text, issued, Wall(wall.0 + left), left.as_secs())
    }
}

fn short_lived() -> Unavailable {
    none(5, SHORT_LIVED, "the token in hand has less to live than minLife, and there is no newer one")
}

fn none(retry_after_seconds: u64, reason: &'static str, message: &str) -> Unavailable {
    Unavailable { retry_after_seconds, reason, message: message.to_owned() }
}

const WAIT: Duration = Duration::from_secs(10);
