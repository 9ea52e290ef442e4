//! What credentials know of each other: those that are derived from others get these' tokens.

use std::{sync::Weak, time::Duration};

use super::{Inner, Tokens, bearer::Bearer, slot::Handle};
use crate::{
    credential::{BoxFuture, CredentialName, FetchError, Parents, Reason, Token, Want},
    secret::Secret,
};

/// Gives derived credentials the tokens of those that they are derived from.
pub(super) struct Siblings(Weak<Inner>);

impl Siblings {
    pub(super) fn new(inner: Weak<Inner>) -> Self {
        Self(inner)
    }

    fn handle(&self, name: &CredentialName) -> Option<Handle> {
        Tokens { inner: self.0.upgrade()? }.handle(name, &Want::Access)
    }
}

impl Parents for Siblings {
    fn access(&self, name: &CredentialName) -> BoxFuture<'_, Result<Token, FetchError>> {
        let (handle, name) = (self.handle(name), name.clone());
        Box::pin(async move {
            let none = |why: &str| {
                FetchError::transient(Reason::NoSource, format!("the credential '{name}' has no token: {why}"))
            };
            let handle = handle.ok_or_else(|| none("it was removed from the configuration"))?;
            let bearer = handle.wait(WAIT_FOR_PARENT).await.map_err(|unavailable| none(&unavailable.message))?;
            Ok(as_token(&bearer))
        })
    }

    fn another(&self, name: &CredentialName) -> BoxFuture<'_, Option<Token>> {
        let handle = self.handle(name);
        Box::pin(async move {
            let handle = handle?;
            let refused = handle.current()?.generation;
            handle.renewed(refused, WAIT_FOR_PARENT).await.map(|bearer| as_token(&bearer))
        })
    }

    fn lineage(&self, name: &CredentialName) -> Option<u64> {
        self.handle(name).map(|handle| handle.lineage())
    }

    fn switched(&self, name: &CredentialName, since: u64) -> BoxFuture<'_, ()> {
        let handle = self.handle(name);
        Box::pin(async move {
            match handle {
                Some(handle) => handle.switched(since).await,
                // Whoever puts it back restarts what is derived from it.
                None => std::future::pending().await,
            }
        })
    }

    fn arrival(&self, name: &CredentialName) -> BoxFuture<'_, ()> {
        let handle = self.handle(name);
        Box::pin(async move {
            match handle {
                Some(handle) => drop(handle.newer_than(0).await),
                // Whoever puts it back restarts what is derived from it.
                None => std::future::pending().await,
            }
        })
    }
}

fn as_token(bearer: &Bearer) -> Token {
    let secret = Secret::new(bearer.bare.as_bytes());
    Token { secret, sent: bearer.issued, lifetime: bearer.issued.until(bearer.expires) }
}

/// Less than an exchange takes at most, so that both fit into a request's patience.
const WAIT_FOR_PARENT: Duration = Duration::from_secs(5);
