//! Where one message ends and the next begins, and whether each may be shown to hyper: pure.
//!
//! Bytes go in as they come; out comes how many of them are judged good. Knows no I/O and no time, and
//! keeps no bytes: what is not released yet is shown again with the next call.

use super::{
    Reason,
    chunked::{Chunked, Stop},
    field::Field,
    head::{Framing, Head, MAX_FIELDS},
    line,
};

/// Everything of a head, the CRLFs included.
pub(super) const MAX_HEAD: usize = 32 * 1024;
/// Half of what hyper allows.
const MAX_TRAILERS: usize = 8 * 1024;
/// What an HTTP/2 client says first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Content type 22 of a TLS record.
const TLS_HANDSHAKE: u8 = 0x16;

/// The judge of one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Machine {
    state: State,
    head: Head,
    chunked: Chunked,
    /// Where what is being held back begins: a head, trailers.
    begin: usize,
    /// Where the line being read begins.
    line: usize,
    /// The next byte to look at. All three count from the first byte not released.
    at: usize,
    /// An empty line went before the head.
    has_empty_line: bool,
    trailers: u8,
    /// The client of the head held back waits for `100 Continue` before it sends a chunk.
    client_waits: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No byte yet.
    Opening { allows_h2: bool },
    /// In a head.
    Head,
    /// Behind the head of a chunked request that waits for the line of its first chunk.
    FirstChunk,
    /// That many bytes of a body are to come.
    Body(u64),
    /// In a chunked body, the head released.
    Chunks,
    /// Behind the line of the last chunk.
    Trailers,
    /// Over: see the verdict.
    Over(Verdict),
}

/// What to do after the released bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Wait for more bytes.
    More,
    /// Answer in place of the request that begins there, then read no more.
    Refuse(Reason),
    /// Break the connection: an answer is under way or hyper has the head already.
    Break(Reason),
    /// What follows a CONNECT or WebSocket head is not HTTP.
    Opaque,
    /// HTTP/2: everything passes.
    Transparent,
}

/// The judgement on the bytes shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Judgement {
    /// How many bytes from the start may be released; they must not be shown again.
    pub(super) release: usize,
    pub(super) verdict: Verdict,
}

impl Machine {
    pub(super) fn new(allows_h2: bool) -> Self {
        Self {
            state: State::Opening { allows_h2 },
            head: Head::default(),
            chunked: Chunked::default(),
            begin: 0,
            line: 0,
            at: 0,
            has_empty_line: false,
            trailers: 0,
            client_waits: false,
        }
    }

    /// Judges `bytes`: all that is not released, the new ones last.
    pub(super) fn judge(&mut self, bytes: &[u8]) -> Judgement {
        let verdict = loop {
            match self.step(bytes) {
                Ok(true) => {}
                Ok(false) => break Verdict::More,
                Err(verdict) => {
                    self.state = State::Over(verdict);
                    break verdict;
                }
            }
        };
        if verdict == Verdict::More && self.holds_a_head() && self.client_waits {
            self.let_go_here();
        }
        if verdict == Verdict::Transparent {
            self.begin = bytes.len();
        }
        Judgement { release: self.release(), verdict }
    }

    /// Whether a whole head is held back until the line of its first chunk has come.
    pub(super) fn holds_a_head(&self) -> bool {
        self.state == State::FirstChunk
    }

    /// Whether a head has begun and not ended. An empty line alone begins none.
    pub(super) fn is_within_a_head(&self) -> bool {
        self.state == State::Head && (self.at > self.line || !self.head.awaits_request_line())
    }

    /// Waits no longer for the rest of a head.
    pub(super) fn give_up(&mut self, reason: Reason) -> Verdict {
        let verdict = Verdict::Refuse(reason);
        self.state = State::Over(verdict);
        verdict
    }

    /// Gives up holding a head; the number of bytes this releases.
    pub(super) fn let_go(&mut self) -> usize {
        if self.holds_a_head() {
            self.let_go_here();
        }
        self.release()
    }

    fn let_go_here(&mut self) {
        self.begin = self.at;
        self.state = State::Chunks;
    }

    /// Everything before `begin` is good; from now on positions count from there.
    fn release(&mut self) -> usize {
        let good = std::mem::take(&mut self.begin);
        self.at = self.at.saturating_sub(good);
        self.line = self.line.saturating_sub(good);
        good
    }

