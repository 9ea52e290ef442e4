//! Documents in, documents out, with a plan that opts in by label and adds what the real one does, where it does.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use super::{Input, Manifests, inject, read, scalar, tree};
use crate::inject::{Finding, Outcome, Plan, Refused};

/// Adds in front, behind, in place and where nothing was.
fn planner(pod: &Value) -> Result<Plan, Refused> {
    let plan = |outcome, patch| Ok(Plan { outcome, patch, warnings: Vec::new() });
    let asked = pod.pointer("/metadata/labels/bearerd.dev~1inject").and_then(Value::as_str);
    let finding = |subject: &str| Finding { subject: subject.to_owned(), message: "bad".to_owned(), anchor: "x.md#y" };
    match asked {
        None => return plan(Outcome::Skipped("no label"), Vec::new()),
        Some("enabled") => {}
        Some(_) => {
            let errors = vec![finding("bearerd.dev/inject"), finding("spec.containers[0].image")];
            return Err(Refused { errors, warnings: vec![finding("spec.nothing")] });
        }
    }
    if pod.pointer("/metadata/labels/bearerd.dev~1injected").is_some() {
        return plan(Outcome::Already, Vec::new());
    }
    let mut patch = Vec::new();
    let mut add = |path: String, value: Value| patch.push(json!({"op": "add", "path": path, "value": value}));
    let list = |value: Option<&Value>| value.is_some_and(Value::is_array);
    for (at, container) in pod["spec"]["containers"].as_array().unwrap().iter().enumerate() {
        for (field, item) in [
            ("env", json!({"name": "HTTPS_PROXY", "value": "http://127.0.0.1:14180"})),
            ("volumeMounts", json!({"name": "bearerd-trust", "mountPath": "/var/run/bearerd/trust", "readOnly": true})),
        ] {
            let path = format!("/spec/containers/{at}/{field}");
            if !list(container.get(field)) {
                add(path.clone(), json!([]));
            }
            add(format!("{path}/-"), item);
        }
    }
    for field in ["initContainers", "volumes"] {
        if !list(pod["spec"].get(field)) {
            add(format!("/spec/{field}"), json!([]));
        }
    }
    let sidecar = json!({
        "name": "bearerd", "image": "example.test/bearerd:0.1.0", "args": ["run", "--allow-hosts=*.googleapis.com", "0444", ""],
        "env": [{"name": "BEARERD_CONFIG_TEXT", "value": "{\"drain\":{\"linger\":\"0s\"}}"}],
        "restartPolicy": "Always", "securityContext": {"capabilities": {"drop": ["ALL"]}, "runAsUser": 14180}
    });
    add("/spec/initContainers/0".to_owned(), sidecar);
    add("/spec/volumes/-".to_owned(), json!({"name": "bearerd-trust", "emptyDir": {}}));
    if !pod["metadata"]["annotations"].is_object() {
        add("/metadata/annotations".to_owned(), json!({}));
    }
    add("/metadata/annotations/bearerd.dev~1status".to_owned(), json!("{\"version\":\"0.1.0\"}"));
    add("/metadata/labels/bearerd.dev~1injected".to_owned(), json!("true"));
    plan(Outcome::Injected, patch)
}

fn data() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/manifests")
}

fn run(name: &str, text: &str) -> Manifests {
    inject(vec![Input { name: name.to_owned(), text: text.to_owned() }], &planner)
}

fn report(manifests: &Manifests) -> Vec<String> {
    manifests.report().map(str::to_owned).collect()
}

/// What every document of a text means.
fn values(name: &str, text: &str) -> Vec<Option<Value>> {
    if name.ends_with(".json") {
        let values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
        return values.map(|value| Some(value.unwrap())).collect();
    }
    tree::parse(text).unwrap().iter().map(|document| document.root.as_ref().map(tree::Node::value)).collect()
}

/// The planner's patches, made by hand on the values.
fn patched(value: &Value) -> Value {
    let mut value = value.clone();
    for pod in ["", "/template", "/spec/template", "/spec/jobTemplate/spec/template", "/items/0"] {
        let Some(target) = value.pointer_mut(pod).filter(|pod| pod["spec"]["containers"].is_array()) else { continue };
        let patch = planner(target).unwrap().patch;
        let patch: json_patch::Patch = serde_json::from_value(Value::Array(patch)).unwrap();
        json_patch::patch(target, &patch).unwrap();
    }
    value
}

