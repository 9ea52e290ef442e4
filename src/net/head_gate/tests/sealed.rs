use std::{convert::Infallible, sync::Mutex};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::super::*;

const CONNECT: &[u8] = b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n";
const WEBSOCKET: &[u8] = b"GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
/// To a reader who takes it for HTTP, a request.
const EARLY: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n\x16\x03\x01\0\n";

/// What the service does with a request that would open a tunnel.
#[derive(Clone, Copy, PartialEq)]
enum Answer {
    Agree,
    RefuseAndClose,
    /// Against the rules: the gate must hold all the same.
    RefuseAndStay,
}

#[derive(Default)]
struct Service {
    paths: Mutex<Vec<String>>,
    upgrade: Mutex<Option<OnUpgrade>>,
}

impl Service {
    fn call(&self, mut request: Request<Incoming>, answer: Answer) -> Response<Full<Bytes>> {
        self.paths.lock().unwrap().push(request.uri().to_string());
        let response = Response::builder();
        let response = match answer {
            Answer::Agree if request.method() == Method::CONNECT => response.status(StatusCode::OK),
            Answer::Agree => {
                response.status(101).header(header::UPGRADE, "websocket").header(header::CONNECTION, "upgrade")
            }
            Answer::RefuseAndClose => response.status(StatusCode::FORBIDDEN).header(header::CONNECTION, "close"),
            Answer::RefuseAndStay => response.status(StatusCode::FORBIDDEN),
        };
        if answer == Answer::Agree {
            *self.upgrade.lock().unwrap() = Some(hyper::upgrade::on(&mut request));
        }
        response.body(Full::default()).unwrap()
    }
}

/// Serves one connection on which the client writes `segments`; gives the client's end of the tunnel,
/// the server's gate, and what the client was answered.
async fn tunnel(segments: &[&[u8]]) -> (DuplexStream, HeadGate<DuplexStream>, String) {
    let (mut client, server) = duplex(1 << 16);
    let (gate, refusals) = HeadGate::http1_only(server, Clock::system());
    let service = Service::default();
    let serve = service_fn(async |request| Ok::<_, Infallible>(service.call(request, Answer::Agree)));
    let server = http1::Builder::new().serve_connection(TokioIo::new(gate), serve).with_upgrades();
    let talk = async {
        for segment in segments {
            client.write_all(segment).await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(client.read_u8().await.unwrap());
        }
        String::from_utf8(answer).unwrap()
    };
    let (served, answer) = tokio::join!(server, talk);
    served.unwrap();
    assert_eq!(service.paths.into_inner().unwrap().len(), 1, "only the head is a request");
    let upgraded = service.upgrade.into_inner().unwrap().unwrap().await.unwrap();
    assert!(refusals.open());
    assert!(!refusals.open(), "a gate opens once");
    let parts = upgraded.downcast::<TokioIo<HeadGate<DuplexStream>>>().unwrap();
    assert!(parts.read_buf.is_empty(), "nothing that follows the head has gone to hyper");
    (client, parts.io.into_inner(), answer)
}

