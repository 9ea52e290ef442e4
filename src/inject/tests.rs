//! The plan over whole pods.

use serde_json::{Value, json};

use super::*;

fn settings(yaml: &str) -> Settings {
    Settings::read(&format!("image: bearerd:test\nsecretName: key\n{yaml}"), "settings.yaml").expect("good settings")
}

fn pod(change: impl FnOnce(&mut Value)) -> Value {
    let mut pod = json!({
        "metadata": {"labels": {"bearerd.dev/inject": "enabled"}, "annotations": {}},
        "spec": {"containers": [{"name": "app", "image": "app", "newerThanUs": {"a/b~c": 1}}]}
    });
    change(&mut pod);
    pod
}

fn annotated(key: &str, value: &str) -> Value {
    pod(|pod| pod["metadata"]["annotations"][key] = json!(value))
}

/// The operations that we use of RFC 6902; panics where a parent is missing, as an API server refuses.
fn apply(pod: &Value, patch: &[Value]) -> Value {
    let mut out = pod.clone();
    for operation in patch {
        let (parent, last) = operation["path"].as_str().expect("a path").rsplit_once('/').expect("a pointer");
        let last = last.replace("~1", "/").replace("~0", "~");
        let value = operation["value"].clone();
        match (out.pointer_mut(parent).expect("a parent"), operation["op"].as_str()) {
            (Value::Array(items), Some("add")) if last == "-" => items.push(value),
            (Value::Array(items), Some("add")) => items.insert(last.parse().expect("an index"), value),
            (Value::Array(items), Some("replace")) => items[last.parse::<usize>().expect("an index")] = value,
            (Value::Object(fields), Some("add")) => drop(fields.insert(last, value)),
            other => panic!("{other:?}"),
        }
    }
    out
}

fn injected(pod: &Value, settings: &Settings) -> (Value, Vec<String>) {
    let plan = plan(pod, Asked::ByPod, settings).expect("a plan");
    assert_eq!(plan.outcome, Outcome::Injected);
    (apply(pod, &plan.patch), plan.warnings.iter().map(ToString::to_string).collect())
}

fn refused(pod: &Value, settings: &Settings) -> Vec<String> {
    let refused = plan(pod, Asked::ByPod, settings).expect_err("a refusal");
    refused.errors.iter().map(ToString::to_string).collect()
}

#[test]
fn a_second_plan_changes_nothing_and_what_was_there_stays() {
    for before in [
        pod(|_| {}),
        pod(|pod| pod["spec"]["volumes"] = Value::Null),
        pod(|pod| pod["spec"]["initContainers"] = json!([{"name": "init"}, {"name": "istio-init"}])),
        pod(|pod| pod["spec"]["containers"][0]["env"] = json!([{"name": "NO_PROXY", "value": "a.example"}])),
        json!({"metadata": {"labels": {"bearerd.dev/inject": "true"}}, "spec": {"containers": [{"name": "a"}]}}),
    ] {
        let (after, _) = injected(&before, &settings(""));
        let second = plan(&after, Asked::ByPod, &settings("")).expect("a plan");
        assert_eq!((second.outcome, second.patch.len()), (Outcome::Already, 0), "{before}");
        assert_eq!(after["spec"]["containers"][0]["newerThanUs"], before["spec"]["containers"][0]["newerThanUs"]);
        assert_eq!(after["spec"]["initContainers"][0]["name"], "bearerd");
    }
}

