//! The one reading of `host:port`.
//!
//! Every door, the route choice, DNS, SNI, the certificate check and the pool key read the value made
//! here, so a text that two parsers could read in two ways is refused rather than repaired. Knows no
//! policy; also says which names and addresses lie inside the pod or node and are never dialled.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

/// A canonical DNS name: lower-case ASCII, no final dot, at most 253 bytes, labels of `a-z 0-9 _ -`.
///
/// Never an IP literal in any spelling. `xn--` labels are compared as they stand, never decoded.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(Arc<str>);

/// What an authority names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A DNS name.
    Name(Host),
    /// An address, whichever way it was written; v4-mapped ones are v4 here.
    Ip(IpAddr),
}

/// A name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Authority {
    /// Where.
    pub target: Target,
    /// At which port, never 0.
    pub port: u16,
}

/// Why a text is no authority. Never repeats the text: it may come from a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// No host at all.
    #[error("empty host, want a DNS name")]
    Empty,
    /// A byte above 127.
    #[error("non-ascii byte in host, want the xn-- form of the name")]
    NonAscii,
    /// `user@host`.
    #[error("user info before the host, want only host:port")]
    UserInfo,
    /// Any other byte that no host has.
    #[error("forbidden byte in host, want letters, digits, '-', '_' and '.'")]
    Byte,
    /// `a..b`, `.a`, `a..`.
    #[error("empty label in host, want one dot between labels")]
    EmptyLabel,
    /// More than 63 bytes in a label or 253 in all.
    #[error("host too long, want labels of at most 63 bytes and 253 in all")]
    TooLong,
    /// Not `[v6]`, or a zone in it.
    #[error("malformed bracketed host, want an IPv6 address without zone")]
    Brackets,
    /// Ends in a number and is no IPv4 address.
    #[error("malformed IPv4 address, want four decimal parts")]
    Ipv4,
    /// An address where only a name will do.
    #[error("an IP address instead of a name, want a DNS name")]
    IpLiteral,
    /// Empty, signed, padded or outside 1 to 65535.
    #[error("malformed port, want 1 to 65535 without sign or leading zeros")]
    Port,
    /// None given where there is no default.
    #[error("no port, want host:port")]
    NoPort,
}

/// What a place that is never dialled for a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local {
    /// This machine (or pod) itself.
    Loopback,
    /// `0.0.0.0` and its network, `::`: Linux connects them to loopback.
    Unspecified,
    /// The link, where the node answers; the IPv4 metadata server too.
    LinkLocal,
    /// Multicast and broadcast.
    Multicast,
    /// The real metadata server, by name or by its IPv6 address.
    MetadataServer,
}

impl Host {
    /// Reads a name without port.
    pub fn parse(text: &str) -> Result<Self, AuthorityError> {
        match target(text)? {
            Target::Name(host) => Ok(host),
            Target::Ip(_) => Err(AuthorityError::IpLiteral),
        }
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this name lies one or more whole labels below `zone`.
    pub fn is_below(&self, zone: &Self) -> bool {
        self.0.strip_suffix(zone.as_str()).is_some_and(|left| left.len() > 1 && left.ends_with('.'))
    }

    /// The labels, leftmost first.
    pub fn labels(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('.')
    }

    /// Set for names that mean this pod or the metadata server whatever DNS says.
    pub fn local(&self) -> Option<Local> {
        match self.as_str() {
            // The kubelet writes the `ip6-` pair into every pod's hosts file.
            "localhost" | "localhost.localdomain" | "ip6-localhost" | "ip6-loopback" => Some(Local::Loopback),
            "metadata" | "metadata.google.internal" | "metadata.goog" => Some(Local::MetadataServer),
            name if name.ends_with(".localhost") => Some(Local::Loopback),
            _ => None,
        }
    }
}

impl Authority {
    /// Reads `host`, `host:port`, `v4:port` or `[v6]:port`. Without `default_port` the port is required.
    pub fn parse(text: &str, default_port: Option<u16>) -> Result<Self, AuthorityError> {
        // Before the split, which would take `user:password@host` for the host `user`.
        if text.contains('@') {
            return Err(AuthorityError::UserInfo);
        }
        let (host, port) = split_port(text)?;
        let target = target(host)?;
        let port = match port {
            Some(digits) => parse_port(digits)?,
            None => default_port.ok_or(AuthorityError::NoPort)?,
        };
        Ok(Self { target, port })
    }

    /// A name and a port known to be good.
    pub fn new(host: Host, port: u16) -> Self {
        Self { target: Target::Name(host), port }
    }

    /// The name, if it is one.
    pub fn host(&self) -> Option<&Host> {
        match &self.target {
            Target::Name(host) => Some(host),
            Target::Ip(_) => None,
        }
    }

