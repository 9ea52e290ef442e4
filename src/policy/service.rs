//! Which Google service a host serves, as far as the built-in rules ask.

use crate::authority::Host;

/// The services that the rules about minting tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    /// A Google API that the rules do not know.
    Other,
    /// No host of `googleapis.com`: what an administrator's own route names, often customer code.
    Foreign,
    /// Cloud Storage, at its own name or at a bucket's.
    Storage { bucket: bool },
    /// Sign-in of end users. A route that names the host exactly may still inject: the Firebase Admin
    /// SDKs manage users here with a service account.
    EndUsers,
    /// Token exchange.
    Exchange,
    /// API keys.
    ApiKeys,
    /// Service accounts and their keys.
    Iam,
    /// `iamcredentials`: tokens and signatures of service accounts.
    Minting,
}

impl Service {
    /// Reads the name in all its forms: behind a region (`us-central1-iam`), as a private endpoint
    /// (`iam-name.p`), regional (`iam.europe-west1.rep`), with a client certificate (`iam.mtls`), staged.
    ///
    /// Errs towards the stricter service: an unknown form of `iamcredentials` must not get a token.
    pub(super) fn of(host: &Host) -> Self {
        if host.as_str() == "accounts.google.com" {
            return Self::Exchange;
        }
        if !host.as_str().ends_with(ZONE) {
            // Other universes keep the names of services; a word inside a label proves nothing there.
            let mints = host.labels().any(|label| label == "iamcredentials");
            return if mints { Self::Minting } else { Self::Foreign };
        }
        let mut labels = service_labels(host);
        let nearest = labels.next().unwrap_or_default();
        // What stands before `storage` is a bucket of any name. A private endpoint has a name of the
        // customer's choice, so `iamcredentials-storage.p` is not storage.
        if nearest.split('-').any(|word| word == "storage") && strictest(nearest) == Self::Other {
            return Self::Storage { bucket: labels.next().is_some() };
        }
        service_labels(host).map(strictest).max_by_key(|service| service.strictness()).unwrap_or(Self::Other)
    }

    pub(super) fn is_storage(self) -> bool {
        matches!(self, Self::Storage { .. })
    }

    fn strictness(self) -> u8 {
        match self {
            Self::Other | Self::Foreign | Self::Storage { .. } => 0,
            Self::EndUsers => 1,
            Self::Exchange => 2,
            Self::ApiKeys => 3,
            Self::Iam => 4,
            Self::Minting => 5,
        }
    }
}

/// Whether the host is of the kind that wants a client certificate, which only the client has.
pub(super) fn wants_client_certificate(host: &Host) -> bool {
    host.as_str().strip_suffix(ZONE).is_some_and(|front| front.split('.').any(|label| label == "mtls"))
}

fn strictest(label: &str) -> Service {
    let named = label.split('-').map(|word| match word {
        "iamcredentials" => Service::Minting,
        "iam" => Service::Iam,
        "apikeys" => Service::ApiKeys,
        "oauth2" | "sts" => Service::Exchange,
        "identitytoolkit" | "securetoken" => Service::EndUsers,
        _ => Service::Other,
    });
    named.max_by_key(|service| service.strictness()).unwrap_or(Service::Other)
}

/// The labels that may name the service, the nearest to the zone first.
fn service_labels(host: &Host) -> impl Iterator<Item = &str> {
    let front = host.as_str().strip_suffix(ZONE).unwrap_or_default();
    let mut regional = false;
    front.rsplit('.').filter(move |label| {
        let is_region = std::mem::take(&mut regional);
        regional = *label == "rep";
        !is_region && !matches!(*label, "mtls" | "rep" | "p" | "sandbox")
    })
}

const ZONE: &str = ".googleapis.com";
