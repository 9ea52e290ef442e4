//! The page on Kubernetes and the injector's settings: anchors of findings, messages, fields, values of the chart.

use std::collections::BTreeSet;

use bearerd::inject::Settings;
use serde_json::{Value, json};

use super::{
    assert_same, code,
    links::slug,
    page::{Page, codes, page, pages, top},
    set,
};

#[test]
fn every_place_that_a_finding_ends_in_is_a_heading() {
    // Tests invent places; only the program's own count.
    let source = code::product("src/inject");
    let mut places: BTreeSet<String> = BTreeSet::new();
    for (at, _) in source.match_indices(".md#") {
        let start = source[..at].rfind(|letter: char| !letter.is_ascii_lowercase()).unwrap() + 1;
        let part = |letter: char| letter.is_ascii_alphanumeric() || "-_{}".contains(letter);
        let anchor: String = source[at + ".md#".len()..].chars().take_while(|letter| part(*letter)).collect();
        // Written into a text by its name.
        let anchor = match anchor.strip_prefix('{') {
            None => anchor,
            Some(name) => {
                let name = name.trim_end_matches('}');
                code::strings_between(&source, &format!("const {name}: &str ="), ";")[0].clone()
            }
        };
        places.insert(format!("{}.md#{anchor}", &source[start..at]));
    }
    assert!(places.len() >= 3, "{places:?}");
    for place in places {
        let (file, anchor) = place.split_once('#').unwrap();
        let headings = page(&format!("docs/{file}")).headings();
        assert!(headings.iter().any(|line| slug(line) == anchor), "{place} names no heading");
    }
}

#[test]
fn every_message_about_a_pod_is_explained() {
    let files = ["annotations", "containers", "plan", "quantity", "review/mod", "shapes"];
    let source: String = files.iter().map(|file| code::product(&format!("src/inject/{file}.rs"))).collect();
    let source = source.replace("'\"'", "").replace("\\\"", "");
    // In these files a text of four words or more is told to a user.
    let real = sentences(source.split('"').skip(1).step_by(2).map(with_ellipses));
    let kubernetes = page("docs/kubernetes.md");
    let told = kubernetes.first_codes("### Messages").into_iter();
    let section = kubernetes.section("### Messages");
    let prose: Vec<&str> = section.lines().filter(|line| !line.starts_with('|')).collect();
    let documented = sentences(told.chain(codes(&prose.join("\n"))));
    assert_same("messages", &documented, &real);
}

fn sentences(texts: impl Iterator<Item = String>) -> BTreeSet<String> {
    texts.filter(|text| text.matches(' ').count() >= 3 && !text.contains('\n')).collect()
}

/// `{name}` and `{}` as the page writes them.
fn with_ellipses(text: &str) -> String {
    let mut parts = text.split('{');
    let first = parts.next().unwrap_or_default().to_owned();
    let said = parts.fold(first, |said, part| said + "…" + part.split_once('}').map_or("", |(_, rest)| rest));
    said.replace("……", "…")
}

#[test]
fn containers_that_are_left_alone_are_listed() {
    let source = code::product("src/inject/containers.rs");
    let real = code::strings_between(&source, "const MESHES: [&str; 8] =", ";");
    let rows = page("docs/kubernetes.md").table("## What a pod gets");
    let names = rows.iter().filter(|row| ["Istio", "Linkerd", "Vault"].contains(&row[1].as_str()));
    assert_same("containers left alone", &names.flat_map(|row| codes(&row[0])).collect(), &set(real));
}

#[test]
fn every_setting_of_the_injector_is_documented_with_its_default() {
    let defaults = serde_json::to_value(Settings::default()).unwrap();
    let mut real = Vec::new();
    for (name, value) in defaults.as_object().unwrap() {
        real.push((name.clone(), value.clone()));
        // Those with fields of their own; the others are maps of the user's names.
        if ["extraRoots", "resources"].contains(&name.as_str()) {
            let fields = value.as_object().unwrap();
            real.extend(fields.iter().map(|(field, value)| (format!("{name}.{field}"), value.clone())));
        }
    }
    let table = page("docs/configuration.md").table("## The injector's settings");
    let documented = set(table.iter().map(|row| codes(&row[0])[0].clone()));
    assert_same("settings", &documented, &set(real.iter().map(|(name, _)| name.clone())));
    for (name, value) in &real {
        let row = table.iter().find(|row| codes(&row[0])[0] == *name).unwrap();
        match name.as_str() {
            "image" => assert_eq!(row[2], "required"),
            "extraRoots" | "resources" => assert_eq!(row[2], "–"),
            _ => assert_eq!(codes(&row[2]), [value.to_string()], "{name}"),
        }
        assert_eq!(row[3], if in_a_profile(name, value) { "yes" } else { "no" }, "{name}");
    }
}

