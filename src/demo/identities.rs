//! Google's other sources of tokens: STS, `iamcredentials`, and a person's refresh token. Who may have what is told by
//! the test; what is issued counts at the APIs like every other token.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    accounts::{Grant, Refusal},
    api,
    body::{self, Body},
    server::Abort,
    state::{State, lock},
    token_endpoint::{as_json, field, json_answer, refused_with, with_retry_after},
    tokens::{TokenRecord, Wish},
};

/// Whom the fake knows besides accounts with keys.
#[derive(Default)]
pub(super) struct Identities {
    /// Subject tokens, with the audience that they are for and the identity that they show.
    pub(super) subjects: HashMap<String, (String, String)>,
    /// Clusters whose tokens are believed, by provider.
    pub(super) clusters: HashMap<String, Cluster>,
    /// Who may impersonate whom.
    pub(super) impersonations: HashSet<(String, String)>,
    /// Refresh tokens, and whose they are.
    pub(super) people: HashMap<String, String>,
}

/// A cluster, as a workload identity provider knows it.
pub(super) struct Cluster {
    /// OpenID's `iss`.
    pub(super) issuer: String,
    /// The public half of its key, DER of PKCS#1.
    pub(super) public: Vec<u8>,
}

impl Identities {
    fn is_empty(&self) -> bool {
        self.subjects.is_empty() && self.clusters.is_empty() && self.impersonations.is_empty()
    }

    /// Whose subject token this is.
    fn shown(&self, token: &str, provider: &str, now: u64) -> Result<String, Refusal> {
        if let Some((audience, identity)) = self.subjects.get(token) {
            return if audience == provider { Ok(identity.clone()) } else { Err(no_such_target()) };
        }
        let cluster = self.clusters.get(provider);
        let is_known = cluster.is_some() || self.subjects.values().any(|(audience, _)| audience == provider);
        match cluster {
            Some(cluster) => cluster.judge(token, provider, now),
            None if is_known => Err(Refusal::new("invalid_grant", "The subject token is not one of ours")),
            None => Err(no_such_target()),
        }
    }
}

fn no_such_target() -> Refusal {
    Refusal::new("invalid_target", "The target service indicated by the \"audience\" parameters is invalid.")
}

impl Cluster {
    /// In the order and with the words of Google's, as far as they are known.
    fn judge(&self, token: &str, provider: &str, now: u64) -> Result<String, Refusal> {
        #[derive(Deserialize)]
        struct Claims {
            iss: String,
            sub: String,
            aud: Vec<String>,
            exp: u64,
        }
        let grant = |description: &str| Refusal::new("invalid_grant", description);
        // Times are judged by the fake's own clock.
        let mut signature_only = Validation::new(Algorithm::RS256);
        (signature_only.validate_exp, signature_only.validate_aud) = (false, false);
        signature_only.required_spec_claims.clear();
        let key = DecodingKey::from_rsa_der(&self.public);
        let claims = jsonwebtoken::decode::<Claims>(token, &key, &signature_only);
        let Claims { iss, sub, aud, exp } = claims.map_err(|_| grant("Invalid JWT signature."))?.claims;
        if iss != self.issuer {
            return Err(grant("The issuer in ID Token does not match the expected ones."));
        }
        if !aud.contains(&format!("https:{provider}")) {
            return Err(grant("The audience in ID Token does not match the expected audience."));
        }
        if exp <= now {
            return Err(grant("ID Token is stale to sign-in."));
        }
        Ok(format!("principal:{}/subject/{sub}", provider.split("/providers/").next().unwrap_or_default()))
    }
}

/// Whether this host is one of those that answer here; as long as nobody has been told of, they are APIs like others.
pub(super) fn is_for(authority: &str, state: &State) -> bool {
    [STS, IAM].contains(&authority)
        && (!lock(&state.identities).is_empty() || state.script().answers.contains_key(authority))
}

pub(super) async fn answer(
    request: Request<Incoming>,
    authority: &str,
    state: &Arc<State>,
) -> Result<Response<Body>, Abort> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, MAX_BODY).collect().await else { return Err(Abort) };
    let body = body.to_bytes();
    if let Some((status, answer)) = state.script().answers.get(authority) {
        let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let answer = as_json(status, body::full(Bytes::from(answer.clone())));
        return Ok(with_retry_after(answer, &state.script()));
    }
    if head.method != Method::POST {
        return Ok(api::error(StatusCode::NOT_FOUND, "not here"));
    }
    Ok(match authority {
        STS => trade(&body, state),
        _ => impersonate(head.uri.path(), &head.headers, &body, state),
    })
}

