//! The pod's CA: who it may speak for, and how it comes to be.
//!
//! Two certificates, because a verifier may ignore name constraints on what it trusts (Java does): the
//! root is what applications trust, and its key is gone before the first leaf exists; the intermediate
//! carries the constraints and signs leaves. A stolen intermediate key can speak for the zones it was
//! made for, and for nothing else.

use std::{fmt, path::Path, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, NameConstraints, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm, SigningKey,
};
use rustls::pki_types::{CertificateDer, DnsName};
use zeroize::Zeroizing;

use super::stored;
use crate::clock::Wall;

/// A CA of one pod, made for a fixed set of DNS zones.
pub struct PodCa {
    pub(super) root: CertificateDer<'static>,
    pub(super) intermediate: CertificateDer<'static>,
    pub(super) issuer: Issuer<'static, CaKey>,
    /// Read back from the intermediate, never from the configuration: this is what verifiers will hold it to.
    pub(super) permitted: Vec<String>,
    /// Seconds since 1970, as `expires`.
    pub(super) starts: u64,
    pub(super) expires: u64,
}

impl PodCa {
    /// The CA kept in `private`, or a new one that is then kept there.
    ///
    /// What is on disk wins, whatever zones are wanted now: applications have read its root and will not
    /// read another. Something half-written, expired or inconsistent is replaced, with a warning.
    pub fn load_or_create(private: &Path, permitted: &[String], wall: Wall) -> Result<Self, CaError> {
        match stored::load(private, wall)? {
            stored::Found::Usable(ca) => {
                if zones(permitted).ok().as_ref() != Some(&ca.permitted) {
                    tracing::warn!(
                        zones = ca.permitted.join(","),
                        "kept the pod's CA, whose zones differ from the configured ones: hosts outside them are \
                         not intercepted until the pod restarts"
                    );
                }
                return Ok(*ca);
            }
            stored::Found::Unusable(reason) => {
                tracing::warn!(reason, "made a new CA: what was kept cannot be used; applications must restart");
            }
            stored::Found::Nothing => {}
        }
        let ca = Self::create(permitted, wall)?;
        stored::save(private, &ca)?;
        Ok(ca)
    }

    /// A new CA that lives in memory only.
    pub fn create(permitted: &[String], wall: Wall) -> Result<Self, CaError> {
        let permitted = zones(permitted)?;
        let (start, end) = (wall.seconds().saturating_sub(BACKDATE), wall.seconds().saturating_add(LIFE));
        let tag = hex(&rand::random::<[u8; 4]>());

        let root_key = CaKey::generate()?;
        let root_params = params(&format!("bearerd pod root {tag}"), start, end, 1);
        let root = root_params.self_signed(&root_key)?;

        let key = CaKey::generate()?;
        let mut its = params(&format!("bearerd pod CA {tag}"), start, end, 0);
        its.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        its.name_constraints = Some(NameConstraints {
            permitted_subtrees: permitted.iter().cloned().map(GeneralSubtree::DnsName).collect(),
            // A constraint binds only names of its own kind: without these any address could be certified.
            excluded_subtrees: vec![
                GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])),
                GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])),
            ],
        });
        let intermediate = its.signed_by(&key, &Issuer::from_params(&root_params, &root_key))?;
        drop(root_key);

        Ok(Self {
            root: root.into(),
            intermediate: intermediate.into(),
            issuer: Issuer::new(its, key),
            permitted,
            starts: start,
            expires: end,
        })
    }

    /// The DNS zones this CA can speak for, without `*.`; each covers its own name and all below it.
    pub fn permitted(&self) -> &[String] {
        &self.permitted
    }

    /// Whether clients would accept a leaf of this CA for `host` (canonical). If not, `host` cannot be
    /// intercepted until the pod restarts.
    pub fn covers(&self, host: &str) -> bool {
        self.permitted.iter().any(|zone| is_within(host, zone))
    }

    /// The root, which is what applications trust.
    pub fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }

    /// When root and intermediate end.
    pub fn expires(&self) -> Wall {
        Wall(Duration::from_secs(self.expires))
    }

    /// Signs a leaf for exactly one name, from an hour ago until `LEAF_LIFE` later.
    pub(super) fn issue(&self, host: &str, key: &KeyPair, wall: Wall) -> Result<CertificateDer<'static>, CaError> {
        if !self.covers(host) {
            return Err(CaError::OutsideZones);
        }
        let start = wall.seconds().saturating_sub(BACKDATE);
        let end = start.saturating_add(LEAF_LIFE).min(self.expires);
        let mut its = named("bearerd leaf", start, end);
        its.is_ca = IsCa::ExplicitNoCa;
        // Only here: a common name of more than 64 characters would not be valid, a host may have 253.
        its.subject_alt_names = vec![SanType::DnsName(host.try_into()?)];
        its.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        its.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        Ok(its.signed_by(key, &self.issuer)?.into())
    }
}

