//! One file: every document judged, those with a pod that asked for it changed.
//!
//! Owns what is said about each document. A change is only kept if it reads back as what was planned. Called by `mod`.

use std::ops::Range;

use serde_json::Value;

use super::{
    Input, Planner,
    edit::{self, Edit},
    json,
    objects::{self, Object},
    render,
    tree::{self, Document, Node, Problem},
};
use crate::inject::{Outcome, Plan, Refused};

/// What became of a file.
#[derive(Debug)]
pub(super) struct File {
    pub(super) text: String,
    pub(super) is_json: bool,
    /// A line each, as the user reads them.
    pub(super) report: Vec<String>,
    pub(super) errors: usize,
}

pub(super) fn process(input: &Input, planner: Planner<'_>) -> File {
    let text = input.text.strip_prefix('\u{feff}').unwrap_or(&input.text).trim_start();
    let is_json = text.starts_with('{') && !text.starts_with("{{") && json::ranges(body(input)).is_ok();
    let is_json = is_json || input.name.ends_with(".json");
    let mut work = Work {
        input,
        planner,
        newline: if input.text.contains("\r\n") { "\r\n" } else { "\n" },
        report: Vec::new(),
        errors: 0,
    };
    let done = if is_json { work.json() } else { work.yaml() };
    let text = done.unwrap_or_else(|problem| {
        work.error(problem.line, "", &problem.message);
        input.text.clone()
    });
    File { text, is_json, report: work.report, errors: work.errors }
}

/// Without a byte order mark, which JSON does not have.
fn body(input: &Input) -> &str {
    input.text.strip_prefix('\u{feff}').unwrap_or(&input.text)
}

struct Work<'a> {
    input: &'a Input,
    planner: Planner<'a>,
    newline: &'static str,
    report: Vec<String>,
    errors: usize,
}

