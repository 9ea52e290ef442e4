//! Packets as tables: what is read, what is refused, and that no split of the bytes changes either.

use std::time::Duration;

use super::*;
use crate::clock::{Clock, Moment};

/// `"4"` a 3.1.1 header, `"5"` one of MQTT 5 without properties, then texts, numbers and bytes as they come.
fn packet(body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x10];
    let mut left = body.len();
    while left > 0x7f {
        packet.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    packet.push(left as u8);
    packet.extend_from_slice(body);
    packet
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
}

/// A CONNECT of name `MQTT` with these flags, a keep-alive of a minute, and what follows.
fn of(level: u8, flags: u8, rest: &[&[u8]]) -> Vec<u8> {
    packet(&[&text("MQTT")[..], &[level, flags, 0, 60], &rest.concat()].concat())
}

fn v3(flags: u8, rest: &[&[u8]]) -> Vec<u8> {
    of(4, flags, rest)
}

/// With these properties.
fn v5(flags: u8, properties: &[u8], rest: &[&[u8]]) -> Vec<u8> {
    assert!(properties.len() < 128);
    of(5, flags, &[&[properties.len() as u8], properties, &rest.concat()])
}

fn read(bytes: &[u8]) -> Result<Option<Connect>, Refused> {
    match length(bytes)? {
        Some(whole) if bytes.len() >= whole => Connect::read(&bytes[..whole]).map(Some),
        _ => Ok(None),
    }
}

/// The same by every prefix: nothing is said before the whole packet is there that is not said of it as well.
fn read_in_pieces(bytes: &[u8]) -> Result<Option<Connect>, Refused> {
    for end in 0..bytes.len() {
        match read(&bytes[..end]) {
            Ok(None) => {}
            early => return early,
        }
    }
    read(bytes)
}

#[test]
fn a_connect_that_keeps_the_rules_is_read() {
    let (id, empty, user, secret) = (text("d1"), text(""), text("somebody"), text("secret"));
    let (topic, will) = (text("last"), text("words"));
    let all = [0x11, 0, 0, 0, 9, 0x17, 1, 0x19, 0, 0x21, 0, 5, 0x22, 0, 0, 0x27, 0, 0, 1, 0];
    let pairs = [&[0x26][..], &text("a"), &text("b"), &[0x26], &text("a"), &text("c")].concat();
    let will_properties = [
        &[0x01, 1, 0x02, 0, 0, 0, 1, 0x03][..],
        &text("t"),
        &[0x08],
        &text("r"),
        &[0x09],
        &text("\0"),
        &[0x18, 0, 0, 0, 0, 0x26],
        &text("k"),
        &text("v"),
    ]
    .concat();
    let will_5 = [&[will_properties.len() as u8][..], &will_properties].concat();
    let long = "x".repeat(60_000);
    let rows: Vec<(&str, Vec<u8>)> = vec![
        ("the least", v3(0x02, &[&id])),
        ("without a clean session", v3(0x00, &[&id])),
        ("no client id", v3(0x02, &[&empty])),
        ("a user", v3(0x82, &[&id, &user])),
        ("a user and a password", v3(0xc2, &[&id, &user, &secret])),
        ("an empty password", v3(0xc2, &[&id, &user, &empty])),
        ("a password of bytes", v3(0xc2, &[&id, &user, &[0, 2, 0xff, 0]])),
        ("a will", v3(0x06, &[&id, &topic, &will])),
        ("a will of bytes", v3(0x06, &[&id, &topic, &[0, 1, 0xff]])),
        ("an empty will", v3(0x06, &[&id, &topic, &empty])),
        ("a will of QoS 1", v3(0x0e, &[&id, &topic, &will])),
        ("a will of QoS 2 that stays", v3(0x36, &[&id, &topic, &will])),
        ("everything", v3(0xf6, &[&id, &topic, &will, &user, &secret])),
        ("a long will", v3(0x06, &[&id, &topic, &text(&long)])),
        ("a client id of other letters", v3(0x02, &[&text("gerät/π")])),
        ("5: the least", v5(0x02, &[], &[&id])),
        ("5: every property", v5(0x02, &all, &[&id])),
        ("5: user properties", v5(0x02, &pairs, &[&id])),
        ("5: a password without a user", v5(0x42, &[], &[&id, &secret])),
        ("5: a will", v5(0x06, &[], &[&id, &[0], &topic, &will])),
        ("5: a will with every property", v5(0x06, &[], &[&id, &will_5, &topic, &will])),
        ("5: everything", v5(0xf6, &all, &[&id, &will_5, &topic, &will, &user, &secret])),
        ("5: topic aliases, none", v5(0x02, &[0x22, 0, 0], &[&id])),
    ];
    for (name, bytes) in rows {
        let connect = read(&bytes).unwrap_or_else(|error| panic!("{name}: {error}")).unwrap();
        assert_eq!(connect.version, if name.starts_with("5:") { Version::V5 } else { Version::V311 }, "{name}");
        if bytes.len() < 2000 {
            assert_eq!(read_in_pieces(&bytes), Ok(Some(connect)), "{name}");
        }
    }
}

