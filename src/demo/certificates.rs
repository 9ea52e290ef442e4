//! A throw-away CA and the leaves it signs, one per name asked for and per way of being wrong.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};

use super::{
    script::{Certificate, Protocols},
    state::lock,
};

/// The fake's CA with its leaves.
pub(super) struct Certificates {
    trusted: Authority,
    untrusted: Authority,
    leaf_key: KeyPair,
    configs: Mutex<BTreeMap<(String, Certificate, Protocols), Arc<ServerConfig>>>,
}

struct Authority {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Certificates {
    pub(super) fn generate() -> io::Result<Self> {
        Ok(Self {
            trusted: Authority::generate("bearerd fake Google").map_err(io::Error::other)?,
            untrusted: Authority::generate("bearerd nobody's CA").map_err(io::Error::other)?,
            leaf_key: KeyPair::generate().map_err(io::Error::other)?,
            configs: Mutex::default(),
        })
    }

    pub(super) fn ca_pem(&self) -> String {
        self.trusted.certificate.pem()
    }

    pub(super) fn server(&self, name: &str, kind: Certificate, protocols: Protocols) -> io::Result<Arc<ServerConfig>> {
        let place = (name.to_owned(), kind, protocols);
        if let Some(config) = lock(&self.configs).get(&place) {
            return Ok(config.clone());
        }
        let config = Arc::new(self.make(name, kind, protocols)?);
        let mut configs = lock(&self.configs);
        if configs.len() >= CACHED {
            configs.clear();
        }
        configs.insert(place, config.clone());
        Ok(config)
    }

    fn make(&self, name: &str, kind: Certificate, protocols: Protocols) -> io::Result<ServerConfig> {
        let leaf = self.leaf(name, kind).map_err(io::Error::other)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.leaf_key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(vec![leaf], key)
            .map_err(io::Error::other)?;
        config.alpn_protocols = protocols.alpn();
        Ok(config)
    }

    fn leaf(&self, name: &str, kind: Certificate) -> Result<CertificateDer<'static>, rcgen::Error> {
        let mut names: Vec<String> = STANDARD_NAMES.iter().map(|&name| name.to_owned()).collect();
        match kind {
            Certificate::WrongName => names = vec!["wrong.example".to_owned()],
            Certificate::Right | Certificate::Expired | Certificate::Untrusted => names.insert(0, name.to_owned()),
        }
        let mut leaf = CertificateParams::new(names)?;
        leaf.distinguished_name.push(DnType::CommonName, "bearerd fake Google leaf");
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.use_authority_key_identifier_extension = true;
        leaf.not_before = date_time_ymd(2020, 1, 1);
        leaf.not_after = date_time_ymd(if kind == Certificate::Expired { 2021 } else { 2060 }, 1, 1);
        let signer = if kind == Certificate::Untrusted { &self.untrusted } else { &self.trusted };
        Ok(leaf.signed_by(&self.leaf_key, &signer.issuer)?.der().clone())
    }
}

impl Authority {
    fn generate(name: &str) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2060, 1, 1);
        let certificate = params.self_signed(&key)?;
        Ok(Self { certificate, issuer: Issuer::new(params, key) })
    }
}

/// Names on every leaf beside the one asked for: Google's certificates too cover many services, which
/// lets a careless client reuse one connection for several.
const STANDARD_NAMES: &[&str] =
    &["oauth2.googleapis.com", "storage.googleapis.com", "www.googleapis.com", "*.googleapis.com"];

const CACHED: usize = 256;
