//! Whom we trust when we dial: the public roots compiled in, and what the administrator adds.
//!
//! Never the machine's store nor `SSL_CERT_FILE`: in a pod those belong to the image or to the
//! application, and whoever may set them could read our tokens.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, client::Resumption, pki_types::CertificateDer};

use super::pem;

/// The public roots and those of `extra` (PEM).
pub fn client_roots(extra: Option<&[u8]>) -> Result<Arc<RootCertStore>, RootsError> {
    let mut store = RootCertStore::empty();
    let (added, ignored) = store.add_parsable_certificates(public().iter().cloned());
    tracing::debug!(added, ignored, "public roots");
    for (at, root) in extra_roots(extra)?.into_iter().enumerate() {
        store.add(root).map_err(|_| RootsError::Certificate(at + 1))?;
    }
    Ok(Arc::new(store))
}

/// How we dial over TLS: these roots, these protocols, no client certificate, no early data.
pub fn client_config(roots: Arc<RootCertStore>, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, RootsError> {
    let mut config = ClientConfig::builder_with_provider(super::provider())
        .with_protocol_versions(super::VERSIONS)
        .map_err(RootsError::Provider)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    // Replayable, and a token would be in it.
    config.enable_early_data = false;
    Ok(Arc::new(config))
}

/// Why the roots cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// No certificate where one was expected.
    #[error("no certificate found: PEM blocks that begin with -----BEGIN CERTIFICATE----- are accepted")]
    Empty,
    /// One of the blocks.
    #[error("certificate {0}: not a certificate that can be trusted: X.509 in PEM is accepted")]
    Certificate(usize),
    /// Never seen: the provider lacks what a protocol version needs.
    #[error("the crypto provider cannot speak TLS")]
    Provider(#[source] rustls::Error),
}

/// The roots compiled in.
pub(super) fn public() -> &'static [CertificateDer<'static>] {
    webpki_root_certs::TLS_SERVER_ROOT_CERTS
}

/// The certificates of `pem`, each of which must be one.
pub(super) fn extra_roots(pem: Option<&[u8]>) -> Result<Vec<CertificateDer<'static>>, RootsError> {
    let Some(pem) = pem else { return Ok(Vec::new()) };
    let found = pem::decode(pem).map_err(RootsError::Certificate)?;
    if found.is_empty() {
        return Err(RootsError::Empty);
    }
    for (at, root) in found.iter().enumerate() {
        RootCertStore::empty().add(root.clone()).map_err(|_| RootsError::Certificate(at + 1))?;
    }
    Ok(found)
}

/// Sessions kept for resumption; rustls keeps eight per server name.
const SESSIONS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn root_pem() -> String {
        let mut text = String::new();
        pem::encode(&public()[0], &mut text);
        text
    }

    #[test]
    fn public_roots_are_all_there() {
        assert_eq!(client_roots(None).unwrap().len(), public().len());
        assert!(public().len() > 100);
    }

    #[test]
    fn extra_roots_are_added() {
        assert_eq!(client_roots(Some(root_pem().as_bytes())).unwrap().len(), public().len() + 1);
    }

    #[test]
    fn an_extra_root_that_is_none_is_named_by_its_position() {
        let mut text = root_pem();
        pem::encode(&CertificateDer::from(vec![0x30, 0]), &mut text);
        let error = client_roots(Some(text.as_bytes())).unwrap_err();
        assert!(matches!(error, RootsError::Certificate(2)), "{error}");
    }

    #[test]
    fn extra_roots_without_a_certificate_are_an_error() {
        assert!(matches!(client_roots(Some(b"hello")).unwrap_err(), RootsError::Empty));
    }

    #[test]
    fn the_client_sends_no_early_data_and_no_certificate() {
        let config = client_config(client_roots(None).unwrap(), &[crate::tls::H2]).unwrap();
        assert!(!config.enable_early_data);
        assert!(!config.client_auth_cert_resolver.has_certs());
        assert_eq!(config.alpn_protocols, [b"h2"]);
    }
}
