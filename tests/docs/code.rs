//! The program's own text, for what it has no list of: calls and their literal arguments.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::page::top;

/// The text of the product below `folder` (or of that one file): no tests, no comment lines.
pub(crate) fn product(folder: &str) -> String {
    files(&top().join(folder)).iter().map(|path| product_code(&fs::read_to_string(path).unwrap())).collect()
}

/// Every Rust file below a place, tests too.
pub(crate) fn all_files(place: &Path) -> Vec<PathBuf> {
    if place.is_file() {
        return vec![place.to_owned()];
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(place).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(all_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn files(place: &Path) -> Vec<PathBuf> {
    let is_tests = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name == "tests.rs")
            || path.strip_prefix(top()).unwrap().components().any(|part| part.as_os_str() == "tests")
    };
    all_files(place).into_iter().filter(|path| !is_tests(path)).collect()
}

fn product_code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    code.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect()
}

/// The arguments of every call that begins with `name`, which ends in `(`.
pub(crate) fn calls(code: &str, name: &str) -> Vec<Vec<String>> {
    code.match_indices(name).map(|(at, _)| arguments(&code[at + name.len()..])).collect()
}

/// The arguments up to the closing bracket.
fn arguments(text: &str) -> Vec<String> {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    let mut found = vec![String::new()];
    for letter in text.chars() {
        let was_escaped = std::mem::take(&mut escaped);
        match letter {
            '\\' if quoted && !was_escaped => escaped = true,
            '"' if !was_escaped => quoted = !quoted,
            '(' | '[' | '{' if !quoted => depth += 1,
            ')' | ']' | '}' if !quoted && depth == 0 => break,
            ')' | ']' | '}' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                found.push(String::new());
                continue;
            }
            _ => {}
        }
        found.last_mut().unwrap().push(letter);
    }
    found.iter().map(|argument| argument.trim().to_owned()).filter(|argument| !argument.is_empty()).collect()
}

/// The text of an argument that is a string literal.
pub(crate) fn literal(argument: &str) -> Option<String> {
    let inside = argument.strip_prefix('"')?.strip_suffix('"')?;
    (!inside.contains('"')).then(|| inside.to_owned())
}

/// Argument `at` of every call, where it is a literal.
pub(crate) fn literals(code: &str, name: &str, at: usize) -> Vec<String> {
    calls(code, name).iter().filter_map(|arguments| literal(arguments.get(at)?)).collect()
}

/// The string literals from `begin` to `end`.
pub(crate) fn strings_between(code: &str, begin: &str, end: &str) -> Vec<String> {
    let (_, rest) = code.split_once(begin).unwrap_or_else(|| panic!("no {begin:?} in the sources"));
    let (part, _) = rest.split_once(end).unwrap_or_else(|| panic!("no {end:?} after {begin:?}"));
    part.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn calls_are_taken_apart() {
    let code = "f(a, \"b, (\\\"\", g(1, 2)); f(\n    x,\n    \"y\",\n)";
    assert_eq!(calls(code, "f("), [vec!["a", "\"b, (\\\"\"", "g(1, 2)"], vec!["x", "\"y\""]]);
    assert_eq!(literals(code, "f(", 1), ["y"]);
}
