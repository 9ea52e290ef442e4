//! Settings that are refused, each mistake with its place.

use super::super::*;

fn told(yaml: &str) -> Vec<String> {
    Settings::read(yaml, "s.yaml").expect_err("a refusal")
}

/// The first line has an image, so that the second is the one that is wrong.
const CASES: &[(&str, &str)] = &[
    ("imag: x", "2:1: imag: unknown field, did you mean 'image'?"),
    ("stranger: {a: 1}", "2:1: stranger: unknown field, want one of allowAccounts, allowHosts, "),
    ("image: y", "2:1: image: given twice, want it once"),
    ("resources: {limit: {cpu: 1}}", "2:13: resources.limit: unknown field, did you mean 'limits'?"),
    ("extraRoots: {map: x}", "2:14: extraRoots.map: unknown field, want one of configMap, key"),
    ("imagePullPolicy: always", "2:1: imagePullPolicy: 'always' is no choice, want Always, IfNotPresent or Never"),
    ("imagePullPolicy: [Always]", "2:1: imagePullPolicy: want a text"),
    ("user: 0", "2:1: user: 0 is root, want another UID or null"),
    ("user: bearerd", "2:1: user: want a UID or null"),
    ("user: -1", "2:1: user: want a UID or null"),
    ("secretName: A_b", "2:1: secretName: 'A_b' is no name of a Secret, want lower-case letters, digits, '-' and '.'"),
    ("secretName: '-----BEGIN KEY'", "2:1: secretName: this value is no name of a Secret, want"),
    ("secretName: {a: b}", "2:1: secretName: want a text"),
    (
        "secretKey: ../key.json",
        "2:1: secretKey: '../key.json' is no file of it, want letters, digits, '-', '_' and '.'",
    ),
    ("secrets: {default: x}", "2:11: secrets.default: that directory is secretName's, want another name"),
    ("secrets: {A: x}", "2:1: secrets: 'A' is no name, want at most 40 lower-case letters, digits and '-'"),
    ("secrets: {more: X}", "2:11: secrets.more: 'X' is no name of a Secret, want"),
    ("secrets: [more]", "2:1: secrets: want a mapping of texts"),
    ("allowHosts: []", "2:1: allowHosts: empty, want at least one host"),
    ("allowHosts: '*.googleapis.com'", "2:1: allowHosts: want a list of texts"),
    ("allowHosts: ['*']", "2:1: allowHosts: "),
    ("allowAccounts: [nobody]", "2:1: allowAccounts: "),
    ("extraRoots: {configMap: A}", "2:14: extraRoots.configMap: 'A' is no name of a ConfigMap, want"),
    ("extraRoots: {configMap: a, key: a/b}", "2:28: extraRoots.key: 'a/b' is no file of it, want"),
    ("extraRoots: a", "2:1: extraRoots: want a mapping of texts"),
    ("config: {routs: []}", "2:1: config: unknown field 'routs', did you mean 'routes'?"),
    ("config: {drain: {linger: soon}}", "2:18: config.drain.linger: "),
    (
        "config: {routes: [{name: a, hosts: [a.googleapis.com]}, {name: b, hosts: [evil.example]}]}",
        "2:75: config.routes[1].hosts[0]: ",
    ),
    (
        "config: {upstream: {parentProxy: 'http://u:p@proxy:3128'}}",
        "2:21: config.upstream.parentProxy: with a password",
    ),
    ("config: {trust: {public: /x}}", "2:10: config.trust: the injector mounts its own directories, want it left out"),
    (
        "config: {listeners: {metadata: '127.0.0.1:0'}}",
        "2:22: config.listeners.metadata: port 0 is another one at every",
    ),
    ("config: text", "2:1: config: want a mapping"),
    ("httpProxy: maybe", "2:1: httpProxy: want true or false"),
    ("noProxy: [a, b c]", "2:14: noProxy[1]: this value is no host, want host names, '.suffix' or addresses"),
    ("project: [a]", "2:1: project: want a text"),
    ("logFormat: xml", "2:1: logFormat: 'xml' is no choice, want json or text"),
    ("logLevel: loud", "2:1: logLevel: want error, warn, info, debug or trace"),
    (
        "resources: {requests: {cpu: ten}}",
        "2:24: resources.requests.cpu: 'ten' is no quantity, want one such as 10m or 64Mi",
    ),
    ("resources: {limits: {memory: 1Mi}}", "2:1: resources.requests.memory: larger than the limit, want at most that"),
    ("resources: {limits: [1]}", "2:13: resources.limits: want a mapping of texts"),
    ("unknownAnnotations: ignore", "2:1: unknownAnnotations: want deny or warn"),
    ("sharedProcesses: maybe", "2:1: sharedProcesses: want deny or warn"),
    ("profiles: [a]", "2:1: profiles: want a mapping of mappings"),
    ("profiles: {a: x}", "2:1: profiles: want a mapping of mappings"),
    ("profiles: {a: {image: y}}", "2:16: profiles.a.image: the same for all sidecars, want it at the top level only"),
    ("profiles: {a: {secretNam: y}}", "2:16: profiles.a.secretNam: unknown field, did you mean 'secretName'?"),
    ("profiles: {a.b: {secretName: [y]}}", "2:18: profiles.a.b.secretName: want a text"),
    ("profiles: {a: {config: {routs: []}}}", "2:16: profiles.a.config: unknown field 'routs'"),
    ("profiles: {a: {config: {workers: 0}}}", "2:25: profiles.a.config.workers: "),
    (
        "profiles: {a: {resources: {requests: {memory: 1Gi}}}}",
        "2:39: profiles.a.resources.requests.memory: larger than",
    ),
    ("a: [", "2:4: not YAML: unclosed bracket"),
    ("---\nimage: y", "2:1: a second document, want one"),
];

