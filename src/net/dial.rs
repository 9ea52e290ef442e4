//! Opening connections: where to (connectTo, parent proxy, DNS), what is never reached, and how fast to give up.
//!
//! Owns addresses and sockets; knows nothing of TLS to the upstream itself, of routes or tokens.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::net::{TcpSocket, TcpStream};

use crate::{
    authority::{self, Authority, Host, Local, Target},
    net::{
        dns::{Completion, Resolver},
        parent::ParentProxy,
        transport::{Prefixed, Transport},
    },
};

/// How outgoing connections are made.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Where to connect instead, by name; see [`ConnectTo`].
    pub connect_to: ConnectTo,
    /// A proxy that every other connection goes through.
    pub parent: Option<ParentProxy>,
}

/// Addresses that replace what DNS would say. An exact name beats a wildcard.
#[derive(Clone, Debug, Default)]
pub struct ConnectTo {
    exact: HashMap<(Host, u16), Replacement>,
    /// Suffix without `*.`, port, replacement; the longest suffix first.
    wildcards: Vec<(Host, u16, Replacement)>,
}

type Replacement = Authority;

impl ConnectTo {
    /// Replaces `host:port`.
    pub fn exact(&mut self, host: Host, port: u16, by: Replacement) {
        self.exact.insert((host, port), by);
    }

    /// Replaces every name below `suffix` at `port`.
    pub fn below(&mut self, suffix: Host, port: u16, by: Replacement) {
        self.wildcards.push((suffix, port, by));
        self.wildcards.sort_by_key(|(suffix, ..)| std::cmp::Reverse(suffix.as_str().len()));
    }

    fn of(&self, authority: &Authority) -> Option<&Replacement> {
        let host = authority.host()?;
        if self.exact.is_empty() && self.wildcards.is_empty() {
            return None;
        }
        self.exact.get(&(host.clone(), authority.port)).or_else(|| {
            let below = |suffix: &Host| {
                host.as_str().strip_suffix(suffix.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            };
            self.wildcards.iter().find(|(suffix, port, _)| *port == authority.port && below(suffix)).map(|(.., by)| by)
        })
    }
}

/// Why a connection is opened, which decides how its name is completed. What it may reach is the same: a program in
/// this pod or on its node must not have to tell a hello of ours from an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// TLS follows, and the certificate decides who it is.
    Verified,
    /// Bytes will be carried unseen.
    Opaque,
    /// A request of our own in plain text, to where the administrator says: nothing that a client has a part in, so
    /// that the node's own metadata server may be reached, and no proxy is asked.
    Own,
}

/// A connection that could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No address.
    #[error(transparent)]
    Dns(#[from] super::dns::DnsError),
    /// Every address is one that is never reached for a client.
    #[error("the address belongs to this pod, its node or the metadata server")]
    Forbidden,
    /// No address accepted.
    #[error("cannot connect ({0})")]
    Connect(io::ErrorKind),
    /// No address accepted in time.
    #[error("no connection within {} s", TOTAL.as_secs())]
    Timeout,
    /// The parent proxy refused or misbehaved.
    #[error("parent proxy: {0}")]
    Parent(#[from] super::parent::ParentError),
}

impl DialError {
    /// The metric label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Dns(_) => "dns",
            Self::Forbidden => "forbidden_address",
            Self::Connect(_) => "connect",
            Self::Timeout => "timeout",
            Self::Parent(_) => "parent_proxy",
        }
    }
}

/// Opens connections.
#[derive(Debug)]
pub struct Dialer {
    resolver: Resolver,
    settings: Settings,
    /// Ports of our own listeners: a connection to one of them on this pod would be a loop.
    own_ports: std::sync::OnceLock<Vec<u16>>,
}

impl Dialer {
    /// A dialer; the ports of our own listeners come later, when they are bound.
    pub fn new(resolver: Resolver, settings: Settings) -> Self {
        Self { resolver, settings, own_ports: std::sync::OnceLock::new() }
    }

