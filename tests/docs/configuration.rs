//! The file and the annotations: examples load, every field is there, defaults are the defaults.

use bearerd::config::{self, ANNOTATIONS, ListenerSettings, PREFIX, Problem, Reader, Settings, Source, Sources};
use serde_json::Value;

use super::{
    assert_same,
    page::{Page, codes, page, pages},
    set,
};

fn load(text: &str) -> Result<config::Loaded, Vec<Problem>> {
    let file = Some(Source { name: "example".to_owned(), text: text.to_owned() });
    config::load(&Sources { file, ..Sources::default() })
}

fn full() -> String {
    example("yaml config full")
}

fn example(info: &str) -> String {
    let fences = page("docs/configuration.md").fences();
    fences.iter().find(|fence| fence.info == info).unwrap_or_else(|| panic!("no {info}")).body.clone()
}

#[test]
fn every_example_of_a_configuration_loads_without_a_warning() {
    let mut examples = 0;
    for page in pages() {
        for fence in page.fences().iter().filter(|fence| fence.info.starts_with("yaml")) {
            let place = format!("{}:{}", page.path, fence.line);
            let known = ["yaml config", "yaml config full", "yaml config kinds", "yaml kubernetes", "yaml settings"]
                .contains(&fence.info.as_str());
            assert!(known, "{place}: say what this YAML is: `yaml config`, `yaml settings` or `yaml kubernetes`");
            if !fence.info.starts_with("yaml config") {
                continue;
            }
            examples += 1;
            match load(&fence.body) {
                Ok(loaded) => assert!(loaded.warnings.is_empty(), "{place}: {:?}", loaded.warnings),
                Err(problems) => panic!("{place}: {problems:?}"),
            }
        }
    }
    assert!(examples >= 5, "{examples} examples");
}

#[test]
fn the_full_example_is_the_default_plus_its_endpoint_and_its_entries() {
    let mut settings = load(&full()).unwrap().settings;
    assert_eq!((settings.endpoints.len(), settings.mqtt.len()), (1, 1));
    settings.endpoints.clear();
    assert_eq!(settings.tokens.len(), 1);
    settings.tokens.clear();
    settings.mqtt.clear();
    assert_eq!(settings, Settings::default());
}

#[test]
fn the_full_example_and_the_tables_have_every_field_that_the_parser_knows() {
    let mut paths = Vec::new();
    for (example, path) in [("yaml config full", ""), ("yaml config kinds", "credentials")] {
        let root: Value = serde_yaml::from_str(&self::example(example)).unwrap();
        let pointer = if path.is_empty() { String::new() } else { format!("/{path}") };
        walk(&root, &pointer, path.to_owned(), root.pointer(&pointer).unwrap(), &mut paths);
    }
    let documented = page("docs/configuration.md").first_codes("## The file");
    assert_same("fields of the file", &set(documented), &set(paths));
}

/// Compares each mapping with what the parser accepts there, and collects the paths of its fields.
fn walk(root: &Value, pointer: &str, path: String, here: &Value, paths: &mut Vec<String>) {
    match here {
        Value::Object(fields) => {
            if path == "upstream.connectTo" || path == "tokens[].json" || path.ends_with(".claims") {
                return;
            }
            let mut known = accepted(root, pointer);
            if path == "credentials[]" {
                // Each entry has one kind; the example of kinds has one entry of each.
                let kinds = example("yaml config kinds");
                assert!(known.iter().all(|name| name == "name" || kinds.contains(&format!(" {name}:"))), "{known:?}");
                known.retain(|name| fields.contains_key(name));
            }
            assert_same(&format!("fields of {path:?}"), &set(fields.keys().cloned()), &set(known));
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                paths.push(path.clone());
                walk(root, &format!("{pointer}/{name}"), path, value, paths);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate().filter(|(_, item)| item.is_object()) {
                walk(root, &format!("{pointer}/{index}"), format!("{path}[]"), item, paths);
            }
        }
        _ => {}
    }
}

/// What the parser says it accepts at a place, when asked with a field that nobody has.
fn accepted(root: &Value, pointer: &str) -> Vec<String> {
    let mut asked = root.clone();
    asked.pointer_mut(pointer).unwrap().as_object_mut().unwrap().insert(STRANGER.to_owned(), Value::from("1"));
    let problems = load(&asked.to_string()).expect_err("a field that nobody has");
    let told = problems.iter().find(|problem| problem.message.contains(STRANGER)).expect("the stranger is told");
    let (_, list) = told.message.split_once("(accepted: ").unwrap();
    list.trim_end_matches(')').split(", ").map(str::to_owned).collect()
}

#[test]
fn every_annotation_is_documented_with_its_reader_and_example() {
    let table = page("docs/configuration.md").table("## Annotations");
    let name = |annotation: &config::Annotation| match annotation.name.ends_with('.') {
        true => format!("{PREFIX}{}<name>", annotation.name),
        false => format!("{PREFIX}{}", annotation.name),
    };
    assert_same(
        "annotations",
        &set(table.iter().map(|row| codes(&row[0])[0].clone())),
        &set(ANNOTATIONS.iter().map(name)),
    );
    for annotation in ANNOTATIONS {
        let row = table.iter().find(|row| codes(&row[0])[0] == name(annotation)).unwrap();
        let reader = match annotation.reader {
            Reader::Sidecar => "sidecar",
            Reader::Injector => "injector",
            Reader::Written => "nobody: written",
        };
        assert_eq!(row[1], reader, "{}", annotation.name);
        assert_eq!(codes(&row[2]), [annotation.example], "{}", annotation.name);
    }
}

#[test]
fn annotations_named_anywhere_exist() {
    for page in pages() {
        for (at, _) in page.text.match_indices(PREFIX) {
            let rest = &page.text[at + PREFIX.len()..];
            let name: String =
                rest.chars().take_while(|letter| letter.is_ascii_lowercase() || "-.".contains(*letter)).collect();
            let known = ANNOTATIONS.iter().any(|annotation| {
                annotation.name == name || annotation.name.ends_with('.') && name.starts_with(annotation.name)
            });
            // Of the webhook's own Secret, not of pods.
            let known = known || format!("{PREFIX}{name}") == bearerd::inject::certificates::ROTATE;
            assert!(known, "{}: no annotation {PREFIX}{name}", page.path);
        }
    }
}

#[test]
fn ports_are_those_of_the_defaults() {
    let ListenerSettings { proxy, metadata, transparent, token_api, health, control } = ListenerSettings::default();
    let real = [
        ("proxy", proxy),
        ("metadata", metadata),
        ("transparent", transparent),
        ("tokenApi", token_api),
        ("health", health),
        ("control", control),
    ];
    let real = set(real.map(|(door, address)| format!("{door} {}", address.unwrap())));
    let row = |row: &Vec<String>| format!("{} {}", codes(&row[0])[0], codes(&row[1])[0]);
    assert_same("ports", &set(page("docs/configuration.md").table("## Ports").iter().map(row)), &real);
    let known: Vec<&str> = real.iter().filter_map(|line| line.rsplit(':').next()).chain(["14200"]).collect();
    for page in pages() {
        for port in numbers(&page).iter().filter(|number| number.len() == 5 && number.starts_with("14")) {
            assert!(known.contains(&port.as_str()), "{}: port {port} is nobody's", page.path);
        }
    }
}

fn numbers(page: &Page) -> Vec<String> {
    page.text.split(|letter: char| !letter.is_ascii_digit()).map(str::to_owned).collect()
}

const STRANGER: &str = "zzzzzzzz";
