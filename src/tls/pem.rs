//! Certificates as PEM text, both ways.

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::pki_types::{CertificateDer, pem::PemObject};

/// One certificate as PEM, in the 64 columns that every parser takes.
pub(super) fn encode(certificate: &CertificateDer<'_>, text: &mut String) {
    let body = STANDARD.encode(certificate);
    text.push_str("-----BEGIN CERTIFICATE-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        // Base64 is ASCII: any index is a character boundary.
        let (line, after) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END CERTIFICATE-----\n");
}

/// The certificates in a PEM text; `Err` is the position, from 1, of the first that cannot be read.
pub(super) fn decode(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, usize> {
    CertificateDer::pem_slice_iter(pem).enumerate().map(|(at, found)| found.map_err(|_| at + 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_can_be_decoded() {
        for length in [1, 47, 48, 49, 500] {
            let der = CertificateDer::from(vec![7; length]);
            let mut text = String::new();
            encode(&der, &mut text);
            assert!(text.lines().all(|line| line.len() <= 64));
            assert_eq!(decode(text.as_bytes()).unwrap(), [der]);
        }
    }

    #[test]
    fn a_broken_block_is_named_by_its_position() {
        let mut text = String::new();
        encode(&CertificateDer::from(vec![1, 2, 3]), &mut text);
        text.push_str("-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n");
        assert_eq!(decode(text.as_bytes()), Err(2));
    }
}
