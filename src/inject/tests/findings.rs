//! Everything that can be said about a pod: each refusal and each warning names its place, alone.

use serde_json::{Value, json};

use super::{super::*, annotated, injected, pod, refused, settings};

/// Settings beside the pod, the pod, and how the message begins.
type Case = (&'static str, Value, &'static str);

fn spec(field: &str, value: Value) -> Value {
    pod(|pod| pod["spec"][field] = value)
}

fn app(field: &str, value: Value) -> Value {
    pod(|pod| pod["spec"]["containers"][0][field] = value)
}

fn both(containers: &str, skipped: &str) -> Value {
    pod(|pod| {
        pod["metadata"]["annotations"]["bearerd.dev/containers"] = json!(containers);
        pod["metadata"]["annotations"]["bearerd.dev/skip-containers"] = json!(skipped);
    })
}

/// With the sidecar in it, by a status that says `text`.
fn handled(text: &str) -> Value {
    pod(|pod| {
        pod["spec"]["initContainers"] = json!([{"name": "bearerd"}]);
        pod["metadata"]["annotations"]["bearerd.dev/status"] = json!(text);
    })
}

fn refusals() -> Vec<Case> {
    let mut cases = vec![
        (
            "",
            pod(|pod| pod["metadata"]["labels"]["bearerd.dev/inject"] = json!("on")),
            "bearerd.dev/inject: 'on' is no",
        ),
        (
            "",
            pod(|pod| pod["metadata"]["annotations"]["example.com/x"] = json!("x".repeat(256 * 1024))),
            "metadata.annotations: more than 256 KiB",
        ),
        ("", spec("hostNetwork", json!(true)), "spec.hostNetwork: "),
        ("", spec("os", json!({"name": "windows"})), "spec.os: "),
        ("", spec("nodeSelector", json!({"kubernetes.io/os": "windows"})), "spec.os: "),
        ("", spec("volumes", json!([{"name": "bearerd-key"}])), "spec.volumes: 'bearerd-key'"),
        (
            "secrets: {more: x}\n",
            spec("volumes", json!([{"name": "bearerd-key-more"}])),
            "spec.volumes: 'bearerd-key-more'",
        ),
        ("", app("name", json!("bearerd")), "spec.containers: 'bearerd'"),
        ("", spec("initContainers", json!([{"name": "bearerd"}])), "spec.containers: 'bearerd'"),
        ("", handled("{"), "bearerd.dev/status: not what"),
        ("", handled(r#"{"version":"0.1.0","containers":"app"}"#), "bearerd.dev/status: not what"),
        (
            "",
            app("volumeMounts", json!([{"mountPath": "/var/run/bearerd/trust/"}])),
            "spec.containers[0].volumeMounts: ",
        ),
        ("", app("volumeMounts", json!([{"mountPath": "/var/run/bearerd"}])), "spec.containers[0].volumeMounts: "),
    ];
    for field in ["shareProcessNamespace", "hostPID"] {
        let start =
            if field == "hostPID" { "spec.hostPID: a container" } else { "spec.shareProcessNamespace: a container" };
        cases.push(("", sharing(field, 14180), start));
        cases.push(("user: 7\n", sharing(field, 7), start));
        cases.push(("user: null\n", sharing(field, 1000), start));
    }
    cases.extend(ports());
    cases.extend(of_annotations());
    cases
}

/// A pod whose processes see each other by this field, one of them with this UID.
fn sharing(field: &str, user: u64) -> Value {
    pod(|pod| {
        pod["spec"][field] = json!(true);
        pod["spec"]["containers"][0]["securityContext"] = json!({"runAsUser": user});
    })
}

fn ports() -> Vec<Case> {
    let port = |port: u16| app("ports", json!([{"containerPort": port, "protocol": "TCP"}]));
    let ports = "spec.containers[0].ports: ";
    vec![
        ("", port(14180), "spec.containers[0].ports: 14180"),
        // Also of doors that later versions open.
        ("", port(14182), ports),
        ("", port(14183), ports),
        ("", port(14191), ports),
        ("config: {listeners: {metadata: '127.0.0.1:9000'}}\n", port(9000), "spec.containers[0].ports: 9000"),
        (
            "allowHosts: [mqtt.example.com, '*.googleapis.com']\nconfig: {mqtt: [{listen: 1883, upstream: 'mqtt.example.com:8883', credential: default}]}\n",
            port(1883),
            "spec.containers[0].ports: 1883",
        ),
        (
            "",
            app("ports", json!([{"containerPort": 1, "name": "bearerd-metrics"}])),
            "spec.containers[0].ports: 'bearerd",
        ),
        (
            "",
            spec("initContainers", json!([{"name": "init"}, {"name": "i", "ports": [{"containerPort": 14190}]}])),
            "spec.initContainers[1].ports: 14190",
        ),
    ]
}

fn of_annotations() -> Vec<Case> {
    let profiles = "profiles: {nightly: {}, batch: {}}\n";
    let cases = [
        ("", "secret-name", "My_Key", "bearerd.dev/secret-name: 'My_Key'"),
        ("", "secret-name", "", "bearerd.dev/secret-name: empty"),
        ("", "secret-key", "../x", "bearerd.dev/secret-key: "),
        ("", "mode", "endpoint", "bearerd.dev/mode: 'endpoint' is not in this version, want proxy"),
        ("", "credentials", "federation", "bearerd.dev/credentials: "),
        ("", "service-account", "a@b", "bearerd.dev/service-account: "),
        ("", "containers", "ap", "bearerd.dev/containers: 'ap' is no container, did you mean 'app'?"),
        ("", "containers", "database", "bearerd.dev/containers: 'database' is no container, want one of this pod"),
        ("", "skip-containers", "database", "bearerd.dev/skip-containers: 'database'"),
        ("", "containers", "bearerd", "bearerd.dev/containers: 'bearerd' is no container"),
        (
            "",
            "template",
            "batch",
            "bearerd.dev/template: 'batch' is no profile of the administrator's, want it left out",
        ),
        (
            profiles,
            "template",
            "weekly",
            "bearerd.dev/template: 'weekly' is no profile of the administrator's, want batch",
        ),
        ("", "no-proxy", "a b", "bearerd.dev/no-proxy: this value"),
        ("", "no-proxy", "a.example,,", "bearerd.dev/no-proxy: "),
        ("", "cpu-request", "ten", "bearerd.dev/cpu-request: 'ten'"),
        ("", "cpu-limit", "-1", "bearerd.dev/cpu-limit: '-1'"),
        ("", "cpu-limit", "9m", "bearerd.dev/cpu-request: larger"),
        ("", "memory-request", "65Mi", "bearerd.dev/memory-request: larger"),
        ("", "memory-limit", "64mi", "bearerd.dev/memory-limit: '64mi'"),
        ("", "hots", "x", "bearerd.dev/hots: no annotation of this version, did you mean 'hosts'?"),
        ("", "entirely-else", "x", "bearerd.dev/entirely-else: no annotation of this version, see the list of them"),
        ("", "hosts", "evil.example", "bearerd.dev/hosts[0]: 'evil.example' is beyond the hosts"),
        ("", "route.x", "hosts", "bearerd.dev/route.x: "),
        ("", "log-level", "ya29.pasted", "bearerd.dev/log-level: want"),
        ("", "log-level", "loud", "bearerd.dev/log-level: 'loud': want"),
    ];
    let mut cases: Vec<Case> = cases
        .into_iter()
        .map(|(more, name, value, start)| (more, annotated(&format!("bearerd.dev/{name}"), value), start))
        .collect();
    cases.push(("", both("app", "app"), "bearerd.dev/containers: 'app' is in skip-containers too"));
    cases
}

fn warnings() -> Vec<Case> {
    let guaranteed = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
    let mounted = |volume: Value| {
        pod(|pod| {
            pod["spec"]["volumes"] = json!([volume]);
            pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
        })
    };
    let projected = json!({"name": "v", "projected": {"sources": [{"secret": {"name": "key"}}]}});
    vec![
        ("", spec("shareProcessNamespace", json!(true)), "spec.shareProcessNamespace: containers can see"),
        ("", spec("hostPID", json!(true)), "spec.hostPID: containers can see"),
        (
            "sharedProcesses: warn\nuser: null\n",
            sharing("shareProcessNamespace", 1000),
            "spec.shareProcessNamespace: a container with",
        ),
        ("sharedProcesses: warn\nuser: null\n", sharing("hostPID", 14180), "spec.hostPID: a container with"),
        ("", spec("securityContext", json!({"runAsUser": 14180})), "spec.containers[0].securityContext.runAsUser: "),
        (
            "user: 7\n",
            app("securityContext", json!({"runAsUser": 7})),
            "spec.containers[0].securityContext.runAsUser: 7",
        ),
        ("", app("resources", guaranteed), "spec.containers: the sidecar's requests"),
        ("", app("envFrom", json!([{"secretRef": {"name": "other"}}])), "spec.containers[0].envFrom: "),
        (
            "",
            app("env", json!([{"name": "K", "valueFrom": {"secretKeyRef": {"name": "key", "key": "k"}}}])),
            "spec.containers[0]: still gets",
        ),
        ("", mounted(json!({"name": "v", "secret": {"secretName": "key"}})), "spec.containers[0]: still gets"),
        ("", mounted(projected), "spec.containers[0]: still gets"),
        (
            "",
            app("env", json!([{"name": "HTTPS_PROXY", "value": "http://proxy"}])),
            "spec.containers[0].env: HTTPS_PROXY",
        ),
        (
            "",
            app("env", json!([{"name": "GOOGLE_APPLICATION_CREDENTIALS", "value": "/k"}])),
            "spec.containers[0].env: GOOGLE_APPLICATION_CREDENTIALS",
        ),
        ("", annotated("bearer.dev/hosts", "x"), "bearer.dev/hosts: not our prefix"),
        (
            "",
            pod(|pod| pod["metadata"]["labels"]["bearerd.io/inject"] = json!("enabled")),
            "bearerd.io/inject: not our",
        ),
        ("", annotated("bearerd.dev/status", "{}"), "bearerd.dev/status: "),
        ("", annotated("bearerd.dev/skip-containers", "app"), "spec.containers: no container"),
        ("unknownAnnotations: warn\n", annotated("bearerd.dev/hots", "x"), "bearerd.dev/hots: "),
        (
            "config: {routes: [{name: a, hosts: [a.googleapis.com]}, {name: b, hosts: [a.googleapis.com]}]}\n",
            pod(|_| {}),
            "routes[1]",
        ),
    ]
}

#[test]
fn every_refusal_names_its_place() {
    for (more, pod, start) in refusals() {
        let errors = refused(&pod, &settings(more));
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].starts_with(start), "{start}: {errors:?}");
        assert!(errors[0].len() <= 256, "{errors:?}");
    }
    let errors = refused(&pod(|_| {}), &Settings::default());
    assert!(errors[0].starts_with("bearerd.dev/secret-name: missing"), "{errors:?}");
}

