//! The response in a review.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::inject::{Finding, Plan, Refused};

/// What is answered.
#[derive(Debug)]
pub(super) struct Answer {
    /// Why it is refused; empty otherwise.
    pub(super) message: String,
    is_denied: bool,
    is_injected: bool,
    reason: String,
    patch: Vec<Value>,
    warnings: Vec<String>,
}

impl Answer {
    /// Nothing to do with it, which should not have come.
    pub(super) fn untouched(warning: &str) -> Self {
        Self { warnings: vec![format!("bearerd: {warning}")], ..Self::allowed("not for this webhook") }
    }

    pub(super) fn planned(plan: &Plan, is_injected: bool, reason: &str) -> Self {
        Self { is_injected, patch: plan.patch.clone(), warnings: listed(&plan.warnings), ..Self::allowed(reason) }
    }

    pub(super) fn denied(refused: &Refused) -> Self {
        let subjects: Vec<&str> = refused.errors.iter().map(|error| error.subject.as_str()).collect();
        Self {
            is_denied: true,
            message: joined(&refused.errors),
            warnings: listed(&refused.warnings),
            ..Self::allowed(&cut(&subjects.join(", "), MOST_WARNING))
        }
    }

    pub(super) fn template(findings: &[Finding]) -> Self {
        Self { warnings: listed(findings), ..Self::allowed(if findings.is_empty() { "fine" } else { "warned" }) }
    }

    fn allowed(reason: &str) -> Self {
        Self {
            message: String::new(),
            is_denied: false,
            is_injected: false,
            reason: reason.to_owned(),
            patch: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// The whole review as JSON.
    pub(super) fn body(&self, uid: &str) -> Vec<u8> {
        let injected = if self.is_injected { "true" } else { "false" };
        let mut response = json!({
            "uid": uid,
            "allowed": !self.is_denied,
            "auditAnnotations": {"injected": injected, "reason": self.reason},
        });
        if self.is_denied {
            // Forbidden, as of other policies: kubectl shows the whole message of it and controllers put it into their
            // events; of an Invalid without causes old kubectls show nothing.
            response["status"] = json!({
                "status": "Failure", "code": 403, "reason": "Forbidden", "message": self.message,
            });
        } else if !self.patch.is_empty() {
            response["patchType"] = json!("JSONPatch");
            response["patch"] = json!(STANDARD.encode(Value::from(self.patch.clone()).to_string()));
        }
        if !self.warnings.is_empty() {
            response["warnings"] = json!(self.warnings);
        }
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
        review.to_string().into_bytes()
    }
}

/// Findings as warnings: what the API server would cut or drop is cut and counted here.
fn listed(findings: &[Finding]) -> Vec<String> {
    let shown = if findings.len() > MOST_WARNINGS { MOST_WARNINGS - 1 } else { findings.len() };
    let mut warnings: Vec<String> =
        findings[..shown].iter().map(|finding| cut(&finding.to_string(), MOST_WARNING)).collect();
    if shown < findings.len() {
        warnings.push(format!("… and {} more", findings.len() - shown));
    }
    warnings
}

/// Errors as one message that fits an Event together with what controllers put before it.
fn joined(errors: &[Finding]) -> String {
    let mut message = String::new();
    for (at, error) in errors.iter().enumerate() {
        let error = cut(&error.to_string(), MOST_WARNING);
        let rest = errors.len() - at;
        let more = if rest > 1 { MORE } else { 0 };
        if message.len() + error.len() + "; ".len() + more > MOST_MESSAGE {
            message.push_str(&format!("; … and {rest} more"));
            break;
        }
        if at > 0 {
            message.push_str("; ");
        }
        message.push_str(&error);
    }
    message
}

/// At most so many bytes, at a character's boundary.
fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most - '…'.len_utf8()).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &text[..end])
}

/// The API server cuts longer ones.
const MOST_WARNING: usize = 256;
/// The API server shows 4096 characters of all warnings together.
const MOST_WARNINGS: usize = 15;
/// A kilobyte with the name of the webhook and the words of the controller.
const MOST_MESSAGE: usize = 880;
/// Room for `; … and 999 more`.
const MORE: usize = 24;
