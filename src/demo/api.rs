//! The APIs: who is let in, and which handler answers. One API answers under every name.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::{
    accounts::Now,
    body::{self, Body, Measured},
    grpc,
    record::{Admission, Recorded},
    server::{Abort, Connection},
    state::{State, lock},
    storage, streams,
    tokens::TokenRecord,
};
use crate::shutdown::Tasks;

/// A request that was let in.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) version: http::Version,
    pub(super) authority: String,
    /// Account that called, or `anonymous`.
    pub(super) caller: String,
    pub(super) body: Measured,
}

impl Call {
    /// A parameter of the query, decoded.
    pub(super) fn query(&self, name: &str) -> Option<String> {
        query(&self.uri, name)
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.query(name)?.parse().ok()
    }
}

pub(super) async fn answer(
    mut request: Request<Incoming>,
    authority: String,
    connection: &Connection,
    state: &Arc<State>,
    tasks: &Tasks,
) -> Result<Response<Body>, Abort> {
    let (admission, token) = admit(request.headers(), request.uri(), &authority, state);
    let number = state.record.request(Recorded {
        number: 0,
        connection: connection.number,
        sni: connection.sni.clone(),
        authority: authority.clone(),
        method: request.method().clone(),
        target: request.uri().path_and_query().map_or_else(String::new, ToString::to_string),
        version: request.version(),
        headers: request.headers().clone(),
        admission,
        token: token.clone(),
        at: state.clock.now(),
        status: None,
        body: super::record::BodyRecord::default(),
    });
    let upgrade = streams::wants_upgrade(&request).then(|| hyper::upgrade::on(&mut request));
    let (head, incoming) = request.into_parts();
    let call = Call {
        method: head.method,
        uri: head.uri,
        headers: head.headers,
        version: head.version,
        caller: token.map_or_else(|| "anonymous".to_owned(), |token| token.account),
        authority,
        body: Measured::new(incoming, state.clone(), number),
    };
    let grpc = grpc::is_for(&call.headers);
    let misdirected = connection.sni.as_ref().is_some_and(|sni| *sni != host_of(&call.authority));
    let response = if misdirected {
        error(StatusCode::MISDIRECTED_REQUEST, "The requested host is not served on this connection.")
    } else if !admission.is_good() {
        if grpc { grpc::refused(16, UNAUTHENTICATED) } else { unauthenticated(admission) }
    } else if let Some(upgrade) = upgrade {
        streams::upgrade(&call, upgrade, tasks)
    } else if grpc {
        grpc::answer(call).await?
    } else {
        route(call, state).await?
    };
    state.record.amend(number, |request| request.status = Some(response.status().as_u16()));
    Ok(response)
}

async fn route(call: Call, state: &Arc<State>) -> Result<Response<Body>, Abort> {
    let path = call.uri.path().to_owned();
    if storage::is_for(&path) {
        return storage::answer(call, state).await;
    }
    if let Some(code) = path.strip_prefix("/status/") {
        let status = code.parse().ok().and_then(|code: u16| StatusCode::from_u16(code).ok());
        call.body.drain().await?;
        // hyper answers an informational status with an error.
        return Ok(match status.filter(|status| !status.is_informational()) {
            Some(status) if status.is_client_error() || status.is_server_error() => error(status, "As you asked."),
            Some(status) => json_answer(status, &json!({ "status": status.as_u16() })),
            None => error(StatusCode::BAD_REQUEST, "The path wants a status between 200 and 999."),
        });
    }
    match path.as_str() {
        "/echo" => echo(call).await,
        "/slow" => streams::slow(call, state.clock).await,
        "/drip" => streams::drip(call, state.clock).await,
        "/sse" => streams::events(call, state.clock).await,
        "/trailers" => streams::trailers(call).await,
        _ => Ok(error(StatusCode::NOT_FOUND, "The requested URL was not found on this server.")),
    }
}

async fn echo(call: Call) -> Result<Response<Body>, Abort> {
    let headers: Vec<Value> = call
        .headers
        .iter()
        // An answer that showed the token would give it to the client behind the sidecar.
        .map(|(name, value)| match shown(name) {
            true => json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]),
            false => json!([name.as_str(), "(a credential)"]),
        })
        .collect();
    let head = json!({
        "method": call.method.as_str(),
        "target": call.uri.path_and_query().map(ToString::to_string),
        "authority": call.authority,
        "version": format!("{:?}", call.version),
        "headers": headers,
        "caller": call.caller,
    });
    call.body.drain().await?;
    Ok(json_answer(StatusCode::OK, &head))
}

fn shown(name: &header::HeaderName) -> bool {
    !CREDENTIAL_HEADERS.contains(&name.as_str())
}

