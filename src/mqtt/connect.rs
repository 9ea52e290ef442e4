//! CONNECT read and written anew, and CONNACK that refuses it (pure): MQTT 3.1.1 §3.1 and §3.2, MQTT 5 §3.1 and §3.2.
//!
//! Refuses to know tokens: what is put in is bytes.

use zeroize::Zeroizing;

use super::{
    packet::{Version, remaining_length},
    properties,
};

/// A CONNECT that can be served. Whoever the client said it was has no place here.
#[derive(Debug, PartialEq, Eq)]
pub struct Connect {
    /// What the client speaks.
    pub version: Version,
    flags: u8,
    /// Keep-alive and, in MQTT 5, the properties: everything between flags and payload.
    settings: Vec<u8>,
    /// Client id and will.
    payload: Vec<u8>,
}

/// A first packet that is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Another packet, or none of MQTT at all.
    #[error("the first packet is no CONNECT of MQTT")]
    NotConnect,
    /// A TLS hello.
    #[error("the client speaks TLS, and this port is for those that leave that to bearerd")]
    Tls,
    /// Breaks a rule; in which version, where that is known.
    #[error("the CONNECT is malformed")]
    Malformed(Option<Version>),
    /// MQTT 3.1, or a version that does not exist yet.
    #[error("a version of MQTT other than 3.1.1 and 5")]
    Unsupported {
        /// The version that CONNACK is written in.
        answer: Version,
    },
    /// An authentication method of its own (MQTT 5 §4.12).
    #[error("the CONNECT has an authentication method of its own")]
    Authentication,
    /// More than a CONNECT ever has.
    #[error("the CONNECT is longer than {} KiB", MOST / 1024)]
    TooLong,
}

impl Refused {
    /// The metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::NotConnect => "mqtt_not_connect",
            Self::Tls => "mqtt_tls",
            Self::Malformed(_) => "mqtt_malformed",
            Self::Unsupported { .. } => "mqtt_version",
            Self::Authentication => "mqtt_authentication",
            Self::TooLong => "mqtt_too_long",
        }
    }

    /// What the client is told, if there is a form for that.
    pub fn answer(self) -> Option<Vec<u8>> {
        match self {
            Self::Unsupported { answer } => Some(connack(answer, Code::Version)),
            Self::Malformed(Some(Version::V5)) => Some(connack(Version::V5, Code::Malformed)),
            Self::Authentication => Some(connack(Version::V5, Code::Method)),
            Self::NotConnect | Self::Tls | Self::Malformed(_) | Self::TooLong => None,
        }
    }
}

/// What a CONNACK refuses with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Another version is spoken here.
    Version,
    /// MQTT 5 only.
    Malformed,
    /// MQTT 5 only: an authentication method.
    Method,
    /// No token, or no broker.
    Unavailable,
}

/// MQTT 3.1.1 §3.2.2.3, MQTT 5 §3.2.2.2.
pub fn connack(version: Version, code: Code) -> Vec<u8> {
    let code = match (version, code) {
        (Version::V311, Code::Version | Code::Malformed | Code::Method) => 0x01,
        (Version::V311, Code::Unavailable) => 0x03,
        (Version::V5, Code::Version) => 0x84,
        (Version::V5, Code::Malformed) => 0x81,
        (Version::V5, Code::Method) => 0x8c,
        (Version::V5, Code::Unavailable) => 0x88,
    };
    match version {
        Version::V311 => vec![0x20, 2, 0, code],
        Version::V5 => vec![0x20, 3, 0, code, 0],
    }
}

/// The length of the whole packet that begins with `bytes`; `None` = too few of them to tell.
///
/// # Errors
/// As soon as it can be no CONNECT that is served.
pub fn length(bytes: &[u8]) -> Result<Option<usize>, Refused> {
    let Some(first) = bytes.first() else { return Ok(None) };
    match first {
        0x10 => {}
        // Of TLS, the type of a record that holds a handshake.
        0x16 => return Err(Refused::Tls),
        0x11..=0x1f => return Err(Refused::Malformed(None)),
        _ => return Err(Refused::NotConnect),
    }
    let Some((length, header)) = remaining_length(&bytes[1..]).map_err(|_| Refused::Malformed(None))? else {
        return Ok(None);
    };
    let whole = 1 + header + length;
    if whole > MOST { Err(Refused::TooLong) } else { Ok(Some(whole)) }
}