#[test]
fn the_sidecar_is_as_agreed() {
    let (after, warnings) = injected(&pod(|_| {}), &settings(""));
    assert_eq!(warnings, Vec::<String>::new());
    let sidecar = &after["spec"]["initContainers"][0];
    let args = json!([
        "run",
        "--annotations=/var/run/bearerd/pod/annotations",
        "--allow-hosts=*.googleapis.com",
        "--log-format=json"
    ]);
    assert_eq!(sidecar["args"], args);
    assert_eq!(sidecar["env"], json!([{"name": "BEARERD_CONFIG_TEXT", "value": r#"{"drain":{"linger":"0s"}}"#}]));
    assert_eq!(sidecar["securityContext"]["runAsUser"], 14180);
    let status = format!(r#"{{"version":"{}","containers":["app"]}}"#, env!("CARGO_PKG_VERSION"));
    assert_eq!(after["metadata"]["annotations"]["bearerd.dev/status"], status);
    assert_eq!(after["metadata"]["labels"]["bearerd.dev/injected"], "true");
    let mount = json!([{"name": "bearerd-trust", "mountPath": "/var/run/bearerd/trust", "readOnly": true}]);
    assert_eq!(after["spec"]["containers"][0]["volumeMounts"], mount);
    let env = after["spec"]["containers"][0]["env"].as_array().expect("env");
    assert!(env.contains(&json!({"name": "HTTPS_PROXY", "value": "http://127.0.0.1:14180"})), "{env:?}");
    let (after, _) = injected(&pod(|_| {}), &settings("user: null\n"));
    assert_eq!(after["spec"]["initContainers"][0]["securityContext"]["runAsUser"], Value::Null);
}

#[test]
fn a_container_that_came_later_is_served_and_the_sidecar_stays() {
    let (mut after, _) = injected(&pod(|_| {}), &settings(""));
    after["spec"]["containers"].as_array_mut().expect("a list").push(json!({"name": "late"}));
    let newer = settings("logLevel: debug\n");
    let plan = plan(&after, Asked::ByPod, &newer).expect("a plan");
    assert_eq!(plan.outcome, Outcome::Already);
    let again = apply(&after, &plan.patch);
    assert_eq!(again["spec"]["initContainers"], after["spec"]["initContainers"]);
    assert_eq!(again["spec"]["containers"][1]["env"], again["spec"]["containers"][0]["env"]);
}

#[test]
fn who_asked_and_who_opted_out() {
    let asked = |label: Option<&str>, annotation: Option<&str>, asked| {
        let mut pod = json!({"metadata": {"labels": {}, "annotations": {}}, "spec": {"containers": [{"name": "app"}]}});
        for (map, value) in [("labels", label), ("annotations", annotation)] {
            if let Some(value) = value {
                pod["metadata"][map]["bearerd.dev/inject"] = json!(value);
            }
        }
        plan(&pod, asked, &settings("")).map(|plan| plan.outcome == Outcome::Injected).map_err(|_| ())
    };
    for (label, annotation, by, want) in [
        (None, None, Asked::ByPod, Ok(false)),
        (None, None, Asked::ByNamespace, Ok(true)),
        (Some("false"), None, Asked::ByNamespace, Ok(false)),
        (Some("disabled"), Some("enabled"), Asked::ByPod, Ok(false)),
        (None, Some("enabled"), Asked::ByPod, Ok(true)),
        (Some("yes"), None, Asked::ByPod, Err(())),
    ] {
        assert_eq!(asked(label, annotation, by), want, "{label:?} {annotation:?} {by:?}");
    }
}

#[test]
fn every_refusal_names_its_place() {
    let spec = |field: &str, value: Value| pod(|pod| pod["spec"][field] = value);
    let app = |field: &str, value: Value| pod(|pod| pod["spec"]["containers"][0][field] = value);
    for (pod, start) in [
        (spec("hostNetwork", json!(true)), "spec.hostNetwork: "),
        (spec("os", json!({"name": "windows"})), "spec.os: "),
        (spec("nodeSelector", json!({"kubernetes.io/os": "windows"})), "spec.os: "),
        (spec("volumes", json!([{"name": "bearerd-key"}])), "spec.volumes: 'bearerd-key'"),
        (app("name", json!("bearerd")), "spec.containers: 'bearerd'"),
        (app("ports", json!([{"containerPort": 14180}])), "spec.containers[0].ports: 14180"),
        (app("ports", json!([{"containerPort": 1, "name": "bearerd-metrics"}])), "spec.containers[0].ports: 'bearerd"),
        (app("volumeMounts", json!([{"mountPath": "/var/run/bearerd/trust/"}])), "spec.containers[0].volumeMounts: "),
        (annotated("bearerd.dev/secret-name", "My_Key"), "bearerd.dev/secret-name: 'My_Key'"),
        (annotated("bearerd.dev/secret-key", "../x"), "bearerd.dev/secret-key: "),
        (annotated("bearerd.dev/mode", "endpoint"), "bearerd.dev/mode: 'endpoint' is not in this version, want proxy"),
        (annotated("bearerd.dev/credentials", "federation"), "bearerd.dev/credentials: "),
        (annotated("bearerd.dev/service-account", "a@b"), "bearerd.dev/service-account: "),
        (
            annotated("bearerd.dev/containers", "ap"),
            "bearerd.dev/containers: 'ap' is no container, did you mean 'app'?",
        ),
        (annotated("bearerd.dev/template", "batch"), "bearerd.dev/template: 'batch'"),
        (annotated("bearerd.dev/no-proxy", "a b"), "bearerd.dev/no-proxy: "),
        (annotated("bearerd.dev/cpu-request", "ten"), "bearerd.dev/cpu-request: 'ten'"),
        (annotated("bearerd.dev/memory-request", "65Mi"), "bearerd.dev/memory-request: larger"),
        (annotated("bearerd.dev/hots", "x"), "bearerd.dev/hots: no annotation of this version, did you mean 'hosts'?"),
        (annotated("bearerd.dev/hosts", "evil.example"), "bearerd.dev/hosts[0]: 'evil.example' is beyond the hosts"),
        (annotated("bearerd.dev/log-level", "ya29.pasted"), "bearerd.dev/log-level: want"),
        (annotated("bearerd.dev/log-level", "loud"), "bearerd.dev/log-level: 'loud': want"),
        (annotated("bearerd.dev/secret-name", ""), "bearerd.dev/secret-name: empty"),
    ] {
        let errors = refused(&pod, &settings(""));
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].starts_with(start), "{errors:?}");
        assert!(errors[0].len() <= 256, "{errors:?}");
    }
    let errors = refused(&pod(|_| {}), &Settings::default());
    assert!(errors[0].starts_with("bearerd.dev/secret-name: missing"), "{errors:?}");
}

#[test]
fn every_warning_names_its_place() {
    let spec = |field: &str, value: Value| pod(|pod| pod["spec"][field] = value);
    let app = |field: &str, value: Value| pod(|pod| pod["spec"]["containers"][0][field] = value);
    let guaranteed = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
    for (pod, start) in [
        (spec("shareProcessNamespace", json!(true)), "spec.shareProcessNamespace: "),
        (spec("securityContext", json!({"runAsUser": 14180})), "spec.containers[0].securityContext.runAsUser: "),
        (app("resources", guaranteed), "spec.containers: "),
        (app("envFrom", json!([{"secretRef": {"name": "other"}}])), "spec.containers[0].envFrom: "),
        (
            app("env", json!([{"name": "K", "valueFrom": {"secretKeyRef": {"name": "key", "key": "k"}}}])),
            "spec.containers[0]: still gets",
        ),
        (app("env", json!([{"name": "HTTPS_PROXY", "value": "http://proxy"}])), "spec.containers[0].env: HTTPS_PROXY"),
        (annotated("bearer.dev/hosts", "x"), "bearer.dev/hosts: not our prefix"),
        (annotated("bearerd.dev/status", "{}"), "bearerd.dev/status: "),
        (annotated("bearerd.dev/skip-containers", "app"), "spec.containers: no container"),
    ] {
        let (_, warnings) = injected(&pod, &settings(""));
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with(start), "{warnings:?}");
        assert!(warnings[0].len() <= 256, "{warnings:?}");
    }
    let warned = injected(&annotated("bearerd.dev/hots", "x"), &settings("unknownAnnotations: warn\n")).1;
    assert!(warned[0].starts_with("bearerd.dev/hots: "), "{warned:?}");
}

#[test]
fn bad_settings_are_refused_when_they_are_read() {
    for (yaml, want) in [
        ("imag: x\n", "imag"),
        ("image: x\nuser: 0\n", "user"),
        ("image: x\nallowHosts: []\n", "allowHosts"),
        ("image: x\nsecretName: A_b\n", "secretName"),
        ("image: x\nconfig: {routs: []}\n", "config: "),
        ("image: x\nconfig: {upstream: {parentProxy: 'http://u:p@proxy:3128'}}\n", "parentProxy"),
        ("image: x\nresources: {requests: {cpu: ten}}\n", "resources.requests.cpu"),
        ("image: x\nprofiles: {a: {image: y}}\n", "profiles.a.image"),
        ("image: x\nprofiles: {a: {config: {routs: []}}}\n", "profiles.a.config"),
        ("image: x\nprofiles: {a: {secretNam: y}}\n", "secretNam"),
    ] {
        let problems = Settings::read(yaml, "s.yaml").expect_err("a refusal").join("\n");
        assert!(problems.starts_with("s.yaml") && problems.contains(want), "{yaml}: {problems}");
    }
}

#[test]
fn a_profile_goes_deep_over_the_top_and_a_pod_over_both() {
    let yaml = "config: {drain: {linger: 1s}}\nprofiles: {batch: {secretName: other, config: {unmatched: deny}}}\n";
    let (after, _) = injected(&annotated("bearerd.dev/template", "batch"), &settings(yaml));
    let env = &after["spec"]["initContainers"][0]["env"][0]["value"];
    assert_eq!(env, r#"{"drain":{"linger":"1s"},"unmatched":"deny"}"#);
    assert_eq!(after["spec"]["volumes"][3]["secret"]["secretName"], "other");
}

#[test]
fn quantities() {
    use quantity::parse;
    for (text, want) in
        [("1", Some(1_000_000_000)), ("10m", Some(10_000_000)), ("0.5", Some(500_000_000)), ("1n", Some(1))]
    {
        assert_eq!(parse(text), want, "{text}");
    }
    assert_eq!(parse("1Ki"), parse("1024"));
    assert_eq!(parse("1e3"), parse("1k"));
    for bad in ["", ".", "-1", "+1", "1.2.3", "1mi", "Mi", "1e", "1e99", "1 Mi", "1234567890123456789"] {
        assert_eq!(parse(bad), None, "{bad}");
    }
}
