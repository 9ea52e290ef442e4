//! What the administrator set for all sidecars.
//!
//! Owns the settings file and its profiles. Everything in it is checked when it is read, so that a pod is never
//! refused for a fault of the administrator's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::mistakes;
use crate::config;

/// The injector's settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// The sidecar's image, a full reference.
    pub image: String,
    /// Empty = left to the cluster.
    #[serde(default)]
    pub image_pull_policy: String,
    /// UID and GID of the sidecar; `None` = left to the platform.
    #[serde(default = "default_user")]
    pub user: Option<u32>,
    /// The Secret where a pod names none.
    #[serde(default)]
    pub secret_name: String,
    /// The file in it; empty = every file.
    #[serde(default)]
    pub secret_key: String,
    /// More Secrets for more credentials, by the directory they are mounted at.
    #[serde(default)]
    pub secrets: BTreeMap<String, String>,
    /// The ceiling of hosts.
    #[serde(default = "default_hosts")]
    pub allow_hosts: Vec<String>,
    /// The ceiling of accounts.
    #[serde(default)]
    pub allow_accounts: Vec<String>,
    /// The ceiling of scopes, beside those of the credential.
    #[serde(default)]
    pub allow_scopes: Vec<String>,
    /// Whether an annotation may choose `metadata: token`.
    #[serde(default)]
    pub allow_metadata_token: bool,
    /// A ConfigMap of more roots.
    #[serde(default)]
    pub extra_roots: ExtraRoots,
    /// The configuration that every sidecar starts from.
    #[serde(default)]
    pub config: Map<String, Value>,
    /// `HTTP_PROXY` too.
    #[serde(default)]
    pub http_proxy: bool,
    /// Added to `NO_PROXY`.
    #[serde(default)]
    pub no_proxy: Vec<String>,
    /// The project applications are told.
    #[serde(default)]
    pub project: String,
    /// `json` or `text`.
    #[serde(default = "default_format")]
    pub log_format: String,
    /// Empty = `info`.
    #[serde(default)]
    pub log_level: String,
    /// Of the sidecar.
    #[serde(default)]
    pub resources: Resources,
    /// What an annotation of ours that nobody knows leads to.
    #[serde(default)]
    pub unknown_annotations: Strictness,
    /// What becomes of a pod whose processes see each other, when one may have the sidecar's UID.
    #[serde(default)]
    pub shared_processes: Strictness,
    /// Sets of other values that pods choose by name.
    #[serde(default)]
    pub profiles: BTreeMap<String, Map<String, Value>>,
}

/// A ConfigMap in the pod's namespace with PEM roots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExtraRoots {
    /// Its name; empty = none.
    pub config_map: String,
    /// The file in it.
    pub key: String,
}

/// Requests and limits, quantities by resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    /// What is reserved.
    pub requests: BTreeMap<String, String>,
    /// What is the most.
    pub limits: BTreeMap<String, String>,
}

/// What a doubtful thing leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strictness {
    /// A refusal.
    #[default]
    Deny,
    /// A warning.
    Warn,
}

impl Settings {
    /// Reads the settings; `name` is the file's, for the errors.
    ///
    /// # Errors
    /// Everything that is wrong, a line each, with line and column.
    pub fn read(text: &str, name: &str) -> Result<Self, Vec<String>> {
        let found = match serde_yaml::from_str::<Self>(text) {
            Ok(settings) => match mistakes::of_settings(&settings) {
                found if found.is_empty() => return Ok(settings),
                found => found,
            },
            Err(error) => mistakes::of_text(text, &error),
        };
        Err(mistakes::lines(&found, text, name))
    }

    /// The settings with a profile merged over them: maps deep, everything else replaced.
    pub(super) fn with_profile(&self, name: &str) -> Result<Self, String> {
        let Some(profile) = self.profiles.get(name) else { return Err("there is none".to_owned()) };
        let merged = serde_json::to_value(self).map(|mut top| {
            merge(&mut top, &Value::Object(mistakes::as_texts(profile)));
            top
        });
        merged
            .and_then(serde_json::from_value)
            .map_err(|_| "not settings, want fields and values as documented".to_owned())
    }

