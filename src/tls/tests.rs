//! The module seen from outside: a CA that lives on, and handshakes with an in-memory client.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use rustls::{
    AlertDescription, ClientConfig, ClientConnection, RootCertStore, ServerConnection,
    pki_types::{CertificateDer, ServerName},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::*;
use crate::clock::{Clock, Wall};

const ZONE: &str = "googleapis.com";
const HOST: &str = "storage.googleapis.com";

fn wall() -> Wall {
    Clock::system().wall()
}

fn zones(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn load(private: &Path) -> PodCa {
    PodCa::load_or_create(private, &zones(&[ZONE]), wall()).unwrap()
}

fn leaves() -> Leaves {
    Leaves::new(Arc::new(PodCa::create(&zones(&[ZONE]), wall()).unwrap()), Clock::system()).unwrap()
}

fn client(ca: &PodCa, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.root().clone()).unwrap();
    client_config(Arc::new(roots), alpn).unwrap()
}

// The CA on disk.

#[test]
fn the_ca_survives_a_restart() {
    let place = tempfile::tempdir().unwrap();
    let (first, second) = (load(place.path()), load(place.path()));
    assert_eq!(first.root(), second.root());
    assert_eq!(first.intermediate, second.intermediate);
    assert_eq!((first.permitted(), first.expires()), (second.permitted(), second.expires()));
}

#[test]
fn leaves_made_after_a_restart_satisfy_a_client_from_before() {
    let place = tempfile::tempdir().unwrap();
    let old = client(&load(place.path()), &[]);
    let leaves = Leaves::new(Arc::new(load(place.path())), Clock::system()).unwrap();
    assert!(handshake(&leaves, old, HOST).is_ok());
}

#[test]
fn the_key_is_readable_by_us_alone() {
    let place = tempfile::tempdir().unwrap();
    let private = place.path().join("run/private");
    load(&private);
    assert_eq!(fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o700);
    for file in fs::read_dir(&private).unwrap() {
        assert_eq!(file.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn every_torn_state_is_replaced_by_a_working_one() {
    let place = tempfile::tempdir().unwrap();
    let first = load(place.path());
    let file = place.path().join(stored::FILE);
    let whole = fs::read(&file).unwrap();
    // A cut that takes only the newline after the last dash loses nothing.
    for length in (0..whole.len() - 1).step_by(97) {
        fs::write(&file, &whole[..length]).unwrap();
        let second = load(place.path());
        assert_ne!(first.root(), second.root(), "cut at {length}");
        assert_eq!(second.root(), load(place.path()).root(), "cut at {length}");
    }
}

#[test]
fn parts_that_do_not_belong_together_are_replaced() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    load(one.path());
    load(two.path());
    let blocks = |place: &Path| -> Vec<String> {
        let text = fs::read_to_string(place.join(stored::FILE)).unwrap();
        text.split_inclusive("-----\n").map(str::to_owned).collect::<Vec<_>>().chunks(2).map(|b| b.concat()).collect()
    };
    let (a, b) = (blocks(one.path()), blocks(two.path()));
    for mixed in [[&b[0], &a[1], &a[2]], [&a[0], &b[1], &a[2]], [&a[0], &a[1], &b[2]]] {
        fs::write(one.path().join(stored::FILE), mixed.map(String::as_str).concat()).unwrap();
        let found = stored::load(one.path(), wall()).unwrap();
        assert!(matches!(found, stored::Found::Unusable(_)));
    }
    fs::write(one.path().join(stored::FILE), a.concat()).unwrap();
    assert!(matches!(stored::load(one.path(), wall()).unwrap(), stored::Found::Usable(_)));
}

#[test]
fn an_expired_ca_is_replaced_and_one_from_the_future_stays() {
    let place = tempfile::tempdir().unwrap();
    let first = load(place.path());
    let years = |count: u64| Duration::from_secs(count * 365 * 86_400);
    let earlier = Wall(wall().0 - years(1));
    assert_eq!(PodCa::load_or_create(place.path(), &zones(&[ZONE]), earlier).unwrap().root(), first.root());
    let later = Wall(wall().0 + years(11));
    assert_ne!(PodCa::load_or_create(place.path(), &zones(&[ZONE]), later).unwrap().root(), first.root());
}

#[test]
fn zones_on_disk_win_over_wanted_ones() {
    let place = tempfile::tempdir().unwrap();
    let first = load(place.path());
    let second = PodCa::load_or_create(place.path(), &zones(&[ZONE, "api.example"]), wall()).unwrap();
    assert_eq!(first.root(), second.root());
    assert_eq!(second.permitted(), [ZONE]);
    assert!(!second.covers("api.example"));
}

#[test]
fn a_private_directory_that_cannot_be_is_an_error_that_names_it() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("file"), "").unwrap();
    let error = PodCa::load_or_create(&place.path().join("file/private"), &zones(&[ZONE]), wall()).unwrap_err();
    assert!(error.to_string().contains("file/private"), "{error}");
}

