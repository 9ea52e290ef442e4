//! What the pod claims to be on its metadata server: the account of the default credential.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::HeaderValue;
use tokio::sync::watch;

use super::Shared;
use crate::{
    credential::{CredentialName, Spec, Want},
    metadata_server::{Audience, Handout, Mode, Pod, TokenSource, Unavailable},
    policy::{Action, Placeholder, Policy, Route, TokenKind},
    token::CredentialStatus,
};

/// Follows the default credential: a rotated key may belong to another account.
pub(super) fn watch(shared: &Arc<Shared>) -> watch::Receiver<Option<Arc<Pod>>> {
    let (publish, pods) = watch::channel(pod(shared));
    let held = shared.clone();
    shared.ground.tasks.spawn(async move {
        loop {
            held.observer.changed.notified().await;
            publish.send_if_modified(|known| {
                let newest = pod(&held);
                // A key that vanished takes no identity away: SDKs ask once and remember.
                let is_new = newest.is_some() && *known != newest;
                if is_new {
                    *known = newest;
                }
                is_new
            });
        }
    });
    pods
}

/// The mode that hands out the placeholder.
pub(super) fn placeholder_mode(placeholder: &Placeholder) -> Mode {
    HeaderValue::from_str(placeholder.as_str()).map_or(Mode::Off, Mode::Placeholder)
}

fn pod(shared: &Shared) -> Option<Arc<Pod>> {
    let settings = shared.settings.borrow().clone();
    let spec = default_credential(&settings)?;
    let known = shared.tokens.status();
    let key = known.iter().find(|status| status.name == spec.name)?.in_use.as_ref()?;
    let account = account(spec, &settings.credentials, &known)?;
    Some(Arc::new(Pod {
        project_id: key.project.clone().or_else(|| project(account.as_deref()?)),
        email: account.unwrap_or_else(|| nobody(spec)),
        unique_id: None,
        scopes: spec.kind.scopes().to_vec(),
        universe_domain: "googleapis.com".to_owned(),
        name: "bearerd".to_owned(),
        zone: None,
        attributes: BTreeMap::new(),
        audiences: audiences(&settings.policy),
    }))
}

/// Whom Google sees: the credential's own account, or that of what it is derived from; inside, `None` where nobody has
/// an address. Nothing as long as one of them has not been read, since that one may have the address.
fn account(spec: &Spec, specs: &[Spec], known: &[CredentialStatus]) -> Option<Option<String>> {
    let source = |spec: &&Spec| specs.iter().find(|other| Some(&other.name) == spec.kind.source());
    // As many steps as there are credentials lead to the end of every chain.
    for spec in std::iter::successors(Some(spec), source).take(specs.len()) {
        let status = known.iter().find(|status| status.name == spec.name)?;
        if let Some(account) = &status.in_use.as_ref()?.account {
            return Some(Some(account.clone()));
        }
    }
    Some(None)
}

/// Some identities have no address, and SDKs insist on one. This one is nobody's, anywhere (RFC 2606).
fn nobody(spec: &Spec) -> String {
    format!("{}@bearerd.invalid", spec.name)
}

/// The project that a service account's address names.
fn project(account: &str) -> Option<String> {
    let domain = account.split_once('@')?.1.strip_suffix(".iam.gserviceaccount.com")?;
    // Projects of an organisation's domain: `project.example.com` is written `example.com:project`.
    Some(domain.split_once('.').map_or_else(|| domain.to_owned(), |(project, of)| format!("{of}:{project}")))
}

/// Whom ID tokens may be asked for: the audiences that routes of the file put on requests.
fn audiences(policy: &Policy) -> Vec<Audience> {
    let routes = policy.routes().iter();
    let is_files = |route: &Route| route.action == Action::Inject && !route.is_annotated;
    let giving = routes.filter(|route| is_files(route.as_ref()) && route.token == TokenKind::Id);
    giving
        .flat_map(|route| match &route.audience {
            Some(audience) => vec![Audience::Exact(audience.clone())],
            None => route.hosts.iter().map(|host| Audience::of_host(&host.to_string())).collect(),
        })
        .collect()
}

/// The one named `default`, else the first, of those that give access tokens.
fn default_credential(settings: &super::Settings) -> Option<&Spec> {
    let mut credentials = settings.credentials.iter().filter(|spec| spec.first_want() == Some(Want::Access));
    let named = credentials.clone().find(|spec| spec.name.as_str() == "default");
    named.or_else(|| credentials.next())
}

/// Real tokens for `metadata.mode: token`.
pub(super) struct Source {
    pub(super) shared: Arc<Shared>,
}

impl TokenSource for Source {
    async fn access(&self) -> Result<Handout, Unavailable> {
        self.token(Want::Access).await
    }

    async fn id(&self, audience: &str) -> Result<Handout, Unavailable> {
        self.token(Want::Id(audience.into())).await
    }
}

impl Source {
    async fn token(&self, want: Want) -> Result<Handout, Unavailable> {
        let name = default_credential(&self.shared.settings.borrow()).map(|spec| spec.name.clone());
        let name = name.unwrap_or_else(|| CredentialName::new("default"));
        let Some(handle) = self.shared.tokens.handle(&name, &want) else {
            return Err(unavailable(5, "no credential is configured"));
        };
        let token = handle
            .wait(WAIT)
            .await
            .map_err(|unavailable| self::unavailable(unavailable.retry_after_seconds, &unavailable.message))?;
        let left = self.shared.ground.clock.now().until(token.expires);
        Ok(Handout { token: token.bare.clone(), expires_in: left.as_secs() })
    }
}

fn unavailable(seconds: u64, message: &str) -> Unavailable {
    Unavailable { retry_after: Duration::from_secs(seconds), message: message.to_owned() }
}

const WAIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_its_project() {
        for (account, expected) in [
            ("a@p.iam.gserviceaccount.com", Some("p")),
            ("a@p.example.com.iam.gserviceaccount.com", Some("example.com:p")),
            ("1-compute@developer.gserviceaccount.com", None),
            ("me@example.com", None),
            ("my-pool.svc.id.goog", None),
        ] {
            assert_eq!(project(account).as_deref(), expected, "{account}");
        }
    }
}
