//! A private key out of PEM text, however it was pasted, down to PKCS#1.
//!
//! Own code, because the libraries say "invalid key" where people need to hear what they pasted.

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use zeroize::Zeroizing;

/// What is wrong with a private key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PemError {
    /// No PEM block, or a damaged one.
    NotPem(&'static str),
    /// Something else than a private key.
    Kind(&'static str),
    /// Protected by a passphrase.
    Encrypted,
    /// A private key, but not RSA.
    NotRsa(&'static str),
    /// An RSA key of a size that Google or our library refuses.
    Bits(usize),
}

/// PKCS#1 DER of the one RSA key in `text`, which may be PKCS#8 or PKCS#1, with any line ends.
pub(super) fn rsa_key(text: &str) -> Result<Zeroizing<Vec<u8>>, PemError> {
    // JSON that was escaped twice leaves the two characters `\n` where line ends belong.
    let text = Zeroizing::new(text.replace("\\r", "\n").replace("\\n", "\n"));
    let (label, body) = block(&text)?;
    if body.contains("Proc-Type:") || label == "ENCRYPTED PRIVATE KEY" {
        return Err(PemError::Encrypted);
    }
    let compact = Zeroizing::new(body.split_ascii_whitespace().collect::<String>());
    let der = Zeroizing::new(LENIENT.decode(compact.as_bytes()).map_err(|_| PemError::NotPem("its base64 is broken"))?);
    let pkcs1 = match label {
        "PRIVATE KEY" => Zeroizing::new(unwrap_pkcs8(&der)?.to_vec()),
        "RSA PRIVATE KEY" => der,
        "EC PRIVATE KEY" => return Err(PemError::NotRsa("an EC key")),
        "OPENSSH PRIVATE KEY" => return Err(PemError::Kind("an OpenSSH key")),
        "CERTIFICATE" => return Err(PemError::Kind("a certificate")),
        "PUBLIC KEY" | "RSA PUBLIC KEY" => return Err(PemError::Kind("a public key")),
        _ => return Err(PemError::Kind("another kind of PEM block")),
    };
    match modulus_bits(&pkcs1).ok_or(DAMAGED)? {
        2048..=8192 => Ok(pkcs1),
        bits => Err(PemError::Bits(bits)),
    }
}

/// Label and body of the first block.
fn block(text: &str) -> Result<(&str, &str), PemError> {
    let (_, rest) = text.split_once("-----BEGIN ").ok_or(PemError::NotPem("no `-----BEGIN` line"))?;
    let (label, rest) = rest.split_once("-----").ok_or(PemError::NotPem("its `-----BEGIN` line is cut"))?;
    let (body, end) = rest.split_once("-----END ").ok_or(PemError::NotPem("no `-----END` line: it is cut short"))?;
    if !end.starts_with(label) {
        return Err(PemError::NotPem("its first and last line do not match"));
    }
    Ok((label, body))
}

/// PrivateKeyInfo (RFC 5208): version, algorithm, then the PKCS#1 key in an octet string.
fn unwrap_pkcs8(der: &[u8]) -> Result<&[u8], PemError> {
    let (info, _) = element(der, SEQUENCE).ok_or(DAMAGED)?;
    let (_, rest) = element(info, INTEGER).ok_or(DAMAGED)?;
    let (algorithm, rest) = element(rest, SEQUENCE).ok_or(DAMAGED)?;
    let (oid, _) = element(algorithm, OBJECT_IDENTIFIER).ok_or(DAMAGED)?;
    match oid {
        RSA_ENCRYPTION => {}
        EC_PUBLIC_KEY => return Err(PemError::NotRsa("an EC key")),
        _ => return Err(PemError::NotRsa("neither RSA nor EC")),
    }
    element(rest, OCTET_STRING).map(|(key, _)| key).ok_or(DAMAGED)
}

/// The size of an RSAPrivateKey (RFC 8017 A.1.2): version, then the modulus.
fn modulus_bits(pkcs1: &[u8]) -> Option<usize> {
    let (key, _) = element(pkcs1, SEQUENCE)?;
    let (_, rest) = element(key, INTEGER)?;
    let (modulus, _) = element(rest, INTEGER)?;
    let first = modulus.iter().position(|byte| *byte != 0)?;
    let significant = &modulus[first..];
    let leading = significant.first()?.leading_zeros() as usize;
    Some(significant.len() * 8 - leading)
}

/// The content of the DER element at the start of `input`, and what follows it.
fn element(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = input.split_first()?;
    let (&short, rest) = rest.split_first()?;
    let (length, rest) = if short < 0x80 {
        (usize::from(short), rest)
    } else {
        let count = usize::from(short & 0x7f);
        // Four bytes are 4 GiB already; indefinite length (no bytes) is not DER.
        let bytes = (1..=4).contains(&count).then(|| rest.split_at_checked(count)).flatten()?;
        (bytes.0.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), bytes.1)
    };
    (found == tag).then(|| rest.split_at_checked(length)).flatten()
}

const DAMAGED: PemError = PemError::NotPem("its content is not a key");
const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
/// 1.2.840.113549.1.1.1
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// 1.2.840.10045.2.1
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// Some templates drop the padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_beyond_the_input_are_not_followed() {
        for der in [&[][..], &[0x30], &[0x30, 0x80], &[0x30, 0x05, 0], &[0x30, 0x84, 255, 255, 255, 255], &[0x30, 0x89]]
        {
            assert_eq!(element(der, SEQUENCE), None, "{der:?}");
            assert_eq!(modulus_bits(der), None, "{der:?}");
        }
        assert_eq!(element(&[0x30, 0x81, 1, 7, 9], SEQUENCE), Some((&[7][..], &[9][..])));
    }

    #[test]
    fn every_prefix_of_a_key_is_refused_without_a_panic() {
        let pem = include_str!("../../tests/data/rfc7515-a2.pem");
        assert!(rsa_key(pem).is_ok());
        for end in 0..pem.trim_end().len() - "-----".len() {
            if end < pem.find("-----END RSA PRIVATE KEY").unwrap() + "-----END RSA PRIVATE KEY".len() {
                assert!(rsa_key(&pem[..end]).is_err(), "cut at {end}");
            }
        }
    }
}
