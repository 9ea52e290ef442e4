//! gRPC through interception: calls of every kind come through as a direct call would.

use std::time::Duration;

use bearerd::{
    clock::Clock,
    demo::{Admission, Outage, Protocols},
};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::{
    bed::{Bed, World},
    client::{Body, Client, Door, Feed, eventually, fed, full, with, within},
};

const PUBSUB: &str = "pubsub.googleapis.com";

fn message(payload: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(5 + payload.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(payload.len()).unwrap());
    framed.extend_from_slice(payload);
    framed.freeze()
}

fn call(method: &str, body: Body, fields: &[(&str, &str)]) -> Request<Body> {
    let request = Request::post(format!("/demo.Echo/{method}")).body(body).unwrap();
    with(with(request, &[("content-type", "application/grpc"), ("te", "trailers")]), fields)
}

/// Head, data and trailers.
async fn all(response: Response<Incoming>) -> (HeaderMap, Bytes, Option<HeaderMap>) {
    let (head, body) = response.into_parts();
    assert_eq!(head.status, 200);
    let body = within("the end of a call", body.collect()).await.unwrap();
    let trailers = body.trailers().cloned();
    (head.headers, body.to_bytes(), trailers)
}

async fn client(bed: &Bed) -> Client {
    bed.client(Door::InterceptH2, PUBSUB).await
}

/// The next piece of an answer.
async fn piece(response: &mut Response<Incoming>) -> Bytes {
    within("a message", response.body_mut().frame()).await.unwrap().unwrap().into_data().unwrap()
}

/// A call of `Bidi` that stays open, its first message echoed.
async fn open(client: &mut Client) -> (Feed, Response<Incoming>) {
    let (feed, body) = fed();
    feed.data(message(b"hello")).await;
    let mut response = client.send(call("Bidi", body, &[])).await;
    assert_eq!(piece(&mut response).await, message(b"hello"));
    (feed, response)
}

#[tokio::test]
async fn a_unary_call_comes_through_with_its_trailers() {
    let bed = Bed::start().await;
    let mut client = client(&bed).await;
    let fields = [("x-own-bin", "AAEC"), ("grpc-timeout", "5S"), ("grpc-encoding", "identity")];
    let response = client.send(call("Unary", full(message(b"ping")), &fields)).await;
    let (head, data, trailers) = all(response).await;
    assert_eq!((head["content-type"].to_str().unwrap(), data), ("application/grpc", message(b"ping")));
    assert!(!head.contains_key("grpc-status"));
    assert_eq!(trailers.unwrap()["grpc-status"], "0");
    let seen = bed.last();
    assert_eq!((seen.admission, seen.headers["te"].to_str().unwrap()), (Admission::Token, "trailers"));
    for (name, value) in fields {
        assert_eq!(seen.headers[name], value);
    }
}

#[tokio::test]
async fn messages_of_four_mebibytes_come_through() {
    let bed = Bed::start().await;
    let large = message(&vec![7; (4 << 20) - 5]);
    let response = client(&bed).await.send(call("Unary", full(large.clone()), &[])).await;
    let (_, data, trailers) = all(response).await;
    assert!(data == large);
    assert_eq!(trailers.unwrap()["grpc-status"], "0");
}

#[tokio::test]
async fn a_stream_of_a_hundred_thousand_tiny_messages_comes_down_whole() {
    let bed = Bed::start().await;
    let fields = [("x-demo-count", "100000")];
    let response = client(&bed).await.send(call("ServerStream", full(message(b"x")), &fields)).await;
    let (_, data, trailers) = all(response).await;
    assert_eq!(data.len(), 100_000 * 6);
    assert!(data.chunks(6).all(|one| one == message(b"x")));
    assert_eq!(trailers.unwrap()["grpc-status"], "0");
}

#[tokio::test]
async fn tiny_messages_go_both_ways_at_once() {
    let bed = Bed::start().await;
    let mut client = client(&bed).await;
    let (feed, body) = fed();
    let feeding = async {
        for number in 0..20_000_u32 {
            feed.data(message(&number.to_be_bytes())).await;
        }
        drop(feed);
    };
    let talking = async { all(client.send(call("Bidi", body, &[])).await).await };
    let ((_, data, trailers), ()) = tokio::join!(talking, feeding);
    assert_eq!(data.len(), 20_000 * 9);
    assert!(data.chunks(9).zip(0_u32..).all(|(one, number)| one == message(&number.to_be_bytes())));
    assert_eq!(trailers.unwrap()["grpc-status"], "0");
}

