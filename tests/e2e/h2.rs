//! HTTP/2 as no library speaks it: what a stream may not say, and what aborted ones leave behind.

use std::collections::BTreeMap;

use bearerd::demo::Protocols;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::{
    bed::{Bed, STORAGE},
    client::within,
    frames::{self, *},
    full,
};

/// What came of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Status(u16),
    Reset,
    Gone,
}

impl Outcome {
    pub(crate) fn is_refused(self) -> bool {
        !matches!(self, Self::Status(status) if !(400..500).contains(&status))
    }
}

async fn open(bed: &Bed, values: &[(u16, u32)]) -> TlsStream<TcpStream> {
    let mut stream = bed.connect(STORAGE, &[b"h2"]).await;
    write(&mut stream, &[PREFACE, &settings(values)].concat()).await;
    stream
}

/// Sends these frames as the first of a connection, and reads what stream 1 is answered.
pub(crate) async fn ask(bed: &Bed, frames: &[u8]) -> Outcome {
    let mut stream = open(bed, &[]).await;
    write(&mut stream, frames).await;
    within("an answer", async {
        loop {
            match next(&mut stream).await {
                None => return Outcome::Gone,
                Some(frame) if frame.kind == GOAWAY => return Outcome::Gone,
                Some(frame) if frame.kind == RST_STREAM => return Outcome::Reset,
                Some(frame) if frame.kind == HEADERS => return Outcome::Status(status(&frame.payload)),
                Some(_) => {}
            }
        }
    })
    .await
}

/// The status that a field block begins with: of HPACK's table, or three digits in its Huffman code.
fn status(block: &[u8]) -> u16 {
    match block {
        [indexed @ 0x88..=0x8e, ..] => [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)],
        // A literal named by index 8, in 2 or 3 bytes; digits 0 to 2 take five bits, the others six.
        [0x48 | 0x08 | 0x18, length, text @ ..] if length & 0x80 != 0 => {
            let bits: String = text.iter().take(usize::from(length & 0x7f)).map(|byte| format!("{byte:08b}")).collect();
            let (mut rest, mut digits) = (bits.as_str(), String::new());
            while digits.len() < 3 {
                let (code, digit) = match &rest[..5] {
                    "00000" => (5, 0),
                    "00001" => (5, 1),
                    "00010" => (5, 2),
                    _ => (6, u8::from_str_radix(&rest[..6], 2).unwrap() - 0x19 + 3),
                };
                digits.push(char::from(b'0' + digit));
                rest = &rest[code..];
            }
            digits.parse().unwrap()
        }
        [0x48 | 0x08 | 0x18, 3, text @ ..] => String::from_utf8_lossy(&text[..3]).parse().unwrap(),
        other => panic!("a head that begins with {other:x?}"),
    }
}

/// An ordinary GET with this field put in, or with one of its own in place of that which it has.
fn changed(name: &str, value: &str) -> Vec<u8> {
    let mut fields = vec![(":method", "GET"), (":scheme", "https"), (":authority", STORAGE), (":path", "/echo")];
    match fields.iter_mut().find(|(own, _)| *own == name) {
        Some(field) => field.1 = value,
        None => fields.push((name, value)),
    }
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&fields))
}

