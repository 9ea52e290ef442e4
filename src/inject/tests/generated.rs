//! What holds for every pod, tried on many that nobody would write.

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Map, Value, json};

use super::{super::*, applied, settings};

const PODS: u64 = 1000;

#[test]
fn whatever_is_in_a_pod_stays_and_the_second_plan_is_empty() {
    let settings = settings("httpProxy: true\nproject: mine\nnoProxy: [.corp.example]\n");
    let mut merged = 0;
    for seed in 0..PODS {
        let before = pod(seed);
        let first = plan(&before, Asked::ByPod, &settings).unwrap_or_else(|refused| panic!("{seed}: {refused:?}"));
        assert_eq!(first.outcome, Outcome::Injected, "{seed}");
        merged += first.patch.iter().filter(|operation| operation["op"] == "replace").count();
        for operation in &first.patch {
            let path = operation["path"].as_str().expect("a path");
            let replaced = operation["op"] == "replace" && path.contains("/env/");
            assert!(operation["op"] == "add" || replaced, "{seed}: {operation}");
        }
        let after = applied(&before, &first.patch);
        kept(&before, &after, &mut vec![]);
        ours(&before, &after);
        let second = plan(&after, Asked::ByPod, &settings).expect("a plan");
        assert_eq!((second.outcome, second.patch.len()), (Outcome::Already, 0), "{seed}: {:?}", second.patch);
    }
    assert!(merged > 100, "{merged} variables were merged: the pods are too plain");
}

#[test]
fn a_container_of_another_injector_gets_environment_and_trust_and_nothing_else_moves() {
    let settings = settings("");
    for seed in 0..PODS {
        let before = pod(seed);
        let first = plan(&before, Asked::ByPod, &settings).expect("a plan");
        let mut between = applied(&before, &first.patch);
        // Before ours or after it, or among the ordinary ones, with a volume of its own.
        let mut dice = StdRng::seed_from_u64(seed ^ 0xabcd);
        let list = if dice.random() { "containers" } else { "initContainers" };
        let containers = between["spec"][list].as_array_mut().expect("a list");
        let at = dice.random_range(0..=containers.len());
        let mut late = container(&mut dice, "late");
        late["ports"] = Value::Null;
        containers.insert(at, late);
        between["spec"]["volumes"]
            .as_array_mut()
            .expect("volumes")
            .insert(0, json!({"name": "theirs", "emptyDir": {}}));
        let second = plan(&between, Asked::ByPod, &settings).unwrap_or_else(|refused| panic!("{seed}: {refused:?}"));
        assert_eq!(second.outcome, Outcome::Already, "{seed}");
        let (here, status) = (format!("/spec/{list}/{at}/"), "/metadata/annotations/bearerd.dev~1status");
        for operation in &second.patch {
            let path = operation["path"].as_str().expect("a path");
            let field = path.strip_prefix(&here).and_then(|rest| rest.split('/').next());
            assert!(path == status || matches!(field, Some("env" | "volumeMounts")), "{seed}: {operation}");
        }
        let after = applied(&between, &second.patch);
        kept(&between, &after, &mut vec![]);
        let late = &after["spec"][list][at];
        let has = |name: &str| late["env"].as_array().is_some_and(|env| env.iter().any(|entry| entry["name"] == name));
        // A proxy of the user's own in one spelling keeps the other away.
        assert!((has("HTTPS_PROXY") || has("https_proxy")) && has("GCE_METADATA_HOST"), "{seed}: {late}");
        let mounts = late["volumeMounts"].as_array().expect("mounts");
        assert!(mounts.iter().any(|mount| mount["name"] == "bearerd-trust"), "{seed}: {late}");
        let third = plan(&after, Asked::ByPod, &settings).expect("a plan");
        assert_eq!((third.outcome, third.patch.len()), (Outcome::Already, 0), "{seed}: {:?}", third.patch);
    }
}

