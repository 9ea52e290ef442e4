//! The house, held: dependency order, the one writer of credentials, who may open a secret, file length.
//!
//! The order is read from the crate's own documentation (`src/lib.rs`), so there is one source.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on should stop")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Non-test lines that a file may have.
const MOST_LINES: usize = 400;

/// Who may look inside a `Secret`.
const MAY_EXPOSE: [&str; 8] = [
    "secret.rs",
    "net/parent.rs",
    "credential/",
    "token/bearer.rs",
    "token/slot.rs",
    "app/post.rs",
    "inject/certificates/files.rs",
    "cli/token.rs",
];

/// Who may name the place where a credential is written on application traffic.
const MAY_WRITE_AUTHORIZATION: [&str; 2] = ["proxy/headers.rs", "proxy/upstream.rs"];

/// Who may take a token's value: the writer above, the MQTT door's, the metadata door, which gives it away only in mode
/// `token`, and the token API, which gives away what is listed.
const MAY_TAKE_TOKENS: [&str; 4] = ["proxy/headers.rs", "mqtt/login.rs", "app/identity.rs", "token_api/supply.rs"];

/// Who may speak something other than HTTP on a connection that proved its name.
const MAY_SPEAK: [&str; 2] = ["net/verified.rs", "mqtt/login.rs"];

#[test]
fn modules_only_use_what_stands_lower() {
    let rows = order();
    let rank: BTreeMap<&str, usize> =
        rows.iter().enumerate().flat_map(|(rank, row)| row.iter().map(move |name| (name.as_str(), rank))).collect();
    let leaves = &rows[0];
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let own = module_of(&file);
        if ["lib", "main"].contains(&own.as_str()) {
            continue;
        }
        let own_rank = *rank.get(own.as_str()).unwrap_or_else(|| panic!("{own} stands in no row of src/lib.rs"));
        for used in used_modules(&product_code(&text)) {
            let Some(&used_rank) = rank.get(used.as_str()) else { continue };
            let earlier_leaf = own_rank == 0
                && leaves.iter().position(|leaf| *leaf == used) < leaves.iter().position(|leaf| *leaf == own);
            if used != own && used_rank >= own_rank && !earlier_leaf {
                wrong.push(format!("{} uses {used}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_stands_in_the_order() {
    let named: Vec<String> = order().into_iter().flatten().collect();
    let lib = fs::read_to_string(root().join("lib.rs")).unwrap();
    for module in lib.lines().filter_map(|line| line.strip_prefix("pub mod ")).map(|rest| rest.trim_end_matches(';')) {
        assert!(named.iter().any(|name| name == module), "{module} stands in no row of src/lib.rs");
    }
}

#[test]
fn one_function_writes_credentials() {
    let mut definitions = 0;
    for (file, text) in sources() {
        let code = product_code(&text);
        definitions += code.matches("fn write_authorization(").count();
        if code.contains("write_authorization(") {
            assert!(is_one_of(&file, &MAY_WRITE_AUTHORIZATION), "{} writes credentials", file.display());
        }
        if code.contains("token.header") || code.contains("token.bare") {
            assert!(is_one_of(&file, &MAY_TAKE_TOKENS), "{} takes a token's value", file.display());
        }
    }
    assert_eq!(definitions, 1);
}

/// MQTT has no header to write a credential into: there it is CONNECT, and the proof is taken apart in the same function.
#[test]
fn one_place_puts_tokens_into_mqtt() {
    let mut writers = 0;
    for (file, text) in sources() {
        let code = product_code(&text);
        if code.contains("into_io(") {
            assert!(is_one_of(&file, &MAY_SPEAK), "{} takes the stream of a proven connection", file.display());
        }
        if file.starts_with("mqtt") {
            writers += code.matches("token.bare").count() + code.matches("token.header").count();
        }
    }
    assert_eq!(writers, 1);
}

#[test]
fn secrets_are_opened_by_few() {
    for (file, text) in sources() {
        if product_code(&text).contains(".expose()") {
            assert!(is_one_of(&file, &MAY_EXPOSE), "{} opens a secret", file.display());
        }
    }
}

/// A sidecar talks to Google, never to the API server: it has no rights there and needs none.
#[test]
fn only_injection_knows_the_api_server() {
    let mut users = 0;
    for (file, text) in sources() {
        let code = product_code(&text);
        if ["kube::", "k8s_openapi::"].iter().any(|name| code.contains(name)) {
            assert!(is_one_of(&file, &["inject/"]), "{} uses kube", file.display());
            users += 1;
        }
    }
    assert!(users > 0);
}

#[test]
fn files_are_short() {
    for (file, text) in sources() {
        let lines = product_code(&text).lines().count();
        assert!(lines <= MOST_LINES, "{} has {lines} lines, at most {MOST_LINES} are allowed", file.display());
    }
}

#[test]
fn every_folder_says_what_it_owns() {
    for (file, text) in sources() {
        assert!(text.starts_with("//! "), "{} does not begin with its purpose", file.display());
    }
}

/// Rows of module names, lowest first.
fn order() -> Vec<Vec<String>> {
    let lib = fs::read_to_string(root().join("lib.rs")).unwrap();
    let table = lib.split("//! ```text\n").nth(1).and_then(|rest| rest.split("//! ```").next()).unwrap();
    table.lines().map(|line| line.trim_start_matches("//!").split_whitespace().map(str::to_owned).collect()).collect()
}

/// Every source file that is not a file of tests.
fn sources() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") && !is_tests(&path) {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    assert!(files.len() > 20, "sources not found");
    files
}

fn is_tests(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "tests.rs") || path.components().any(|part| part.as_os_str() == "tests")
}

/// The text before the file's own tests, without comments.
fn product_code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    code.lines().map(|line| if line.trim_start().starts_with("//") { "" } else { line }).collect::<Vec<_>>().join("\n")
}

/// `crate::name` and the first names of `use crate::{…}` trees.
fn used_modules(code: &str) -> Vec<String> {
    let mut used = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(tree) = rest.strip_prefix('{') {
            used.extend(first_names(tree));
        } else {
            used.push(name_at(rest));
        }
    }
    used
}

/// The names at depth one of a use tree.
fn first_names(tree: &str) -> Vec<String> {
    let (mut depth, mut names, mut fresh) = (1, Vec::new(), true);
    for (at, letter) in tree.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => fresh = true,
            letter if depth == 1 && fresh && letter.is_alphabetic() => {
                names.push(name_at(&tree[at..]));
                fresh = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

fn name_at(text: &str) -> String {
    text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

fn module_of(file: &Path) -> String {
    let first = file.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

fn is_one_of(file: &Path, allowed: &[&str]) -> bool {
    let file = file.to_string_lossy();
    allowed.iter().any(|entry| file == *entry || (entry.ends_with('/') && file.starts_with(entry)))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

#[test]
fn use_trees_are_read() {
    let code = "use crate::{a::{b, c}, d::e, f};\nuse crate::g::h;\nlet x = crate::i::j();";
    assert_eq!(used_modules(code), ["a", "d", "f", "g", "i"]);
}