#[tokio::test]
async fn early_bytes_come_out_of_an_open_tunnel_once_and_in_order() {
    for head in [CONNECT, WEBSOCKET] {
        let bytes = [head, EARLY].concat();
        for cut in 1..bytes.len() {
            let (mut client, mut gate, answer) = tunnel(&[&bytes[..cut], &bytes[cut..]]).await;
            assert!(answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.1 101"), "{answer}");
            client.write_all(b"and more").await.unwrap();
            gate.write_all(b"back").await.unwrap();
            client.shutdown().await.unwrap();
            let mut tunnelled = Vec::new();
            gate.read_to_end(&mut tunnelled).await.unwrap();
            assert_eq!(tunnelled, [EARLY, b"and more"].concat(), "cut at {cut}");
            drop(gate);
            let mut back = Vec::new();
            client.read_to_end(&mut back).await.unwrap();
            assert_eq!(back, b"back");
        }
    }
}

#[tokio::test]
async fn the_parts_of_an_open_gate_hold_what_was_early() {
    let (mut client, gate, _) = tunnel(&[&[CONNECT, EARLY].concat()]).await;
    let (mut stream, early) = gate.into_parts();
    assert_eq!(early, EARLY);
    client.write_all(b"later").await.unwrap();
    let mut later = [0; 5];
    stream.read_exact(&mut later).await.unwrap();
    assert_eq!(&later, b"later");
}

async fn refused(bytes: &[u8], answer: Answer) -> (Vec<String>, String) {
    let (mut client, server) = duplex(1 << 16);
    let (gate, refusals) = HeadGate::http1_only(server, Clock::system());
    let service = Service::default();
    let serve = service_fn(async |request| Ok::<_, Infallible>(service.call(request, answer)));
    let server = http1::Builder::new().serve_connection(TokioIo::new(gate), serve).with_upgrades();
    client.write_all(bytes).await.unwrap();
    let mut answers = Vec::new();
    let talk = async { client.read_to_end(&mut answers).await };
    let both = async { tokio::join!(server, talk) };
    // Only a connection that is wrongly kept runs into this.
    let _ =
        tokio::time::timeout(Duration::from_millis(if answer == Answer::RefuseAndStay { 50 } else { 20_000 }), both)
            .await;
    drop(refusals);
    (service.paths.into_inner().unwrap(), String::from_utf8(answers).unwrap())
}

#[tokio::test]
async fn after_a_refused_tunnel_its_early_bytes_are_no_request() {
    for head in [CONNECT, WEBSOCKET] {
        for answer in [Answer::RefuseAndClose, Answer::RefuseAndStay] {
            let (paths, answers) = refused(&[head, EARLY, EARLY].concat(), answer).await;
            assert_eq!(paths.len(), 1, "{paths:?}");
            assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{answers}");
            assert!(answers.starts_with("HTTP/1.1 403"), "{answers}");
        }
    }
}

#[tokio::test]
async fn other_upgrades_leave_the_connection_as_it_is() {
    let h2c = b"GET /1 HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    let next = b"GET /2 HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let (paths, _) = refused(&[&h2c[..], next].concat(), Answer::RefuseAndStay).await;
    assert_eq!(paths, ["/1", "/2"]);
}

/// A gate with `bytes` on its way in, and the client's end.
async fn gate_with(bytes: &[u8]) -> (HeadGate<DuplexStream>, Refusals, DuplexStream) {
    let (mut client, server) = duplex(1 << 20);
    client.write_all(bytes).await.unwrap();
    let (gate, refusals) = HeadGate::http1_only(server, Clock::virtual_time());
    (gate, refusals, client)
}

/// Reads what is there now; `None` when the gate has nothing to say.
async fn read_now(gate: &mut HeadGate<DuplexStream>) -> Option<io::Result<Vec<u8>>> {
    let mut bytes = vec![0; 1 << 17];
    tokio::select! {
        biased;
        read = gate.read(&mut bytes) => Some(read.map(|count| bytes[..count].to_vec())),
        () = std::future::ready(()) => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_sealed_gate_holds_a_bounded_amount_and_loses_none() {
    let flood = vec![b'x'; 100_000];
    let (mut gate, refusals, mut client) = gate_with(CONNECT).await;
    assert!(!refusals.open(), "nothing to open yet");
    assert_eq!(read_now(&mut gate).await.unwrap().unwrap(), CONNECT);
    client.write_all(&flood).await.unwrap();
    let mut small = [0; 4096];
    for _ in 0..50 {
        tokio::select! { biased; _ = gate.read(&mut small) => panic!("a sealed gate yields nothing"), () = std::future::ready(()) => {} }
    }
    assert!(gate.held.len() < MAX_OPAQUE + small.len(), "{} bytes held", gate.held.len());
    drop(client);
    let mut all = Vec::new();
    let open = async { assert!(refusals.open()) };
    // The reader waits first and must be woken.
    let gate_clock = gate.clock;
    let read = async { tokio::join!(biased; gate.read_to_end(&mut all), open).0 };
    let begin = gate_clock.now();
    tokio::time::timeout(Duration::from_secs(1), read).await.unwrap().unwrap();
    // A timeout polls once more when it is over, and would find the gate open.
    assert_eq!(gate_clock.now(), begin, "the reader is woken");
    assert!(all == flood);
}

#[tokio::test]
async fn a_client_that_goes_while_its_tunnel_is_dialled_is_noticed() {
    let (mut gate, _refusals, client) = gate_with(CONNECT).await;
    assert_eq!(read_now(&mut gate).await.unwrap().unwrap(), CONNECT);
    assert!(read_now(&mut gate).await.is_none());
    drop(client);
    assert_eq!(read_now(&mut gate).await.unwrap().unwrap(), b"");
}

#[tokio::test]
async fn an_idle_gate_holds_no_buffer() {
    let (mut gate, _refusals, mut client) = gate_with(b"GET / HTTP/1.1\r\nHo").await;
    assert!(read_now(&mut gate).await.is_none());
    assert!(!gate.held.is_empty());
    client.write_all(b"st: a\r\n\r\n").await.unwrap();
    assert_eq!(read_now(&mut gate).await.unwrap().unwrap(), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(gate.held.capacity(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_head_without_a_chunk_is_let_go_after_a_second() {
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (mut gate, _refusals, mut client) = gate_with(head).await;
    let begin = gate.clock.now();
    let mut bytes = [0; 4096];
    let count = gate.read(&mut bytes).await.unwrap();
    assert_eq!(&bytes[..count], head);
    assert!(begin.until(gate.clock.now()) >= PATIENCE);
    client.write_all(b"x").await.unwrap();
    assert!(read_now(&mut gate).await.unwrap().is_err());
}

#[tokio::test]
async fn tls_on_a_plain_port_ends_at_once_and_says_why() {
    let (mut gate, refusals, _client) = gate_with(b"\x16\x03\x01\x02\0\x01").await;
    let error = read_now(&mut gate).await.unwrap().unwrap_err();
    let reason = error.get_ref().and_then(|cause| cause.downcast_ref::<Reason>());
    assert_eq!(reason, Some(&Reason::TlsOnPlainPort));
    assert_eq!(refusals.broken(), Some(Reason::TlsOnPlainPort));
}