type Row = (&'static str, Vec<u8>, Refused);

/// What breaks a rule of every version, or of 3.1.1.
fn bad_in_311() -> Vec<Row> {
    let (id, user, secret) = (text("d1"), text("u"), text("s"));
    let (topic, will) = (text("t"), text("w"));
    let (bad, not, long) = (Refused::Malformed(None), Refused::NotConnect, Refused::TooLong);
    let bad_3 = Refused::Malformed(Some(Version::V311));
    let other = |answer| Refused::Unsupported { answer };
    let named = |name: &str, level: u8| packet(&[&text(name)[..], &[level, 2, 0, 60], &id].concat());
    vec![
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec(), not),
        ("a TLS hello", vec![0x16, 3, 1, 2, 0, 1], Refused::Tls),
        ("PUBLISH first", vec![0x30, 3, 0, 1, b't'], not),
        ("AUTH first", vec![0xf0, 0], not),
        ("PINGREQ first", vec![0xc0, 0], not),
        ("type 0", vec![0x00, 0], not),
        ("flags in the fixed header", vec![0x12, 0], bad),
        ("a length of five bytes", vec![0x10, 0x80, 0x80, 0x80, 0x80, 1], bad),
        ("a length with a needless byte", vec![0x10, 0x8e, 0x00], bad),
        ("longer than 64 KiB", vec![0x10, 0xfd, 0xff, 0x03], long),
        ("as long as can be written", vec![0x10, 0xff, 0xff, 0xff, 0x7f], long),
        ("empty", packet(&[]), not),
        ("a name cut short", packet(&[0, 4, b'M', b'Q']), not),
        ("another name", named("MQTX", 4), not),
        ("small letters", named("mqtt", 4), not),
        ("a name and nothing else", packet(&text("MQTT")), bad),
        ("3.1", named("MQIsdp", 3), other(Version::V311)),
        ("level 0", named("MQTT", 0), other(Version::V311)),
        ("level 3", named("MQTT", 3), other(Version::V311)),
        ("level 6", named("MQTT", 6), other(Version::V5)),
        ("a bridge's level", named("MQTT", 0x84), other(Version::V5)),
        ("no flags", packet(&[&text("MQTT")[..], &[4]].concat()), bad_3),
        ("the reserved flag", v3(0x03, &[&id]), bad_3),
        ("no keep-alive", packet(&[&text("MQTT")[..], &[4, 2, 0]].concat()), bad_3),
        ("no client id", v3(0x02, &[]), bad_3),
        ("a client id cut short", v3(0x02, &[&[0, 5, b'd']]), bad_3),
        ("half of its length", v3(0x02, &[&[0]]), bad_3),
        ("a client id with U+0000", v3(0x02, &[&text("a\0b")]), bad_3),
        ("a client id that is not UTF-8", v3(0x02, &[&[0, 1, 0xff]]), bad_3),
        ("a surrogate", v3(0x02, &[&[0, 3, 0xed, 0xa0, 0x80]]), bad_3),
        ("an overlong letter", v3(0x02, &[&[0, 2, 0xc1, 0x81]]), bad_3),
        ("the QoS of no will", v3(0x0a, &[&id]), bad_3),
        ("no will that stays", v3(0x22, &[&id]), bad_3),
        ("a will of QoS 3", v3(0x1e, &[&id, &topic, &will]), bad_3),
        ("a will that is not there", v3(0x06, &[&id]), bad_3),
        ("a will without a message", v3(0x06, &[&id, &topic]), bad_3),
        ("a will's topic that is not UTF-8", v3(0x06, &[&id, &[0, 1, 0x80], &will]), bad_3),
        ("a password without a user", v3(0x42, &[&id, &secret]), bad_3),
        ("a user that is not there", v3(0x82, &[&id]), bad_3),
        ("a user with U+0000", v3(0x82, &[&id, &text("\0")]), bad_3),
        ("a password that is not there", v3(0xc2, &[&id, &user]), bad_3),
        ("a password cut short", v3(0xc2, &[&id, &user, &[0, 9, 1]]), bad_3),
        ("something behind it", v3(0x02, &[&id, &[0]]), bad_3),
        ("a user without its flag", v3(0x02, &[&id, &user]), bad_3),
    ]
}

