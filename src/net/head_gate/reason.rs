//! Why the gate refuses, as a closed set: a status, a metric label and a sentence for people.

use std::fmt;

use http::StatusCode;

/// The answer to a refused request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What to answer with, always together with `Connection: close`.
    pub status: StatusCode,
    /// Why.
    pub reason: Reason,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self { status: reason.status(), reason }
    }
}

/// What is wrong with the bytes of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The first byte on a plain port opens a TLS handshake.
    TlsOnPlainPort,
    /// More than one empty line before a request.
    EmptyLines,
    /// A line ends in LF alone.
    BareLf,
    /// A CR is not followed by LF.
    BareCr,
    /// A control byte where text belongs.
    ControlByte,
    /// Not `METHOD SP target SP HTTP/1.x`.
    RequestLine,
    /// The method is not a token, or longer than any real one.
    Method,
    /// TRACE or TRACK: the answer would show the client what we added to its request.
    MethodRefused,
    /// CONNECT where tunnels are not opened.
    TunnelRefused,
    /// Neither HTTP/1.1 nor HTTP/1.0.
    Version,
    /// The target has a form its method may not have, or bytes no target has.
    Target,
    /// The target is longer than 8 KiB.
    TargetTooLong,
    /// The head is larger than 32 KiB.
    HeadTooLarge,
    /// The head was not whole ten seconds after its first byte.
    SlowHead,
    /// The head has more than 100 fields.
    TooManyFields,
    /// A field line begins with white space.
    FoldedLine,
    /// A field line without a proper name before its colon.
    FieldName,
    /// `_` in place of `-` in a name that carries a credential or frames a message.
    UnderscoreName,
    /// HTTP/1.1 without `Host`.
    MissingHost,
    /// Two `Host` fields.
    TwoHosts,
    /// `Host` is not `name` or `name:port`.
    Host,
    /// Two `Authorization` fields.
    TwoAuthorizations,
    /// `Connection` is not a list of names, or names a field that must stay.
    Connection,
    /// An expectation other than `100-continue`.
    Expectation,
    /// `Content-Length` is not one plain decimal number.
    ContentLength,
    /// `Transfer-Encoding` is not exactly `chunked` on HTTP/1.1.
    TransferEncoding,
    /// `Transfer-Encoding` names a further coding.
    UnsupportedCoding,
    /// Both `Content-Length` and `Transfer-Encoding`.
    TwoFramings,
    /// CONNECT or a WebSocket handshake announces a body.
    BodyRefused,
    /// A chunk size is not 1 to 16 hexadecimal digits and CRLF.
    ChunkSize,
    /// A chunk extension is malformed.
    ChunkExtension,
    /// Chunk extensions are larger than 256 bytes in a chunk or 4 KiB in a body.
    ChunkExtensionTooLarge,
    /// The data of a chunk is not followed by CRLF.
    ChunkEnd,
    /// A trailer field line is malformed.
    Trailer,
    /// A trailer names a field that belongs into a head.
    TrailerName,
    /// Trailers are larger than 8 KiB or more than 100.
    TrailerTooLarge,
}

