//! Signed JWTs in compact form (RFC 7515): header, claims, RS256. Knows no clock and no endpoint.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// How far `iat` is set back, so that a clock slightly ahead of Google's still makes valid assertions.
const BACKDATE_SECONDS: u64 = 10;
/// The longest life Google accepts between `iat` and `exp`.
const LIFE_SECONDS: u64 = 3600;

/// The claims of an RFC 7523 assertion as Google wants them.
#[derive(Debug, Serialize)]
pub struct Assertion<'a> {
    iss: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<&'a str>,
    scope: &'a str,
    aud: &'a str,
    iat: u64,
    exp: u64,
}

impl<'a> Assertion<'a> {
    /// Claims for an assertion sent at `now` (seconds since 1970, corrected) to the URL `aud`.
    pub fn new(iss: &'a str, sub: Option<&'a str>, scope: &'a str, aud: &'a str, now: u64) -> Self {
        let iat = now.saturating_sub(BACKDATE_SECONDS);
        Self { iss, sub, scope, aud, iat, exp: iat + LIFE_SECONDS }
    }
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    typ: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
}

/// Why nothing was signed. Says nothing about the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the private key cannot sign")]
pub struct SigningError;

/// Signs `claims` with `key`.
///
/// # Errors
///
/// When the key is not a usable RSA key.
pub fn sign(kid: Option<&str>, claims: &impl Serialize, key: &EncodingKey) -> Result<Secret, SigningError> {
    let header = serde_json::to_vec(&Header { alg: "RS256", typ: "JWT", kid }).map_err(|_| SigningError)?;
    let payload = serde_json::to_vec(claims).map_err(|_| SigningError)?;
    compact(&header, &payload, key)
}

/// Header and payload exactly as given, encoded and signed.
fn compact(header: &[u8], payload: &[u8], key: &EncodingKey) -> Result<Secret, SigningError> {
    let mut text = Zeroizing::new(String::with_capacity(2048));
    URL_SAFE_NO_PAD.encode_string(header, &mut text);
    text.push('.');
    URL_SAFE_NO_PAD.encode_string(payload, &mut text);
    let signature = jsonwebtoken::crypto::sign(text.as_bytes(), key, Algorithm::RS256).map_err(|_| SigningError)?;
    text.push('.');
    text.push_str(&signature);
    Ok(Secret::new(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vector_of_rfc_7515_appendix_a_2_is_met_byte_for_byte() {
        let key = EncodingKey::from_rsa_pem(include_bytes!("../../tests/data/rfc7515-a2.pem")).unwrap();
        let payload = "{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}";
        let jws = compact(br#"{"alg":"RS256"}"#, payload.as_bytes(), &key).unwrap();
        let expected = concat!(
            "eyJhbGciOiJSUzI1NiJ9.",
            "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.",
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdb",
            "F9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383",
            "LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWy",
            "wlVmtVrBp0igcN_IoypGlUPQGe77Rw",
        );
        assert_eq!(jws.expose(), expected.as_bytes());
    }

    #[test]
    fn claims_are_backdated_and_live_one_hour() {
        let claims = Assertion::new("a@p.iam.gserviceaccount.com", None, "s1 s2", "https://x/token", 1_700_000_010);
        let json = serde_json::to_string(&claims).unwrap();
        assert_eq!(
            json,
            r#"{"iss":"a@p.iam.gserviceaccount.com","scope":"s1 s2","aud":"https://x/token","iat":1700000000,"exp":1700003600}"#
        );
        let delegated = Assertion::new("a", Some("user@example.com"), "s", "u", 5);
        let json = serde_json::to_string(&delegated).unwrap();
        assert_eq!(json, r#"{"iss":"a","sub":"user@example.com","scope":"s","aud":"u","iat":0,"exp":3600}"#);
    }
}
