//! Tokens of a service account that another credential may impersonate, by `iamcredentials`
//! (<https://cloud.google.com/iam/docs/reference/credentials/rest>).

use std::{borrow::Cow, time::Duration};

use serde_json::json;

use super::{
    ApiHost, Exchange, FetchError, Request, RequestBody, Token,
    answer::{self, Kept},
};
use crate::secret::Secret;

/// Who is impersonated, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Impersonated {
    /// The account's e-mail address.
    pub account: String,
    /// Accounts in between, each of which may impersonate the next.
    pub delegates: Vec<String>,
    /// Full scope URLs.
    pub scopes: Vec<String>,
    /// Of the token: at most an hour, unless the organisation's policy allows more.
    pub lifetime: Duration,
}

/// Whether this is the e-mail address of a service account. It becomes a part of a path, so there is nothing in it to
/// escape.
pub fn is_service_account(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_address = |(user, domain): (&str, &str)| {
        !user.is_empty() && domain.contains('.') && user.bytes().chain(domain.bytes()).all(legal)
    };
    text.len() <= 254 && text.split_once('@').is_some_and(is_address)
}

impl Impersonated {
    /// An access token, asked for with `bearer`.
    pub(super) async fn access(&self, bearer: Secret, exchange: &Exchange) -> Result<Token, FetchError> {
        let body = json!({
            "delegates": self.delegates(),
            "scope": self.scopes,
            "lifetime": format!("{}s", self.lifetime.as_secs()),
        });
        self.ask("generateAccessToken", &body, bearer, exchange, answer::impersonated).await
    }

    /// An ID token for `audience`.
    pub(super) async fn id(&self, audience: &str, bearer: Secret, exchange: &Exchange) -> Result<Token, FetchError> {
        let body = json!({ "delegates": self.delegates(), "audience": audience, "includeEmail": true });
        self.ask("generateIdToken", &body, bearer, exchange, answer::generated_id).await
    }

    async fn ask(
        &self,
        method: &str,
        body: &serde_json::Value,
        bearer: Secret,
        exchange: &Exchange,
        read: fn(&Kept<'_>) -> Result<Token, FetchError>,
    ) -> Result<Token, FetchError> {
        // Accounts are e-mail addresses, judged where they were read: nothing in them needs escaping in a path.
        let path = format!("/v1/projects/-/serviceAccounts/{}:{method}", self.account);
        let request = Request {
            host: ApiHost::IAM_CREDENTIALS,
            path: Cow::Owned(path),
            body: RequestBody::Json(body.to_string()),
            bearer: Some(bearer),
        };
        exchange.ask_and_read(request, read).await
    }

    fn delegates(&self) -> Vec<String> {
        self.delegates.iter().map(|account| format!("projects/-/serviceAccounts/{account}")).collect()
    }
}
