//! The documentation, held to the program in both directions: what it names exists, and what exists is named.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on should stop")]

mod architecture;
mod code;
mod commands;
mod configuration;
mod environment;
mod federation;
mod kubernetes;
mod links;
mod logs;
mod metrics;
mod page;
mod reasons;
mod security;

use std::collections::BTreeSet;

/// Both sets are the same, or what is only in one of them is told.
#[track_caller]
fn assert_same(what: &str, documented: &BTreeSet<String>, real: &BTreeSet<String>) {
    let missing: Vec<_> = real.difference(documented).collect();
    let invented: Vec<_> = documented.difference(real).collect();
    assert!(!real.is_empty(), "{what}: nothing was found in the program");
    assert!(
        missing.is_empty() && invented.is_empty(),
        "{what}: missing from the docs: {missing:?}; only in the docs: {invented:?}"
    );
}

fn set<T: Into<String>>(items: impl IntoIterator<Item = T>) -> BTreeSet<String> {
    items.into_iter().map(Into::into).collect()
}
