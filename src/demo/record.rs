//! What happened: requests to the APIs and exchanges at the token endpoint, the last of each.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use http::{HeaderMap, Method, Version};
use tokio::sync::watch;

use super::{state::lock, tokens::TokenRecord};
use crate::clock::Moment;

/// A request that reached an API.
#[derive(Clone)]
#[non_exhaustive]
pub struct Recorded {
    /// Counts from 1.
    pub number: u64,
    /// The connection it came on, counted from 1.
    pub connection: u64,
    /// The name in the TLS hello.
    pub sni: Option<String>,
    /// `:authority` or `Host`.
    pub authority: String,
    /// Method.
    pub method: Method,
    /// Path and query as sent.
    pub target: String,
    /// HTTP version.
    pub version: Version,
    /// As received, `Authorization` included.
    pub headers: HeaderMap,
    /// What was thought of its credential.
    pub admission: Admission,
    /// The token it carried, when it was one of ours.
    pub token: Option<TokenRecord>,
    /// When the head arrived.
    pub at: Moment,
    /// Status answered, once known.
    pub status: Option<u16>,
    /// What came after the head.
    pub body: BodyRecord,
}

/// The body of a request, as far as it was read.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct BodyRecord {
    /// Whether its end was seen.
    pub complete: bool,
    /// Bytes.
    pub length: u64,
    /// SHA-256 of them, hexadecimal; empty until the body has ended one way or the other.
    pub sha256: String,
    /// Trailers.
    pub trailers: HeaderMap,
}

/// What was thought of a request's credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// A living token of ours.
    Token,
    /// A JWT signed by an account's key for this host.
    SelfSigned,
    /// A signed URL or API key and no `Authorization`.
    Presigned,
    /// Nothing.
    Missing,
    /// More than one `Authorization`.
    Several,
    /// Not `Bearer` and a token.
    Malformed,
    /// Not a token of ours.
    Unknown,
    /// Its time is over.
    Expired,
    /// Revoked.
    Revoked,
}

impl Admission {
    /// Whether the request is served.
    pub fn is_good(self) -> bool {
        matches!(self, Self::Token | Self::SelfSigned | Self::Presigned)
    }
}

/// A request that reached the token endpoint.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Exchange {
    /// Counts from 1.
    pub number: u64,
    /// The account that signed, where the assertion was good.
    pub account: Option<String>,
    /// The key that signed, where the assertion was good.
    pub key_id: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// HTTP version.
    pub version: Version,
    /// Whether it carried `Authorization`, which an exchange never should.
    pub authorization: bool,
    /// When.
    pub at: Moment,
}

/// How an exchange ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With this token (its number).
    Issued(u64),
    /// With this OAuth error.
    Refused(&'static str),
    /// With scripted trouble.
    Outage,
}

#[derive(Default)]
pub(super) struct Record {
    requests: Mutex<VecDeque<Recorded>>,
    exchanges: Mutex<Exchanges>,
    connections: AtomicU64,
    failed_handshakes: AtomicU64,
    request_count: watch::Sender<u64>,
    exchange_count: watch::Sender<u64>,
}

#[derive(Default)]
struct Exchanges {
    last: VecDeque<Exchange>,
    by_key: BTreeMap<String, u64>,
}

impl Record {
    pub(super) fn connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    pub(super) fn failed_handshake(&self) {
        self.failed_handshakes.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failed_handshakes(&self) -> u64 {
        self.failed_handshakes.load(Ordering::Relaxed)
    }

    pub(super) fn request(&self, mut request: Recorded) -> u64 {
        let mut requests = lock(&self.requests);
        let number = *self.request_count.borrow() + 1;
        request.number = number;
        if requests.len() >= KEPT {
            requests.pop_front();
        }
        requests.push_back(request);
        self.request_count.send_replace(number);
        number
    }

    /// Adds to a request what was learnt later, if it is still kept.
    pub(super) fn amend(&self, number: u64, change: impl FnOnce(&mut Recorded)) {
        if let Some(request) = lock(&self.requests).iter_mut().rev().find(|request| request.number == number) {
            change(request);
        }
    }

    pub(super) fn exchange(&self, mut exchange: Exchange) {
        let mut exchanges = lock(&self.exchanges);
        let number = *self.exchange_count.borrow() + 1;
        exchange.number = number;
        if let Some(key_id) = &exchange.key_id
            && (exchanges.by_key.len() < KEPT || exchanges.by_key.contains_key(key_id))
        {
            *exchanges.by_key.entry(key_id.clone()).or_default() += 1;
        }
        if exchanges.last.len() >= KEPT {
            exchanges.last.pop_front();
        }
        exchanges.last.push_back(exchange);
        self.exchange_count.send_replace(number);
    }

    pub(super) fn requests(&self) -> Vec<Recorded> {
        lock(&self.requests).iter().cloned().collect()
    }

    pub(super) fn exchanges(&self) -> Vec<Exchange> {
        lock(&self.exchanges).last.iter().cloned().collect()
    }

    pub(super) fn exchanges_of(&self, key_id: &str) -> u64 {
        lock(&self.exchanges).by_key.get(key_id).copied().unwrap_or_default()
    }

    pub(super) fn request_count(&self) -> watch::Receiver<u64> {
        self.request_count.subscribe()
    }

    pub(super) fn exchange_count(&self) -> watch::Receiver<u64> {
        self.exchange_count.subscribe()
    }
}

/// Without header values, one of which is the token.
impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorded")
            .field("number", &self.number)
            .field("connection", &self.connection)
            .field("sni", &self.sni)
            .field("authority", &self.authority)
            .field("method", &self.method)
            .field("target", &self.target)
            .field("version", &self.version)
            .field("admission", &self.admission)
            .field("status", &self.status)
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

const KEPT: usize = 1024;
