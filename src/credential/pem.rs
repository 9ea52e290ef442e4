//! A private key out of PEM text, however it was pasted: RSA down to PKCS#1, EC P-256 up to PKCS#8.
//!
//! Own code, because the libraries say "invalid key" where people need to hear what they pasted, and because
//! `jsonwebtoken` reads EC keys as PKCS#8 only, while OpenSSL writes SEC 1.

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
    /// A private key of an algorithm or curve that is not accepted.
    Algorithm(&'static str),
    /// An RSA key of a size that Google or our library refuses.
    Bits(usize),
}

/// A private key in the DER form that its algorithm's library reads.
pub(super) enum PrivateKey {
    /// PKCS#1 (RFC 8017 A.1.2), 2048 to 8192 bits.
    Rsa(Zeroizing<Vec<u8>>),
    /// PKCS#8 (RFC 5208) of a P-256 key.
    P256(Zeroizing<Vec<u8>>),
}

/// The one key in `text`, which may be PKCS#8, PKCS#1 or SEC 1, with any line ends.
pub(super) fn private_key(text: &str) -> Result<PrivateKey, PemError> {
    // JSON that was escaped twice leaves the two characters `\n` where line ends belong.
    let text = Zeroizing::new(text.replace("\\r", "\n").replace("\\n", "\n"));
    let text = after_parameters(&text);
    let (label, body) = block(text)?;
    if body.contains("Proc-Type:") || label == "ENCRYPTED PRIVATE KEY" {
        return Err(PemError::Encrypted);
    }
    let compact = Zeroizing::new(body.split_ascii_whitespace().collect::<String>());
    let der = Zeroizing::new(LENIENT.decode(compact.as_bytes()).map_err(|_| PemError::NotPem("its base64 is broken"))?);
    match label {
        "PRIVATE KEY" => unwrap_pkcs8(der),
        "RSA PRIVATE KEY" => rsa(der),
        "EC PRIVATE KEY" => Ok(PrivateKey::P256(wrap_sec1(&der)?)),
        "OPENSSH PRIVATE KEY" => Err(PemError::Kind("an OpenSSH key")),
        "CERTIFICATE" => Err(PemError::Kind("a certificate")),
        "PUBLIC KEY" | "RSA PUBLIC KEY" => Err(PemError::Kind("a public key")),
        _ => Err(PemError::Kind("another kind of PEM block")),
    }
}

/// What follows the curve's name that `openssl ecparam -genkey` writes in front of the key.
fn after_parameters(text: &str) -> &str {
    const END: &str = "-----END EC PARAMETERS-----";
    match text.split_once(END) {
        Some((before, rest)) if before.trim_start().starts_with("-----BEGIN EC PARAMETERS-----") => rest,
        _ => text,
    }
}

