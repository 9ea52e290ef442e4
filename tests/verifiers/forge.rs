//! What a thief of the intermediate's key could try: leaves the product would never sign.
//!
//! Each forged leaf exists twice, below the pod's CA and below a CA like it without constraints. A verifier
//! must take the second: only then does its refusal of the first say something about the constraints.

#![expect(clippy::unwrap_used, reason = "test code: a failure here is a failed test")]

use std::{fs, net::IpAddr, path::Path, sync::Arc};

use bearerd::{
    clock::Clock,
    tls::{Leaves, PodCa, TrustFiles, provider, write_trust},
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
};

/// One server that a verifier meets.
pub(crate) struct Case {
    /// `leaf/chain`, as the table shows it.
    pub(crate) name: String,
    /// What the client believes to connect to: a DNS name or an address.
    pub(crate) host: String,
    /// Whether a correct verifier goes on.
    pub(crate) accept: bool,
    /// Answers with the leaf and what is between it and the root.
    pub(crate) config: Arc<ServerConfig>,
}

/// Makes a pod's CA in `place`, trust files that hold its root and the control's, and all cases.
pub(crate) fn cases(place: &Path) -> (TrustFiles, Vec<Case>) {
    let clock = Clock::system();
    let private = place.join("private");
    let zones = ["googleapis.com".to_owned(), "host.api.example".to_owned()];
    let pod = Arc::new(PodCa::load_or_create(&private, &zones, clock.wall()).unwrap());
    let stolen = stolen_issuer(&private);
    let control = control_issuer();
    let trust = write_trust(&place.join("trust"), &pod, Some(control.root_pem.as_bytes())).unwrap();

    let leaves = Leaves::new(pod, clock).unwrap();
    let mut cases: Vec<_> = ["storage.googleapis.com", "googleapis.com", "a.b.googleapis.com", "host.api.example"]
        .map(|host| Case {
            name: format!("{host}/product"),
            host: host.to_owned(),
            accept: true,
            config: leaves.server_config(host).unwrap(),
        })
        .into();
    for forged in forgeries() {
        cases.push(stolen.case(&forged, "pod", forged.accept));
        if forged.control {
            cases.push(control.issuer.case(&forged, "control", true));
        }
    }
    (trust, cases)
}

/// A leaf to forge, and what should come of it below the pod's CA.
struct Forged {
    name: &'static str,
    host: &'static str,
    sans: Vec<SanType>,
    common_name: &'static str,
    /// Signed by a CA that the intermediate signed, which its path length forbids.
    below_another: bool,
    accept: bool,
    /// Whether every verifier takes it without constraints.
    control: bool,
}

fn forgeries() -> Vec<Forged> {
    let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
    let ip = |text: &str| SanType::IpAddress(text.parse::<IpAddr>().unwrap());
    let forged = |name, host, sans| Forged {
        name,
        host,
        sans,
        common_name: "forged",
        below_another: false,
        accept: false,
        control: true,
    };
    vec![
        Forged { accept: true, ..forged("good", "storage.googleapis.com", vec![dns("storage.googleapis.com")]) },
        Forged { accept: true, ..forged("wildcard", "storage.googleapis.com", vec![dns("*.googleapis.com")]) },
        forged("foreign", "accounts.google.com", vec![dns("accounts.google.com")]),
        forged("foreign-wildcard", "vault.internal.example", vec![dns("*.internal.example")]),
        forged("lookalike", "evilgoogleapis.com", vec![dns("evilgoogleapis.com")]),
        forged("above-zone", "api.example", vec![dns("api.example")]),
        forged(
            "good-and-foreign",
            "storage.googleapis.com",
            vec![dns("storage.googleapis.com"), dns("vault.internal")],
        ),
        forged("ipv4", "127.0.0.1", vec![ip("127.0.0.1")]),
        forged("ipv6", "::1", vec![ip("::1")]),
        forged("good-and-ipv4", "storage.googleapis.com", vec![dns("storage.googleapis.com"), ip("10.0.0.1")]),
        Forged {
            below_another: true,
            ..forged("sub-ca", "storage.googleapis.com", vec![dns("storage.googleapis.com")])
        },
        // Go and rustls never look at a common name, no verifier takes a mail address for a host: no control.
        Forged {
            common_name: "accounts.google.com",
            control: false,
            ..forged("cn-only", "accounts.google.com", vec![])
        },
        Forged {
            control: false,
            ..forged(
                "e-mail",
                "storage.googleapis.com",
                vec![SanType::Rfc822Name("a@googleapis.com".try_into().unwrap())],
            )
        },
    ]
}

/// An intermediate whose key we hold.
struct Signer {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Signer {
    fn case(&self, forged: &Forged, chain_name: &str, accept: bool) -> Case {
        let key = KeyPair::generate().unwrap();
        let mut leaf = params(forged.common_name);
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.subject_alt_names.clone_from(&forged.sans);
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let chain = if forged.below_another {
            let another = authority("another", None);
            let another_key = KeyPair::generate().unwrap();
            let middle = another.signed_by(&another_key, &self.issuer).unwrap();
            let leaf = leaf.signed_by(&key, &Issuer::new(another, another_key)).unwrap();
            vec![leaf.into(), middle.into(), self.certificate.clone()]
        } else {
            vec![leaf.signed_by(&key, &self.issuer).unwrap().into(), self.certificate.clone()]
        };
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        Case {
            name: format!("{}/{chain_name}", forged.name),
            host: forged.host.to_owned(),
            accept,
            config: Arc::new(config),
        }
    }
}

/// The pod's intermediate, from the file that a thief would read.
fn stolen_issuer(private: &Path) -> Signer {
    let text = fs::read(private.join("ca.pem")).unwrap();
    let certificate = CertificateDer::pem_slice_iter(&text).nth(1).unwrap().unwrap();
    let key = KeyPair::try_from(&PrivatePkcs8KeyDer::from_pem_slice(&text).unwrap()).unwrap();
    Signer { issuer: Issuer::from_ca_cert_der(&certificate, key).unwrap(), certificate }
}

struct Control {
    root_pem: String,
    issuer: Signer,
}

fn control_issuer() -> Control {
    let (root, root_key) = (authority("control root", None), KeyPair::generate().unwrap());
    let root_pem = root.self_signed(&root_key).unwrap().pem();
    let (middle, key) = (authority("control CA", None), KeyPair::generate().unwrap());
    let certificate = middle.signed_by(&key, &Issuer::new(root, root_key)).unwrap().into();
    Control { root_pem, issuer: Signer { certificate, issuer: Issuer::new(middle, key) } }
}

fn authority(name: &str, path_length: Option<u8>) -> CertificateParams {
    let mut its = params(name);
    its.is_ca = IsCa::Ca(path_length.map_or(BasicConstraints::Unconstrained, BasicConstraints::Constrained));
    its.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    its
}

fn params(name: &str) -> CertificateParams {
    let mut its = CertificateParams::default();
    its.distinguished_name = DistinguishedName::new();
    its.distinguished_name.push(DnType::CommonName, name);
    its.not_before = rcgen::date_time_ymd(2024, 1, 1);
    its.not_after = rcgen::date_time_ymd(2049, 1, 1);
    its.use_authority_key_identifier_extension = true;
    its
}
