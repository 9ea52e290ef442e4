//! A person's own credential, as `gcloud auth application-default login` leaves it: for a laptop, not for a pod.

use std::borrow::Cow;

use serde::Deserialize;
use zeroize::Zeroizing;

use super::{
    Exchange, FetchError, KeyError, KeyReason, Request, RequestBody, Token, TokenEndpoint, answer, endpoint::form, key,
};
use crate::secret::Secret;

/// A file of this kind, read.
#[derive(Debug)]
pub struct AuthorizedUser {
    client_id: String,
    client_secret: Secret,
    refresh_token: Secret,
    scope: String,
}

#[derive(Deserialize)]
struct File {
    #[serde(rename = "type")]
    kind: Option<String>,
    client_id: Option<String>,
    #[serde(default, deserialize_with = "answer::wiped")]
    client_secret: Option<Zeroizing<String>>,
    #[serde(default, deserialize_with = "answer::wiped")]
    refresh_token: Option<Zeroizing<String>>,
}

impl AuthorizedUser {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// Names the broken rule and what is accepted, without quoting the file.
    pub(super) fn load(content: &[u8], scopes: &[String]) -> Result<Self, KeyError> {
        let text = key::text(content)?;
        let file: File = serde_json::from_str(text).map_err(|error| key::json_error(text, &error))?;
        if file.kind.as_deref() != Some("authorized_user") {
            return Err(KeyError::new(KeyReason::WrongType, "`type` must be `authorized_user`"));
        }
        let missing = |name: &str| KeyError::new(KeyReason::MissingField, format!("`{name}` is missing"));
        let client_id = file.client_id.filter(|id| !id.is_empty()).ok_or_else(|| missing("client_id"))?;
        let secret = |text: Option<Zeroizing<String>>, name| {
            let text = text.filter(|text| !text.is_empty()).ok_or_else(|| missing(name))?;
            Ok(Secret::new(text.as_bytes()))
        };
        Ok(Self {
            client_id,
            client_secret: secret(file.client_secret, "client_secret")?,
            refresh_token: secret(file.refresh_token, "refresh_token")?,
            scope: scopes.join(" "),
        })
    }

    /// Exchanges the refresh token (RFC 6749 §6).
    pub(super) async fn access(&self, exchange: &Exchange) -> Result<Token, FetchError> {
        let fields: [(&str, &[u8]); 5] = [
            ("grant_type", b"refresh_token"),
            ("client_id", self.client_id.as_bytes()),
            ("client_secret", self.client_secret.expose()),
            ("refresh_token", self.refresh_token.expose()),
            ("scope", self.scope.as_bytes()),
        ];
        // Without scopes of ours the person's consent decides.
        let fields = if self.scope.is_empty() { &fields[..4] } else { &fields[..] };
        let endpoint = TokenEndpoint::GOOGLE;
        let body = RequestBody::Form(form(fields));
        let request = Request { host: endpoint.host, path: Cow::Borrowed(endpoint.path), body, bearer: None };
        exchange.ask_and_read(request, |kept| answer::token(kept.answer, kept.sent)).await
    }
}

impl PartialEq for AuthorizedUser {
    fn eq(&self, other: &Self) -> bool {
        self.client_id == other.client_id
            && self.scope == other.scope
            && self.client_secret.expose() == other.client_secret.expose()
            && self.refresh_token.expose() == other.refresh_token.expose()
    }
}

impl Eq for AuthorizedUser {}
