//! Floods of HTTP/2 frames: who sends them is sent away or costs a bounded amount, and whoever else uses the sidecar
//! notices nothing.

use std::{
    net::SocketAddr,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use bearerd::clock::Clock;
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_rustls::client::TlsStream;

use crate::{
    bed::{STORAGE, World, client_tls, handshake},
    client::{empty, whole, within},
    frames::*,
    full,
    process::Process,
    raw,
};

/// One way to flood: what is sent first, and what is sent over and over.
struct Flood {
    name: &'static str,
    first: fn() -> Vec<u8>,
    /// The next piece; the number counts pieces from 0.
    piece: fn(u32) -> Vec<u8>,
    /// Whether the attacker reads what comes back.
    reads: bool,
    end: End,
}

impl Flood {
    /// Whether it leaves a hundred downloads unread.
    fn stalls(&self) -> bool {
        matches!(self.name, "windows never opened" | "data never read")
    }
}

/// What a flood may cost, in KiB.
const ROOM: i64 = 16 * 1024;
/// What a hundred downloads may hold that nobody reads: the window towards the upstream and the buffer towards the
/// client, of each.
const STALLED: i64 = 100 * (512 + 128);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The connection is ended, within two seconds.
    SentAway,
    /// It may go on: each piece costs what it brings, and nothing piles up.
    Bounded,
}

use End::{Bounded, SentAway};

const FLOODS: [Flood; 14] = [
    Flood { name: "rapid reset", first: Vec::new, piece: rapid_reset, reads: true, end: SentAway },
    Flood { name: "settings", first: Vec::new, piece: |_| settings(&[]), reads: true, end: Bounded },
    Flood { name: "ping", first: Vec::new, piece: |_| frame(PING, 0, 0, &[7; 8]), reads: true, end: Bounded },
    Flood { name: "priority", first: Vec::new, piece: priority, reads: true, end: Bounded },
    Flood { name: "continuation", first: open_head, piece: continuation, reads: true, end: SentAway },
    Flood { name: "empty data", first: upload, piece: |_| frame(DATA, 0, 1, &[]), reads: true, end: SentAway },
    Flood { name: "tiny data", first: upload, piece: |_| frame(DATA, 0, 1, b"x"), reads: true, end: Bounded },
    Flood { name: "window updates", first: download, piece: |_| window(0, 1), reads: true, end: Bounded },
    Flood { name: "windows never opened", first: no_windows, piece: get_large, reads: true, end: Bounded },
    Flood { name: "header bomb", first: Vec::new, piece: header_bomb, reads: true, end: SentAway },
    Flood { name: "data never read", first: wide_windows, piece: get_large, reads: false, end: Bounded },
    Flood { name: "resets provoked", first: Vec::new, piece: provoked, reads: true, end: SentAway },
    Flood { name: "trailers of one byte", first: Vec::new, piece: trailers, reads: true, end: SentAway },
    Flood {
        name: "unknown frames",
        first: Vec::new,
        piece: |_| frame(0xee, 0, 0, &[7; 16384]),
        reads: true,
        end: Bounded,
    },
];

fn id(number: u32) -> u32 {
    2 * number + 1
}

fn get(stream: u32, target: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &request("GET", STORAGE, target))
}

fn post(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &request("POST", STORAGE, "/echo"))
}

fn rapid_reset(number: u32) -> Vec<u8> {
    [get(id(number), "/echo"), reset(id(number), CANCEL)].concat()
}

fn priority(number: u32) -> Vec<u8> {
    frame(PRIORITY, 0, id(number), &[0, 0, 0, 0, 16])
}

fn open_head() -> Vec<u8> {
    frame(HEADERS, END_STREAM, 1, &request("GET", STORAGE, "/echo"))
}

fn continuation(number: u32) -> Vec<u8> {
    frame(CONTINUATION, 0, 1, &block(&[("x", &number.to_string())]))
}

