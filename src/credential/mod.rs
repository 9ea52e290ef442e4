//! What can make a token: key files, assertions and the exchange with Google's token endpoint.
//!
//! Refuses to know when a token is needed, how long one is kept, and where it goes: no cache, no watched
//! files, no policy. Called by `token`, which keeps tokens fresh, and by the commands that mint one.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use crate::{clock::Moment, secret::Secret};

pub mod answer;
pub mod endpoint;
pub mod error;
pub mod jwt;
pub mod key;
mod pem;
pub mod service_account;
pub mod skew;

pub use endpoint::{Answer, BoxFuture, Exchange, Post, PostError, PostFailure, TokenEndpoint};
pub use error::{Class, FetchError, Reason};
pub use key::{Key, KeyError, KeyReason};
pub use service_account::ServiceAccount;

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
    pub fn path(&self) -> &PathBuf {
        match &self.kind {
            Kind::ServiceAccountKey { path, .. } => path,
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
    },
}

/// Which token is wanted from a credential.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Want {
    /// An OAuth access token for the scopes of the credential.
    Access,
}

impl Want {
    /// A fixed word for logs and the status page.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Access => "access",
        }
    }
}

/// A loaded credential, ready to make tokens.
#[derive(Debug)]
pub enum Source {
    /// A service-account key.
    ServiceAccount(ServiceAccount),
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
        }
    }

    /// The public id of the key, where it has one.
    pub fn key_id(&self) -> Option<&str> {
        match self {
            Self::ServiceAccount(account) => account.key().key_id(),
        }
    }

    /// The e-mail address of the account.
    pub fn account(&self) -> &str {
        match self {
            Self::ServiceAccount(account) => account.key().client_email(),
        }
    }

    /// The project that the account belongs to, where the file tells.
    pub fn project(&self) -> Option<&str> {
        match self {
            Self::ServiceAccount(account) => account.key().project(),
        }
    }

    /// Whether both would sign alike: then one replaces the other without an exchange.
    pub fn same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::ServiceAccount(one), Self::ServiceAccount(two)) => one == two,
        }
    }
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