#[test]
fn every_warning_names_its_place() {
    for (more, pod, start) in warnings() {
        let (_, warnings) = injected(&pod, &settings(more));
        assert_eq!(warnings.len(), 1, "{start}: {warnings:?}");
        assert!(warnings[0].starts_with(start), "{start}: {warnings:?}");
        assert!(warnings[0].len() <= 256, "{warnings:?}");
    }
}

#[test]
fn a_secret_that_a_container_has_whole_is_told_beside_what_cannot_be_seen() {
    let (_, warnings) = injected(&app("envFrom", json!([{"secretRef": {"name": "key"}}])), &settings(""));
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings.iter().any(|warning| warning.starts_with("spec.containers[0]: still gets")), "{warnings:?}");
}

#[test]
fn what_is_no_fault_is_not_told() {
    for fine in [
        app("ports", json!([{"containerPort": 14180, "protocol": "UDP"}])),
        app("volumeMounts", json!([{"name": "v", "mountPath": "/var/run/bearerd-of-mine"}])),
        app("resources", json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1m", "memory": "1Gi"}})),
        app("env", json!([{"name": "HTTPS_PROXY", "value": "http://127.0.0.1:14180"}])),
        spec("os", json!({"name": "linux"})),
        annotated("prometheus.io/scrape", "true"),
    ] {
        let (_, warnings) = injected(&fine, &settings(""));
        assert_eq!(warnings, Vec::<String>::new(), "{fine}");
    }
}

#[test]
fn everything_is_told_at_once() {
    let bad = pod(|pod| {
        pod["spec"]["hostNetwork"] = json!(true);
        pod["metadata"]["annotations"] =
            json!({"bearerd.dev/hots": "x", "bearerd.dev/secret-key": "/", "bearerd.dev/hosts": "evil.example"});
    });
    let errors = refused(&bad, &settings(""));
    for start in ["spec.hostNetwork", "bearerd.dev/hots", "bearerd.dev/secret-key", "bearerd.dev/hosts[0]"] {
        assert_eq!(errors.iter().filter(|error| error.starts_with(start)).count(), 1, "{start}: {errors:?}");
    }
    assert_eq!(errors.len(), 4, "{errors:?}");
}

#[test]
fn nothing_can_be_said_that_no_case_here_says() {
    let mut said = refused(&pod(|_| {}), &Settings::default());
    said.extend(refusals().iter().flat_map(|(more, pod, _)| refused(pod, &settings(more))));
    said.extend(warnings().iter().flat_map(|(more, pod, _)| injected(pod, &settings(more)).1));
    let sources = [
        include_str!("../annotations.rs"),
        include_str!("../containers.rs"),
        include_str!("../plan.rs"),
        include_str!("../quantity.rs"),
        include_str!("../shapes.rs"),
    ];
    let mut sentences = 0;
    for source in sources {
        let code: String =
            source.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        let code = code.replace("'\"'", "").replace("\\\"", "");
        // A text of four words or more is told to a user.
        let texts = code.split('"').skip(1).step_by(2);
        for text in texts.filter(|text| text.matches(' ').count() >= 3 && !text.contains('\n')) {
            sentences += 1;
            assert!(said.iter().any(|said| is_of(said, text)), "no case says {text:?}");
        }
    }
    assert!(sentences > 30, "{sentences}");
}

/// Whether a message is what a format string makes.
fn is_of(said: &str, format: &str) -> bool {
    let pieces = format.split('{').enumerate();
    let pieces =
        pieces.map(|(at, piece)| if at == 0 { piece } else { piece.split_once('}').map_or("", |(_, rest)| rest) });
    let mut rest = Some(said);
    for piece in pieces {
        rest = rest.and_then(|rest| rest.split_once(piece)).map(|(_, rest)| rest);
    }
    rest.is_some()
}
