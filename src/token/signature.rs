//! Signatures by the key in use: one that Google knows, since it made the token in hand.

use super::keys::KeySet;

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

/// Signs with the key `in_use`; before the first token with the newest.
pub(super) fn sign(
    keys: &KeySet,
    in_use: Option<&str>,
    account: &str,
    blob: &[u8],
) -> Result<Signature, SignatureError> {
    let mut candidates = keys.candidates.iter();
    let known = candidates.clone().find(|key| in_use.is_some() && key.source.key_id() == in_use);
    let key = known.or_else(|| candidates.next()).ok_or_else(|| SignatureError::NoKey(keys.why_none()))?;
    if key.source.account() != Some(account) {
        return Err(SignatureError::OtherAccount);
    }
    let bytes = key.source.sign_blob(blob);
    let bytes = bytes.ok_or_else(|| SignatureError::NoKey("the credential's key signs no URLs".to_owned()))?;
    Ok(Signature { key_id: key.source.key_id().unwrap_or_default().to_owned(), bytes })
}