// What the CA may do.

#[test]
fn zones_are_covered_by_whole_labels() {
    let ca = PodCa::create(&zones(&["googleapis.com", "host.api.example"]), wall()).unwrap();
    for host in ["googleapis.com", "storage.googleapis.com", "a.b.googleapis.com", "host.api.example"] {
        assert!(ca.covers(host), "{host}");
    }
    for host in ["", "com", "evilgoogleapis.com", "googleapis.com.evil", "api.example", ".com", "example"] {
        assert!(!ca.covers(host), "{host}");
    }
}

#[test]
fn what_is_no_zone_is_refused_by_its_position() {
    assert!(matches!(PodCa::create(&[], wall()), Err(CaError::NoZones)));
    for bad in ["", "*.googleapis.com", "Googleapis.com", "googleapis.com.", ".googleapis.com", "a b", "10.0.0.1", "*"]
    {
        let found = PodCa::create(&zones(&[ZONE, bad]), wall());
        assert!(matches!(found, Err(CaError::Zone(1))), "{bad}: {found:?}");
    }
    let many = (0..300).map(|at| format!("z{at}.example")).collect::<Vec<_>>();
    assert!(matches!(PodCa::create(&many, wall()), Err(CaError::TooManyZones(300))));
}

#[test]
fn a_zone_inside_another_is_not_listed_twice() {
    let ca = PodCa::create(&zones(&["storage.googleapis.com", ZONE, ZONE]), wall()).unwrap();
    assert_eq!(ca.permitted(), [ZONE]);
}

#[test]
fn root_and_intermediate_are_what_strict_verifiers_want() {
    let ca = PodCa::create(&zones(&[ZONE]), wall()).unwrap();
    let (_, root) = X509Certificate::from_der(ca.root()).unwrap();
    let (_, middle) = X509Certificate::from_der(&ca.intermediate).unwrap();
    for (certificate, path_length) in [(&root, 1), (&middle, 0)] {
        let basic = certificate.basic_constraints().unwrap().unwrap();
        assert!(basic.critical && basic.value.ca);
        assert_eq!(basic.value.path_len_constraint, Some(path_length));
        let usage = certificate.key_usage().unwrap().unwrap();
        assert!(usage.critical && usage.value.key_cert_sign() && !usage.value.digital_signature());
        let validity = certificate.validity();
        assert!(validity.not_before.timestamp() <= wall().seconds() as i64 - 3600);
        assert!(validity.not_after.timestamp() >= wall().seconds() as i64 + 9 * 365 * 86_400);
        assert_eq!(certificate.raw_serial().len(), 16);
    }
    let constraints = middle.name_constraints().unwrap().unwrap();
    assert!(constraints.critical);
    let permitted: Vec<_> = constraints.value.permitted_subtrees.iter().flatten().map(|tree| &tree.base).collect();
    assert_eq!(permitted, [&GeneralName::DNSName(ZONE)]);
    assert_eq!(constraints.value.excluded_subtrees.as_ref().unwrap().len(), 2);
    assert_ne!(root.raw_serial(), middle.raw_serial());
    assert_ne!(root.public_key().raw, middle.public_key().raw);
    assert_ne!(root.subject().to_string(), middle.subject().to_string());
}