    /// Set when this must never be dialled for a client.
    pub fn local(&self) -> Option<Local> {
        match &self.target {
            Target::Name(host) => host.local(),
            Target::Ip(ip) => local(*ip),
        }
    }
}

/// Set for addresses that no client may reach through us, in whatever form they carry an IPv4 address.
///
/// Private addresses are not among them: a pod's own services must keep working.
pub fn local(ip: IpAddr) -> Option<Local> {
    match ip {
        IpAddr::V4(v4) => local_v4(v4),
        IpAddr::V6(v6) => local_v6(v6),
    }
}

fn local_v4(ip: Ipv4Addr) -> Option<Local> {
    match ip.octets() {
        [127, ..] => Some(Local::Loopback),
        [0, ..] => Some(Local::Unspecified),
        [169, 254, ..] => Some(Local::LinkLocal),
        [224..=239, ..] | [255, 255, 255, 255] => Some(Local::Multicast),
        _ => None,
    }
}

fn local_v6(ip: Ipv6Addr) -> Option<Local> {
    if ip.is_loopback() {
        return Some(Local::Loopback);
    }
    if ip.is_unspecified() {
        return Some(Local::Unspecified);
    }
    if ip.is_multicast() {
        return Some(Local::Multicast);
    }
    if ip.is_unicast_link_local() {
        return Some(Local::LinkLocal);
    }
    if ip == METADATA_V6 {
        return Some(Local::MetadataServer);
    }
    embedded_v4(ip).and_then(local_v4)
}

/// The IPv4 address that a translator, a tunnel or the kernel would take out of `ip`.
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let join = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match ip.segments() {
        // v4-mapped, the forgotten v4-compatible, and SIIT's v4-translated.
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => Some(join(high, low)),
        // NAT64: the well-known prefix and the local-use one of RFC 8215, as /96.
        [0x64, 0xff9b, 0 | 1, _, _, _, high, low] => Some(join(high, low)),
        // 6to4.
        [0x2002, high, low, ..] => Some(join(high, low)),
        _ => None,
    }
}

/// Cuts off `:port`. Brackets keep the colons of IPv6 out of it.
fn split_port(text: &str) -> Result<(&str, Option<&str>), AuthorityError> {
    let host_end = if text.starts_with('[') { text.find(']').ok_or(AuthorityError::Brackets)? + 1 } else { 0 };
    let (bracketed, rest) = text.split_at(host_end);
    match rest.split_once(':') {
        None => Ok((text, None)),
        Some((before, port)) => Ok((&text[..bracketed.len() + before.len()], Some(port))),
    }
}

fn parse_port(digits: &str) -> Result<u16, AuthorityError> {
    let plain = !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
    // `parse` alone takes `+443`.
    digits.parse().ok().filter(|_| plain).ok_or(AuthorityError::Port)
}

fn target(text: &str) -> Result<Target, AuthorityError> {
    if text.is_empty() {
        return Err(AuthorityError::Empty);
    }
    if !text.is_ascii() {
        return Err(AuthorityError::NonAscii);
    }
    if text.contains('@') {
        return Err(AuthorityError::UserInfo);
    }
    if let Some(inside) = text.strip_prefix('[') {
        return bracketed(inside);
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.len() > 253 {
        return Err(AuthorityError::TooLong);
    }
    for label in name.split('.') {
        check_label(label)?;
    }
    let name = name.to_ascii_lowercase();
    let last = name.rsplit('.').next().unwrap_or_default();
    // What resolvers and C libraries read as IPv4: also `2852039166`, `0xa9fea9fe`, `169.254.43518`.
    if last.starts_with("0x") || last.bytes().all(|byte| byte.is_ascii_digit()) {
        return legacy_ipv4(&name).map(|ip| Target::Ip(IpAddr::V4(ip)));
    }
    Ok(Target::Name(Host(name.into())))
}

fn bracketed(inside: &str) -> Result<Target, AuthorityError> {
    let text = inside.strip_suffix(']').ok_or(AuthorityError::Brackets)?;
    let ip: Ipv6Addr = text.parse().map_err(|_| AuthorityError::Brackets)?;
    Ok(Target::Ip(IpAddr::V6(ip).to_canonical()))
}

fn check_label(label: &str) -> Result<(), AuthorityError> {
    if label.is_empty() {
        return Err(AuthorityError::EmptyLabel);
    }
    if !label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
        return Err(AuthorityError::Byte);
    }
    if label.len() > 63 {
        return Err(AuthorityError::TooLong);
    }
    Ok(())
}

/// IPv4 as `inet_aton` reads it: one to four parts, decimal, octal or hexadecimal, the last one filling
/// what is left.
fn legacy_ipv4(text: &str) -> Result<Ipv4Addr, AuthorityError> {
    let parts = text.split('.').map(legacy_number).collect::<Option<Vec<u32>>>().ok_or(AuthorityError::Ipv4)?;
    let (last, high) = parts.split_last().ok_or(AuthorityError::Ipv4)?;
    if high.len() > 3 || high.iter().any(|part| *part > 255) {
        return Err(AuthorityError::Ipv4);
    }
    let room = 32 - 8 * high.len() as u32;
    if u64::from(*last) >= 1 << room {
        return Err(AuthorityError::Ipv4);
    }
    let high = high.iter().enumerate().fold(0, |sum, (index, part)| sum | (part << (24 - 8 * index)));
    Ok(Ipv4Addr::from(high | last))
}

fn legacy_number(part: &str) -> Option<u32> {
    match part.strip_prefix("0x") {
        Some("") => Some(0),
        Some(hex) if hex.starts_with('+') => None,
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None if !part.bytes().all(|byte| byte.is_ascii_digit()) => None,
        None if part.len() > 1 && part.starts_with('0') => u32::from_str_radix(part, 8).ok(),
        None => part.parse().ok(),
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Host({})", self.as_str())
    }
}

impl std::str::FromStr for Host {
    type Err = AuthorityError;

    fn from_str(text: &str) -> Result<Self, AuthorityError> {
        Self::parse(text)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(host) => host.fmt(f),
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.target, self.port)
    }
}

impl Local {
    /// For people.
    pub fn message(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Unspecified => "an unspecified address",
            Self::LinkLocal => "a link-local address",
            Self::Multicast => "a multicast or broadcast address",
            Self::MetadataServer => "the metadata server",
        }
    }
}

/// The metadata server's IPv6 address. It lies in the private range, so nothing else would refuse it.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254);

#[cfg(test)]
mod tests;