fn head(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(fields))
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn what_a_stream_may_not_say_goes_nowhere() {
    let bed = Bed::start().await;
    bed.exchanges_reach(1).await;
    let long = "x".repeat(9000);
    for (name, value) in [
        (":authority", "evil.test"),
        (":authority", "pubsub.googleapis.com"),
        (":authority", "storage.googleapis.com:8443"),
        (":authority", "storage.googleapis.com:80"),
        (":authority", "storage.googleapis.com:"),
        (":authority", "storage.googleapis.com:0443"),
        (":authority", "storage.googleapis.com@evil.test"),
        (":authority", "evil.test@storage.googleapis.com"),
        (":authority", "storage.googleapis.com, evil.test"),
        (":authority", "storage.googleapis.com evil.test"),
        (":authority", "storage.googleapis.com/"),
        (":authority", "storage.googleapis.com#"),
        (":authority", "storage.googleapis.com\t"),
        (":authority", "storage.googleapis.com\0"),
        (":authority", "storage..googleapis.com"),
        (":authority", "[::1]"),
        (":authority", "127.0.0.1"),
        (":authority", "st\u{f6}rage.googleapis.com"),
        (":authority", ""),
        (":scheme", "http"),
        (":scheme", "ftp"),
        (":scheme", ""),
        (":scheme", "https:"),
        (":path", ""),
        (":path", "echo"),
        (":path", "*"),
        (":path", "https://storage.googleapis.com/echo"),
        (":path", "https://evil.test/echo"),
        (":path", "evil.test/echo"),
        (":path", "/ec ho"),
        (":path", "/ec\tho"),
        (":path", "/ec\r\nho"),
        (":path", "/ec\0ho"),
        (":path", "/ech\u{f6}"),
        (":path", "/echo?\u{2028}"),
        ("expect", "something else"),
        (":path", long.as_str()),
        (":method", ""),
        (":method", "G ET"),
        (":method", "GET\r\n"),
        (":method", "TRACE"),
        (":method", "TRACK"),
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":status", "200"),
        (":other", "x"),
        ("host", "evil.test"),
        ("host", "storage.googleapis.com:8443"),
        ("host", "storage.googleapis.com@evil.test"),
        ("host", "storage.googleapis.com, evil.test"),
        ("host", ""),
        ("connection", "close"),
        ("connection", "authorization"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("content-length", "5"),
        ("content-length", "-1"),
        ("content-length", "+0"),
        ("content-length", "0, 0"),
        ("content-length", "x"),
        ("content-length", "18446744073709551616"),
        ("X-Upper", "x"),
        ("", "x"),
        ("x y", "x"),
        ("x:y", "x"),
        ("x\r\ny", "x"),
        ("x\0", "x"),
        ("x", "a\r\nauthorization: Bearer x"),
        ("x", "a\nb"),
        ("x", "a\rb"),
        ("x", "a\0b"),
        ("authorization_", "Bearer x"),
        ("x_goog_user_project", "p"),
        ("proxy_authorization", "Basic x"),
        ("content_length", "3"),
        ("transfer_encoding", "chunked"),
    ] {
        let outcome = ask(&bed, &changed(name, value)).await;
        assert!(outcome.is_refused(), "{name:?}: {value:?}: {outcome:?}");
        assert_eq!(bed.google.request_count(), 0, "{name:?}: {value:?} went upstream");
    }
    let (method, scheme, path, authority) =
        ((":method", "GET"), (":scheme", "https"), (":path", "/echo"), (":authority", STORAGE));
    for fields in [
        &[method, scheme, path][..],
        &[method, scheme, path, ("host", "evil.test")],
        &[method, scheme, path, ("host", STORAGE), ("host", "evil.test")],
        &[method, scheme, path, authority, ("host", STORAGE), ("host", "evil.test")],
        &[method, scheme, path, authority, (":authority", "evil.test")],
        &[method, scheme, path, (":authority", "evil.test"), authority],
        &[method, scheme, path, authority, path],
        &[method, scheme, path, ("x", "1"), authority],
        &[method, scheme, path, authority, ("content-length", "0"), ("content-length", "0")],
        &[(":method", "CONNECT"), authority],
        &[(":method", "CONNECT"), (":authority", "evil.test:443")],
        &[(":method", "CONNECT"), (":protocol", "websocket"), scheme, path, authority],
    ] {
        let outcome = ask(&bed, &head(fields)).await;
        assert!(outcome.is_refused(), "{fields:?}: {outcome:?}");
        assert_eq!(bed.google.request_count(), 0, "{fields:?} went upstream");
    }
}

#[tokio::test]
async fn what_is_odd_and_right_is_served() {
    let bed = Bed::start().await;
    for (name, value) in [
        (":authority", "STORAGE.googleapis.com."),
        (":authority", "storage.googleapis.com:443"),
        (":path", "/echo?"),
        ("host", "storage.googleapis.com:443"),
        ("te", "trailers"),
        ("content-length", "0"),
        ("x", ""),
        ("x", " a "),
        ("x-other_name", "x"),
    ] {
        assert_eq!(ask(&bed, &changed(name, value)).await, Outcome::Status(200), "{name:?}: {value:?}");
        let seen = bed.last();
        assert!(seen.admission.is_good() && seen.authority == STORAGE, "{name:?}: {value:?}: {seen:?}");
    }
    let fields = [(":method", "GET"), (":scheme", "https"), (":path", "/echo"), ("host", STORAGE)];
    assert_eq!(ask(&bed, &head(&fields)).await, Outcome::Status(200), "a host in place of :authority");
    // What stands behind `#` is no part of a target, and h2 cuts it off: policy and upstream see the same.
    let before = bed.google.request_count();
    ask(&bed, &changed(":path", "/echo#/../other")).await;
    assert!(bed.google.requests().iter().skip(before as usize).all(|seen| seen.target == "/echo"));
}