/// Judges a request's credential; `X-Serverless-Authorization` comes first, as at Cloud Run.
fn admit(headers: &HeaderMap, uri: &Uri, authority: &str, state: &State) -> (Admission, Option<TokenRecord>) {
    let serverless = headers.get_all("x-serverless-authorization");
    let all = if serverless.iter().next().is_some() { serverless } else { headers.get_all(header::AUTHORIZATION) };
    let mut all = all.iter();
    let Some(value) = all.next() else {
        let presigned = PRESIGNED.iter().any(|name| query(uri, name).is_some_and(|value| !value.is_empty()));
        let with_key = presigned || headers.contains_key("x-goog-api-key");
        return (if with_key { Admission::Presigned } else { Admission::Missing }, None);
    };
    if all.next().is_some() {
        return (Admission::Several, None);
    }
    let value = value.to_str().unwrap_or_default();
    if HMAC.iter().any(|scheme| value.starts_with(scheme)) {
        return (Admission::Presigned, None);
    }
    let Some(token) = value.strip_prefix("Bearer ") else { return (Admission::Malformed, None) };
    let known = lock(&state.tokens).judge(token, host_of(authority), state.clock.now());
    if known.1.is_some() || !token.starts_with("eyJ") {
        return known;
    }
    if state.script().refuse_self_signed.iter().any(|host| host == host_of(authority)) {
        return (Admission::Unknown, None);
    }
    let now = Now { wall: state.wall(), moment: state.clock.now() };
    match lock(&state.accounts).judge_self_signed(token, host_of(authority), now) {
        Ok(grant) => (Admission::SelfSigned, Some(TokenRecord::self_signed(grant, now.moment))),
        Err(_) => (Admission::Unknown, None),
    }
}

fn unauthenticated(admission: Admission) -> Response<Body> {
    let (message, reason, challenge) = match admission {
        Admission::Missing => (MISSING, "CREDENTIALS_MISSING", "Bearer realm=\"https://accounts.google.com/\""),
        Admission::Expired => (UNAUTHENTICATED, "ACCESS_TOKEN_EXPIRED", INVALID_TOKEN),
        _ => (UNAUTHENTICATED, "ACCESS_TOKEN_TYPE_UNSUPPORTED", INVALID_TOKEN),
    };
    let mut response = json_answer(
        StatusCode::UNAUTHORIZED,
        &json!({ "error": {
            "code": 401,
            "message": message,
            "errors": [{
                "message": "Invalid Credentials",
                "domain": "global",
                "reason": if admission == Admission::Missing { "required" } else { "authError" },
                "location": "Authorization",
                "locationType": "header",
            }],
            "status": "UNAUTHENTICATED",
            "details": [{
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": reason,
                "domain": "googleapis.com",
                "metadata": { "service": "storage.googleapis.com" },
            }],
        } }),
    );
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    response
}

/// An error in the shape of Google's JSON APIs.
pub(super) fn error(status: StatusCode, message: &str) -> Response<Body> {
    let (name, reason) = match status.as_u16() {
        400 => ("INVALID_ARGUMENT", "invalid"),
        403 => ("PERMISSION_DENIED", "forbidden"),
        404 => ("NOT_FOUND", "notFound"),
        429 => ("RESOURCE_EXHAUSTED", "rateLimitExceeded"),
        503 => ("UNAVAILABLE", "backendError"),
        _ => ("UNKNOWN", "backendError"),
    };
    let details = json!([{ "message": message, "domain": "global", "reason": reason }]);
    json_answer(
        status,
        &json!({ "error": { "code": status.as_u16(), "message": message, "errors": details, "status": name } }),
    )
}

pub(super) fn json_answer(status: StatusCode, json: &Value) -> Response<Body> {
    // 204 and 304 have no body, and hyper would announce one.
    let bare = matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED);
    let mut response = Response::new(if bare { body::empty() } else { body::full(format!("{json:#}\n")) });
    *response.status_mut() = status;
    let json_type = HeaderValue::from_static("application/json; charset=UTF-8");
    response.headers_mut().insert(header::CONTENT_TYPE, json_type);
    response
}

fn query(uri: &Uri, name: &str) -> Option<String> {
    let pairs = uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.into_iter().find(|(key, _)| *key == name)?.1.replace('+', " ");
    percent_encoding::percent_decode_str(&value).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

fn host_of(authority: &str) -> &str {
    authority.split_once(':').map_or(authority, |(host, _)| host)
}

const INVALID_TOKEN: &str = "Bearer realm=\"https://accounts.google.com/\", error=\"invalid_token\"";

const MISSING: &str = "Request is missing required authentication credential. Expected OAuth 2 access token, login \
                       cookie or other valid authentication credential. See \
                       https://developers.google.com/identity/sign-in/web/devconsole-project.";

const UNAUTHENTICATED: &str = "Request had invalid authentication credentials. Expected OAuth 2 access token, login \
                               cookie or other valid authentication credential. See \
                               https://developers.google.com/identity/sign-in/web/devconsole-project.";

const CREDENTIAL_HEADERS: &[&str] = &["authorization", "x-serverless-authorization", "proxy-authorization", "cookie"];

const PRESIGNED: &[&str] = &["X-Goog-Signature", "Signature", "X-Amz-Signature", "key", "access_token"];

const HMAC: &[&str] = &["GOOG1 ", "GOOG4-", "AWS4-", "AWS "];
