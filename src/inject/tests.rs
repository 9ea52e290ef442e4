//! The plan over whole pods.

use serde_json::{Value, json};

use super::*;

mod findings;
mod generated;
mod golden;
mod mistakes;

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

/// The patch applied as an API server does.
fn applied(pod: &Value, patch: &[Value]) -> Value {
    let mut out = pod.clone();
    let patch: json_patch::Patch = serde_json::from_value(Value::from(patch)).expect("a patch of RFC 6902");
    json_patch::patch(&mut out, &patch).expect("a patch that applies");
    out
}

fn injected(pod: &Value, settings: &Settings) -> (Value, Vec<String>) {
    let plan = plan(pod, Asked::ByPod, settings).expect("a plan");
    assert_eq!(plan.outcome, Outcome::Injected);
    (applied(pod, &plan.patch), plan.warnings.iter().map(ToString::to_string).collect())
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
    let again = applied(&after, &plan.patch);
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
