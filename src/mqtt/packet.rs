//! Where packets begin and end, and which exchange each belongs to (pure): MQTT 3.1.1 §2, MQTT 5 §2.
//!
//! Nothing of a packet is kept but what is needed to tell whether a session is at rest: its kind and its number. Bodies
//! of any size go past in pieces.

/// A version of the protocol that is spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1: level 4.
    V311,
    /// MQTT 5: level 5.
    V5,
}

/// Who sends a stream of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The program.
    Client,
    /// The broker.
    Broker,
}

/// A packet that may be relayed, as far as it matters (MQTT 3.1.1 §2.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet {
    /// The broker's answer to CONNECT, with its code; 0 = accepted.
    ConnAck(u8),
    /// PUBLISH; with a number from QoS 1 on.
    Publish(Option<u16>),
    /// The end of a QoS 1 exchange.
    PubAck(u16),
    /// The first answer of a QoS 2 exchange, and whether it refuses, which ends it (MQTT 5 §4.3.3).
    PubRec(u16, bool),
    /// The second step of a QoS 2 exchange.
    PubRel(u16),
    /// Its end.
    PubComp(u16),
    /// SUBSCRIBE or UNSUBSCRIBE.
    Subscribe(u16),
    /// SUBACK or UNSUBACK.
    SubAck(u16),
    /// PINGREQ or PINGRESP.
    Ping,
    /// The last packet of a session.
    Disconnect,
}

impl Packet {
    /// Whether a client begins something with it that must be answered.
    pub fn begins_exchange(self) -> bool {
        matches!(self, Self::Publish(Some(_)) | Self::Subscribe(_))
    }
}

/// Why a stream of packets cannot be relayed any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A type that this side never sends, or that does not exist in this version.
    #[error("a packet that this side may not send")]
    Type,
    /// Flags that its type does not have.
    #[error("a packet with flags that its type does not have")]
    Flags,
    /// A remaining length of more than four bytes or with needless ones, or one that does not fit its type.
    #[error("a packet whose length is not that of its type")]
    Length,
    /// Number 0.
    #[error("a packet with the number 0")]
    Number,
    /// CONNECT again (MQTT 3.1.1 §3.1): a credential that nobody put there would reach the broker.
    #[error("a second CONNECT")]
    SecondConnect,
    /// AUTH (MQTT 5 §4.12): what was agreed on with the token would be something else from then on.
    #[error("AUTH, which is not relayed")]
    Auth,
}

/// Bytes that are to be handled as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// How many.
    pub size: usize,
    /// The packet that begins with them.
    pub begins: Option<Packet>,
    /// Whether a packet ends with them.
    pub ends: bool,
}

/// Cuts one direction of a session into packets, however its bytes arrive. Their order is for client and broker to judge:
/// aedes, for one, sends what a resumed session waits for ahead of its CONNACK.
#[derive(Debug)]
pub struct Scanner {
    version: Version,
    sender: Sender,
    /// What is still to come of the packet that has begun.
    left: usize,
}

impl Scanner {
    /// At the first packet after the client's CONNECT.
    pub fn new(version: Version, sender: Sender) -> Self {
        Self { version, sender, left: 0 }
    }

    /// Whether what comes next is a new packet.
    pub fn is_between_packets(&self) -> bool {
        self.left == 0
    }

    /// What to do with the first of `bytes`; `None` = too few of them to tell.
    ///
    /// # Errors
    /// See [`Malformed`]; then nothing of the packet may go on.
    pub fn next(&mut self, bytes: &[u8]) -> Result<Option<Piece>, Malformed> {
        if self.left > 0 {
            let size = self.left.min(bytes.len());
            self.left -= size;
            return Ok((size > 0).then_some(Piece { size, begins: None, ends: self.left == 0 }));
        }
        let Some((packet, length)) = read(bytes, self.version, self.sender)? else { return Ok(None) };
        let size = length.min(bytes.len());
        self.left = length - size;
        Ok(Some(Piece { size, begins: Some(packet), ends: self.left == 0 }))
    }
}

