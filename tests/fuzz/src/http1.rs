//! A second reader of HTTP/1.1, by the letter of RFC 9112 and with no leniency: it panics where a reader could
//! differ. It sees whole streams, never pieces, and is written to be read, not to be fast.

/// One request.
#[derive(Debug)]
pub struct Message {
    pub method: String,
    pub target: Vec<u8>,
    pub is_http_10: bool,
    /// Names in lower case.
    pub fields: Vec<(String, Vec<u8>)>,
    /// `None` when the stream ends, or breaks, inside it.
    pub body: Option<Body>,
    /// Where in the stream it begins, with the empty line that may stand before it.
    pub at: usize,
    /// Where its head has ended.
    pub head_end: usize,
    /// Where the part behind the last chunk begins.
    pub trailers_at: Option<usize>,
}

#[derive(Debug, Default)]
pub struct Body {
    pub bytes: Vec<u8>,
    pub trailers: Vec<(String, Vec<u8>)>,
}

impl Message {
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.fields.iter().filter(move |(found, _)| found == name).map(|(_, value)| &value[..])
    }

    fn lists(&self, name: &str, wanted: &str) -> bool {
        self.values(name).flat_map(|value| value.split(|byte| *byte == b',')).any(|element| {
            // No blank stands between a protocol's name and its version (RFC 9110 7.8).
            let element = String::from_utf8_lossy(element);
            element.trim_matches([' ', '\t']).split('/').next().is_some_and(|name| name.eq_ignore_ascii_case(wanted))
        })
    }

    /// Whether a server may close behind the answer.
    pub fn may_close(&self) -> bool {
        self.is_http_10 || self.lists("connection", "close")
    }

    /// Whether what follows is not HTTP.
    pub fn is_tunnel(&self) -> bool {
        self.method == "CONNECT"
            || (!self.is_http_10 && self.lists("connection", "upgrade") && self.lists("upgrade", "websocket"))
    }
}

/// All requests of a stream that was judged good; the last may lack its end.
pub fn read(stream: &[u8]) -> Vec<Message> {
    let (mut messages, mut bytes) = (Vec::new(), stream);
    while !bytes.is_empty() {
        let at = stream.len() - bytes.len();
        // One empty line before a request is legal.
        let head = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
        let end = find(head, b"\r\n\r\n").expect("half a head was let through");
        let (mut message, length) = read_head(&head[..end]);
        bytes = &head[end + 4..];
        message.at = at;
        message.head_end = stream.len() - bytes.len();
        if message.is_tunnel() {
            assert!(bytes.is_empty(), "bytes behind a tunnel's head were let through");
        }
        let body = match length {
            Length::Known(length) => (bytes.len() >= length).then(|| {
                let (body, rest) = bytes.split_at(length);
                (Body { bytes: body.to_vec(), trailers: Vec::new() }, rest)
            }),
            Length::Chunked => read_chunks(bytes, |rest| message.trailers_at = Some(stream.len() - rest.len())),
        };
        let rest = body.as_ref().map_or(&b""[..], |(_, rest)| rest);
        bytes = rest;
        message.body = body.map(|(body, _)| body);
        messages.push(message);
    }
    messages
}

enum Length {
    Known(usize),
    Chunked,
}

