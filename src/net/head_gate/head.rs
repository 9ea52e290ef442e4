//! One head, line by line, down to how its body is framed.

use std::str;

use super::{
    Reason,
    field::{self, Field},
    host,
    request_line::RequestLine,
};

/// hyper's own bound, so that it never has to refuse a head for it.
pub(super) const MAX_FIELDS: u8 = 100;

/// What follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// The next head.
    Nothing,
    /// A body of that many bytes, at least one.
    Length(u64),
    /// Chunks; the client may be waiting for `100 Continue` before it sends any.
    Chunked { client_waits: bool },
    /// Bytes that are not HTTP, if the request succeeds.
    Opaque,
}

/// What the lines so far have said.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Head {
    request: Option<RequestLine>,
    fields: u8,
    has_host: bool,
    has_authorization: bool,
    length: Option<u64>,
    coding: Option<Coding>,
    expectation: Option<Expectation>,
    /// `Upgrade` lists `websocket`.
    names_websocket: bool,
    /// `Connection` lists `upgrade`.
    connection_upgrades: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Chunked,
    Further,
    Malformed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expectation {
    Continue,
    Unknown,
}

impl Head {
    /// Whether the request line has not been seen yet.
    pub(super) fn awaits_request_line(&self) -> bool {
        self.request.is_none()
    }

    /// Takes the next line, without CRLF. `Some` at the empty line that ends the head.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<Option<Framing>, Reason> {
        let Some(request) = self.request else {
            self.request = Some(RequestLine::parse(line)?);
            return Ok(None);
        };
        if line.is_empty() {
            return self.finish(request).map(Some);
        }
        self.fields += 1;
        if self.fields > MAX_FIELDS {
            return Err(Reason::TooManyFields);
        }
        self.field(&Field::parse(line)?)?;
        Ok(None)
    }

    fn field(&mut self, field: &Field<'_>) -> Result<(), Reason> {
        let value = field.value;
        // By length first: most fields are none of ours and cost one jump.
        match field.name.len() {
            4 if field.is(b"host") => self.host(value),
            6 if field.is(b"expect") => self.expect(value),
            7 if field.is(b"upgrade") => self.upgrade(value),
            10 if field.is(b"connection") => self.connection(value),
            13 if field.is(b"authorization") => self.authorization(),
            14 if field.is(b"content-length") => self.content_length(value),
            17 if field.is(b"transfer-encoding") => self.transfer_encoding(value),
            _ if field.is_guarded_in_disguise() => Err(Reason::UnderscoreName),
            _ => Ok(()),
        }
    }

    fn host(&mut self, value: &[u8]) -> Result<(), Reason> {
        if self.has_host {
            return Err(Reason::TwoHosts);
        }
        self.has_host = true;
        if host::is_authority(value) { Ok(()) } else { Err(Reason::Host) }
    }

    fn authorization(&mut self) -> Result<(), Reason> {
        if self.has_authorization {
            return Err(Reason::TwoAuthorizations);
        }
        self.has_authorization = true;
        Ok(())
    }

    fn expect(&mut self, value: &[u8]) -> Result<(), Reason> {
        let known = self.expectation.is_none() && value.eq_ignore_ascii_case(b"100-continue");
        self.expectation = Some(if known { Expectation::Continue } else { Expectation::Unknown });
        Ok(())
    }

    fn upgrade(&mut self, value: &[u8]) -> Result<(), Reason> {
        self.names_websocket |= field::lists_websocket(value);
        Ok(())
    }

    fn connection(&mut self, value: &[u8]) -> Result<(), Reason> {
        for option in field::elements(value) {
            if !field::is_token(option) || field::is_guarded(option) {
                return Err(Reason::Connection);
            }
        }
        self.connection_upgrades |= field::lists_upgrade(value);
        Ok(())
    }

    fn content_length(&mut self, value: &[u8]) -> Result<(), Reason> {
        let is_plain = value.iter().all(u8::is_ascii_digit) && matches!(value, [b'0'] | [b'1'..=b'9', ..]);
        let length = str::from_utf8(value).ok().filter(|_| is_plain).and_then(|text| text.parse::<i64>().ok());
        // Signed: a reader that keeps 2^63 in an i64 sees a negative length. Two lines are refused even
        // when equal, as a list in one line is.
        match (self.length, length.and_then(|length| u64::try_from(length).ok())) {
            (None, Some(length)) => {
                self.length = Some(length);
                Ok(())
            }
            _ => Err(Reason::ContentLength),
        }
    }

    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Reason> {
        self.coding = Some(match self.coding {
            None => coding(value),
            Some(_) => Coding::Malformed,
        });
        Ok(())
    }

    /// What only the whole head can tell.
    fn finish(&self, request: RequestLine) -> Result<Framing, Reason> {
        if !self.has_host && !request.is_http_10 {
            return Err(Reason::MissingHost);
        }
        let framing = match (self.coding, self.length) {
            (Some(_), Some(_)) => return Err(Reason::TwoFramings),
            (Some(_), None) if request.is_http_10 => return Err(Reason::TransferEncoding),
            (Some(Coding::Malformed), None) => return Err(Reason::TransferEncoding),
            (Some(Coding::Further), None) => return Err(Reason::UnsupportedCoding),
            (Some(Coding::Chunked), None) => Framing::Chunked { client_waits: self.expectation.is_some() },
            (None, Some(length)) if length > 0 => Framing::Length(length),
            (None, _) => Framing::Nothing,
        };
        if self.expectation == Some(Expectation::Unknown) {
            return Err(Reason::Expectation);
        }
        // RFC 9110 §7.8: without the connection option, and on HTTP/1.0, `Upgrade` says nothing. Other
        // protocols than WebSocket are never switched to, so theirs is a field like any other.
        let is_websocket = self.names_websocket && self.connection_upgrades && !request.is_http_10;
        let has_body = framing != Framing::Nothing;
        // On CONNECT even `Content-Length: 0` is refused: readers differ in whether it means anything.
        if (request.is_connect && (has_body || self.length.is_some())) || (is_websocket && has_body) {
            return Err(Reason::BodyRefused);
        }
        Ok(if request.is_connect || is_websocket { Framing::Opaque } else { framing })
    }
}

/// `chunked` alone is served; a proper list that ends in it is a request for codings we lack (501,
/// RFC 9112 §6.1); anything else leaves the end of the body in doubt.
fn coding(value: &[u8]) -> Coding {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Coding::Chunked;
    }
    let mut elements = value.rsplit(|&byte| byte == b',').map(field::trim);
    let ends_chunked = elements.next().is_some_and(|last| last.eq_ignore_ascii_case(b"chunked"));
    let is_further = |element: &[u8]| {
        field::is_token(element)
            && ![&b"chunked"[..], b"identity"].iter().any(|name| element.eq_ignore_ascii_case(name))
    };
    if ends_chunked && elements.all(is_further) { Coding::Further } else { Coding::Malformed }
}
