//! Pages of Markdown: fences, sections, tables, code spans. As much of the syntax as our pages use.

use std::{fs, path::PathBuf};

/// A page and where it lies, from the top of the repository.
pub(crate) struct Page {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// A fenced block.
pub(crate) struct Fence {
    pub(crate) info: String,
    pub(crate) body: String,
    pub(crate) line: usize,
}

pub(crate) fn top() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every page for people.
pub(crate) fn pages() -> Vec<Page> {
    let mut paths: Vec<String> =
        ["README.md", "SECURITY.md", "CONTRIBUTING.md", "tests/clients/README.md"].map(str::to_owned).into();
    for entry in fs::read_dir(top().join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") {
            paths.push(format!("docs/{name}"));
        }
    }
    paths.sort();
    paths.iter().map(|path| page(path)).collect()
}

pub(crate) fn page(path: &str) -> Page {
    let text = fs::read_to_string(top().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    Page { path: path.to_owned(), text }
}

impl Page {
    pub(crate) fn fences(&self) -> Vec<Fence> {
        let mut found = Vec::new();
        let mut open: Option<Fence> = None;
        for (index, line) in self.text.lines().enumerate() {
            match (&mut open, line.trim_start().strip_prefix("```")) {
                (None, Some(info)) => {
                    open = Some(Fence { info: info.trim().to_owned(), body: String::new(), line: index + 1 });
                }
                (Some(_), Some(_)) => found.extend(open.take()),
                (Some(fence), None) => {
                    fence.body.push_str(line);
                    fence.body.push('\n');
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a fence that does not end", self.path);
        found
    }

    /// The text without fenced blocks.
    pub(crate) fn prose(&self) -> String {
        let mut inside = false;
        let mut prose = String::new();
        for line in self.text.lines() {
            let is_fence = line.trim_start().starts_with("```");
            if !inside && !is_fence {
                prose.push_str(line);
            }
            prose.push('\n');
            inside ^= is_fence;
        }
        prose
    }

    /// Heading lines, such as `## Ports`.
    pub(crate) fn headings(&self) -> Vec<String> {
        self.prose().lines().filter(|line| level(line) > 0).map(str::to_owned).collect()
    }

    /// What stands under a heading, up to the next one that is not below it.
    pub(crate) fn section(&self, heading: &str) -> String {
        let prose = self.prose();
        let mut lines = prose.lines().skip_while(|line| *line != heading);
        assert!(lines.next().is_some(), "{} has no heading {heading:?}", self.path);
        let ends = |line: &&str| level(line) == 0 || level(line) > level(heading);
        lines.take_while(ends).collect::<Vec<_>>().join("\n")
    }

    /// The rows of the tables under a heading, without their heads.
    pub(crate) fn table(&self, heading: &str) -> Vec<Vec<String>> {
        let rows = rows(&self.section(heading));
        assert!(!rows.is_empty(), "{}: no table under {heading:?}", self.path);
        rows
    }

    /// The first code span of the first cell of each row under a heading.
    pub(crate) fn first_codes(&self, heading: &str) -> Vec<String> {
        let first = |row: &Vec<String>| {
            let codes = codes(&row[0]);
            codes.first().unwrap_or_else(|| panic!("{heading}: {row:?} does not begin with a name")).clone()
        };
        self.table(heading).iter().map(first).collect()
    }
}

/// Rows of all tables in a text.
pub(crate) fn rows(text: &str) -> Vec<Vec<String>> {
    let lines: Vec<&str> = text.lines().collect();
    let is_rule = |line: &str| line.starts_with("|--");
    let is_row = |index: &usize| {
        let head = lines.get(index + 1).is_some_and(|next| is_rule(next));
        lines[*index].starts_with('|') && !is_rule(lines[*index]) && !head
    };
    (0..lines.len()).filter(is_row).map(|index| cells(lines[index])).collect()
}

fn cells(line: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    let mut inside = false;
    for letter in line.trim().trim_start_matches('|').trim_end_matches('|').chars() {
        inside ^= letter == '`';
        match letter {
            '|' if !inside => cells.push(String::new()),
            letter => cells.last_mut().unwrap().push(letter),
        }
    }
    cells.iter().map(|cell| cell.trim().to_owned()).collect()
}

/// The code spans of a text.
pub(crate) fn codes(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// 2 for `## …`, 0 for what is no heading.
pub(crate) fn level(line: &str) -> usize {
    let marks = line.bytes().take_while(|byte| *byte == b'#').count();
    if line[marks..].starts_with(' ') { marks } else { 0 }
}

#[test]
fn tables_and_sections_are_read() {
    let text = "## A\n\n| a | b |\n|---|---|\n| `x|y` | z |\n\n### B\n\n```sh\n## C\n```\n| `q` |\n## D\n".to_owned();
    let page = Page { path: "test".to_owned(), text };
    assert_eq!(page.table("## A"), [vec!["`x|y`", "z"], vec!["`q`"]]);
    assert_eq!(page.headings(), ["## A", "### B", "## D"]);
    assert_eq!(page.first_codes("## A"), ["x|y", "q"]);
}
