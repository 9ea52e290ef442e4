//! What the fake is told to do: every knob in one value, changed by [`super::FakeGoogle::script`].

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;

/// How the fake behaves. The default is a healthy Google.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Script {
    /// Trouble at the token endpoint; the APIs stay up.
    pub outage: Outage,
    /// What STS and `iamcredentials` answer in place of the truth, by host: a status and a body of JSON.
    pub answers: BTreeMap<String, (u16, String)>,
    /// End the outage by itself after this many connections or requests met it.
    pub outage_times: Option<u32>,
    /// Wait before the token endpoint answers, on the fake's clock.
    pub token_delay: Duration,
    /// `Retry-After` on every answer of the token endpoint that is not a token, and on those of `answers`.
    pub retry_after: Option<String>,
    /// Life of an access token.
    pub lifetime: Duration,
    /// Hosts that take no self-signed token.
    pub refuse_self_signed: Vec<String>,
    /// Put this where `expires_in` should be, whatever the token's life is.
    pub expires_in: Option<serde_json::Value>,
    /// Characters in a token. Google documents up to 2048.
    pub token_length: usize,
    /// Answer with the account's last token while it lives, `expires_in` being what is left of it.
    pub same_token: bool,
    /// Google's clock minus ours, in seconds: moves `Date` and what is thought of `iat` and `exp`.
    pub skew: i64,
    /// The `Date` header.
    pub date: DateHeader,
    /// What ALPN offers.
    pub protocols: Protocols,
    /// Streams per HTTP/2 connection, for new connections.
    pub max_streams: u32,
    /// Certificates for some names (exact, lower-case); all others get a right one.
    pub certificates: BTreeMap<String, Certificate>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            outage: Outage::None,
            answers: BTreeMap::new(),
            outage_times: None,
            token_delay: Duration::ZERO,
            retry_after: None,
            // What Google answers: an hour less the second that the exchange took.
            lifetime: Duration::from_secs(3599),
            refuse_self_signed: Vec::new(),
            expires_in: None,
            token_length: 256,
            same_token: false,
            skew: 0,
            date: DateHeader::True,
            protocols: Protocols::Both,
            // Google's front ends announce 100.
            max_streams: 100,
            certificates: BTreeMap::new(),
        }
    }
}

/// Trouble at the token endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outage {
    /// None.
    #[default]
    None,
    /// Close the connection as soon as the hello has named the token endpoint.
    Refuse,
    /// Say nothing and close nothing, until the script changes.
    Blackhole,
    /// A certificate for another name.
    TlsError,
    /// This status with the front end's HTML page.
    Status(u16),
    /// This OAuth error.
    Error {
        /// HTTP status.
        status: u16,
        /// `error`.
        error: &'static str,
        /// `error_description`, left out when empty.
        description: &'static str,
    },
    /// 200 with nothing.
    EmptyBody,
    /// 200 with a page for people.
    Html,
    /// A right answer cut short: the connection dies inside the body.
    Truncated,
    /// Half of the JSON, ended cleanly.
    HalfJson,
    /// A body without end.
    Endless,
    /// One byte per second of real time.
    Drip,
    /// 100 000 nested arrays.
    Nested,
    /// 302 to this place.
    Redirect(String),
    /// These bytes with this status, as `application/json`.
    Answer(u16, Bytes),
}

impl Outage {
    /// Whether it strikes before a request can be made.
    pub(super) fn is_below_http(&self) -> bool {
        matches!(self, Self::Refuse | Self::Blackhole | Self::TlsError)
    }
}

/// What ALPN offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocols {
    /// HTTP/2 and HTTP/1.1.
    #[default]
    Both,
    /// HTTP/2 alone.
    H2,
    /// HTTP/1.1 alone.
    H1,
}

impl Protocols {
    pub(super) fn alpn(self) -> Vec<Vec<u8>> {
        match self {
            Self::Both => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            Self::H2 => vec![b"h2".to_vec()],
            Self::H1 => vec![b"http/1.1".to_vec()],
        }
    }
}

/// The `Date` header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DateHeader {
    /// Google's own clock.
    #[default]
    True,
    /// Google's own clock and this many seconds: a front end that lies.
    Shifted(i64),
    /// None at all.
    Absent,
    /// Not a date.
    Garbage,
}

/// Which certificate a name is answered with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Certificate {
    /// Right name, right CA, valid now.
    #[default]
    Right,
    /// Of another name.
    WrongName,
    /// Ended years ago.
    Expired,
    /// Signed by a CA that nobody was told of.
    Untrusted,
}
