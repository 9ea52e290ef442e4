//! Names to addresses: A and AAAA asked apart, the last good answer kept for when DNS fails.
//!
//! However many wait for a name, it is looked up once, and few names are at a time: each look-up takes descriptors.
//! A failed or slow AAAA is never fatal, and names of Google hosts are asked as absolute names, so that
//! `ndots:5` and five search domains do not turn one question into twelve.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    net::IpAddr,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use hickory_resolver::{
    TokioResolver,
    config::{ResolverConfig, ResolverOpts},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::RData,
};
use memory::Memory;
use tokio::sync::Semaphore;

use crate::{
    authority::Host,
    clock::{Clock, Moment},
};

mod memory;

/// How a name is completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Completion {
    /// The name is absolute: no search domains.
    Absolute,
    /// As the pod's own programs would: search domains and `ndots` apply.
    Search,
}

/// The resolver and its memory of good answers.
pub struct Resolver {
    hickory: TokioResolver,
    /// By how the name was completed: what a search domain answered says nothing about the absolute name, and names that
    /// the application makes up take no room of those that matter.
    known_absolute: Mutex<Memory>,
    known_search: Mutex<Memory>,
    /// What is being looked up, for as long as somebody waits for it.
    flights: Mutex<HashMap<Question, WeakShared<Flight>>>,
    /// Room for look-ups. Names of Google's hosts have their own, so that no name of the application's is in their way.
    absolute: Arc<Semaphore>,
    search: Arc<Semaphore>,
    clock: Clock,
}

type Question = (Host, Completion);
type Flight = BoxFuture<'static, Result<Answer, DnsError>>;

#[derive(Clone)]
struct Answer {
    addresses: Arc<[IpAddr]>,
    fresh_until: Moment,
    /// When DNS is asked for another one: later than the end of this one while DNS fails.
    ask_again: Moment,
}

/// No address for a name, and none remembered.
#[derive(Clone, Debug, thiserror::Error)]
#[error("no address for the name ({0})")]
pub struct DnsError(String);

impl Resolver {
    /// Reads `/etc/resolv.conf` and `/etc/hosts`. A missing or broken file means no name servers, which
    /// shows at the first lookup: a sidecar that cannot resolve must still start and say so.
    pub fn system(clock: Clock) -> Self {
        let builder = TokioResolver::builder_tokio().unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read the system's resolver configuration");
            TokioResolver::builder_with_config(ResolverConfig::default(), TokioRuntimeProvider::default())
        });
        Self::with(builder, clock)
    }

    /// One that asks a name server of the test's own.
    #[cfg(test)]
    pub(super) fn of(server: std::net::SocketAddr, clock: Clock) -> Self {
        Self::completing(server, &[], clock)
    }

    /// The same, with search domains.
    #[cfg(test)]
    fn completing(server: std::net::SocketAddr, search: &[&str], clock: Clock) -> Self {
        use hickory_resolver::{
            config::{ConnectionConfig, NameServerConfig},
            proto::rr::Name,
        };
        let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
        for connection in &mut connections {
            connection.port = server.port();
        }
        let mut name_server = NameServerConfig::udp(server.ip());
        name_server.connections = connections;
        let search = search.iter().map(|domain| Name::from_ascii(domain).unwrap()).collect();
        let config = ResolverConfig::from_parts(None, search, vec![name_server]);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        // As in a pod.
        builder.options_mut().ndots = 5;
        Self::with(builder, clock)
    }

    fn with(mut builder: hickory_resolver::ResolverBuilder<TokioRuntimeProvider>, clock: Clock) -> Self {
        limit(builder.options_mut());
        let hickory = builder.build().unwrap_or_else(|_| unreachable_resolver());
        let room = || Arc::new(Semaphore::new(MOST_IN_FLIGHT));
        let (known_absolute, known_search) = (Mutex::default(), Mutex::default());
        let (absolute, search) = (room(), room());
        Self { hickory, known_absolute, known_search, flights: Mutex::default(), absolute, search, clock }
    }

    /// The same, which gives up no answer about these names, asked for as absolute ones: without tokens nothing goes.
    #[must_use]
    pub fn keeping(self, names: Vec<Host>) -> Self {
        Self { known_absolute: Mutex::new(Memory::keeping(names)), ..self }
    }

    /// The addresses of `host`, IPv4 first.
    ///
    /// # Errors
    /// When neither family answered and no answer of the last ten minutes is remembered.
    pub async fn addresses(&self, host: &Host, completion: Completion) -> Result<Arc<[IpAddr]>, DnsError> {
        let question = (host.clone(), completion);
        let now = self.clock.now();
        let kept = self.remembered(&question).filter(|answer| now < answer.fresh_until + STALE);
        let Some(kept) = kept else {
            let answer = self.flight(&question).await?;
            self.remember(&question, answer.clone());
            return Ok(answer.addresses);
        };
        if now < kept.ask_again {
            return Ok(kept.addresses);
        }
        // Whoever wants a connection has an answer that serves, and no time for a name server that is silent: with
        // its repetitions and search domains, a question outlasts them.
        let answer = match tokio::time::timeout(PATIENCE, self.flight(&question)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Answer { ask_again: self.clock.now() + SHORTEST, ..kept },
        };
        let addresses = answer.addresses.clone();
        self.remember(&question, answer);
        Ok(addresses)
    }

    /// The one look-up for `question`, which ends when nobody waits for it any more.
    fn flight(&self, question: &Question) -> Shared<Flight> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(question).and_then(WeakShared::upgrade) {
            return flight;
        }
        // Those that have ended are dropped when there is no more room, so that it grows with what is in flight only.
        if flights.len() >= flights.capacity() {
            flights.retain(|_, flight| flight.upgrade().is_some());
        }
        let flight = self.ask(question).boxed().shared();
        if let Some(weak) = flight.downgrade() {
            flights.insert(question.clone(), weak);
        }
        flight
    }

    fn ask(&self, (host, completion): &Question) -> impl Future<Output = Result<Answer, DnsError>> + use<> {
        let (name, room) = match completion {
            Completion::Absolute => (format!("{host}."), self.absolute.clone()),
            Completion::Search => (host.to_string(), self.search.clone()),
        };
        let (hickory, clock) = (self.hickory.clone(), self.clock);
        async move {
            // Never closed.
            let _room = room.acquire().await;
            let v4 = async { hickory.ipv4_lookup(name.as_str()).await.map(|found| records(&found)) };
            let v6 = async { hickory.ipv6_lookup(name.as_str()).await.map(|found| records(&found)) };
            let (addresses, lifetime) = both(v4, v6).await.map_err(|error| DnsError(describe(&error)))?;
            let fresh_until = clock.now() + lifetime;
            Ok(Answer { addresses: addresses.into(), fresh_until, ask_again: fresh_until })
        }
    }

    fn remembered(&self, (host, completion): &Question) -> Option<Answer> {
        self.known(*completion).answer(host)
    }

    fn remember(&self, (host, completion): &Question, answer: Answer) {
        self.known(*completion).keep(host, answer);
    }

    fn known(&self, completion: Completion) -> std::sync::MutexGuard<'_, Memory> {
        let memory = match completion {
            Completion::Absolute => &self.known_absolute,
            Completion::Search => &self.known_search,
        };
        memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

