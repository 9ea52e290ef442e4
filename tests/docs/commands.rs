//! Commands, flags, exit statuses and the program's own environment variables, as `--help` tells them.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use super::{
    assert_same,
    page::{Page, codes, page, pages, rows},
    set,
};

/// What `--help` of a command tells.
struct Help {
    flags: BTreeSet<String>,
    variables: BTreeSet<String>,
}

fn bearerd(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_bearerd")).args(arguments).env_clear().output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

fn commands() -> Vec<String> {
    let (status, text) = bearerd(&["--help"]);
    assert_eq!(status, 0);
    let list = text.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap();
    list.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

fn help(command: &str) -> Help {
    let (status, text) = bearerd(&[command, "--help"]);
    assert_eq!(status, 0);
    let is_flag = |line: &&str| line.trim_start().starts_with('-');
    let long = |line: &str| line.split_whitespace().find(|word| word.starts_with("--")).map(str::to_owned);
    let flags = text.lines().filter(is_flag).filter_map(long).filter(|flag| flag != "--help").collect();
    let variables =
        text.split("[env: ").skip(1).filter_map(|rest| rest.split(['=', ']']).next()).map(str::to_owned).collect();
    Help { flags, variables }
}

fn helps() -> BTreeMap<String, Help> {
    commands().into_iter().map(|command| (command.clone(), help(&command))).collect()
}

/// Flag and variable of each row of a table of flags.
fn documented(text: &str) -> Vec<(String, Option<String>)> {
    let flag = |cell: &str| codes(cell).first()?.split(' ').next().map(str::to_owned);
    rows(text).iter().filter_map(|row| Some((flag(&row[0])?, codes(&row[1]).first().cloned()))).collect()
}

#[test]
fn every_command_and_flag_is_documented_and_exists() {
    let page = page("docs/configuration.md");
    let common = documented(&page.section("### Common flags"));
    let heading = |line: &String| line.strip_prefix("### `bearerd ").map(|rest| rest.trim_end_matches('`').to_owned());
    let helps = helps();
    assert_same(
        "commands",
        &page.headings().iter().filter_map(heading).collect(),
        &set(helps.keys().map(String::as_str)),
    );
    for (command, help) in &helps {
        let own = documented(&page.section(&format!("### `bearerd {command}`")));
        let shared = match command.as_str() {
            // `inject` and `webhook` read a file of their own kind.
            "demo" | "webhook" | "inject" => &[][..],
            // Only the configuration, which stands first.
            "ready" | "quit" => &common[..2],
            _ => &common[..],
        };
        let flags = own.iter().chain(shared).map(|(flag, _)| flag.clone());
        let variables = own.iter().chain(shared).filter_map(|(_, variable)| variable.clone());
        if !help.flags.is_empty() {
            assert_same(&format!("flags of {command}"), &flags.collect(), &help.flags);
        }
        if !help.variables.is_empty() {
            assert_same(&format!("variables of {command}"), &variables.collect(), &help.variables);
        }
    }
}

#[test]
fn the_readme_lists_every_command() {
    let readme = page("README.md");
    let named = readme.prose().lines().filter(|line| line.starts_with('|')).flat_map(codes).collect::<Vec<_>>();
    let first = |code: &String| code.split(' ').next().unwrap().to_owned();
    let named: BTreeSet<String> = named.iter().map(first).collect();
    for command in commands() {
        assert!(named.contains(&command), "README does not list {command}");
    }
}

#[test]
fn every_command_line_in_the_docs_can_be_typed() {
    let helps = helps();
    let mut lines = 0;
    for page in pages() {
        for line in command_lines(&page) {
            let words: Vec<&str> =
                line.split_whitespace().skip(1).take_while(|word| !["#", "--"].contains(word)).collect();
            let Some(command) = words.first() else { continue };
            if command.starts_with('-') {
                assert!(["--version", "--help"].contains(command), "{}: {line}", page.path);
                continue;
            }
            let help = helps.get(*command).unwrap_or_else(|| panic!("{}: no command {command}: {line}", page.path));
            for flag in words.iter().filter(|word| word.starts_with("--")) {
                let flag = flag.split('=').next().unwrap();
                assert!(help.flags.contains(flag), "{}: {command} has no {flag}: {line}", page.path);
            }
            lines += 1;
        }
    }
    assert!(lines > 15, "{lines} lines");
}

/// Lines of shell blocks, and code spans, that call the program.
fn command_lines(page: &Page) -> Vec<String> {
    let fences = page.fences();
    let shell = fences.iter().filter(|fence| fence.info == "sh").flat_map(|fence| fence.body.lines());
    let prose = page.prose();
    let lines = shell.map(|line| line.trim().to_owned()).chain(codes(&prose));
    lines.filter(|line| line.starts_with("bearerd ")).collect()
}

#[test]
fn flags_named_beside_the_tables_exist() {
    let all: BTreeSet<String> = helps().into_values().flat_map(|help| help.flags).collect();
    let page = page("docs/configuration.md");
    for code in codes(&page.prose()).iter().filter(|code| code.starts_with("--")) {
        let flag = code.split(' ').next().unwrap();
        assert!(all.contains(flag), "no command has {flag}");
    }
}

#[test]
fn variables_of_the_program_itself_are_documented() {
    let real: BTreeSet<String> = helps().into_values().flat_map(|help| help.variables).collect();
    let pages = pages();
    let named = pages.iter().flat_map(|page| codes(&page.prose())).filter(|code| code.starts_with("BEARERD_"));
    assert_same("own variables", &named.collect(), &real);
}

#[test]
fn exit_statuses_are_as_documented() {
    let section = page("docs/configuration.md").section("## Commands");
    assert!(section.contains("Exit status: 0 done, 1 failed, 64 wrong usage."), "{section}");
    for (arguments, status) in [
        (&["--version"][..], 0),
        (&["explain", "GET", "https://storage.googleapis.com/"], 0),
        (&["check", "--config", "/does/not/exist"], 1),
        (&["run"], 64),
        (&["exec", "--", "true"], 64),
        (&["run", "--no-such-flag"], 64),
    ] {
        assert_eq!(bearerd(arguments).0, status, "{arguments:?}");
    }
}
