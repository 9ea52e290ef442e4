//! A second reader of CONNECT, by offsets and by the tables of the standards.

/// What a CONNECT says, with everything that must not change in one text.
#[derive(Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    pub level: u8,
    pub keep_alive: [u8; 2],
    pub is_clean: bool,
    pub will: Option<Will<'a>>,
    pub properties: &'a [u8],
    pub client_id: &'a [u8],
    pub username: Option<&'a [u8]>,
    pub password: Option<&'a [u8]>,
}

/// What the broker says in the client's name when that has left.
#[derive(Debug, PartialEq, Eq)]
pub struct Will<'a> {
    flags: u8,
    properties: &'a [u8],
    topic: &'a [u8],
    message: &'a [u8],
}

/// The CONNECT that is all of `packet`, if it is a good one of MQTT 3.1.1 or 5 without authentication.
pub fn read(packet: &[u8]) -> Option<Connect<'_>> {
    let mut at = 1;
    let length = variable(packet, &mut at)?;
    if packet[0] != 0x10 || at + length != packet.len() || field(packet, &mut at)? != b"MQTT" {
        return None;
    }
    let (level, flags) = (*packet.get(at)?, *packet.get(at + 1)?);
    let keep_alive = [*packet.get(at + 2)?, *packet.get(at + 3)?];
    at += 4;
    let has = |bit: u8| flags >> bit & 1 == 1;
    if ![4, 5].contains(&level) || has(0) || has(3) && has(4) || !has(2) && (has(3) || has(4) || has(5)) {
        return None;
    }
    if level == 4 && has(6) && !has(7) {
        return None;
    }
    let properties = if level == 5 { properties(packet, &mut at, Place::Connect)? } else { &[] };
    let client_id = text(field(packet, &mut at)?)?;
    let mut will = None;
    if has(2) {
        let properties = if level == 5 { self::properties(packet, &mut at, Place::Will)? } else { &[] };
        let (topic, message) = (text(field(packet, &mut at)?)?, field(packet, &mut at)?);
        will = Some(Will { flags: flags & 0x3c, properties, topic, message });
    }
    let username = if has(7) { Some(text(field(packet, &mut at)?)?) } else { None };
    let password = if has(6) { Some(field(packet, &mut at)?) } else { None };
    let is_clean = has(1);
    let connect = Connect { level, keep_alive, is_clean, will, properties, client_id, username, password };
    (at == packet.len()).then_some(connect)
}

fn variable(bytes: &[u8], at: &mut usize) -> Option<usize> {
    let mut value = 0;
    for place in 0..4 {
        let byte = usize::from(*bytes.get(*at)?);
        *at += 1;
        value += byte % 128 * 128_usize.pow(place);
        if byte < 128 {
            return (place == 0 || byte != 0).then_some(value);
        }
    }
    None
}

fn field<'a>(bytes: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let size = usize::from(*bytes.get(*at)?) * 256 + usize::from(*bytes.get(*at + 1)?);
    let found = bytes.get(*at + 2..*at + 2 + size)?;
    *at += 2 + size;
    Some(found)
}

fn text(bytes: &[u8]) -> Option<&[u8]> {
    let letters = std::str::from_utf8(bytes).ok()?;
    letters.chars().all(|letter| letter != '\0').then_some(bytes)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Connect,
    Will,
}

/// Those of a CONNECT or of a will, without authentication.
fn properties<'a>(bytes: &'a [u8], at: &mut usize, place: Place) -> Option<&'a [u8]> {
    let size = variable(bytes, at)?;
    let all = bytes.get(*at..*at + size)?;
    *at += size;
    let (mut here, mut seen) = (0, Vec::new());
    while here < all.len() {
        let id = all[here];
        here += 1;
        let is_will = place == Place::Will;
        let is_here =
            if is_will { [1, 2, 3, 8, 9, 24, 38].contains(&id) } else { [17, 23, 25, 33, 34, 38, 39].contains(&id) };
        if !is_here || id != 38 && seen.contains(&id) {
            return None;
        }
        seen.push(id);
        let begin = here;
        match id {
            1 | 23 | 25 => here += 1,
            33 | 34 => here += 2,
            2 | 17 | 24 | 39 => here += 4,
            9 => _ = field(all, &mut here)?,
            38 => {
                text(field(all, &mut here)?)?;
                text(field(all, &mut here)?)?;
            }
            _ => _ = text(field(all, &mut here)?)?,
        }
        let value = all.get(begin..here)?;
        let is_0 = value.iter().all(|byte| *byte == 0);
        if [1, 23, 25].contains(&id) && value[0] > 1 || [33, 39].contains(&id) && is_0 {
            return None;
        }
    }
    Some(all)
}