fn fixtures() -> Vec<(String, String)> {
    let mut files: Vec<_> = fs::read_dir(data()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 4);
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    files.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// Small documents of every layout we could think of; each holds a pod that asks.
fn layouts() -> Vec<String> {
    let pod = "kind: Pod\nmetadata:\n  labels:\n    bearerd.dev/inject: enabled\nspec:\n";
    let flow = "{kind: Pod, metadata: {labels: {bearerd.dev/inject: enabled}}, spec: {containers: [{name: a}]}}";
    let mut all: Vec<String> = [
        "  containers:\n  - name: a\n",
        "  containers:\n  - name: a",
        "  containers:\n    - name: a\n      env:\n        - name: X\n          value: >-\n            folded\n            text\n\n\n",
        "  containers: [{name: a, env: [], volumeMounts: [{name: v}]}]  # flow\n",
        "  containers:\n  -   name: a\n      env:\n      # only a comment\n  restartPolicy: Never\n",
        "  containers:\n  - name: a\n    env: ~\n    volumeMounts: null\n  volumes:   # soon\n  initContainers: [ ]\n",
        "  initContainers:\n  # about the first\n\n  # more about it\n  - name: i\n  containers:\n  - {name: a}\n  - name: b\n",
        "  containers:\n  - name: a\n    args: [\n      x, # one\n      y\n    ]\n  # the end\n",
        "  volumes:\n  - name: v\n    emptyDir: {}\n  containers:\n  - env:\n    - {name: A, value: y}\n    name: a\n",
        "  \"containers\":\n  - 'name': a\n    ? env\n    : - name: Q\n",
        "  containers:\n  - !!map\n    name: a\n    env: !!seq\n    - name: !!str 1\n  - &x\n    name: b\n",
        "  containers:\n  - name: a\n    command:\n    - sh\n    - -c\n    - |\n      cat <<E\n      ---\n      E",
        "  containers:\n  - name: a\n    env:\n    - {name: A,\n       value: b,\n      }\n",
    ]
    .iter()
    .map(|spec| format!("{pod}{spec}"))
    .collect();
    all.push(flow.to_owned());
    all.push(format!("--- {flow} # comment\n"));
    all.push(format!("--- # comment\n{pod}  containers: []\n...\n"));
    all.push(format!("\u{feff}{pod}  containers:\n  - name: a\n"));
    all
}

#[test]
fn a_document_becomes_what_was_planned_and_nothing_else() {
    let layouts = layouts().into_iter().map(|text| ("layout.yaml".to_owned(), text));
    for (name, text) in fixtures().into_iter().chain(layouts) {
        for text in [text.clone(), text.replace('\n', "\r\n")] {
            let done = run(&name, &text);
            assert_eq!(done.errors(), 0, "{:?}\n{text}", report(&done));
            let new = done.stream();
            assert_ne!(new, text);
            let wanted: Vec<_> = values(&name, &text).iter().map(|value| value.as_ref().map(patched)).collect();
            assert_eq!(values(&name, &new), wanted, "{text}\n=>\n{new}");
            assert_eq!(new.replace("\r\n", "").contains('\n'), text.replace("\r\n", "").contains('\n'), "{new}");
            let again = run(&name, &new);
            assert_eq!((again.errors(), again.stream()), (0, new));
            assert!(again.diff().is_empty());
        }
    }
}

#[test]
fn every_line_of_block_yaml_that_was_there_is_still_there() {
    for name in ["web.yaml", "jobs.yaml"] {
        let text = fs::read_to_string(data().join(name)).unwrap();
        let done = run(name, &text);
        let new = done.stream();
        let mut lines = new.lines();
        // `{}` and `[]` that are filled, and flow collections that grow, are the lines that change.
        for line in
            text.lines().filter(|line| !line.contains(": {}") && !line.contains(": []") && !line.contains("&labels"))
        {
            assert!(lines.any(|new| new == line), "{line}\n{new}");
        }
        assert!(!report(&done).iter().any(|line| line.contains("anew")), "{:?}", report(&done));
    }
}

#[test]
fn what_is_added_looks_like_what_is_around_it() {
    let text = "kind: Pod\nmetadata:\n  labels:\n    bearerd.dev/inject: enabled # please\nspec:\n  # one\n  containers:\n  - name: a # app\n    env: []\n";
    let wanted = "\
kind: Pod
metadata:
  labels:
    bearerd.dev/inject: enabled # please
    bearerd.dev/injected: \"true\"
  annotations:
    bearerd.dev/status: '{\"version\":\"0.1.0\"}'
spec:
  # one
  containers:
  - name: a # app
    env:
    - name: HTTPS_PROXY
      value: http://127.0.0.1:14180
    volumeMounts:
    - name: bearerd-trust
      mountPath: /var/run/bearerd/trust
      readOnly: true
  initContainers:
  - name: bearerd
    args:
    - run
    - \"--allow-hosts=*.googleapis.com\"
    - \"0444\"
    - \"\"
    env:
    - name: BEARERD_CONFIG_TEXT
      value: '{\"drain\":{\"linger\":\"0s\"}}'
    image: example.test/bearerd:0.1.0
    restartPolicy: Always
    securityContext:
      capabilities:
        drop:
        - ALL
      runAsUser: 14180
  volumes:
  - name: bearerd-trust
    emptyDir: {}
";
    assert_eq!(run("x.yaml", text).stream(), wanted);
}

#[test]
fn untouched_files_come_out_byte_for_byte() {
    for text in [
        "",
        "# nothing\n",
        "---\n---\n",
        "kind: Service\r\nmetadata: {name: x}\r\n\r\n\r\n",
        "kind: Custom\nkind: Custom\na: !thing 1\n",
        "\u{feff}kind: ConfigMap\ndata:\n  a: {{ x }}: y\n".trim_end_matches(": y\n"),
        "kind: Deployment\nspec:\n  template:\n    spec: {containers: [{name: a}]}   \n\n",
        "a: 1\n...\n# end",
        "{\"kind\": \"Service\",\n  \"a\": 1.0}",
    ] {
        let done = run("x.yaml", text);
        assert_eq!((done.errors(), done.stream().as_str(), done.diff().as_str()), (0, text, ""), "{:?}", report(&done));
    }
}

#[test]
fn the_report_has_a_line_for_each_object_and_the_line_it_is_about() {
    let text = fs::read_to_string(data().join("jobs.yaml")).unwrap();
    let wanted = [
        "1: cronjob/nightly injected",
        "34: pod/one-* injected",
        "44: secret/other untouched",
        "47: job/foreign untouched",
    ];
    assert_eq!(report(&run("j", &text)), wanted.map(|line| format!("j:{line}")));

    let refused = "kind: Deployment\nmetadata:\n  name: x\n  labels: {bearerd.dev/inject: enabled}\nspec:\n  template:\n    metadata:\n      labels:\n        a: b\n        bearerd.dev/inject: \"\"\n    spec:\n      containers:\n      - name: a\n        image: b\n";
    let wanted = [
        "10: deployment/x refused: bearerd.dev/inject: bad (docs: x.md#y)",
        "14: deployment/x refused: spec.containers[0].image: bad (docs: x.md#y)",
        "11: deployment/x warning: spec.nothing: bad (docs: x.md#y)",
    ];
    let done = run("d", refused);
    assert_eq!((report(&done), done.errors()), (wanted.map(|line| format!("d:{line}")).to_vec(), 2));

    let misplaced = refused.replace("        bearerd.dev/inject: \"\"\n", "");
    let told = report(&run("d", &misplaced));
    assert!(
        told[0].starts_with("d:4: deployment/x warning: metadata.labels.bearerd.dev/inject stands on the workload"),
        "{told:?}"
    );
    assert!(told[0].contains("want it in spec.template.metadata.labels"), "{told:?}");
    assert_eq!(told[1], "d:1: deployment/x untouched: no label");
}

#[test]
fn what_cannot_be_read_or_changed_is_an_error_with_its_line() {
    let deep = format!("a: {}{}", "[".repeat(70), "]".repeat(70));
    let bomb = (0..9).fold("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, level| {
        format!("{text}a{}: &a{} [{}]\n", level + 1, level + 1, vec![format!("*a{level}"); 10].join(", "))
    });
    let tower = (0..40).fold("a0: &a0 [x]\n".to_owned(), |text, level| {
        format!("{text}a{}: &a{} [[*a{level}]]\n", level + 1, level + 1)
    });
    for (name, text, wanted) in [
        ("x", tower.as_str(), "x:33: nested deeper than 64"),
        ("x", "kind: Pod\nspec:\n\tcontainers: []\n", "x:3: not YAML: "),
        (
            "x",
            "kind: Pod\nmetadata: {name: a}\nspec:\n  a: 1\n  a: 2\n",
            "x:5: pod/a refused: 'a' stands here again, first in line 4; want it once",
        ),
        ("x", "kind: Pod\nkind: Pod\n", "x:2: pod/? refused: 'kind' stands here again"),
        ("x", "kind: Pod\nspec: !custom {}\n", "x:2: pod/? refused: the tag !custom means nothing to Kubernetes"),
        ("x", "kind: Pod\nspec: {a: .nan}\n", "x:2: pod/? refused: .nan is no number of JSON"),
        ("x", "kind: Job\nmetadata: {name: j}\n", "x:1: job/j refused: spec.template.spec: missing, want a pod's"),
        ("x", "kind: Pod\nspec: []\n", "x:1: pod/? refused: spec: missing, want a pod's"),
        (
            "x",
            "kind: Deployment\nspec:\n  replicas: {{ .Values.replicas }}\n",
            "a Helm template, want what `helm template` makes of it",
        ),
        ("x", "{{- if .Values.on }}\nkind: Pod\n{{- end }}\n", "a Helm template, want what"),
        ("x", "a: *nowhere\n", "x:1: not YAML: "),
        ("x", "a: &a [*a]\n", "x:1: "),
        ("x", &deep, "x:1: nested deeper than 64"),
        ("x", &bomb, "more than 1000000 values"),
        ("x.json", "{\n\"a\": 1,\n\"a\": 2}", "x.json:3: not JSON: 'a' stands here again; want it once"),
        ("x.json", "{\n\"a\" 1}", "x.json:2: not JSON: expected `:`"),
        ("x.json", "{} \n {", "x.json:2: not JSON: EOF"),
    ] {
        let done = run(name, text);
        let told = report(&done);
        assert!(done.errors() > 0 && told.iter().any(|line| line.contains(wanted)), "{wanted}: {told:?}");
        assert_eq!(done.stream(), text, "{wanted}");
    }
    let many = "---\na: b\n".repeat(10_001);
    assert!(report(&run("x", &many))[0].ends_with("more than 10000 documents"));
}