/// The packet at the beginning of `bytes`, and its whole length; `None` = too few bytes to tell.
fn read(bytes: &[u8], version: Version, sender: Sender) -> Result<Option<(Packet, usize)>, Malformed> {
    let Some(first) = bytes.first() else { return Ok(None) };
    let (kind, flags) = (first >> 4, first & 0x0f);
    check_type(kind, version, sender)?;
    check_flags(kind, flags)?;
    let Some((length, header)) = remaining_length(&bytes[1..])? else { return Ok(None) };
    if !fits(kind, length, version) {
        return Err(Malformed::Length);
    }
    let Some(body) = bytes.get(1 + header..) else { return Ok(None) };
    let packet = match kind {
        2 => match body.get(1) {
            Some(code) => Packet::ConnAck(*code),
            None => return Ok(None),
        },
        3 => match publish(flags, length, body)? {
            Some(packet) => packet,
            None => return Ok(None),
        },
        12 | 13 => Packet::Ping,
        14 => Packet::Disconnect,
        _ => match numbered(kind, length, body)? {
            Some(packet) => packet,
            None => return Ok(None),
        },
    };
    Ok(Some((packet, 1 + header + length)))
}

/// MQTT 3.1.1 §2.2.1, MQTT 5 §2.1.2: who may send what.
fn check_type(kind: u8, version: Version, sender: Sender) -> Result<(), Malformed> {
    let may = match (sender, kind) {
        (Sender::Client, 1) => return Err(Malformed::SecondConnect),
        (_, 15) if version == Version::V5 => return Err(Malformed::Auth),
        (_, 3..=7) => true,
        (Sender::Client, 8 | 10 | 12 | 14) => true,
        (Sender::Broker, 14) => version == Version::V5,
        (Sender::Broker, 2 | 9 | 11 | 13) => true,
        _ => false,
    };
    if may { Ok(()) } else { Err(Malformed::Type) }
}

/// MQTT 3.1.1 §2.2.2 and §3.3.1.
fn check_flags(kind: u8, flags: u8) -> Result<(), Malformed> {
    let good = match kind {
        3 => flags & 0b0110 != 0b0110,
        6 | 8 | 10 => flags == 0b0010,
        _ => flags == 0,
    };
    if good { Ok(()) } else { Err(Malformed::Flags) }
}

/// MQTT 3.1.1 §2.2.3: seven bits in each byte, the lowest first, as few bytes as possible. Returns how many there were.
pub(super) fn remaining_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let mut length = 0;
    for (index, byte) in bytes.iter().take(MOST_LENGTH_BYTES).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let is_needless = *byte == 0 && index > 0;
            return if is_needless { Err(Malformed::Length) } else { Ok(Some((length, index + 1))) };
        }
    }
    if bytes.len() >= MOST_LENGTH_BYTES { Err(Malformed::Length) } else { Ok(None) }
}

/// Whether a packet of this type can have such a length at all.
fn fits(kind: u8, length: usize, version: Version) -> bool {
    let is_5 = version == Version::V5;
    match kind {
        2 | 4..=7 => {
            if is_5 {
                length >= 2
            } else {
                length == 2
            }
        }
        3 => length >= 2,
        // A number, and at least one filter or code.
        8 | 10 => length >= 5,
        9 => length >= 3,
        11 => {
            if is_5 {
                length >= 3
            } else {
                length == 2
            }
        }
        12 | 13 => length == 0,
        _ => is_5 || length == 0,
    }
}

fn publish(flags: u8, length: usize, body: &[u8]) -> Result<Option<Packet>, Malformed> {
    let Some(topic) = number(body) else { return Ok(None) };
    let end = 2 + usize::from(topic);
    let has_number = flags & 0b0110 != 0;
    if end + if has_number { 2 } else { 0 } > length {
        return Err(Malformed::Length);
    }
    if !has_number {
        return Ok(Some(Packet::Publish(None)));
    }
    let Some(id) = body.get(end..).and_then(number) else { return Ok(None) };
    Ok(Some(Packet::Publish(Some(checked(id)?))))
}

fn numbered(kind: u8, length: usize, body: &[u8]) -> Result<Option<Packet>, Malformed> {
    let Some(id) = number(body) else { return Ok(None) };
    let id = checked(id)?;
    Ok(Some(match kind {
        4 => Packet::PubAck(id),
        5 if length > 2 => match body.get(2) {
            Some(reason) => Packet::PubRec(id, *reason >= 0x80),
            None => return Ok(None),
        },
        5 => Packet::PubRec(id, false),
        6 => Packet::PubRel(id),
        7 => Packet::PubComp(id),
        8 | 10 => Packet::Subscribe(id),
        _ => Packet::SubAck(id),
    }))
}

fn number(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

/// MQTT 3.1.1 §2.3.1: numbers are not 0.
fn checked(id: u16) -> Result<u16, Malformed> {
    if id == 0 { Err(Malformed::Number) } else { Ok(id) }
}

const MOST_LENGTH_BYTES: usize = 4;
