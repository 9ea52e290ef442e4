//! Leaves for intercepted names: signed when a handshake needs them, kept as ready server configurations.
//!
//! All leaves share one key of the process, which is not the CA's: who reads a leaf's key from memory can
//! answer for the names of live leaves, but can make no certificate.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rcgen::KeyPair;
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::{CertifiedKey, SigningKey},
};

use super::ca::{CaError, LEAF_LIFE, PodCa};
use crate::clock::{Clock, Wall};

/// Server configurations by name, each with a leaf for that name alone.
pub struct Leaves {
    ca: Arc<PodCa>,
    clock: Clock,
    key: KeyPair,
    signer: Arc<dyn SigningKey>,
    cache: Mutex<Cache>,
}

impl Leaves {
    /// Makes the leaf key; no leaf yet.
    pub fn new(ca: Arc<PodCa>, clock: Clock) -> Result<Self, LeafError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(CaError::from)?;
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signer = super::provider().key_provider.load_private_key(der)?;
        Ok(Self { ca, clock, key, signer, cache: Mutex::default() })
    }

    /// The CA that signs.
    pub fn ca(&self) -> &Arc<PodCa> {
        &self.ca
    }

    /// The configuration that answers for `host` (canonical), with a leaf in the first half of its life.
    ///
    /// It never answers for another name, whatever SNI asks for. Signing happens here, on the handshake's
    /// path and under the lock: it takes tens of microseconds, and nobody signs the same name twice.
    pub fn server_config(&self, host: &str) -> Result<Arc<ServerConfig>, LeafError> {
        let now = self.clock.wall();
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = cache.find(host, now) {
            return Ok(config);
        }
        let config = self.make(host, now)?;
        cache.insert(host, Entry { config: Arc::clone(&config), made: now, used: 0 });
        Ok(config)
    }

    /// How many names are kept.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).entries.len()
    }

    fn make(&self, host: &str, now: Wall) -> Result<Arc<ServerConfig>, LeafError> {
        let leaf = self.ca.issue(host, &self.key, now)?;
        // Without the root: every client that can verify has it, and each handshake would carry it.
        let chain = vec![leaf, self.ca.intermediate.clone()];
        let one = OneName { host: host.to_owned(), key: Arc::new(CertifiedKey::new(chain, Arc::clone(&self.signer))) };
        let mut config = ServerConfig::builder_with_provider(super::provider())
            .with_protocol_versions(super::VERSIONS)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(one));
        // A client that offers other protocols only is refused (no_application_protocol); one that offers
        // none speaks HTTP/1.1.
        config.alpn_protocols = vec![super::H2.to_vec(), super::HTTP11.to_vec()];
        // No resumption: no ticket can outlive the CA or a leaf, and 512 configurations keep no session
        // tables, each of which would reserve room for 256 sessions.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(Arc::new(config))
    }
}

impl fmt::Debug for Leaves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaves").field("ca", &self.ca).finish_non_exhaustive()
    }
}

/// Why there is no configuration for a name.
#[derive(Debug, thiserror::Error)]
pub enum LeafError {
    /// The CA did not sign.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// rustls did not take what was made.
    #[error("cannot answer with the leaf")]
    Tls(#[from] rustls::Error),
}

/// Whether the name a client asks for in SNI is the one it named before.
pub(super) fn is_same_name(sni: &str, host: &str) -> bool {
    sni.strip_suffix('.').unwrap_or(sni).eq_ignore_ascii_case(host)
}

/// A certificate for one name; a client that asks for another gets none.
struct OneName {
    host: String,
    key: Arc<CertifiedKey>,
}

impl ResolvesServerCert for OneName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        hello.server_name().is_none_or(|sni| is_same_name(sni, &self.host)).then(|| Arc::clone(&self.key))
    }
}

impl fmt::Debug for OneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneName").field("host", &self.host).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Cache {
    entries: HashMap<String, Entry>,
    /// Counts uses; the entry with the lowest number was used longest ago.
    uses: u64,
}

struct Entry {
    config: Arc<ServerConfig>,
    made: Wall,
    used: u64,
}

impl Cache {
    fn find(&mut self, host: &str, now: Wall) -> Option<Arc<ServerConfig>> {
        self.uses += 1;
        let entry = self.entries.get_mut(host)?;
        if !is_young(entry.made, now) {
            return None;
        }
        entry.used = self.uses;
        Some(Arc::clone(&entry.config))
    }

    fn insert(&mut self, host: &str, mut entry: Entry) {
        entry.used = self.uses;
        if self.entries.len() >= MOST && !self.entries.contains_key(host) {
            // A scan of 512 numbers is nothing beside the signature that just happened.
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(host, _)| host.clone());
            oldest.and_then(|host| self.entries.remove(&host));
        }
        self.entries.insert(host.to_owned(), entry);
    }
}

/// Judged on wall time, as the client will judge the leaf: after a jump of the clock either way, a leaf
/// that looks too old, or not valid yet, is made anew.
fn is_young(made: Wall, now: Wall) -> bool {
    let half = Duration::from_secs(LEAF_LIFE / 2);
    now.0 >= made.0.saturating_sub(EARLIER) && now.0 < made.0 + half
}

/// Half of what a leaf is dated back.
const EARLIER: Duration = Duration::from_secs(1800);

/// Names kept. A client that asks for more pays for a signature each time.
pub(super) const MOST: usize = 512;
