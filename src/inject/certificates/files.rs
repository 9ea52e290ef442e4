//! A certificate that somebody else keeps in files: cert-manager, or whoever filled the Secret.

use std::{path::PathBuf, sync::Arc};

use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

use super::{authority, serving::Serving};
use crate::{
    app::Ground,
    tls,
    watch::{self, Pace, Snapshot},
};

/// Serves what lies in `directory`, anew after each change, until everything is ended.
pub(super) async fn follow(directory: PathBuf, serving: Serving, ground: Ground) {
    let mut looks = watch::start(directory, Pace::default(), ground.clock, &ground.tasks);
    let mut complained = None;
    loop {
        if looks.changed().await.is_err() {
            return;
        }
        let snapshot = looks.borrow_and_update().clone();
        match read(&snapshot) {
            Ok((key, until)) => {
                complained = None;
                serving.put(Arc::new(key));
                super::publish_expiry(&ground.metrics, until);
                ground.ready.met(super::keeper::CONDITION);
                tracing::info!(until, "serving a new certificate");
            }
            Err(error) => {
                ground.ready.because(super::keeper::CONDITION, error.clone());
                if complained.as_ref() != Some(&error) {
                    tracing::error!(error, "certificates: tried again; what is served stays");
                }
                complained = Some(error);
            }
        }
    }
}

/// The pair of files, and when the certificate ends.
fn read(snapshot: &Snapshot) -> Result<(CertifiedKey, u64), String> {
    let of = |name: &str| match snapshot.files.iter().find(|file| file.name == name) {
        None => Err(format!("{name}: there is no such file in --tls-dir")),
        Some(file) => file.content.as_ref().map_err(|unread| format!("{name}: {unread}")),
    };
    let (chain, key) = (of("tls.crt")?, of("tls.key")?);
    let found: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(chain.expose()).collect();
    let chain = found.map_err(|_| "tls.crt: a certificate cannot be read, want PEM")?;
    let first = chain.first().ok_or("tls.crt: holds no certificate, want PEM")?;
    let life = authority::life(first).ok_or("tls.crt: the first certificate cannot be read")?;
    let key = PrivateKeyDer::from_pem_slice(key.expose())
        .map_err(|_| "tls.key: holds no private key, want PEM (PKCS#8, PKCS#1 or SEC1)")?;
    // Also when the two do not belong together, as between two writes.
    let key = CertifiedKey::from_der(chain, key, &tls::provider()).map_err(|error| format!("tls.key: {error}"))?;
    Ok((key, life.until))
}