/// An upstream that speaks HTTP/1.1 must not find a request's end elsewhere than we do.
#[tokio::test]
async fn a_body_of_another_length_than_announced_never_arrives_as_a_whole_one() {
    for protocols in [Protocols::H1, Protocols::H2] {
        let bed = Bed::start().await;
        bed.exchanges_reach(1).await;
        bed.google.protocols(protocols);
        for (announced, sent, end) in
            [("5", "hell", true), ("5", "hello!", true), ("0", "x", true), ("5", "", true), ("5", "hello!", false)]
        {
            let fields = [
                (":method", "POST"),
                (":scheme", "https"),
                (":authority", STORAGE),
                (":path", "/echo"),
                ("content-length", announced),
            ];
            let flags = if end { END_STREAM } else { 0 };
            let body = frame(DATA, flags, 1, sent.as_bytes());
            let outcome = ask(&bed, &[frame(HEADERS, END_HEADERS, 1, &block(&fields)), body].concat()).await;
            assert!(outcome.is_refused(), "{announced} {sent} to {protocols:?}: {outcome:?}");
            assert!(
                bed.google.requests().iter().all(|seen| !seen.body.complete),
                "{announced} {sent} to {protocols:?}"
            );
        }
    }
}

#[tokio::test]
async fn trailers_of_a_stream_become_no_field_of_its_head() {
    for protocols in [Protocols::H1, Protocols::H2] {
        let bed = Bed::start().await;
        bed.exchanges_reach(1).await;
        bed.google.protocols(protocols);
        for (name, value) in [
            ("authorization", "Bearer x"),
            ("host", "evil.test"),
            ("content-length", "9"),
            ("x-goog-user-project", "p"),
        ] {
            let open = frame(HEADERS, END_HEADERS, 1, &request("POST", STORAGE, "/echo"));
            let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[(name, value)]));
            let outcome = ask(&bed, &[open, frame(DATA, 0, 1, b"hello"), trailers].concat()).await;
            let expected = outcome == Outcome::Status(200) || outcome.is_refused();
            assert!(expected, "{name} to {protocols:?}: {outcome:?}");
            for seen in bed.google.requests() {
                assert!(seen.admission.is_good() && seen.authority == STORAGE, "{name}: {seen:?}");
                assert!(!seen.headers.contains_key("x-goog-user-project"), "{name}: {seen:?}");
            }
        }
        assert!(bed.google.request_count() > 0);
    }
}

/// One connection on which a test counts windows itself.
struct Counting {
    stream: TlsStream<TcpStream>,
    next: u32,
    /// What may still be sent, by the other side's word.
    room: i64,
    /// DATA of each stream so far, and whether it has ended.
    got: BTreeMap<u32, (u64, bool)>,
}

impl Counting {
    async fn open(bed: &Bed) -> Self {
        let mut stream = open(bed, &[(INITIAL_WINDOW, 1 << 20)]).await;
        write(&mut stream, &window(0, 1 << 24)).await;
        Self { stream, next: 1, room: 65_535, got: BTreeMap::new() }
    }

    fn id(&mut self) -> u32 {
        self.next += 2;
        self.next - 2
    }

    async fn send(&mut self, bytes: &[u8]) {
        write(&mut self.stream, bytes).await;
    }

    /// DATA as soon as the connection has room for it.
    async fn data(&mut self, id: u32, flags: u8, payload: &[u8]) {
        while self.room < payload.len() as i64 {
            self.step(id).await;
        }
        self.room -= payload.len() as i64;
        self.send(&frame(DATA, flags, id, payload)).await;
    }

    /// One frame; DATA is thanked for, on its stream too if it is `open`.
    async fn step(&mut self, open: u32) -> Frame {
        let frame = within("a frame", read(&mut self.stream)).await.unwrap();
        let entry = self.got.entry(frame.stream).or_default();
        entry.1 |= frame.ends();
        match frame.kind {
            GOAWAY => panic!("sent away: {}", frame.code()),
            SETTINGS if frame.flags & ACK == 0 => self.send(&frames::frame(SETTINGS, ACK, 0, &[])).await,
            WINDOW_UPDATE if frame.stream == 0 => {
                self.room += i64::from(u32::from_be_bytes(frame.payload[..4].try_into().unwrap()));
            }
            DATA if !frame.payload.is_empty() => {
                entry.0 += frame.payload.len() as u64;
                let more = frame.payload.len() as u32;
                let mut thanks = window(0, more);
                if frame.stream == open && !frame.ends() {
                    thanks.extend(window(open, more));
                }
                self.send(&thanks).await;
            }
            _ => {}
        }
        frame
    }

    /// Until the other side has worked off everything that was sent.
    async fn settle(&mut self) {
        self.send(&frame(PING, 0, 0, b"settled?")).await;
        loop {
            let frame = self.step(0).await;
            if frame.kind == PING && frame.flags & ACK != 0 {
                return;
            }
        }
    }

