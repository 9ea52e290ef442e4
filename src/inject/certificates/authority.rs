//! The webhook's own certificate authority and the leaves it signs.

use std::{fmt, sync::Arc, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use x509_parser::parse_x509_certificate;
use zeroize::Zeroizing;

use crate::{
    clock::Wall,
    tls::{self, CaKey},
};

/// A certificate that is trusted, told apart by its bytes.
pub(super) type Root = Vec<u8>;

/// An authority that can sign.
pub(super) struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, CaKey>,
    life: Life,
}

/// From when until when, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) from: u64,
    pub(super) until: u64,
}

impl Life {
    /// Two thirds have passed.
    pub(super) fn is_due(self, wall: u64) -> bool {
        wall >= self.from.saturating_add(self.until.saturating_sub(self.from) / 3 * 2)
    }
}

/// A leaf that is served.
#[derive(Clone)]
pub(super) struct Leaf {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) by: Root,
    pub(super) life: Life,
}

impl Authority {
    /// A new one.
    pub(super) fn generate(wall: Wall) -> Result<Self, rcgen::Error> {
        let key = CaKey::generate()?;
        let tag: String = rand::random::<[u8; 4]>().iter().map(|byte| format!("{byte:02x}")).collect();
        let life = Life { from: wall.seconds().saturating_sub(BACKDATE), until: wall.seconds().saturating_add(LIFE) };
        let mut its = params(&format!("bearerd webhook CA {tag}"), life);
        its.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        its.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = its.self_signed(&key)?.der().clone();
        Ok(Self { certificate, issuer: Issuer::new(its, key), life })
    }

    /// What the Secret holds, proven to belong together.
    pub(super) fn read(certificate: &[u8], key: &[u8], wall: Wall) -> Result<Self, &'static str> {
        let certificate = CertificateDer::from_pem_slice(certificate).map_err(|_| "the certificate cannot be read")?;
        let life = life(&certificate).ok_or("the certificate cannot be read")?;
        if life.until <= wall.seconds() {
            return Err("the certificate has ended");
        }
        let key = std::str::from_utf8(key).map_err(|_| "the key is no text")?;
        let key = KeyPair::from_pem(key).map_err(|_| "the key cannot be read")?;
        let (_, parsed) = parse_x509_certificate(&certificate).map_err(|_| "the certificate cannot be read")?;
        if !parsed.is_ca() {
            return Err("the certificate is none of an authority");
        }
        if parsed.public_key().raw != rcgen::PublicKeyData::subject_public_key_info(&key) {
            return Err("key and certificate do not belong together");
        }
        let issuer =
            Issuer::from_ca_cert_der(&certificate, CaKey::from(key)).map_err(|_| "the certificate cannot sign")?;
        Ok(Self { certificate, issuer, life })
    }

    /// What is trusted.
    pub(super) fn root(&self) -> Root {
        self.certificate.to_vec()
    }

    /// Its key, for the Secret.
    pub(super) fn key_pem(&self) -> Zeroizing<String> {
        self.issuer.key().to_pem()
    }

    pub(super) fn life(&self) -> Life {
        self.life
    }

    /// Signs a leaf for the service's names, with a key of its own.
    pub(super) fn sign(&self, names: &[String], wall: Wall) -> Result<Leaf, LeafError> {
        let key = Zeroizing::new(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?);
        let life = Life {
            from: wall.seconds().saturating_sub(BACKDATE),
            until: wall.seconds().saturating_add(LEAF_LIFE).min(self.life.until),
        };
        let mut its = params("bearerd webhook", life);
        its.is_ca = IsCa::ExplicitNoCa;
        for name in names {
            its.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
        }
        its.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        its.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = its.signed_by(&*key, &self.issuer)?.der().clone();
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = CertifiedKey::from_der(vec![certificate], private, &tls::provider())?;
        Ok(Leaf { key: Arc::new(key), by: self.root(), life })
    }
}

/// Says nothing of the key.
impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("life", &self.life).finish_non_exhaustive()
    }
}

/// Why there is no leaf.
#[derive(Debug, thiserror::Error)]
pub(super) enum LeafError {
    /// A service's name that is none, or the provider's refusal.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// Never seen.
    #[error("cannot use a certificate just made")]
    Tls(#[from] rustls::Error),
}

/// From when until when a certificate is good; `None` for what is none.
pub(super) fn life(certificate: &[u8]) -> Option<Life> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
    let validity = parsed.validity();
    Some(Life { from: seconds(validity.not_before.timestamp()), until: seconds(validity.not_after.timestamp()) })
}

/// The certificates in a PEM text that are good now, and whether there was nothing else.
pub(super) fn roots(pem: &[u8], wall: Wall) -> (Vec<Root>, bool) {
    let (mut roots, mut is_clean) = (Vec::new(), true);
    for found in CertificateDer::pem_slice_iter(pem).take(MOST_ROOTS + 1) {
        match found {
            Ok(one) if life(&one).is_some_and(|life| wall.seconds() < life.until) && roots.len() < MOST_ROOTS => {
                roots.push(one.to_vec());
            }
            _ => is_clean = false,
        }
    }
    (roots, is_clean)
}

/// Certificates as PEM text.
pub(super) fn pem<'a>(roots: impl IntoIterator<Item = &'a Root>) -> String {
    roots.into_iter().map(|root| tls::pem(&CertificateDer::from(root.as_slice()))).collect()
}

fn params(name: &str, life: Life) -> CertificateParams {
    let mut its = CertificateParams::default();
    its.distinguished_name = DistinguishedName::new();
    its.distinguished_name.push(DnType::CommonName, name);
    its.not_before = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(life.from.min(LAST));
    its.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(life.until.min(LAST));
    let mut serial = rand::random::<[u8; 16]>();
    // Positive and of full length, so that no parser finds a sign or a leading zero to complain about.
    serial[0] = serial[0] & 0x7f | 0x40;
    its.serial_number = Some(SerialNumber::from_slice(&serial));
    its.use_authority_key_identifier_extension = true;
    its
}

/// Clocks of the API server and of replicas may differ by so much.
const BACKDATE: u64 = 3600;
/// A year; at two thirds the next one is made.
const LIFE: u64 = 365 * 86_400;
/// A week; at two thirds the next one is signed.
pub(super) const LEAF_LIFE: u64 = 7 * 86_400;
/// What one bundle may hold.
const MOST_ROOTS: usize = 16;
/// 9999-12-31 23:59:59, the last second X.509 can write.
const LAST: u64 = 253_402_300_799;
