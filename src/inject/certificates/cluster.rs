//! What the API server keeps for the certificates: one Secret and two registrations, each known by its name.
//!
//! Every write names the version that it was decided on; the API server refuses it when another one came between.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    ByteString,
    api::{
        admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
        core::v1::Secret,
    },
};
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::json;

use super::{
    authority::{self, Root},
    shelf::Shelf,
    step::Entry,
};
use crate::clock::Wall;

/// The objects, by name.
#[derive(Clone)]
pub(super) struct Cluster {
    secrets: Api<Secret>,
    mutating: Api<MutatingWebhookConfiguration>,
    validating: Api<ValidatingWebhookConfiguration>,
    secret: String,
    registration: String,
}

/// One registration as it was read.
#[derive(Debug)]
pub(super) struct Registration {
    version: Option<String>,
    names: Vec<String>,
    bundles: Vec<Option<ByteString>>,
}

/// Both registrations. There may be none for templates.
#[derive(Debug)]
pub(super) struct Registrations {
    mutating: Registration,
    validating: Option<Registration>,
}

/// Why the API server did not do it.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClusterError {
    /// Another one was quicker: look again.
    #[error("it was changed by another replica")]
    Overtaken,
    /// No registration by that name.
    #[error("there is no MutatingWebhookConfiguration by the name that --webhook-configuration gives")]
    Unregistered,
    /// It did not answer in time.
    #[error("the API server did not answer within {} s", ANSWER.as_secs())]
    Late,
    /// Everything else, in the API server's words.
    #[error("{0}")]
    Other(String),
}

impl Cluster {
    pub(super) fn new(client: &Client, namespace: &str, secret: &str, registration: &str) -> Self {
        Self {
            secrets: Api::namespaced(client.clone(), namespace),
            mutating: Api::all(client.clone()),
            validating: Api::all(client.clone()),
            secret: secret.to_owned(),
            registration: registration.to_owned(),
        }
    }

    pub(super) async fn registrations(&self) -> Result<Registrations, ClusterError> {
        let mutating = bounded(self.mutating.get_opt(&self.registration)).await?.ok_or(ClusterError::Unregistered)?;
        let hooks = mutating.webhooks.unwrap_or_default();
        let mutating = Registration::new(
            mutating.metadata,
            hooks.into_iter().map(|hook| (hook.name, hook.client_config.ca_bundle)),
        );
        let validating = bounded(self.validating.get_opt(&self.registration)).await?.map(|found| {
            let hooks = found.webhooks.unwrap_or_default();
            Registration::new(found.metadata, hooks.into_iter().map(|hook| (hook.name, hook.client_config.ca_bundle)))
        });
        Ok(Registrations { mutating, validating })
    }

    /// Writes one bundle into every entry. Only that field is ours: a chart which does not render it leaves it alone.
    pub(super) async fn publish(&self, seen: &Registrations, roots: &[Root]) -> Result<(), ClusterError> {
        let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Strategic(seen.mutating.patch(roots));
        bounded(self.mutating.patch(&self.registration, &parameters, &patch)).await?;
        if let Some(validating) = &seen.validating {
            let patch = Patch::Strategic(validating.patch(roots));
            bounded(self.validating.patch(&self.registration, &parameters, &patch)).await?;
        }
        Ok(())
    }

    pub(super) async fn secret(&self) -> Result<Option<Secret>, ClusterError> {
        bounded(self.secrets.get_opt(&self.secret)).await
    }

    /// Writes the shelf into the Secret that was read, or into a new one.
    pub(super) async fn write(&self, seen: Option<&Secret>, shelf: &Shelf) -> Result<(), ClusterError> {
        let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let mut secret = seen.cloned().unwrap_or_else(|| self.new_secret());
        shelf.write(&mut secret);
        if seen.is_some() {
            bounded(self.secrets.replace(&self.secret, &parameters, &secret)).await.map(drop)
        } else {
            bounded(self.secrets.create(&parameters, &secret)).await.map(drop)
        }
    }

    fn new_secret(&self) -> Secret {
        let labels = BTreeMap::from([("app.kubernetes.io/managed-by".to_owned(), MANAGER.to_owned())]);
        let metadata = ObjectMeta { name: Some(self.secret.clone()), labels: Some(labels), ..ObjectMeta::default() };
        Secret { metadata, type_: Some("Opaque".to_owned()), ..Secret::default() }
    }
}

impl Registration {
    fn new(metadata: ObjectMeta, hooks: impl Iterator<Item = (String, Option<ByteString>)>) -> Self {
        let (names, bundles) = hooks.unzip();
        Self { version: metadata.resource_version, names, bundles }
    }

    fn patch(&self, roots: &[Root]) -> serde_json::Value {
        let bundle = ByteString(authority::pem(roots).into_bytes());
        let entry = |name: &String| json!({"name": name, "clientConfig": {"caBundle": bundle}});
        let webhooks: Vec<_> = self.names.iter().map(entry).collect();
        json!({"metadata": {"resourceVersion": self.version}, "webhooks": webhooks})
    }
}

impl Registrations {
    /// What each entry trusts.
    pub(super) fn entries(&self, wall: Wall) -> Vec<Entry<Root>> {
        let bundles = self.mutating.bundles.iter().chain(self.validating.iter().flat_map(|found| &found.bundles));
        let entry = |bundle: &Option<ByteString>| {
            let pem = bundle.as_ref().map_or(&[][..], |bundle| &bundle.0);
            let (trusts, is_clean) = authority::roots(pem, wall);
            Entry { trusts, is_clean }
        };
        bundles.map(entry).collect()
    }
}

async fn bounded<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, ClusterError> {
    match tokio::time::timeout(ANSWER, call).await {
        Err(_) => Err(ClusterError::Late),
        Ok(answer) => answer.map_err(|error| match error {
            // 409 is both AlreadyExists and Conflict; 404 of a write: deleted meanwhile.
            kube::Error::Api(status) if matches!(status.code, 404 | 409) => ClusterError::Overtaken,
            // In its own words: which permission is missing, for one.
            kube::Error::Api(status) => ClusterError::Other(status.message.clone()),
            other => ClusterError::Other(chain(&other)),
        }),
    }
}

/// An error with its causes in one line.
pub(in crate::inject) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut texts: Vec<String> = causes.map(ToString::to_string).collect();
    // Some repeat their cause in their own text.
    texts.dedup_by(|later, earlier| earlier.contains(later.as_str()));
    texts.join(": ")
}

/// Who owns the fields that are written, in the API server's book.
pub(in crate::inject) const MANAGER: &str = "bearerd-webhook";

/// How long a call may take.
const ANSWER: Duration = Duration::from_secs(10);
