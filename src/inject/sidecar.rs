//! The sidecar's container and its volumes (pure).

use serde_json::{Value, json};

use super::settings::{ROOTS, Settings, Strictness};

/// The container.
pub(super) fn container(settings: &Settings) -> Value {
    let mut out = json!({
        "name": NAME,
        "image": settings.image,
        "restartPolicy": "Always",
        "args": arguments(settings),
        "env": [{"name": "BEARERD_CONFIG_TEXT", "value": settings.config_text()}],
        "ports": [{"name": METRICS, "containerPort": 14190, "protocol": "TCP"}],
        "startupProbe": {
            "exec": {"command": ["/bearerd", "ready"]}, "periodSeconds": 1, "timeoutSeconds": 2, "failureThreshold": 120
        },
        "resources": settings.resources,
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": true,
            "runAsNonRoot": true,
            "seccompProfile": {"type": "RuntimeDefault"}
        },
        "volumeMounts": mounts(settings)
    });
    if !settings.image_pull_policy.is_empty() {
        out["imagePullPolicy"] = json!(settings.image_pull_policy);
    }
    if let Some(user) = settings.user {
        out["securityContext"]["runAsUser"] = json!(user);
        out["securityContext"]["runAsGroup"] = json!(user);
    }
    out
}

fn arguments(settings: &Settings) -> Vec<String> {
    let mut out = vec!["run".to_owned(), format!("--annotations={POD}/annotations")];
    out.push(format!("--allow-hosts={}", settings.allow_hosts.join(",")));
    if !settings.allow_accounts.is_empty() {
        out.push(format!("--allow-accounts={}", settings.allow_accounts.join(",")));
    }
    if !settings.allow_scopes.is_empty() {
        out.push(format!("--allow-scopes={}", settings.allow_scopes.join(",")));
    }
    if settings.allow_metadata_token {
        out.push("--allow-metadata-token".to_owned());
    }
    if settings.unknown_annotations == Strictness::Warn {
        out.push("--unknown-annotations=warn".to_owned());
    }
    if settings.shared_processes == Strictness::Warn {
        out.push("--shared-processes=warn".to_owned());
    }
    out.push(format!("--log-format={}", settings.log_format));
    if !settings.log_level.is_empty() {
        out.push(format!("--log-level={}", settings.log_level));
    }
    out
}

fn mounts(settings: &Settings) -> Vec<Value> {
    let read_only = |name: &str, path: &str| json!({"name": name, "mountPath": path, "readOnly": true});
    let mut out = vec![
        json!({"name": "bearerd-trust", "mountPath": TRUST}),
        json!({"name": "bearerd-private", "mountPath": "/var/run/bearerd/private"}),
        read_only("bearerd-pod", POD),
        read_only("bearerd-key", &format!("{KEYS}/default")),
    ];
    let more = settings.secrets.keys();
    out.extend(more.map(|name| read_only(&format!("bearerd-key-{name}"), &format!("{KEYS}/{name}"))));
    if !settings.extra_roots.config_map.is_empty() {
        out.push(read_only("bearerd-roots", ROOTS));
    }
    out
}

/// The volumes. Files are readable for all, since only our container mounts them and its UID is not root.
pub(super) fn volumes(settings: &Settings) -> Vec<Value> {
    let mut key = json!({"secretName": settings.secret_name, "defaultMode": 0o444});
    if !settings.secret_key.is_empty() {
        key["items"] = json!([{"key": settings.secret_key, "path": settings.secret_key}]);
    }
    let annotations = json!({"path": "annotations", "fieldRef": {"fieldPath": "metadata.annotations"}});
    let mut out = vec![
        json!({"name": "bearerd-trust", "emptyDir": {"medium": "Memory", "sizeLimit": "4Mi"}}),
        json!({"name": "bearerd-private", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}),
        json!({"name": "bearerd-pod", "downwardAPI": {"defaultMode": 0o444, "items": [annotations]}}),
        json!({"name": "bearerd-key", "secret": key}),
    ];
    for (name, secret) in &settings.secrets {
        let volume = json!({"secretName": secret, "defaultMode": 0o444});
        out.push(json!({"name": format!("bearerd-key-{name}"), "secret": volume}));
    }
    let roots = &settings.extra_roots;
    if !roots.config_map.is_empty() {
        let items = json!([{"key": roots.key, "path": roots.key}]);
        let map = json!({"name": roots.config_map, "defaultMode": 0o444, "items": items});
        out.push(json!({"name": "bearerd-roots", "configMap": map}));
    }
    out
}

/// The configuration of a sidecar that is in already.
pub(super) fn config_text(container: &Value) -> Option<&str> {
    let env = container["env"].as_array()?;
    env.iter().find(|env| env["name"] == "BEARERD_CONFIG_TEXT")?["value"].as_str()
}

pub(super) const NAME: &str = "bearerd";
pub(super) const METRICS: &str = "bearerd-metrics";
pub(super) const TRUST: &str = "/var/run/bearerd/trust";
const POD: &str = "/var/run/bearerd/pod";
const KEYS: &str = "/var/run/secrets/bearerd";
