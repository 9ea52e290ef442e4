//! The series that exist at 0 from the start, so that `increase()` sees the first event of each.

use super::Settings;
use crate::{
    credential::Reason,
    metrics::{Metrics, Names},
    mqtt,
    net::{head_gate, verified::CONNECT_LABELS},
    policy::{DenyReason, PassReason},
    proxy::REFUSAL_LABELS,
    tls::AcceptError,
    token::UNAVAILABLE_LABELS,
    token_api,
};

/// Every closed set but those of credentials, which begin with their credential.
pub(super) fn begin(metrics: &Metrics, settings: &Settings) {
    for reason in PassReason::ALL {
        metrics.requests_passed.with_label_values(&[reason.label()]);
    }
    for reason in refusals() {
        metrics.requests_refused.with_label_values(&[reason]);
    }
    for reason in CONNECT_LABELS {
        metrics.upstream_connect_errors.with_label_values(&[reason]);
    }
    for door in DOORS {
        metrics.connections_active.with_label_values(&[door]);
    }
    begin_configured(metrics, settings);
}

/// The series of the routes and entries in use, and no longer those of others. Which methods and codes a route will see
/// is not known before.
pub(super) fn begin_configured(metrics: &Metrics, settings: &Settings) {
    metrics.keep_only(names(settings));
    for entry in &settings.tokens {
        metrics.tokens_handed_out.with_label_values(&[&entry.name]);
        if entry.file.is_some() {
            metrics.token_file_failures.with_label_values(&[&entry.name]);
        }
    }
    for route in settings.policy.routes() {
        metrics.http_request_duration.with_label_values(&[&route.name]);
    }
    metrics.http_request_duration.with_label_values(&[NO_ROUTE]);
}

fn names(settings: &Settings) -> Names {
    let routes = settings.policy.routes().iter().map(|route| route.name.clone());
    Names {
        routes: routes.chain([NO_ROUTE.to_owned()]).collect(),
        entries: settings.tokens.iter().map(|entry| entry.name.clone()).collect(),
        credentials: settings.credentials.iter().map(|spec| spec.name.as_str().to_owned()).collect(),
    }
}

/// Every word that a refusal may carry, whoever says it.
fn refusals() -> impl Iterator<Item = &'static str> {
    let policy = DenyReason::ALL.iter().map(|reason| reason.label());
    let gate = head_gate::Reason::ALL.iter().map(|reason| reason.label());
    let token = Reason::ALL.iter().map(|reason| reason.label()).chain(UNAVAILABLE_LABELS);
    let connections = CONNECT_LABELS.into_iter().chain(AcceptError::LABELS);
    let handed_out = token_api::Refusal::ALL.iter().map(|refusal| refusal.label()).chain([token_api::SHORT_LIVED]);
    policy
        .chain(gate)
        .chain(token)
        .chain(connections)
        .chain(REFUSAL_LABELS)
        .chain(handed_out)
        .chain(mqtt::REFUSAL_LABELS)
}

const DOORS: [&str; 8] = ["proxy", "intercept", "tunnel", "mqtt", "metadata", "token_api", "health", "control"];

/// As the access log has it.
const NO_ROUTE: &str = "none";

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, fs, path::Path};

    use super::*;

    /// The words between quotes in the data plane that stand where a failure's reason stands.
    fn named_in_the_data_plane() -> HashSet<String> {
        let mut named = HashSet::new();
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/proxy")).unwrap() {
            let text = fs::read_to_string(entry.unwrap().path()).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
            for start in ["Failure::new(", "Failure::no_token(", "refused(shared, "] {
                for (at, _) in code.match_indices(start) {
                    let call = &code[at + start.len()..];
                    let (before, after) = call.split_once('"').unwrap_or_default();
                    let word = after.split('"').next().unwrap_or_default();
                    let is_reason = !["label", "=>", ";"].iter().any(|end| before.contains(end)) && !word.contains(' ');
                    if is_reason {
                        named.insert(word.to_owned());
                    }
                }
            }
        }
        named
    }

    #[test]
    fn every_refusal_of_the_data_plane_begins_at_0() {
        let known: HashSet<&str> = refusals().collect();
        let named = named_in_the_data_plane();
        assert!(named.len() > 10, "the data plane was not read: {named:?}");
        for reason in named {
            assert!(known.contains(reason.as_str()), "{reason}");
        }
    }
}
