//! The first bytes of an intercepted connection. Our side of the handshake answers only a hello that a second reader
//! finds to ask for the name of the CONNECT.
//!
//! The first byte says where the stream is cut.

#![no_main]

use std::sync::{Arc, LazyLock};

use bearerd::{
    clock::Clock,
    tls::{self, AcceptError, Leaves, PodCa},
};
use bearerd_fuzz::{
    hello,
    memory::{Client, Cuts, run},
    target,
};
use rustls::{ClientConfig, ClientConnection, RootCertStore, pki_types::ServerName};

const HOST: &str = "storage.googleapis.com";

static LEAVES: LazyLock<Leaves> = LazyLock::new(|| {
    let clock = Clock::system();
    let ca = PodCa::create(&["googleapis.com".to_owned()], clock.wall()).expect("a CA");
    Leaves::new(Arc::new(ca), clock).expect("leaves")
});

target!(seeds(), |data: &[u8]| {
    let Some((&choice, bytes)) = data.split_first() else { return };
    let [whole, each, some] = Cuts::all(bytes.len(), choice).map(|cuts| accepted(bytes, cuts));
    assert_eq!(whole, each);
    assert_eq!(whole, some);
    let (_, has_hello) = whole;
    if has_hello {
        let hello = hello::read(bytes).expect("answered what is no hello");
        for name in &hello.names {
            let name = name.strip_suffix(b".").unwrap_or(name);
            let shown = String::from_utf8_lossy(name);
            assert!(name.eq_ignore_ascii_case(HOST.as_bytes()), "answered for {shown}");
        }
    }
});

/// How it ended, and whether our side sent a handshake message.
fn accepted(bytes: &[u8], cuts: Cuts) -> (&'static str, bool) {
    let (client, written) = Client::new(bytes, cuts);
    let result = run(tls::accept(&LEAVES, HOST, client)).expect("nothing to wait for");
    let label = result.as_ref().err().map_or("none", AcceptError::label);
    // No fuzzer finishes a key exchange.
    assert_ne!(label, "none", "a handshake without a client");
    let written = written.lock().unwrap();
    assert!(written.len() < 16 * 1024, "{} bytes for a hello", written.len());
    let has_hello = written.first() == Some(&22);
    if label == "sni" {
        assert_eq!(written[..], [21, 3, 3, 0, 2, 2, 112], "unrecognized_name and nothing else");
    }
    (label, has_hello)
}

/// Hellos of rustls, for good names and others, whole and in two records.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![b"\0GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0, 22, 3, 1, 0, 0], vec![0, 128, 46, 1, 3, 1]];
    for (name, protocols) in [
        (HOST, &[&b"h2"[..], b"http/1.1"][..]),
        ("STORAGE.googleapis.com", &[b"http/1.1"]),
        ("pubsub.googleapis.com", &[b"h2"]),
        ("192.0.2.1", &[]),
        (HOST, &[b"h3"]),
        (HOST, &[]),
    ] {
        for versions in [tls::VERSIONS, &tls::VERSIONS[..1], &tls::VERSIONS[1..]] {
            let mut config = ClientConfig::builder_with_provider(tls::provider())
                .with_protocol_versions(versions)
                .expect("versions")
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth();
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            let name = ServerName::try_from(name).expect("a name");
            let mut connection = ClientConnection::new(Arc::new(config), name).expect("a client");
            let mut hello = vec![200];
            connection.write_tls(&mut hello).expect("memory");
            let (header, body) = (hello[1..6].to_vec(), hello[6..].to_vec());
            seeds.push(hello);
            let half = body.len() / 2;
            let record = |part: &[u8]| [&header[..3], &(part.len() as u16).to_be_bytes(), part].concat();
            seeds.push([&[100][..], &record(&body[..half]), &record(&body[half..])].concat());
        }
    }
    seeds
}
