//! Links and paths lead somewhere.

use std::path::Path;

use super::page::{Page, codes, level, page, pages, top};

#[test]
fn every_relative_link_resolves() {
    let mut links = 0;
    for page in pages() {
        for target in targets(&page) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            links += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let folder = Path::new(&page.path).parent().unwrap();
            let found = if file.is_empty() { top().join(&page.path) } else { top().join(folder).join(file) };
            assert!(found.exists(), "{}: {target} leads nowhere", page.path);
            if !anchor.is_empty() {
                let text = std::fs::read_to_string(&found).unwrap();
                let there = Page { path: target.clone(), text }.headings().iter().any(|line| slug(line) == anchor);
                assert!(there, "{}: {target} names no heading", page.path);
            }
        }
    }
    assert!(links > 15, "{links} links");
}

fn targets(page: &Page) -> Vec<String> {
    let prose = page.prose();
    let rest = prose.split("](").skip(1);
    rest.filter_map(|rest| rest.split(')').next()).map(str::to_owned).collect()
}

/// As GitHub makes anchors of headings.
pub(crate) fn slug(heading: &str) -> String {
    let text = heading[level(heading)..].trim().to_lowercase();
    let kept = text.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

#[test]
fn every_path_of_the_repository_exists() {
    for page in pages().iter().filter(|page| !page.path.starts_with("tests/")) {
        for code in codes(&page.prose()) {
            let is_path = ["src/", "tests/", "docs/", ".ci/"].iter().any(|folder| code.starts_with(folder));
            if is_path && !code.contains([' ', '*', '…']) {
                assert!(top().join(&code).exists(), "{}: there is no {code}", page.path);
            }
        }
    }
}

#[test]
fn the_readme_leads_to_every_page() {
    let targets = targets(&page("README.md"));
    for page in pages().iter().filter(|page| page.path.starts_with("docs/")) {
        assert!(targets.contains(&page.path), "README does not lead to {}", page.path);
    }
}
