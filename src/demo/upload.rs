//! Uploads to the small Cloud Storage: in one piece, in two parts, in chunks.

use http::{HeaderValue, Response, StatusCode, header};
use rand::{Rng as _, distr::Alphanumeric};
use serde_json::Value;

use super::{
    api::{Call, error, json_answer},
    body::{self, Body},
    objects::{Gathered, MAX_KEPT, Writer},
    server::Abort,
    state::{State, lock},
};

pub(super) async fn begin_upload(mut call: Call, state: &State, bucket: &str) -> Result<Response<Body>, Abort> {
    let name = call.query("name");
    match call.query("uploadType").as_deref() {
        Some("media") => {
            let Some(name) = name else { return Ok(error(StatusCode::BAD_REQUEST, "Required parameter: name")) };
            let mut gathered = Gathered::default();
            while let Some(data) = call.body.next().await? {
                gathered.take(&data);
            }
            Ok(stored(state, bucket, &name, gathered))
        }
        Some("multipart") => {
            let kind = call.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).map(str::to_owned);
            let Some(whole) = call.body.collect_up_to(MAX_KEPT).await? else {
                return Ok(error(StatusCode::PAYLOAD_TOO_LARGE, "A multipart upload is at most 16 MiB here."));
            };
            let Some((metadata, content)) = kind.as_deref().and_then(|kind| two_parts(kind, &whole)) else {
                return Ok(error(StatusCode::BAD_REQUEST, "Expected two parts: JSON and content."));
            };
            let Some(name) = name.or_else(|| name_in(metadata)) else {
                return Ok(error(StatusCode::BAD_REQUEST, "Required parameter: name"));
            };
            let mut gathered = Gathered::default();
            gathered.take(content);
            Ok(stored(state, bucket, &name, gathered))
        }
        Some("resumable") => {
            let metadata = call.body.collect_up_to(MAX_METADATA).await?.unwrap_or_default();
            let Some(name) = name.or_else(|| name_in(&metadata)) else {
                return Ok(error(StatusCode::BAD_REQUEST, "Required parameter: name"));
            };
            Ok(begin_session(&call, state, bucket, name))
        }
        _ => Ok(error(StatusCode::BAD_REQUEST, "uploadType is media, multipart or resumable")),
    }
}

fn begin_session(call: &Call, state: &State, bucket: &str, name: String) -> Response<Body> {
    let id: String = rand::rng().sample_iter(Alphanumeric).take(64).map(char::from).collect();
    let place = format!("https://{}{}?uploadType=resumable&upload_id={id}", call.authority, call.uri.path());
    if !lock(&state.objects).begin(id, bucket, name) {
        return error(StatusCode::TOO_MANY_REQUESTS, "Too many uploads under way.");
    }
    let mut response = Response::new(body::empty());
    if let Ok(place) = HeaderValue::try_from(place) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    response
}

/// `PUT` of a chunk.
pub(super) async fn continue_upload(mut call: Call, state: &State) -> Result<Response<Body>, Abort> {
    let Some(mut writer) = Writer::take(&state.objects, call.query("upload_id").unwrap_or_default()) else {
        return Ok(error(StatusCode::NOT_FOUND, "No such upload."));
    };
    let range = call.headers.get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok()).map(str::to_owned);
    let (start, total) = range.as_deref().map_or_else(|| (Some(writer.size()), None), content_range);
    // Only what continues the object is taken; a client that is elsewhere is told where we are.
    if start == Some(writer.size()) {
        while let Some(data) = call.body.next().await? {
            writer.write(&data);
        }
    }
    let size = writer.size();
    if (range.is_none() || total == Some(size))
        && let Some(resource) = writer.finish()
    {
        return Ok(json_answer(StatusCode::OK, &resource));
    }
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    if let Some(last) = size.checked_sub(1)
        && let Ok(range) = HeaderValue::try_from(format!("bytes=0-{last}"))
    {
        response.headers_mut().insert(header::RANGE, range);
    }
    Ok(response)
}

fn stored(state: &State, bucket: &str, name: &str, gathered: Gathered) -> Response<Body> {
    json_answer(StatusCode::OK, &lock(&state.objects).store(bucket, name, gathered))
}

/// `bytes 0-99/200`, `bytes 0-99/*`, `bytes */200`, `bytes */*`: where it starts, the total.
fn content_range(text: &str) -> (Option<u64>, Option<u64>) {
    let Some((range, total)) = text.trim_start_matches("bytes").trim().split_once('/') else { return (None, None) };
    (range.split_once('-').and_then(|(start, _)| start.parse().ok()), total.parse().ok())
}

/// Both parts of a `multipart/related` body, without their heads.
fn two_parts<'a>(kind: &str, body: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let boundary = kind.split(';').find_map(|part| part.trim().strip_prefix("boundary="))?;
    let boundary = format!("--{}", boundary.trim_matches(['"', '\'']));
    let first = find(body, boundary.as_bytes())? + boundary.len();
    let delimiter = format!("\r\n{boundary}");
    let middle = first + find(&body[first..], delimiter.as_bytes())?;
    let second = middle + delimiter.len();
    let end = second + find(&body[second..], delimiter.as_bytes())?;
    Some((without_head(&body[first..middle])?, without_head(&body[second..end])?))
}

fn without_head(part: &[u8]) -> Option<&[u8]> {
    find(part, b"\r\n\r\n").map(|at| &part[at + 4..])
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn name_in(metadata: &[u8]) -> Option<String> {
    serde_json::from_slice::<Value>(metadata).ok()?.get("name")?.as_str().map(str::to_owned)
}

const MAX_METADATA: usize = 64 * 1024;
