//! The syntax of `host[:port]`, without deciding what it names: `Host`, absolute-form and CONNECT.
//!
//! Allocates nothing. Comparing the claims of one request with each other is the service's work.

use std::{net::Ipv4Addr, net::Ipv6Addr, str};

use super::class::{self, LABEL};

/// Whether `text` is a host with an optional port.
pub(super) fn is_authority(text: &[u8]) -> bool {
    split(text).is_some_and(|(host, port)| is_host(host) && port.is_none_or(is_port))
}

/// Whether `text` is a host with a port, as CONNECT needs it.
pub(super) fn is_authority_with_port(text: &[u8]) -> bool {
    split(text).is_some_and(|(host, port)| is_host(host) && port.is_some_and(is_port))
}

fn split(text: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let host_end = match text.first()? {
        b'[' => text.iter().position(|&byte| byte == b']')? + 1,
        _ => text.iter().position(|&byte| byte == b':').unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at(host_end);
    match rest {
        [] => Some((host, None)),
        [b':', port @ ..] => Some((host, Some(port))),
        _ => None,
    }
}

fn is_host(host: &[u8]) -> bool {
    if let [b'[', inner @ .., b']'] = host {
        // The parser of std knows no zone ids.
        return str::from_utf8(inner).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok());
    }
    let name = host.strip_suffix(b".").unwrap_or(host);
    // RFC 1035 sizes: 253 in all, 63 in a label.
    if name.is_empty() || name.len() > 253 || !name.split(|&byte| byte == b'.').all(is_label) {
        return false;
    }
    let last = name.rsplit(|&byte| byte == b'.').next().unwrap_or(name);
    if last.iter().all(u8::is_ascii_digit) {
        // 127.1, 2130706433 and 0177.0.0.1 are addresses to some readers and names to others.
        return str::from_utf8(host).is_ok_and(|text| text.parse::<Ipv4Addr>().is_ok());
    }
    !matches!(last, [b'0', b'x' | b'X', ..])
}

fn is_label(label: &[u8]) -> bool {
    (1..=63).contains(&label.len()) && label.iter().all(|&byte| class::is(byte, LABEL))
}

/// 1 to 65535 without sign or leading zero.
fn is_port(port: &[u8]) -> bool {
    port.len() <= 5
        && port.iter().all(u8::is_ascii_digit)
        && !matches!(port, [] | [b'0', ..])
        && str::from_utf8(port).is_ok_and(|text| text.parse::<u16>().is_ok())
}