fn read_head(head: &[u8]) -> (Message, Length) {
    let mut lines = split(head, b"\r\n").into_iter();
    let first = lines.next().expect("a request line");
    let parts: Vec<&[u8]> = first.split(|byte| *byte == b' ').collect();
    let [method, target, version] = parts[..] else { panic!("a request line of {} parts", parts.len()) };
    assert!(is_token(method), "method");
    assert!(!target.is_empty() && target.iter().all(|byte| *byte > 0x20 && *byte != 0x7f), "target");
    let is_http_10 = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ => panic!("version"),
    };
    let fields: Vec<_> = lines.map(read_field).collect();
    assert!(fields.len() <= 100, "{} fields", fields.len());
    let method = String::from_utf8_lossy(method).into_owned();
    let message = Message {
        method,
        target: target.to_vec(),
        is_http_10,
        fields,
        body: None,
        at: 0,
        head_end: 0,
        trailers_at: None,
    };

    let count = |name: &str| message.values(name).count();
    assert!(count("host") == 1 || (is_http_10 && count("host") == 0), "{} Host fields", count("host"));
    assert!(count("authorization") <= 1, "{} Authorization fields", count("authorization"));
    assert!(!matches!(message.method.to_ascii_uppercase().as_str(), "TRACE" | "TRACK"), "{}", message.method);
    for (name, _) in &message.fields {
        let read_loosely = name.replace('_', "-");
        let is_disguised = *name != read_loosely && FRAMING.contains(&read_loosely.as_str());
        assert!(!is_disguised, "{name} is {read_loosely} to some");
    }
    let lengths: Vec<_> = message.values("content-length").collect();
    let codings: Vec<_> = message.values("transfer-encoding").collect();
    let length = match (&lengths[..], &codings[..]) {
        ([], []) => Length::Known(0),
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") && !is_http_10 => Length::Chunked,
        ([digits], []) => {
            let digits = std::str::from_utf8(digits).expect("digits");
            assert!(!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()), "Content-Length {digits}");
            Length::Known(digits.parse().expect("a length"))
        }
        _ => panic!("{lengths:?} and {codings:?}"),
    };
    (message, length)
}

fn read_field(line: &[u8]) -> (String, Vec<u8>) {
    let colon = line.iter().position(|byte| *byte == b':').expect("a colon");
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    assert!(is_token(name), "field name");
    assert!(value.iter().all(|byte| *byte >= 0x20 && *byte != 0x7f || *byte == b'\t'), "field value");
    let start = value.iter().position(|byte| !is_space(*byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_space(*byte)).map_or(start, |last| last + 1);
    (String::from_utf8_lossy(name).to_ascii_lowercase(), value[start..end].to_vec())
}

/// `None` when the end is not there.
fn read_chunks<'a>(mut bytes: &'a [u8], trailers: impl FnOnce(&'a [u8])) -> Option<(Body, &'a [u8])> {
    let mut body = Body::default();
    loop {
        let end = find(bytes, b"\r\n")?;
        let line = &bytes[..end];
        bytes = &bytes[end + 2..];
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
        assert!((1..=16).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit), "chunk size");
        let has_bad = line.iter().any(|byte| *byte < 0x20 && *byte != b'\t' || *byte == 0x7f);
        assert!(!has_bad, "control byte in a chunk extension");
        let size = usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).expect("a size");
        if size == 0 {
            break;
        }
        let (data, rest) = bytes.split_at_checked(size)?;
        body.bytes.extend_from_slice(data);
        if rest.len() < 2 {
            return None;
        }
        bytes = rest.strip_prefix(b"\r\n").expect("CRLF behind a chunk");
    }
    trailers(bytes);
    loop {
        let end = find(bytes, b"\r\n")?;
        let line = &bytes[..end];
        bytes = &bytes[end + 2..];
        if line.is_empty() {
            return Some((body, bytes));
        }
        let (name, value) = read_field(line);
        assert!(!FRAMING.contains(&name.replace('_', "-").as_str()), "{name} in a trailer");
        body.trailers.push((name, value));
    }
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|part| part == wanted)
}

fn split<'a>(mut bytes: &'a [u8], at: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    while let Some(end) = find(bytes, at) {
        parts.push(&bytes[..end]);
        bytes = &bytes[end + at.len()..];
    }
    parts.push(bytes);
    parts
}

/// Whoever believes one of these under another spelling, or in a trailer, reads another message.
const FRAMING: &[&str] = &["host", "authorization", "proxy-authorization", "content-length", "transfer-encoding"];