/// Of MQTT 5.
fn bad_in_5() -> Vec<Row> {
    let (id, empty, topic, will) = (text("d1"), text(""), text("t"), text("w"));
    let bad_5 = Refused::Malformed(Some(Version::V5));
    let method = [&[0x15][..], &text("SCRAM")].concat();
    let data = [&[0x15][..], &text("SCRAM"), &[0x16], &text("x")].concat();
    vec![
        ("5: no properties", of(5, 0x02, &[]), bad_5),
        ("5: properties cut short", of(5, 0x02, &[&[9, 0x17, 1]]), bad_5),
        ("5: a length of properties that never ends", of(5, 0x02, &[&[0x80, 0x80, 0x80, 0x80, 1]]), bad_5),
        ("5: an unknown property", v5(0x02, &[0x7f, 0], &[&id]), bad_5),
        ("5: a property with a high number", v5(0x02, &[0xff, 0], &[&id]), bad_5),
        ("5: a property of other packets", v5(0x02, &[0x0b, 1], &[&id]), bad_5),
        ("5: a property of a will", v5(0x02, &[0x01, 1], &[&id]), bad_5),
        ("5: one twice", v5(0x02, &[0x17, 1, 0x17, 1], &[&id]), bad_5),
        ("5: a switch that is 2", v5(0x02, &[0x17, 2], &[&id]), bad_5),
        ("5: a window of 0", v5(0x02, &[0x21, 0, 0], &[&id]), bad_5),
        ("5: no packet is small enough", v5(0x02, &[0x27, 0, 0, 0, 0], &[&id]), bad_5),
        ("5: a number cut short", v5(0x02, &[0x11, 0, 0, 0], &[&id]), bad_5),
        ("5: half a pair", v5(0x02, &[&[0x26][..], &text("a")].concat(), &[&id]), bad_5),
        ("5: a pair that is not UTF-8", v5(0x02, &[0x26, 0, 1, 0xff, 0, 0], &[&id]), bad_5),
        ("5: the reserved flag", v5(0x03, &[], &[&id]), bad_5),
        ("5: a will without its properties", v5(0x06, &[], &[&id]), bad_5),
        ("5: a will's property that it does not have", v5(0x06, &[], &[&id, &[2, 0x17, 1], &topic, &will]), bad_5),
        ("5: a will's property twice", v5(0x06, &[], &[&id, &[4, 1, 0, 1, 0], &topic, &will]), bad_5),
        ("5: a will with a method", v5(0x06, &[], &[&id, &[4, 0x15, 0, 1, b'x'], &topic, &will]), bad_5),
        ("5: something behind it", v5(0x02, &[], &[&id, &empty]), bad_5),
        ("5: an authentication method", v5(0x02, &method, &[&id]), Refused::Authentication),
        ("5: and its data", v5(0x02, &data, &[&id]), Refused::Authentication),
    ]
}

