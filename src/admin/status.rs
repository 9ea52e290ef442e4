//! What the sidecar tells about itself, in one value: `/status.json` is this, and the page is drawn from it.
//!
//! Nothing in it is secret. Key ids, addresses and expiries are there; keys, tokens and assertions have no place in
//! these types.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::clock::{Wall, rfc3339};

/// Everything.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// Where it is in its life.
    pub phase: Phase,
    /// When it started.
    pub started: When,
    /// What it waits for before it counts as started.
    pub waiting_for: Vec<Unmet>,
    /// The configuration in force.
    pub config: Config,
    /// The open doors.
    pub listeners: Vec<Listener>,
    /// The credentials and their tokens.
    pub credentials: Vec<Credential>,
    /// The routes, in the order in which they are tried.
    pub routes: Vec<Route>,
    /// The tokens that are handed out.
    pub tokens: Vec<Entry>,
    /// The pod's CA, where TLS is intercepted.
    pub ca: Option<Ca>,
    /// Requests refused since the start, by reason.
    pub refusals: BTreeMap<String, u64>,
    /// Requests passed on without a credential since the start, by reason.
    pub passed: BTreeMap<String, u64>,
    /// What an operator should know, such as hosts that are not intercepted until the pod restarts.
    pub warnings: Vec<String>,
}

/// Where the sidecar is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Something of `waiting_for` is not met.
    Starting,
    /// At work.
    Running,
    /// Told to end, finishing what is in flight.
    Draining,
}

/// A point in time, for programs and for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct When {
    /// RFC 3339, UTC.
    pub at: String,
    /// Seconds from now; negative in the past.
    pub in_seconds: i64,
}

impl When {
    /// `at`, seen from `now`.
    pub fn new(now: Wall, at: Wall) -> Self {
        let signed = |wall: Wall| i64::try_from(wall.seconds()).unwrap_or(i64::MAX);
        Self { at: rfc3339(at), in_seconds: signed(at).saturating_sub(signed(now)) }
    }
}

/// A condition that is not met.
#[derive(Clone, Debug, Serialize)]
pub struct Unmet {
    /// Its name.
    pub name: String,
    /// Why not.
    pub reason: String,
}

/// The configuration in force.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// Files and annotations it was read from.
    pub source: String,
    /// When it took effect.
    pub loaded: Option<When>,
    /// Why a newer version was not taken; the last good one stays.
    pub last_error: Option<Problem>,
}

/// Something that went wrong.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    /// What, without anything secret.
    pub message: String,
    /// When.
    pub when: When,
}

/// A door.
#[derive(Clone, Debug, Serialize)]
pub struct Listener {
    /// Its name in the configuration.
    pub door: String,
    /// Where it listens; with the port that was taken where the configuration says 0.
    pub address: String,
}

/// A credential and the token kept for it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Credential {
    /// Its name in the configuration.
    pub name: String,
    /// Its kind in the configuration.
    pub kind: String,
    /// The account, where it is known.
    pub email: Option<String>,
    /// The key in use.
    pub key_id: Option<String>,
    /// Whether requests get a token now.
    pub state: TokenState,
    /// The token in hand; it stays here when it has expired.
    pub token: Option<Token>,
    /// The last success.
    pub last_refresh: Option<When>,
    /// The last failure, until the next success.
    pub last_error: Option<Problem>,
    /// When the next attempt is due.
    pub next_try: Option<When>,
    /// Keys that are mounted and good to read, but not in use.
    pub resting_keys: Vec<RestingKey>,
}

/// A key that no token comes from, now or for good.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RestingKey {
    /// The file it lies in.
    pub file: String,
    /// Its public id.
    pub key_id: Option<String>,
    /// Why, for people, with the reason's label.
    pub message: String,
    /// When it is tried again; absent for never.
    pub next_try: Option<When>,
}

/// Whether requests get a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenState {
    /// Yes.
    Valid,
    /// Yes, but refreshing fails.
    Stale,
    /// No: its time is over.
    Expired,
    /// No: there has been none yet.
    None,
}

impl TokenState {
    /// From the life left, if there is a token, and whether the last refresh failed.
    pub fn of(expires: Option<&When>, failing: bool) -> Self {
        match expires.map(|expires| expires.in_seconds > 0) {
            None => Self::None,
            Some(false) => Self::Expired,
            Some(true) if failing => Self::Stale,
            Some(true) => Self::Valid,
        }
    }
}

/// A token's dates, not the token.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    /// When it ends or has ended.
    pub expires: When,
    /// How long it was good for when it came.
    pub lifetime_seconds: u64,
}

/// A route.
#[derive(Clone, Debug, Serialize)]
pub struct Route {
    /// Its name.
    pub name: String,
    /// Its host patterns.
    pub hosts: Vec<String>,
    /// `inject`, `pass` or `deny`.
    pub action: String,
    /// The credential it uses.
    pub credential: Option<String>,
    /// The kind of token.
    pub token: Option<String>,
    /// Requests since the start, refused ones too.
    pub requests: u64,
}

/// A token that is handed out.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Its name in the configuration.
    pub name: String,
    /// Where it is asked for.
    pub path: String,
    /// What every request has to give.
    pub parameters: Vec<String>,
    /// The credential it is made with.
    pub credential: String,
    /// The kind of token.
    pub token: String,
    /// What it has left at least when it is handed out.
    pub min_life_seconds: u64,
    /// How often that happened since the start.
    pub handed_out: u64,
    /// The file that it is kept in too.
    pub file: Option<TokenFile>,
}

/// A file that holds a token.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenFile {
    /// Where.
    pub path: String,
    /// When the newest token was put into it.
    pub written: Option<When>,
    /// Why the newest token is not in it.
    pub problem: Option<String>,
}

/// The pod's CA.
#[derive(Clone, Debug, Serialize)]
pub struct Ca {
    /// When it ends.
    pub expires: When,
    /// The zones below which it may sign.
    pub permitted: Vec<String>,
}

/// How things stand, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// Nothing to do.
    Good,
    /// Requests get through, but somebody should look.
    Attention,
    /// Some requests get no token.
    Trouble,
}

impl Status {
    /// The worst of all parts. A first token that is still on its way is no trouble.
    pub(super) fn verdict(&self) -> Verdict {
        let starting = self.phase == Phase::Starting;
        let expected = |credential: &&Credential| !(starting && credential.state == TokenState::None);
        let tokens = self.credentials.iter().filter(expected).map(Credential::verdict).max();
        let look = starting || self.config.last_error.is_some() || !self.warnings.is_empty();
        tokens.unwrap_or(Verdict::Good).max(if look { Verdict::Attention } else { Verdict::Good })
    }
}

impl Credential {
    pub(super) fn verdict(&self) -> Verdict {
        match self.state {
            TokenState::Valid if self.last_error.is_none() && self.resting_keys.is_empty() => Verdict::Good,
            TokenState::Valid | TokenState::Stale => Verdict::Attention,
            TokenState::Expired | TokenState::None => Verdict::Trouble,
        }
    }
}
