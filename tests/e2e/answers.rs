//! Answers that no honest upstream gives: what becomes of each, and that the next request meets none of it.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::Request;
use http_body_util::BodyExt;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::server::TlsStream;

use crate::{
    bed::{Bed, World, send_to},
    client::{DOORS, Door, fed, get, within},
    hostile::identity,
    raw,
};

const HOST: &str = "hostile.googleapis.com";

/// What follows the bytes of an answer.
#[derive(Clone, Copy, Debug)]
enum End {
    /// Nothing: the connection stays open.
    Open,
    /// The connection ends as TLS wants it.
    Close,
    /// The connection ends without a word of TLS, as a cut does.
    Cut,
    /// A reset.
    Reset,
}

/// What a client must see.
#[derive(Clone, Copy, Debug)]
enum Seen {
    /// 502 with this reason.
    Refused(&'static str),
    /// An abort: whatever came does not look whole.
    Broken,
    /// This, whole.
    Whole(u16, &'static str),
}

/// An upstream that answers what it is told to; `/good` is answered well, with the connection's number.
struct Hostile {
    address: SocketAddr,
    script: Arc<Mutex<(Vec<u8>, End)>>,
    /// The connection that gave the last scripted answer.
    last: Arc<AtomicU64>,
}

impl Hostile {
    async fn start() -> (Self, Bed) {
        let world = World::new().await;
        let (acceptor, ca) = identity(vec![HOST.to_owned()]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = Self {
            address: listener.local_addr().unwrap(),
            script: Arc::new(Mutex::new((Vec::new(), End::Open))),
            last: Arc::default(),
        };
        let (tasks, script, last) = (world.tasks.clone(), host.script.clone(), host.last.clone());
        world.tasks.spawn(async move {
            let mut number = 0;
            while let Ok((stream, _)) = listener.accept().await {
                number += 1;
                let (acceptor, script, last) = (acceptor.clone(), script.clone(), last.clone());
                tasks.spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, number, &script, &last).await;
                    }
                });
            }
        });
        let address = host.address;
        let bed = world.start(|settings| {
            settings.upstream.extra_roots.get_or_insert_default().extend(ca.into_bytes());
            send_to(settings, HOST, 443, address);
        });
        (host, bed)
    }

    fn answers(&self, answer: &[u8], end: End) {
        *self.script.lock().unwrap() = (answer.to_vec(), end);
    }

    /// A request that must be served well, by another connection than the last one that misbehaved.
    async fn serves_on(&self, bed: &Bed, what: &str) {
        let response = bed.client(Door::Forward, HOST).await.call(get("/good")).await;
        assert_eq!(response.status(), 200, "{what}");
        let number: u64 = std::str::from_utf8(response.body()).unwrap().parse().unwrap();
        assert_ne!(number, self.last.load(Ordering::SeqCst), "the next request used the same connection: {what}");
    }
}

async fn serve(mut stream: TlsStream<TcpStream>, number: u64, script: &Mutex<(Vec<u8>, End)>, last: &AtomicU64) {
    loop {
        let head = raw::head(&mut stream).await;
        if head.is_empty() {
            return;
        }
        if head.contains(" /good ") {
            let number = number.to_string();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{number}", number.len());
            raw::write(&mut stream, answer.as_bytes()).await;
            continue;
        }
        last.store(number, Ordering::SeqCst);
        let (answer, end) = script.lock().unwrap().clone();
        raw::write(&mut stream, &answer).await;
        match end {
            End::Open => {}
            End::Close => {
                let _ = stream.shutdown().await;
                return;
            }
            End::Cut => return,
            End::Reset => {
                let socket = socket2::SockRef::from(stream.get_ref().0);
                socket.set_linger(Some(Duration::ZERO)).unwrap();
                return;
            }
        }
    }
}

/// A head of this size, and a body.
fn large(bytes: usize) -> String {
    let filler = "x".repeat(1000);
    let mut head = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n".to_owned();
    for number in 0.. {
        if head.len() + 1100 > bytes {
            break;
        }
        head.push_str(&format!("x-{number}: {filler}\r\n"));
    }
    let rest = bytes - head.len() - 10;
    format!("{head}x-z: {}\r\n\r\nok", "z".repeat(rest))
}

