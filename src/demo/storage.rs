//! A small Cloud Storage: buckets that exist when named, objects in memory, downloads of any size.

use std::{io, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body::Frame;
use serde_json::{Value, json};

use super::{
    api::{Call, error, json_answer},
    body::{self, Body},
    server::Abort,
    state::{State, lock},
    upload::{begin_upload, continue_upload},
};

pub(super) fn is_for(path: &str) -> bool {
    below(path).is_some()
}

/// What follows the prefix of all buckets; empty for the list of them.
fn below(path: &str) -> Option<&str> {
    let path = path.strip_prefix("/upload").or_else(|| path.strip_prefix("/download")).unwrap_or(path);
    let rest = path.strip_prefix("/storage/v1/b")?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

pub(super) async fn answer(call: Call, state: &Arc<State>) -> Result<Response<Body>, Abort> {
    let path = call.uri.path().to_owned();
    let names: Vec<String> = below(&path).unwrap_or_default().split('/').map(decoded).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let upload = path.starts_with("/upload/");
    match (&call.method, names.as_slice()) {
        (&Method::GET, [""]) => buckets(call).await,
        (&Method::GET, [bucket]) => {
            let bucket = bucket_resource(bucket, &call.caller);
            call.body.drain().await?;
            Ok(json_answer(StatusCode::OK, &bucket))
        }
        (&Method::POST, [bucket, "o"]) if upload => begin_upload(call, state, bucket).await,
        (&Method::PUT, [_, "o"]) if upload => continue_upload(call, state).await,
        (&Method::GET, [bucket, "o"]) => {
            let items = lock(&state.objects).list(bucket);
            call.body.drain().await?;
            Ok(json_answer(StatusCode::OK, &json!({ "kind": "storage#objects", "items": items })))
        }
        (&Method::GET, [bucket, "o", name]) => download(call, state, bucket, name).await,
        _ => Ok(error(StatusCode::NOT_FOUND, "Not Found")),
    }
}

async fn buckets(call: Call) -> Result<Response<Body>, Abort> {
    if call.query("project").is_none() {
        return Ok(error(StatusCode::BAD_REQUEST, "Required parameter: project"));
    }
    let list = json!({
        "kind": "storage#buckets",
        "caller": call.caller,
        "items": [bucket_resource("demo-bucket", &call.caller)],
    });
    call.body.drain().await?;
    Ok(json_answer(StatusCode::OK, &list))
}

fn bucket_resource(name: &str, caller: &str) -> Value {
    json!({
        "kind": "storage#bucket",
        "id": name,
        "name": name,
        "location": "EU",
        "owner": { "entity": format!("user-{caller}") },
    })
}

async fn download(call: Call, state: &State, bucket: &str, name: &str) -> Result<Response<Body>, Abort> {
    let (media, size) = (call.query("alt").as_deref() == Some("media"), call.number("size"));
    let range = call.headers.get(header::RANGE).and_then(|range| range.to_str().ok()).map(str::to_owned);
    call.body.drain().await?;
    if let (true, Some(size)) = (media, size) {
        return Ok(generated(size));
    }
    let found = lock(&state.objects).find(bucket, name);
    let Some(object) = found else { return Ok(error(StatusCode::NOT_FOUND, "No such object.")) };
    if !media {
        return Ok(json_answer(StatusCode::OK, &object.resource()));
    }
    let Some(bytes) = object.bytes.clone() else {
        return Ok(error(StatusCode::NOT_FOUND, "Only objects up to 16 MiB are kept here."));
    };
    let mut response = Response::new(body::empty());
    let content = match range.as_deref().map(|range| byte_range(range, bytes.len())) {
        None => bytes,
        Some(None) => return Ok(error(StatusCode::RANGE_NOT_SATISFIABLE, "Requested range not satisfiable")),
        Some(Some((start, end))) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let text = format!("bytes {start}-{}/{}", end - 1, bytes.len());
            if let Ok(text) = HeaderValue::try_from(text) {
                response.headers_mut().insert(header::CONTENT_RANGE, text);
            }
            bytes.slice(start..end)
        }
    };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    if let Ok(hash) = HeaderValue::try_from(format!("crc32c={}", object.crc32c_text())) {
        response.headers_mut().insert("x-goog-hash", hash);
    }
    *response.body_mut() = body::full(content);
    Ok(response)
}

/// `bytes=0-99`, `bytes=100-`, `bytes=-5` on so many bytes.
fn byte_range(text: &str, length: usize) -> Option<(usize, usize)> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let (start, end) = match (first.parse().ok(), last.parse::<usize>().ok()) {
        (Some(start), Some(last)) => (start, last.saturating_add(1).min(length)),
        (Some(start), None) => (start, length),
        (None, Some(tail)) => (length.saturating_sub(tail), length),
        (None, None) => return None,
    };
    (start < end).then_some((start, end))
}

fn generated(size: u64) -> Response<Body> {
    let chunk = Bytes::from(pattern(0, CHUNK));
    let mut left = size;
    let chunks = std::iter::from_fn(move || {
        let length = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        left -= length as u64;
        (length > 0).then(|| Ok::<_, io::Error>(Frame::data(chunk.slice(..length))))
    });
    let mut response = Response::new(body::frames(chunks));
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response
}

/// The bytes of a generated download (`?alt=media&size=`) from `offset`.
pub fn pattern(offset: u64, length: usize) -> Vec<u8> {
    // 256 divides the chunk, so every chunk begins alike.
    (offset..).take(length).map(|at| at.to_le_bytes()[0]).collect()
}

fn decoded(segment: &str) -> String {
    percent_encoding::percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

const CHUNK: usize = 64 * 1024;
