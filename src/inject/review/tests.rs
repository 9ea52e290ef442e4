//! Reviews as API servers send them, and what goes back.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::*;

fn pod_review(change: impl FnOnce(&mut Value)) -> Value {
    let mut review = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "shop",
            "operation": "CREATE",
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
            "object": {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "generateName": "app-6f7-",
                    "ownerReferences": [
                        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "app-6f7", "uid": "u-1", "controller": true},
                    ],
                },
                "spec": {"containers": [{"name": "app"}]},
            },
            "oldObject": null,
            "dryRun": false,
            "options": {"kind": "CreateOptions"},
        },
    });
    change(&mut review);
    review
}

fn workload_review(group: &str, resource: &str, kind: &str, object: Value) -> Value {
    pod_review(|review| {
        let request = &mut review["request"];
        request["kind"] = json!({"group": group, "version": "v1", "kind": kind});
        request["resource"] = json!({"group": group, "version": "v1", "resource": resource});
        request["object"] = object;
    })
}

fn finding(subject: &str, message: &str) -> Finding {
    Finding { subject: subject.to_owned(), message: message.to_owned(), anchor: "kubernetes.md#pod-shapes" }
}

fn injecting(_: &Value, _: Asked) -> std::result::Result<Plan, Refused> {
    let patch = vec![json!({"op": "add", "path": "/metadata/labels", "value": {"bearerd.dev/injected": "true"}})];
    Ok(Plan { outcome: Outcome::Injected, patch, warnings: vec![finding("spec.shareProcessNamespace", "is odd")] })
}

fn leaving(_: &Value, _: Asked) -> std::result::Result<Plan, Refused> {
    Ok(Plan { outcome: Outcome::Skipped("no label"), patch: Vec::new(), warnings: Vec::new() })
}

fn refusing(_: &Value, _: Asked) -> std::result::Result<Plan, Refused> {
    let errors = vec![finding("bearerd.dev/hosts", "want hosts"), finding("spec.hostNetwork", "want false")];
    Err(Refused { errors, warnings: vec![finding("bearer.dev/hosts", "means bearerd.dev/hosts?")] })
}

