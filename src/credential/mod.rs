//! What can make a token: key files, assertions and the exchange with Google's token endpoint.
//!
//! Refuses to know when a token is needed, how long one is kept, and where it goes: no cache, no watched
//! files, no policy. Called by `token`, which keeps tokens fresh, and by the commands that mint one.

use std::{fmt, path::Path, path::PathBuf, sync::Arc, time::Duration};

use crate::{clock::Moment, secret::Secret};

pub mod answer;
mod authorized_user;
mod confided;
pub mod endpoint;
pub mod error;
mod external_account;
mod fields;
mod impersonation;
pub mod jwt;
pub mod key;
mod metadata_server;
mod parameters;
mod parents;
mod pem;
pub mod service_account;
mod signed_jwt;
pub mod skew;
mod source;
mod sts;
pub mod template;

pub use authorized_user::AuthorizedUser;
pub use endpoint::{
    Answer, ApiHost, BoxFuture, Exchange, Get, Post, PostError, PostFailure, Request, RequestBody, TokenEndpoint,
};
pub use error::{Class, FetchError, Reason};
pub use external_account::ExternalAccount;
pub use impersonation::{Impersonated, is_service_account};
pub use key::{Key, KeyError, KeyReason};
pub use metadata_server::MetadataServer;
pub use parameters::{ParameterError, Parameters};
pub use parents::Parents;
pub use service_account::ServiceAccount;
pub use signed_jwt::SignedJwt;
pub use source::{Realm, Source};
pub use sts::Rule;
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
    /// The file or directory that holds it, where one does.
    pub fn path(&self) -> Option<&Path> {
        match &self.kind {
            Kind::ServiceAccountKey { path, .. }
            | Kind::SignedJwt { path, .. }
            | Kind::ExternalAccount { path, .. }
            | Kind::AuthorizedUser { path, .. } => Some(path),
            Kind::Impersonation { .. } | Kind::MetadataServer { .. } | Kind::Downscoped { .. } => None,
        }
    }

    /// Whether tokens of one are those of the other: what its routes may have signed besides changes none.
    pub fn makes_the_same_tokens(&self, other: &Self) -> bool {
        let bare = |spec: &Self| {
            let mut spec = spec.clone();
            if let Kind::ServiceAccountKey { signs_urls, .. } = &mut spec.kind {
                *signs_urls = false;
            }
            spec
        };
        bare(self) == bare(other)
    }

    /// Reads the content of one file.
    ///
    /// # Errors
    ///
    /// Says which rule the file breaks, without quoting its content.
    pub fn load(&self, content: &Secret) -> Result<Source, KeyError> {
        let content = content.expose();
        Ok(match &self.kind {
            Kind::ServiceAccountKey { scopes, subject, .. } => {
                let key = Key::parse(content)?;
                Source::ServiceAccount(ServiceAccount::new(key, scopes, subject.as_deref()))
            }
            Kind::SignedJwt { template, .. } => Source::SignedJwt(SignedJwt::load(content, template)?),
            Kind::ExternalAccount { scopes, account, .. } => {
                Source::ExternalAccount(ExternalAccount::load(content, scopes, account.as_deref())?)
            }
            Kind::AuthorizedUser { scopes, .. } => Source::AuthorizedUser(AuthorizedUser::load(content, scopes)?),
            Kind::Impersonation { .. } | Kind::MetadataServer { .. } | Kind::Downscoped { .. } => {
                return Err(KeyError::new(KeyReason::WrongType, "this kind of credential has no file"));
            }
        })
    }

    /// What makes its tokens, where no file is needed for that.
    pub fn without_file(&self) -> Option<Source> {
        match &self.kind {
            Kind::Impersonation { source, impersonated } => {
                Some(Source::Impersonation { source: source.clone(), impersonated: impersonated.clone() })
            }
            Kind::MetadataServer { scopes } => Some(Source::MetadataServer(MetadataServer::new(scopes))),
            Kind::Downscoped { source, rules } => {
                Some(Source::Downscoped { source: source.clone(), rules: rules.clone() })
            }
            _ => None,
        }
    }

    /// The token that is kept ready from the start; none where each one depends on who asks.
    pub fn first_want(&self) -> Option<Want> {
        match &self.kind {
            Kind::SignedJwt { template, .. } => template.parameters().is_empty().then(|| Want::Jwt(Parameters::none())),
            _ => Some(Want::Access),
        }
    }

    /// The names of the parameters without which there is no token.
    pub fn parameters(&self) -> Vec<String> {
        match &self.kind {
            Kind::SignedJwt { template, .. } => template.parameters(),
            _ => Vec::new(),
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
    /// Somebody else's token, exchanged by workload identity federation (AIP-4117).
    ExternalAccount {
        /// Google's `external_account` JSON.
        path: PathBuf,
        /// Full scope URLs.
        scopes: Vec<String>,
        /// The account to impersonate, in place of the file's.
        account: Option<String>,
    },
    /// An account that another credential may impersonate.
    Impersonation {
        /// The credential that may.
        source: CredentialName,
        /// Whom, and how.
        impersonated: Impersonated,
    },
    /// The real metadata server, on Google's own machines.
    MetadataServer {
        /// Full scope URLs.
        scopes: Vec<String>,
    },
    /// A person's own credential, of gcloud's making.
    AuthorizedUser {
        /// The file.
        path: PathBuf,
        /// Full scope URLs; empty = what the person agreed to.
        scopes: Vec<String>,
    },
    /// Another credential's token, made to do less (a credential access boundary).
    Downscoped {
        /// The other credential.
        source: CredentialName,
        /// What is left.
        rules: Vec<Rule>,
    },
}

impl Kind {
    /// As written in configuration.
    pub fn label(&self) -> &'static str {
        match self {
            Self::ServiceAccountKey { .. } => "serviceAccountKey",
            Self::SignedJwt { .. } => "signedJwt",
            Self::ExternalAccount { .. } => "externalAccount",
            Self::Impersonation { .. } => "impersonation",
            Self::MetadataServer { .. } => "metadataServer",
            Self::AuthorizedUser { .. } => "authorizedUser",
            Self::Downscoped { .. } => "downscoped",
        }
    }

    /// Full scope URLs, where it has scopes.
    pub fn scopes(&self) -> &[String] {
        match self {
            Self::ServiceAccountKey { scopes, .. }
            | Self::ExternalAccount { scopes, .. }
            | Self::MetadataServer { scopes }
            | Self::AuthorizedUser { scopes, .. } => scopes,
            Self::Impersonation { impersonated, .. } => &impersonated.scopes,
            Self::SignedJwt { .. } | Self::Downscoped { .. } => &[],
        }
    }

    /// The same, to be changed.
    pub fn scopes_mut(&mut self) -> Option<&mut Vec<String>> {
        match self {
            Self::ServiceAccountKey { scopes, .. }
            | Self::ExternalAccount { scopes, .. }
            | Self::MetadataServer { scopes }
            | Self::AuthorizedUser { scopes, .. } => Some(scopes),
            Self::Impersonation { impersonated, .. } => Some(&mut impersonated.scopes),
            Self::SignedJwt { .. } | Self::Downscoped { .. } => None,
        }
    }

    /// The credential that it is derived from, where it is.
    pub fn source(&self) -> Option<&CredentialName> {
        match self {
            Self::Impersonation { source, .. } | Self::Downscoped { source, .. } => Some(source),
            _ => None,
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
