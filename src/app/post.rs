//! The token endpoint, reached over our own client.

use bytes::Bytes;
use http::{Method, Request, header};

use crate::{
    authority::{Authority, Host, Target},
    credential::{Answer, BoxFuture, Post, PostError, PostFailure, TokenEndpoint},
    net::{
        client::{CallError, Client},
        dial::DialError,
        verified::ConnectError,
    },
    secret::Secret,
};

/// Posts forms over verified TLS.
#[derive(Debug)]
pub struct VerifiedPost(pub Client);

impl Post for VerifiedPost {
    fn post(&self, endpoint: &'static TokenEndpoint, form: Secret) -> BoxFuture<'_, Result<Answer, PostError>> {
        Box::pin(async move {
            let wrong = |_| PostError::new(PostFailure::Connect, "the token endpoint's address is not usable");
            let host = Host::parse(endpoint.host).map_err(wrong)?;
            let authority = Authority { target: Target::Name(host), port: 443 };
            let mut request = Request::new(Bytes::copy_from_slice(form.expose()));
            *request.method_mut() = Method::POST;
            *request.uri_mut() = http::Uri::from_static(endpoint.path);
            let form_type = header::HeaderValue::from_static("application/x-www-form-urlencoded");
            request.headers_mut().insert(header::CONTENT_TYPE, form_type);
            let answer = self.0.call(&authority, request).await.map_err(|error| describe(&error))?;
            Ok(Answer::new(answer.status.as_u16(), &answer.headers, Secret::new(Vec::from(answer.body))))
        })
    }
}

fn describe(error: &CallError) -> PostError {
    let failure = match error {
        CallError::Connect(ConnectError::Dial(DialError::Dns(_))) => PostFailure::Dns,
        CallError::Connect(ConnectError::Dial(DialError::Timeout) | ConnectError::HandshakeTimeout)
        | CallError::Timeout => PostFailure::Timeout,
        CallError::Connect(ConnectError::Certificate(_)) => PostFailure::Certificate,
        CallError::Connect(ConnectError::Tls(_)) => PostFailure::Tls,
        CallError::Connect(_) => PostFailure::Connect,
        CallError::Broken => PostFailure::Reset,
        CallError::TooLarge => PostFailure::TooLarge,
    };
    PostError::new(failure, error.to_string())
}
