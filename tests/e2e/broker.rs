//! A broker that looks closely: TLS under a name, the password verified as its readers do, every packet recorded.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    os::fd::AsFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
};

use bearerd::{clock::Clock, shutdown::Tasks};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};
use tokio_rustls::TlsAcceptor;

use crate::client::within;

/// Its name, and what its clients' tokens are for.
pub(crate) const NAME: &str = "mqtt.example.com";
pub(crate) const PROJECT: &str = "my-project";

/// A packet: first byte and body.
pub(crate) type Packet = (u8, Vec<u8>);

/// One connection, as far as it came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Met {
    /// The whole CONNECT.
    pub(crate) connect: Vec<u8>,
    pub(crate) username: String,
    pub(crate) password: String,
    /// The claims, if the password is a good token that has not ended.
    pub(crate) claims: Option<serde_json::Value>,
    /// What came behind CONNECT.
    pub(crate) packets: Vec<Packet>,
    /// It has ended.
    pub(crate) is_over: bool,
    /// It was still open when its token ended.
    pub(crate) has_expired: bool,
    /// It was reset behind the DISCONNECT.
    pub(crate) was_reset: bool,
}

impl Met {
    /// How many packets of this type came.
    pub(crate) fn count(&self, kind: u8) -> usize {
        self.packets.iter().filter(|(first, _)| first >> 4 == kind).count()
    }
}

pub(crate) struct Broker {
    pub(crate) address: SocketAddr,
    pub(crate) ca_pem: String,
    shared: Arc<Shared>,
}

struct Shared {
    clock: Clock,
    met: watch::Sender<Vec<Met>>,
    /// Packets to the client of each connection.
    senders: watch::Sender<BTreeMap<usize, mpsc::Sender<Vec<u8>>>>,
    /// Whether PUBLISH, PUBREL and SUBSCRIBE stay without answer.
    is_mute: AtomicBool,
    /// The code of CONNACK for good tokens.
    code: AtomicU8,
    /// Whether TLS handshakes are answered.
    is_open: watch::Sender<bool>,
}

impl Broker {
    /// With a certificate for `name`, of a CA of its own.
    pub(crate) async fn start(tasks: &Tasks, clock: Clock, name: &str) -> Self {
        let (ca_pem, config) = certificate(name);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            clock,
            met: watch::Sender::default(),
            senders: watch::Sender::default(),
            is_mute: AtomicBool::new(false),
            code: AtomicU8::new(0),
            is_open: watch::Sender::new(true),
        });
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (held, serving) = (shared.clone(), tasks.clone());
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut number = 0;
                held.met.send_modify(|met| {
                    number = met.len();
                    met.push(Met::default());
                });
                let (shared, acceptor) = (held.clone(), acceptor.clone());
                serving.spawn(async move {
                    shared.serve(number, &acceptor, stream).await;
                    shared.note(number, |met| met.is_over = true);
                });
            }
        });
        Self { address, ca_pem, shared }
    }

    /// All connections so far.
    pub(crate) fn met(&self) -> Vec<Met> {
        self.shared.met.borrow().clone()
    }

    /// Waits until the connections are as wanted.
    pub(crate) async fn until(&self, what: &str, mut wanted: impl FnMut(&[Met]) -> bool) -> Vec<Met> {
        let mut met = self.shared.met.subscribe();
        within(what, met.wait_for(|met| wanted(met))).await.unwrap().clone()
    }

    /// Sends bytes to the client of a connection.
    pub(crate) async fn send(&self, number: usize, packet: &[u8]) {
        let sender = self.shared.senders.borrow()[&number].clone();
        sender.send(packet.to_vec()).await.unwrap();
    }

    pub(crate) fn mute(&self, is_mute: bool) {
        self.shared.is_mute.store(is_mute, Ordering::SeqCst);
    }

    /// Whether connections get any further than being accepted; those that wait go on.
    pub(crate) fn open(&self, is_open: bool) {
        self.shared.is_open.send_replace(is_open);
    }

    pub(crate) fn accept_with(&self, code: u8) {
        self.shared.code.store(code, Ordering::SeqCst);
    }
}

impl Shared {
    fn note(&self, number: usize, change: impl FnOnce(&mut Met)) {
        self.met.send_modify(|met| change(&mut met[number]));
    }

