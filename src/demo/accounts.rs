//! Service accounts with the public halves of their keys, and the judgement of what they sign.

use std::collections::BTreeMap;

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;

use super::keys::KeyFile;
use crate::clock::{Moment, Wall};

/// Whether a key counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyState {
    /// It does.
    #[default]
    Active,
    /// An administrator switched it off.
    Disabled,
    /// Made a moment ago and known to the token endpoint only from then on.
    ActiveFrom(Moment),
}

/// Whether an account counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccountState {
    /// It does.
    #[default]
    Active,
    /// Switched off.
    Disabled,
    /// Deleted.
    Deleted,
}

/// All accounts.
#[derive(Default)]
pub(super) struct Accounts(BTreeMap<String, Account>);

struct Account {
    project: String,
    state: AccountState,
    delegation: bool,
    keys: Vec<Key>,
}

struct Key {
    id: String,
    public: Vec<u8>,
    state: KeyState,
}

/// What a good assertion asks for.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) account: String,
    pub(super) key_id: String,
    pub(super) scopes: Vec<String>,
    pub(super) subject: Option<String>,
    /// Whom an ID token is wanted for, in place of an access token.
    pub(super) audience: Option<String>,
}

/// Why an assertion is refused, in OAuth's words.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) error: &'static str,
    pub(super) description: String,
}

impl Refusal {
    pub(super) fn new(error: &'static str, description: impl Into<String>) -> Self {
        Self { status: 400, error, description: description.into() }
    }

    fn grant(description: impl Into<String>) -> Self {
        Self::new("invalid_grant", description)
    }
}

/// Google's clocks, read once per judgement.
#[derive(Clone, Copy)]
pub(super) struct Now {
    pub(super) wall: Wall,
    pub(super) moment: Moment,
}

#[derive(Deserialize)]
struct Claims {
    iss: Option<String>,
    sub: Option<String>,
    aud: Option<String>,
    scope: Option<String>,
    target_audience: Option<String>,
    iat: Option<u64>,
    exp: Option<u64>,
}

impl Accounts {
    pub(super) fn add_key(&mut self, key: &KeyFile, project: &str) -> bool {
        if !self.0.contains_key(&key.email) && self.0.len() >= MAX_ACCOUNTS {
            return false;
        }
        let account = self.0.entry(key.email.clone()).or_insert_with(|| Account {
            project: project.to_owned(),
            state: AccountState::Active,
            delegation: false,
            keys: Vec::new(),
        });
        if account.keys.len() >= MAX_KEYS {
            return false;
        }
        let (id, public) = (key.key_id.clone(), key.public().to_vec());
        account.keys.push(Key { id, public, state: KeyState::Active });
        true
    }

    pub(super) fn project(&self, email: &str) -> Option<&str> {
        self.0.get(email).map(|account| account.project.as_str())
    }

    pub(super) fn remove_key(&mut self, key_id: &str) -> bool {
        let mut removed = false;
        for account in self.0.values_mut() {
            account.keys.retain(|key| {
                removed |= key.id == key_id;
                key.id != key_id
            });
        }
        removed
    }

    pub(super) fn set_key(&mut self, key_id: &str, state: KeyState) -> bool {
        let key = self.0.values_mut().flat_map(|account| &mut account.keys).find(|key| key.id == key_id);
        key.map(|key| key.state = state).is_some()
    }

    pub(super) fn set_account(&mut self, email: &str, state: AccountState) -> bool {
        self.0.get_mut(email).map(|account| account.state = state).is_some()
    }

    pub(super) fn allow_delegation(&mut self, email: &str) -> bool {
        self.0.get_mut(email).map(|account| account.delegation = true).is_some()
    }

