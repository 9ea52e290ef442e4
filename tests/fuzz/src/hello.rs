//! A second reader of a ClientHello (RFC 8446 §4.1.2), out of its records.

/// What a hello asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// Every host name in SNI.
    pub names: Vec<Vec<u8>>,
}

/// The hello at the start of `bytes`, where it is whole.
pub fn read(mut bytes: &[u8]) -> Option<Hello> {
    let mut messages = Vec::new();
    let mut wanted = 4;
    while messages.len() < wanted {
        let (header, rest) = bytes.split_at_checked(5)?;
        if header[0] != 22 {
            return None;
        }
        let (fragment, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([header[3], header[4]])))?;
        messages.extend_from_slice(fragment);
        bytes = rest;
        if let [1, a, b, c, ..] = messages[..] {
            wanted = 4 + u32::from_be_bytes([0, a, b, c]) as usize;
        } else if messages.len() >= 4 {
            return None;
        }
    }
    body(&messages[4..wanted])
}

fn body(bytes: &[u8]) -> Option<Hello> {
    let (_version_and_random, rest) = bytes.split_at_checked(34)?;
    let (_session, rest) = short(rest)?;
    let (_suites, rest) = long(rest)?;
    let (_compressions, rest) = short(rest)?;
    let mut hello = Hello::default();
    if rest.is_empty() {
        return Some(hello);
    }
    let (mut extensions, _) = long(rest)?;
    while !extensions.is_empty() {
        let (kind, rest) = extensions.split_at_checked(2)?;
        let (value, rest) = long(rest)?;
        extensions = rest;
        if kind != SERVER_NAME {
            continue;
        }
        let (mut names, _) = long(value)?;
        while !names.is_empty() {
            let (kind, rest) = names.split_at_checked(1)?;
            let (name, rest) = long(rest)?;
            names = rest;
            if kind == [0] {
                hello.names.push(name.to_vec());
            }
        }
    }
    Some(hello)
}

fn short(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(1)?;
    rest.split_at_checked(usize::from(length[0]))
}

fn long(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(2)?;
    rest.split_at_checked(usize::from(u16::from_be_bytes([length[0], length[1]])))
}

const SERVER_NAME: [u8; 2] = [0, 0];
