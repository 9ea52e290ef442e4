//! `bearerd inject`: manifests in, manifests out.
//!
//! Owns that everything but the change stays byte for byte, and that nothing comes out when something was refused.
//! Refuses to know what a sidecar is: it asks `plan`. Called by `cli`.
//!
//! A file is read into a tree that knows its bytes (`tree`, `json`), pods are found in it (`objects`), and what the
//! plan adds is written where it belongs (`edit`, `render`). The result is read back and compared before it counts.

mod edit;
mod file;
mod input;
mod json;
mod objects;
mod render;
mod scalar;
#[cfg(test)]
mod tests;
mod tree;

use serde_json::Value;

pub use input::{Input, read};

use super::{Plan, Refused};

/// What is to be done to a pod.
pub type Planner<'a> = &'a dyn Fn(&Value) -> Result<Plan, Refused>;

/// What became of all files.
#[derive(Debug)]
pub struct Manifests {
    files: Vec<(Input, file::File)>,
}

/// Judges every document and changes those that asked for it.
#[must_use]
pub fn inject(inputs: Vec<Input>, planner: Planner<'_>) -> Manifests {
    let done = |input| {
        let file = file::process(&input, planner);
        (input, file)
    };
    Manifests { files: inputs.into_iter().map(done).collect() }
}

impl Manifests {
    /// A line for each document, and one for each thing to say about it.
    pub fn report(&self) -> impl Iterator<Item = &str> {
        self.files.iter().flat_map(|(_, file)| file.report.iter().map(String::as_str))
    }

    /// How much is wrong. With anything wrong there is nothing to apply.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.files.iter().map(|(_, file)| file.errors).sum()
    }

    /// One stream for `kubectl apply -f -`.
    #[must_use]
    pub fn stream(&self) -> String {
        let all_json = self.files.iter().all(|(_, file)| file.is_json);
        let mut out = String::new();
        for (index, (_, file)) in self.files.iter().enumerate() {
            // Inside a stream it would be a character like others.
            let text = if index == 0 { &file.text } else { file.text.strip_prefix('\u{feff}').unwrap_or(&file.text) };
            if index > 0 && !out.is_empty() && !out.ends_with('\n') {
                out.push('\n');
            }
            if index > 0 && !all_json && !starts_itself(text) {
                out.push_str("---\n");
            }
            let values = json::ranges(text).ok().filter(|values| file.is_json && !all_json && values.len() > 1);
            match values {
                Some(values) => {
                    let values: Vec<&str> = values.into_iter().map(|range| &text[range]).collect();
                    out.push_str(&values.join("\n---\n"));
                }
                None => out.push_str(text),
            }
        }
        out
    }

    /// What changed, file by file; empty if nothing did.
    #[must_use]
    pub fn diff(&self) -> String {
        let changed = self.files.iter().filter(|(input, file)| input.text != file.text);
        let diff = |(input, file): &(Input, file::File)| {
            let diff = similar::TextDiff::from_lines(&input.text, &file.text);
            let name = input.name.trim_start_matches('/');
            diff.unified_diff().header(&format!("a/{name}"), &format!("b/{name}")).to_string()
        };
        changed.map(diff).collect()
    }
}

/// Whether the first thing in a file, comments aside, is a document's marker.
fn starts_itself(text: &str) -> bool {
    let first = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with('#'));
    first.is_none_or(|line| line.split_whitespace().next() == Some("---"))
}
