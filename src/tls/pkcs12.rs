//! A PKCS#12 file of trusted certificates, for the JVM (RFC 7292).
//!
//! Written here because it is one page, and the crate that writes it brings forty others, among them a
//! second set of cryptography. Nothing in it is secret, so nothing is encrypted: a JVM that was told no
//! password reads it as well. The MAC is there for readers that insist on one and for the password to
//! mean something. Equal certificates give equal bytes, so an unchanged file can be left alone.

use aws_lc_rs::{digest, hmac};
use rustls::pki_types::CertificateDer;
use yasna::{DERWriter, DERWriterSeq, Tag, construct_der, models::ObjectIdentifier};

/// Certificates under their aliases, which must differ from each other.
pub(super) fn truststore(certificates: &[(String, &CertificateDer<'_>)], password: &str) -> Vec<u8> {
    let bags = construct_der(|writer| {
        writer.write_sequence_of(|writer| {
            for (alias, certificate) in certificates {
                bag(writer.next(), alias, certificate);
            }
        });
    });
    let safe = construct_der(|writer| writer.write_sequence_of(|writer| data(writer.next(), &bags)));
    let salt = digest::digest(&digest::SHA256, &safe);
    let key = hmac::Key::new(hmac::HMAC_SHA256, mac_key(password, salt.as_ref()).as_ref());
    let mac = hmac::sign(&key, &safe);

    construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_u8(3);
            data(writer.next(), &safe);
            writer.next().write_sequence(|writer| {
                writer.next().write_sequence(|writer| {
                    writer.next().write_sequence(|writer| {
                        writer.next().write_oid(&oid(SHA256));
                        writer.next().write_null();
                    });
                    writer.next().write_bytes(mac.as_ref());
                });
                writer.next().write_bytes(salt.as_ref());
                writer.next().write_u32(ROUNDS);
            });
        });
    })
}

/// A ContentInfo of type data.
fn data(writer: DERWriter<'_>, content: &[u8]) {
    writer.write_sequence(|writer| {
        writer.next().write_oid(&oid(DATA));
        writer.next().write_tagged(Tag::context(0), |writer| writer.write_bytes(content));
    });
}

fn bag(writer: DERWriter<'_>, alias: &str, certificate: &CertificateDer<'_>) {
    writer.write_sequence(|writer| {
        writer.next().write_oid(&oid(CERT_BAG));
        writer.next().write_tagged(Tag::context(0), |writer| {
            writer.write_sequence(|writer| {
                writer.next().write_oid(&oid(X509_CERTIFICATE));
                writer.next().write_tagged(Tag::context(0), |writer| writer.write_bytes(certificate));
            });
        });
        writer.next().write_set_of(|writer| {
            attribute(writer.next(), FRIENDLY_NAME, |writer| writer.write_bmp_string(alias));
            // Without it Java lists the certificate nowhere and trusts it for nothing.
            attribute(writer.next(), ORACLE_TRUSTED_KEY_USAGE, |writer| writer.write_oid(&oid(ANY_USAGE)));
        });
    });
}

fn attribute(writer: DERWriter<'_>, kind: &[u64], value: impl FnOnce(DERWriter<'_>)) {
    writer.write_sequence(|writer: &mut DERWriterSeq<'_>| {
        writer.next().write_oid(&oid(kind));
        writer.next().write_set_of(|writer| value(writer.next()));
    });
}

/// RFC 7292, appendix B.2, for the MAC (ID 3). A SHA-256 key is one block of output, so the steps that
/// join blocks fall away.
fn mac_key(password: &str, salt: &[u8]) -> digest::Digest {
    const BLOCK: usize = 64;
    let password: Vec<u8> = password.encode_utf16().chain([0]).flat_map(u16::to_be_bytes).collect();
    let filled =
        |text: &[u8]| text.iter().copied().cycle().take(text.len().next_multiple_of(BLOCK)).collect::<Vec<_>>();
    let input = [vec![3; BLOCK], filled(salt), filled(&password)].concat();
    (1..ROUNDS).fold(digest::digest(&digest::SHA256, &input), |last, _| digest::digest(&digest::SHA256, last.as_ref()))
}

fn oid(parts: &[u64]) -> ObjectIdentifier {
    ObjectIdentifier::from_slice(parts)
}

/// What RFC 7292 recommends at least. More would only delay the start: the password is in the manual.
const ROUNDS: u32 = 1024;

const DATA: &[u64] = &[1, 2, 840, 113_549, 1, 7, 1];
const CERT_BAG: &[u64] = &[1, 2, 840, 113_549, 1, 12, 10, 1, 3];
const X509_CERTIFICATE: &[u64] = &[1, 2, 840, 113_549, 1, 9, 22, 1];
const FRIENDLY_NAME: &[u64] = &[1, 2, 840, 113_549, 1, 9, 20];
const ORACLE_TRUSTED_KEY_USAGE: &[u64] = &[2, 16, 840, 1, 113_894, 746_875, 1, 1];
const ANY_USAGE: &[u64] = &[2, 5, 29, 37, 0];
const SHA256: &[u64] = &[2, 16, 840, 1, 101, 3, 4, 2, 1];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_certificate_carries_javas_mark_of_trust() {
        let certificates = [CertificateDer::from(vec![0x30, 0]), CertificateDer::from(vec![0x30, 1, 0])];
        let named: Vec<_> = certificates.iter().enumerate().map(|(at, der)| (format!("c-{at}"), der)).collect();
        let store = truststore(&named, "changeit");
        let mark = yasna::encode_der(&oid(ORACLE_TRUSTED_KEY_USAGE));
        assert_eq!(store.windows(mark.len()).filter(|part| *part == mark).count(), 2);
    }

    #[test]
    fn another_password_makes_another_mac() {
        let certificate = CertificateDer::from(vec![0x30, 0]);
        let named = [("c".to_owned(), &certificate)];
        assert_eq!(truststore(&named, "changeit"), truststore(&named, "changeit"));
        assert_ne!(truststore(&named, "changeit"), truststore(&named, "changeme"));
    }
}
