//! One route: which requests, and what happens to them.

use std::fmt;

use http::{HeaderName, Method, header};

use super::{HostPattern, target::RequestTarget};
use crate::authority::Host;

/// A route as configured. Settings plain enough to be printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its name, which is also a metric label.
    pub name: String,
    /// Which hosts.
    pub hosts: Vec<HostPattern>,
    /// Which methods; empty = all.
    pub methods: Vec<Method>,
    /// Which prefixes of the path; empty = all. End one in `/` to keep it to whole segments.
    pub paths: Vec<String>,
    /// What happens.
    pub action: Action,
    /// The name of the credential that an injecting route uses.
    pub credential: String,
    /// Which kind of token of it.
    pub token: TokenKind,
    /// The audience of an ID token; `None` = `https://` and the request's host.
    pub audience: Option<String>,
    /// What goes on while the token endpoint is down.
    pub fallback: Fallback,
    /// Where the token is written.
    pub header: HeaderName,
    /// What becomes of a credential that the client sent itself.
    pub client_authorization: ClientAuthorization,
    /// Whether requests for signatures under signed URLs are answered with the credential's key (`signBlob`).
    pub signs_urls: bool,
    /// Whether its hosts are an annotation's: what a name opens beside a wildcard is an administrator's to open.
    pub is_annotated: bool,
    /// Sent as `x-goog-user-project` where the client sent none.
    pub quota_project: QuotaProject,
}

/// Which project's quota a request counts against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum QuotaProject {
    /// That which the credential's file names (`quota_project_id`), as Google's libraries have it; none if it names none.
    #[default]
    OfCredential,
    /// Nothing is sent, and Google chooses.
    Unsaid,
    /// This one.
    Is(String),
}

/// What happens to a request that a route matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Our token goes on it.
    Inject,
    /// It goes out as it is, without a token.
    Pass,
    /// It is refused.
    Deny,
}

/// Which kind of token a route puts on requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// An OAuth access token.
    Access,
    /// A JWT that the account signs itself (AIP-4111), without any exchange.
    SelfSigned,
    /// An ID token (OpenID Connect), for Cloud Run, functions and IAP.
    Id,
    /// A JWT of the credential's own claims.
    Jwt,
}

/// What an injecting route does while the token endpoint is down and no valid token is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// Requests fail with 503.
    None,
    /// A self-signed JWT goes on in place of the access token, except to hosts that have refused one.
    SelfSigned,
}

/// What becomes of a credential that the client sent itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuthorization {
    /// Ours, whatever the client sent or did not send.
    Replace,
    /// The client's own wins alone; the placeholder counts as none.
    Keep,
    /// Ours only where the client sent this pod's placeholder.
    Require,
}

impl Route {
    /// The route of a sidecar that was told nothing: `*.googleapis.com` with the credential `default`.
    pub fn google_apis(hosts: Vec<HostPattern>) -> Self {
        Self {
            name: DEFAULT_ROUTE.to_owned(),
            hosts,
            methods: Vec::new(),
            paths: Vec::new(),
            action: Action::Inject,
            credential: DEFAULT_CREDENTIAL.to_owned(),
            token: TokenKind::Access,
            audience: None,
            fallback: Fallback::None,
            header: header::AUTHORIZATION,
            client_authorization: ClientAuthorization::Replace,
            is_annotated: false,
            signs_urls: false,
            quota_project: QuotaProject::default(),
        }
    }

    /// Whether the header carries `Bearer …`; every other one carries the bare token.
    pub fn bears(&self) -> bool {
        [header::AUTHORIZATION, header::PROXY_AUTHORIZATION].contains(&self.header)
            || self.header == X_SERVERLESS_AUTHORIZATION
    }

    /// Whether one of the hosts matches.
    pub fn has_host(&self, host: &Host) -> bool {
        self.hosts.iter().any(|pattern| pattern.matches(host))
    }

    /// Whether an administrator named a host here without wildcard.
    pub(super) fn names(&self, host: &Host) -> bool {
        !self.is_annotated && self.hosts.iter().any(|pattern| pattern.is_exact() && pattern.matches(host))
    }

    /// Whether method or path decide, so that a look inside is needed.
    pub fn looks_inside(&self) -> bool {
        !self.methods.is_empty() || !self.paths.is_empty()
    }

    pub(super) fn has_method(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.methods.contains(method)
    }

    /// Whether the path matches.
    ///
    /// A refusal must not be dodged by spelling, a credential must not be won by it: `deny` matches when any
    /// reading of the path does, `inject` only when all do, `pass` by the path as decoded.
    pub(super) fn has_target(&self, target: &RequestTarget<'_>) -> bool {
        self.paths.is_empty() || self.paths.iter().any(|prefix| self.has_path(prefix, target))
    }

    fn has_path(&self, prefix: &str, target: &RequestTarget<'_>) -> bool {
        let prefix = prefix.as_bytes();
        let (decoded, resolved) = (target.decoded().starts_with(prefix), target.resolved().starts_with(prefix));
        match self.action {
            Action::Deny => decoded || resolved,
            Action::Inject => decoded && resolved,
            Action::Pass => decoded,
        }
    }
}

impl Action {
    /// As written in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inject => "inject",
            Self::Pass => "pass",
            Self::Deny => "deny",
        }
    }
}

impl TokenKind {
    /// As written in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::SelfSigned => "selfSigned",
            Self::Id => "id",
            Self::Jwt => "jwt",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for TokenKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name of the default route.
pub const DEFAULT_ROUTE: &str = "google-apis";

/// The name of the default credential.
pub const DEFAULT_CREDENTIAL: &str = "default";

/// Cloud Run and IAP read this one beside the application's own `authorization`.
pub const X_SERVERLESS_AUTHORIZATION: &str = "x-serverless-authorization";
