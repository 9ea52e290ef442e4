//! `Expect: 100-continue` in every order of its steps: no connection hangs, and none is left in a state that the next
//! request would suffer from.

use bearerd::demo::{Protocols, RecordingHost};
use bytes::Bytes;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    bed::{Bed, STORAGE, World, send_to},
    client::{Door, get},
    full, raw,
};

const DENIED: &str = "iamcredentials.googleapis.com";
const EARLY: &str = "early.googleapis.com";
const INTERIM: &str = "interim.googleapis.com";

fn head(host: &str, fields: &str) -> String {
    format!("POST http://{host}/echo HTTP/1.1\r\nHost: {host}\r\nExpect: 100-continue\r\n{fields}\r\n")
}

async fn status(stream: &mut TcpStream) -> u16 {
    raw::answer(stream).await.status()
}

/// The final status, whether or not a 100 comes first.
async fn final_status(stream: &mut TcpStream) -> u16 {
    match status(stream).await {
        100 => status(stream).await,
        other => other,
    }
}

/// One order of steps on a connection of its own.
#[expect(clippy::too_many_lines, reason = "a table, in the form of steps")]
async fn play(bed: &Bed, order: usize) {
    let mut stream = raw::proxy(bed).await;
    let send = async |stream: &mut TcpStream, text: &str| raw::write(stream, text.as_bytes()).await;
    match order {
        0 => {
            send(&mut stream, &head(STORAGE, "Content-Length: 5\r\n")).await;
            assert_eq!(status(&mut stream).await, 100);
            send(&mut stream, "hello").await;
            assert_eq!(status(&mut stream).await, 200);
        }
        1 => {
            send(&mut stream, &head(STORAGE, "Content-Length: 5\r\n")).await;
            send(&mut stream, "hello").await;
            assert_eq!(final_status(&mut stream).await, 200);
        }
        2 => {
            send(&mut stream, &format!("{}hello", head(STORAGE, "Content-Length: 5\r\n"))).await;
            assert_eq!(final_status(&mut stream).await, 200);
        }
        3 => {
            send(&mut stream, &head(STORAGE, "Transfer-Encoding: chunked\r\n")).await;
            assert_eq!(status(&mut stream).await, 100);
            for piece in ["5\r\nhel", "lo\r\n0\r\n", "\r\n"] {
                send(&mut stream, piece).await;
            }
            assert_eq!(status(&mut stream).await, 200);
        }
        4 => {
            send(&mut stream, &head(STORAGE, "Content-Length: 0\r\n")).await;
            assert_eq!(final_status(&mut stream).await, 200);
        }
        5 => {
            // A body that nobody waited for behind a refusal is never a request.
            let behind = format!("GET http://{STORAGE}/behind HTTP/1.1\r\nHost: {STORAGE}\r\n\r\n");
            send(&mut stream, &head(DENIED, &format!("Content-Length: {}\r\n", behind.len()))).await;
            assert_eq!(status(&mut stream).await, 403);
            send(&mut stream, &behind).await;
            assert!(!raw::rest(&mut stream).await.starts_with(b"HTTP/1.1 200"));
        }
        6 => {
            send(&mut stream, &head(DENIED, "Content-Length: 5\r\n")).await;
            assert_eq!(status(&mut stream).await, 403);
        }
        7 => {
            send(&mut stream, &head(STORAGE, "Content-Length: 5\r\n")).await;
            assert_eq!(status(&mut stream).await, 100);
            send(&mut stream, "he").await;
        }
        8 => {
            send(&mut stream, &head(STORAGE, "Content-Length: 5\r\n")).await;
            assert_eq!(status(&mut stream).await, 100);
            stream.shutdown().await.unwrap();
            assert!(!raw::rest(&mut stream).await.starts_with(b"HTTP/1.1 200"));
        }
        9 => {
            let fields = "Content-Length: 5\r\nExpect: something-else\r\n";
            send(&mut stream, &head(STORAGE, fields)).await;
            assert_eq!(status(&mut stream).await, 417);
            send(&mut stream, "hello").await;
            assert_eq!(raw::rest(&mut stream).await, b"");
        }
        10 => {
            // The upstream answers before it has seen a body.
            send(&mut stream, &head(EARLY, "Content-Length: 200000\r\n")).await;
            let answered = final_status(&mut stream).await;
            assert_eq!(answered, 413);
        }
        _ => {
            // And here it says 100 though nobody asked it.
            send(&mut stream, &head(INTERIM, "Content-Length: 5\r\n")).await;
            assert_eq!(status(&mut stream).await, 100);
            send(&mut stream, "hello").await;
            assert_eq!(final_status(&mut stream).await, 200);
        }
    }
}

const ORDERS: usize = 12;

#[tokio::test]
async fn no_order_of_expectation_body_and_answer_leaves_a_connection_stuck_or_spoiled() {
    for protocols in [Protocols::H1, Protocols::H2] {
        let world = World::new().await;
        let early = Bytes::from_static(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let interim = Bytes::from_static(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        );
        let mut hosts = Vec::new();
        for (name, answer) in [(EARLY, early), (INTERIM, interim)] {
            let host = RecordingHost::start_tls(&world.tasks, &world.google, name, Protocols::H1, Some(answer)).await;
            hosts.push((name, host.unwrap()));
        }
        let bed = world.start(|settings| {
            for (name, host) in &hosts {
                send_to(settings, name, 443, host.address());
            }
        });
        bed.exchanges_reach(1).await;
        bed.google.protocols(protocols);
        let mut victim = bed.client(Door::InterceptH1, STORAGE).await;
        let rounds = if full() { 5_000 } else { 96 };
        for round in 0..rounds {
            play(&bed, round % ORDERS).await;
            let response = victim.call(get(&format!("/echo?round={round}"))).await;
            let told = String::from_utf8_lossy(response.body()).into_owned();
            assert!(response.status() == 200 && told.contains(&format!("round={round}\"")), "{round}: {told}");
        }
        let seen = bed.google.requests();
        assert!(
            seen.iter().all(|request| !request.headers.contains_key("expect") && !request.target.contains("behind"))
        );
    }
}
