//! Signatures by the key in use: one that Google knows, since it made the token in hand.

use crate::credential::Source;

/// A signature, and the public id of the key that verifies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The key's id; empty where the file has none.
    pub key_id: String,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    pub bytes: Vec<u8>,
}

/// Why nothing was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignatureError {
    /// The key belongs to another account than the one that was asked for.
    OtherAccount,
    /// There is no key that signs; for people.
    NoKey(String),
}

/// Signs with `key`, for `account` alone.
pub(super) fn sign(key: &Source, account: &str, blob: &[u8]) -> Result<Signature, SignatureError> {
    if key.account() != Some(account) {
        return Err(SignatureError::OtherAccount);
    }
    let bytes = key.sign_blob(blob);
    let bytes = bytes.ok_or_else(|| SignatureError::NoKey("the credential's key signs no URLs".to_owned()))?;
    Ok(Signature { key_id: key.key_id().unwrap_or_default().to_owned(), bytes })
}
