//! The files that applications trust: `ca.pem`, `bundle.pem`, `truststore.p12`.
//!
//! Nearly every trust variable replaces the system's roots, so a bundle of our root alone would break the
//! application's other connections: bundle and trust store hold the public roots too.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use super::{
    ca::PodCa,
    pem, pkcs12,
    roots::{self, RootsError},
};
use crate::file;

/// Where the files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustFiles {
    /// The pod's root alone, for variables that add.
    pub ca: PathBuf,
    /// Public roots, extra roots and the pod's root, for variables that replace.
    pub bundle: PathBuf,
    /// The same as `bundle`, for the JVM.
    pub truststore: PathBuf,
}

impl TrustFiles {
    /// The names that `write_trust` uses in `public`.
    pub fn in_directory(public: &Path) -> Self {
        Self { ca: public.join(CA), bundle: public.join(BUNDLE), truststore: public.join(TRUSTSTORE) }
    }
}

/// Writes the trust files into `public`, each whole or not at all; equal ones are left alone.
pub fn write_trust(public: &Path, ca: &PodCa, extra_roots: Option<&[u8]>) -> Result<TrustFiles, TrustError> {
    let extra = roots::extra_roots(extra_roots)?;
    let named = |kind: &'static str| move |at: usize| format!("{kind}-{:03}", at + 1);
    let public_roots = roots::public().iter().enumerate().map(|(at, root)| (named("public")(at), root));
    let extra = extra.iter().enumerate().map(|(at, root)| (named("extra")(at), root));
    // The pod's own comes first: a reader of the bundle sees at once whose it is.
    let mut seen: HashSet<&[u8]> = HashSet::new();
    let trusted: Vec<_> = std::iter::once(("bearerd".to_owned(), ca.root()))
        .chain(extra)
        .chain(public_roots)
        .filter(|&(_, root)| seen.insert(root))
        .collect();

    let (mut alone, mut bundle) = (String::new(), String::new());
    pem::encode(ca.root(), &mut alone);
    for (_, root) in &trusted {
        pem::encode(root, &mut bundle);
    }
    let write = |name: &str, bytes: &[u8]| {
        file::replace(public, name, bytes, 0o644, file::Keep::AcrossKill)
            .map(drop)
            .map_err(|source| TrustError::Write { path: public.join(name), source })
    };
    file::directory(public, 0o755).map_err(|source| TrustError::Write { path: public.to_owned(), source })?;
    write(CA, alone.as_bytes())?;
    write(BUNDLE, bundle.as_bytes())?;
    write(TRUSTSTORE, &pkcs12::truststore(&trusted, PASSWORD))?;
    Ok(TrustFiles::in_directory(public))
}

/// Why the trust files are not there.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The extra roots.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// The directory or one of the files.
    #[error("{path}: cannot be written", path = path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

const CA: &str = "ca.pem";
const BUNDLE: &str = "bundle.pem";
const TRUSTSTORE: &str = "truststore.p12";

/// What JVM tools expect; it keeps no secret.
const PASSWORD: &str = "changeit";
