//! Clients that take their time.

use std::time::Duration;

use bearerd::{clock::Clock, demo::Protocols};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use tokio::net::TcpStream;

use crate::{
    bed::{Bed, STORAGE, World},
    client::{DOORS, Door, fed, within},
    raw,
};

/// An upload that stands still is cut after a minute; the application cannot fill the sidecar with such.
#[tokio::test]
async fn a_body_that_stops_is_cut_after_a_minute() {
    for upstream in [Protocols::H1, Protocols::H2] {
        let (clock, hand) = Clock::by_hand();
        let world = World::at(clock).await;
        let bed = world.start(|_| {});
        bed.exchanges_reach(1).await;
        bed.google.protocols(upstream);
        for door in DOORS {
            let mut client = bed.client(door, STORAGE).await;
            let (feed, body) = fed();
            feed.data("the first piece").await;
            let begin = bed.clock.now();
            let time_passes = async {
                loop {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    hand.advance(Duration::from_secs(1));
                }
            };
            let response = tokio::select! {
                response = within("an answer", client.try_send(Request::post("/echo").body(body).unwrap())) => response.unwrap(),
                () = time_passes => unreachable!(),
            };
            let what = format!("{door:?} to {upstream:?}");
            assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT, "{what}");
            assert_eq!(response.headers()["x-bearerd-error"], "slow_body", "{what}");
            assert!((60..90).contains(&begin.until(bed.clock.now()).as_secs()), "{what}");
            drop(feed);
        }
        assert_eq!(bed.refused("slow_body"), 3);
    }
}

/// A client that streams may have nothing to say for hours before the server answers.
#[tokio::test]
async fn a_quiet_grpc_stream_is_not_cut() {
    let (clock, hand) = Clock::by_hand();
    let bed = World::at(clock).await.start(|_| {});
    let mut client = bed.client(Door::InterceptH2, STORAGE).await;
    let (feed, body) = fed();
    // The length of a message, and not the message yet: the server has nothing to answer.
    feed.data(&b"\0\0\0\0\x05"[..]).await;
    let request = Request::post("/demo.Echo/Unary");
    let request = request.header("content-type", "application/grpc").header("te", "trailers").body(body).unwrap();
    let quiet = async {
        bed.requests_reach(1).await;
        for _ in 0..40 {
            hand.advance(Duration::from_secs(30));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        feed.data("hello").await;
        drop(feed);
    };
    let (response, ()) = tokio::join!(client.send(request), quiet);
    let whole = within("the body", response.into_body().collect()).await.unwrap();
    assert_eq!(whole.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(whole.to_bytes(), &b"\0\0\0\0\x05hello"[..]);
}

/// Those who hold connections and ask nothing make room for those who ask; who is served keeps his.
#[tokio::test]
async fn idle_connections_make_room_when_all_places_are_taken() {
    let bed = Bed::with(|settings| settings.most_clients = 8).await;
    let mut busy = bed.tunnel("storage.googleapis.com:443").await.unwrap();
    let mut served = bed.client(Door::Forward, STORAGE).await;
    let streaming = served.send(crate::client::get("/drip?chunks=1000000&ms=5")).await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(TcpStream::connect(bed.addresses.proxy.unwrap()).await.unwrap());
        // Half a head is idle too.
        raw::write(silent.last_mut().unwrap(), b"GET http://storage.googleapis.com/").await;
    }
    let mut good = raw::proxy(&bed).await;
    raw::write(&mut good, b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(raw::answer(&mut good).await.status(), 204);
    let mut body = streaming.into_body();
    for _ in 0..20 {
        assert!(within("a piece", body.frame()).await.unwrap().is_ok(), "the one that was served lost its place");
    }
    drop(body);
    raw::write(&mut busy, b"x").await;
}
