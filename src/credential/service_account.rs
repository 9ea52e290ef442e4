//! A service-account key and what is asked for with it.

use super::{Class, Exchange, FetchError, Key, Reason, Token, TokenEndpoint, jwt};

/// A key with its scopes and, for domain-wide delegation, the user it acts for.
#[derive(Debug, PartialEq, Eq)]
pub struct ServiceAccount {
    key: Key,
    /// Space-separated, as the assertion carries them: the endpoint refuses commas.
    scope: String,
    subject: Option<String>,
}

impl ServiceAccount {
    /// An account that asks for `scopes`, given in full.
    pub fn new(key: Key, scopes: &[String], subject: Option<&str>) -> Self {
        let subject = subject.filter(|user| !user.is_empty()).map(ToOwned::to_owned);
        Self { key, scope: scopes.join(" "), subject }
    }

    /// The key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Exchanges a fresh assertion for an access token.
    pub(super) async fn access_token(&self, exchange: &Exchange) -> Result<Token, FetchError> {
        let endpoint = TokenEndpoint::GOOGLE;
        let sign = |now| {
            let subject = self.subject.as_deref();
            let claims = jwt::Assertion::new(self.key.client_email(), subject, &self.scope, endpoint.url, now);
            jwt::sign(self.key.key_id(), &claims, self.key.signing())
                .map_err(|error| FetchError::new(Class::Key, Reason::Signing, error.to_string()))
        };
        exchange.trade(endpoint, sign).await
    }
}
