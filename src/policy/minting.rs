//! Google methods that turn the use of a credential into having one.
//!
//! Denied where a token would go on them: methods whose answer is a credential, by REST, by gRPC and
//! by batch. Passed without a token: exchanges of a credential that the client already has. Rules that look
//! at the path look at every reading of it. What a batch or an opaque body holds inside is not seen; IAM is
//! the real fence.

use http::{HeaderMap, Method};

use super::{
    decision::{DenyReason, PassReason},
    service::Service,
    target::RequestTarget,
};
use crate::authority::Host;

/// A request for which no token may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guarded {
    Deny(DenyReason),
    Pass(PassReason),
}

/// Judges a request that a route would inject into. `named` = the route names the host without wildcard.
pub(super) fn judge(
    host: &Host,
    named: bool,
    method: &Method,
    headers: &HeaderMap,
    target: &RequestTarget<'_>,
) -> Option<Guarded> {
    let service = Service::of(host);
    let overridden = has_method_override(headers);
    let (decoded, resolved) = target.readings();
    let readings = [Some(segments(&decoded)), resolved.as_deref().map(segments)];
    let any = |rule: &dyn Fn(&[&str]) -> bool| readings.iter().flatten().any(|path| rule(path));
    let all = |rule: &dyn Fn(&[&str]) -> bool| readings.iter().flatten().all(|path| rule(path));
    match service {
        Service::Minting if *method == Method::GET && !overridden && all(&is_allowed_locations) => {
            return Some(Guarded::Pass(PassReason::AllowedLocations));
        }
        Service::Minting => return Some(Guarded::Deny(DenyReason::Minting)),
        Service::EndUsers if !named => return Some(Guarded::Pass(PassReason::TokenExchange)),
        Service::Exchange => return Some(Guarded::Pass(PassReason::TokenExchange)),
        _ => {}
    }
    let call = Call { service, may_post: *method == Method::POST, host, target };
    if any(&|path| call.mints(path)) {
        return Some(Guarded::Deny(DenyReason::Minting));
    }
    // Another method is meant than the one seen: what would mint by POST is refused by any.
    let as_post = Call { may_post: true, ..call };
    if overridden && any(&|path| as_post.mints(path)) {
        return Some(Guarded::Deny(DenyReason::MethodOverride));
    }
    let has_exchange = !service.is_storage() && service != Service::Foreign;
    (has_exchange && any(&is_exchange)).then_some(Guarded::Pass(PassReason::TokenExchange))
}

/// Whether a header says that another method is meant than the one on the request line.
pub(super) fn has_method_override(headers: &HeaderMap) -> bool {
    METHOD_OVERRIDES.iter().any(|name| headers.contains_key(*name))
}

struct Call<'a> {
    service: Service,
    may_post: bool,
    host: &'a Host,
    target: &'a RequestTarget<'a>,
}

impl Call<'_> {
    fn mints(&self, path: &[&str]) -> bool {
        is_minting_rpc(path)
            || self.is_batch(path)
            || self.is_hmac_key(path)
            || self.is_xml_hmac_key(path)
            // On storage hosts a path is a bucket and an object of any name.
            || !self.service.is_storage() && self.is_rest(path)
    }

    /// Service-account keys, signatures and tokens of the old and new IAM APIs; API keys.
    fn is_rest(&self, path: &[&str]) -> bool {
        match path {
            [.., "serviceAccounts", _, "keys:upload"] | [.., "keys", _, "keyString"] => true,
            [.., "serviceAccounts", _, "keys"] => self.may_post,
            [.., "serviceAccounts", last] => {
                let verb = last.rsplit(':').next().unwrap_or_default();
                MINTING_VERBS.iter().any(|minting| verb.eq_ignore_ascii_case(minting))
            }
            [_, "projects", _, "locations", _, "keys"] => self.service == Service::ApiKeys && self.may_post,
            _ => false,
        }
    }

    /// HMAC keys by the JSON API, which other hosts than storage's serve too.
    fn is_hmac_key(&self, path: &[&str]) -> bool {
        matches!(path, ["storage", _, "projects", _, "hmacKeys"]) && self.may_post
    }

    /// HMAC keys by the XML API: `POST /?Action=CreateAccessKey`, the action in the query or in the body.
    fn is_xml_hmac_key(&self, path: &[&str]) -> bool {
        let Service::Storage { bucket } = self.service else { return false };
        let by_query = || {
            self.target.parameters().any(|(name, value)| {
                name.eq_ignore_ascii_case(b"action") && value.eq_ignore_ascii_case(b"createaccesskey")
            })
        };
        // Nothing else is posted to the root of the service; on a bucket's own host, uploads by form are.
        path.is_empty() && (!bucket && self.may_post || by_query())
    }

    /// A batch body holds requests we do not see, so batches of these services are denied as a whole.
    fn is_batch(&self, path: &[&str]) -> bool {
        match path {
            _ if self.service == Service::Foreign => false,
            ["batch", "iamcredentials" | "iam" | "apikeys", ..] => true,
            // The old endpoint for all services at once.
            ["batch"] if self.host.as_str() == "www.googleapis.com" => true,
            ["batch", ..] => matches!(self.service, Service::Iam | Service::ApiKeys),
            _ => false,
        }
    }
}

fn is_allowed_locations(path: &[&str]) -> bool {
    path.last() == Some(&"allowedLocations")
}

/// `www.googleapis.com/oauth2/…`, which other hosts of the same front end serve too.
fn is_exchange(path: &[&str]) -> bool {
    matches!(path, ["oauth2", ..] | ["batch", "oauth2" | "sts", ..])
}

/// A full gRPC method; `/$rpc/…` is the same for browsers.
fn is_minting_rpc(path: &[&str]) -> bool {
    let (["$rpc", service, method] | [service, method]) = path else { return false };
    MINTING_RPCS.iter().any(|(prefix, methods)| {
        let same = service.split_at_checked(prefix.len()).is_some_and(|(start, _)| start.eq_ignore_ascii_case(prefix));
        same && (methods.is_empty() || methods.iter().any(|name| name.eq_ignore_ascii_case(method)))
    })
}

fn segments(path: &str) -> Vec<&str> {
    path.split('/').filter(|segment| !segment.is_empty()).collect()
}

const MINTING_VERBS: [&str; 4] = ["signBlob", "signJwt", "generateAccessToken", "generateIdToken"];

/// Prefixes of gRPC services (versions differ), and their methods; none = all of them.
const MINTING_RPCS: [(&str, &[&str]); 4] = [
    ("google.iam.credentials.", &[]),
    ("google.iam.admin.", &["CreateServiceAccountKey", "UploadServiceAccountKey", "SignBlob", "SignJwt"]),
    ("google.api.apikeys.", &["GetKeyString", "CreateKey"]),
    ("google.storage.", &["CreateHmacKey"]),
];

/// The first is what Google reads; the others are what frameworks in front of customer code do.
const METHOD_OVERRIDES: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];