fn rsa(pkcs1: Zeroizing<Vec<u8>>) -> Result<PrivateKey, PemError> {
    match modulus_bits(&pkcs1).ok_or(DAMAGED)? {
        2048..=8192 => Ok(PrivateKey::Rsa(pkcs1)),
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

/// PrivateKeyInfo (RFC 5208): version, algorithm, then the key of that algorithm in an octet string.
fn unwrap_pkcs8(der: Zeroizing<Vec<u8>>) -> Result<PrivateKey, PemError> {
    let (info, _) = element(&der, SEQUENCE).ok_or(DAMAGED)?;
    let (_, rest) = element(info, INTEGER).ok_or(DAMAGED)?;
    let (algorithm, rest) = element(rest, SEQUENCE).ok_or(DAMAGED)?;
    let (oid, parameters) = element(algorithm, OBJECT_IDENTIFIER).ok_or(DAMAGED)?;
    match oid {
        RSA_ENCRYPTION => {
            let (key, _) = element(rest, OCTET_STRING).ok_or(DAMAGED)?;
            rsa(Zeroizing::new(key.to_vec()))
        }
        EC_PUBLIC_KEY => {
            check_curve(parameters)?;
            Ok(PrivateKey::P256(der))
        }
        _ => Err(PemError::Algorithm("neither RSA nor EC")),
    }
}

/// ECPrivateKey (RFC 5915): version, the number, then the curve and the point, both optional; as PKCS#8. The curve
/// stands outside then, and inside only the number and the point, as OpenSSL writes them.
fn wrap_sec1(der: &[u8]) -> Result<Zeroizing<Vec<u8>>, PemError> {
    let (key, _) = element(der, SEQUENCE).ok_or(DAMAGED)?;
    let (_, rest) = element(key, INTEGER).ok_or(DAMAGED)?;
    let (number, rest) = element(rest, OCTET_STRING).ok_or(DAMAGED)?;
    let (parameters, _) = element(rest, CURVE).ok_or(PemError::Algorithm("an EC key that does not name its curve"))?;
    check_curve(parameters)?;
    if number.len() != P256_BYTES {
        return Err(DAMAGED);
    }
    let mut inner = Zeroizing::new(vec![INTEGER, 1, 1, OCTET_STRING, 32]);
    inner.extend_from_slice(number);
    if let Some((point, _)) = element(rest, CURVE).and_then(|(_, rest)| element(rest, POINT)) {
        inner.extend(wrapped(POINT, point)?);
    }
    let algorithm = wrapped(SEQUENCE, &[&[OBJECT_IDENTIFIER, 7][..], EC_PUBLIC_KEY, P256_PARAMETERS].concat())?;
    let inner = Zeroizing::new(wrapped(SEQUENCE, &inner)?);
    let inner = Zeroizing::new(wrapped(OCTET_STRING, &inner)?);
    let info = Zeroizing::new([&[INTEGER, 1, 0][..], &algorithm, &inner].concat());
    Ok(Zeroizing::new(wrapped(SEQUENCE, &info)?))
}

/// A DER element of at most 255 bytes, which holds all that a P-256 key is made of.
fn wrapped(tag: u8, content: &[u8]) -> Result<Vec<u8>, PemError> {
    let length = u8::try_from(content.len()).map_err(|_| DAMAGED)?;
    let head = if length < 0x80 { vec![tag, length] } else { vec![tag, 0x81, length] };
    Ok([&head, content].concat())
}

fn check_curve(parameters: &[u8]) -> Result<(), PemError> {
    match element(parameters, OBJECT_IDENTIFIER) {
        Some((P256, _)) => Ok(()),
        Some(_) => Err(PemError::Algorithm("an EC key on another curve than P-256")),
        None => Err(PemError::Algorithm("an EC key that does not name its curve")),
    }
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
/// 1.2.840.10045.3.1.7
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// The same as an element.
const P256_PARAMETERS: &[u8] = &[OBJECT_IDENTIFIER, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P256_BYTES: usize = 32;
/// `[0]` and `[1]` of an ECPrivateKey.
const CURVE: u8 = 0xa0;
const POINT: u8 = 0xa1;
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
        assert!(private_key(pem).is_ok());
        for end in 0..pem.trim_end().len() - "-----".len() {
            if end < pem.find("-----END RSA PRIVATE KEY").unwrap() + "-----END RSA PRIVATE KEY".len() {
                assert!(private_key(&pem[..end]).is_err(), "cut at {end}");
            }
        }
    }

    #[test]
    fn a_sec_1_key_becomes_the_pkcs_8_key_that_openssl_makes_of_it() {
        let Ok(PrivateKey::P256(ours)) = private_key(include_str!("../../tests/data/p256-sec1.pem")) else {
            panic!("SEC 1 is read")
        };
        let Ok(PrivateKey::P256(theirs)) = private_key(include_str!("../../tests/data/p256-pkcs8.pem")) else {
            panic!("PKCS#8 is read")
        };
        assert_eq!(ours, theirs);
    }

    #[test]
    fn other_curves_and_algorithms_are_named() {
        for (pem, said) in [
            (include_str!("../../tests/data/p384-sec1.pem"), "an EC key on another curve than P-256"),
            (include_str!("../../tests/data/p384-pkcs8.pem"), "an EC key on another curve than P-256"),
            (include_str!("../../tests/data/ed25519.pem"), "neither RSA nor EC"),
        ] {
            assert_eq!(private_key(pem).err(), Some(PemError::Algorithm(said)));
        }
    }
}