#[tokio::test]
async fn a_conversation_goes_message_by_message() {
    let bed = Bed::start().await;
    let (feed, mut response) = open(&mut client(&bed).await).await;
    for number in 0..200_u32 {
        let sent = message(format!("number {number}").as_bytes());
        feed.data(sent.clone()).await;
        // Nothing more is sent before the echo is here: nothing may be held back on the way.
        assert_eq!(piece(&mut response).await, sent);
    }
    drop(feed);
    let end = within("trailers", response.body_mut().frame()).await.unwrap().unwrap();
    assert_eq!(end.into_trailers().unwrap()["grpc-status"], "0");
}

#[tokio::test]
async fn an_error_in_one_head_stays_in_one_head() {
    let bed = Bed::start().await;
    let response = client(&bed).await.send(call("Unary", full(message(b"x")), &[("x-demo-status", "5")])).await;
    assert!(response.body().is_end_stream(), "one HEADERS frame, and it ends the stream");
    assert_eq!(response.headers()["grpc-status"], "5");
    assert_eq!(response.headers()["grpc-message"], "as you asked: 100%25 & no more");
    assert!(!response.headers().contains_key("x-bearerd-error"));
    let series = "http_requests_total{code=\"200\",method=\"POST\",route=\"google-apis\"}";
    eventually("its count", || bed.metric(series) == 1).await;
}

#[tokio::test]
async fn an_answer_of_head_and_trailers_without_a_message_stays_so() {
    let bed = Bed::start().await;
    let response = client(&bed).await.send(call("Bidi", full(""), &[("x-demo-late-status", "9")])).await;
    assert!(!response.headers().contains_key("grpc-status"), "the status comes in a head of its own");
    let (_, data, trailers) = all(response).await;
    assert_eq!((data.len(), trailers.unwrap()["grpc-status"].to_str().unwrap()), (0, "9"));
}

#[tokio::test]
async fn a_status_after_messages_stays_behind_them() {
    let bed = Bed::start().await;
    let fields = [("x-demo-late-status", "10"), ("x-demo-count", "2")];
    let response = client(&bed).await.send(call("ServerStream", full(message(b"x")), &fields)).await;
    let (_, data, trailers) = all(response).await;
    assert_eq!((data.len(), trailers.unwrap()["grpc-status"].to_str().unwrap()), (12, "10"));
}

#[tokio::test]
async fn a_cancelled_call_is_cancelled_upstream_and_its_neighbours_go_on() {
    let bed = Bed::start().await;
    let mut client = client(&bed).await;
    let (kept_feed, mut kept) = open(&mut client).await;
    let (feed, response) = open(&mut client).await;
    assert_eq!(bed.ground.tasks.in_flight(), 2);
    // Both halves: a client that only stops to read may still have something to say.
    drop(response);
    feed.fail().await;
    eventually("the cancelled call's end", || !bed.last().body.sha256.is_empty()).await;
    assert!(!bed.last().body.complete);
    eventually("its count", || bed.ground.tasks.in_flight() == 1).await;
    kept_feed.data(message(b"still here")).await;
    assert_eq!(piece(&mut kept).await, message(b"still here"));
}

#[tokio::test]
async fn a_call_that_the_upstream_breaks_off_does_not_end_well() {
    let bed = Bed::start().await;
    let (_feed, mut response) = open(&mut client(&bed).await).await;
    bed.google.abort_connections();
    let end = within("an end", response.body_mut().frame()).await;
    assert!(matches!(end, Some(Err(_))), "without a status a client must not see a clean end");
}

#[tokio::test]
async fn a_drain_of_the_upstream_lets_calls_end_and_sends_new_ones_elsewhere() {
    let bed = Bed::start().await;
    let mut client = client(&bed).await;
    let (feed, mut response) = open(&mut client).await;
    bed.google.drain_connections();
    let one = |text: &'static [u8]| call("Unary", full(message(text)), &[]);
    within("a new connection", async {
        while bed.google.connections() < 3 {
            assert_eq!(all(client.send(one(b"x")).await).await.2.unwrap()["grpc-status"], "0");
        }
    })
    .await;
    feed.data(message(b"old connection")).await;
    assert_eq!(piece(&mut response).await, message(b"old connection"));
    drop(feed);
    let end = within("trailers", response.body_mut().frame()).await.unwrap().unwrap();
    assert_eq!(end.into_trailers().unwrap()["grpc-status"], "0");
}

#[tokio::test]
async fn a_call_that_google_finds_unauthenticated_is_sent_again_with_a_new_token() {
    let bed = Bed::start().await;
    let mut client = client(&bed).await;
    all(client.send(call("Unary", full(message(b"first")), &[])).await).await;
    bed.google.revoke_all();
    let (_, data, trailers) = all(client.send(call("Unary", full(message(b"second")), &[])).await).await;
    assert_eq!((data, trailers.unwrap()["grpc-status"].to_str().unwrap()), (message(b"second"), "0"));
    assert_eq!(bed.google.exchange_count(), 2);
    let admissions: Vec<_> = bed.google.requests().iter().map(|request| request.admission).collect();
    assert_eq!(admissions, [Admission::Token, Admission::Revoked, Admission::Token]);
}