    async fn serve(&self, number: usize, acceptor: &TlsAcceptor, stream: TcpStream) {
        let _ = self.is_open.subscribe().wait_for(|is_open| *is_open).await;
        let Ok(stream) = acceptor.accept(stream).await else { return };
        // The same socket, to be asked about what TLS does not tell.
        let socket = socket2::Socket::from(stream.get_ref().0.as_fd().try_clone_to_owned().unwrap());
        let (mut from, mut to) = tokio::io::split(stream);
        let Some((0x10, connect)) = packet(&mut from).await else { return };
        let is_5 = connect[6] == 5;
        let left = self.log_in(number, &connect);
        let code = if left.is_some() { self.code.load(Ordering::SeqCst) } else { 5 };
        let accepted = if is_5 { vec![0x20, 3, 0, code, 0] } else { vec![0x20, 2, 0, code] };
        if to.write_all(&accepted).await.is_err() || code != 0 {
            return;
        }
        let (sender, mut pushed) = mpsc::channel::<Vec<u8>>(16);
        self.senders.send_modify(|senders| _ = senders.insert(number, sender.clone()));
        let write = async {
            while let Some(bytes) = pushed.recv().await {
                if to.write_all(&bytes).await.is_err() || to.flush().await.is_err() {
                    break;
                }
            }
        };
        let read = async {
            while let Some(packet) = packet(&mut from).await {
                let answer = if self.is_mute.load(Ordering::SeqCst) { None } else { answer(&packet, is_5) };
                let is_last = packet.0 == 0xe0;
                self.note(number, |met| met.packets.push(packet));
                if let Some(answer) = answer {
                    let _ = sender.send(answer).await;
                }
                if is_last {
                    let rest = from.read(&mut [0]).await;
                    let was_reset = !matches!(rest, Ok(0)) || socket.take_error().unwrap().is_some();
                    self.note(number, |met| met.was_reset = was_reset);
                    break;
                }
            }
        };
        let left = left.unwrap_or_default();
        tokio::select! {
            () = read => {}
            () = write => {}
            () = self.clock.sleep(left) => self.note(number, |met| met.has_expired = true),
        }
    }

    /// How long the token is good.
    fn log_in(&self, number: usize, connect: &[u8]) -> Option<std::time::Duration> {
        let at = user_at(connect);
        let user = field(connect, at);
        let password = field(connect, at + 2 + user.len());
        let (user, password) = (text(user), text(password));
        let claims = verified(&password);
        let left = claims.as_ref().and_then(|claims| {
            let now = self.clock.wall().seconds();
            claims["exp"].as_u64()?.checked_sub(now).filter(|left| *left > 0).map(std::time::Duration::from_secs)
        });
        self.note(number, |met| {
            met.connect = connect.to_vec();
            (met.username, met.password, met.claims) = (user, password, claims.filter(|_| left.is_some()));
        });
        left
    }
}

/// Signature and audience; whether it has ended is told by the test's clock.
fn verified(token: &str) -> Option<serde_json::Value> {
    let key = KeyPair::from_pem(include_str!("../data/p256-pkcs8.pem")).unwrap();
    let key = jsonwebtoken::DecodingKey::from_ec_der(rcgen::PublicKeyData::der_bytes(&key));
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
    validation.set_audience(&[PROJECT]);
    validation.validate_exp = false;
    jsonwebtoken::decode(token, &key, &validation).ok().map(|decoded| decoded.claims)
}

/// Where the user begins in a CONNECT that has one.
fn user_at(connect: &[u8]) -> usize {
    let (flags, is_5) = (connect[7], connect[6] == 5);
    let mut at = 10;
    if is_5 {
        at += 1 + usize::from(connect[at]);
    }
    at += 2 + field(connect, at).len();
    if flags & 4 != 0 {
        if is_5 {
            at += 1 + usize::from(connect[at]);
        }
        at += 2 + field(connect, at).len();
        at += 2 + field(connect, at).len();
    }
    at
}

fn field(bytes: &[u8], at: usize) -> &[u8] {
    let size = usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
    &bytes[at + 2..at + 2 + size]
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn answer((first, body): &Packet, is_5: bool) -> Option<Vec<u8>> {
    let id = |at: usize| [body[at], body[at + 1]];
    let [high, low] = match first >> 4 {
        3 if first & 0b0110 != 0 => id(2 + usize::from(u16::from_be_bytes([body[0], body[1]]))),
        6 | 8 => id(0),
        12 => return Some(vec![0xd0, 0]),
        _ => return None,
    };
    Some(match first >> 4 {
        3 if first & 0b0010 != 0 => vec![0x40, 2, high, low],
        3 => vec![0x50, 2, high, low],
        6 => vec![0x70, 2, high, low],
        _ if is_5 => vec![0x90, 4, high, low, 0, 1],
        _ => vec![0x90, 3, high, low, 1],
    })
}

/// The next packet; none at the end.
pub(crate) async fn packet(from: &mut (impl AsyncRead + Unpin)) -> Option<Packet> {
    let first = from.read_u8().await.ok()?;
    let (mut length, mut shift) = (0, 0);
    loop {
        let byte = from.read_u8().await.ok()?;
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body).await.ok()?;
    Some((first, body))
}

fn certificate(name: &str) -> (String, rustls::ServerConfig) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(bearerd::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
        .unwrap();
    (ca_pem, config)
}
