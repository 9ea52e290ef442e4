//! Signed JWTs in compact form (RFC 7515): header, claims, RS256 or ES256. Knows no clock and no endpoint.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde::Serialize;
use zeroize::Zeroizing;

use super::pem::{self, PemError, PrivateKey};
use crate::{clock::Wall, secret::Secret};

/// How far `iat` is set back, so that a clock slightly ahead of Google's still makes valid assertions.
pub const BACKDATE_SECONDS: u64 = 10;
/// The longest life Google accepts between `iat` and `exp`.
pub const LIFE_SECONDS: u64 = 3600;

/// What is left at `wall` of a JWT that is signed then for `lifetime`: `iat` is set back, and has no fraction of a second.
pub(super) fn left(lifetime: Duration, wall: Wall) -> Duration {
    let fraction = Duration::from_nanos(wall.0.subsec_nanos().into());
    lifetime.saturating_sub(Duration::from_secs(BACKDATE_SECONDS)).saturating_sub(fraction)
}

/// What signs: a private key and the algorithm that belongs to it.
pub struct SigningKey {
    key: EncodingKey,
    algorithm: Algorithm,
}

impl SigningKey {
    /// Reads PEM text: RSA signs by RS256, EC P-256 by ES256.
    pub(super) fn from_pem(text: &str) -> Result<Self, PemError> {
        Ok(match pem::private_key(text)? {
            PrivateKey::Rsa(der) => Self { key: EncodingKey::from_rsa_der(&der), algorithm: Algorithm::RS256 },
            PrivateKey::P256(der) => Self { key: EncodingKey::from_ec_der(&der), algorithm: Algorithm::ES256 },
        })
    }

    /// `RS256` or `ES256`.
    pub fn algorithm(&self) -> &'static str {
        match self.algorithm {
            Algorithm::ES256 => "ES256",
            _ => "RS256",
        }
    }

    /// Whether it is an RSA key, which is all that Google's own endpoints take.
    pub fn is_rsa(&self) -> bool {
        self.algorithm == Algorithm::RS256
    }

    /// The signature of `message`, in base64url without padding.
    ///
    /// # Errors
    ///
    /// When the key's numbers do not fit together.
    pub fn sign(&self, message: &[u8]) -> Result<String, SigningError> {
        jsonwebtoken::crypto::sign(message, &self.key, self.algorithm).map_err(|_| SigningError)
    }
}

impl PartialEq for SigningKey {
    fn eq(&self, other: &Self) -> bool {
        self.key.as_bytes() == other.key.as_bytes()
    }
}

impl Eq for SigningKey {}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.algorithm())
    }
}

/// What an assertion asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Asked<'a> {
    /// Scopes, space-separated: an access token.
    #[serde(rename = "scope")]
    Scope(&'a str),
    /// The audience of an ID token.
    #[serde(rename = "target_audience")]
    TargetAudience(&'a str),
}

/// The claims of an RFC 7523 assertion as Google wants them.
#[derive(Debug, Serialize)]
pub struct Assertion<'a> {
    iss: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<&'a str>,
    #[serde(flatten)]
    asked: Asked<'a>,
    aud: &'a str,
    iat: u64,
    exp: u64,
}

impl<'a> Assertion<'a> {
    /// Claims for an assertion sent at `now` (seconds since 1970, corrected) to the URL `aud`.
    pub fn new(iss: &'a str, sub: Option<&'a str>, asked: Asked<'a>, aud: &'a str, now: u64) -> Self {
        let iat = now.saturating_sub(BACKDATE_SECONDS);
        Self { iss, sub, asked, aud, iat, exp: iat + LIFE_SECONDS }
    }
}

/// The claims of a JWT that a service account signs and sends as its own access token (AIP-4111), in the form that
/// names scopes: it is good at every host, while the form with `aud` is good at one.
#[derive(Debug, Serialize)]
pub struct SelfSigned<'a> {
    iss: &'a str,
    sub: &'a str,
    scope: &'a str,
    iat: u64,
    exp: u64,
}

