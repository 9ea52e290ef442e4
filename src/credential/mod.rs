//! What can make a token: key files, assertions and the exchange with Google's token endpoint.
//!
//! Refuses to know when a token is needed, how long one is kept, and where it goes: no cache, no watched
//! files, no policy. Called by `token`, which keeps tokens fresh, and by the commands that mint one.

use std::{fmt, path::Path, path::PathBuf, sync::Arc, time::Duration};

use crate::{clock::Moment, secret::Secret};

pub mod answer;
pub mod endpoint;
pub mod error;
pub mod jwt;
pub mod key;
mod parameters;
mod pem;
pub mod service_account;
mod signed_jwt;
pub mod skew;
pub mod template;

pub use endpoint::{Answer, BoxFuture, Exchange, Post, PostError, PostFailure, TokenEndpoint};
pub use error::{Class, FetchError, Reason};
pub use key::{Key, KeyError, KeyReason};
pub use parameters::{ParameterError, Parameters};
pub use service_account::ServiceAccount;
pub use signed_jwt::SignedJwt;
pub use template::{Preset, Template};

/// The name of a credential, as the configuration gives it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CredentialName(Arc<str>);

impl CredentialName {
    /// Takes any name: `config` decides which names may be given.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for CredentialName {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl fmt::Display for CredentialName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One configured credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// What routes call it.
    pub name: CredentialName,
    /// What it is made of.
    pub kind: Kind,
}

impl Spec {
    /// The file or directory that holds it.
    pub fn path(&self) -> &Path {
        match &self.kind {
            Kind::ServiceAccountKey { path, .. } | Kind::SignedJwt { path, .. } => path,
        }
    }

    /// Reads the content of one file.
    ///
    /// # Errors
    ///
    /// Says which rule the file breaks, without quoting its content.
    pub fn load(&self, content: &Secret) -> Result<Source, KeyError> {
        match &self.kind {
            Kind::ServiceAccountKey { scopes, subject, .. } => {
                let key = Key::parse(content.expose())?;
                Ok(Source::ServiceAccount(ServiceAccount::new(key, scopes, subject.as_deref())))
            }
            Kind::SignedJwt { template, .. } => Ok(Source::SignedJwt(SignedJwt::load(content.expose(), template)?)),
        }
    }

    /// The token that is kept ready from the start; none where each one depends on who asks.
    pub fn first_want(&self) -> Option<Want> {
        match &self.kind {
            Kind::ServiceAccountKey { .. } => Some(Want::Access),
            Kind::SignedJwt { template, .. } => template.parameters().is_empty().then(|| Want::Jwt(Parameters::none())),
        }
    }

    /// The names of the parameters without which there is no token.
    pub fn parameters(&self) -> Vec<String> {
        match &self.kind {
            Kind::ServiceAccountKey { .. } => Vec::new(),
            Kind::SignedJwt { template, .. } => template.parameters(),
        }
    }
}

/// The kinds of credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A service-account key, exchanged for access tokens (RFC 7523).
    ServiceAccountKey {
        /// A key file, or a directory of them.
        path: PathBuf,
        /// Full scope URLs: see [`expand_scope`].
        scopes: Vec<String>,
        /// The Workspace user to act for (domain-wide delegation).
        subject: Option<String>,
        /// Whether it signs URLs for whoever may use it (`signBlob: signedUrl`).
        signs_urls: bool,
    },
    /// A private key whose JWTs are the tokens.
    SignedJwt {
        /// A key file (service-account JSON or PEM), or a directory of them.
        path: PathBuf,
        /// What they say.
        template: Template,
    },
}

impl Kind {
    /// As written in configuration.
    pub fn label(&self) -> &'static str {
        match self {
            Self::ServiceAccountKey { .. } => "serviceAccountKey",
            Self::SignedJwt { .. } => "signedJwt",
        }
    }

    /// Full scope URLs, where it has scopes.
    pub fn scopes(&self) -> &[String] {
        match self {
            Self::ServiceAccountKey { scopes, .. } => scopes,
            Self::SignedJwt { .. } => &[],
        }
    }
}

/// Which token is wanted from a credential.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Want {
    /// An OAuth access token for the scopes of the credential.
    Access,
    /// A JWT that the account signs itself, in place of an access token (AIP-4111).
    SelfSigned,
    /// An ID token (OpenID Connect) for this audience.
    Id(Arc<str>),
    /// A JWT of the credential's template.
    Jwt(Parameters),
}

