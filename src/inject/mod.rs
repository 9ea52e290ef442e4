//! Puts the sidecar into a pod.
//!
//! Owns what is injected, and what is refused with a reason. Refuses to know how a pod is submitted: it works on raw
//! JSON, so that fields newer than this program survive. Called by `webhook` and `inject`.

mod annotations;
pub mod certificates;
mod containers;
mod finding;
pub mod manifest;
mod mistakes;
mod plan;
mod pod;
mod quantity;
pub mod review;
mod settings;
mod shapes;
mod sidecar;
pub mod webhook;

use serde_json::Value;

pub use finding::Finding;
pub use plan::plan;
pub use settings::Settings;

/// Who asked for the sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The pod itself, by its label or annotation; without one it stays as it is.
    ByPod,
    /// Its namespace, or `--all`; the pod may still opt out.
    ByNamespace,
}

/// What is to be done to a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What came of it.
    pub outcome: Outcome,
    /// Operations of RFC 6902, in order; empty = nothing to change.
    pub patch: Vec<Value>,
    /// What the user should know.
    pub warnings: Vec<Finding>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The sidecar comes in.
    Injected,
    /// It is in; the patch, if any, is for containers that came later.
    Already,
    /// Nothing is to be done, and why.
    Skipped(&'static str),
}

/// Why a pod gets no sidecar although it asked for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Everything that is wrong, at least one.
    pub errors: Vec<Finding>,
    /// What the user should know besides.
    pub warnings: Vec<Finding>,
}

#[cfg(test)]
mod tests;
