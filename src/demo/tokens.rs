//! Access tokens issued, and whether one still counts.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use rand::{Rng as _, distr::Alphanumeric};

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
    /// When it was issued.
    pub issued: Moment,
    /// When it ends.
    pub expires: Moment,
}

impl TokenRecord {
    /// A JWT that was shown in place of a token; it has no number.
    pub(super) fn self_signed(grant: Grant, now: Moment) -> Self {
        let Grant { account, key_id, scopes, subject } = grant;
        Self { number: 0, generation: 0, account, key_id, scopes, subject, issued: now, expires: now }
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
            issued: now,
            expires: now + wish.lifetime,
        };
        let text = random_text(wish.length);
        self.in_order.insert(record.number, text.clone());
        self.by_text.insert(text.clone(), Issued { record: record.clone(), revoked: false });
        while self.in_order.len() > KEPT {
            let Some((_, oldest)) = self.in_order.pop_first() else { break };
            self.by_text.remove(&oldest);
        }
        (text, record)
    }

    pub(super) fn judge(&self, text: &str, now: Moment) -> (Admission, Option<TokenRecord>) {
        let Some(issued) = self.by_text.get(text) else { return (Admission::Unknown, None) };
        let admission = match issued {
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
            let fits = record.account == grant.account && record.scopes == grant.scopes;
            (fits && !issued.revoked && record.expires > now).then(|| (text.clone(), record.clone()))
        })
    }
}

/// Ends in dots as Google's do, so that nobody trims them.
fn random_text(length: usize) -> String {
    let random = length.clamp(40, 4096) - "ya29.c.".len() - "....".len();
    let mut text = String::from("ya29.c.");
    text.extend(rand::rng().sample_iter(Alphanumeric).take(random).map(char::from));
    text.push_str("....");
    text
}

const KEPT: usize = 4096;
