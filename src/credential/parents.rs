//! What credentials that are derived from others ask of these.

use super::{BoxFuture, CredentialName, FetchError, Token};

/// Gives the access tokens of other credentials, to those that are derived from them.
pub trait Parents: Send + Sync {
    /// The token of the credential called `name`, with what is left of its life.
    fn access(&self, name: &CredentialName) -> BoxFuture<'_, Result<Token, FetchError>>;

    /// Google would not have that one: the next, if there is one soon.
    fn another(&self, _: &CredentialName) -> BoxFuture<'_, Option<Token>> {
        Box::pin(async { None })
    }

    /// How often the tokens of `name` have become another identity's; none where there is no such credential.
    fn lineage(&self, _: &CredentialName) -> Option<u64> {
        None
    }

    /// Completes when that is another number than `since`: what was made of its tokens is the old identity's.
    fn switched(&self, _: &CredentialName, _since: u64) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    /// Completes as soon as `name` has a token: who failed for want of one need not wait any longer.
    fn arrival(&self, _: &CredentialName) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
}
