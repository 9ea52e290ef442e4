//! The variables that a program gets: all documented, none invented, and what is only reported told apart.

use std::collections::{BTreeMap, BTreeSet};

use bearerd::environment::{Existing, How, Proxy, Trust, Variable, Wanted, environment};

use super::{assert_same, code, page::page, set};

fn wanted() -> Wanted {
    Wanted {
        proxy: Some(Proxy { address: "127.0.0.1:14180".parse().unwrap(), user_info: None }),
        metadata: Some("127.0.0.1:14181".parse().unwrap()),
        trust: Some(Trust::under("/trust")),
        project: Some("project".to_owned()),
        http_proxy: true,
        ..Wanted::default()
    }
}

fn all() -> Vec<Variable> {
    let none = BTreeMap::new();
    let mut all = environment(&wanted(), &none);
    all.extend(environment(&Wanted { metadata: None, ..wanted() }, &none));
    all
}

#[test]
fn every_variable_is_documented_and_set() {
    let page = page("docs/clients.md");
    let tables = ["### Proxy", "### Trust", "### Credentials", "### Switches"];
    let documented = tables.iter().flat_map(|heading| page.first_codes(heading));
    assert_same("variables", &documented.collect(), &set(all().iter().map(|variable| variable.name)));
}

#[test]
fn variables_that_are_only_reported_are_documented_as_such() {
    let documented: BTreeSet<String> = set(page("docs/clients.md").first_codes("### Kept and reported"));
    let real = set(code::literals(&code::product("src/environment.rs"), "plan.report(", 0));
    assert_same("reported variables", &documented, &real);
    for name in &documented {
        let existing = BTreeMap::from([(name.clone(), Existing::Literal("x".to_owned()))]);
        let variables = environment(&wanted(), &existing);
        let found = variables.iter().find(|variable| variable.name == name).unwrap_or_else(|| panic!("{name}"));
        assert!(found.how == How::Kept && found.warning.is_some(), "{name}");
    }
}

#[test]
fn values_are_those_of_the_page() {
    let page = page("docs/clients.md");
    for variable in all() {
        let value = variable.value.as_str();
        let shown = match variable.name {
            "JAVA_TOOL_OPTIONS" | "GOOGLE_CLOUD_PROJECT" | "GCLOUD_PROJECT" | "CLOUDSDK_CORE_PROJECT" => continue,
            _ => value.strip_prefix("/trust/").unwrap_or(value),
        };
        assert!(page.text.contains(&format!("`{shown}`")), "{}: {shown} is not on the page", variable.name);
    }
}