#[expect(clippy::too_many_lines, reason = "one table")]
fn cases() -> Vec<(String, End, Seen)> {
    let bad = Seen::Refused("bad_answer");
    let head = |rest: &str| format!("HTTP/1.1 200 OK\r\n{rest}");
    let interim =
        |count| "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(count) + &head("Content-Length: 2\r\n\r\nok");
    let fields = |count| head(&"x: y\r\n".repeat(count)) + "\r\n";
    let mut cases = Vec::new();
    // The framing: never two readings.
    for framing in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: identity\r\n\r\nok",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: gzip\r\n\r\nok",
        "Transfer-Encoding:\r\n\r\nok",
        "Content-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        "Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        "Content-Length: 2, 3\r\n\r\nok",
        "Content-Length: +2\r\n\r\nok",
        "Content-Length: -2\r\n\r\nok",
        "Content-Length: 0x2\r\n\r\nok",
        "Content-Length: 2 2\r\n\r\nok",
        "Content-Length: 99999999999999999999999\r\n\r\nok",
        "Content-Length:\r\n\r\nok",
    ] {
        cases.push((head(framing), End::Close, bad));
    }
    cases.push(("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(), End::Close, bad));
    // The head.
    for answer in [
        "SSH-2.0-OpenSSH_9.6\r\n",
        "<html>no head</html>",
        "\0\0\0\0\0\0\0\0\0",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/0.9 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 200 O\0K\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: no name\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx y: z\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx : z\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: a\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: a\rb\r\n\r\n",
        // Not asked for.
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n",
    ] {
        cases.push((answer.to_owned(), End::Close, bad));
    }
    cases.push((fields(101), End::Open, bad));
    cases.push((large(64 * 1024 + 4096), End::Open, bad));
    cases.push(("HTTP/1.1 200 OK\r\nx: ".to_owned() + &"x".repeat(1 << 20), End::Open, bad));
    cases.push((interim(17), End::Open, bad));
    cases.push((interim(1000), End::Open, bad));
    cases.push((interim(16), End::Close, Seen::Whole(200, "ok")));
    cases.push((large(12 * 1024), End::Close, Seen::Whole(200, "ok")));
    // No answer at all, or half a head.
    for end in [End::Close, End::Cut, End::Reset] {
        cases.push((String::new(), end, Seen::Refused("reset")));
        cases.push((head("Content-Le"), end, Seen::Refused("reset")));
    }
    // Bodies that are not whole.
    for end in [End::Close, End::Cut, End::Reset] {
        cases.push((head("Content-Length: 5\r\n\r\nok"), end, Seen::Broken));
        cases.push((head("Transfer-Encoding: chunked\r\n\r\n5\r\nok"), end, Seen::Broken));
        cases.push((head("Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"), end, Seen::Broken));
    }
    cases.push((head("\r\nhalf of what the connection was to delimit"), End::Cut, Seen::Broken));
    cases.push((head("\r\nall of it"), End::Close, Seen::Whole(200, "all of it")));
    for chunks in [
        "x\r\nok\r\n0\r\n\r\n",
        "+2\r\nok\r\n0\r\n\r\n",
        "0x2\r\nok\r\n0\r\n\r\n",
        "11111111111111111\r\nok",
        "2\r\nokx\r\n0\r\n\r\n",
        "2\nok\n0\n\n",
    ] {
        cases.push((head(&format!("Transfer-Encoding: chunked\r\n\r\n{chunks}")), End::Open, Seen::Broken));
    }
    // More than was announced never becomes the next answer.
    let smuggled = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled";
    cases.push((head(&format!("Content-Length: 2\r\n\r\nok{smuggled}")), End::Open, Seen::Whole(200, "ok")));
    let chunked = format!("Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n{smuggled}");
    cases.push((head(&chunked), End::Open, Seen::Whole(200, "ok")));
    cases.push((format!("HTTP/1.1 204 No Content\r\n\r\n{smuggled}"), End::Open, Seen::Whole(204, "")));
    cases.push((format!("HTTP/1.1 304 Not Modified\r\n\r\n{smuggled}"), End::Open, Seen::Whole(304, "")));
    cases
}

#[tokio::test]
async fn hostile_answers_end_in_a_502_or_an_abort_and_the_next_request_on_a_fresh_connection() {
    let (host, bed) = Hostile::start().await;
    for (answer, end, seen) in cases() {
        let shown: String = answer.chars().take(120).collect();
        for door in DOORS {
            let what = format!("{door:?} {end:?} {shown:?}");
            host.answers(answer.as_bytes(), end);
            let response = within(&what, bed.client(door, HOST).await.try_send(get("/bad"))).await;
            let response = match (response, seen) {
                (Ok(response), _) => response,
                // Aborted so early that not even the head had been written.
                (Err(_), Seen::Broken) => {
                    host.serves_on(&bed, &what).await;
                    continue;
                }
                (Err(error), _) => panic!("{what}: {error:?}"),
            };
            let status = response.status().as_u16();
            let reason = response.headers().get("x-bearerd-error").cloned();
            let body = within(&what, response.into_body().collect()).await.map(|body| body.to_bytes());
            match seen {
                Seen::Refused(expected) => {
                    assert_eq!(
                        (status, reason.as_ref().and_then(|reason| reason.to_str().ok())),
                        (502, Some(expected)),
                        "{what}"
                    );
                }
                Seen::Broken => assert!(body.is_err(), "looks whole: {what}"),
                Seen::Whole(expected, text) => {
                    assert_eq!((status, body.unwrap().as_ref()), (expected, text.as_bytes()), "{what}");
                }
            }
            host.serves_on(&bed, &what).await;
        }
    }
}

/// The upload is refused while most of it is on its way: the answer wins over the reset that follows it.
#[tokio::test]
async fn an_early_answer_wins_over_the_reset_behind_it() {
    let (host, bed) = Hostile::start().await;
    host.answers(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig", End::Close);
    for door in DOORS {
        for round in 0..20 {
            let mut client = bed.client(door, HOST).await;
            let (feed, body) = fed();
            let flood = async {
                // Far more than sockets hold, until nobody takes it any more.
                let piece = bytes::Bytes::from(vec![b'x'; 64 * 1024]);
                for _ in 0..200 {
                    if feed.try_data(piece.clone()).await.is_err() {
                        break;
                    }
                }
                std::future::pending::<()>().await;
            };
            let response = tokio::select! {
                response = client.try_send(Request::post("/bad").body(body).unwrap()) => response,
                () = flood => unreachable!(),
            };
            assert_eq!(response.unwrap().status(), 413, "{door:?} in round {round}");
        }
    }
}
