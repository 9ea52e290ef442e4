//! gRPC: a unary call and a bidirectional stream, statuses in trailers.

use http::Version;

use super::{Expecting as _, Failed, Told, admitted, held, token};
use crate::demo::story::{client::Http2, stage::Stage};

pub(super) async fn play(stage: &Stage) -> Result<Told, Failed> {
    let count = stage.google.request_count();
    let mut connection = stage.client()?.http2(HOST).await.expecting("HTTP/2 through the sidecar")?;
    unary(&mut connection, &stage.placeholder).await?;
    stream(&mut connection, &stage.placeholder).await?;

    let seen = stage.since(count);
    held(seen.len() == 2, "two calls at Google", format!("{} requests", seen.len()))?;
    for request in &seen {
        admitted(Some(request))?;
        held(request.version == Version::HTTP_2, "calls over HTTP/2", format!("{:?}", request.version))?;
    }
    let used = admitted(seen.last())?;
    Ok(Told::new("A unary call, then a stream of three messages, each answered in turn.")
        .client("its four messages back, and grpc-status 0 in the trailers of both")
        .google(format!("two calls over HTTP/2, both with {}", token(used)))
        .because("Clients of Pub/Sub, Spanner or Bigtable need h2, streams and trailers."))
}

async fn unary(connection: &mut Http2, placeholder: &str) -> Result<(), Failed> {
    let expected = "the answer to a unary call";
    let mut call = connection.call(HOST, "/demo.Echo/Unary", placeholder).await.expecting(expected)?;
    call.send("hello").await.expecting(expected)?;
    call.close();
    held(call.brings("hello").await.expecting(expected)?, expected, "another message, or none")?;
    ended(call.status().await.expecting(expected)?)
}

async fn stream(connection: &mut Http2, placeholder: &str) -> Result<(), Failed> {
    let expected = "each message of a stream answered before the next";
    let mut call = connection.call(HOST, "/demo.Echo/Bidi", placeholder).await.expecting(expected)?;
    for message in ["one", "two", "three"] {
        call.send(message).await.expecting(expected)?;
        held(call.brings(message).await.expecting(expected)?, expected, "another message, or none")?;
    }
    call.close();
    ended(call.status().await.expecting(expected)?)
}

fn ended(status: Option<String>) -> Result<(), Failed> {
    let seen = status.as_deref().unwrap_or("no trailers");
    held(seen == "0", "grpc-status 0 in trailers", seen)
}

const HOST: &str = "pubsub.googleapis.com";
