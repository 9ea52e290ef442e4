//! The request in a review: what is looked at, and what kind of object it is.

use serde::Deserialize;
use serde_json::Value;

/// A review's request, as far as it matters here. The object stays as it came, whatever fields it has.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) uid: String,
    pub(super) namespace: String,
    pub(super) dry_run: bool,
    pub(super) kind: Object,
    pub(super) object: Value,
    name: String,
    kind_name: String,
}

/// What is under review.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Object {
    /// A pod that is being created.
    Pod,
    /// A workload being created or changed, with where its template is.
    Workload(&'static str),
    /// Anything else.
    Other,
}

/// Why there is no review to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadReview {
    /// Not JSON, or not of that shape.
    #[error("not an AdmissionReview: JSON with kind AdmissionReview and a request with uid is accepted")]
    Shape,
    /// Another version.
    #[error("apiVersion is not understood: admission.k8s.io/v1 is accepted")]
    Version,
    /// It answers instead of asking.
    #[error("the AdmissionReview has no request")]
    NoRequest,
    /// It could not be an API server's.
    #[error("request.uid: 1 to 128 plain characters are accepted")]
    Uid,
}

/// Whom an object belongs to, by plain names only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// Such as `apps/v1`.
    pub api_version: String,
    /// Such as `ReplicaSet`.
    pub kind: String,
    /// Its name, or the beginning of a name that is still to be made.
    pub name: String,
    /// Its uid, where it is known.
    pub uid: String,
    /// Whether the name is one that an object has.
    pub is_named: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    api_version: String,
    kind: String,
    request: Option<Inner>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Inner {
    uid: String,
    #[serde(default)]
    kind: Kind,
    #[serde(default)]
    resource: Resource,
    #[serde(default)]
    sub_resource: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    operation: Option<String>,
    #[serde(default)]
    object: Value,
    #[serde(default)]
    dry_run: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Kind {
    group: String,
    kind: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Resource {
    group: String,
    resource: String,
}

impl Request {
    pub(super) fn read(body: &[u8]) -> Result<Self, BadReview> {
        let envelope: Envelope = serde_json::from_slice(body).map_err(|_| BadReview::Shape)?;
        if envelope.kind != "AdmissionReview" {
            return Err(BadReview::Shape);
        }
        if envelope.api_version != "admission.k8s.io/v1" {
            return Err(BadReview::Version);
        }
        let inner = envelope.request.ok_or(BadReview::NoRequest)?;
        if !is_plain(&inner.uid, 128) {
            return Err(BadReview::Uid);
        }
        Ok(Self {
            kind: inner.object(),
            uid: inner.uid,
            namespace: inner.namespace.filter(|name| is_plain(name, 253)).unwrap_or_default(),
            dry_run: inner.dry_run.unwrap_or(false),
            object: inner.object,
            name: inner.name.unwrap_or_default(),
            kind_name: inner.kind.kind,
        })
    }

    /// The controlling owner, else the object itself.
    pub(super) fn owner(&self) -> Owner {
        let references = self.object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
        let controls = |reference: &&Value| reference.get("controller").and_then(Value::as_bool) == Some(true);
        if let Some(reference) = references.into_iter().flatten().find(controls) {
            let of = |field| plain(reference.get(field));
            let (api_version, kind, name, uid) = (of("apiVersion"), of("kind"), of("name"), of("uid"));
            let is_named = !name.is_empty() && !kind.is_empty();
            return Owner { api_version, kind, name, uid, is_named };
        }
        let of = |field: &str| plain(self.object.pointer(field));
        let named = Some(of("/metadata/name")).filter(|name| !name.is_empty());
        let named = named.or_else(|| Some(self.name.clone()).filter(|name| is_plain(name, 253)));
        Owner {
            api_version: of("/apiVersion"),
            kind: if is_plain(&self.kind_name, 63) { self.kind_name.clone() } else { String::new() },
            is_named: named.is_some(),
            name: named.unwrap_or_else(|| of("/metadata/generateName")),
            uid: of("/metadata/uid"),
        }
    }
}

impl Inner {
    fn object(&self) -> Object {
        let is_whole = self.sub_resource.as_ref().is_none_or(String::is_empty) && self.object.is_object();
        let operation = self.operation.as_deref();
        let of = (self.resource.group.as_str(), self.resource.resource.as_str(), self.kind.kind.as_str());
        match of {
            _ if !is_whole => Object::Other,
            ("", "pods", "Pod") if self.kind.group.is_empty() && operation == Some("CREATE") => Object::Pod,
            (_, "pods", _) => Object::Other,
            ("apps", "deployments" | "statefulsets" | "daemonsets" | "replicasets", _)
            | ("", "replicationcontrollers", _)
            | ("batch", "jobs", _)
                if matches!(operation, Some("CREATE" | "UPDATE")) =>
            {
                Object::Workload("/spec/template")
            }
            ("batch", "cronjobs", _) if matches!(operation, Some("CREATE" | "UPDATE")) => {
                Object::Workload("/spec/jobTemplate/spec/template")
            }
            _ => Object::Other,
        }
    }
}

/// A text of the object, if it is a name.
fn plain(value: Option<&Value>) -> String {
    value.and_then(Value::as_str).filter(|text| is_plain(text, 253)).unwrap_or_default().to_owned()
}

/// What names, kinds, versions and uids are made of.
fn is_plain(text: &str, most: usize) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'/' | b'_' | b':');
    !text.is_empty() && text.len() <= most && text.bytes().all(is_letter)
}