    /// One state further. `Ok(false)`: more bytes are needed.
    fn step(&mut self, bytes: &[u8]) -> Result<bool, Verdict> {
        match self.state {
            State::Over(verdict) => Err(verdict),
            _ if self.at == bytes.len() => Ok(false),
            State::Opening { allows_h2 } => self.open(bytes, allows_h2),
            State::Head => self.head(bytes),
            State::FirstChunk | State::Chunks => self.chunks(bytes),
            State::Body(left) => {
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - self.at);
                self.at += taken;
                self.begin = self.at;
                match left - taken as u64 {
                    0 => self.next_message(),
                    left => self.state = State::Body(left),
                }
                Ok(true)
            }
            State::Trailers => self.trailers(bytes).map_err(Verdict::Break),
        }
    }

    fn open(&mut self, bytes: &[u8], allows_h2: bool) -> Result<bool, Verdict> {
        if bytes[0] == TLS_HANDSHAKE {
            return Err(Verdict::Break(Reason::TlsOnPlainPort));
        }
        if allows_h2 && bytes.starts_with(PREFACE) {
            return Err(Verdict::Transparent);
        }
        if allows_h2 && PREFACE.starts_with(bytes) {
            return Ok(false);
        }
        self.state = State::Head;
        Ok(true)
    }

    fn head(&mut self, bytes: &[u8]) -> Result<bool, Verdict> {
        let limit = self.begin + MAX_HEAD;
        let Some(end) = line::end(bytes, &mut self.at, limit).map_err(Verdict::Refuse)? else {
            return match self.at {
                at if at < limit => Ok(false),
                _ if self.head.awaits_request_line() => Err(Verdict::Refuse(Reason::TargetTooLong)),
                _ => Err(Verdict::Refuse(Reason::HeadTooLarge)),
            };
        };
        let line = &bytes[self.line..end];
        self.line = self.at;
        if line.is_empty() && self.head.awaits_request_line() {
            // RFC 9112 §2.2: one CRLF too many after a body is forgiven. hyper skips it, so it stays.
            let is_second = std::mem::replace(&mut self.has_empty_line, true);
            return if is_second { Err(Verdict::Refuse(Reason::EmptyLines)) } else { Ok(true) };
        }
        match self.head.line(line).map_err(Verdict::Refuse)? {
            None => return Ok(true),
            Some(Framing::Chunked { client_waits }) => {
                self.chunked = Chunked::default();
                self.client_waits = client_waits;
                self.state = State::FirstChunk;
                return Ok(true);
            }
            Some(Framing::Nothing) => self.next_message(),
            Some(Framing::Length(length)) => self.state = State::Body(length),
            Some(Framing::Opaque) => {
                self.begin = self.at;
                return Err(Verdict::Opaque);
            }
        }
        self.begin = self.at;
        Ok(true)
    }

    fn chunks(&mut self, bytes: &[u8]) -> Result<bool, Verdict> {
        let is_held = self.state == State::FirstChunk;
        let stop = self.chunked.take(bytes, &mut self.at);
        if is_held {
            // Not a byte of a request goes upstream whose body is malformed from its first byte on.
            match stop {
                Err(reason) => return Err(Verdict::Refuse(reason)),
                Ok(Stop::More) => return Ok(false),
                Ok(Stop::Data | Stop::Trailers) => {}
            }
        }
        self.begin = self.at;
        self.line = self.at;
        self.trailers = 0;
        self.state = match stop.map_err(Verdict::Break)? {
            Stop::More | Stop::Data => State::Chunks,
            Stop::Trailers => State::Trailers,
        };
        Ok(true)
    }

    fn trailers(&mut self, bytes: &[u8]) -> Result<bool, Reason> {
        let limit = self.begin + MAX_TRAILERS;
        let Some(end) = line::end(bytes, &mut self.at, limit).map_err(|_| Reason::Trailer)? else {
            return if self.at < limit { Ok(false) } else { Err(Reason::TrailerTooLarge) };
        };
        let line = &bytes[self.line..end];
        self.line = self.at;
        if line.is_empty() {
            self.next_message();
            return Ok(true);
        }
        self.trailers += 1;
        if self.trailers > MAX_FIELDS {
            return Err(Reason::TrailerTooLarge);
        }
        let field = Field::parse(line).map_err(|_| Reason::Trailer)?;
        if field.is_refused_as_trailer() { Err(Reason::TrailerName) } else { Ok(true) }
    }

    fn next_message(&mut self) {
        self.begin = self.at;
        self.line = self.at;
        self.head = Head::default();
        self.has_empty_line = false;
        self.state = State::Head;
    }
}
