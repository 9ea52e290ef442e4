//! Service-account key files as Google writes them, made at run time for accounts that exist only here.

use std::{fmt, io};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rand::Rng as _;
use serde_json::json;

/// A fresh key of one account, with the private half as its owner downloads it.
///
/// The private half is plain text here: no real account knows this key.
#[derive(Clone)]
pub struct KeyFile {
    /// The account.
    pub email: String,
    /// `private_key_id`, 40 hexadecimal digits.
    pub key_id: String,
    project: String,
    pkcs8: Vec<u8>,
    public: Vec<u8>,
}

impl KeyFile {
    /// Makes an RSA-2048 key, which takes about a tenth of a second.
    ///
    /// # Errors
    /// When the machine has no randomness to give.
    pub fn generate(email: &str, project: &str) -> io::Result<Self> {
        let pair = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)
            .map_err(io::Error::other)?;
        let mut rng = rand::rng();
        let key_id = (0..40).map(|_| char::from_digit(rng.random_range(0..16), 16).unwrap_or('0')).collect();
        Ok(Self {
            email: email.to_owned(),
            key_id,
            project: project.to_owned(),
            public: pair.public_key_raw().to_vec(),
            pkcs8: pair.serialize_der(),
        })
    }

    /// The file, with the key as PKCS#8 as Google writes it.
    pub fn json(&self) -> String {
        self.with_pem(&self.pem())
    }

    /// The file with the key as PKCS#1, which older tools produced.
    pub fn json_pkcs1(&self) -> String {
        self.with_pem(&armour("RSA PRIVATE KEY", pkcs1(&self.pkcs8).unwrap_or_default()))
    }

    /// The private key alone, PKCS#8 PEM.
    pub fn pem(&self) -> String {
        armour("PRIVATE KEY", &self.pkcs8)
    }

    /// The public half, DER of PKCS#1 `RSAPublicKey`.
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    fn with_pem(&self, pem: &str) -> String {
        let cert_url = format!(
            "https://www.googleapis.com/robot/v1/metadata/x509/{}",
            percent_encoding::utf8_percent_encode(&self.email, percent_encoding::NON_ALPHANUMERIC)
        );
        let file = json!({
            "type": "service_account",
            "project_id": self.project,
            "private_key_id": self.key_id,
            "private_key": pem,
            "client_email": self.email,
            "client_id": "100000000000000000001",
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": "https://oauth2.googleapis.com/token",
            "auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
            "client_x509_cert_url": cert_url,
            "universe_domain": "googleapis.com",
        });
        format!("{file:#}\n")
    }
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyFile").field("email", &self.email).field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

fn armour(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = tail;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

/// The octet string inside PKCS#8: `SEQUENCE { version, SEQUENCE { algorithm }, OCTET STRING { PKCS#1 } }`.
fn pkcs1(pkcs8: &[u8]) -> Option<&[u8]> {
    let (_, inside, _) = element(pkcs8)?;
    let (_, _, after_version) = element(inside)?;
    let (_, _, after_algorithm) = element(after_version)?;
    let (tag, key, _) = element(after_algorithm)?;
    (tag == 0x04).then_some(key)
}

/// One DER element: its tag, its content, what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let digits = usize::from(first & 0x7f);
        let (bytes, rest) = rest.split_at_checked(digits).filter(|_| digits <= 4)?;
        (bytes.iter().fold(0, |length, &byte| length << 8 | usize::from(byte)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}
