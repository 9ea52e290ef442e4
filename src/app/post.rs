//! What gives tokens, reached over our own client.

use std::path::Path;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use zeroize::Zeroizing;

use crate::{
    authority::{Authority, Host, Target},
    credential::{self, Answer, BoxFuture, Get, Post, PostError, PostFailure, RequestBody},
    net::{
        client::{self, CallError, Client},
        dial::DialError,
        verified::ConnectError,
    },
    secret::Secret,
    watch,
};

/// Asks over verified TLS.
#[derive(Debug)]
pub struct VerifiedPost(pub Client);

impl Post for VerifiedPost {
    fn post(&self, request: credential::Request) -> BoxFuture<'_, Result<Answer, PostError>> {
        Box::pin(async move {
            let host = Host::parse(request.host.as_str()).map_err(|_| unusable())?;
            let authority = Authority { target: Target::Name(host), port: 443 };
            let (content, kind) = match request.body {
                RequestBody::Form(form) => (Bytes::copy_from_slice(form.expose()), "application/x-www-form-urlencoded"),
                RequestBody::Json(json) => (Bytes::from(json), "application/json"),
            };
            let mut http = Request::new(content);
            *http.method_mut() = Method::POST;
            *http.uri_mut() = request.path.parse().map_err(|_| unusable())?;
            http.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            if let Some(bearer) = request.bearer {
                let text = Zeroizing::new([b"Bearer ", bearer.expose()].concat());
                let mut value = HeaderValue::from_bytes(&text).map_err(|_| unusable())?;
                value.set_sensitive(true);
                http.headers_mut().insert(header::AUTHORIZATION, value);
            }
            let answer = self.0.call(&authority, http).await;
            answered(answer)
        })
    }

    fn get(&self, get: Get) -> BoxFuture<'_, Result<Answer, PostError>> {
        Box::pin(async move {
            let (is_tls, authority, target, headers) = match get {
                Get::File(path) => {
                    // Off this thread: a hung network file system must not stop the traffic.
                    let read = tokio::task::spawn_blocking(move || file(&path)).await;
                    return read.unwrap_or_else(|_| Err(PostError::new(PostFailure::Connect, "reading it failed")));
                }
                Get::Url { is_tls, authority, target, headers } => (is_tls, authority, target, headers),
            };
            let mut http = Request::new(Bytes::new());
            *http.uri_mut() = target.parse().map_err(|_| unusable())?;
            *http.headers_mut() = headers;
            let answer = match is_tls {
                true => self.0.call(&authority, http).await,
                false => self.0.call_plain(&authority, http).await,
            };
            answered(answer)
        })
    }
}

/// A file as an answer: small enough, and read in no time.
fn file(path: &Path) -> Result<Answer, PostError> {
    let unread = |why: String| PostError::new(PostFailure::Connect, why);
    if path.is_dir() {
        // The watch takes directories of keys; which of several files would be the token?
        return Err(unread(watch::Unread::NotAFile.to_string()));
    }
    let found = watch::look(path);
    let body = match (found.files.iter().next(), found.problem) {
        (Some(file), _) => file.content.clone().map_err(|why| unread(why.to_string()))?,
        (None, Some(problem)) => return Err(unread(problem.to_string())),
        (None, None) => return Err(unread(watch::Unread::Missing.to_string())),
    };
    Ok(Answer { status: 200, date: None, retry_after: None, is_of_metadata_server: false, body })
}

fn unusable() -> PostError {
    PostError::new(PostFailure::Connect, "its address is not usable")
}

fn answered(answer: Result<client::Answer, CallError>) -> Result<Answer, PostError> {
    let answer = answer.map_err(|error| describe(&error))?;
    Ok(Answer::new(answer.status.as_u16(), &answer.headers, Secret::new(Vec::from(answer.body))))
}

fn describe(error: &CallError) -> PostError {
    let failure = match error {
        CallError::Connect(ConnectError::Dial(DialError::Dns(_))) | CallError::Dial(DialError::Dns(_)) => {
            PostFailure::Dns
        }
        CallError::Connect(ConnectError::Dial(DialError::Timeout) | ConnectError::HandshakeTimeout)
        | CallError::Dial(DialError::Timeout)
        | CallError::Timeout => PostFailure::Timeout,
        CallError::Connect(ConnectError::Certificate(_)) => PostFailure::Certificate,
        CallError::Connect(ConnectError::Tls(_)) => PostFailure::Tls,
        CallError::Connect(_) | CallError::Dial(_) => PostFailure::Connect,
        CallError::Broken => PostFailure::Reset,
        CallError::TooLarge => PostFailure::TooLarge,
    };
    PostError::new(failure, error.to_string())
}
