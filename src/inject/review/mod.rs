//! An AdmissionReview in, an AdmissionReview out (pure).
//!
//! Owns what the API server is answered and in which words. Refuses to know what is injected, and how bytes arrive.
//! Called by the webhook's server. Nothing of a request is echoed but plain names and what findings show.

mod answer;
mod request;
#[cfg(test)]
mod tests;

use serde_json::Value;

pub use request::{BadReview, Owner};
use request::{Object, Request};

use super::{Asked, Finding, Outcome, Plan, Refused, Settings, plan};
use answer::Answer;

/// The paths under which reviews come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Pods that ask for themselves.
    Pods,
    /// Pods of a namespace that asks for all of them.
    Namespace,
    /// Templates of pods: only warned about.
    Templates,
}

impl Door {
    /// The door at a path.
    pub fn at(path: &str) -> Option<Self> {
        match path {
            "/mutate" => Some(Self::Pods),
            "/mutate/namespace" => Some(Self::Namespace),
            "/validate" => Some(Self::Templates),
            _ => None,
        }
    }

    /// A word for logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::Namespace => "namespace",
            Self::Templates => "templates",
        }
    }
}

/// What came of a review.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Result {
    /// The sidecar comes in.
    Injected,
    /// It was in.
    Already,
    /// Nothing was to be done.
    Skipped,
    /// The pod is refused.
    Denied,
    /// A template with nothing to say about.
    Fine,
    /// A template that was warned about.
    Warned,
    /// No review, or none that we understand: an answer of HTTP.
    Malformed,
}

impl Result {
    /// Every result, so that each series exists from the start.
    pub const ALL: [Self; 7] =
        [Self::Injected, Self::Already, Self::Skipped, Self::Denied, Self::Fine, Self::Warned, Self::Malformed];

    /// A word for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Injected => "injected",
            Self::Already => "already",
            Self::Skipped => "skipped",
            Self::Denied => "denied",
            Self::Fine => "fine",
            Self::Warned => "warned",
            Self::Malformed => "malformed",
        }
    }
}

/// An answered review.
#[derive(Debug)]
pub struct Reviewed {
    /// The AdmissionReview that goes back.
    pub body: Vec<u8>,
    /// What came of it.
    pub result: Result,
    /// The namespace of the request.
    pub namespace: String,
    /// Whom the object belongs to.
    pub owner: Owner,
    /// Nothing is stored, so nothing else may happen either.
    pub dry_run: bool,
    /// Why it is refused; empty otherwise.
    pub message: String,
}

/// Answers one review.
///
/// # Errors
/// When it is none, or none of a version that we speak.
pub fn review(door: Door, body: &[u8], settings: &Settings) -> std::result::Result<Reviewed, BadReview> {
    answered(door, body, &|pod, asked| plan(pod, asked, settings))
}

/// The plan, with its settings.
type Planner<'a> = &'a dyn Fn(&Value, Asked) -> std::result::Result<Plan, Refused>;

fn answered(door: Door, body: &[u8], plan: Planner<'_>) -> std::result::Result<Reviewed, BadReview> {
    let request = Request::read(body)?;
    let (answer, result) = match door {
        Door::Pods => pod(&request, Asked::ByPod, plan),
        Door::Namespace => pod(&request, Asked::ByNamespace, plan),
        Door::Templates => template(&request, plan),
    };
    Ok(Reviewed {
        body: answer.body(&request.uid),
        result,
        owner: request.owner(),
        namespace: request.namespace,
        dry_run: request.dry_run,
        message: answer.message,
    })
}

fn pod(request: &Request, asked: Asked, plan: Planner<'_>) -> (Answer, Result) {
    let Object::Pod = request.kind else {
        return (
            Answer::untouched("only a pod that is being created is injected; this is something else"),
            Result::Skipped,
        );
    };
    match plan(&request.object, asked) {
        Err(refused) => (Answer::denied(&refused), Result::Denied),
        Ok(plan) => {
            let (result, reason) = match plan.outcome {
                Outcome::Injected => (Result::Injected, "injected"),
                Outcome::Already => (Result::Already, "already injected"),
                Outcome::Skipped(reason) => (Result::Skipped, reason),
            };
            (Answer::planned(&plan, result == Result::Injected, reason), result)
        }
    }
}

/// Never refused: the pods will be, and whoever applies the workload sees here why.
fn template(request: &Request, plan: Planner<'_>) -> (Answer, Result) {
    let Object::Workload(path) = request.kind else {
        return (Answer::untouched("only workloads with a template of pods are looked at"), Result::Skipped);
    };
    let mut findings = misplaced(&request.object);
    if let Some(template) = request.object.pointer(path).filter(|template| template.is_object()) {
        match plan(template, Asked::ByPod) {
            Ok(plan) => findings.extend(plan.warnings),
            Err(Refused { errors, warnings }) => findings.extend(errors.into_iter().chain(warnings)),
        }
    }
    let result = if findings.is_empty() { Result::Fine } else { Result::Warned };
    (Answer::template(&findings), result)
}

/// Our label or annotations on the workload, where nobody reads them.
fn misplaced(workload: &Value) -> Vec<Finding> {
    let of = |field: &str| workload.pointer(field).and_then(Value::as_object);
    let keys = ["/metadata/labels", "/metadata/annotations"].into_iter().filter_map(of).flat_map(|map| map.keys());
    let mut keys: Vec<&String> = keys.filter(|key| key.starts_with(PREFIX)).collect();
    keys.sort();
    keys.dedup();
    let finding = |key: &String| Finding {
        subject: key.clone(),
        message: "has no effect on the workload itself, want it in the template's metadata".to_owned(),
        anchor: "configuration.md#annotations",
    };
    keys.into_iter().map(finding).collect()
}

/// Of every label and annotation of ours.
const PREFIX: &str = "bearerd.dev/";
