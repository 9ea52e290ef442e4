//! Workload identity federation: a token of somebody else's, exchanged for Google's (AIP-4117).
//!
//! The file is Google's `external_account` JSON. Like a key file it chooses no place that anything secret goes to; the
//! one place it may name is where the subject token comes from.

use std::{path::PathBuf, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use zeroize::Zeroizing;

use super::{
    Class, Exchange, FetchError, Get, Impersonated, KeyError, KeyReason, Reason, Token, TokenEndpoint, expand_scope,
    fields::Fields, is_service_account, key, sts::Trade,
};
use crate::{authority::Authority, secret::Secret};

/// A file of this kind, read.
#[derive(Debug, PartialEq, Eq)]
pub struct ExternalAccount {
    audience: String,
    subject_token_type: String,
    source: SubjectToken,
    impersonated: Option<Impersonated>,
    scope: String,
    quota_project: Option<String>,
}

/// Where the subject token comes from, each time anew.
#[derive(Debug, PartialEq, Eq)]
struct SubjectToken {
    place: Get,
    /// The field of a JSON object that holds it; none where it is the whole text.
    field: Option<String>,
}

impl ExternalAccount {
    /// Reads the file. `account` takes the place of the one that it names.
    ///
    /// # Errors
    ///
    /// Names the broken rule and what is accepted, without quoting the file.
    pub(super) fn load(content: &[u8], scopes: &[String], account: Option<&str>) -> Result<Self, KeyError> {
        let mut file = Fields::read(content)?;
        if file.text("type")?.as_deref() != Some("external_account") {
            return Err(KeyError::new(KeyReason::WrongType, "`type` must be `external_account`"));
        }
        if file.text("token_url")?.as_deref() != Some(TokenEndpoint::STS.url) {
            let message = format!("`token_url` must be `{}`", TokenEndpoint::STS.url);
            return Err(KeyError::new(KeyReason::TokenUri, message));
        }
        if file.text("universe_domain")?.as_deref().is_some_and(|domain| domain != "googleapis.com") {
            return Err(KeyError::new(KeyReason::Universe, "`universe_domain` must be `googleapis.com`"));
        }
        if file.has("workforce_pool_user_project") {
            return Err(invalid(
                "`workforce_pool_user_project` is of workforce pools, which are for people; accepted: a workload \
                 identity pool",
            ));
        }
        if file.has("client_id") || file.has("client_secret") {
            return Err(invalid(
                "`client_id` and `client_secret` are of programs that people sign in to; accepted: neither",
            ));
        }
        let audience = file.text("audience")?.filter(|audience| is_provider(audience)).ok_or_else(|| {
            invalid("`audience` must be //iam.googleapis.com/projects/…/workloadIdentityPools/…/providers/…")
        })?;
        let kind = file.text("subject_token_type")?.filter(|kind| SUBJECT_TOKEN_TYPES.contains(&kind.as_str()));
        let subject_token_type = kind.ok_or_else(|| {
            invalid(&format!("`subject_token_type` must be one of {}", SUBJECT_TOKEN_TYPES.join(", ")))
        })?;
        let source = file.object("credential_source")?.ok_or_else(|| {
            KeyError::new(KeyReason::MissingField, "`credential_source` is missing; accepted: `file` or `url`")
        })?;
        let named = file.text("service_account_impersonation_url")?.as_deref().map(impersonated_account).transpose()?;
        let seconds = lifetime(file.object("service_account_impersonation")?.unwrap_or_default())?;
        let account = account.map(ToOwned::to_owned).or(named);
        let impersonated = account.map(|account| Impersonated {
            account,
            delegates: Vec::new(),
            scopes: scopes.to_vec(),
            lifetime: Duration::from_secs(seconds),
        });
        // With impersonation the scopes are asked for in the second step.
        let scope = if impersonated.is_some() { expand_scope("cloud-platform") } else { scopes.join(" ") };
        let quota_project = file.text("quota_project_id")?.filter(|id| key::is_word(id));
        Ok(Self {
            audience,
            subject_token_type,
            source: SubjectToken::read(source)?,
            impersonated,
            scope,
            quota_project,
        })
    }

    /// The account that the tokens are of; a federated identity by itself has no address.
    pub(super) fn account(&self) -> Option<&str> {
        self.impersonated.as_ref().map(|impersonated| impersonated.account.as_str())
    }

    pub(super) fn quota_project(&self) -> Option<&str> {
        self.quota_project.as_deref()
    }

    /// Exchanges the subject token of this moment.
    pub(super) async fn access(&self, exchange: &Exchange) -> Result<Token, FetchError> {
        let federated = self.federated(exchange).await?;
        match &self.impersonated {
            Some(impersonated) => impersonated.access(federated.secret, exchange).await,
            None => Ok(federated),
        }
    }

    /// An ID token, which only an account has.
    pub(super) async fn id(&self, audience: &str, exchange: &Exchange) -> Result<Token, FetchError> {
        let Some(impersonated) = &self.impersonated else {
            let message = "a federated identity has no ID tokens; want an account to impersonate";
            return Err(FetchError::new(Class::Configuration, Reason::InvalidRequest, message));
        };
        let federated = self.federated(exchange).await?;
        impersonated.id(audience, federated.secret, exchange).await
    }

    async fn federated(&self, exchange: &Exchange) -> Result<Token, FetchError> {
        let subject_token = self.source.get(exchange).await?;
        let trade = Trade {
            subject_token: &subject_token,
            subject_token_type: &self.subject_token_type,
            audience: Some(&self.audience),
            scope: Some(&self.scope),
            options: None,
            inherits: None,
        };
        trade.token(exchange).await
    }
}

impl SubjectToken {
    fn read(mut source: Fields) -> Result<Self, KeyError> {
        let refused = |what: &str| Err(invalid(&format!("{what} accepted: `file` or `url`")));
        if source.has("executable") {
            return refused("`executable` runs a program, which a sidecar does not;");
        }
        if source.has("environment_id") {
            return refused("AWS's requests (`environment_id`) are not made here;");
        }
        if source.has("certificate") {
            return refused("`certificate` wants mutual TLS, which is not spoken here;");
        }
        let place = match (source.text("file")?.map(PathBuf::from), source.text("url")?) {
            (Some(file), None) if file.is_absolute() => Get::File(file),
            (Some(_), None) => return Err(invalid("`credential_source.file` must be an absolute path")),
            (None, Some(url)) => url_of(&url, source.object("headers")?.unwrap_or_default())?,
            (Some(_), Some(_)) => {
                return refused("both `file` and `url` are given, and libraries differ in which wins;");
            }
            (None, None) => return refused("`credential_source` has neither `file` nor `url`;"),
        };
        let mut format = source.object("format")?.unwrap_or_default();
        let field = match (format.text("type")?.as_deref(), format.text("subject_token_field_name")?) {
            (None | Some("text"), _) => None,
            (Some("json"), Some(field)) if !field.is_empty() => Some(field),
            (Some("json"), _) => return Err(invalid("`format` of type json needs `subject_token_field_name`")),
            _ => return Err(invalid("`format` must be of the type text or json")),
        };
        Ok(Self { place, field })
    }

    /// The token that lies there now. The kubelet rotates it, so it is never kept.
    async fn get(&self, exchange: &Exchange) -> Result<Secret, FetchError> {
        let answer = exchange
            .get(self.place.clone(), "the subject token")
            .await
            .map_err(|error| FetchError { reason: Reason::SubjectToken, ..error })?;
        let content = match answer.status {
            200 => answer.body,
            status => {
                let message = format!("the place of the subject token answered {status}");
                return Err(FetchError::transient(Reason::SubjectToken, message));
            }
        };
        let token = match &self.field {
            None => Some(Zeroizing::new(content.expose().to_vec())),
            Some(field) => in_json(&content, field),
        };
        // Whoever writes such files ends them with a newline.
        let token = token.map(|token| Zeroizing::new(token.trim_ascii().to_vec()));
        let token = token.filter(|token| !token.is_empty() && token.iter().all(u8::is_ascii_graphic));
        token.map(|token| Secret::new(token.as_slice())).ok_or_else(|| {
            FetchError::transient(Reason::SubjectToken, "the subject token is empty, or not where `format` says")
        })
    }
}

fn in_json(content: &Secret, field: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut object: serde_json::Value = serde_json::from_slice(content.expose()).ok()?;
    match object.get_mut(field)?.take() {
        serde_json::Value::String(text) => Some(Zeroizing::new(text.into_bytes())),
        _ => None,
    }
}

/// Of tokens of an account that is impersonated, in seconds.
fn lifetime(mut impersonation: Fields) -> Result<u64, KeyError> {
    let seconds = impersonation.number("token_lifetime_seconds", "600 to 43200")?.unwrap_or(3600);
    if !(600..=43_200).contains(&seconds) {
        return Err(invalid("`service_account_impersonation.token_lifetime_seconds` must be 600 to 43200"));
    }
    Ok(seconds)
}

fn url_of(url: &str, headers: Fields) -> Result<Get, KeyError> {
    let bad = || invalid("`credential_source.url` must be http://HOST[:PORT]/PATH, or https://HOST/PATH");
    let (is_tls, rest) = match url.split_once("://") {
        Some(("http", rest)) => (false, rest),
        Some(("https", rest)) => (true, rest),
        _ => return Err(bad()),
    };
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(at);
    let authority = Authority::parse(authority, Some(if is_tls { 443 } else { 80 })).map_err(|_| bad())?;
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    let parsed = target.parse::<http::uri::PathAndQuery>().map_err(|_| bad())?;
    if target.contains('#') || (is_tls && authority.port != 443) {
        return Err(bad());
    }
    let mut map = HeaderMap::new();
    let wrong = || invalid("`credential_source.headers` must be names and values of header fields");
    for (name, value) in headers.texts().ok_or_else(wrong)? {
        let name: HeaderName = name.parse().map_err(|_| wrong())?;
        if OURS.contains(&name) || name.as_str().starts_with("proxy-") {
            return Err(invalid("`credential_source.headers` must not say where a request goes or how it is framed"));
        }
        let mut value: HeaderValue = value.parse().map_err(|_| wrong())?;
        value.set_sensitive(true);
        map.insert(name, value);
    }
    Ok(Get::Url { is_tls, authority, target: parsed.as_str().to_owned(), headers: map })
}

/// The account of a URL at `iamcredentials`, which is all that is read of it.
fn impersonated_account(url: &str) -> Result<String, KeyError> {
    let account = url
        .strip_prefix("https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/")
        .and_then(|rest| rest.strip_suffix(":generateAccessToken"))
        .filter(|account| is_service_account(account));
    account.map(ToOwned::to_owned).ok_or_else(|| {
        invalid(
            "`service_account_impersonation_url` must be https://iamcredentials.googleapis.com/v1/projects/-/\
             serviceAccounts/ACCOUNT:generateAccessToken, with an account such as name@project.iam.gserviceaccount.com",
        )
    })
}

fn is_provider(audience: &str) -> bool {
    let rest = audience.strip_prefix("//iam.googleapis.com/projects/").unwrap_or_default();
    let parts: Vec<&str> = rest.split('/').collect();
    let plain =
        |text: &&str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    matches!(parts[..], [_, "locations", "global", "workloadIdentityPools", _, "providers", _])
        && parts.iter().all(plain)
}

fn invalid(message: &str) -> KeyError {
    KeyError::new(KeyReason::InvalidField, message)
}

/// What the connection decides, and nobody's file.
const OURS: [HeaderName; 8] = [
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::EXPECT,
];

const SUBJECT_TOKEN_TYPES: [&str; 3] = [
    "urn:ietf:params:oauth:token-type:jwt",
    "urn:ietf:params:oauth:token-type:id_token",
    "urn:ietf:params:oauth:token-type:saml2",
];

#[cfg(test)]
mod tests;
