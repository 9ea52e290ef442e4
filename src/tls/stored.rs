//! The CA between two lives of the process: one private file, whole or absent.
//!
//! One file, not three, so that a kill between two writes cannot leave a key beside another's certificate.

use std::{path::Path, sync::Arc, time::Duration};

use rcgen::{Issuer, KeyPair};
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    pki_types::{PrivatePkcs8KeyDer, ServerName, UnixTime, pem::PemObject},
};
use x509_parser::{extensions::GeneralName, parse_x509_certificate};
use zeroize::Zeroizing;

use super::{
    ca::{CaError, CaKey, PodCa},
    pem,
};
use crate::{clock::Wall, file};

/// What lies in the private directory.
pub(super) enum Found {
    /// A CA that a client would accept today.
    Usable(Box<PodCa>),
    /// Something else, and why.
    Unusable(&'static str),
    /// No file.
    Nothing,
}

/// Reads the file and judges it. An error is one of the file system, not of the content.
pub(super) fn load(private: &Path, wall: Wall) -> Result<Found, CaError> {
    let path = private.join(FILE);
    let content = file::read(&path, LIMIT).map_err(|source| store_error(&path, source))?.map(Zeroizing::new);
    let Some(content) = content else { return Ok(Found::Nothing) };
    Ok(match parse(&content).and_then(|ca| probe(ca, wall)) {
        Ok(ca) => Found::Usable(Box::new(ca)),
        Err(reason) => Found::Unusable(reason),
    })
}

/// Writes the file, readable by us alone, and does not return before the disk has it.
pub(super) fn save(private: &Path, ca: &PodCa) -> Result<(), CaError> {
    let mut text = Zeroizing::new(String::with_capacity(LIMIT as usize));
    pem::encode(&ca.root, &mut text);
    pem::encode(&ca.intermediate, &mut text);
    text.push_str(&ca.issuer.key().to_pem());
    file::directory(private, 0o700).map_err(|source| store_error(private, source))?;
    file::replace(private, FILE, text.as_bytes(), 0o600, file::Keep::AcrossPowerLoss)
        .map(drop)
        .map_err(|source| store_error(&private.join(FILE), source))
}

fn parse(content: &[u8]) -> Result<PodCa, &'static str> {
    let certificates = pem::decode(content).map_err(|_| "a certificate cannot be read")?;
    let Ok([root, intermediate]) = <[_; 2]>::try_from(certificates) else {
        return Err("not exactly two certificates");
    };
    let key = PrivatePkcs8KeyDer::from_pem_slice(content).map_err(|_| "the key is missing or torn")?;
    let key = KeyPair::try_from(&key).map_err(|_| "the key cannot be read")?;
    if !key.is_compatible(&rcgen::PKCS_ECDSA_P256_SHA256) {
        return Err("the key is not on P-256");
    }
    let (permitted, starts, expires) = {
        let (_, parsed) = parse_x509_certificate(&intermediate).map_err(|_| "the intermediate cannot be read")?;
        let constraints = parsed.name_constraints().map_err(|_| "the name constraints cannot be read")?;
        let subtrees = constraints.and_then(|found| found.value.permitted_subtrees.as_ref());
        let permitted = subtrees.into_iter().flatten().filter_map(|subtree| match &subtree.base {
            GeneralName::DNSName(zone) => Some((*zone).to_owned()),
            _ => None,
        });
        let validity = parsed.validity();
        (permitted.collect::<Vec<_>>(), validity.not_before.timestamp(), validity.not_after.timestamp())
    };
    Ok(PodCa {
        issuer: Issuer::from_ca_cert_der(&intermediate, CaKey::from(key))
            .map_err(|_| "the intermediate cannot sign")?,
        root,
        intermediate,
        permitted,
        starts: u64::try_from(starts).unwrap_or(0),
        expires: u64::try_from(expires).map_err(|_| "expired before 1970")?,
    })
}

/// Signs a leaf and verifies it as a client would: one look at key, signatures, validity and constraints.
fn probe(ca: PodCa, wall: Wall) -> Result<PodCa, &'static str> {
    // A CA from the future is one made before the clock was set back. Applications trust it: it stays.
    let wall = Wall(wall.0.max(Duration::from_secs(ca.starts)));
    let host = ca.permitted.first().ok_or("no zone is permitted")?;
    let key = KeyPair::generate().map_err(|_| "no key for the trial leaf")?;
    let leaf = ca.issue(host, &key, wall).map_err(|_| "the trial leaf cannot be signed")?;
    let name = ServerName::try_from(host.as_str()).map_err(|_| "the zone is not a name")?;

    let mut roots = RootCertStore::empty();
    roots.add(ca.root.clone()).map_err(|_| "the root cannot be read")?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), super::provider())
        .build()
        .map_err(|_| "the root cannot be trusted")?;
    let now = UnixTime::since_unix_epoch(Duration::from_secs(wall.seconds()));
    verifier
        .verify_server_cert(&leaf, std::slice::from_ref(&ca.intermediate), &name, &[], now)
        .map_err(|_| "a leaf of it would not be accepted: expired, or its parts do not belong together")?;
    Ok(ca)
}

fn store_error(path: &Path, source: std::io::Error) -> CaError {
    CaError::Store { path: path.display().to_string(), source }
}

/// Two certificates and a key.
pub(super) const FILE: &str = "ca.pem";

/// With the most zones that a CA takes, all of 253 characters, it stays below.
const LIMIT: u64 = 128 * 1024;