#[test]
fn scalars_mean_what_they_mean_to_kubectl_and_are_quoted_when_they_mean_something() {
    for (text, value) in [
        ("no", json!(false)),
        ("On", json!(true)),
        ("~", json!(null)),
        ("0444", json!(292)),
        ("0o444", json!(292)),
        ("0x1F", json!(31)),
        ("1_000", json!(1000)),
        ("-7", json!(-7)),
        ("1.10", json!(1.1)),
        ("1e3", json!(1000.0)),
        (".5", json!(0.5)),
        ("-9223372036854775808", json!(i64::MIN)),
        ("18446744073709551615", json!(u64::MAX)),
    ] {
        assert_eq!(scalar::resolve(text), Some(value), "{text}");
        assert!(scalar::block(text).starts_with('"'), "{text}");
    }
    for text in [
        "",
        "a",
        "10m",
        "1:30",
        "--x",
        "+-1",
        "0x",
        "a b",
        "a: b",
        "a #b",
        "- a",
        "*a",
        "a:",
        " a",
        "'",
        "\"",
        "\\",
        "\"\n",
        "é",
        "\u{2028}",
        "\u{7f}",
        "-",
        "?",
        "=",
        "<<",
        "12e03x",
        "2001-01-01",
        "{a}",
        "\"\u{feff}",
    ] {
        let written = format!("k: {}\n", scalar::block(text));
        assert_eq!(values("x", &written), [Some(json!({ "k": text }))], "{written}");
        let written = format!("k: [{}]\n", scalar::quoted(text));
        assert_eq!(values("x", &written), [Some(json!({ "k": [text] }))], "{written}");
        assert_eq!(serde_json::from_str::<String>(&scalar::quoted(text)).unwrap(), text);
    }
}

