//! The example without a key: its files load, and name the same places.

use std::fs;

use bearerd::{
    config::{self, Source, Sources},
    secret::Secret,
};

use super::page::top;

fn file(name: &str) -> String {
    fs::read_to_string(top().join("manifests/examples/federation").join(name)).unwrap()
}

#[test]
fn the_example_without_a_key_loads_and_its_files_fit_together() {
    let source = Source { name: "bearerd.yaml".to_owned(), text: file("bearerd.yaml") };
    let loaded = config::load(&Sources { file: Some(source), ..Sources::default() }).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let [spec] = &loaded.settings.credentials[..] else { panic!("one credential") };
    let identity = file("identity.json");
    let account = spec.load(&Secret::new(identity.as_str())).unwrap();
    assert_eq!(account.account(), Some("app@my-project.iam.gserviceaccount.com"));

    let identity: serde_json::Value = serde_json::from_str(&identity).unwrap();
    let manifest = file("deployment.yaml");
    let audience = identity["audience"].as_str().unwrap();
    assert!(manifest.contains(&format!("audience: https:{audience}\n")), "the volume's token is for the provider");
    let token = identity["credential_source"]["file"].as_str().unwrap();
    let (folder, name) = token.rsplit_once('/').unwrap();
    assert!(manifest.contains(&format!("mountPath: {folder}, readOnly: true")), "the token is mounted at {folder}");
    assert!(manifest.contains(&format!("path: {name}\n")), "the token is called {name}");
    let (folder, _) = spec.path().unwrap().to_str().unwrap().rsplit_once('/').unwrap();
    assert!(manifest.contains(&format!("mountPath: {folder}, readOnly: true")), "the file is mounted at {folder}");
    assert!(manifest.contains(&format!("--config={folder}/bearerd.yaml")), "and so is the configuration");
    assert_eq!(manifest.matches("name: google-token,").count(), 1, "one container has the token");
}
