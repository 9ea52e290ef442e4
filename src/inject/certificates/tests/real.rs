//! The certificates themselves, and what a Secret may hold.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::super::{
    authority::{self, Authority, LEAF_LIFE, Leaf, Root},
    shelf::{ROTATE, Read, Shelf, UNTIL},
};
use crate::clock::{Clock, Wall};

const NAME: &str = "bearerd.bearerd.svc";

fn wall() -> Wall {
    Clock::system().wall()
}

fn verifies(leaf: &Leaf, roots: &[Root], name: &str, at: Wall) -> bool {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(CertificateDer::from(root.clone())).unwrap();
    }
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(store), crate::tls::provider()).build().unwrap();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(at.seconds()));
    verifier
        .verify_server_cert(&leaf.key.cert[0], &[], &ServerName::try_from(name.to_owned()).unwrap(), &[], now)
        .is_ok()
}

#[test]
fn a_leaf_is_good_for_its_names_its_time_and_its_authority_alone() {
    let (wall, names) = (wall(), [NAME.to_owned(), "bearerd.bearerd".to_owned()]);
    let (one, two) = (Authority::generate(wall).unwrap(), Authority::generate(wall).unwrap());
    let leaf = one.sign(&names, wall).unwrap();
    let both = [two.root(), one.root()];
    assert!(names.iter().all(|name| verifies(&leaf, &both, name, wall)));
    assert!(!verifies(&leaf, &both, "other.bearerd.svc", wall));
    assert!(!verifies(&leaf, &[two.root()], NAME, wall));
    let after = |seconds| Wall(wall.0 + Duration::from_secs(seconds));
    assert!(verifies(&leaf, &both, NAME, after(LEAF_LIFE - 60)));
    assert!(!verifies(&leaf, &both, NAME, after(LEAF_LIFE + 60)));
    assert!(!leaf.life.is_due(after(LEAF_LIFE / 2).seconds()) && leaf.life.is_due(after(LEAF_LIFE * 7 / 10).seconds()));
}

fn secret(parts: &[(&str, &str)]) -> Secret {
    let data = parts.iter().map(|(key, text)| ((*key).to_owned(), ByteString(text.as_bytes().to_vec())));
    Secret { data: Some(data.collect()), ..Secret::default() }
}

#[test]
fn a_secret_is_usable_broken_empty_or_foreign() {
    let wall = wall();
    let (one, two) = (Authority::generate(wall).unwrap(), Authority::generate(wall).unwrap());
    let (ours, theirs) = (authority::pem([&one.root()]), authority::pem([&two.root()]));
    let (key, other_key) = (one.key_pem(), two.key_pem());
    let leaf = authority::pem([&one.sign(&[NAME.to_owned()], wall).unwrap().key.cert[0].to_vec()]);
    let ended = Authority::generate(Wall(Duration::from_secs(1_000_000))).unwrap();
    let (old, old_key) = (authority::pem([&ended.root()]), ended.key_pem());
    let table: [(&[(&str, &str)], &str); 11] = [
        (&[("ca.crt", &ours), ("ca.key", &key)], "usable"),
        (&[("ca.crt", &ours), ("ca.key", &key), ("other", "stays")], "usable"),
        (&[("ca.crt", &ours), ("ca.key", &key), ("next.crt", &theirs)], "usable, next.crt or next.key is missing"),
        (&[], "empty"),
        (&[("tls.crt", &ours)], "foreign"),
        (&[("ca.crt", &ours)], "broken, ca.crt or ca.key is missing"),
        (&[("ca.crt", &ours), ("ca.key", &other_key)], "broken, key and certificate do not belong together"),
        (&[("ca.crt", &ours[..200]), ("ca.key", &key)], "broken, the certificate cannot be read"),
        (&[("ca.crt", &ours), ("ca.key", "torn")], "broken, the key cannot be read"),
        (&[("ca.crt", &leaf), ("ca.key", &key)], "broken, the certificate is none of an authority"),
        (&[("ca.crt", &old), ("ca.key", &old_key)], "broken, the certificate has ended"),
    ];
    for (parts, expected) in table {
        let found = match Shelf::read(&secret(parts), wall) {
            Read::Usable(_, None) => "usable".to_owned(),
            Read::Usable(_, Some(reason)) => format!("usable, {reason}"),
            Read::Empty => "empty".to_owned(),
            Read::Broken(reason) => format!("broken, {reason}"),
            Read::Foreign => "foreign".to_owned(),
        };
        let keys: Vec<_> = parts.iter().map(|(key, _)| *key).collect();
        assert_eq!(found, expected, "{keys:?}");
    }
}

#[test]
fn what_is_written_is_read_back_through_a_whole_rotation() {
    let wall = wall();
    let mut secret = secret(&[("other", "stays")]);
    let mut shelf = Shelf::new(Authority::generate(wall).unwrap());
    shelf.asked = true;
    let first = shelf.current.root();
    let again = |shelf: &Shelf, secret: &mut Secret| {
        shelf.write(secret);
        let Read::Usable(read, None) = Shelf::read(secret, wall) else { panic!("not usable") };
        assert_eq!(read.kept(wall), shelf.kept(wall));
        assert!(secret.data.as_ref().unwrap().contains_key("other"));
        *read
    };
    secret.metadata.annotations.get_or_insert_default().insert(ROTATE.to_owned(), "now".to_owned());
    let mut shelf = again(&shelf, &mut secret);
    shelf.begin(Authority::generate(wall).unwrap());
    let mut shelf = again(&shelf, &mut secret);
    assert!(!secret.metadata.annotations.as_ref().unwrap().contains_key(ROTATE), "a wish is fulfilled once");
    let second = shelf.next.as_ref().unwrap().root();
    shelf.promote(wall);
    let mut shelf = again(&shelf, &mut secret);
    assert_eq!(shelf.kept(wall).trusted(wall.seconds()), [second.clone(), first]);
    assert_eq!(shelf.kept(wall).trusted(wall.seconds() + 9 * 86_400), vec![second.clone()]);
    assert_eq!(shelf.current.root(), second);
    shelf.forget();
    again(&shelf, &mut secret);
    assert!(!secret.metadata.annotations.as_ref().unwrap().contains_key(UNTIL));
    let text = serde_json::to_string(&secret).unwrap();
    assert!(!text.contains("next.key") && !text.contains("previous.crt"), "{text}");
}

#[test]
fn a_bundle_with_rubbish_is_told_apart() {
    let wall = wall();
    let one = Authority::generate(wall).unwrap().root();
    let good = authority::pem([&one]);
    let torn = format!("{good}-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n");
    assert_eq!(authority::roots(good.as_bytes(), wall), (vec![one.clone()], true));
    assert_eq!(authority::roots(torn.as_bytes(), wall), (vec![one], false));
    assert_eq!(authority::roots(b"", wall), (Vec::new(), true));
}