#[test]
fn debug_output_holds_no_key() {
    let text = format!("{:?}", leaves());
    assert!(text.contains(ZONE) && text.len() < 200, "{text}");
}

// Leaves.

fn chain(leaves: &Leaves, host: &str) -> Vec<CertificateDer<'static>> {
    let (client, _) = handshake(leaves, client(leaves.ca(), &[]), host).unwrap();
    client.peer_certificates().unwrap().to_vec()
}

#[test]
fn a_leaf_names_one_host_and_lives_a_day() {
    let chain = chain(&leaves(), HOST);
    assert_eq!(chain.len(), 2);
    let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
    let names = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(names, &[GeneralName::DNSName(HOST)]);
    assert!(leaf.extended_key_usage().unwrap().unwrap().value.server_auth);
    assert!(!leaf.is_ca());
    let validity = leaf.validity();
    assert_eq!(validity.not_after.timestamp() - validity.not_before.timestamp(), 86_400);
    assert!(validity.not_before.timestamp() <= wall().seconds() as i64 - 3600);
}

#[test]
fn leaves_share_a_key_that_is_not_the_cas_and_no_serial() {
    let leaves = leaves();
    let (one, two) = (chain(&leaves, HOST), chain(&leaves, "pubsub.googleapis.com"));
    let (_, a) = X509Certificate::from_der(&one[0]).unwrap();
    let (_, b) = X509Certificate::from_der(&two[0]).unwrap();
    let (_, middle) = X509Certificate::from_der(&one[1]).unwrap();
    assert_eq!(a.public_key().raw, b.public_key().raw);
    assert_ne!(a.public_key().raw, middle.public_key().raw);
    assert_ne!(a.raw_serial(), b.raw_serial());
}

#[test]
fn a_host_of_253_characters_gets_a_leaf() {
    let label = "a".repeat(63);
    let host = format!("{label}.{label}.{label}.{}.{ZONE}", "a".repeat(253 - 3 * 64 - 1 - ZONE.len()));
    assert_eq!(host.len(), 253);
    assert_eq!(chain(&leaves(), &host).len(), 2);
}

#[test]
fn a_host_outside_the_zones_gets_no_leaf() {
    for host in ["accounts.google.com", "evilgoogleapis.com", ""] {
        assert!(matches!(leaves().server_config(host), Err(LeafError::Ca(CaError::OutsideZones))), "{host}");
    }
}

#[test]
fn one_configuration_serves_a_name_again_and_again() {
    let leaves = leaves();
    let first = leaves.server_config(HOST).unwrap();
    assert!(Arc::ptr_eq(&first, &leaves.server_config(HOST).unwrap()));
}

