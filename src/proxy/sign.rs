//! `signBlob` answered here, for signed URLs of the pod's own account: the application has no key, and Google's own
//! method would sign anything.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::Deserialize;

use super::{
    body::ResponseBody,
    error::{Failure, Kind},
    request::Answer,
    supply::Supply,
};
use crate::{policy, token::SignatureError};

/// The body of a request (<https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/signBlob>).
#[derive(Deserialize)]
struct Asked {
    payload: String,
    #[serde(default)]
    delegates: Vec<serde::de::IgnoredAny>,
}

/// Signs for `account`, or says why not.
pub(super) async fn answer(supply: &Supply, account: &str, request: Request<Incoming>) -> Result<Answer, Failure> {
    let body = tokio::time::timeout(PATIENCE, Limited::new(request.into_body(), MOST_BODY).collect());
    let body = body.await.map_err(|_| {
        Failure::new(Kind::Refused(StatusCode::REQUEST_TIMEOUT), "slow_body", "the body did not come in time")
    })?;
    let body = body.map_err(|_| refused("the body is larger than any request for a signature"))?.to_bytes();
    let blob = wanted(&body)?;
    let signature = supply.sign(account, &blob).map_err(|error| match error {
        SignatureError::OtherAccount => refused("the account is not the one of the pod's credential"),
        SignatureError::NoKey(why) => Failure::no_token("no_key", why, LATER),
    })?;
    let text = serde_json::json!({ "keyId": signature.key_id, "signedBlob": STANDARD.encode(&signature.bytes) });
    let mut response = Response::new(ResponseBody::Full(Bytes::from(text.to_string())));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=UTF-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(Answer::Local(response))
}

/// What is to be signed, if it is what may be.
fn wanted(body: &[u8]) -> Result<Vec<u8>, Failure> {
    let asked: Asked = serde_json::from_slice(body).map_err(|_| refused("the body is no request for a signature"))?;
    if !asked.delegates.is_empty() {
        return Err(refused("delegates stand for other accounts"));
    }
    let blob = STANDARD.decode(asked.payload).map_err(|_| refused("the payload is not base64"))?;
    if policy::is_string_to_sign(&blob) { Ok(blob) } else { Err(refused("the payload is not that of a V4 signed URL")) }
}

fn refused(why: &'static str) -> Failure {
    let message = format!("only V4 signed URLs are signed here: {why}");
    Failure::new(Kind::Denied, "sign_blob", message)
}

/// A string to sign has about 150 bytes.
const MOST_BODY: usize = 16 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);
/// For `Retry-After`, in seconds.
const LATER: u64 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_must_ask_for_one_signed_url() {
        let hash = "0".repeat(64);
        let good = format!("GOOG4-RSA-SHA256\n20261126T101112Z\n20261126/auto/storage/goog4_request\n{hash}");
        let payload = STANDARD.encode(&good);
        let body = |text: &str| text.replace("PAYLOAD", &payload);
        for text in [r#"{"payload":"PAYLOAD"}"#, r#"{"delegates":[],"payload":"PAYLOAD"}"#] {
            assert_eq!(wanted(body(text).as_bytes()).unwrap(), good.as_bytes());
        }
        for text in [
            "",
            "{}",
            "[]",
            r#"{"payload":1}"#,
            r#"{"payload":"eyJ!"}"#,
            r#"{"payload":"ZXlK"}"#,
            r#"{"payload":"PAYLOAD","delegates":["a"]}"#,
            r#"{"payload":"PAYLOAD","payload":"ZXlK"}"#,
        ] {
            let failure = wanted(body(text).as_bytes()).unwrap_err();
            assert_eq!((failure.status().as_u16(), failure.reason), (403, "sign_blob"), "{text}");
        }
    }
}