fn upload() -> Vec<u8> {
    post(1)
}

fn download() -> Vec<u8> {
    get(1, LARGE)
}

fn no_windows() -> Vec<u8> {
    settings(&[(INITIAL_WINDOW, 0)])
}

fn wide_windows() -> Vec<u8> {
    [settings(&[(INITIAL_WINDOW, 0x7fff_ffff)]), window(0, 0x7fff_0000)].concat()
}

/// As many as may be open, then what asks whether anybody is there.
fn get_large(number: u32) -> Vec<u8> {
    if number < 100 { get(id(number), LARGE) } else { frame(PING, 0, 0, &[7; 8]) }
}

/// A value of 4000 bytes that goes into the table once, and 4000 fields of one byte each that repeat it.
fn header_bomb(number: u32) -> Vec<u8> {
    let mut fields = request("GET", STORAGE, "/echo");
    fields.extend_from_slice(&[0x40, 1, b'x']);
    integer(&mut fields, 0, 7, 4000);
    fields.extend(std::iter::repeat_n(b'v', 4000));
    fields.extend(std::iter::repeat_n(0x80 | 62, 4000));
    frame(HEADERS, END_HEADERS | END_STREAM, id(number), &fields)
}

/// A request, and then what makes the server reset it.
fn provoked(number: u32) -> Vec<u8> {
    [get(id(number), "/slow?ms=1000"), window(id(number), 0)].concat()
}

/// A request whose trailers come in pieces of one byte.
fn trailers(number: u32) -> Vec<u8> {
    let fields = block(&[("a", "b")]);
    let (first, rest) = fields.split_at(1);
    let mut all = [post(id(number)), frame(HEADERS, END_STREAM, id(number), first)].concat();
    for (index, byte) in rest.iter().enumerate() {
        let flags = if index + 1 == rest.len() { END_HEADERS } else { 0 };
        all.extend(frame(CONTINUATION, flags, id(number), &[*byte]));
    }
    all
}

const LARGE: &str = "/storage/v1/b/b/o/o?alt=media&size=67108864";

/// What became of an attacker.
#[derive(Debug)]
struct Outcome {
    /// How many pieces there were, where that is known.
    pieces: Option<u32>,
    /// When the sidecar ended the connection.
    ended: Option<Duration>,
    goaway: Option<u32>,
}

async fn connect(proxy: SocketAddr, dir: &Path) -> TlsStream<TcpStream> {
    let mut stream = TcpStream::connect(proxy).await.unwrap();
    raw::write(&mut stream, format!("CONNECT {STORAGE}:443 HTTP/1.1\r\nHost: {STORAGE}:443\r\n\r\n").as_bytes()).await;
    assert_eq!(raw::answer(&mut stream).await.status(), 200);
    within("a handshake", handshake(stream, client_tls(dir, &[b"h2"]), STORAGE)).await.unwrap()
}

async fn attack(flood: &Flood, stream: TlsStream<TcpStream>, clock: Clock) -> Outcome {
    let (mut reading, mut writing) = tokio::io::split(stream);
    let time = match flood.end {
        SentAway => Duration::from_secs(2),
        Bounded if full() => Duration::from_secs(30),
        Bounded => Duration::from_millis(300),
    };
    let begin = clock.now();
    let goaway = AtomicU32::new(u32::MAX);
    let read = async {
        if !flood.reads {
            return std::future::pending().await;
        }
        while let Some(frame) = read(&mut reading).await {
            if frame.kind == GOAWAY && frame.code() != NO_ERROR {
                goaway.store(frame.code(), Ordering::Relaxed);
            }
        }
        begin.until(clock.now())
    };
    let write = async {
        let mut bytes = [PREFACE, &settings(&[])[..], &(flood.first)()[..]].concat();
        let mut pieces = 0;
        loop {
            while bytes.len() < 16 * 1024 {
                bytes.extend((flood.piece)(pieces));
                pieces += 1;
            }
            if writing.write_all(&bytes).await.is_err() || writing.flush().await.is_err() {
                break (pieces, Some(begin.until(clock.now())));
            }
            bytes.clear();
            if begin.until(clock.now()) >= time {
                break (pieces, None);
            }
            tokio::task::yield_now().await;
        }
    };
    let mut pieces = None;
    let ended = tokio::time::timeout(time, async {
        tokio::select! {
            when = read => Some(when),
            (sent, when) = write => {
                pieces = Some(sent);
                when
            }
        }
    });
    let ended = ended.await.unwrap_or(None);
    let goaway = goaway.into_inner();
    Outcome { pieces, ended, goaway: (goaway != u32::MAX).then_some(goaway) }
}

