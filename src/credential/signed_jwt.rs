//! A key that signs JWTs which are themselves the tokens: for Fleet Engine, for devices, for anybody who verifies them.
//! Nothing is exchanged, so nothing but the key's own numbers can fail.

use super::{
    Class, Exchange, FetchError, Key, KeyError, KeyReason, Parameters, Reason, Token,
    jwt::{self, SigningKey},
    key,
    template::Template,
};
use crate::secret::Secret;

/// A key and what it signs.
#[derive(Debug, PartialEq, Eq)]
pub struct SignedJwt {
    key: SigningKey,
    key_id: Option<String>,
    account: Option<String>,
    project: Option<String>,
    template: Template,
}

impl SignedJwt {
    /// Reads a service-account key, or a private key in PEM: RSA (PKCS#1, PKCS#8) or EC P-256 (SEC 1, PKCS#8).
    ///
    /// # Errors
    ///
    /// Says which rule the file breaks, without quoting its content.
    pub(super) fn load(content: &[u8], template: &Template) -> Result<Self, KeyError> {
        let (key, account, own_id, project) = if key::is_pem(content) {
            (key::pem(content)?, None, None, None)
        } else {
            Key::parse(content)?.into_parts()
        };
        let key_id = match &template.key_id {
            Some(id) => Some(id.clone()).filter(|id| !id.is_empty()),
            None => own_id,
        };
        if template.needs_key_id && key_id.is_none() {
            let message = "the key has no id, and whoever verifies this token looks the key up by it; accepted: a \
                service-account key with `private_key_id`, or `keyId` in the configuration";
            return Err(KeyError::new(KeyReason::MissingField, message));
        }
        if template.needs_key_id && !key.is_rsa() {
            let message = "an EC key; this token is signed by RS256, for which an RSA key is needed";
            return Err(KeyError::new(KeyReason::NotRsa, message));
        }
        Ok(Self { key, key_id, account, project, template: template.clone() })
    }

    /// Signs a JWT.
    pub(super) fn token(&self, parameters: &Parameters, exchange: &Exchange) -> Result<Token, FetchError> {
        let (sent, wall) = (exchange.clock.now(), exchange.clock.wall());
        let now = exchange.skew.server_seconds(wall);
        let claims = self.template.claims(parameters, self.account.as_deref(), now);
        let secret: Secret = jwt::sign(self.key_id.as_deref(), &claims, &self.key)
            .map_err(|error| FetchError::new(Class::Key, Reason::Signing, error.to_string()))?;
        Ok(Token { secret, sent, lifetime: jwt::left(self.template.lifetime, wall) })
    }

    /// The id in the header.
    pub(super) fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// The account's address, where the key is a service account's.
    pub(super) fn account(&self) -> Option<&str> {
        self.account.as_deref()
    }

    /// Its project.
    pub(super) fn project(&self) -> Option<&str> {
        self.project.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::samples::good;

    const SEC1: &[u8] = include_bytes!("../../tests/data/p256-sec1.pem");

    #[test]
    fn a_device_signs_with_whatever_key_it_has() {
        let template = Template::new("my-project");
        for key in [SEC1, include_bytes!("../../tests/data/rfc7515-a2.pem"), good(0).as_bytes()] {
            let signer = SignedJwt::load(key, &template).unwrap();
            assert!(!format!("{signer:?}").contains("PRIVATE"));
        }
        let signer = SignedJwt::load(good(0).as_bytes(), &template).unwrap();
        assert_eq!((signer.key_id(), signer.account()), (Some("key-0"), Some("robot@demo.iam.gserviceaccount.com")));
        let signer = SignedJwt::load(SEC1, &Template { key_id: Some("mine".to_owned()), ..template }).unwrap();
        assert_eq!((signer.key_id(), signer.account()), (Some("mine"), None));
    }

    #[test]
    fn fleet_engine_wants_an_id_and_rsa() {
        let template = crate::credential::template::Preset::named("fleetEngineServer").unwrap().template();
        let reason = |key: &[u8], template: &Template| SignedJwt::load(key, template).unwrap_err().reason;
        assert_eq!(reason(SEC1, &template), KeyReason::MissingField);
        assert_eq!(reason(SEC1, &Template { key_id: Some("x".to_owned()), ..template.clone() }), KeyReason::NotRsa);
        assert!(SignedJwt::load(good(0).as_bytes(), &template).is_ok());
    }

    #[test]
    fn what_is_no_key_is_refused_by_what_it_is() {
        let template = Template::new("p");
        for (content, reason) in [
            (&b""[..], KeyReason::Empty),
            (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", KeyReason::NotPem),
            (include_bytes!("../../tests/data/ed25519.pem"), KeyReason::NotRsa),
            (include_bytes!("../../tests/data/p384-sec1.pem"), KeyReason::NotRsa),
            (include_bytes!("../../tests/data/rsa-1024.pem"), KeyReason::Bits),
            (b"{}", KeyReason::MissingField),
            (b"hello", KeyReason::NotJson),
        ] {
            assert_eq!(SignedJwt::load(content, &template).unwrap_err().reason, reason);
        }
    }
}