#[tokio::test]
async fn an_open_call_that_google_finds_unauthenticated_is_told_so_and_the_next_one_works() {
    let bed = Bed::start().await;
    let mut client = client(&bed).await;
    all(client.send(call("Unary", full(message(b"first")), &[])).await).await;
    bed.google.revoke_all();
    let (feed, body) = fed();
    feed.data(message(b"x")).await;
    let response = client.send(call("Bidi", body, &[])).await;
    assert_eq!(response.headers()["grpc-status"], "16");
    drop((feed, response));
    bed.exchanges_reach(2).await;
    within("a good call", async {
        loop {
            let (head, _, trailers) = all(client.send(call("Unary", full(message(b"y")), &[])).await).await;
            if trailers.unwrap_or(head)["grpc-status"] == "0" {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_short_call_beside_a_hundred_and_fifty_long_ones_is_answered_at_once() {
    let bed = Bed::start().await;
    let mut clients = [client(&bed).await, client(&bed).await];
    let mut open_calls = Vec::new();
    for number in 0..150 {
        open_calls.push(open(&mut clients[number % 2]).await);
    }
    let mut third = client(&bed).await;
    let begin = bed.clock.now();
    let (_, _, trailers) = all(third.send(call("Unary", full(message(b"publish")), &[])).await).await;
    assert_eq!(trailers.unwrap()["grpc-status"], "0");
    assert!(begin.until(bed.clock.now()) < Duration::from_secs(1));
    // 151 streams at 100 each, and the exchange's own.
    assert_eq!(bed.google.connections(), 3);
    for (feed, response) in &mut open_calls {
        feed.data(message(b"more")).await;
        assert_eq!(piece(response).await, message(b"more"));
    }
}

#[tokio::test]
async fn more_calls_than_connections_can_hold_are_unavailable_in_time() {
    let world = World::new().await;
    world.google.script(|script| script.max_streams = 2);
    let bed = world.start(|_| {});
    let mut client = client(&bed).await;
    let mut open_calls = Vec::new();
    // Eight connections of two streams each are what one authority may take.
    for _ in 0..16 {
        open_calls.push(open(&mut client).await);
    }
    let waiting = client.h2();
    let late = client.place(call("Unary", full(message(b"late")), &[]));
    let freed = client.place(call("Unary", full(message(b"freed")), &[]));
    let mut other = waiting.clone();
    let first = bed.tasks.in_flight();
    let late = async move { all(waiting.clone().send_request(late).await.unwrap()).await };
    let (head, _, trailers) = within("an answer", late).await;
    assert!(trailers.is_none());
    assert_eq!((head["grpc-status"].to_str().unwrap(), head["x-bearerd-error"].to_str().unwrap()), ("14", "full"));
    assert_eq!(first, bed.tasks.in_flight());
    // One that ends makes room for one that waits.
    let room = async {
        eventually("a waiting call", || bed.ground.tasks.in_flight() == 17).await;
        open_calls.pop();
    };
    let freed = async { all(other.send_request(freed).await.unwrap()).await };
    let ((_, data, _), ()) = within("an answer", async { tokio::join!(freed, room) }).await;
    assert_eq!(data, message(b"freed"));
}

#[tokio::test]
async fn without_a_token_a_call_is_unavailable_in_grpcs_own_shape() {
    let world = World::at(Clock::fast(50)).await;
    world.google.outage(Outage::Status(500));
    world.google.script(|script| script.retry_after = Some("30".to_owned()));
    let bed = world.start(|_| {});
    bed.exchanges_reach(1).await;
    let response = client(&bed).await.send(call("Unary", full(message(b"x")), &[])).await;
    assert!(response.body().is_end_stream());
    let head = response.headers();
    assert_eq!((response.status().as_u16(), head["grpc-status"].to_str().unwrap()), (200, "14"));
    assert_eq!(head["content-type"], "application/grpc");
    assert!(head["grpc-message"].to_str().unwrap().starts_with("bearerd: "));
    assert!(head.contains_key("retry-after") && head.contains_key("x-bearerd-error"));
}

#[tokio::test]
async fn an_upstream_without_h2_is_unavailable_and_says_why() {
    let bed = Bed::start().await;
    bed.exchanges_reach(1).await;
    bed.google.protocols(Protocols::H1);
    let response = client(&bed).await.send(call("Unary", full(message(b"x")), &[])).await;
    let head = response.headers();
    assert_eq!((head["grpc-status"].to_str().unwrap(), head["x-bearerd-error"].to_str().unwrap()), ("14", "no_h2"));
    assert_eq!(bed.google.request_count(), 0);
}
