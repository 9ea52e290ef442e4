//! The plan over whole pods.

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

use super::*;

mod findings;
mod generated;
mod golden;

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

/// Pods of all shapes, the same ones for the same seed.
fn any_pod(random: &mut StdRng) -> Value {
    const NAMES: [&str; 12] = [
        "NO_PROXY",
        "no_proxy",
        "no_grpc_proxy",
        "HTTPS_PROXY",
        "JAVA_TOOL_OPTIONS",
        "SSL_CERT_FILE",
        "PATH",
        "GCE_METADATA_HOST",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "all_proxy",
        "A~B/C",
        "NODE_EXTRA_CA_CERTS",
    ];
    const VALUES: [&str; 6] =
        ["", "a.example, b.example", "127.0.0.1:14181", "-Xmx1g -Dhttps.proxyHost=x", "*", "$(B) \"quoted\" \u{e9}"];
    let container = |random: &mut StdRng, name: String| {
        let mut out = json!({"name": name, "image": "x", "unknown/field~": [1, {"deep": null}]});
        if random.random_bool(0.5) {
            let entry = |random: &mut StdRng| {
                let name = NAMES[random.random_range(0..NAMES.len())];
                if random.random_range(0..4) == 0 {
                    json!({"name": name, "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}})
                } else {
                    json!({"name": name, "value": VALUES[random.random_range(0..VALUES.len())]})
                }
            };
            out["env"] = (0..random.random_range(0..5_usize)).map(|_| entry(random)).collect();
        }
        if random.random_bool(0.5) {
            out["volumeMounts"] = json!([{"name": "data", "mountPath": "/data", "subPath": "a"}]);
        }
        if random.random_range(0..4) == 0 {
            out["envFrom"] = json!([{"configMapRef": {"name": "c"}}]);
        }
        out
    };
    let mut pod = json!({"spec": {"unknown": {"x~y/z": true}}});
    pod["spec"]["containers"] =
        (0..random.random_range(1..4)).map(|index| container(random, format!("app-{index}"))).collect();
    if random.random_bool(0.5) {
        let names = ["init", "istio-proxy", "vault-agent-init"];
        pod["spec"]["initContainers"] = names
            .iter()
            .take(random.random_range(0..4_usize))
            .map(|name| container(random, (*name).to_owned()))
            .collect();
    }
    if random.random_bool(0.5) {
        pod["spec"]["volumes"] = json!([{"name": "data", "emptyDir": {}}]);
    }
    if random.random_bool(0.5) {
        pod["metadata"] = json!({"labels": {"team~a/b": "x"}, "annotations": {"example.test/a~b": "1"}});
        if random.random_bool(0.5) {
            pod["metadata"]["annotations"]["cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"] =
                json!("data");
        }
    }
    pod
}

/// Whether everything of `before` is in `after`, lists in their order; what is merged may have grown.
fn kept(before: &Value, after: &Value, path: &str) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (key, value) in before {
                kept(value, after.get(key).unwrap_or(&Value::Null), &format!("{path}/{key}"));
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            // The sidecar comes first among the init containers, everything else after what was there.
            let at = after.len().min(usize::from(path == "/spec/initContainers"));
            assert!(after.len() - at >= before.len(), "{path}");
            before.iter().zip(&after[at..]).for_each(|(before, after)| kept(before, after, &format!("{path}[]")));
        }
        (Value::String(before), Value::String(after)) if path.ends_with("env[]/value") || path.ends_with("volumes") => {
            let words = |text: &str| {
                text.split([',', ' ']).filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>()
            };
            let after = words(after);
            assert!(words(before).iter().all(|word| after.contains(word)), "{path}: {before} became {after:?}");
        }
        _ => assert_eq!(before, after, "{path}"),
    }
}

#[test]
fn whatever_the_pod_nothing_is_lost_and_a_second_time_changes_nothing() {
    let mut random = StdRng::seed_from_u64(7);
    for number in 0..2000 {
        let before = any_pod(&mut random);
        let settings =
            settings(if number % 2 == 0 { "" } else { "httpProxy: true\nproject: p\nsecrets: {w: other}\n" });
        let patched = |pod: &Value, patch: &[Value]| {
            let mut out = pod.clone();
            let patch: json_patch::Patch = serde_json::from_value(json!(patch)).expect("a patch of RFC 6902");
            json_patch::patch(&mut out, &patch).unwrap_or_else(|error| panic!("{error}: {pod}"));
            out
        };
        let first =
            plan(&before, Asked::ByNamespace, &settings).unwrap_or_else(|refused| panic!("{refused:?}: {before}"));
        assert!(first.warnings.iter().all(|warning| warning.to_string().len() <= 256), "{:?}", first.warnings);
        let after = patched(&before, &first.patch);
        kept(&before, &after, "");
        let again = plan(&after, Asked::ByNamespace, &settings).expect("a plan");
        assert_eq!((again.outcome, again.patch.len()), (Outcome::Already, 0), "{before}");
        // Somebody else's webhook adds a container: it is served, and nothing else is touched.
        let mut more = after.clone();
        more["spec"]["containers"].as_array_mut().expect("a list").push(json!({"name": "late", "image": "x"}));
        let third = plan(&more, Asked::ByNamespace, &settings).expect("a plan");
        let served = patched(&more, &third.patch);
        let mut rest = served.clone();
        let late = rest["spec"]["containers"].as_array_mut().and_then(Vec::pop).expect("the late one");
        assert_eq!(late["volumeMounts"][0]["name"], "bearerd-trust");
        assert!(late["env"].as_array().is_some_and(|env| env.len() > 10), "{late}");
        rest["metadata"]["annotations"]["bearerd.dev/status"] =
            after["metadata"]["annotations"]["bearerd.dev/status"].clone();
        assert_eq!(rest, after);
        let fourth = plan(&served, Asked::ByNamespace, &settings).expect("a plan");
        assert!(fourth.patch.is_empty(), "{:?}", fourth.patch);
    }
}
