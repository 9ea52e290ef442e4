//! Access tokens issued, and whether one still counts.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::{Rng as _, distr::Alphanumeric};
use serde_json::json;

use super::{accounts::Grant, record::Admission};
use crate::clock::Moment;

/// An access token and what it was issued for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    /// Counts all tokens of this fake, from 1.
    pub number: u64,
    /// Counts the tokens of its account, from 1.
    pub generation: u64,
    /// The account.
    pub account: String,
    /// The key that signed the assertion.
    pub key_id: String,
    /// Scopes asked for.
    pub scopes: Vec<String>,
    /// The user acted for, with domain-wide delegation.
    pub subject: Option<String>,
    /// Whom it is for; an ID token has an audience, an access token has none.
    pub audience: Option<String>,
    /// When it was issued.
    pub issued: Moment,
    /// When it ends.
    pub expires: Moment,
}

impl TokenRecord {
    /// A JWT that was shown in place of a token; it has no number.
    pub(super) fn self_signed(grant: Grant, now: Moment) -> Self {
        let Grant { account, key_id, scopes, subject, audience } = grant;
        Self { number: 0, generation: 0, account, key_id, scopes, subject, audience, issued: now, expires: now }
    }
}

#[derive(Default)]
pub(super) struct Tokens {
    by_text: HashMap<String, Issued>,
    in_order: BTreeMap<u64, String>,
    generations: HashMap<String, u64>,
    issued: u64,
}

struct Issued {
    record: TokenRecord,
    revoked: bool,
}

/// How the next token is to be.
pub(super) struct Wish {
    pub(super) lifetime: Duration,
    /// Seconds since 1970, for what an ID token says of itself.
    pub(super) wall: u64,
    pub(super) length: usize,
    pub(super) same: bool,
}

impl Tokens {
    pub(super) fn issue(&mut self, grant: Grant, now: Moment, wish: &Wish) -> (String, TokenRecord) {
        if wish.same
            && let Some(last) = self.last_living(&grant, now)
        {
            return last;
        }
        if self.generations.len() >= KEPT {
            self.generations.clear();
        }
        self.issued += 1;
        let generation = self.generations.entry(grant.account.clone()).or_default();
        *generation += 1;
        let record = TokenRecord {
            number: self.issued,
            generation: *generation,
            account: grant.account,
            key_id: grant.key_id,
            scopes: grant.scopes,
            subject: grant.subject,
            audience: grant.audience,
            issued: now,
            expires: now + wish.lifetime,
        };
        let text = match &record.audience {
            Some(audience) => id_token(&record.account, audience, wish),
            None => random_text(wish.length),
        };
        self.in_order.insert(record.number, text.clone());
        self.by_text.insert(text.clone(), Issued { record: record.clone(), revoked: false });
        while self.in_order.len() > KEPT {
            let Some((_, oldest)) = self.in_order.pop_first() else { break };
            self.by_text.remove(&oldest);
        }
        (text, record)
    }

    /// An ID token counts for its audience only, an access token for every API and for nobody else.
    pub(super) fn judge(&self, text: &str, authority: &str, now: Moment) -> (Admission, Option<TokenRecord>) {
        let Some(issued) = self.by_text.get(text) else { return (Admission::Unknown, None) };
        let admission = match issued {
            Issued { record, .. } if !is_for(record, authority) => Admission::Unknown,
            Issued { revoked: true, .. } => Admission::Revoked,
            Issued { record, .. } if now >= record.expires => Admission::Expired,
            Issued { .. } => Admission::Token,
        };
        (admission, Some(issued.record.clone()))
    }

    pub(super) fn revoke(&mut self, text: &str) -> bool {
        self.by_text.get_mut(text).map(|issued| issued.revoked = true).is_some()
    }

    pub(super) fn revoke_all(&mut self) {
        for issued in self.by_text.values_mut() {
            issued.revoked = true;
        }
    }

    pub(super) fn all(&self) -> Vec<(String, TokenRecord)> {
        let texts = self.in_order.values();
        texts.filter_map(|text| Some((text.clone(), self.by_text.get(text)?.record.clone()))).collect()
    }

    fn last_living(&self, grant: &Grant, now: Moment) -> Option<(String, TokenRecord)> {
        self.in_order.values().rev().find_map(|text| {
            let issued = self.by_text.get(text)?;
            let record = &issued.record;
            let fits =
                (&record.account, &record.scopes, &record.audience) == (&grant.account, &grant.scopes, &grant.audience);
            (fits && !issued.revoked && record.expires > now).then(|| (text.clone(), record.clone()))
        })
    }
}

fn is_for(record: &TokenRecord, authority: &str) -> bool {
    let is_api = authority.ends_with(".googleapis.com");
    match &record.audience {
        Some(audience) => audience.strip_prefix("https://").is_some_and(|host| host == authority),
        None => is_api || !CUSTOMERS_CODE.iter().any(|zone| authority.ends_with(zone)),
    }
}

/// A JWT by its looks. Nobody verifies it but this fake, which knows it by heart.
fn id_token(account: &str, audience: &str, wish: &Wish) -> String {
    let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = part(&json!({ "alg": "RS256", "typ": "JWT", "kid": "fake" }));
    let ends = wish.wall + wish.lifetime.as_secs();
    let payload = part(&json!({
        "iss": "https://accounts.google.com", "aud": audience, "email": account, "email_verified": true,
        "iat": wish.wall, "exp": ends,
    }));
    let signature: Vec<u8> = rand::rng().sample_iter(Alphanumeric).take(256).collect();
    format!("{header}.{payload}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// Where Cloud Run and functions answer, which look at ID tokens only.
const CUSTOMERS_CODE: [&str; 2] = [".run.app", ".cloudfunctions.net"];

/// Ends in dots as Google's do, so that nobody trims them.
fn random_text(length: usize) -> String {
    let random = length.clamp(40, 4096) - "ya29.c.".len() - "....".len();
    let mut text = String::from("ya29.c.");
    text.extend(rand::rng().sample_iter(Alphanumeric).take(random).map(char::from));
    text.push_str("....");
    text
}

const KEPT: usize = 4096;
