//! Kubernetes: what the injector says and takes is documented, and the commands are few.

use std::collections::BTreeSet;

use bearerd::inject::Settings;
use serde_json::Value;

use super::{
    assert_same, code,
    page::{Page, codes, page, top},
    set,
};

/// As GitHub makes one of a heading.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
    kept.collect::<String>().replace(' ', "-")
}

fn anchors(page: &Page) -> BTreeSet<String> {
    page.headings().iter().map(|heading| anchor(heading)).collect()
}

#[test]
fn every_place_that_a_refusal_points_to_exists() {
    let mut places = 0;
    for file in code::all_files(&top().join("src/inject")) {
        let (path, text) = (file.display().to_string(), std::fs::read_to_string(&file).unwrap());
        for name in ["kubernetes.md", "configuration.md"] {
            let known = anchors(&page(&format!("docs/{name}")));
            for rest in text.split(&format!("{name}#")).skip(1) {
                let place: String =
                    rest.chars().take_while(|letter| letter.is_ascii_lowercase() || *letter == '-').collect();
                // A pattern whose anchor is filled in is looked at where that one is defined.
                if !place.is_empty() {
                    places += 1;
                    assert!(known.contains(&place), "{path}: docs/{name} has no heading for #{place}");
                }
            }
        }
        for rest in text.split("const ANCHOR: &str = \"").skip(1) {
            let place = rest.split('"').next().unwrap_or_default();
            assert!(anchors(&page("docs/kubernetes.md")).contains(place), "{path}: {place}");
        }
    }
    assert!(places >= 4, "{places} places");
}

#[test]
fn the_injectors_settings_and_their_defaults_are_documented() {
    let rows = page("docs/configuration.md").table("## The injector's settings");
    let documented: BTreeSet<(String, String)> = rows
        .iter()
        .map(|row| {
            let default = codes(&row[1]).first().cloned().unwrap_or_else(|| row[1].clone());
            (codes(&row[0])[0].clone(), default)
        })
        .collect();
    let settings = serde_json::to_value(Settings::default()).unwrap();
    let mut real = BTreeSet::new();
    for (field, value) in settings.as_object().unwrap() {
        match (field.as_str(), value) {
            ("image", _) => real.insert((field.clone(), "this version's".to_owned())),
            ("extraRoots" | "resources", Value::Object(inner)) => {
                real.extend(inner.iter().map(|(name, value)| (format!("{field}.{name}"), value.to_string())));
                true
            }
            _ => real.insert((field.clone(), value.to_string())),
        };
    }
    let text =
        |pairs: BTreeSet<(String, String)>| set(pairs.into_iter().map(|(name, value)| format!("{name} = {value}")));
    let compact = |value: String| value.replace(", ", ",");
    assert_same("settings of the injector", &text(documented).into_iter().map(compact).collect(), &text(real));
}

#[test]
fn values_of_the_chart_that_the_page_names_exist() {
    let values: Value = serde_yaml::from_str(&page("charts/bearerd/values.yaml").text).unwrap();
    let mut seen = 0;
    for code in codes(&page("docs/kubernetes.md").prose()) {
        let path = code.split(['=', ':']).next().unwrap_or_default();
        let mut at = &values;
        for step in path.split('.') {
            // What is below is the user's own: a configuration, a resource.
            let is_open = at.as_object().is_some_and(serde_json::Map::is_empty) || at.get("memory").is_some();
            if is_open || !path.contains('.') || !values[path.split('.').next().unwrap_or_default()].is_object() {
                break;
            }
            seen += 1;
            at = &at[step];
            assert!(!at.is_null(), "the chart has no value {code}");
        }
    }
    assert!(seen >= 10, "{seen} steps");
}

#[test]
fn five_minutes_are_at_most_six_commands() {
    let page = page("docs/kubernetes.md");
    let start = page.text.find("## Five minutes").unwrap();
    let section = Page { path: page.path.clone(), text: page.text[start..].to_owned() };
    let first = section.fences().into_iter().next().unwrap();
    assert_eq!(first.info, "sh");
    let commands: Vec<&str> = first.body.lines().filter(|line| !line.is_empty()).collect();
    assert!((1..=6).contains(&commands.len()), "{commands:?}");
}