#[test]
fn no_more_than_512_names_are_kept_and_the_least_used_goes() {
    let leaves = leaves();
    let used = leaves.server_config(HOST).unwrap();
    let idle = leaves.server_config("idle.googleapis.com").unwrap();
    for at in 0..leaf::MOST {
        leaves.server_config(&format!("h{at}.googleapis.com")).unwrap();
        leaves.server_config(HOST).unwrap();
    }
    assert_eq!(leaves.kept(), leaf::MOST);
    assert!(Arc::ptr_eq(&used, &leaves.server_config(HOST).unwrap()));
    assert!(!Arc::ptr_eq(&idle, &leaves.server_config("idle.googleapis.com").unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_leaf_is_made_anew_at_half_its_life() {
    let clock = Clock::virtual_time();
    let ca = Arc::new(PodCa::create(&zones(&[ZONE]), clock.wall()).unwrap());
    let leaves = Leaves::new(ca, clock).unwrap();
    let first = leaves.server_config(HOST).unwrap();
    tokio::time::advance(Duration::from_secs(12 * 3600 - 1)).await;
    assert!(Arc::ptr_eq(&first, &leaves.server_config(HOST).unwrap()));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(!Arc::ptr_eq(&first, &leaves.server_config(HOST).unwrap()));
    assert_eq!(leaves.kept(), 1);
}

// Handshakes.

/// Both ends in memory; the client's error if it has one, else the server's.
fn handshake(
    leaves: &Leaves,
    config: Arc<ClientConfig>,
    host: &str,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    let mut client = ClientConnection::new(config, ServerName::try_from(host.to_owned()).unwrap())?;
    let mut server = ServerConnection::new(leaves.server_config(host).unwrap())?;
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        server.read_tls(&mut bytes.as_slice()).unwrap();
        let refused = server.process_new_packets().err();
        bytes.clear();
        server.write_tls(&mut bytes).unwrap();
        client.read_tls(&mut bytes.as_slice()).unwrap();
        client.process_new_packets()?;
        refused.map_or(Ok(()), Err)?;
    }
    Ok((client, server))
}

/// A client that names `sni`, against a server that was told `host`.
async fn meet(alpn: &[&[u8]], sni: Option<&str>, host: &str) -> (Result<Option<Vec<u8>>, AcceptError>, String) {
    let leaves = leaves();
    let mut config = ClientConfig::clone(&client(leaves.ca(), alpn));
    config.enable_sni = sni.is_some();
    let name = ServerName::try_from(sni.unwrap_or(host).to_owned()).unwrap();
    let (near, far) = tokio::io::duplex(64 * 1024);
    let server = async {
        let mut stream = accept(&leaves, host, far).await?;
        stream.write_all(b"!").await.unwrap();
        stream.shutdown().await.unwrap();
        Ok(stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec))
    };
    let client = async {
        match TlsConnector::from(Arc::new(config)).connect(name, near).await {
            Ok(mut stream) => {
                let mut text = String::new();
                stream.read_to_string(&mut text).await.unwrap();
                text
            }
            Err(error) => error.to_string(),
        }
    };
    tokio::join!(server, client)
}

fn alert(description: AlertDescription) -> String {
    rustls::Error::AlertReceived(description).to_string()
}

#[tokio::test]
async fn another_name_in_sni_is_answered_with_unrecognized_name() {
    let (server, client) = meet(&[], Some("pubsub.googleapis.com"), HOST).await;
    assert!(matches!(server, Err(AcceptError::OtherName)), "{server:?}");
    assert_eq!(client, alert(AlertDescription::UnrecognisedName));
}

#[tokio::test]
async fn sni_may_differ_in_case_or_be_absent() {
    for sni in [Some("Storage.GoogleAPIs.com"), Some("storage.googleapis.com."), None] {
        let (server, client) = meet(&[], sni, HOST).await;
        assert!(server.is_ok(), "{sni:?}: {server:?}");
        assert_eq!(client, "!", "{sni:?}");
    }
}

#[test]
fn a_configuration_answers_for_no_other_name() {
    let leaves = leaves();
    let name = ServerName::try_from("pubsub.googleapis.com").unwrap();
    let mut client = ClientConnection::new(client(leaves.ca(), &[]), name).unwrap();
    let mut server = ServerConnection::new(leaves.server_config(HOST).unwrap()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    server.read_tls(&mut bytes.as_slice()).unwrap();
    assert!(server.process_new_packets().is_err());
}

#[test]
fn names_are_the_same_but_for_case_and_one_dot() {
    for sni in ["storage.googleapis.com", "STORAGE.googleapis.com", "storage.googleapis.com."] {
        assert!(leaf::is_same_name(sni, HOST), "{sni}");
    }
    for sni in
        ["", ".", "storage.googleapis.com..", "x.storage.googleapis.com", "googleapis.com", "storage_googleapis.com"]
    {
        assert!(!leaf::is_same_name(sni, HOST), "{sni}");
    }
}

#[tokio::test]
async fn the_protocol_is_the_best_that_both_speak() {
    let strange: &[u8] = b"grpc-exp";
    for (offered, chosen) in [
        (vec![H2, HTTP11], Some(H2)),
        (vec![HTTP11, H2], Some(H2)),
        (vec![HTTP11], Some(HTTP11)),
        (vec![strange, H2], Some(H2)),
        (vec![], None),
    ] {
        let (server, client) = meet(&offered, Some(HOST), HOST).await;
        assert_eq!(server.unwrap().as_deref(), chosen, "{offered:?}");
        assert_eq!(client, "!");
    }
}

#[tokio::test]
async fn a_client_that_offers_only_strange_protocols_is_told_so() {
    let (server, client) = meet(&[b"grpc-exp"], Some(HOST), HOST).await;
    assert!(matches!(server, Err(AcceptError::Protocol)), "{server:?}");
    assert_eq!(client, alert(AlertDescription::NoApplicationProtocol));
}

#[tokio::test]
async fn a_client_that_does_not_trust_us_is_told_apart() {
    let leaves = leaves();
    let stranger = client(&PodCa::create(&zones(&[ZONE]), wall()).unwrap(), &[]);
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from(HOST).unwrap();
    let (server, client) = tokio::join!(accept(&leaves, HOST, far), TlsConnector::from(stranger).connect(name, near));
    assert!(client.is_err());
    let error = server.unwrap_err();
    assert!(matches!(error, AcceptError::Untrusted), "{error:?}");
}

#[tokio::test]
async fn what_is_not_tls_is_not_served() {
    let (mut near, far) = tokio::io::duplex(1024);
    near.write_all(b"GET / HTTP/1.1\r\nHost: storage.googleapis.com\r\n\r\n").await.unwrap();
    let error = accept(&leaves(), HOST, far).await.unwrap_err();
    assert_eq!(error.label(), "tls");
}

#[test]
fn nothing_can_be_resumed() {
    let leaves = leaves();
    let config = client(leaves.ca(), &[]);
    for _ in 0..2 {
        let (client, _) = handshake(&leaves, Arc::clone(&config), HOST).unwrap();
        assert_eq!(client.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
}

// Trust files.

#[test]
fn trust_files_are_readable_by_all_and_hold_every_root() {
    let place = tempfile::tempdir().unwrap();
    let ca = PodCa::create(&zones(&[ZONE]), wall()).unwrap();
    let files = write_trust(&place.path().join("trust"), &ca, None).unwrap();
    for path in [&files.ca, &files.bundle, &files.truststore] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o644);
    }
    assert_eq!(pem::decode(&fs::read(&files.ca).unwrap()).unwrap(), [ca.root().clone()]);
    let bundle = pem::decode(&fs::read(&files.bundle).unwrap()).unwrap();
    assert_eq!(bundle.len(), roots::public().len() + 1);
    assert!(bundle.contains(ca.root()));
    let store = fs::read(&files.truststore).unwrap();
    for root in bundle {
        assert!(store.windows(root.len()).any(|part| part == &*root));
    }
}

#[test]
fn an_extra_root_is_added_once() {
    let place = tempfile::tempdir().unwrap();
    let ca = PodCa::create(&zones(&[ZONE]), wall()).unwrap();
    let mut extra = String::new();
    let corporate = PodCa::create(&zones(&["corp.example"]), wall()).unwrap();
    for root in [corporate.root(), corporate.root(), &roots::public()[0]] {
        pem::encode(root, &mut extra);
    }
    let files = write_trust(place.path(), &ca, Some(extra.as_bytes())).unwrap();
    let bundle = pem::decode(&fs::read(&files.bundle).unwrap()).unwrap();
    assert_eq!(bundle.len(), roots::public().len() + 2);
}

#[test]
fn equal_trust_files_are_not_touched() {
    let place = tempfile::tempdir().unwrap();
    let ca = PodCa::create(&zones(&[ZONE]), wall()).unwrap();
    let inodes = |files: TrustFiles| {
        use std::os::unix::fs::MetadataExt;
        [files.ca, files.bundle, files.truststore].map(|path| fs::metadata(path).unwrap().ino())
    };
    let first = inodes(write_trust(place.path(), &ca, None).unwrap());
    assert_eq!(first, inodes(write_trust(place.path(), &ca, None).unwrap()));
    let other = PodCa::create(&zones(&[ZONE]), wall()).unwrap();
    assert_ne!(first, inodes(write_trust(place.path(), &other, None).unwrap()));
}