#[test]
fn every_mistake_is_told_alone_with_line_column_and_field() {
    for (line, start) in CASES {
        let problems = told(&format!("image: x\n{line}\n"));
        assert_eq!(problems.len(), 1, "{line}: {problems:?}");
        assert!(problems[0].starts_with(&format!("s.yaml:{start}")), "{line}: {problems:?}");
        assert!(problems[0].len() <= 256 && !problems[0].contains('\n'), "{problems:?}");
    }
}

#[test]
fn an_image_is_wanted_and_a_mapping() {
    for (yaml, want) in [
        ("secretName: x\n", "s.yaml:1:1: image: missing, want an image reference"),
        ("image: ''\n", "s.yaml:1:1: image: want an image reference"),
        ("image: a b\n", "s.yaml:1:1: image: want an image reference"),
        ("", "s.yaml:1:1: want a mapping with at least image"),
        ("- image: x\n", "s.yaml:1:1: want a mapping with at least image"),
    ] {
        assert_eq!(told(yaml), [want]);
    }
}

#[test]
fn all_mistakes_are_told_at_once_and_a_profile_repeats_none() {
    let yaml = "imag: x\nuser: me\nprofiles:\n  a: {secretNam: x}\n  b: {httpProxy: perhaps}\n";
    let fields = ["imag: ", "user: ", "image: ", "profiles.a.secretNam: ", "profiles.b.httpProxy: "];
    let problems = told(yaml);
    assert_eq!(problems.len(), fields.len(), "{problems:?}");
    for field in fields {
        assert!(problems.iter().any(|problem| problem.contains(&format!(": {field}"))), "{field}{problems:?}");
    }
    let problems = told("image: x\nsecretName: A\nprofiles:\n  a: {secretName: B}\n  b: {}\n  c: {secretKey: /}\n");
    let starts =
        ["s.yaml:2:1: secretName: 'A'", "s.yaml:4:7: profiles.a.secretName: 'B'", "s.yaml:6:7: profiles.c.secretKey"];
    assert_eq!(problems.len(), starts.len(), "{problems:?}");
    assert!(problems.iter().zip(starts).all(|(problem, start)| problem.starts_with(start)), "{problems:?}");
}

#[test]
fn what_is_pasted_into_the_wrong_place_is_not_repeated_and_no_message_is_long() {
    let secret = "ya29.a0AfH6SMBsecret";
    let long = "x".repeat(500);
    for line in [
        format!("{secret}: x"),
        format!("user: {secret}"),
        format!("secretName: [{secret}]"),
        format!("secretName: {secret}/"),
        format!("secrets: {{{secret}: x}}"),
        format!("noProxy: ['{secret} ']"),
        format!("resources: {{limits: {{cpu: {secret}}}}}"),
        format!("unknownAnnotations: {secret}"),
        format!("config: {{{secret}: x}}"),
        format!("profiles: {{a: {{{secret}: x}}}}"),
        format!("{long}: x"),
        format!("profiles: {{{long}: {{a: b}}}}"),
    ] {
        for problem in told(&format!("image: x\n{line}\n")) {
            assert!(!problem.contains("a0AfH6") && problem.len() <= 256, "{problem}");
        }
    }
}

#[test]
fn numbers_are_texts_in_a_profile_as_at_the_top() {
    let resources = "resources: {limits: {cpu: 1, memory: 64Mi}}";
    let yaml = format!("image: x\n{resources}\nprofiles: {{a: {{{resources}, project: 12, noProxy: [10]}}}}\n");
    let settings = Settings::read(&yaml, "s.yaml").expect("good settings");
    let profile = settings.with_profile("a").expect("a profile");
    assert_eq!(profile.resources, settings.resources);
    assert_eq!((profile.project.as_str(), profile.no_proxy), ("12", vec!["10".to_owned()]));
}