#[test]
fn files_become_one_stream_that_reads_as_all_of_them() {
    let texts = [
        ("a.yaml", "a: 1"),
        ("b.yaml", "\u{feff}# b\n---\nb: 1\n"),
        ("c.json", "{\"c\": 1} {\"d\": 1}"),
        ("d.yaml", "e: 1\n"),
    ];
    let inputs = texts.map(|(name, text)| Input { name: name.to_owned(), text: text.to_owned() });
    let stream = inject(inputs.to_vec(), &planner).stream();
    let wanted = ["a", "b", "c", "d", "e"].map(|key| Some(json!({ key: 1 })));
    assert_eq!(values("x", &stream), wanted, "{stream}");
    let all_json = inject(vec![inputs[2].clone(), inputs[2].clone()], &planner).stream();
    assert_eq!(values("x.json", &all_json).len(), 4, "{all_json}");
}

#[test]
fn the_diff_is_unified_and_names_the_file() {
    let text = fs::read_to_string(data().join("pod.json")).unwrap();
    let diff = run("/k/pod.json", &text).diff();
    assert!(diff.starts_with("--- a/k/pod.json\n+++ b/k/pod.json\n@@ "), "{diff}");
    assert!(diff.contains("\n+        \"initContainers\": [\n"), "{diff}");
    assert!(!diff.contains("-    \"kind\""), "{diff}");
}

