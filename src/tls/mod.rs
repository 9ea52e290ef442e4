//! TLS on both sides: the pod's own CA and its leaves for the client, public roots for the upstream.
//!
//! Owns the crypto provider, every certificate we make and every trust decision. Refuses to know what a
//! route, a credential or a request is: it is told a name and proves it. `net` uses it to dial,
//! `proxy` to answer intercepted connections, `app` to write the files that applications trust.

mod accept;
mod ca;
mod leaf;
mod pem;
mod pkcs12;
mod roots;
mod stored;
mod trust;

use std::sync::{Arc, LazyLock};

use rustls::{SupportedProtocolVersion, crypto::CryptoProvider, pki_types::CertificateDer};

pub use accept::{AcceptError, MOST_UNSENT, accept};
pub(crate) use ca::CaKey;
pub use ca::{CaError, PodCa};
pub use leaf::{LeafError, Leaves};
pub use roots::{RootsError, client_config, client_roots};
pub use trust::{TrustError, TrustFiles, write_trust};

/// The ALPN name of HTTP/2.
pub const H2: &[u8] = b"h2";

/// The ALPN name of HTTP/1.1.
pub const HTTP11: &[u8] = b"http/1.1";

/// What we speak and accept, best first. Nothing below 1.2.
pub static VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// The only cryptography in the process, named here once.
///
/// Every rustls configuration is built from it, never from a process-wide default, which a dependency
/// could set first.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    Arc::clone(&PROVIDER)
}

/// One certificate as PEM text.
pub fn pem(certificate: &CertificateDer<'_>) -> String {
    let mut text = String::new();
    pem::encode(certificate, &mut text);
    text
}

#[cfg(test)]
mod tests;
