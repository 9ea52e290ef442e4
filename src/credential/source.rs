//! What has been loaded and makes tokens: one type for all kinds, so that whoever keeps tokens fresh knows none of them.

use super::{
    AuthorizedUser, Class, CredentialName, Exchange, ExternalAccount, FetchError, Impersonated, MetadataServer,
    Parameters, Reason, Rule, ServiceAccount, SignedJwt, Token, Want, metadata_server, sts,
};

/// A loaded credential, ready to make tokens.
#[derive(Debug, PartialEq, Eq)]
pub enum Source {
    /// A service-account key.
    ServiceAccount(ServiceAccount),
    /// A key that signs JWTs.
    SignedJwt(SignedJwt),
    /// A federated identity.
    ExternalAccount(ExternalAccount),
    /// A person.
    AuthorizedUser(AuthorizedUser),
    /// An account that another credential may impersonate.
    Impersonation {
        /// The other credential.
        source: CredentialName,
        /// Whom, and how.
        impersonated: Impersonated,
    },
    /// The real metadata server.
    MetadataServer(MetadataServer),
    /// Another credential's token, made to do less.
    Downscoped {
        /// The other credential.
        source: CredentialName,
        /// What is left.
        rules: Vec<Rule>,
    },
}

/// A project, and the universe that it is in where that is not Google's own: there nothing is exchanged, so that nothing
/// would prove a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Realm {
    project: String,
    universe: Option<String>,
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
            (Self::ExternalAccount(external), Want::Access) => external.access(exchange).await,
            (Self::ExternalAccount(external), Want::Id(audience)) => external.id(audience, exchange).await,
            (Self::AuthorizedUser(user), Want::Access) => user.access(exchange).await,
            (Self::Impersonation { source, impersonated }, Want::Access) => {
                exchange.with_parent(source, NOT_HAVING_IT, |token| impersonated.access(token.secret, exchange)).await
            }
            (Self::Impersonation { source, impersonated }, Want::Id(audience)) => {
                let ask = |token: Token| impersonated.id(audience, token.secret, exchange);
                exchange.with_parent(source, NOT_HAVING_IT, ask).await
            }
            (Self::MetadataServer(server), Want::Access) => server.access(exchange).await,
            (Self::MetadataServer(_), Want::Id(audience)) => metadata_server::id(audience, exchange).await,
            (Self::Downscoped { source, rules }, Want::Access) => downscoped(source, rules, exchange).await,
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
            _ => Err(not_of_this_kind(&Want::Jwt(Parameters::none()))),
        }
    }

    /// Signs any bytes, where this is a service account's key. Whoever calls has judged what they are.
    pub fn sign_blob(&self, blob: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::ServiceAccount(account) => account.sign_blob(blob),
            _ => None,
        }
    }

    /// The public id of the key, where it has one.
    pub fn key_id(&self) -> Option<&str> {
        match self {
            Self::ServiceAccount(account) => account.key().key_id(),
            Self::SignedJwt(signer) => signer.key_id(),
            _ => None,
        }
    }

    /// The e-mail address of the account, where there is one.
    pub fn account(&self) -> Option<&str> {
        match self {
            Self::ServiceAccount(account) => Some(account.key().client_email()),
            Self::SignedJwt(signer) => signer.account(),
            Self::ExternalAccount(external) => external.account(),
            Self::Impersonation { impersonated, .. } => Some(&impersonated.account),
            Self::AuthorizedUser(user) => user.account(),
            Self::MetadataServer(server) => server.account(),
            Self::Downscoped { .. } => None,
        }
    }

    /// The credential whose token its own are made of, where there is one.
    pub fn derived_from(&self) -> Option<&CredentialName> {
        match self {
            Self::Impersonation { source, .. } | Self::Downscoped { source, .. } => Some(source),
            _ => None,
        }
    }

    /// Whether it shows Google something that is renewed without its own file, as the kubelet does with tokens.
    pub fn shows_what_is_renewed(&self) -> bool {
        matches!(self, Self::ExternalAccount(_))
    }

    /// The project that the account belongs to, where the file tells.
    pub fn project(&self) -> Option<&str> {
        match self {
            Self::ServiceAccount(account) => account.key().project(),
            Self::SignedJwt(signer) => signer.project(),
            _ => None,
        }
    }

    /// Where the account belongs, where the file tells.
    pub fn realm(&self) -> Option<Realm> {
        let universe = if let Self::ServiceAccount(account) = self { account.key().universe() } else { None };
        Some(Realm { project: self.project()?.to_owned(), universe: universe.map(ToOwned::to_owned) })
    }

    /// Whether `want` is signed here, by our own clock, and seen by no endpoint.
    pub fn is_signed_here(&self, want: &Want) -> bool {
        match (self, want) {
            (Self::ServiceAccount(account), Want::Access) => account.key().universe().is_some(),
            (_, Want::SelfSigned | Want::Jwt(_)) => true,
            _ => false,
        }
    }

    /// The project that requests count against, where the file names one: as Google's libraries read it, a person's most
    /// of all, whose requests to many APIs are refused without.
    pub fn quota_project(&self) -> Option<&str> {
        match self {
            Self::ServiceAccount(account) => account.key().quota_project(),
            Self::AuthorizedUser(user) => user.quota_project(),
            Self::ExternalAccount(external) => external.quota_project(),
            _ => None,
        }
    }

    /// Whether both would sign alike, for requests that are sent alike: then one replaces the other without an exchange.
    pub fn same_as(&self, other: &Self) -> bool {
        self == other
    }
}

/// STS gives a token that does less than the one it is given (credential access boundary).
async fn downscoped(source: &CredentialName, rules: &[Rule], exchange: &Exchange) -> Result<Token, FetchError> {
    let trade = async |parent: Token| {
        let trade = sts::Trade {
            subject_token: &parent.secret,
            subject_token_type: sts::ACCESS_TOKEN,
            audience: None,
            scope: None,
            options: Some(sts::boundary(rules)),
            inherits: Some(exchange.clock.now().until(parent.expires())),
        };
        trade.token(exchange).await
    };
    // An invalid subject token is an invalid request for STS (RFC 8693 §2.2.2), and in practice an invalid grant.
    exchange.with_parent(source, &[Reason::InvalidRequest, Reason::InvalidGrant], trade).await
}

/// What `iamcredentials` says to a token that Google would not have.
const NOT_HAVING_IT: &[Reason] = &[Reason::Unauthorized];

/// `config` lets no such want through.
fn not_of_this_kind(want: &Want) -> FetchError {
    let message = format!("this kind of credential gives no {} token", want.label());
    FetchError::new(Class::Configuration, Reason::InvalidRequest, message)
}