impl<'a> SelfSigned<'a> {
    /// Claims for a token signed at `now` (seconds since 1970, corrected).
    pub fn new(account: &'a str, scope: &'a str, now: u64) -> Self {
        let iat = now.saturating_sub(BACKDATE_SECONDS);
        Self { iss: account, sub: account, scope, iat, exp: iat + LIFE_SECONDS }
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
/// When the key's numbers do not fit together.
pub fn sign(kid: Option<&str>, claims: &impl Serialize, key: &SigningKey) -> Result<Secret, SigningError> {
    let header = Header { alg: key.algorithm(), typ: "JWT", kid };
    let header = serde_json::to_vec(&header).map_err(|_| SigningError)?;
    let payload = Zeroizing::new(serde_json::to_vec(claims).map_err(|_| SigningError)?);
    compact(&header, &payload, key)
}

/// Header and payload exactly as given, encoded and signed.
fn compact(header: &[u8], payload: &[u8], key: &SigningKey) -> Result<Secret, SigningError> {
    let mut text = Zeroizing::new(String::with_capacity(2048));
    URL_SAFE_NO_PAD.encode_string(header, &mut text);
    text.push('.');
    URL_SAFE_NO_PAD.encode_string(payload, &mut text);
    let signature = key.sign(text.as_bytes())?;
    text.push('.');
    text.push_str(&signature);
    Ok(Secret::new(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vector_of_rfc_7515_appendix_a_2_is_met_byte_for_byte() {
        let key = SigningKey::from_pem(include_str!("../../tests/data/rfc7515-a2.pem")).unwrap();
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
    fn the_vector_of_rfc_7520_section_4_1_is_met_byte_for_byte() {
        let key = SigningKey::from_pem(include_str!("../../tests/data/rfc7520-3-4.pem")).unwrap();
        let payload = "It’s a dangerous business, Frodo, going out your door. You step onto the road, and if you don't \
            keep your feet, there’s no knowing where you might be swept off to.";
        let header = br#"{"alg":"RS256","kid":"bilbo.baggins@hobbiton.example"}"#;
        let jws = compact(header, payload.as_bytes(), &key).unwrap();
        let expected = concat!(
            "eyJhbGciOiJSUzI1NiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9.",
            "SXTigJlzIGEgZGFuZ2Vyb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb250byB0",
            "aGUgcm9hZCwgYW5kIGlmIHlvdSBkb24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hlcmUgeW91",
            "IG1pZ2h0IGJlIHN3ZXB0IG9mZiB0by4.",
            "MRjdkly7_-oTPTS3AXP41iQIGKa80A0ZmTuV5MEaHoxnW2e5CZ5NlKtainoFmKZopdHM1O2U4mwzJdQx996ivp83xuglII7P",
            "NDi84wnB-BDkoBwA78185hX-Es4JIwmDLJK3lfWRa-XtL0RnltuYv746iYTh_qHRD68BNt1uSNCrUCTJDt5aAE6x8wW1Kt9e",
            "Ro4QPocSadnHXFxnt8Is9UzpERV0ePPQdLuW3IS_de3xyIrDaLGdjluPxUAhb6L2aXic1U12podGU0KLUQSE_oI-ZnmKJ3F4",
            "uOZDnd6QZWJushZ41Axf_fcIe8u9ipH84ogoree7vjbU5y18kDquDg",
        );
        assert_eq!(jws.expose(), expected.as_bytes());
    }

    #[test]
    fn claims_are_backdated_and_live_one_hour() {
        let claims = Assertion::new(
            "a@p.iam.gserviceaccount.com",
            None,
            Asked::Scope("s1 s2"),
            "https://x/token",
            1_700_000_010,
        );
        let json = serde_json::to_string(&claims).unwrap();
        assert_eq!(
            json,
            r#"{"iss":"a@p.iam.gserviceaccount.com","scope":"s1 s2","aud":"https://x/token","iat":1700000000,"exp":1700003600}"#
        );
        let delegated = Assertion::new("a", Some("user@example.com"), Asked::Scope("s"), "u", 5);
        let json = serde_json::to_string(&delegated).unwrap();
        assert_eq!(json, r#"{"iss":"a","sub":"user@example.com","scope":"s","aud":"u","iat":0,"exp":3600}"#);
    }

    #[test]
    fn an_id_token_is_asked_for_by_its_audience() {
        let claims = Assertion::new("a", None, Asked::TargetAudience("https://run.app"), "u", 10);
        let json = serde_json::to_string(&claims).unwrap();
        assert_eq!(json, r#"{"iss":"a","target_audience":"https://run.app","aud":"u","iat":0,"exp":3600}"#);
    }

    #[test]
    fn a_self_signed_token_names_its_account_twice_and_scopes_in_place_of_an_audience() {
        let json = serde_json::to_string(&SelfSigned::new("a@p", "s1 s2", 20)).unwrap();
        assert_eq!(json, r#"{"iss":"a@p","sub":"a@p","scope":"s1 s2","iat":10,"exp":3610}"#);
    }

    #[test]
    fn what_is_left_of_a_token_ends_when_its_exp_says() {
        let at = |milliseconds: u64| Wall(Duration::from_millis(1_700_000_000_000 + milliseconds));
        for (fraction, expected) in [(0, 3_590_000), (1, 3_589_999), (999, 3_589_001)] {
            assert_eq!(left(Duration::from_secs(3600), at(fraction)).as_millis(), expected);
        }
        assert_eq!(left(Duration::from_secs(5), at(0)), Duration::ZERO);
    }

    #[test]
    fn a_p_256_key_signs_by_es256_and_an_rsa_key_by_rs256() {
        for (pem, algorithm) in [
            (include_str!("../../tests/data/p256-sec1.pem"), "ES256"),
            (include_str!("../../tests/data/p256-pkcs8.pem"), "ES256"),
            (include_str!("../../tests/data/rfc7515-a2.pem"), "RS256"),
        ] {
            let key = SigningKey::from_pem(pem).unwrap();
            let jws = sign(None, &serde_json::json!({"aud": "p"}), &key).unwrap();
            let text = std::str::from_utf8(jws.expose()).unwrap();
            let header = URL_SAFE_NO_PAD.decode(text.split('.').next().unwrap()).unwrap();
            assert_eq!(header, format!(r#"{{"alg":"{algorithm}","typ":"JWT"}}"#).into_bytes());
            let signature = URL_SAFE_NO_PAD.decode(text.rsplit('.').next().unwrap()).unwrap();
            assert_eq!(signature.len(), if algorithm == "ES256" { 64 } else { 256 });
        }
    }
}
