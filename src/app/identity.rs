//! What the pod claims to be on its metadata server: the account of the default credential.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::HeaderValue;
use tokio::sync::watch;

use super::Shared;
use crate::{
    credential::{CredentialName, Want},
    metadata_server::{Audience, Handout, Mode, Pod, TokenSource, Unavailable},
    policy::{Action, Placeholder, Policy, TokenKind},
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
    let status = shared.tokens.status().into_iter().find(|status| status.name == spec.name)?;
    let key = status.keys.first()?;
    Some(Arc::new(Pod {
        project_id: key.project.clone(),
        email: key.account.clone()?,
        unique_id: None,
        scopes: spec.kind.scopes().to_vec(),
        universe_domain: "googleapis.com".to_owned(),
        name: "bearerd".to_owned(),
        zone: None,
        attributes: BTreeMap::new(),
        audiences: audiences(&settings.policy),
    }))
}

/// Whom ID tokens may be asked for: the audiences that routes put on requests.
fn audiences(policy: &Policy) -> Vec<Audience> {
    let routes = policy.routes().iter();
    let giving = routes.filter(|route| route.action == Action::Inject && route.token == TokenKind::Id);
    giving
        .flat_map(|route| match &route.audience {
            Some(audience) => vec![Audience::Exact(audience.clone())],
            None => route.hosts.iter().map(|host| Audience::of_host(&host.to_string())).collect(),
        })
        .collect()
}

/// The one named `default`, else the first, of those that give access tokens.
fn default_credential(settings: &super::Settings) -> Option<&crate::credential::Spec> {
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
