//! What the status page and metrics may know: no secrets, no internals.

use super::keys::Refused;
use crate::{
    clock::Moment,
    credential::{CredentialName, Reason, Want},
};

/// What went wrong last, until the next success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The label.
    pub reason: Reason,
    /// For people.
    pub message: String,
    /// When the first failure in a row happened.
    pub since: Moment,
    /// Failures in a row.
    pub failures: u32,
    /// When the next attempt begins; absent while only a new key can help.
    pub next_try: Option<Moment>,
}

/// Where a slot stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// No token yet.
    Empty,
    /// A valid token, the last attempt succeeded.
    Fresh,
    /// A valid token, but the refresh is failing.
    Stale,
    /// The last token has expired.
    Expired,
}

impl Condition {
    /// A fixed word.
    pub fn label(self) -> &'static str {
        match self {
            Self::Empty => "none",
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::Expired => "expired",
        }
    }
}

/// One slot for the status page.
#[derive(Clone, Debug)]
pub struct SlotStatus {
    /// Where it stands.
    pub condition: Condition,
    /// Tokens so far.
    pub generation: u64,
    /// When the last token was asked for.
    pub issued: Option<Moment>,
    /// The end of the last token's life. Stays after expiry.
    pub expires: Option<Moment>,
    /// The same in seconds since 1970.
    pub expires_at: Option<u64>,
    /// The key of the last token.
    pub key_id: Option<String>,
    /// What is wrong.
    pub trouble: Option<Trouble>,
    /// The keys that are not used, or not now.
    pub resting: Vec<Resting>,
}

/// A usable key that is not used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resting {
    /// The file it was read from.
    pub file: String,
    /// Its public id.
    pub key_id: Option<String>,
    /// A label: one of [`Reason::label`], or `wrong_project`.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// When it is tried again; absent for never.
    pub next_try: Option<Moment>,
}

/// One credential for the status page.
#[derive(Clone, Debug)]
pub struct CredentialStatus {
    /// Its name.
    pub name: CredentialName,
    /// Its kind, as written in configuration.
    pub kind: &'static str,
    /// The key that makes its tokens, or will be tried first.
    pub in_use: Option<KeyStatus>,
    /// The usable keys, newest first: file, public id, account.
    pub keys: Vec<KeyStatus>,
    /// The files that were refused, and problems of the mount.
    pub refused: Vec<Refused>,
    /// The mount shows no rotation (`subPath`).
    pub is_stuck: bool,
    /// When a key was last loaded, in seconds since 1970.
    pub loaded_at: Option<u64>,
    /// Its tokens.
    pub tokens: Vec<(Want, SlotStatus)>,
}

/// One usable key for the status page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStatus {
    /// The file it was read from.
    pub file: String,
    /// Its public id.
    pub key_id: Option<String>,
    /// The e-mail address of its account, where it has one.
    pub account: Option<String>,
    /// The project of its account.
    pub project: Option<String>,
}
