//! Every promise has tests, and they exist.

use std::{collections::BTreeSet, fs};

use super::{
    code,
    page::{codes, page, top},
};

/// The names of all test functions.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for place in ["src", "tests"] {
        for file in code::all_files(&top().join(place)) {
            let text = fs::read_to_string(file).unwrap();
            for attribute in ["#[test]", "#[tokio::test"] {
                for (at, _) in text.match_indices(attribute) {
                    let name = text[at..].split_once("fn ").and_then(|(_, rest)| rest.split('(').next());
                    names.extend(name.map(str::to_owned));
                }
            }
        }
    }
    assert!(names.len() > 300, "{} tests found", names.len());
    names
}

#[test]
fn every_promise_names_tests_that_exist() {
    let tests = tests();
    for row in page("docs/security.md").table("## What is promised") {
        let cited = codes(&row[1]);
        assert!(!cited.is_empty(), "no test: {}", row[0]);
        for name in cited {
            assert!(tests.contains(&name), "there is no test {name}");
        }
    }
}