impl Work<'_> {
    fn yaml(&mut self) -> Result<String, Problem> {
        let input = self.input;
        let text = input.text.as_str();
        let documents = tree::parse(text).map_err(|problem| self.explain(text, problem))?;
        let mut edits = Vec::new();
        let mut expected = Vec::new();
        for document in &documents {
            let Some(root) = &document.root else {
                expected.push(None);
                continue;
            };
            let value = root.value();
            let wanted = self.document(document, root, &value);
            if let Some(wanted) = &wanted {
                edits.extend(self.place(document, root, wanted)?);
            }
            expected.push(Some(wanted.unwrap_or(value)));
        }
        if edits.is_empty() {
            return Ok(text.to_owned());
        }
        let new = edit::apply(text, edits).map_err(|_| mismatch(1))?;
        let read = tree::parse(&new).map_err(|_| mismatch(1))?;
        let same = |(document, wanted): (&Document, &Option<Value>)| document.root.as_ref().map(Node::value) == *wanted;
        if read.len() == expected.len() && read.iter().zip(&expected).all(same) { Ok(new) } else { Err(mismatch(1)) }
    }

    fn json(&mut self) -> Result<String, Problem> {
        let input = self.input;
        let text = body(input);
        let mut edits = Vec::new();
        for range in json::ranges(text).map_err(|problem| self.explain(text, problem))? {
            let root = json::parse(text, &range)?;
            let value = root.value();
            let line = text[..range.start].matches('\n').count() + 1;
            let document =
                Document { range: range.clone(), line, root: None, problems: Vec::new(), comments: Vec::new() };
            let Some(wanted) = self.document(&document, &root, &value) else { continue };
            let new = render::json(&wanted, Some(&root), json::step(&text[range.clone()]), self.newline);
            if json::parse(&new, &(0..new.len())).ok().map(|node| node.value()) != Some(wanted) {
                return Err(mismatch(line));
            }
            edits.push(Edit { range, text: new });
        }
        if edits.is_empty() {
            return Ok(input.text.clone());
        }
        edit::apply(text, edits).map_err(|_| mismatch(1))
    }

    /// What a document is to become; `None` = it stays.
    fn document(&mut self, document: &Document, root: &Node, value: &Value) -> Option<Value> {
        let objects = objects::find(value);
        // What is wrong with others is between them and Kubernetes.
        if objects.is_empty() || objects.iter().any(|object| object.pod.is_some()) {
            let label = objects.first().filter(|_| objects.len() == 1).map_or("", |object| &object.label);
            for problem in &document.problems {
                let problem = self.explain(&self.input.text[document.range.clone()], problem.clone());
                self.error(problem.line, label, &problem.message);
            }
            if !document.problems.is_empty() {
                return None;
            }
        }
        if objects.is_empty() {
            self.say(document.line, "document", "untouched: no object of Kubernetes");
        }
        let mut wanted = value.clone();
        let mut changed = false;
        for object in &objects {
            changed |= self.object(document, root, object, &mut wanted);
        }
        changed.then_some(wanted)
    }

    /// Whether it changed.
    fn object(&mut self, document: &Document, root: &Node, object: &Object, wanted: &mut Value) -> bool {
        let at = |pointer: &str, subject: &str| match objects::line(root, pointer, subject) {
            Some(line) if line > 0 => line,
            _ => document.line,
        };
        let line = at(&object.pointer, "");
        let Some(pod) = &object.pod else {
            self.say(line, &object.label, "untouched");
            return false;
        };
        if let Some(target) = wanted.pointer(&object.pointer)
            && pod != &object.pointer
        {
            for (home, key) in misplaced(target, wanted.pointer(pod)) {
                let below = pod[object.pointer.len() + 1..].replace('/', ".");
                let message = format!(
                    "warning: metadata.{home}.{key} stands on the workload, where the pods do not have it; want it in \
                     {below}.metadata.{home} (docs: kubernetes.md#{ANCHOR})"
                );
                self.say(at(&object.pointer, &format!("metadata.{home}")), &object.label, &message);
            }
        }
        let Some(target) = wanted.pointer_mut(pod).filter(|pod| pod.get("spec").is_some_and(Value::is_object)) else {
            let field = format!("{}.spec", &pod[object.pointer.len()..].replace('/', "."));
            self.error(line, &object.label, &format!("{}: missing, want a pod's", field.trim_start_matches('.')));
            return false;
        };
        match (self.planner)(target) {
            Err(Refused { errors, warnings }) => {
                for finding in &errors {
                    self.error(at(pod, &finding.subject), &object.label, &finding.to_string());
                }
                if errors.is_empty() {
                    self.error(line, &object.label, "no reason was given");
                }
                self.warn(&warnings, |subject| at(pod, subject), object);
                false
            }
            Ok(Plan { outcome, patch, warnings }) => {
                let patched = patch.is_empty() || apply(target, patch);
                if !patched {
                    self.error(line, &object.label, "the change does not fit the pod; please report this manifest");
                    return false;
                }
                self.say(line, &object.label, &told(outcome));
                self.warn(&warnings, |subject| at(pod, subject), object);
                true
            }
        }
    }

    /// Edits in place if they read back as planned, else the document anew.
    fn place(&mut self, document: &Document, root: &Node, wanted: &Value) -> Result<Vec<Edit>, Problem> {
        let text = &self.input.text;
        if root.value() == *wanted {
            return Ok(Vec::new());
        }
        let reads_back = |edits: &[Edit]| {
            let start = document.range.start;
            let shift = |range: &Range<usize>| range.start.checked_sub(start).zip(range.end.checked_sub(start));
            let shifted = edits.iter().map(|edit| {
                let (start, end) = shift(&edit.range).ok_or(edit::Unfit)?;
                Ok(Edit { range: start..end, text: edit.text.clone() })
            });
            let Ok(shifted) = shifted.collect::<Result<Vec<_>, edit::Unfit>>() else { return false };
            let Ok(slice) = edit::apply(&text[document.range.clone()], shifted) else { return false };
            let Ok(read) = tree::parse(&slice) else { return false };
            let [Document { root: Some(root), problems, .. }] = read.as_slice() else { return false };
            problems.is_empty() && root.value() == *wanted
        };
        if let Ok(edits) = edit::edits(text, root, wanted, self.newline)
            && reads_back(&edits)
        {
            return Ok(edits);
        }
        let anew = vec![edit::rewrite(text, root, wanted, self.newline)];
        if !reads_back(&anew) {
            return Err(mismatch(document.line));
        }
        let inside = |comment: &&Range<usize>| comment.start >= anew[0].range.start && comment.end <= anew[0].range.end;
        let lost = match document.comments.iter().filter(inside).count() {
            0 => "anchors and layout".to_owned(),
            1 => "anchors, layout and 1 comment".to_owned(),
            lost => format!("anchors, layout and {lost} comments"),
        };
        self.say(document.line, "document", &format!("warning: written anew without its {lost}"));
        Ok(anew)
    }

    fn warn(&mut self, findings: &[crate::inject::Finding], at: impl Fn(&str) -> usize, object: &Object) {
        for finding in findings {
            self.say(at(&finding.subject), &object.label, &format!("warning: {finding}"));
        }
    }

    fn error(&mut self, line: usize, label: &str, message: &str) {
        self.errors += 1;
        self.say(line, label, &if label.is_empty() { message.to_owned() } else { format!("refused: {message}") });
    }

    fn say(&mut self, line: usize, label: &str, message: &str) {
        let gap = if label.is_empty() { "" } else { " " };
        self.report.push(format!("{}:{line}: {label}{gap}{message}", self.input.name));
    }

    /// Templates of Helm are the usual reason why a manifest is none.
    fn explain(&self, text: &str, problem: Problem) -> Problem {
        if !text.contains("{{") {
            return problem;
        }
        let message = format!(
            "{}: a Helm template, want what `helm template` makes of it (`helm template … | bearerd inject -f -`)",
            problem.message
        );
        Problem { message, ..problem }
    }
}

/// Our labels and annotations on the workload that its pods do not have.
fn misplaced<'a>(object: &'a Value, pod: Option<&Value>) -> Vec<(&'static str, &'a str)> {
    let fields = |home: &str| object.pointer(&format!("/metadata/{home}")).and_then(Value::as_object);
    let below = |home: &str, key: &str| {
        let fields = pod.and_then(|pod| pod.pointer(&format!("/metadata/{home}")));
        fields.is_some_and(|fields| fields.get(key).is_some())
    };
    let mut found = Vec::new();
    for home in ["labels", "annotations"] {
        let keys = fields(home).into_iter().flatten().map(|(key, _)| key.as_str());
        found.extend(keys.filter(|key| key.starts_with(OURS) && !below(home, key)).map(|key| (home, key)));
    }
    found
}

fn apply(target: &mut Value, patch: Vec<Value>) -> bool {
    let patch = serde_json::from_value::<json_patch::Patch>(Value::Array(patch));
    patch.is_ok_and(|patch| json_patch::patch(target, &patch).is_ok())
}

fn told(outcome: Outcome) -> String {
    match outcome {
        Outcome::Injected => "injected".to_owned(),
        Outcome::Already => "injected already".to_owned(),
        Outcome::Skipped(why) => format!("untouched: {why}"),
    }
}

fn mismatch(line: usize) -> Problem {
    Problem { line, message: "cannot be changed without loss; please report this manifest".to_owned() }
}

const OURS: &str = "bearerd.dev/";

/// Under which heading the user finds more.
const ANCHOR: &str = "without-the-webhook-bearerd-inject";