/// What the process holds, in KiB.
fn resident(pid: u32) -> i64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
async fn floods_are_ended_or_bounded_and_a_good_client_beside_them_notices_nothing() {
    let world = World::new().await;
    let keys = world.keys();
    let process = Process::start(world, &keys, &[], "");
    let (proxy, dir, clock) = (process.proxy().await, process.world.dir.path().to_owned(), process.world.clock);
    let good = connect(proxy, &dir).await;
    let (sender, connection) =
        hyper::client::conn::http2::handshake(process.world.tasks.clone(), hyper_util::rt::TokioIo::new(good))
            .await
            .unwrap();
    process.world.tasks.spawn(async move {
        let _ = connection.await;
    });
    let call = || {
        let mut sender = sender.clone();
        async move {
            let request = http::Request::get(format!("https://{STORAGE}/echo")).body(empty()).unwrap();
            whole(sender.send_request(request).await.unwrap()).await.status()
        }
    };
    for _ in 0..50 {
        assert_eq!(within("an answer", call()).await, 200);
    }
    let before = resident(process.child.id());
    let mut slowest = 0;
    for flood in &FLOODS {
        let attacker = connect(proxy, &dir).await;
        let mut attacking = Box::pin(attack(flood, attacker, clock));
        let (mut answers, mut most) = (0_u32, 0);
        let outcome = loop {
            let begin = clock.now();
            let calling = async {
                let status = within("an answer to the good client", call()).await;
                let took = begin.until(clock.now());
                tokio::time::sleep(Duration::from_millis(10)).await;
                (status, took)
            };
            tokio::select! {
                outcome = &mut attacking => break outcome,
                (status, took) = calling => {
                    assert_eq!(status, 200, "the good client, beside {}", flood.name);
                    slowest = slowest.max(took.as_millis());
                    answers += 1;
                    most = most.max(resident(process.child.id()));
                }
            }
        };
        most = most.max(resident(process.child.id()));
        assert_eq!(within("an answer after a flood", call()).await, 200, "after {}", flood.name);
        if flood.end == SentAway {
            assert!(outcome.ended.is_some(), "{} goes on: {outcome:?}", flood.name);
        }
        let Outcome { pieces, ended, goaway } = outcome;
        println!("{}: {pieces:?} pieces, ended {ended:?}, GOAWAY {goaway:?}", flood.name);
        println!("    {answers} answers beside it, the slowest so far after {slowest} ms");
        println!("    resident: {before} KiB before, {most} KiB at most");
        let may = ROOM + if flood.stalls() { STALLED } else { 0 };
        drop(attacking);
        // And it is given back, not kept for the next one. The allocator returns pages while it is at work, so the good
        // client goes on.
        let given_back = async {
            while resident(process.child.id()) - before > ROOM {
                assert_eq!(call().await, 200, "after {}", flood.name);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        within("the memory of a flood", given_back).await;
        assert!(most - before <= may, "{}: {before} KiB before, {most} KiB at most", flood.name);
    }
    // What is measured in the machine's spare time says little in any other build.
    assert!(!full() || slowest <= 2000, "the good client waited {slowest} ms");
    assert!(!process.log().contains("panicked"));
}
