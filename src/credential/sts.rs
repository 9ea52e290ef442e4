//! The Security Token Service: one token for another (RFC 8693), as Google wants it
//! (<https://cloud.google.com/iam/docs/reference/sts/rest>).

use std::{borrow::Cow, time::Duration};

use serde_json::json;

use super::{Exchange, FetchError, Request, RequestBody, Token, TokenEndpoint, answer, endpoint::form};
use crate::secret::Secret;

/// What is exchanged, and for what.
pub(super) struct Trade<'a> {
    pub(super) subject_token: &'a Secret,
    pub(super) subject_token_type: &'a str,
    /// The workload identity provider; none where an access token is made to do less.
    pub(super) audience: Option<&'a str>,
    pub(super) scope: Option<&'a str>,
    /// JSON.
    pub(super) options: Option<String>,
    /// The life of what is exchanged, where the answer need not say how long the new token lives.
    pub(super) inherits: Option<Duration>,
}

impl Trade<'_> {
    pub(super) async fn token(self, exchange: &Exchange) -> Result<Token, FetchError> {
        let mut fields: Vec<(&str, &[u8])> = vec![
            ("grant_type", b"urn:ietf:params:oauth:grant-type:token-exchange"),
            ("requested_token_type", ACCESS_TOKEN.as_bytes()),
            ("subject_token_type", self.subject_token_type.as_bytes()),
            ("subject_token", self.subject_token.expose()),
        ];
        let options = self.options.unwrap_or_default();
        for (name, value) in [("audience", self.audience), ("scope", self.scope)] {
            fields.extend(value.map(|value| (name, value.as_bytes())));
        }
        if !options.is_empty() {
            fields.push(("options", options.as_bytes()));
        }
        let endpoint = TokenEndpoint::STS;
        let body = RequestBody::Form(form(&fields));
        let request = Request { host: endpoint.host, path: Cow::Borrowed(endpoint.path), body, bearer: None };
        let inherits = self.inherits;
        exchange.ask_and_read(request, |kept| answer::traded(kept, inherits)).await
    }
}

/// What a token may be used for at most, enforced by Google (a credential access boundary).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// `//storage.googleapis.com/projects/_/buckets/…`.
    pub resource: String,
    /// `inRole:roles/…`.
    pub permissions: Vec<String>,
    /// A condition in CEL; empty = none.
    pub condition: String,
}

/// The boundary as STS reads it.
pub(super) fn boundary(rules: &[Rule]) -> String {
    let rule = |rule: &Rule| {
        let mut rule_json = json!({ "availableResource": rule.resource, "availablePermissions": rule.permissions });
        if !rule.condition.is_empty() {
            rule_json["availabilityCondition"] = json!({ "expression": rule.condition });
        }
        rule_json
    };
    json!({ "accessBoundary": { "accessBoundaryRules": rules.iter().map(rule).collect::<Vec<_>>() } }).to_string()
}

/// RFC 8693 §3.
pub(super) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boundary_is_written_as_sts_reads_it() {
        let rule = Rule {
            resource: "//storage.googleapis.com/projects/_/buckets/b".to_owned(),
            permissions: vec!["inRole:roles/storage.objectViewer".to_owned()],
            condition: String::new(),
        };
        let conditional = Rule { condition: "resource.name.startsWith('x')".to_owned(), ..rule.clone() };
        let expected = json!({ "accessBoundary": { "accessBoundaryRules": [
            {
                "availableResource": "//storage.googleapis.com/projects/_/buckets/b",
                "availablePermissions": ["inRole:roles/storage.objectViewer"],
            },
            {
                "availableResource": "//storage.googleapis.com/projects/_/buckets/b",
                "availablePermissions": ["inRole:roles/storage.objectViewer"],
                "availabilityCondition": { "expression": "resource.name.startsWith('x')" },
            },
        ] } });
        assert_eq!(boundary(&[rule, conditional]), expected.to_string());
    }
}
