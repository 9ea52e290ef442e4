//! WebSocket: raw bytes only after the upstream agreed, on a connection of its own.

use bearerd::demo::{Protocols, RecordingHost};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    bed::{Bed, STORAGE, World, send_to},
    client::{Door, eventually, get, within},
    raw,
};

fn handshake_for(target: &str, host: &str, more: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
}

#[tokio::test]
async fn after_101_bytes_flow_both_ways() {
    let bed = Bed::start().await;
    let mut plain = raw::proxy(&bed).await;
    let head = handshake_for(&format!("http://{STORAGE}/ws"), STORAGE, "");
    // The first frame comes glued behind the handshake: it must wait for the 101.
    raw::write(&mut plain, format!("{head}frame one").as_bytes()).await;
    let answer = raw::answer(&mut plain).await;
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.field("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert!(answer.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("upgrade")));
    let mut tls = bed.connect(STORAGE, &[b"http/1.1"]).await;
    raw::write(&mut tls, handshake_for("/ws", STORAGE, "").as_bytes()).await;
    assert_eq!(raw::answer(&mut tls).await.status(), 101);
    let mut echoed = [0; 9];
    within("the echo", plain.read_exact(&mut echoed)).await.unwrap();
    assert_eq!(&echoed, b"frame one");
    for frame in ["second", "a third frame"] {
        for stream in [&mut plain as &mut dyn Stream, &mut tls] {
            stream.write_all(frame.as_bytes()).await.unwrap();
            let mut echoed = vec![0; frame.len()];
            within("the echo", stream.read_exact(&mut echoed)).await.unwrap();
            assert_eq!(echoed, frame.as_bytes());
        }
    }
    assert!(bed.google.requests().iter().all(|request| request.admission.is_good()));
    assert_eq!(bed.ground.tasks.in_flight(), 2);
    plain.shutdown().await.unwrap();
    assert_eq!(raw::rest(&mut plain).await, b"");
    drop(tls);
    eventually("nothing in flight", || bed.ground.tasks.in_flight() == 0).await;
}

trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin {}

impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Stream for S {}

#[tokio::test]
async fn a_refusal_is_relayed_and_what_followed_is_no_request() {
    let bed = Bed::start().await;
    let mut stream = bed.connect(STORAGE, &[b"http/1.1"]).await;
    let smuggled = format!("GET /echo HTTP/1.1\r\nHost: {STORAGE}\r\n\r\n");
    raw::write(&mut stream, format!("{}{smuggled}", handshake_for("/status/403", STORAGE, "")).as_bytes()).await;
    let answer = raw::answer(&mut stream).await;
    assert_eq!((answer.status(), answer.field("connection")), (403, Some("close")));
    assert_eq!(raw::rest(&mut stream).await, b"");
    assert_eq!(bed.google.request_count(), 1);
}

#[tokio::test]
async fn a_200_is_no_agreement() {
    let bed = Bed::start().await;
    let mut stream = raw::proxy(&bed).await;
    let smuggled = format!("GET http://{STORAGE}/echo HTTP/1.1\r\nHost: {STORAGE}\r\n\r\n");
    let head = handshake_for(&format!("http://{STORAGE}/status/200"), STORAGE, "");
    raw::write(&mut stream, format!("{head}{smuggled}").as_bytes()).await;
    assert_eq!(raw::answer(&mut stream).await.status(), 200);
    assert_eq!(raw::rest(&mut stream).await, b"");
    assert_eq!(bed.google.request_count(), 1);
}

#[tokio::test]
async fn a_switch_to_another_protocol_is_a_502() {
    let world = World::new().await;
    let answer = Bytes::from_static(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n");
    let name = "switch.googleapis.com";
    let host = RecordingHost::start_tls(&world.tasks, &world.google, name, Protocols::H1, Some(answer)).await.unwrap();
    let bed = world.start(|settings| send_to(settings, name, 443, host.address()));
    let mut stream = bed.connect(name, &[b"http/1.1"]).await;
    raw::write(&mut stream, format!("{}raw bytes", handshake_for("/ws", name, "")).as_bytes()).await;
    assert_eq!(raw::answer(&mut stream).await.status(), 502);
    raw::rest(&mut stream).await;
    assert!(!host.saw(b"raw bytes"));
}

#[tokio::test]
async fn a_101_that_nobody_asked_for_is_a_502() {
    let world = World::new().await;
    let answer =
        Bytes::from_static(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    let name = "switch.googleapis.com";
    let host = RecordingHost::start_tls(&world.tasks, &world.google, name, Protocols::H1, Some(answer)).await.unwrap();
    let bed = world.start(|settings| send_to(settings, name, 443, host.address()));
    for door in crate::client::DOORS {
        let response = bed.client(door, name).await.call(get("/x")).await;
        assert_eq!(response.status(), 502, "{door:?}");
    }
}

#[tokio::test]
async fn a_websocket_never_rides_on_a_pooled_connection() {
    let bed = Bed::start().await;
    bed.exchanges_reach(1).await;
    bed.google.protocols(Protocols::H1);
    bed.client(Door::InterceptH1, STORAGE).await.call(get("/echo")).await;
    let mut stream = bed.connect(STORAGE, &[b"http/1.1"]).await;
    raw::write(&mut stream, handshake_for("/ws", STORAGE, "").as_bytes()).await;
    assert_eq!(raw::answer(&mut stream).await.status(), 101);
    let connections: Vec<u64> = bed.google.requests().iter().map(|request| request.connection).collect();
    assert_ne!(connections[0], connections[1]);
}

#[tokio::test]
async fn the_placeholder_is_taken_off_a_handshake_that_gets_no_token() {
    let bed = Bed::start().await;
    let mut stream = bed.connect(STORAGE, &[b"http/1.1"]).await;
    let own = format!("x-goog-api-key: AIza-test\r\nAuthorization: Bearer {}\r\n", bed.placeholder());
    raw::write(&mut stream, handshake_for("/ws", STORAGE, &own).as_bytes()).await;
    assert_eq!(raw::answer(&mut stream).await.status(), 101);
    assert!(!bed.last().headers.contains_key("authorization"));
}

#[tokio::test]
async fn a_handshake_for_a_denied_method_is_denied() {
    let bed = Bed::start().await;
    let host = "iamcredentials.googleapis.com";
    let mut stream = bed.connect(host, &[b"http/1.1"]).await;
    raw::write(&mut stream, handshake_for("/v1/projects/-/serviceAccounts/x:signBlob", host, "").as_bytes()).await;
    assert_eq!(raw::answer(&mut stream).await.status(), 403);
    assert_eq!(raw::rest(&mut stream).await, b"", "closed: what follows a handshake is not HTTP");
    assert_eq!(bed.google.request_count(), 0);
}

#[tokio::test]
async fn what_looks_like_a_handshake_and_is_none_is_answered_and_closed() {
    let bed = Bed::start().await;
    for head in [
        handshake_for("/echo", STORAGE, "").replacen("GET", "POST", 1),
        handshake_for("/echo", STORAGE, "").replacen("Upgrade: websocket", "Upgrade: websocket/13", 1),
    ] {
        let mut stream = bed.connect(STORAGE, &[b"http/1.1"]).await;
        let smuggled = format!("GET /storage HTTP/1.1\r\nHost: {STORAGE}\r\n\r\n");
        raw::write(&mut stream, format!("{head}{smuggled}").as_bytes()).await;
        assert_eq!(raw::answer(&mut stream).await.status(), 200);
        assert_eq!(raw::rest(&mut stream).await, b"");
    }
    assert_eq!(bed.google.request_count(), 2);
}