type Found = (Vec<IpAddr>, Duration);

/// Both families: the first to answer waits [`SECOND_FAMILY`] for the other (RFC 8305 §3), no longer.
async fn both<A, B>(v4: A, v6: B) -> Result<Found, NetError>
where
    A: Future<Output = Result<Found, NetError>>,
    B: Future<Output = Result<Found, NetError>>,
{
    let (mut v4, mut v6) = (pin!(v4), pin!(v6));
    let usable = |found: &Result<Found, NetError>| found.as_ref().is_ok_and(|(addresses, _)| !addresses.is_empty());
    let (first, second) = tokio::select! {
        first = &mut v4 => {
            let second = if usable(&first) { tokio::time::timeout(SECOND_FAMILY, v6).await.ok() } else { Some(v6.await) };
            (first, second)
        }
        first = &mut v6 => {
            let second = if usable(&first) { tokio::time::timeout(SECOND_FAMILY, v4).await.ok() } else { Some(v4.await) };
            // IPv4 first whichever came first: in pods a missing IPv6 route is the commoner fault.
            match second {
                Some(second) => (second, Some(first)),
                None => (first, None),
            }
        }
    };
    match (first, second) {
        (Ok((mut addresses, lifetime)), Some(Ok((more, other)))) => {
            addresses.extend(more);
            Ok((addresses, lifetime.min(other)))
        }
        (Ok(found), _) | (Err(_), Some(Ok(found))) => Ok(found),
        (Err(error), _) => Err(error),
    }
    .and_then(|found| if found.0.is_empty() { Err(NetError::Message("empty answer")) } else { Ok(found) })
}

fn records(found: &hickory_resolver::lookup::Lookup) -> Found {
    let mut lifetime = LONGEST;
    let mut addresses = Vec::new();
    for record in found.answers().iter().take(MOST_RECORDS) {
        let address = match &record.data {
            RData::A(a) => IpAddr::V4(a.0),
            RData::AAAA(aaaa) => IpAddr::V6(aaaa.0),
            _ => continue,
        };
        lifetime = lifetime.min(Duration::from_secs(record.ttl.into()));
        addresses.push(address);
    }
    (addresses, lifetime.max(SHORTEST))
}

fn limit(options: &mut ResolverOpts) {
    options.timeout = Duration::from_secs(2);
    options.attempts = 2;
    // Ours is the cache: it alone knows which answers may be served stale.
    options.cache_size = 0;
}

fn unreachable_resolver() -> TokioResolver {
    #[expect(clippy::expect_used, reason = "an empty configuration without TLS has nothing that can fail")]
    TokioResolver::builder_with_config(ResolverConfig::default(), TokioRuntimeProvider::default())
        .build()
        .expect("an empty resolver can be built")
}

fn describe(error: &NetError) -> String {
    match error {
        NetError::Dns(_) => "the name does not exist or has no address".to_owned(),
        NetError::Timeout => "the name server did not answer".to_owned(),
        NetError::NoConnections => "no name server could be reached".to_owned(),
        other => other.to_string(),
    }
}

/// RFC 8305 §3 "Resolution Delay".
const SECOND_FAMILY: Duration = Duration::from_millis(50);
const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(300);
const STALE: Duration = Duration::from_secs(600);
/// How long a new answer is waited for where an old one serves; RFC 8767 §5 "client response timer", and a name server
/// that is well answers sooner.
const PATIENCE: Duration = Duration::from_secs(1);
const MOST_RECORDS: usize = 64;
/// Look-ups at once of either kind. Each may take four descriptors: two families, two name servers.
const MOST_IN_FLIGHT: usize = 32;

#[cfg(test)]
mod tests;