#[test]
fn directories_are_read_as_kubectl_reads_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (name, text) in [("b.yml", "b: 1"), ("a.yaml", "a: 1"), ("c.json", "{}"), ("d.txt", "d"), ("e.yaml~", "e")] {
        fs::write(path(name), text).unwrap();
    }
    fs::create_dir(path("sub.yaml")).unwrap();
    fs::write(path("sub.yaml/x.yaml"), "x: 1").unwrap();
    let inputs = read(&[folder.path().to_owned(), "-".into()], &mut &b"stdin: 1"[..]).unwrap();
    let texts: Vec<_> = inputs.iter().map(|input| input.text.as_str()).collect();
    assert_eq!(texts, ["a: 1", "b: 1", "{}", "stdin: 1"]);
    assert_eq!(inputs[3].name, "stdin");

    let empty = tempfile::tempdir().unwrap();
    fs::write(path("latin1"), b"a\nb: \xe9").unwrap();
    fs::write(path("utf16"), b"\xff\xfea\0").unwrap();
    fs::write(path("large"), vec![b' '; super::input::MOST_BYTES + 1]).unwrap();
    for (file, wanted) in [
        (empty.path().to_owned(), "no *.yaml, *.yml or *.json in it"),
        (path("missing"), "No such file"),
        (path("latin1"), "latin1:2: a byte that is not UTF-8"),
        (path("utf16"), "this is UTF-16, want UTF-8"),
        (path("large"), "larger than 16777216 bytes"),
    ] {
        let errors = read(&[file, path("missing")], &mut &b""[..]).unwrap_err();
        assert!(errors[0].contains(wanted), "{errors:?}");
        assert_eq!(errors.len(), 2);
    }
    assert_eq!(read(&["-".into(), "-".into()], &mut &b""[..]).unwrap_err(), ["-f -: standard input can be read once"]);
}

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// A pod with some of what a pod may have.
fn pod(dice: &mut Dice) -> Value {
    let container = |dice: &mut Dice, name: &str| {
        let mut container = json!({"name": name, "image": "example.test/a:1.10"});
        let fields = [
            ("env", json!([{"name": "A", "value": "no"}, {"name": "B", "value": "two\nlines\n"}])),
            ("env", json!([])),
            ("env", json!(null)),
            ("volumeMounts", json!([{"name": "v", "mountPath": "/v"}])),
            ("args", json!(["---", "{{ x }}", "# none", "0444", ""])),
            ("resources", json!({"limits": {"memory": "64Mi"}, "requests": {}})),
        ];
        for (field, value) in fields {
            if dice.roll(2) == 0 {
                container[field] = value;
            }
        }
        container
    };
    let containers: Vec<Value> = (0..=dice.roll(3)).map(|at| container(dice, &format!("c{at}"))).collect();
    let mut pod = json!({"kind": "Pod", "spec": {"containers": containers}, "zeta": 1,
        "metadata": {"name": "p", "labels": {"bearerd.dev/inject": "enabled"}}});
    for (field, value) in [
        ("initContainers", json!([{"name": "i", "command": ["a", "b"]}])),
        ("initContainers", json!([])),
        ("volumes", json!([{"name": "v", "emptyDir": {}}])),
        ("volumes", json!(null)),
        ("terminationGracePeriodSeconds", json!(30)),
    ] {
        if dice.roll(2) == 0 {
            pod["spec"][field] = value;
        }
    }
    if dice.roll(2) == 0 {
        pod["metadata"]["annotations"] = [json!({}), json!(null), json!({"a": "b"})][dice.roll(3) as usize].clone();
    }
    pod
}

