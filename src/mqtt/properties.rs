//! The properties of a CONNECT and of its will (pure): MQTT 5 §2.2.2, §3.1.2.11 and §3.1.3.2.
//!
//! Read to know that they are what they say, and that no authentication of another kind hides among them.

use super::{connect::Reader, packet::remaining_length};

/// Where properties stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the header of CONNECT.
    Connect,
    /// Before the will.
    Will,
}

/// What stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// What is relayed as it is.
    Plain,
    /// An authentication method or its data too.
    Authentication,
}

/// What a property holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    /// A byte that is 0 or 1.
    Bit,
    /// Two bytes that are not 0.
    TwoNot0,
    Two,
    FourNot0,
    Four,
    Text,
    Bytes,
    /// Two texts, and any number of these.
    Pair,
}

/// Reads the length and the properties. `None` = malformed: unknown here, twice, cut short or out of range.
pub(super) fn read(reader: &mut Reader<'_>, place: Place) -> Option<Found> {
    let (length, size) = remaining_length(reader.0).ok().flatten()?;
    reader.take(size)?;
    let mut inside = Reader(reader.take(length)?);
    let (mut found, mut seen) = (Found::Plain, 0u64);
    while let Some(id) = inside.byte() {
        let holds = holds(id, place)?;
        value(&mut inside, holds)?;
        let bit = 1 << id;
        if seen & bit != 0 && holds != Holds::Pair {
            return None;
        }
        seen |= bit;
        if [AUTHENTICATION_METHOD, AUTHENTICATION_DATA].contains(&id) {
            found = Found::Authentication;
        }
    }
    Some(found)
}

/// MQTT 5 §2.2.2.2, table 2-4. Every id there is below 64.
fn holds(id: u8, place: Place) -> Option<Holds> {
    Some(match (place, id) {
        (Place::Connect, 0x11) => Holds::Four,
        (Place::Connect, 0x17 | 0x19) => Holds::Bit,
        (Place::Connect, 0x21) => Holds::TwoNot0,
        (Place::Connect, 0x22) => Holds::Two,
        (Place::Connect, 0x27) => Holds::FourNot0,
        (Place::Connect, AUTHENTICATION_METHOD) => Holds::Text,
        (Place::Connect, AUTHENTICATION_DATA) => Holds::Bytes,
        (Place::Will, 0x01) => Holds::Bit,
        (Place::Will, 0x02 | 0x18) => Holds::Four,
        (Place::Will, 0x03 | 0x08) => Holds::Text,
        (Place::Will, 0x09) => Holds::Bytes,
        (_, 0x26) => Holds::Pair,
        _ => return None,
    })
}

fn value(reader: &mut Reader<'_>, holds: Holds) -> Option<()> {
    let is_0 = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    match holds {
        Holds::Bit => reader.byte().filter(|byte| *byte <= 1).map(|_| ()),
        Holds::Two => reader.take(2).map(|_| ()),
        Holds::TwoNot0 => reader.take(2).filter(|bytes| !is_0(bytes)).map(|_| ()),
        Holds::Four => reader.take(4).map(|_| ()),
        Holds::FourNot0 => reader.take(4).filter(|bytes| !is_0(bytes)).map(|_| ()),
        Holds::Text => reader.text().map(|_| ()),
        Holds::Bytes => reader.bytes().map(|_| ()),
        Holds::Pair => reader.text().and_then(|_| reader.text()).map(|_| ()),
    }
}

const AUTHENTICATION_METHOD: u8 = 0x15;
const AUTHENTICATION_DATA: u8 = 0x16;