    /// One of eight ways to give a stream up.
    async fn abort(&mut self, way: u32) {
        let id = self.id();
        let get = |target: &str| frame(HEADERS, END_HEADERS | END_STREAM, id, &request("GET", STORAGE, target));
        let post = |authority: &str| frame(HEADERS, END_HEADERS, id, &request("POST", authority, "/echo"));
        match way {
            0 => self.send(&get("/slow?ms=10000")).await,
            1 => self.send(&get(LARGE)).await,
            2 => {
                self.send(&get(LARGE)).await;
                while self.got.get(&id).is_none_or(|(length, _)| *length == 0) {
                    self.step(0).await;
                }
            }
            3 => {
                self.send(&post(STORAGE)).await;
                self.data(id, 0, &[7; 8000]).await;
            }
            4 => {
                // Padding counts too.
                self.send(&post(STORAGE)).await;
                let padded = [&[200][..], &[7; 7000], &[0; 200]].concat();
                self.data(id, PADDED, &padded).await;
            }
            5 => {
                self.send(&post(STORAGE)).await;
                self.data(id, END_STREAM, &[7; 8000]).await;
            }
            6 => {
                // Refused, its body never read.
                self.send(&post("evil.test")).await;
                self.data(id, 0, &[7; 8000]).await;
            }
            _ => {
                self.send(&post(STORAGE)).await;
                self.data(id, 0, &[7; 100]).await;
                let trailers = block(&[("grpc-status", "0")]);
                self.send(&frame(HEADERS, END_HEADERS | END_STREAM, id, &trailers)).await;
            }
        }
        if !self.got.get(&id).is_some_and(|(_, ended)| *ended) {
            self.settle().await;
            self.send(&reset(id, CANCEL)).await;
        }
        self.got.clear();
    }
}

/// They share one upstream connection with it, and its window.
#[tokio::test]
async fn a_short_call_beside_ninety_downloads_that_nobody_reads_is_answered() {
    let bed = Bed::start().await;
    bed.exchanges_reach(1).await;
    let mut stalled = open(&bed, &[(INITIAL_WINDOW, 0)]).await;
    for number in 0..90 {
        let head = request("GET", STORAGE, LARGE);
        write(&mut stalled, &frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, &head)).await;
    }
    let mut heads = 0;
    while heads < 90 {
        heads += usize::from(within("a head", next(&mut stalled)).await.unwrap().kind == HEADERS);
    }
    for _ in 0..100 {
        let mut connection = Counting::open(&bed).await;
        let id = connection.id();
        // Enough to need the window that is left.
        let target = "/storage/v1/b/b/o/o?alt=media&size=1000000";
        connection.send(&frame(HEADERS, END_HEADERS | END_STREAM, id, &request("GET", STORAGE, target))).await;
        while !connection.got.get(&id).is_some_and(|(_, ended)| *ended) {
            connection.step(id).await;
        }
        assert_eq!(connection.got[&id].0, 1_000_000);
    }
    assert_eq!(bed.google.connections(), 2, "the exchange's and one for all");
}

const PADDED: u8 = 8;
const LARGE: &str = "/storage/v1/b/b/o/o?alt=media&size=67108864";

#[tokio::test]
async fn streams_given_up_in_eight_ways_leave_the_connection_as_good_as_new() {
    let bed = Bed::start().await;
    bed.exchanges_reach(1).await;
    let (streams, mebibytes) = if full() { (10_000, 64) } else { (800, 4) };
    let mut connection = Counting::open(&bed).await;
    for number in 0..streams {
        connection.abort(number % 8).await;
    }
    connection.settle().await;
    let size: u64 = mebibytes << 20;
    let download = format!("/storage/v1/b/b/o/o?alt=media&size={size}");
    // As fast as on a connection that has seen nothing.
    let mut fresh = Counting::open(&bed).await;
    let mut took = Vec::new();
    for connection in [&mut fresh, &mut connection] {
        let begin = bed.clock.now();
        let id = connection.id();
        connection.send(&frame(HEADERS, END_HEADERS | END_STREAM, id, &request("GET", STORAGE, &download))).await;
        while !connection.got.get(&id).is_some_and(|(_, ended)| *ended) {
            connection.step(id).await;
        }
        assert_eq!(connection.got[&id].0, size);
        took.push(begin.until(bed.clock.now()));
    }
    assert!(took[1] < 3 * took[0] + std::time::Duration::from_secs(1), "{took:?}");
    // Upwards too: 16 MiB are twice the connection's window, in streams that end.
    for _ in 0..256 {
        let id = connection.id();
        connection.send(&frame(HEADERS, END_HEADERS, id, &request("POST", STORAGE, "/echo"))).await;
        for number in 0..4 {
            connection.data(id, if number == 3 { END_STREAM } else { 0 }, &[7; 16_384]).await;
        }
        while !connection.got.get(&id).is_some_and(|(_, ended)| *ended) {
            connection.step(id).await;
        }
    }
    assert!(bed.google.requests().iter().all(|seen| seen.authority == STORAGE));
}
