//! `check` and `token` about one credential: its files, and one token of it or of what it is derived from.

use std::sync::Arc;

use super::{Mark, Report};
use crate::credential::{
    BoxFuture, CredentialName, Exchange, FetchError, Kind, Parents, Reason, Source, Spec, Token, Want,
};

/// What its files hold, and whether there is a token.
pub(super) async fn check(report: &mut Report, spec: &Spec, exchange: Option<&Exchange>) {
    let sources = keys(spec);
    let name = spec.name.as_str();
    let mut usable = Vec::new();
    for (file, source) in sources {
        match source {
            Ok(source) => {
                report.add(Mark::Good, format!("key {name}"), format!("{file}: {}", told(spec, &source)));
                usable.push(source);
            }
            Err(problem) => report.add(Mark::Bad, format!("key {name}"), format!("{file}: {problem}")),
        }
    }
    let Some(exchange) = exchange else { return };
    if usable.is_empty() {
        return;
    }
    let Some(want) = spec.first_want() else {
        let names = spec.parameters().join(", ");
        report.add(Mark::Good, format!("token {name}"), format!("signed for whoever asks, with {names}"));
        return;
    };
    match first_token(spec, &usable, &want, exchange).await {
        Ok(token) => {
            let minutes = token.lifetime.as_secs().div_ceil(60);
            let made = if matches!(want, Want::Jwt(_)) { "signed" } else { "Google gave one" };
            report.add(Mark::Good, format!("token {name}"), format!("{made} for {minutes} min"));
        }
        Err(error) => report.add(Mark::Bad, format!("token {name}"), format!("{error:#}")),
    }
}

/// What a credential turned out to be.
fn told(spec: &Spec, source: &Source) -> String {
    let account = source.account();
    match &spec.kind {
        Kind::ServiceAccountKey { .. } | Kind::SignedJwt { .. } => {
            let id = source.key_id().unwrap_or("without id");
            format!("{} (key {id})", account.unwrap_or_else(|| spec.kind.label()))
        }
        Kind::ExternalAccount { .. } => account.map_or_else(
            || "a federated identity, without an account to impersonate".to_owned(),
            |account| format!("a federated identity, impersonates {account}"),
        ),
        Kind::AuthorizedUser { .. } => format!("a person's, {}", account.unwrap_or("of unknown address")),
        Kind::Impersonation { source, impersonated } => {
            format!("impersonates {} by the token of '{source}'", impersonated.account)
        }
        Kind::MetadataServer { .. } => "metadata.google.internal".to_owned(),
        Kind::Downscoped { source, rules } => format!("the token of '{source}', cut down by {}", counted(rules.len())),
    }
}

fn counted(rules: usize) -> String {
    if rules == 1 { "one rule".to_owned() } else { format!("{rules} rules") }
}

/// Why a credential has no key to work with; `None` when it has one.
pub fn unusable(spec: &Spec) -> Option<String> {
    let keys = keys(spec);
    let problem = |(file, source): (String, Result<Source, String>)| Some(format!("{file}: {}", source.err()?));
    let is_usable = keys.iter().any(|(_, source)| source.is_ok());
    (!is_usable).then(|| keys.into_iter().filter_map(problem).collect::<Vec<_>>().join("; "))
}

/// Each file of a credential, read or refused; a path without any is one refusal.
pub(super) fn keys(spec: &Spec) -> Vec<(String, Result<Source, String>)> {
    let Some(path) = spec.path() else {
        return spec.without_file().map(|source| (spec.kind.label().to_owned(), Ok(source))).into_iter().collect();
    };
    let found = crate::watch::look(path);
    let mut keys: Vec<_> = found
        .files
        .iter()
        .map(|file| {
            let source = match &file.content {
                Ok(content) => spec.load(content).map_err(|error| error.to_string()),
                Err(unread) => Err(unread.to_string()),
            };
            (file.name.clone(), source)
        })
        .collect();
    if let Some(problem) = &found.problem {
        keys.push((path.display().to_string(), Err(problem.to_string())));
    }
    keys
}

/// A token of the first of `sources` that gives one.
pub(super) async fn first_token(
    spec: &Spec,
    sources: &[Source],
    want: &Want,
    exchange: &Exchange,
) -> anyhow::Result<Token> {
    let mut last = anyhow::anyhow!("no usable key");
    for source in sources {
        match source.fetch(want, exchange).await {
            Ok(token) => return Ok(token),
            Err(error) => {
                let advice = advice(&spec.kind, error.label()).map(|advice| format!("; {advice}")).unwrap_or_default();
                last = anyhow::anyhow!("{error} ({}){advice}", error.label());
            }
        }
    }
    Err(last)
}

/// What to do about a failed fetch, where that is not plain from the error.
fn advice(kind: &Kind, label: &str) -> Option<&'static str> {
    Some(match label {
        "dns" | "connect" | "timeout" if matches!(kind, Kind::MetadataServer { .. }) => {
            "it answers on Google's own machines only, and in GKE where Workload Identity Federation is on"
        }
        "dns" | "connect" | "timeout" => {
            "is there a way out to oauth2, sts and iamcredentials.googleapis.com:443? behind a proxy, set \
             upstream.parentProxy"
        }
        "permission_denied" => {
            "may it? gcloud iam service-accounts get-iam-policy ACCOUNT; a new binding needs some minutes"
        }
        "subject_token" => "is the token mounted where the file's credential_source says?",
        "no_source" => "look at the credential that it is derived from first",
        "invalid_grant" | "invalid_signature" if matches!(kind, Kind::ExternalAccount { .. }) => {
            "do issuer, audience and keys of the subject token fit the provider? gcloud iam workload-identity-pools \
             providers describe PROVIDER"
        }
        "invalid_grant" if matches!(kind, Kind::AuthorizedUser { .. }) => {
            "ask for another: gcloud auth application-default login"
        }
        "certificate" | "tls" => "does something on the way end TLS? give its roots in upstream.extraRoots",
        "clock" => "set this machine's clock",
        "invalid_signature" | "invalid_grant" => {
            "was the key deleted? gcloud iam service-accounts keys list --iam-account ACCOUNT"
        }
        "account_not_found" | "account_disabled" => {
            "look at the account with gcloud iam service-accounts describe ACCOUNT"
        }
        _ => return None,
    })
}

/// Mints the tokens that others are derived from, for commands that run once.
pub(super) struct Minting {
    pub(super) specs: Vec<Spec>,
    pub(super) exchange: Exchange,
}

impl Parents for Minting {
    fn access(&self, name: &CredentialName) -> BoxFuture<'_, Result<Token, FetchError>> {
        let spec = self.specs.iter().find(|spec| spec.name == *name);
        let parents = Arc::new(Self { specs: self.specs.clone(), exchange: self.exchange.clone() });
        let exchange = Exchange { parents: Some(parents), ..self.exchange.clone() };
        let none = |why: &str| FetchError::transient(Reason::NoSource, format!("the credential '{name}': {why}"));
        let (missing, no_key) = (none("there is none of that name"), none("no usable key"));
        Box::pin(async move {
            let sources = keys(spec.ok_or(missing)?);
            let mut last = no_key;
            for source in sources.into_iter().filter_map(|(_, source)| source.ok()) {
                match source.fetch(&Want::Access, &exchange).await {
                    Ok(token) => return Ok(token),
                    Err(error) => last = error,
                }
            }
            Err(last)
        })
    }
}
