//! Whole pods and what becomes of them, as files: `tests/data/inject/NAME.yaml` (with `NAME.settings.yaml`, where it is
//! not `settings.yaml`) and `NAME.patched.yaml`, warnings first. With `BLESS=1` the results are written anew, to be read.

use std::{env, fs, path::PathBuf};

use serde_json::Value;

use super::{super::*, applied};
use crate::config::{ANNOTATIONS, PREFIX};

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "data", "inject"].iter().collect()
}

fn names() -> Vec<String> {
    let files = fs::read_dir(folder()).expect("the folder").map(|entry| entry.expect("an entry").file_name());
    let names = files.filter_map(|name| Some(name.into_string().ok()?.strip_suffix(".yaml")?.to_owned()));
    let mut names: Vec<_> = names.filter(|name| name != "settings" && !name.contains('.')).collect();
    names.sort();
    names
}

fn read(name: &str) -> (Value, Settings) {
    let text = |name: &str| fs::read_to_string(folder().join(name));
    let pod = serde_yaml::from_str(&text(&format!("{name}.yaml")).expect("the pod")).expect("YAML");
    let settings = text(&format!("{name}.settings.yaml")).or_else(|_| text("settings.yaml")).expect("settings");
    (pod, Settings::read(&settings, name).expect("good settings"))
}

#[test]
fn every_pod_becomes_what_its_file_says() {
    let names = names();
    assert!(names.len() >= 6, "{names:?}");
    for name in names {
        let (pod, settings) = read(&name);
        let plan = plan(&pod, Asked::ByPod, &settings).unwrap_or_else(|refused| panic!("{name}: {refused:?}"));
        assert_eq!(plan.outcome, Outcome::Injected, "{name}");
        let after = applied(&pod, &plan.patch);
        let warnings: String = plan.warnings.iter().map(|warning| format!("# warned: {warning}\n")).collect();
        let text = warnings + &serde_yaml::to_string(&after).expect("YAML");
        let read_back: Value = serde_yaml::from_str(&text).expect("YAML");
        assert_eq!(read_back, after, "{name}: the file says what the pod is");
        let file = folder().join(format!("{name}.patched.yaml"));
        if env::var_os("BLESS").is_some() {
            fs::write(&file, &text).expect("the result is written");
        }
        let wanted = fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(text, wanted, "{name}: if this is right, run once with BLESS=1");
    }
}

#[test]
fn one_of_the_pods_has_every_annotation_that_is_served() {
    let (pod, _) = read("every-annotation");
    let has = |name: &str| {
        let key = format!("{PREFIX}{name}");
        let all = pod["metadata"]["annotations"].as_object().expect("annotations");
        all.keys().any(|known| *known == key || name.ends_with('.') && known.starts_with(&key))
    };
    let missing: Vec<&str> = ANNOTATIONS.iter().map(|known| known.name).filter(|name| !has(name)).collect();
    assert_eq!(missing, ["status", "injected"]);
}