    /// The configuration a sidecar gets by environment, compact and with sorted keys.
    pub(super) fn config_text(&self) -> String {
        let mut config = Value::Object(self.config.clone());
        // The pod's other containers have ended when a native sidecar is told to.
        let mut defaults = json!({"drain": {"linger": "0s"}});
        if !self.extra_roots.config_map.is_empty() {
            merge(&mut config, &json!({"upstream": {"extraRoots": format!("{ROOTS}/{}", self.extra_roots.key)}}));
        }
        merge(&mut defaults, &config);
        sorted(&defaults).to_string()
    }

    /// The ceiling, as the sidecar gets it by flags.
    pub(super) fn flags(&self) -> config::Flags {
        let list = |items: &[String]| if items.is_empty() { Vec::new() } else { vec![items.join(",")] };
        config::Flags {
            allow_hosts: list(&self.allow_hosts),
            allow_accounts: list(&self.allow_accounts),
            allow_scopes: list(&self.allow_scopes),
            allow_metadata_token: self.allow_metadata_token,
            warns_of_unknown: self.unknown_annotations == Strictness::Warn,
            log_level: (!self.log_level.is_empty()).then(|| self.log_level.clone()),
            ..config::Flags::default()
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            image: concat!("ghcr.io/bearerd/bearerd:", env!("CARGO_PKG_VERSION")).to_owned(),
            image_pull_policy: String::new(),
            user: default_user(),
            secret_name: String::new(),
            secret_key: String::new(),
            secrets: BTreeMap::new(),
            allow_hosts: default_hosts(),
            allow_accounts: Vec::new(),
            allow_scopes: Vec::new(),
            allow_metadata_token: false,
            extra_roots: ExtraRoots::default(),
            config: Map::new(),
            http_proxy: false,
            no_proxy: Vec::new(),
            project: String::new(),
            log_format: default_format(),
            log_level: String::new(),
            resources: Resources::default(),
            unknown_annotations: Strictness::Deny,
            shared_processes: Strictness::Deny,
            profiles: BTreeMap::new(),
        }
    }
}

impl Default for ExtraRoots {
    fn default() -> Self {
        Self { config_map: String::new(), key: "ca.crt".to_owned() }
    }
}

impl Default for Resources {
    fn default() -> Self {
        let quantity = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Self {
            requests: BTreeMap::from([quantity("cpu", "10m"), quantity("memory", "24Mi")]),
            limits: BTreeMap::from([quantity("memory", "64Mi")]),
        }
    }
}

fn default_user() -> Option<u32> {
    Some(14180)
}

fn default_hosts() -> Vec<String> {
    vec!["*.googleapis.com".to_owned()]
}

fn default_format() -> String {
    "json".to_owned()
}

/// Puts `over` over `under`: maps field by field, everything else whole.
fn merge(under: &mut Value, over: &Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (name, value) in over {
                merge(under.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over.clone(),
    }
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<_, _> = fields.iter().map(|(name, value)| (name.clone(), sorted(value))).collect();
            Value::Object(fields.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        plain => plain.clone(),
    }
}

/// A name of a Secret or ConfigMap.
pub(super) fn is_object_name(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_label)
}

/// A name of a file in one.
pub(super) fn is_key(key: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=253).contains(&key.len()) && key.bytes().all(plain) && key != "." && !key.starts_with("..")
}

/// An item of `NO_PROXY`: it ends up in a list that programs split at commas and blanks.
pub(super) fn is_no_proxy(item: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:*/[]".contains(&byte);
    (1..=253).contains(&item.len()) && item.bytes().all(plain)
}

pub(super) fn is_label(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=253).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with('-') && !name.ends_with('-')
}

pub(super) const ROOTS: &str = "/var/run/bearerd/roots";

pub(super) const NOT_IN_PROFILES: [&str; 9] = [
    "image",
    "user",
    "allowHosts",
    "allowAccounts",
    "allowScopes",
    "allowMetadataToken",
    "profiles",
    "unknownAnnotations",
    "sharedProcesses",
];
