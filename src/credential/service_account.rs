//! A service-account key and what is asked for with it.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{Class, Exchange, FetchError, Key, Reason, Token, TokenEndpoint, answer, jwt};
use crate::secret::Secret;

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

    /// Exchanges a fresh assertion for an access token. In another universe than Google's own there is no such
    /// exchange, and self-signed tokens take its place.
    pub(super) async fn access_token(&self, exchange: &Exchange) -> Result<Token, FetchError> {
        if self.key.universe().is_some() {
            return self.self_signed(exchange);
        }
        let sign = |now| self.assertion(jwt::Asked::Scope(&self.scope), now);
        exchange.trade(TokenEndpoint::GOOGLE, sign, |answer, sent, _| answer::token(answer, sent)).await
    }

    /// Exchanges a fresh assertion for an ID token (OpenID Connect) for `audience`.
    pub(super) async fn id_token(&self, audience: &str, exchange: &Exchange) -> Result<Token, FetchError> {
        if self.key.universe().is_some() {
            let message = "ID tokens are not to be had in another universe than googleapis.com";
            return Err(FetchError::new(Class::Configuration, Reason::InvalidRequest, message));
        }
        let sign = |now| self.assertion(jwt::Asked::TargetAudience(audience), now);
        exchange.trade(TokenEndpoint::GOOGLE, sign, answer::id_token).await
    }

    /// Signs a token that needs no exchange (AIP-4111).
    pub(super) fn self_signed(&self, exchange: &Exchange) -> Result<Token, FetchError> {
        let (sent, wall) = (exchange.clock.now(), exchange.clock.wall());
        let now = exchange.skew.server_seconds(wall);
        let claims = jwt::SelfSigned::new(self.key.client_email(), &self.scope, now);
        let secret = self.signed(&claims)?;
        let lifetime = jwt::left(Duration::from_secs(jwt::LIFE_SECONDS), wall);
        Ok(Token { secret, sent, lifetime })
    }

    /// Signs any bytes by RSASSA-PKCS1-v1_5 with SHA-256, as `signBlob` does.
    pub(super) fn sign_blob(&self, blob: &[u8]) -> Option<Vec<u8>> {
        let signature = self.key.signing().sign(blob).ok()?;
        URL_SAFE_NO_PAD.decode(signature).ok()
    }

    fn assertion(&self, asked: jwt::Asked<'_>, now: u64) -> Result<Secret, FetchError> {
        // An ID token is the account's own, whoever it acts for.
        let subject = self.subject.as_deref().filter(|_| matches!(asked, jwt::Asked::Scope(_)));
        let (account, endpoint) = (self.key.client_email(), TokenEndpoint::GOOGLE);
        self.signed(&jwt::Assertion::new(account, subject, asked, endpoint.url, now))
    }

    fn signed(&self, claims: &impl serde::Serialize) -> Result<Secret, FetchError> {
        jwt::sign(self.key.key_id(), claims, self.key.signing())
            .map_err(|error| FetchError::new(Class::Key, Reason::Signing, error.to_string()))
    }
}
