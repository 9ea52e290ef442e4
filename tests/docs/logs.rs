//! Log lines: message, level and fields of each documented line are those of the program.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    assert_same, code,
    page::{codes, page},
    set,
};

/// Fields by level and message, the message up to its first hole.
fn real() -> BTreeMap<(String, String), BTreeSet<String>> {
    let code = code::product("src");
    let mut lines: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for level in ["error", "warn", "info"] {
        for arguments in code::calls(&code, &format!("tracing::{level}!(")) {
            let Some(at) = arguments.iter().position(|argument| argument.starts_with('"')) else { continue };
            let message = arguments[at].trim_matches('"').split('{').next().unwrap().trim().to_owned();
            let fields = arguments[..at].iter().map(|argument| field(argument));
            lines.entry((level.to_owned(), message)).or_default().extend(fields);
        }
    }
    lines
}

fn field(argument: &str) -> String {
    let argument = argument.trim_start_matches(['%', '?']);
    argument.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

#[test]
fn documented_log_lines_are_those_of_the_program() {
    let real = real();
    for row in page("docs/configuration.md").table("## Logs") {
        let message = codes(&row[0])[0].trim_end_matches('…').trim().to_owned();
        let fields = real.get(&(row[1].clone(), message.clone()));
        let fields = fields.unwrap_or_else(|| panic!("no line {message:?} at {}", row[1]));
        if fields.is_empty() {
            assert_eq!(row[2], "–", "{message}");
        } else {
            assert_same(&format!("fields of {message:?}"), &set(codes(&row[2])), fields);
        }
    }
}
