//! Small HTTP/1.1 servers for the doors that answer by themselves: metadata, health, control.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use crate::{
    clock::Clock,
    net::{first_use::FirstUse, head_gate::HeadGate},
    shutdown::Tasks,
};

/// Serves one connection with `answer`; what the gate refuses is answered here.
pub async fn serve<H, F>(stream: TcpStream, clock: Clock, tasks: &Tasks, answer: Arc<H>)
where
    H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send,
{
    let (gate, refusals) = HeadGate::http1_only(stream, clock);
    let first_use = Arc::new(FirstUse::default());
    let used = first_use.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        used.note();
        let refusal = refusals.refusal(request.uri());
        let (answer, sealed) = (answer.clone(), refusals.clone());
        async move {
            let mut response = match refusal {
                Some(refusal) => refused(refusal.status, refusal.reason.message()),
                None => answer(request).await,
            };
            // Nothing more comes through behind a CONNECT or a WebSocket handshake, and neither is served here.
            if sealed.is_sealed() {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(IDLE).max_headers(MOST_FIELDS).max_buf_size(BUFFER);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(gate), service));
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = first_use.then_drained(tasks) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a local connection ended with an error");
    }
}

fn refused(status: http::StatusCode, message: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("bearerd: {message}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

const IDLE: Duration = Duration::from_secs(75);
const MOST_FIELDS: usize = 100;
/// The least that hyper takes.
const BUFFER: usize = 8 * 1024;