/// `POST /v1/token` (RFC 8693).
fn trade(form: &[u8], state: &State) -> Response<Body> {
    let value = |name: &str| field(form, name).unwrap_or_default();
    let bad = |description: &str| refused_with(400, "invalid_request", description);
    if value("grant_type") != "urn:ietf:params:oauth:grant-type:token-exchange" {
        return bad("Invalid grant_type");
    }
    let subject = value("subject_token");
    let now = state.clock.now();
    let lifetime = state.script().lifetime;
    let (grant, lifetime) = match value("subject_token_type").as_str() {
        "urn:ietf:params:oauth:token-type:access_token" => {
            let (admission, token) = lock(&state.tokens).judge(&subject, "storage.googleapis.com", now);
            let options: Value = serde_json::from_str(&value("options")).unwrap_or_default();
            let Some(token) = token.filter(|_| admission.is_good()) else { return bad("Invalid subject token") };
            let Some(rule) = options["accessBoundary"]["accessBoundaryRules"][0]["availableResource"].as_str() else {
                return bad("Invalid options");
            };
            // Never longer than what it is made of, which is why the answer does not say how long.
            (grant(&token.account, rule), now.until(token.expires).min(lifetime))
        }
        _ => {
            let shown = lock(&state.identities).shown(&subject, &value("audience"), state.wall().seconds());
            match shown {
                Ok(identity) => (grant(&identity, &value("scope")), lifetime),
                Err(Refusal { status, error, description }) => return refused_with(status, error, &description),
            }
        }
    };
    let is_downscoped = !value("options").is_empty();
    let (text, record) = issue(grant, lifetime, state);
    let mut answer = json!({
        "access_token": text, "token_type": "Bearer",
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
    });
    if !is_downscoped {
        answer["expires_in"] = now.until(record.expires).as_secs().into();
    }
    json_answer(StatusCode::OK, &answer)
}

/// `POST /v1/projects/-/serviceAccounts/EMAIL:generateAccessToken` and `:generateIdToken`.
fn impersonate(path: &str, headers: &HeaderMap, body: &[u8], state: &State) -> Response<Body> {
    let named = path.strip_prefix("/v1/projects/-/serviceAccounts/").and_then(|rest| rest.split_once(':'));
    let Some((account, method)) = named else { return api::error(StatusCode::NOT_FOUND, "no such method") };
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let bearer = bearer.strip_prefix("Bearer ").unwrap_or_default();
    let (admission, token) = lock(&state.tokens).judge(bearer, IAM, state.clock.now());
    let Some(caller) = token.filter(|_| admission.is_good()) else {
        return api::error(StatusCode::UNAUTHORIZED, "Request had invalid authentication credentials");
    };
    if !lock(&state.identities).impersonations.contains(&(caller.account, account.to_owned())) {
        return api::error(StatusCode::FORBIDDEN, "Permission 'iam.serviceAccounts.getAccessToken' denied");
    }
    let asked: Value = serde_json::from_slice(body).unwrap_or_default();
    if method == "generateIdToken" {
        let audience = asked["audience"].as_str().map(str::to_owned);
        let grant = Grant { audience, ..grant(account, "") };
        return json_answer(StatusCode::OK, &json!({ "token": issue(grant, state.script().lifetime, state).0 }));
    }
    let scopes: Vec<&str> = asked["scope"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let seconds = asked["lifetime"].as_str().and_then(|text| text.strip_suffix('s')?.parse().ok());
    let Some(seconds) = seconds.filter(|_| !scopes.is_empty()) else {
        return api::error(StatusCode::BAD_REQUEST, "scope and lifetime are required");
    };
    let (text, _) = issue(grant(account, &scopes.join(" ")), Duration::from_secs(seconds), state);
    let ends = i64::try_from(state.wall().seconds() + seconds).unwrap_or_default();
    let ends = jiff::Timestamp::from_second(ends).map(|time| time.to_string()).unwrap_or_default();
    json_answer(StatusCode::OK, &json!({ "accessToken": text, "expireTime": ends }))
}

/// The refresh of a person's token (RFC 6749 §6); none where it is nobody's.
pub(super) fn refreshed(form: &[u8], state: &State) -> Response<Body> {
    let token = field(form, "refresh_token").unwrap_or_default();
    let Some(person) = lock(&state.identities).people.get(&token).cloned() else {
        return refused_with(400, "invalid_grant", "Token has been expired or revoked.");
    };
    let lifetime = state.script().lifetime;
    let (text, _) = issue(grant(&person, &field(form, "scope").unwrap_or_default()), lifetime, state);
    let answer = json!({ "access_token": text, "expires_in": lifetime.as_secs(), "token_type": "Bearer" });
    json_answer(StatusCode::OK, &answer)
}

fn grant(account: &str, scopes: &str) -> Grant {
    let scopes = scopes.split_ascii_whitespace().map(str::to_owned).collect();
    Grant { account: account.to_owned(), key_id: String::new(), scopes, subject: None, audience: None }
}

fn issue(grant: Grant, lifetime: Duration, state: &State) -> (String, TokenRecord) {
    let length = state.script().token_length;
    let wish = Wish { lifetime, wall: state.wall().seconds(), length, same: false };
    lock(&state.tokens).issue(grant, state.clock.now(), &wish)
}

const STS: &str = "sts.googleapis.com";
const IAM: &str = "iamcredentials.googleapis.com";
const MAX_BODY: usize = 64 * 1024;