impl Connect {
    /// Reads a whole packet, which is as long as [`length`] says.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn read(packet: &[u8]) -> Result<Self, Refused> {
        let bad = Refused::Malformed(None);
        let (_, header) = packet.get(1..).and_then(|rest| remaining_length(rest).ok().flatten()).ok_or(bad)?;
        if length(packet)? != Some(packet.len()) {
            return Err(bad);
        }
        let mut reader = Reader(packet.get(1 + header..).ok_or(bad)?);
        let version = version(&mut reader)?;
        Self::rest(version, &mut reader).ok_or(Refused::Malformed(Some(version))).and_then(|read| read)
    }

    /// What follows the protocol's level. `None` = it breaks a rule.
    fn rest(version: Version, reader: &mut Reader<'_>) -> Option<Result<Self, Refused>> {
        let flags = reader.byte().filter(|flags| are_consistent(*flags, version))?;
        let begin = reader.0;
        reader.take(2)?;
        if version == Version::V5
            && properties::read(reader, properties::Place::Connect)? == properties::Found::Authentication
        {
            return Some(Err(Refused::Authentication));
        }
        let settings = begin[..begin.len() - reader.0.len()].to_vec();
        let begin = reader.0;
        reader.text()?;
        if flags & WILL != 0 {
            if version == Version::V5 {
                properties::read(reader, properties::Place::Will)?;
            }
            reader.text()?;
            reader.bytes()?;
        }
        let payload = begin[..begin.len() - reader.0.len()].to_vec();
        if flags & USERNAME != 0 {
            reader.text()?;
        }
        if flags & PASSWORD != 0 {
            reader.bytes()?;
        }
        reader.0.is_empty().then_some(Ok(Self { version, flags, settings, payload }))
    }

    /// The packet for the broker: the client's, with this user and password and no other. `None` = too long for the
    /// protocol.
    pub fn with(&self, username: &str, password: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (user_size, password_size) = (u16::try_from(username.len()).ok()?, u16::try_from(password.len()).ok()?);
        let level = match self.version {
            Version::V311 => 4,
            Version::V5 => 5,
        };
        let fixed = [0, 4, b'M', b'Q', b'T', b'T', level, self.flags | USERNAME | PASSWORD];
        let body = fixed.len() + self.settings.len() + self.payload.len() + 4 + username.len() + password.len();
        // Room for all at once: a vector that grows would leave a copy of the password behind.
        let mut packet = Zeroizing::new(Vec::with_capacity(5 + body));
        packet.push(0x10);
        let mut left = body;
        loop {
            let more = if left > 0x7f { 0x80 } else { 0 };
            packet.push((left & 0x7f) as u8 | more);
            left >>= 7;
            if left == 0 {
                break;
            }
        }
        packet.extend_from_slice(&fixed);
        packet.extend_from_slice(&self.settings);
        packet.extend_from_slice(&self.payload);
        packet.extend_from_slice(&user_size.to_be_bytes());
        packet.extend_from_slice(username.as_bytes());
        packet.extend_from_slice(&password_size.to_be_bytes());
        packet.extend_from_slice(password);
        Some(packet)
    }
}

/// Protocol name and level (MQTT 3.1.1 §3.1.2.1 and 2).
fn version(reader: &mut Reader<'_>) -> Result<Version, Refused> {
    let name = reader.bytes().ok_or(Refused::NotConnect)?;
    let level = reader.byte();
    match (name, level) {
        (b"MQTT", Some(4)) => Ok(Version::V311),
        (b"MQTT", Some(5)) => Ok(Version::V5),
        (b"MQIsdp", Some(_)) | (b"MQTT", Some(0..=3)) => Err(Refused::Unsupported { answer: Version::V311 }),
        (b"MQTT", Some(_)) => Err(Refused::Unsupported { answer: Version::V5 }),
        (b"MQTT" | b"MQIsdp", None) => Err(Refused::Malformed(None)),
        _ => Err(Refused::NotConnect),
    }
}

/// MQTT 3.1.1 §3.1.2.3 to 9: nothing about a will that is not there, and, before MQTT 5, no password without a user.
fn are_consistent(flags: u8, version: Version) -> bool {
    let (has_will, qos) = (flags & WILL != 0, (flags >> 3) & 0b11);
    let will = if has_will { qos < 3 } else { flags & (WILL_QOS | WILL_RETAIN) == 0 };
    let password = version == Version::V5 || flags & USERNAME != 0 || flags & PASSWORD == 0;
    flags & RESERVED == 0 && will && password
}

/// Takes fields off the front; `None` = not as written there.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, size: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(size)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|taken| taken[0])
    }

    /// Two bytes of length, and as many bytes (MQTT 5 §1.5.6).
    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let size = self.take(2)?;
        self.take(usize::from(u16::from_be_bytes([size[0], size[1]])))
    }

    /// The same, of UTF-8 without U+0000 (MQTT 3.1.1 §1.5.3).
    pub(super) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok().filter(|text| !text.contains('\0'))
    }
}

const USERNAME: u8 = 0x80;
const PASSWORD: u8 = 0x40;
const WILL_RETAIN: u8 = 0x20;
const WILL_QOS: u8 = 0x18;
const WILL: u8 = 0x04;
const RESERVED: u8 = 0x01;

/// A will may be long; nothing else in it is.
pub const MOST: usize = 64 * 1024;