    /// Tells the ports of our own listeners, once.
    pub fn own_ports(&self, ports: Vec<u16>) {
        let _ = self.own_ports.set(ports);
    }

    /// Connects to `authority`.
    ///
    /// # Errors
    /// See [`DialError`]; never later than ten seconds.
    pub async fn dial(&self, authority: &Authority, purpose: Purpose) -> Result<Transport, DialError> {
        tokio::time::timeout(TOTAL, self.dial_untimed(authority, purpose)).await.unwrap_or(Err(DialError::Timeout))
    }

    async fn dial_untimed(&self, authority: &Authority, purpose: Purpose) -> Result<Transport, DialError> {
        if let Some(by) = self.settings.connect_to.of(authority) {
            // The administrator's own word: not guarded, and not sent through the parent proxy.
            let addresses = self.addresses(by, Completion::Search).await?;
            return Ok(plain(connect(&addresses).await?));
        }
        if purpose == Purpose::Own {
            let addresses = match authority.local() {
                Some(Local::MetadataServer) => vec![SocketAddr::new(METADATA_SERVER, authority.port)],
                _ => self.addresses(authority, Completion::Search).await?,
            };
            return Ok(plain(connect(&addresses).await?));
        }
        if let Some(parent) = &self.settings.parent {
            if authority.local().is_some() {
                return Err(DialError::Forbidden);
            }
            let addresses = self.addresses(&parent.authority, Completion::Search).await?;
            return Ok(parent.open(connect(&addresses).await?, authority).await?);
        }
        let completion = match purpose {
            Purpose::Verified => Completion::Absolute,
            Purpose::Opaque | Purpose::Own => Completion::Search,
        };
        let mut addresses = self.addresses(authority, completion).await?;
        // On what is dialled, not on what was asked for: a name may lead anywhere, and elsewhere the next time.
        addresses.retain(|address| authority::local(address.ip()).is_none());
        if addresses.is_empty() {
            return Err(DialError::Forbidden);
        }
        let stream = connect(&addresses).await?;
        if self.is_ourselves(&stream) {
            return Err(DialError::Forbidden);
        }
        Ok(plain(stream))
    }

    async fn addresses(&self, authority: &Authority, completion: Completion) -> Result<Vec<SocketAddr>, DialError> {
        Ok(match &authority.target {
            Target::Ip(address) => vec![SocketAddr::new(*address, authority.port)],
            Target::Name(host) => {
                let found = self.resolver.addresses(host, completion).await?;
                found.iter().map(|address| SocketAddr::new(*address, authority.port)).collect()
            }
        })
    }

    /// Both ends on one address means that the pod's own address was dialled.
    fn is_ourselves(&self, stream: &TcpStream) -> bool {
        let (Ok(local), Ok(peer)) = (stream.local_addr(), stream.peer_addr()) else {
            return true;
        };
        local.ip() == peer.ip() && self.own_ports.get().is_some_and(|ports| ports.contains(&peer.port()))
    }
}

fn plain(stream: TcpStream) -> Transport {
    Transport::Tcp(Prefixed::new(bytes::Bytes::new(), stream))
}

/// Tries the addresses one after another, the next one [`STAGGER`] after the last or at once when it failed.
async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, DialError> {
    let mut waiting = addresses.iter().take(MOST_ADDRESSES);
    let mut trying = FuturesUnordered::new();
    let mut last = io::ErrorKind::NotFound;
    let Some(first) = waiting.next() else {
        return Err(DialError::Connect(last));
    };
    trying.push(connect_one(*first));
    loop {
        let next = tokio::select! {
            done = trying.next() => match done {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => {
                    last = error.kind();
                    waiting.next()
                }
                None => return Err(DialError::Connect(last)),
            },
            () = tokio::time::sleep(STAGGER), if waiting.len() > 0 => waiting.next(),
        };
        if let Some(address) = next {
            trying.push(connect_one(*address));
        }
    }
}

