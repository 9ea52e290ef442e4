//! The certificate that is served now, whichever keeper put it there.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::{
    ServerConfig,
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::tls;

/// Shared by the keeper, who changes it, and the server, which asks at each handshake.
#[derive(Clone, Default)]
pub struct Serving {
    key: Arc<Mutex<Option<Arc<CertifiedKey>>>>,
}

impl Serving {
    /// From the next handshake on.
    pub(super) fn put(&self, key: Arc<CertifiedKey>) {
        *self.key.lock().unwrap_or_else(PoisonError::into_inner) = Some(key);
    }

    /// How the server answers a handshake: TLS 1.2 and up, HTTP/2 where the client speaks it.
    ///
    /// # Errors
    /// Never seen: when the provider lacks what a protocol version needs.
    pub(in crate::inject) fn server_config(&self) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(tls::VERSIONS)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self.clone()));
        config.alpn_protocols = vec![tls::H2.to_vec(), tls::HTTP11.to_vec()];
        // API servers keep their connections: a resumed session would only hide which certificate is in use.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.key.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Says nothing of the key.
impl std::fmt::Debug for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Serving")
    }
}