fn ask(door: Door, review: &Value, plan: Planner<'_>) -> (Reviewed, Value) {
    let reviewed = answered(door, review.to_string().as_bytes(), plan).unwrap();
    let body: Value = serde_json::from_slice(&reviewed.body).unwrap();
    assert_eq!(body["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(body["kind"], "AdmissionReview");
    assert_eq!(body["response"]["uid"], review["request"]["uid"]);
    (reviewed, body["response"].clone())
}

#[test]
fn an_injected_pod_gets_its_patch_its_warnings_and_its_audit() {
    let (reviewed, response) = ask(Door::Pods, &pod_review(|_| {}), &injecting);
    assert_eq!((reviewed.result, reviewed.namespace.as_str()), (Result::Injected, "shop"));
    assert_eq!(response["allowed"], true);
    assert_eq!(response["patchType"], "JSONPatch");
    let patch = STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
    let patch: Value = serde_json::from_slice(&patch).unwrap();
    assert_eq!(patch[0]["value"]["bearerd.dev/injected"], "true");
    assert_eq!(response["auditAnnotations"], json!({"injected": "true", "reason": "injected"}));
    assert_eq!(response["warnings"], json!(["spec.shareProcessNamespace: is odd (docs: kubernetes.md#pod-shapes)"]));
}

#[test]
fn a_pod_left_alone_gets_no_patch_at_all() {
    let (reviewed, response) = ask(Door::Pods, &pod_review(|_| {}), &leaving);
    assert_eq!(reviewed.result, Result::Skipped);
    let audit = json!({"injected": "false", "reason": "no label"});
    let uid = response["uid"].clone();
    assert_eq!(response, json!({"uid": uid, "allowed": true, "auditAnnotations": audit}));
}

#[test]
fn a_refusal_has_code_reason_every_error_and_the_warnings() {
    let (reviewed, response) = ask(Door::Pods, &pod_review(|_| {}), &refusing);
    assert_eq!(reviewed.result, Result::Denied);
    assert_eq!(response["allowed"], false);
    let message = "bearerd.dev/hosts: want hosts (docs: kubernetes.md#pod-shapes); \
                   spec.hostNetwork: want false (docs: kubernetes.md#pod-shapes)";
    let status = json!({"status": "Failure", "code": 403, "reason": "Forbidden", "message": message});
    assert_eq!(response["status"], status);
    assert_eq!(response["warnings"].as_array().unwrap().len(), 1);
    assert_eq!(reviewed.message, message);
    assert_eq!(response["auditAnnotations"]["reason"], "bearerd.dev/hosts, spec.hostNetwork");
    assert!(response.get("patch").is_none());
}

#[test]
fn the_door_says_who_asked() {
    for (door, expected) in [(Door::Pods, Asked::ByPod), (Door::Namespace, Asked::ByNamespace)] {
        let plan = |pod: &Value, asked: Asked| {
            assert_eq!(asked, expected);
            assert_eq!(pod["spec"]["containers"][0]["name"], "app");
            leaving(pod, asked)
        };
        ask(door, &pod_review(|_| {}), &plan);
    }
}

#[test]
fn messages_and_warnings_are_cut_and_counted_never_dropped() {
    let many = |_: &Value, _: Asked| {
        let long = |at: usize| finding(&format!("bearerd.dev/route.{at}"), &"ä".repeat(300));
        Err(Refused { errors: (0..20).map(long).collect(), warnings: (0..40).map(long).collect() })
    };
    let (_, response) = ask(Door::Pods, &pod_review(|_| {}), &many);
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.len() <= 900, "{}", message.len());
    assert!(message.starts_with("bearerd.dev/route.0: ä") && message.ends_with("; … and 17 more"), "{message}");
    let warnings = response["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 15);
    assert!(warnings.iter().all(|warning| warning.as_str().unwrap().len() <= 256));
    assert_eq!(warnings[14], "… and 26 more");
}

#[test]
fn what_is_no_pod_being_created_is_left_alone_with_a_word() {
    type Change = fn(&mut Value);
    let table: [(&str, Change); 6] = [
        ("an update", |request| request["operation"] = json!("UPDATE")),
        ("a deletion", |request| {
            request["operation"] = json!("DELETE");
            request["object"] = Value::Null;
        }),
        ("an ephemeral container", |request| request["subResource"] = json!("ephemeralcontainers")),
        ("a deployment", |request| {
            request["resource"]["resource"] = json!("deployments");
            request["kind"] = json!({"group": "apps", "kind": "Deployment"});
        }),
        ("somebody's pods", |request| request["resource"]["group"] = json!("example.com")),
        ("no kind", |request| drop(request.as_object_mut().unwrap().remove("kind"))),
    ];
    for (name, change) in table {
        let review = pod_review(|review| change(&mut review["request"]));
        let (reviewed, response) = ask(Door::Pods, &review, &|_, _| panic!("{name} was planned"));
        assert_eq!(reviewed.result, Result::Skipped, "{name}");
        assert_eq!(response["allowed"], true, "{name}");
        assert_eq!(response["warnings"].as_array().unwrap().len(), 1, "{name}");
    }
}

#[test]
fn templates_are_warned_about_and_never_refused() {
    let template = json!({"metadata": {"labels": {"bearerd.dev/inject": "enabled"}}, "spec": {"containers": []}});
    let spec = json!({"template": template});
    for (group, resource, kind, object) in [
        ("apps", "deployments", "Deployment", json!({"spec": spec})),
        ("apps", "statefulsets", "StatefulSet", json!({"spec": spec})),
        ("apps", "daemonsets", "DaemonSet", json!({"spec": spec})),
        ("apps", "replicasets", "ReplicaSet", json!({"spec": spec})),
        ("", "replicationcontrollers", "ReplicationController", json!({"spec": spec})),
        ("batch", "jobs", "Job", json!({"spec": spec})),
        ("batch", "cronjobs", "CronJob", json!({"spec": {"jobTemplate": {"spec": spec}}})),
    ] {
        let review = workload_review(group, resource, kind, object);
        let plan = |pod: &Value, asked: Asked| {
            assert_eq!((pod, asked), (&template, Asked::ByPod), "{kind}");
            refusing(pod, asked)
        };
        let (reviewed, response) = ask(Door::Templates, &review, &plan);
        assert_eq!((reviewed.result, &response["allowed"]), (Result::Warned, &json!(true)), "{kind}");
        assert_eq!(response["warnings"].as_array().unwrap().len(), 3, "{kind}");
        assert!(response.get("patch").is_none(), "{kind}");
        let (reviewed, response) = ask(Door::Templates, &review, &leaving);
        assert_eq!((reviewed.result, response.get("warnings")), (Result::Fine, None), "{kind}");
        // Of an injected one the patch is nobody's business here.
        let (_, response) = ask(Door::Templates, &review, &injecting);
        assert!(response.get("patch").is_none(), "{kind}");
    }
}

#[test]
fn our_label_on_the_workload_itself_is_warned_about() {
    let object = json!({
        "metadata": {"labels": {"bearerd.dev/inject": "enabled", "app": "x"}, "annotations": {"bearerd.dev/hosts": "a"}},
        "spec": {"template": {"metadata": {}, "spec": {}}},
    });
    let (reviewed, response) =
        ask(Door::Templates, &workload_review("apps", "deployments", "Deployment", object), &leaving);
    assert_eq!(reviewed.result, Result::Warned);
    let warnings: Vec<_> = response["warnings"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(warnings.len(), 2);
    assert!(warnings[0].starts_with("bearerd.dev/hosts: has no effect on the workload itself"), "{warnings:?}");
    assert!(warnings[1].starts_with("bearerd.dev/inject: has no effect"), "{warnings:?}");
}

#[test]
fn what_is_no_review_is_refused_with_a_reason() {
    let uid = |uid: Value| pod_review(|review| review["request"]["uid"] = uid).to_string();
    let version = |version: &str| pod_review(|review| review["apiVersion"] = json!(version)).to_string();
    let table = [
        (String::new(), BadReview::Shape),
        ("{".to_owned(), BadReview::Shape),
        ("[]".to_owned(), BadReview::Shape),
        (pod_review(|review| review["kind"] = json!("Pod")).to_string(), BadReview::Shape),
        (version("admission.k8s.io/v1beta1"), BadReview::Version),
        (version("admission.k8s.io/v2"), BadReview::Version),
        (pod_review(|review| review["request"] = Value::Null).to_string(), BadReview::NoRequest),
        (uid(json!("")), BadReview::Uid),
        (uid(json!("a\nb")), BadReview::Uid),
        (uid(json!("x".repeat(200))), BadReview::Uid),
        (uid(json!(7)), BadReview::Shape),
        (format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)), BadReview::Shape),
    ];
    for (body, expected) in table {
        let found = answered(Door::Pods, body.as_bytes(), &injecting).map(|_| ());
        assert_eq!(found, Err(expected), "{}", &body[..body.len().min(80)]);
    }
}

#[test]
fn the_owner_is_the_controller_else_the_pod_by_plain_names_only() {
    let owner = |change: fn(&mut Value)| {
        let review = pod_review(|review| change(&mut review["request"]));
        let (reviewed, _) = ask(Door::Pods, &review, &leaving);
        let owner = reviewed.owner;
        format!("{} {} {} {} {}", owner.api_version, owner.kind, owner.name, owner.uid, owner.is_named)
    };
    assert_eq!(owner(|_| {}), "apps/v1 ReplicaSet app-6f7 u-1 true");
    assert_eq!(
        owner(|request| request["object"]["metadata"]["ownerReferences"][0]["controller"] = json!(false)),
        "v1 Pod app-6f7-  false"
    );
    assert_eq!(owner(|request| request["object"]["metadata"] = json!({"name": "app"})), "v1 Pod app  true");
    assert_eq!(owner(|request| request["object"]["metadata"] = json!({"name": "a\u{1b}[31m"})), "v1 Pod   false");
    assert_eq!(
        owner(|request| request["object"]["metadata"]["ownerReferences"][0]["name"] = json!("a b\n")),
        "apps/v1 ReplicaSet  u-1 false"
    );
}

#[test]
fn a_dry_run_is_known_as_one() {
    let review = pod_review(|review| review["request"]["dryRun"] = json!(true));
    assert!(ask(Door::Pods, &review, &injecting).0.dry_run);
    assert!(!ask(Door::Pods, &pod_review(|_| {}), &injecting).0.dry_run);
}