impl Reason {
    /// Every one, so that each series exists from the start.
    pub const ALL: &'static [Self] = &[
        Self::TlsOnPlainPort,
        Self::EmptyLines,
        Self::BareLf,
        Self::BareCr,
        Self::ControlByte,
        Self::RequestLine,
        Self::Method,
        Self::MethodRefused,
        Self::TunnelRefused,
        Self::Version,
        Self::Target,
        Self::TargetTooLong,
        Self::HeadTooLarge,
        Self::SlowHead,
        Self::TooManyFields,
        Self::FoldedLine,
        Self::FieldName,
        Self::UnderscoreName,
        Self::MissingHost,
        Self::TwoHosts,
        Self::Host,
        Self::TwoAuthorizations,
        Self::Connection,
        Self::Expectation,
        Self::ContentLength,
        Self::TransferEncoding,
        Self::UnsupportedCoding,
        Self::TwoFramings,
        Self::BodyRefused,
        Self::ChunkSize,
        Self::ChunkExtension,
        Self::ChunkExtensionTooLarge,
        Self::ChunkEnd,
        Self::Trailer,
        Self::TrailerName,
        Self::TrailerTooLarge,
    ];

    /// The status a refused head is answered with.
    pub fn status(self) -> StatusCode {
        match self {
            Self::MethodRefused | Self::TunnelRefused => StatusCode::METHOD_NOT_ALLOWED,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::SlowHead => StatusCode::REQUEST_TIMEOUT,
            Self::HeadTooLarge | Self::TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::UnsupportedCoding => StatusCode::NOT_IMPLEMENTED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The metric label.
    pub fn label(self) -> &'static str {
        self.texts().0
    }

    /// What to tell a person. Holds nothing the client sent.
    pub fn message(self) -> &'static str {
        self.texts().1
    }

    fn texts(self) -> (&'static str, &'static str) {
        match self {
            Self::TlsOnPlainPort => ("tls_on_proxy_port", "TLS on a port that speaks plain HTTP"),
            Self::EmptyLines => ("empty_lines", "more than one empty line before the request"),
            Self::BareLf => ("bare_lf", "a line ends in LF without CR"),
            Self::BareCr => ("bare_cr", "CR without LF"),
            Self::ControlByte => ("control_byte", "control byte in the head"),
            Self::RequestLine => ("request_line", "the request line is not method, target and version"),
            Self::Method => ("method", "the method is not a token of at most 64 bytes"),
            Self::MethodRefused => ("method_refused", "TRACE and TRACK are not served"),
            Self::TunnelRefused => ("connect_inside", "CONNECT is accepted on the proxy port only"),
            Self::Version => ("version", "the version is neither HTTP/1.1 nor HTTP/1.0"),
            Self::Target => ("target", "the request target is malformed or not fit for its method"),
            Self::TargetTooLong => ("target_too_long", "the request target is longer than 8 KiB"),
            Self::HeadTooLarge => ("head_too_large", "the head is larger than 32 KiB"),
            Self::SlowHead => ("slow_head", "the head was not whole within 10 s"),
            Self::TooManyFields => ("too_many_fields", "the head has more than 100 fields"),
            Self::FoldedLine => ("folded_line", "a field line begins with white space"),
            Self::FieldName => ("field_name", "a field line has no proper name before its colon"),
            Self::UnderscoreName => ("underscore_name", "a guarded field name is spelled with an underscore"),
            Self::MissingHost => ("missing_host", "the Host field is missing"),
            Self::TwoHosts => ("two_hosts", "more than one Host field"),
            Self::Host => ("host", "the Host field is not a host with an optional port"),
            Self::TwoAuthorizations => ("two_authorizations", "more than one Authorization field"),
            Self::Connection => ("connection", "the Connection field is malformed or names a field that must stay"),
            Self::Expectation => ("expectation", "the only expectation served is 100-continue"),
            Self::ContentLength => ("content_length", "Content-Length is not one plain decimal number"),
            Self::TransferEncoding => ("transfer_encoding", "Transfer-Encoding is not exactly chunked, on HTTP/1.1"),
            Self::UnsupportedCoding => ("unsupported_coding", "the only transfer coding served is chunked"),
            Self::TwoFramings => ("two_framings", "both Content-Length and Transfer-Encoding"),
            Self::BodyRefused => ("body_refused", "CONNECT and WebSocket requests have no body"),
            Self::ChunkSize => ("chunk_size", "a chunk size is not 1 to 16 hexadecimal digits and CRLF"),
            Self::ChunkExtension => ("chunk_extension", "a chunk extension is malformed"),
            Self::ChunkExtensionTooLarge => ("chunk_extension_too_large", "chunk extensions are too large"),
            Self::ChunkEnd => ("chunk_end", "chunk data is not followed by CRLF"),
            Self::Trailer => ("trailer", "a trailer field is malformed"),
            Self::TrailerName => ("trailer_name", "a trailer names a field that belongs into a head"),
            Self::TrailerTooLarge => ("trailer_too_large", "trailers are larger than 8 KiB or more than 100"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

/// The gate breaks a connection with an `io::Error` that carries the reason.
impl std::error::Error for Reason {}