/// Whether a profile may say it, by trying.
fn in_a_profile(name: &str, value: &Value) -> bool {
    let inside = name.rsplit('.').fold(value.clone(), |inside, field| json!({ field: inside }));
    let text = json!({"image": "x", "profiles": {"a": inside}}).to_string();
    match Settings::read(&text, "settings") {
        Ok(_) => true,
        Err(problems) => {
            assert!(problems.iter().all(|problem| problem.contains("same for all sidecars")), "{name}: {problems:?}");
            false
        }
    }
}

#[test]
fn a_setting_that_nobody_has_or_that_is_missing_is_refused() {
    for text in ["image: x\nstranger: 1\n", "image: x\nresources: {stranger: {}}\n", "secretName: x\n"] {
        assert!(Settings::read(text, "settings").is_err(), "{text}");
    }
}

#[test]
fn examples_of_settings_are_read() {
    let mut examples = 0;
    for page in pages() {
        for fence in page.fences().iter().filter(|fence| fence.info == "yaml settings") {
            let read = Settings::read(&fence.body, &page.path);
            assert!(read.is_ok(), "{}:{}: {read:?}", page.path, fence.line);
            examples += 1;
        }
    }
    assert!(examples >= 1);
}

#[test]
fn the_first_request_takes_six_commands_that_can_be_typed_as_they_are() {
    let kubernetes = page("docs/kubernetes.md");
    let commands = first_commands(&kubernetes);
    assert!((1..=6).contains(&commands.len()), "{commands:?}");
    for command in &commands {
        assert!(["helm", "kubectl"].iter().any(|tool| command.starts_with(&format!("{tool} "))), "{command}");
        // Nothing is left to be filled in.
        let hole =
            command.contains(['<', '…', '$']) || command.split(' ').any(|word| word.len() > 2 && is_shouted(word));
        assert!(!hole, "{command}");
        for word in command.split(' ').filter(|word| word.starts_with("charts/") || word.starts_with("manifests/")) {
            assert!(top().join(word).exists(), "{command}");
        }
    }
}

/// The lines of the shell blocks of the section.
fn first_commands(page: &Page) -> Vec<String> {
    let (_, rest) = page.text.split_once("\n## From zero to the first request\n").unwrap();
    let section = rest.split("\n## ").next().unwrap();
    let part = Page { path: page.path.clone(), text: section.to_owned() };
    let fences = part.fences();
    let shell = fences.iter().filter(|fence| fence.info == "sh");
    shell.flat_map(|fence| fence.body.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn is_shouted(word: &str) -> bool {
    word.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_')
}

#[test]
fn values_of_the_chart_that_are_named_exist() {
    let text = std::fs::read_to_string(top().join("charts/bearerd/values.yaml")).unwrap();
    let values: Value = serde_yaml::from_str(&text).unwrap();
    let mut named = 0;
    for code in codes(&page("docs/kubernetes.md").prose()) {
        let path = code.split(':').next().unwrap();
        let mut steps = path.split('.').peekable();
        let is_value = steps.peek().is_some_and(|first| values.get(*first).is_some()) && path.contains('.');
        if !is_value {
            continue;
        }
        named += 1;
        let mut here = &values;
        for step in steps {
            // Below these are the user's own, or the program's.
            let is_free = here.as_object().is_some_and(|fields| fields.is_empty()) || step == "cpu";
            if is_free {
                break;
            }
            here = here.get(step).unwrap_or_else(|| panic!("the chart has no {path}"));
        }
    }
    assert!(named >= 10, "{named} values");
}