impl Want {
    /// A fixed word for logs and the status page.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::SelfSigned => "self_signed",
            Self::Id(_) => "id",
            Self::Jwt(_) => "jwt",
        }
    }

    /// Whether it is what the credential is for, so that gauges and readiness speak of it.
    pub fn is_main(&self) -> bool {
        match self {
            Self::Access => true,
            Self::SelfSigned | Self::Id(_) => false,
            Self::Jwt(parameters) => parameters.is_empty(),
        }
    }
}

/// A loaded credential, ready to make tokens.
#[derive(Debug, PartialEq, Eq)]
pub enum Source {
    /// A service-account key.
    ServiceAccount(ServiceAccount),
    /// A key that signs JWTs.
    SignedJwt(SignedJwt),
}

impl Source {
    /// Makes a token.
    ///
    /// # Errors
    ///
    /// A [`FetchError`], whose class says what the caller should do next.
    pub async fn fetch(&self, want: &Want, exchange: &Exchange) -> Result<Token, FetchError> {
        match (self, want) {
            (Self::ServiceAccount(account), Want::Access) => account.access_token(exchange).await,
            (Self::ServiceAccount(account), Want::SelfSigned) => account.self_signed(exchange),
            (Self::ServiceAccount(account), Want::Id(audience)) => account.id_token(audience, exchange).await,
            (Self::SignedJwt(signer), Want::Jwt(parameters)) => signer.token(parameters, exchange),
            _ => Err(not_of_this_kind(want)),
        }
    }

    /// Signs a JWT on the spot, where this is a key that does.
    ///
    /// # Errors
    ///
    /// When it is none, or its numbers do not fit together.
    pub fn sign(&self, parameters: &Parameters, exchange: &Exchange) -> Result<Token, FetchError> {
        match self {
            Self::SignedJwt(signer) => signer.token(parameters, exchange),
            Self::ServiceAccount(_) => Err(not_of_this_kind(&Want::Jwt(Parameters::none()))),
        }
    }

    /// Signs any bytes, where this is a service account's key. Whoever calls has judged what they are.
    pub fn sign_blob(&self, blob: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::ServiceAccount(account) => account.sign_blob(blob),
            Self::SignedJwt(_) => None,
        }
    }

    /// The public id of the key, where it has one.
    pub fn key_id(&self) -> Option<&str> {
        match self {
            Self::ServiceAccount(account) => account.key().key_id(),
            Self::SignedJwt(signer) => signer.key_id(),
        }
    }

    /// The e-mail address of the account, where there is one.
    pub fn account(&self) -> Option<&str> {
        match self {
            Self::ServiceAccount(account) => Some(account.key().client_email()),
            Self::SignedJwt(signer) => signer.account(),
        }
    }

    /// The project that the account belongs to, where the file tells.
    pub fn project(&self) -> Option<&str> {
        match self {
            Self::ServiceAccount(account) => account.key().project(),
            Self::SignedJwt(signer) => signer.project(),
        }
    }

    /// Whether both would sign alike: then one replaces the other without an exchange.
    pub fn same_as(&self, other: &Self) -> bool {
        self == other
    }
}

/// `config` lets no such want through.
fn not_of_this_kind(want: &Want) -> FetchError {
    let message = format!("this kind of credential gives no {} token", want.label());
    FetchError::new(Class::Configuration, Reason::InvalidRequest, message)
}

/// A token as the endpoint gave it.
#[derive(Clone, Debug)]
pub struct Token {
    /// The token itself: checked to be safe in a header.
    pub secret: Secret,
    /// When the request for it was sent, which is when its life began at the latest.
    pub sent: Moment,
    /// How long it lives from `sent`.
    pub lifetime: Duration,
}

impl Token {
    /// The end of its life, on the clock that counts suspended time.
    pub fn expires(&self) -> Moment {
        self.sent + self.lifetime
    }
}

/// A scope in full: short names stand for Google's own (`cloud-platform`), URLs and OpenID's three stay.
pub fn expand_scope(scope: &str) -> String {
    const OPENID: [&str; 3] = ["openid", "email", "profile"];
    if scope.contains("://") || OPENID.contains(&scope) {
        return scope.to_owned();
    }
    format!("https://www.googleapis.com/auth/{scope}")
}

#[cfg(test)]
pub(crate) mod samples;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_scopes_are_expanded_and_full_ones_kept() {
        for (scope, full) in [
            ("cloud-platform", "https://www.googleapis.com/auth/cloud-platform"),
            ("devstorage.read_only", "https://www.googleapis.com/auth/devstorage.read_only"),
            ("https://mail.google.com/", "https://mail.google.com/"),
            ("openid", "openid"),
        ] {
            assert_eq!(expand_scope(scope), full);
        }
    }
}