    /// Judges the assertion of an exchange. The order is ours: Google documents none.
    pub(super) fn judge(&self, assertion: &str, audience: &str, now: Now) -> Result<Grant, Refusal> {
        let (claims, account, key_id) = self.verify(assertion, now)?;
        check_times(&claims, now.wall)?;
        if claims.aud.as_deref() != Some(audience) {
            return Err(Refusal::grant(format!(
                "Invalid JWT: Failed audience check. The right audience is {audience}"
            )));
        }
        let email = claims.iss.unwrap_or_default();
        let subject = claims.sub.filter(|subject| *subject != email);
        if subject.is_some() && !account.delegation {
            let description = "Client is unauthorized to retrieve access tokens using this method, or client not \
                               authorized for any of the scopes requested.";
            return Err(Refusal { status: 401, ..Refusal::new("unauthorized_client", description) });
        }
        let scopes: Vec<String> =
            claims.scope.unwrap_or_default().split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect();
        let audience = claims.target_audience.filter(|_| scopes.is_empty());
        if audience.is_some() {
            return Ok(Grant { account: email, key_id, scopes, subject, audience });
        }
        if scopes.is_empty() || scopes.iter().any(|scope| scope.contains(',')) {
            return Err(Refusal::new("invalid_scope", "Invalid OAuth scope or ID token audience provided."));
        }
        Ok(Grant { account: email, key_id, scopes, subject, audience: None })
    }

    /// Judges a JWT that an API is shown in place of an access token (AIP-4111).
    pub(super) fn judge_self_signed(&self, token: &str, host: &str, now: Now) -> Result<Grant, Refusal> {
        let (claims, _, key_id) = self.verify(token, now)?;
        check_times(&claims, now.wall)?;
        let scopes: Vec<String> =
            claims.scope.unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect();
        let named = claims.aud.as_deref() == Some(format!("https://{host}/").as_str());
        if scopes.is_empty() && !named {
            return Err(Refusal::grant("Invalid JWT: Failed audience check."));
        }
        Ok(Grant { account: claims.iss.unwrap_or_default(), key_id, scopes, subject: claims.sub, audience: None })
    }

    fn verify(&self, token: &str, now: Now) -> Result<(Claims, &Account, String), Refusal> {
        let malformed = || Refusal::grant("Invalid JWT: Failed to parse the JWT.");
        let header = jsonwebtoken::decode_header(token).map_err(|_| malformed())?;
        if header.alg != Algorithm::RS256 {
            return Err(Refusal::grant("Invalid JWT: The algorithm is not supported."));
        }
        let claimed: Claims = jsonwebtoken::dangerous::insecure_decode_claims(token).map_err(|_| malformed())?;
        let account = claimed
            .iss
            .as_ref()
            .and_then(|email| self.0.get(email))
            .filter(|account| account.state != AccountState::Deleted)
            .ok_or_else(|| Refusal::grant("Invalid grant: account not found"))?;
        if account.state == AccountState::Disabled {
            return Err(Refusal::grant("Robot is disabled."));
        }
        let key = account
            .keys
            .iter()
            .filter(|key| header.kid.as_ref().is_none_or(|kid| *kid == key.id) && key.counts(now.moment))
            .find(|key| signed_by(token, &key.public))
            .ok_or_else(|| Refusal::grant("Invalid JWT Signature."))?;
        Ok((claimed, account, key.id.clone()))
    }
}

impl Key {
    fn counts(&self, now: Moment) -> bool {
        match self.state {
            KeyState::Active => true,
            KeyState::Disabled => false,
            KeyState::ActiveFrom(start) => now >= start,
        }
    }
}

fn signed_by(token: &str, public: &[u8]) -> bool {
    // Times are judged by the fake's own clock, the audience with its own text.
    let mut signature_only = Validation::new(Algorithm::RS256);
    signature_only.validate_exp = false;
    signature_only.validate_aud = false;
    signature_only.required_spec_claims.clear();
    jsonwebtoken::decode::<serde::de::IgnoredAny>(token, &DecodingKey::from_rsa_der(public), &signature_only).is_ok()
}

fn check_times(claims: &Claims, now: Wall) -> Result<(), Refusal> {
    let now = now.seconds();
    let fits = match (claims.iat, claims.exp) {
        (Some(issued), Some(ends)) => {
            issued <= now.saturating_add(TOLERANCE)
                && ends.saturating_add(TOLERANCE) > now
                && ends > issued
                && ends - issued <= 3600
        }
        _ => false,
    };
    if fits {
        return Ok(());
    }
    Err(Refusal::grant(
        "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat \
         and exp values in the JWT claim.",
    ))
}

/// Seconds by which two clocks may differ. Google publishes none; half a minute is an assumption.
const TOLERANCE: u64 = 30;

/// Google's own limit.
const MAX_KEYS: usize = 10;

const MAX_ACCOUNTS: usize = 1000;