/// What stood in `before` stands in `after`; a list may have grown, and a variable or our mark may have more in it.
fn kept(before: &Value, after: &Value, path: &mut Vec<String>) {
    match (before, after) {
        // Nothing was there.
        (Value::Null, _) => {}
        (Value::Object(before), Value::Object(after)) => {
            for (key, value) in before {
                path.push(key.clone());
                kept(value, after.get(key).unwrap_or_else(|| panic!("{path:?} is gone")), path);
                path.pop();
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            // Ours is the first of the init containers.
            let is_init = path.last().is_some_and(|last| last == "initContainers");
            let grown = usize::from(is_init && after.len() > before.len());
            assert!(after.len() >= before.len() + grown, "{path:?}");
            for (index, (before, after)) in before.iter().zip(&after[grown..]).enumerate() {
                path.push(index.to_string());
                kept(before, after, path);
                path.pop();
            }
        }
        (Value::String(before), Value::String(after)) if before != after => {
            let place = path.join("/");
            let grows = place.contains("/env/") || place.ends_with("safe-to-evict-local-volumes");
            let status = place.ends_with("bearerd.dev/status");
            assert!(status || grows && before.split(',').all(|item| after.contains(item.trim())), "{place}: {after}");
        }
        (before, after) => assert_eq!(before, after, "{path:?}"),
    }
}

/// What came is what was agreed on: the maps have only our keys more, and every key is whole.
fn ours(before: &Value, after: &Value) {
    let keys = |pod: &Value, map: &str| {
        pod["metadata"][map].as_object().map(|map| map.keys().cloned().collect::<Vec<_>>()).unwrap_or_default()
    };
    for (map, marks) in [
        ("labels", &["bearerd.dev/injected"][..]),
        ("annotations", &["bearerd.dev/status", "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"]),
    ] {
        let mut wanted = keys(before, map);
        wanted.extend(marks.iter().map(|mark| (*mark).to_owned()).filter(|mark| !keys(before, map).contains(mark)));
        wanted.sort();
        let mut found = keys(after, map);
        found.sort();
        assert_eq!(found, wanted);
    }
    assert_eq!(after["spec"]["initContainers"][0]["name"], "bearerd");
    let fields = |pod: &Value| pod["spec"].as_object().expect("a spec").keys().cloned().collect::<Vec<_>>();
    let more: Vec<_> = fields(after).into_iter().filter(|field| !fields(before).contains(field)).collect();
    assert!(more.iter().all(|field| ["initContainers", "volumes"].contains(&field.as_str())), "{more:?}");
}

fn pod(seed: u64) -> Value {
    let mut dice = StdRng::seed_from_u64(seed);
    let mut labels = strangers(&mut dice);
    labels.insert("bearerd.dev/inject".to_owned(), json!("enabled"));
    let mut metadata = Map::from_iter([("labels".to_owned(), Value::Object(labels))]);
    if let Some(mut annotations) = maybe(&mut dice, strangers) {
        if dice.random() {
            let evict = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes";
            annotations.insert(evict.to_owned(), json!(["", "cache", "cache, bearerd-trust"].choose(&mut dice)));
        }
        metadata.insert("annotations".to_owned(), Value::Object(annotations));
    } else if dice.random() {
        metadata.insert("annotations".to_owned(), Value::Null);
    }
    let mut spec = strangers(&mut dice);
    let containers =
        (0..dice.random_range(1..4)).map(|number| container(&mut dice, &format!("app-{number}"))).collect();
    spec.insert("containers".to_owned(), Value::Array(containers));
    let inits = ["istio-init", "setup", "vault-agent-init"];
    match dice.random_range(0..4) {
        0 => drop(spec.insert("initContainers".to_owned(), Value::Null)),
        1 => {}
        most => {
            let inits = inits.iter().take(most).map(|name| container(&mut dice, name)).collect();
            spec.insert("initContainers".to_owned(), Value::Array(inits));
        }
    }
    if let Some(volumes) =
        maybe(&mut dice, |dice| list(dice, |dice, at| json!({"name": format!("v{at}"), "x": stranger(dice, 2)})))
    {
        spec.insert("volumes".to_owned(), volumes);
    }
    json!({"metadata": metadata, "spec": spec, "unheardOf": stranger(&mut dice, 3)})
}

fn container(dice: &mut StdRng, name: &str) -> Value {
    let mut out = strangers(dice);
    out.insert("name".to_owned(), json!(name));
    if let Some(env) = maybe(dice, |dice| list(dice, |dice, _| variable(dice))) {
        out.insert("env".to_owned(), env);
    }
    let mount = |dice: &mut StdRng, at: usize| json!({"name": format!("v{at}"), "mountPath": format!("/m{at}"), "x": stranger(dice, 1)});
    if let Some(mounts) = maybe(dice, |dice| list(dice, mount)) {
        out.insert("volumeMounts".to_owned(), mounts);
    }
    Value::Object(out)
}

fn variable(dice: &mut StdRng) -> Value {
    let names = [
        "NO_PROXY",
        "no_proxy",
        "HTTPS_PROXY",
        "https_proxy",
        "JAVA_TOOL_OPTIONS",
        "SSL_CERT_FILE",
        "PATH",
        "A~B/C",
        "no_grpc_proxy",
    ];
    let name = names.choose(dice);
    let values = ["", "a.example,.b", "-Xmx1g", "http://127.0.0.1:14180", "$(PATH)", "*"];
    match dice.random_range(0..4) {
        0 => json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}),
        1 => json!({"name": name}),
        _ => json!({"name": name, "value": values.choose(dice)}),
    }
}

/// Up to three items, or `null`.
fn list(dice: &mut StdRng, mut item: impl FnMut(&mut StdRng, usize) -> Value) -> Value {
    if dice.random_ratio(1, 6) {
        return Value::Null;
    }
    Value::Array((0..dice.random_range(0..4)).map(|at| item(dice, at)).collect())
}

fn maybe<T>(dice: &mut StdRng, make: impl FnOnce(&mut StdRng) -> T) -> Option<T> {
    if dice.random() { Some(make(dice)) } else { None }
}

/// Fields that nobody knows, some with names that a pointer must escape.
fn strangers(dice: &mut StdRng) -> Map<String, Value> {
    let names = ["a/b", "c~d", "e~1f", "g", "", "-", "0"];
    (0..dice.random_range(0..3)).map(|_| ((*names.choose(dice).expect("a name")).to_owned(), json!("text"))).collect()
}

fn stranger(dice: &mut StdRng, deep: usize) -> Value {
    match dice.random_range(0..if deep == 0 { 5 } else { 7 }) {
        0 => json!(true),
        1 => json!(dice.random::<i64>()),
        2 => json!(0.5),
        3 => json!("text"),
        4 => json!(u64::MAX),
        5 => Value::Array((0..2).map(|_| stranger(dice, deep - 1)).collect()),
        _ => Value::Object(strangers(dice).into_iter().map(|(name, _)| (name, stranger(dice, deep - 1))).collect()),
    }
}