/// Lines of a value in a layout that the dice choose.
fn write(value: &Value, dice: &mut Dice) -> Vec<String> {
    let comment = |dice: &mut Dice, lines: &mut Vec<String>| match dice.roll(6) {
        0 => lines.push("# comment".to_owned()),
        1 => lines.push(String::new()),
        _ => {}
    };
    let mut lines = Vec::new();
    let indented = |lines: Vec<String>, first: &str, rest: &str| {
        let prefix = |(at, line): (usize, String)| format!("{}{line}", if at == 0 { first } else { rest });
        lines.into_iter().enumerate().map(prefix).collect::<Vec<_>>()
    };
    match value {
        Value::Object(map) if !map.is_empty() && dice.roll(8) > 0 => {
            for (key, value) in map {
                comment(dice, &mut lines);
                let inner = write(value, dice);
                let tail = ["", "", "  # why"][dice.roll(3) as usize];
                let is_block = value.is_object() || value.is_array();
                if is_block && !inner[0].starts_with(['{', '[']) {
                    let step = if value.is_array() { ["", "  "][dice.roll(2) as usize] } else { "    " };
                    lines.push(format!("{key}:{tail}"));
                    lines.extend(indented(inner, step, step));
                } else if value.is_string() && value.as_str().is_some_and(|text| text.ends_with('\n')) {
                    lines.push(format!("{key}: |{tail}"));
                    lines.extend(value.as_str().unwrap().lines().map(|line| format!("    {line}")));
                } else if value.is_null() && dice.roll(2) == 0 {
                    lines.push(format!("{key}:{tail}"));
                } else {
                    lines.push(format!("{key}: {}{tail}", inner[0]));
                }
            }
        }
        Value::Array(items) if !items.is_empty() && dice.roll(8) > 0 => {
            for item in items {
                comment(dice, &mut lines);
                let inner = write(item, dice);
                // A comment or nothing first would end the line of the dash.
                if inner[0].is_empty() || inner[0].starts_with('#') || dice.roll(6) == 0 {
                    lines.push("-".to_owned());
                    lines.extend(indented(inner, "  ", "  "));
                } else {
                    lines.extend(indented(inner, "- ", "  "));
                }
            }
        }
        value => lines.push(value.to_string()),
    }
    lines
}

#[test]
fn any_layout_of_any_pod_is_edited_in_place() {
    let mut dice = Dice(0x5eed);
    for round in 0..1000 {
        let pod = pod(&mut dice);
        let text = write(&pod, &mut dice).join(["\n", "\r\n"][round % 2]);
        let text = format!("{text}{}", ["", "\n", "\n\n# end\n", "\n---\nkind: Service\n"][round % 4]);
        assert_eq!(values("x.yaml", &text)[0].as_ref(), Some(&pod), "{text}");
        let done = run("x.yaml", &text);
        let new = done.stream();
        assert_eq!(done.errors(), 0, "{text}\n{:?}", report(&done));
        assert_eq!(values("x.yaml", &new)[0], Some(patched(&pod)), "{text}\n=>\n{new}");
        assert!(!report(&done).iter().any(|line| line.contains("anew")), "{text}\n{:?}", report(&done));
        assert_eq!(new.matches("# comment").count(), text.matches("# comment").count(), "{text}\n=>\n{new}");
    }
}

#[test]
fn a_layout_that_cannot_be_edited_is_written_anew_and_that_is_told() {
    let text = "# before\n---\nkind: Pod\nmetadata:\n  labels: &l # one\n    bearerd.dev/inject: enabled\n  annotations: *l\nspec:\n                  # two\n  volumes: &v\n  other: *v\n  containers: []\n---\n# after\nkind: Service\n";
    let done = run("x", text);
    let told = report(&done);
    assert!(
        told[1].ends_with("x:3: document warning: written anew without its anchors, layout and 2 comments"),
        "{told:?}"
    );
    let new = done.stream();
    assert!(new.starts_with("# before\n---\nkind: Pod\nmetadata:\n  labels:\n"), "{new}");
    assert!(new.ends_with("\n---\n# after\nkind: Service\n"), "{new}");
    let wanted: Vec<_> = values("x", text).iter().map(|value| value.as_ref().map(patched)).collect();
    assert_eq!(values("x", &new), wanted, "{new}");
}
