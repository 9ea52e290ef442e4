//! A person's own credential, as `gcloud auth application-default login` leaves it: for a laptop, not for a pod.

use std::borrow::Cow;

use zeroize::Zeroizing;

use super::{
    Exchange, FetchError, KeyError, KeyReason, Request, RequestBody, Token, TokenEndpoint, answer, endpoint::form,
    fields::Fields, key,
};
use crate::secret::Secret;

/// A file of this kind, read.
#[derive(Debug)]
pub struct AuthorizedUser {
    client_id: String,
    client_secret: Secret,
    refresh_token: Secret,
    scope: String,
    account: Option<String>,
    quota_project: Option<String>,
}

impl AuthorizedUser {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// Names the broken rule and what is accepted, without quoting the file.
    pub(super) fn load(content: &[u8], scopes: &[String]) -> Result<Self, KeyError> {
        let mut file = Fields::read(content)?;
        if file.text("type")?.as_deref() != Some("authorized_user") {
            return Err(KeyError::new(KeyReason::WrongType, "`type` must be `authorized_user`"));
        }
        if file.text("universe_domain")?.as_deref().is_some_and(|domain| domain != "googleapis.com") {
            return Err(KeyError::new(KeyReason::Universe, "`universe_domain` must be `googleapis.com`"));
        }
        let missing = |name: &str| KeyError::new(KeyReason::MissingField, format!("`{name}` is missing"));
        let client_id = file.text("client_id")?.filter(|id| !id.is_empty()).ok_or_else(|| missing("client_id"))?;
        let secret = |text: Option<Zeroizing<String>>, name| {
            let text = text.filter(|text| !text.is_empty()).ok_or_else(|| missing(name))?;
            Ok(Secret::new(text.as_bytes()))
        };
        Ok(Self {
            client_id,
            client_secret: secret(file.secret("client_secret")?, "client_secret")?,
            refresh_token: secret(file.secret("refresh_token")?, "refresh_token")?,
            scope: scopes.join(" "),
            account: file.text("account")?.filter(|account| key::is_email(account)),
            quota_project: file.text("quota_project_id")?.filter(|id| key::is_word(id)),
        })
    }

    /// Whose it is. gcloud leaves that empty more often than not.
    pub(super) fn account(&self) -> Option<&str> {
        self.account.as_deref()
    }

    pub(super) fn quota_project(&self) -> Option<&str> {
        self.quota_project.as_deref()
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
            && self.account == other.account
            && self.quota_project == other.quota_project
            && self.client_secret.expose() == other.client_secret.expose()
            && self.refresh_token.expose() == other.refresh_token.expose()
    }
}

impl Eq for AuthorizedUser {}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn good() -> Value {
        json!({
            "type": "authorized_user",
            "client_id": "764086051850.apps.googleusercontent.com",
            "client_secret": "hunter2",
            "refresh_token": "1//hunter3",
            "account": "",
            "quota_project_id": "p",
            "universe_domain": "googleapis.com",
        })
    }

    fn load(file: &Value) -> Result<AuthorizedUser, KeyError> {
        AuthorizedUser::load(file.to_string().as_bytes(), &[])
    }

    #[test]
    fn gcloud_s_file_loads_and_a_token_uri_in_it_means_nothing() {
        let mut file = good();
        let user = load(&file).unwrap();
        assert_eq!((user.account(), user.quota_project()), (None, Some("p")));
        file["token_uri"] = "https://evil.test/token".into();
        assert!(load(&file).unwrap() == user);
        file["account"] = "me@example.com".into();
        assert_eq!(load(&file).unwrap().account(), Some("me@example.com"));
        assert!(!format!("{user:?}").contains("hunter"));
    }

    #[test]
    fn what_is_not_taken_is_refused_by_field_and_with_what_is_accepted() {
        let with = |field: &str, value: Value| {
            let mut file = good();
            file[field] = value;
            file
        };
        for (file, said) in [
            (json!({}), "`type` must be `authorized_user`"),
            (with("type", json!("service_account")), "`type` must be `authorized_user`"),
            (with("type", json!("external_account_authorized_user")), "`type` must be `authorized_user`"),
            (with("type", json!("impersonated_service_account")), "`type` must be `authorized_user`"),
            (with("client_id", Value::Null), "`client_id` is missing"),
            (with("client_id", json!("")), "`client_id` is missing"),
            (with("client_secret", Value::Null), "`client_secret` is missing"),
            (with("refresh_token", Value::Null), "`refresh_token` is missing"),
            (with("refresh_token", json!("")), "`refresh_token` is missing"),
            (with("universe_domain", json!("other.test")), "`universe_domain` must be `googleapis.com`"),
            (with("type", json!(7)), "`type` is not text; accepted: text"),
            (with("client_secret", json!(["hunter2"])), "`client_secret` is not text; accepted: text"),
            (with("refresh_token", json!(7)), "`refresh_token` is not text; accepted: text"),
        ] {
            let error = load(&file).expect_err(said);
            assert!(error.message.starts_with(said) && !error.message.contains("hunter"), "{said}: {error}");
        }
        for content in [&b""[..], b"[]", b"{", b"\xff", b"[{}]"] {
            let error = AuthorizedUser::load(content, &[]).unwrap_err();
            assert!(!error.message.is_empty());
        }
    }
}
