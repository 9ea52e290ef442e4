//! The end: what is in flight completes, clients are told, new work is served until there is none.

use std::time::Duration;

use bearerd::shutdown::DrainSettings;
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    bed::{Bed, STORAGE, send_to},
    client::{Client, DOORS, Door, eventually, fed, get, within},
    raw,
};

/// A bed whose drain waits long enough for a test to act within it.
async fn bed() -> Bed {
    Bed::with(|settings| {
        settings.drain = DrainSettings { linger: Duration::from_millis(300), deadline: Duration::from_secs(20) };
    })
    .await
}

/// An answer that has begun and not ended, and what ends it.
async fn in_flight(client: &mut Client) -> (crate::client::Feed, http::Response<hyper::body::Incoming>) {
    let (feed, body) = fed();
    let request = http::Request::post("/demo.Echo/Bidi").header("content-type", "application/grpc").body(body).unwrap();
    let response = client.send(request).await;
    (feed, response)
}

#[tokio::test]
async fn what_is_in_flight_completes_and_the_end_is_clean() {
    let mut bed = bed().await;
    let mut client = bed.client(Door::InterceptH2, STORAGE).await;
    let (feed, response) = in_flight(&mut client).await;
    let sidecar = bed.take_sidecar();
    let finish = sidecar.finish();
    let work = async {
        bed.ground.tasks.draining().await;
        // Longer than the linger: work in flight keeps the sidecar.
        let mut body = response.into_body();
        for number in 0..5_u8 {
            feed.data(vec![number; 10]).await;
            let echoed = within("the echo", body.frame()).await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(echoed, vec![number; 10]);
            bed.clock.sleep(Duration::from_millis(100)).await;
        }
        drop(feed);
        within("the end", body.collect()).await.unwrap().trailers().unwrap()["grpc-status"].clone()
    };
    let (clean, status) = within("the drain", async { tokio::join!(finish, work) }).await;
    assert!(clean);
    assert_eq!(status, "0");
}

#[tokio::test]
async fn clients_are_told_to_go() {
    let mut bed = bed().await;
    let mut h1 = bed.client(Door::InterceptH1, STORAGE).await;
    let mut forward = bed.client(Door::Forward, STORAGE).await;
    let mut h2 = bed.client(Door::InterceptH2, STORAGE).await;
    let mut slow = Vec::new();
    for client in [&mut h1, &mut forward, &mut h2] {
        assert!(!client.call(get("/echo")).await.headers().contains_key("connection"));
        slow.push(client.send(get("/drip?chunks=20&ms=20")).await);
    }
    let finish = bed.take_sidecar().finish();
    let work = async {
        bed.ground.tasks.draining().await;
        for response in slow {
            within("the rest of an answer", response.into_body().collect()).await.unwrap();
        }
        for client in [&h1, &forward, &h2] {
            eventually("the connection to end", || client.is_closed()).await;
        }
    };
    let (clean, ()) = within("the drain", async { tokio::join!(finish, work) }).await;
    assert!(clean);
}

#[tokio::test]
async fn an_answer_during_the_drain_says_close_but_the_200_of_connect_does_not() {
    let mut bed = bed().await;
    bed.exchanges_reach(1).await;
    let finish = bed.take_sidecar().finish();
    let work = async {
        bed.ground.tasks.draining().await;
        // A new connection, a new tunnel, a new request: an application that is still at work.
        let mut stream = raw::proxy(&bed).await;
        raw::write(
            &mut stream,
            b"CONNECT storage.googleapis.com:443 HTTP/1.1\r\nHost: storage.googleapis.com:443\r\n\r\n",
        )
        .await;
        let answer = raw::answer(&mut stream).await;
        assert_eq!((answer.status(), answer.field("connection")), (200, None), "{}", answer.head);
        let mut tls = bed.handshake(stream, STORAGE, &[b"http/1.1"]).await.unwrap();
        raw::write(&mut tls, b"GET /echo HTTP/1.1\r\nHost: storage.googleapis.com\r\n\r\n").await;
        let answer = raw::answer(&mut tls).await;
        assert_eq!((answer.status(), answer.field("connection")), (200, Some("close")), "{}", answer.head);
        let mut stream = raw::proxy(&bed).await;
        raw::write(&mut stream, format!("GET http://{STORAGE}/echo HTTP/1.1\r\nHost: {STORAGE}\r\n\r\n").as_bytes())
            .await;
        let answer = raw::answer(&mut stream).await;
        assert_eq!((answer.status(), answer.field("connection")), (200, Some("close")), "{}", answer.head);
    };
    let (clean, ()) = within("the drain", async { tokio::join!(finish, work) }).await;
    assert!(clean);
    assert!(TcpStream::connect(bed.addresses.proxy.unwrap()).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn new_connections_are_served_until_there_is_no_work() {
    let mut bed = bed().await;
    bed.exchanges_reach(1).await;
    let begin = bed.clock.now();
    let finish = bed.take_sidecar().finish();
    let work = async {
        bed.ground.tasks.draining().await;
        for round in 0..10 {
            for door in DOORS {
                assert_eq!(bed.client(door, STORAGE).await.call(get("/echo")).await.status(), 200, "{door:?} {round}");
            }
            bed.clock.sleep(Duration::from_millis(60)).await;
        }
    };
    let (clean, ()) = within("the drain", async { tokio::join!(finish, work) }).await;
    assert!(clean);
    assert!(begin.until(bed.clock.now()) >= Duration::from_millis(600 + 240), "it lingered after the last one");
}

#[tokio::test]
async fn an_idle_sidecar_ends_although_connections_are_open() {
    let mut bed = Bed::start().await;
    let mut clients = Vec::new();
    for door in DOORS {
        let mut client = bed.client(door, STORAGE).await;
        assert_eq!(client.call(get("/echo")).await.status(), 200);
        clients.push(client);
    }
    let idle_tls = bed.connect(STORAGE, &[b"h2"]).await;
    let idle_tcp = raw::proxy(&bed).await;
    assert!(within("the drain", bed.take_sidecar().finish()).await);
    drop((idle_tls, idle_tcp));
}

#[tokio::test]
async fn tunnels_are_cut_at_the_deadline() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut bed = Bed::with(|settings| {
        send_to(settings, "db.example.test", 5432, address);
        settings.drain = DrainSettings { linger: Duration::from_millis(20), deadline: Duration::from_millis(500) };
    })
    .await;
    let (stream, accepted) = tokio::join!(bed.tunnel("db.example.test:5432"), listener.accept());
    let (mut stream, (mut server, _)) = (stream.unwrap(), accepted.unwrap());
    let finish = bed.take_sidecar().finish();
    let work = async {
        bed.ground.tasks.draining().await;
        stream.write_all(b"late but in time").await.unwrap();
        let mut bytes = [0; 16];
        within("bytes", server.read_exact(&mut bytes)).await.unwrap();
        assert_eq!(&bytes, b"late but in time");
        within("the cut", raw::rest(&mut stream)).await
    };
    let (clean, rest) = within("the drain", async { tokio::join!(finish, work) }).await;
    assert!(!clean, "it says that it had to cut");
    assert_eq!(rest, b"");
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let mut bed = bed().await;
    let mut client = bed.client(Door::InterceptH2, STORAGE).await;
    let (_feed, _response) = in_flight(&mut client).await;
    let finish = bed.take_sidecar().finish();
    let second = async {
        bed.ground.tasks.draining().await;
        bed.ground.tasks.end();
    };
    let (clean, ()) = within("the end", async { tokio::join!(finish, second) }).await;
    assert!(!clean);
}