async fn connect_one(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address.ip() {
        IpAddr::V4(_) => TcpSocket::new_v4()?,
        IpAddr::V6(_) => TcpSocket::new_v6()?,
    };
    let stream = tokio::time::timeout(PER_ADDRESS, socket.connect(address))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    tune(&stream)?;
    // A path that died under an upload is noticed now and not after the kernel's quarter of an hour. Never on a client's
    // socket: the kernel counts a peer that keeps its window shut as dead as well, and an application may well look at
    // a piece of its download for a minute before it reads the next.
    socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    Ok(stream)
}

/// No delay, dead peers noticed.
///
/// # Errors
/// When the socket is already gone.
pub fn tune(stream: &TcpStream) -> io::Result<()> {
    // Without it 64 KiB bodies stall 40 ms each: Nagle against delayed acknowledgements.
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15))
        .with_retries(4);
    socket.set_tcp_keepalive(&keepalive)
}

/// Where every Google machine has it, whatever DNS says.
const METADATA_SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));

/// Shares one dialer.
pub type SharedDialer = Arc<Dialer>;

/// RFC 8305 §5 "Connection Attempt Delay".
const STAGGER: Duration = Duration::from_millis(250);
const PER_ADDRESS: Duration = Duration::from_secs(5);
const TOTAL: Duration = Duration::from_secs(10);
const MOST_ADDRESSES: usize = 16;
const UNACKNOWLEDGED: Duration = Duration::from_secs(45);

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Host {
        Host::parse(text).unwrap()
    }

    fn authority(text: &str) -> Authority {
        Authority::parse(text, None).unwrap()
    }

    #[test]
    fn an_exact_replacement_beats_a_wildcard_and_the_longest_wildcard_wins() {
        let mut map = ConnectTo::default();
        map.below(host("googleapis.com"), 443, authority("10.0.0.1:443"));
        map.below(host("storage.googleapis.com"), 443, authority("10.0.0.2:443"));
        map.exact(host("storage.googleapis.com"), 443, authority("10.0.0.3:8443"));
        for (name, expected) in [
            ("storage.googleapis.com:443", Some("10.0.0.3:8443")),
            ("bucket.storage.googleapis.com:443", Some("10.0.0.2:443")),
            ("pubsub.googleapis.com:443", Some("10.0.0.1:443")),
            ("pubsub.googleapis.com:80", None),
            ("googleapis.com:443", None),
            ("evilgoogleapis.com:443", None),
        ] {
            assert_eq!(map.of(&authority(name)).map(ToString::to_string), expected.map(str::to_owned), "{name}");
        }
    }

    #[tokio::test]
    async fn a_dead_first_address_does_not_stop_the_second() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        let closed = {
            let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            gone.local_addr().unwrap()
        };
        let stream = connect(&[closed, good]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
    }

    #[tokio::test]
    async fn opaque_connections_never_reach_loopback() {
        let dialer = Dialer::new(Resolver::system(crate::clock::Clock::system()), Settings::default());
        for target in ["127.0.0.1:1", "169.254.169.254:80", "[::1]:80", "[fd20:ce::254]:80", "[::ffff:127.0.0.1]:80"] {
            let result = dialer.dial(&authority(target), Purpose::Opaque).await;
            assert!(matches!(result, Err(DialError::Forbidden)), "{target}");
        }
    }

    /// A name server that gives each question after the last one's answer the next address; the last stays.
    async fn name_server(tasks: &crate::shutdown::Tasks, answers: Vec<IpAddr>) -> SocketAddr {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tasks.spawn(async move {
            let mut answers = answers.into_iter().peekable();
            let mut question = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut question).await {
                let Some(address) = answers.peek().copied() else { return };
                let (kind, data) = match address {
                    IpAddr::V4(v4) => (1, v4.octets().to_vec()),
                    IpAddr::V6(v6) => (28, v6.octets().to_vec()),
                };
                let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
                let wanted = question[end - 3] == kind;
                // The question's number and text, one answer if the type is right, and nothing else.
                let mut answer = [&question[..2], &[0x81, 0x80, 0, 1, 0, u8::from(wanted), 0, 0, 0, 0]].concat();
                answer.extend_from_slice(&question[12..end.min(length)]);
                if wanted {
                    answer.extend_from_slice(&[0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 0, 0, data.len() as u8]);
                    answer.extend_from_slice(&data);
                }
                let _ = socket.send_to(&answer, from).await;
                if wanted {
                    answers.next_if(|_| true);
                    if answers.peek().is_none() {
                        answers = vec![address].into_iter().peekable();
                    }
                }
            }
        });
        address
    }

    #[tokio::test]
    async fn no_name_leads_to_loopback_link_local_or_the_metadata_server() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = authority(&format!("looks-fine.test:{port}"));
        for address in [
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.0",
            "169.254.169.254",
            "224.0.0.1",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "fe80::1",
            "fd20:ce::254",
        ] {
            let tasks = crate::shutdown::Tasks::new();
            let server = name_server(&tasks, vec![address.parse().unwrap()]).await;
            for purpose in [Purpose::Opaque, Purpose::Verified] {
                let resolver = Resolver::of(server, crate::clock::Clock::system());
                let result = Dialer::new(resolver, Settings::default()).dial(&target, purpose).await;
                assert!(matches!(result, Err(DialError::Forbidden)), "{address} {purpose:?}: {result:?}");
            }
        }
        let connects = std::future::poll_fn(|context| std::task::Poll::Ready(listener.poll_accept(context).is_ready()));
        assert!(!connects.await, "something was dialled");
    }

    #[tokio::test]
    async fn a_name_that_leads_somewhere_else_the_second_time_is_judged_by_where_it_leads_then() {
        let tasks = crate::shutdown::Tasks::new();
        let clock = crate::clock::Clock::fast(10_000);
        let (first, then) = ("192.0.2.1".parse().unwrap(), "127.0.0.1".parse().unwrap());
        let dialer =
            Dialer::new(Resolver::of(name_server(&tasks, vec![first, then]).await, clock), Settings::default());
        let target = authority("rebound.test:443");
        let found = dialer.addresses(&target, Completion::Search).await.unwrap();
        assert_eq!(found, [SocketAddr::new(first, 443)]);
        let end = clock.now() + Duration::from_secs(10);
        while clock.now() < end {
            tokio::task::yield_now().await;
        }
        assert!(matches!(dialer.dial(&target, Purpose::Opaque).await, Err(DialError::Forbidden)));
    }

    #[tokio::test]
    async fn a_parent_proxy_is_not_asked_for_what_is_local() {
        let parent = ParentProxy { authority: authority("127.0.0.1:1"), tls: None, user_info: None };
        let settings = Settings { parent: Some(parent), ..Settings::default() };
        let dialer = Dialer::new(Resolver::system(crate::clock::Clock::system()), settings);
        for target in ["127.0.0.1:80", "metadata.google.internal:80", "169.254.169.254:80", "localhost:1"] {
            let result = dialer.dial(&authority(target), Purpose::Opaque).await;
            assert!(matches!(result, Err(DialError::Forbidden)), "{target}");
        }
        let elsewhere = dialer.dial(&authority("192.0.2.1:443"), Purpose::Opaque).await;
        assert!(matches!(elsewhere, Err(DialError::Connect(_))), "the parent itself was not dialled");
    }

    #[tokio::test]
    async fn a_connection_to_one_of_our_own_ports_is_known() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        for (ports, ours) in [(vec![address.port()], true), (vec![1], false), (Vec::new(), false)] {
            let dialer = Dialer::new(Resolver::system(crate::clock::Clock::system()), Settings::default());
            dialer.own_ports(ports);
            assert_eq!(dialer.is_ourselves(&stream), ours);
        }
    }
}
