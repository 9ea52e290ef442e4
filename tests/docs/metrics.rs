//! Every series of the registry, with its type and labels.

use std::collections::{BTreeMap, BTreeSet};

use bearerd::metrics::Metrics;

use super::{
    assert_same, code,
    page::{codes, page, pages},
};

/// `name type label,label` of every series.
fn real() -> BTreeSet<String> {
    let metrics = Metrics::new().unwrap();
    for counters in [
        &metrics.requests_refused,
        &metrics.requests_passed,
        &metrics.upstream_connect_errors,
        &metrics.token_refreshes,
        &metrics.webhook_reviews,
    ] {
        counters.with_label_values(&["x"]);
    }
    for counters in [&metrics.token_refresh_failures, &metrics.key_load_failures] {
        counters.with_label_values(&["x", "x"]);
    }
    for gauges in [&metrics.token_expiry, &metrics.key_load_timestamp, &metrics.connections_active] {
        gauges.with_label_values(&["x"]);
    }
    metrics.webhook_review_duration.with_label_values(&[] as &[&str]);
    metrics.webhook_certificate_expiry.with_label_values(&[] as &[&str]);
    metrics.tokens_handed_out.with_label_values(&["x"]);
    metrics.token_file_failures.with_label_values(&["x"]);
    metrics.http_requests.with_label_values(&["x", "x", "x"]);
    metrics.http_request_duration.with_label_values(&["x"]);
    metrics.key_info.with_label_values(&["x", "x"]);
    let text = metrics.render();
    let mut types: BTreeMap<&str, &str> = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE bearerd_")) {
        let (name, kind) = line.split_once(' ').unwrap();
        types.insert(name, kind);
    }
    let made = code::product("src/metrics.rs");
    let made = made.matches("make.counter").count()
        + made.matches("make.gauge").count()
        + made.matches("make.duration").count();
    assert_eq!(types.len(), made, "a series is not touched by this test: {types:?}");
    types.iter().map(|(name, kind)| format!("bearerd_{name} {kind} {}", labels(&text, name))).collect()
}

fn labels(text: &str, name: &str) -> String {
    let begins = |line: &&str| {
        line.strip_prefix("bearerd_")
            .and_then(|rest| rest.strip_prefix(name))
            .is_some_and(|rest| rest.starts_with(['{', ' ', '_']))
    };
    let line = text.lines().find(begins).unwrap();
    let inside = line.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or("", |(inside, _)| inside);
    let names = inside.split(',').filter_map(|pair| pair.split_once('=')).map(|(name, _)| name);
    let mut names: Vec<&str> = names.filter(|name| *name != "le").collect();
    names.sort_unstable();
    names.join(",")
}

#[test]
fn every_metric_is_documented_with_its_type_and_labels() {
    let row = |row: &Vec<String>| {
        let mut labels: Vec<&str> = row[2].split(", ").filter(|label| *label != "–").collect();
        labels.sort_unstable();
        format!("{} {} {}", codes(&row[0])[0], row[1], labels.join(","))
    };
    let documented = page("docs/configuration.md").table("## Metrics").iter().map(row).collect();
    assert_same("metrics", &documented, &real());
}

#[test]
fn metrics_named_anywhere_exist() {
    let names: BTreeSet<String> = real().iter().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
    for page in pages() {
        for (at, _) in page.text.match_indices("bearerd_") {
            let name: String =
                page.text[at..].chars().take_while(|letter| letter.is_ascii_lowercase() || *letter == '_').collect();
            assert!(names.contains(&name), "{}: no metric {name}", page.path);
        }
    }
}