#[test]
fn a_connect_that_breaks_a_rule_is_refused_and_named() {
    let rows: Vec<Row> = bad_in_311().into_iter().chain(bad_in_5()).collect();
    assert!(rows.len() >= 60);
    for (name, bytes, refused) in rows {
        assert_eq!(read(&bytes), Err(refused), "{name}");
        assert_eq!(read_in_pieces(&bytes), Err(refused), "{name}");
    }
}

#[test]
fn what_a_refused_client_is_told_has_the_form_of_its_version() {
    let other = |answer| Refused::Unsupported { answer };
    for (refused, answer) in [
        (other(Version::V311), Some(&[0x20, 2, 0, 0x01][..])),
        (other(Version::V5), Some(&[0x20, 3, 0, 0x84, 0])),
        (Refused::Malformed(Some(Version::V5)), Some(&[0x20, 3, 0, 0x81, 0])),
        (Refused::Authentication, Some(&[0x20, 3, 0, 0x8c, 0])),
        (Refused::Malformed(Some(Version::V311)), None),
        (Refused::Malformed(None), None),
        (Refused::NotConnect, None),
        (Refused::Tls, None),
        (Refused::TooLong, None),
    ] {
        assert_eq!(refused.answer().as_deref(), answer, "{refused:?}");
        assert!(REFUSAL_LABELS.contains(&refused.label()));
    }
    assert_eq!(connack(Version::V311, Code::Unavailable), [0x20, 2, 0, 0x03]);
    assert_eq!(connack(Version::V5, Code::Unavailable), [0x20, 3, 0, 0x88, 0]);
}

#[test]
fn the_token_replaces_the_clients_own_and_nothing_else_changes() {
    let (id, topic, will) = (text("projects/p/devices/d"), text("last"), text("words"));
    let (user, secret, token) = (text("somebody"), text("secret"), "t".repeat(900));
    let ours = [text("unused"), text(&token)].concat();
    let properties = [&[0x11, 0, 0, 0, 9, 0x26][..], &text("a"), &text("b")].concat();
    for (name, given, expected) in [
        ("none", v3(0x02, &[&id]), v3(0xc2, &[&id, &ours])),
        ("its own", v3(0xc0, &[&id, &user, &secret]), v3(0xc0, &[&id, &ours])),
        ("a will", v3(0x36, &[&id, &topic, &will]), v3(0xf6, &[&id, &topic, &will, &ours])),
        ("5: none", v5(0x02, &properties, &[&id]), v5(0xc2, &properties, &[&id, &ours])),
        ("5: its own", v5(0x42, &[], &[&id, &secret]), v5(0xc2, &[], &[&id, &ours])),
        ("5: a will", v5(0x06, &[], &[&id, &[0], &topic, &will]), v5(0xc6, &[], &[&id, &[0], &topic, &will, &ours])),
    ] {
        let connect = read(&given).unwrap().unwrap();
        let rewritten = connect.with("unused", token.as_bytes()).unwrap();
        assert_eq!(*rewritten, expected, "{name}");
        assert_eq!(read(&rewritten).unwrap().unwrap().with("unused", token.as_bytes()), Some(rewritten), "{name}");
    }
    let connect = read(&v3(0x02, &[&id])).unwrap().unwrap();
    assert!(connect.with("unused", &[0; 65_536]).is_none() && connect.with("unused", &[0; 65_535]).is_some());
}

