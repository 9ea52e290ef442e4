//! What an MQTT client sends: its CONNECT, which is read as a second reader does and keeps all but user and password,
//! and the packets behind it, which are the same however they are cut.

#![no_main]

use bearerd::mqtt::{Connect, Malformed, Packet, Piece, Refused, Scanner, Sender, Version, length};
use bearerd_fuzz::{mqtt, target};

target!(seeds(), |data: &[u8]| {
    connect(data);
    for version in [Version::V311, Version::V5] {
        for sender in [Sender::Client, Sender::Broker] {
            let whole = scan(version, sender, data, data.len().max(1));
            assert_eq!(scan(version, sender, data, 1), whole);
            assert_eq!(scan(version, sender, data, 7), whole);
        }
    }
});

fn connect(data: &[u8]) {
    let Ok(Some(whole)) = length(data) else {
        assert!(mqtt::read(data).is_none(), "a good CONNECT was refused by its length");
        return;
    };
    let Some(packet) = data.get(..whole) else { return };
    match (Connect::read(packet), mqtt::read(packet)) {
        (Ok(ours), Some(theirs)) => {
            let rewritten = ours.with("unused", b"token").expect("short enough");
            let again = mqtt::read(&rewritten).expect("what we write is good");
            let expected = mqtt::Connect { username: Some(b"unused"), password: Some(b"token"), ..theirs };
            assert_eq!(again, expected);
            assert_eq!(Connect::read(&rewritten).expect("ours").with("unused", b"token"), Some(rewritten));
        }
        (Err(refused), None) => {
            assert!(refused.answer().is_none_or(|answer| answer[0] == 0x20 && answer[3] != 0));
            assert_ne!(refused, Refused::TooLong);
        }
        (ours, theirs) => panic!("{ours:?} to us and {theirs:?} to the second reader"),
    }
}

/// Each packet with its length, and whether it ended.
type Scanned = (Vec<(Packet, usize, bool)>, Option<Malformed>);

fn scan(version: Version, sender: Sender, data: &[u8], step: usize) -> Scanned {
    let (mut scanner, mut found, mut begin) = (Scanner::new(version, sender), Vec::<(Packet, usize, bool)>::new(), 0);
    for end in (step..data.len()).step_by(step).chain([data.len()]) {
        loop {
            match scanner.next(&data[begin..end]) {
                Err(error) => return (found, Some(error)),
                Ok(None) => break,
                Ok(Some(Piece { size, begins, ends })) => {
                    assert!(size > 0 && begin + size <= end);
                    begin += size;
                    match (begins, found.last_mut()) {
                        (Some(packet), _) => found.push((packet, size, ends)),
                        (None, Some(last)) => (last.1, last.2) = (last.1 + size, ends),
                        (None, None) => panic!("a packet goes on that never began"),
                    }
                }
            }
        }
    }
    (found, None)
}

fn seeds() -> Vec<Vec<u8>> {
    let v3: &[u8] = b"\x10\x25\0\x04MQTT\x04\xc6\0\x3c\0\x02d1\0\x04last\0\x03bye\0\x02me\0\x06secret";
    let v5: &[u8] = b"\x10\x1d\0\x04MQTT\x05\x06\0\x3c\x05\x11\0\0\0\x09\0\x02d1\x02\x01\x01\0\x01t\0\x01w";
    let packets: [&[u8]; 8] = [
        b"\x32\x07\0\x01t\0\x01hi\x40\x02\0\x01",
        b"\x34\x05\0\x01t\0\x02\x50\x02\0\x02\x62\x02\0\x02\x70\x02\0\x02",
        b"\x82\x06\0\x01\0\x01#\x01\xa2\x05\0\x02\0\x01#\xc0\0\xe0\0",
        b"\x20\x02\0\0\x90\x03\0\x01\x01\xb0\x02\0\x02\xd0\0",
        b"\x20\x03\0\0\0\x50\x03\0\x02\x80\xe0\x01\x8b",
        b"\x10\x12\0\x04MQTT\x05\x02\0\x3c\x00\0\x05dev-1",
        b"\x10\x11\0\x04MQTT\x04\x02\0\x3c\0\x05dev-1",
        b"\x10\x16\0\x04MQTT\x05\x02\0\x3c\x08\x26\0\x01a\0\x02bc\0\x01d",
    ];
    [v3, v5].into_iter().chain(packets).map(<[u8]>::to_vec).collect()
}