/// Says nothing of the key.
impl fmt::Debug for PodCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PodCa").field("permitted", &self.permitted).field("expires", &self.expires).finish()
    }
}

/// Why there is no CA, or no leaf from it.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// An empty list would constrain nothing at all.
    #[error("no zone to make a CA for: at least one DNS name is needed")]
    NoZones,
    /// More than a CA can be constrained to.
    #[error("too many zones for one CA: {0}, at most {MAX_ZONES} are accepted")]
    TooManyZones(usize),
    /// Not a DNS name.
    #[error("zones[{0}]: not a DNS zone: a lower-case name such as googleapis.com is accepted, without *.")]
    Zone(usize),
    /// The host is not below any permitted zone.
    #[error("the host lies outside the zones of the pod's CA")]
    OutsideZones,
    /// The private directory.
    #[error("{path}: cannot keep the pod's CA")]
    Store {
        /// Which file or directory.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// rcgen's or the provider's refusal.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
}

/// A key that signs certificates; wiped when dropped.
pub(crate) struct CaKey(Zeroizing<KeyPair>);

impl CaKey {
    pub(crate) fn generate() -> Result<Self, rcgen::Error> {
        Ok(Self::from(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?))
    }

    pub(crate) fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.serialize_pem())
    }
}

impl From<KeyPair> for CaKey {
    fn from(pair: KeyPair) -> Self {
        Self(Zeroizing::new(pair))
    }
}

impl PublicKeyData for CaKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        PublicKeyData::algorithm(&*self.0)
    }
}

impl SigningKey for CaKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}

/// Sorted, without repetition, each checked.
fn zones(wanted: &[String]) -> Result<Vec<String>, CaError> {
    if wanted.is_empty() {
        return Err(CaError::NoZones);
    }
    for (at, zone) in wanted.iter().enumerate() {
        let is_lower = !zone.bytes().any(|byte| byte.is_ascii_uppercase());
        if !is_lower || zone.ends_with('.') || DnsName::try_from(zone.as_str()).is_err() {
            return Err(CaError::Zone(at));
        }
    }
    let mut kept: Vec<String> = wanted
        .iter()
        .filter(|zone| !wanted.iter().any(|other| other != *zone && is_within(zone, other)))
        .cloned()
        .collect();
    kept.sort();
    kept.dedup();
    if kept.len() > MAX_ZONES {
        return Err(CaError::TooManyZones(kept.len()));
    }
    Ok(kept)
}

fn is_within(host: &str, zone: &str) -> bool {
    host.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn params(name: &str, start: u64, end: u64, path_length: u8) -> CertificateParams {
    let mut its = named(name, start, end);
    its.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    its.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    its
}

/// What all our certificates have in common.
fn named(name: &str, start: u64, end: u64) -> CertificateParams {
    let mut its = CertificateParams::default();
    its.distinguished_name = rcgen::DistinguishedName::new();
    its.distinguished_name.push(DnType::CommonName, name);
    its.not_before = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(start.min(LAST));
    its.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(end.min(LAST));
    // rcgen would derive it from the public key: all leaves, which share theirs, would have the same.
    let mut serial = rand::random::<[u8; 16]>();
    // Positive and of full length, so that no parser finds a sign or a leading zero to complain about.
    serial[0] = serial[0] & 0x7f | 0x40;
    its.serial_number = Some(SerialNumber::from_slice(&serial));
    // Strict verifiers (Python since 3.13) want it everywhere but in the root.
    its.use_authority_key_identifier_extension = true;
    its
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Clocks of pod and verifier may differ by so much.
const BACKDATE: u64 = 3600;

/// Ten years: no pod outlives it, so the CA never has to be replaced under a running application.
const LIFE: u64 = 10 * 365 * 86_400;

/// Some verifiers refuse leaves of more than 398 days; a day is far from any such limit.
pub(super) const LEAF_LIFE: u64 = 86_400;

/// The constraints travel in every handshake: 256 names of usual length are about 6 kB.
const MAX_ZONES: usize = 256;

/// 9999-12-31 23:59:59, the last second X.509 can write. A mad clock must not panic the encoder.
const LAST: u64 = 253_402_300_799;