/// What comes out of a scanner, with neighbouring pieces of one packet joined.
fn scan(version: Version, sender: Sender, chunks: &[&[u8]]) -> (Vec<(Packet, usize, bool)>, Option<Malformed>) {
    let (mut scanner, mut found, mut held) = (Scanner::new(version, sender), Vec::new(), Vec::new());
    for chunk in chunks {
        held.extend_from_slice(chunk);
        loop {
            match scanner.next(&held) {
                Err(error) => return (found, Some(error)),
                Ok(None) => break,
                Ok(Some(Piece { size, begins, ends })) => {
                    assert!(size > 0 && size <= held.len());
                    held.drain(..size);
                    match begins {
                        Some(packet) => found.push((packet, size, ends)),
                        None => {
                            let last = found.last_mut().unwrap();
                            assert!(!last.2);
                            (last.1, last.2) = (last.1 + size, ends);
                        }
                    }
                    assert_eq!(scanner.is_between_packets(), ends);
                }
            }
        }
    }
    (found, None)
}

/// Bytes, the packets in them, and what ends the stream.
type Stream = (&'static str, Version, Sender, Vec<u8>, Vec<Packet>, Option<Malformed>);

fn good_streams() -> Vec<Stream> {
    use {Packet as P, Sender::*, Version::*};
    let big = [&[0x32, 0xe8, 0x07][..], &text("t"), &[0, 9], &[7; 995]].concat();
    let topic = [&[0x32, 0xae, 0x02][..], &text(&"t".repeat(298)), &[1, 0]].concat();
    let accepted = [0x20, 2, 0, 0];
    vec![
        ("QoS 0", V311, Client, vec![0x30, 4, 0, 1, b't', 7], vec![P::Publish(None)], None),
        ("QoS 0, empty, no topic", V5, Client, vec![0x30, 3, 0, 0, 0], vec![P::Publish(None)], None),
        ("QoS 1", V311, Client, vec![0x32, 5, 0, 1, b't', 1, 2], vec![P::Publish(Some(258))], None),
        ("QoS 2, again, stays", V311, Client, vec![0x3d, 5, 0, 1, b't', 0, 1], vec![P::Publish(Some(1))], None),
        ("a big one", V311, Client, big, vec![P::Publish(Some(9))], None),
        ("a long topic", V5, Client, topic, vec![P::Publish(Some(256))], None),
        (
            "acknowledgements",
            V311,
            Client,
            vec![0x40, 2, 0, 1, 0x50, 2, 0, 2, 0x62, 2, 0, 3, 0x70, 2, 0, 4],
            vec![P::PubAck(1), P::PubRec(2, false), P::PubRel(3), P::PubComp(4)],
            None,
        ),
        (
            "with reasons",
            V5,
            Client,
            vec![0x40, 3, 0, 1, 0x10, 0x50, 3, 0, 2, 0x80, 0x50, 4, 0, 2, 0x10, 0, 0x70, 4, 0, 4, 0, 0],
            vec![P::PubAck(1), P::PubRec(2, true), P::PubRec(2, false), P::PubComp(4)],
            None,
        ),
        (
            "filters",
            V311,
            Client,
            vec![0x82, 6, 0, 1, 0, 1, b'#', 1, 0xa2, 5, 0, 2, 0, 1, b'#'],
            vec![P::Subscribe(1), P::Subscribe(2)],
            None,
        ),
        ("ping, goodbye", V311, Client, vec![0xc0, 0, 0xe0, 0], vec![P::Ping, P::Disconnect], None),
        ("a reasoned goodbye", V5, Client, vec![0xe0, 2, 4, 0], vec![P::Disconnect], None),
        (
            "the broker's",
            V311,
            Broker,
            [&accepted[..], &[0x90, 3, 0, 1, 1, 0xb0, 2, 0, 2, 0xd0, 0]].concat(),
            vec![P::ConnAck(0), P::SubAck(1), P::SubAck(2), P::Ping],
            None,
        ),
        (
            "what a resumed session waits for, ahead of CONNACK",
            V311,
            Broker,
            [&[0x32, 5, 0, 1, b't', 0, 1][..], &accepted].concat(),
            vec![P::Publish(Some(1)), P::ConnAck(0)],
            None,
        ),
        ("refused", V311, Broker, vec![0x20, 2, 0, 5], vec![P::ConnAck(5)], None),
        (
            "5: with properties",
            V5,
            Broker,
            vec![0x20, 6, 1, 0, 3, 0x13, 0, 60, 0xe0, 1, 0x8b],
            vec![P::ConnAck(0), P::Disconnect],
            None,
        ),
    ]
}

fn bad_streams() -> Vec<Stream> {
    use {Malformed as M, Packet as P, Sender::*, Version::*};
    let accepted = [0x20, 2, 0, 0];
    vec![
        ("CONNECT again", V311, Client, vec![0xc0, 0, 0x10, 2, 0, 0], vec![P::Ping], Some(M::SecondConnect)),
        ("5: CONNECT again", V5, Client, vec![0x10], vec![], Some(M::SecondConnect)),
        ("AUTH", V5, Client, vec![0xf0, 0], vec![], Some(M::Auth)),
        ("the broker's AUTH", V5, Broker, vec![0xf0, 0], vec![], Some(M::Auth)),
        ("type 15", V311, Client, vec![0xf0, 0], vec![], Some(M::Type)),
        ("type 0", V311, Client, vec![0x00, 0], vec![], Some(M::Type)),
        ("the client's CONNACK", V311, Client, accepted.to_vec(), vec![], Some(M::Type)),
        ("the client's SUBACK", V311, Client, vec![0x90, 3, 0, 1, 1], vec![], Some(M::Type)),
        ("the client's PINGRESP", V311, Client, vec![0xd0, 0], vec![], Some(M::Type)),
        ("the broker's SUBSCRIBE", V311, Broker, vec![0x82, 6, 0, 1, 0, 1, b'#', 1], vec![], Some(M::Type)),
        (
            "the broker's goodbye",
            V311,
            Broker,
            [&accepted[..], &[0xe0, 0]].concat(),
            vec![P::ConnAck(0)],
            Some(M::Type),
        ),
        ("the broker's CONNECT", V311, Broker, vec![0x10, 0], vec![], Some(M::Type)),
        ("QoS 3", V311, Client, vec![0x36, 5, 0, 1, b't', 0, 1], vec![], Some(M::Flags)),
        ("SUBSCRIBE without its flag", V311, Client, vec![0x80, 6, 0, 1, 0, 1, b'#', 1], vec![], Some(M::Flags)),
        ("PUBREL without its flag", V311, Client, vec![0x60, 2, 0, 1], vec![], Some(M::Flags)),
        ("PUBACK with flags", V311, Client, vec![0x42, 2, 0, 1], vec![], Some(M::Flags)),
        ("PINGREQ with flags", V311, Client, vec![0xc1, 0], vec![], Some(M::Flags)),
        ("a length of five bytes", V311, Client, vec![0x30, 0xff, 0xff, 0xff, 0xff, 1], vec![], Some(M::Length)),
        ("a length with a needless byte", V311, Client, vec![0xc0, 0x80, 0], vec![], Some(M::Length)),
        ("PINGREQ with a body", V311, Client, vec![0xc0, 1, 0], vec![], Some(M::Length)),
        ("DISCONNECT with a body", V311, Client, vec![0xe0, 1, 0], vec![], Some(M::Length)),
        ("PUBACK without a number", V311, Client, vec![0x40, 1, 0], vec![], Some(M::Length)),
        ("PUBACK with a reason", V311, Client, vec![0x40, 3, 0, 1, 0], vec![], Some(M::Length)),
        ("SUBSCRIBE to nothing", V311, Client, vec![0x82, 2, 0, 1], vec![], Some(M::Length)),
        ("a topic beyond the packet", V311, Client, vec![0x30, 3, 0, 2, b't'], vec![], Some(M::Length)),
        ("no room for the number", V311, Client, vec![0x32, 4, 0, 1, b't', 0], vec![], Some(M::Length)),
        ("no room for a topic", V311, Client, vec![0x30, 1, 0], vec![], Some(M::Length)),
        ("PUBLISH 0", V311, Client, vec![0x32, 5, 0, 1, b't', 0, 0], vec![], Some(M::Number)),
        ("PUBACK 0", V311, Client, vec![0x40, 2, 0, 0], vec![], Some(M::Number)),
    ]
}

#[test]
fn packets_are_told_apart_however_their_bytes_are_split() {
    for (name, version, sender, bytes, packets, error) in good_streams().into_iter().chain(bad_streams()) {
        let whole = scan(version, sender, &[&bytes]);
        assert_eq!(whole.0.iter().map(|(packet, ..)| *packet).collect::<Vec<_>>(), packets, "{name}");
        assert_eq!(whole.1, error, "{name}");
        if error.is_none() {
            assert_eq!(whole.0.iter().map(|(_, size, _)| size).sum::<usize>(), bytes.len(), "{name}");
        }
        let singly: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(scan(version, sender, &singly), whole, "{name}, byte by byte");
        for at in 1..bytes.len() {
            let (front, back) = bytes.split_at(at);
            assert_eq!(scan(version, sender, &[front, back]), whole, "{name}, split at {at}");
        }
    }
}

/// `>` from the client, `<` from the broker.
fn quiet_after(steps: &[(char, Packet)]) -> Vec<bool> {
    let mut ledger = Ledger::default();
    let step = |(way, packet): &(char, Packet)| {
        let sender = if *way == '>' { Sender::Client } else { Sender::Broker };
        ledger.begin(sender, *packet);
        assert!(!ledger.is_quiet(), "in the middle of {packet:?}");
        ledger.settle(sender);
        ledger.is_quiet()
    };
    steps.iter().map(step).collect()
}

#[test]
fn a_session_is_quiet_when_nothing_is_open_on_either_side() {
    use Packet as P;
    let accepted = ('<', P::ConnAck(0));
    let publish = P::Publish(Some(7));
    for (name, steps, quiet) in [
        ("before CONNACK", vec![('>', P::Ping)], &[false][..]),
        ("refused", vec![('<', P::ConnAck(5))], &[false]),
        ("accepted", vec![accepted], &[true]),
        ("pings and QoS 0", vec![accepted, ('>', P::Ping), ('<', P::Ping), ('>', P::Publish(None))], &[true; 4]),
        ("QoS 1", vec![accepted, ('>', publish), ('<', P::PubAck(7))], &[true, false, true]),
        ("QoS 1 before CONNACK", vec![('>', publish), accepted, ('<', P::PubAck(7))], &[false, false, true]),
        ("another's answer", vec![accepted, ('>', publish), ('<', P::PubAck(8))], &[true, false, false]),
        ("the wrong side's answer", vec![accepted, ('>', publish), ('>', P::PubAck(7))], &[true, false, false]),
        (
            "QoS 2",
            vec![accepted, ('>', publish), ('<', P::PubRec(7, false)), ('>', P::PubRel(7)), ('<', P::PubComp(7))],
            &[true, false, false, false, true],
        ),
        ("QoS 2, refused", vec![accepted, ('>', publish), ('<', P::PubRec(7, true))], &[true, false, true]),
        (
            "QoS 2 of an earlier session",
            vec![accepted, ('>', P::PubRel(7)), ('<', P::PubComp(7))],
            &[true, false, true],
        ),
        ("SUBSCRIBE", vec![accepted, ('>', P::Subscribe(1)), ('<', P::SubAck(1))], &[true, false, true]),
        ("the broker's QoS 1", vec![accepted, ('<', publish), ('>', P::PubAck(7))], &[true, false, true]),
        (
            "the broker's QoS 2",
            vec![accepted, ('<', publish), ('>', P::PubRec(7, false)), ('<', P::PubRel(7)), ('>', P::PubComp(7))],
            &[true, false, false, false, true],
        ),
        ("the broker's, refused", vec![accepted, ('<', publish), ('>', P::PubRec(7, true))], &[true, false, true]),
        (
            "the same number on both sides",
            vec![accepted, ('>', publish), ('<', publish), ('<', P::PubAck(7)), ('>', P::PubAck(7))],
            &[true, false, false, false, true],
        ),
        (
            "two at once",
            vec![accepted, ('>', publish), ('>', P::Publish(Some(8))), ('<', P::PubAck(8)), ('<', P::PubAck(7))],
            &[true, false, false, false, true],
        ),
        (
            "sent again",
            vec![accepted, ('>', publish), ('>', publish), ('<', P::PubAck(7))],
            &[true, false, false, true],
        ),
    ] {
        assert_eq!(quiet_after(&steps), quiet, "{name}");
    }
    for (packet, begins) in [(P::Publish(None), false), (publish, true), (P::Subscribe(1), true), (P::PubRel(1), false)]
    {
        assert_eq!(packet.begins_exchange(), begins, "{packet:?}");
    }
}

#[test]
fn what_is_held_back_takes_what_may_lean_on_it_along() {
    use {Packet as P, Version::*};
    let (zero, one) = (P::Publish(None), P::Publish(Some(1)));
    let others = [P::Ping, P::PubAck(1), P::PubRec(1, false), P::PubRel(1), P::PubComp(1), P::Disconnect];
    for (name, version, packets, held) in [
        ("QoS 0 alone", V5, vec![zero, zero], vec![false, false]),
        ("behind QoS 1", V5, vec![zero, one, zero, one, zero], vec![false, true, true, true, true]),
        ("behind SUBSCRIBE, which has no alias", V5, vec![P::Subscribe(1), zero], vec![true, false]),
        ("without aliases", V311, vec![zero, one, zero, one], vec![false, true, false, true]),
        ("what answers", V5, [&[one][..], &others].concat(), [&[true][..], &[false; 6]].concat()),
    ] {
        let mut hold = Hold::new(version);
        assert_eq!(packets.iter().map(|packet| hold.holds(*packet)).collect::<Vec<_>>(), held, "{name}");
    }
}

#[test]
fn a_packet_on_its_way_is_not_quiet_until_it_is_there() {
    let mut ledger = Ledger::default();
    ledger.begin(Sender::Broker, Packet::ConnAck(0));
    ledger.settle(Sender::Broker);
    ledger.begin(Sender::Client, Packet::Publish(None));
    ledger.begin(Sender::Broker, Packet::Ping);
    ledger.settle(Sender::Broker);
    assert!(!ledger.is_quiet());
    ledger.settle(Sender::Client);
    assert!(ledger.is_quiet());
}

#[test]
fn the_end_of_a_session_is_planned_by_the_life_of_its_token() {
    let seconds = Duration::from_secs;
    let begin = Clock::by_hand().0.now();
    let at = |plan: Plan, end: Moment| [plan.look, plan.hold, plan.cut].map(|moment| moment.until(end).as_secs());
    for (life, expected) in [(3600, [360, 15, 5]), (86_400, [8640, 15, 5]), (120, [12, 12, 5]), (60, [10, 10, 5])] {
        let end = begin + seconds(life);
        assert_eq!(at(Plan::of_token(begin, end), end), expected, "{life} s");
    }
    let after = |plan: Plan| [plan.look, plan.hold, plan.cut].map(|moment| begin.until(moment).as_secs());
    assert_eq!(after(Plan::of_drain(begin, false)), [0, 5, 10]);
    assert_eq!(after(Plan::of_drain(begin, true)), [5, 10, 15]);
    for (left, is) in [(5, false), (19, false), (20, true), (3600, true)] {
        assert_eq!(is_worth_a_session(begin, begin + seconds(left)), is, "{left} s");
    }
}
