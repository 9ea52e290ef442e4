//! JWTs that depend on who asks: signed on the spot, kept for each set of parameters, never refreshed ahead.
//!
//! A task for each vehicle that was ever asked about would work for ever for nobody; a signature takes a millisecond.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    bearer::{Bearer, bearer},
    schedule,
    slot::{self, Unavailable},
};
use crate::{
    clock::{Moment, Wall},
    credential::{Exchange, Parameters, Reason, Source},
};

/// The JWTs of one credential.
#[derive(Default)]
pub(super) struct Cache {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    tokens: HashMap<Parameters, Entry>,
    /// Counts up with every use.
    uses: u64,
}

struct Entry {
    bearer: Arc<Bearer>,
    /// When, by both clocks.
    signed: (Moment, Wall),
    /// Which key made it: another one's JWTs may be about to become worthless.
    key: u64,
    last_use: u64,
}

impl Cache {
    /// A JWT with at least `least` to live, by the key `source`, whose id among all keys is `key`.
    pub(super) fn token(
        &self,
        (key, source): (u64, &Source),
        parameters: &Parameters,
        least: Duration,
        exchange: &Exchange,
    ) -> Result<Arc<Bearer>, Unavailable> {
        let (now, wall) = (exchange.clock.now(), exchange.clock.wall());
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.uses += 1;
        let uses = kept.uses;
        if let Some(entry) = kept.tokens.get_mut(parameters)
            && entry.key == key
            && entry.lives(now, least)
            && entry.is_by_the_same_time((now, wall))
        {
            entry.last_use = uses;
            return Ok(entry.bearer.clone());
        }
        let token = source
            .sign(parameters, exchange)
            .map_err(|error| slot::unavailable(LATER, error.label(), &error.message))?;
        let bearer = bearer(&token, uses, source.into())
            .ok_or_else(|| slot::unavailable(LATER, Reason::BadAnswer.label(), "no header can carry the token"))?;
        let bearer = Arc::new(bearer);
        kept.make_room(now);
        kept.tokens
            .insert(parameters.clone(), Entry { bearer: bearer.clone(), signed: (now, wall), key, last_use: uses });
        Ok(bearer)
    }

    /// How many are kept.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).tokens.len()
    }
}

impl Kept {
    /// When full: what has expired goes, else a part that was not used for longest. A part, so that a scan of all is
    /// not needed for every new one.
    fn make_room(&mut self, now: Moment) {
        if self.tokens.len() < MOST_KEPT {
            return;
        }
        self.tokens.retain(|_, entry| entry.lives(now, Duration::ZERO));
        if self.tokens.len() < MOST_KEPT {
            return;
        }
        let mut uses: Vec<u64> = self.tokens.values().map(|entry| entry.last_use).collect();
        let (_, &mut oldest_to_stay, _) = uses.select_nth_unstable(MOST_KEPT / 8);
        self.tokens.retain(|_, entry| entry.last_use >= oldest_to_stay);
    }
}

impl Entry {
    fn lives(&self, now: Moment, least: Duration) -> bool {
        now + least < self.bearer.expires
    }

    /// Whether nobody has set our wall clock since: what it says of its end is by that.
    fn is_by_the_same_time(&self, now: (Moment, Wall)) -> bool {
        let (wall_delta, boot_delta) = schedule::deltas(self.signed, now);
        !schedule::wall_jumped(wall_delta, boot_delta)
    }
}

/// 1 KiB each: a large fleet's vehicles, a few MiB.
const MOST_KEPT: usize = 8192;
/// For `Retry-After`, in seconds.
const LATER: u64 = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Clock,
        credential::{Answer, BoxFuture, Kind, Post, PostError, Request, Spec, Template},
        secret::Secret,
    };

    /// Nothing is exchanged here.
    struct NoPost;

    impl Post for NoPost {
        fn post(&self, _: Request) -> BoxFuture<'_, Result<Answer, PostError>> {
            Box::pin(async { panic!("an exchange") })
        }
    }

    fn spec() -> Spec {
        let mut template = Template::new("project");
        template.claims.insert("device".to_owned(), "{device}".into());
        Spec { name: "devices".into(), kind: Kind::SignedJwt { path: "/nowhere".into(), template } }
    }

    fn source() -> Source {
        spec().load(&Secret::new(&include_bytes!("../../tests/data/p256-sec1.pem")[..])).unwrap()
    }

    fn device(name: &str) -> Parameters {
        Parameters::new([("device".to_owned(), name.to_owned())], &spec().parameters()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_kept_for_its_parameters_until_too_little_of_it_is_left() {
        let clock = Clock::virtual_time();
        let exchange = Exchange::new(Arc::new(NoPost), clock);
        let (cache, source) = (Cache::default(), source());
        let least = Duration::from_secs(900);
        let get = |name: &str, key| cache.token((key, &source), &device(name), least, &exchange).unwrap();
        let first = get("a", 1);
        assert!(Arc::ptr_eq(&first, &get("a", 1)));
        assert!(!Arc::ptr_eq(&first, &get("b", 1)));
        assert_ne!(first.bare, get("b", 1).bare);
        tokio::time::advance(Duration::from_secs(3590 - 901)).await;
        assert!(Arc::ptr_eq(&first, &get("a", 1)), "901 s are left");
        tokio::time::advance(Duration::from_secs(1)).await;
        let second = get("a", 1);
        assert!(!Arc::ptr_eq(&first, &second), "900 s are left");
        assert!(!Arc::ptr_eq(&second, &get("a", 2)), "another key");
    }

    #[tokio::test(start_paused = true)]
    async fn a_bounded_number_is_kept_and_the_least_used_go() {
        let exchange = Exchange::new(Arc::new(NoPost), Clock::virtual_time());
        let (cache, source) = (Cache::default(), source());
        let get = |name: &str| cache.token((1, &source), &device(name), Duration::ZERO, &exchange).unwrap();
        let favourite = get("favourite");
        for number in 0..MOST_KEPT + 10 {
            get(&number.to_string());
            if number % 500 == 0 {
                get("favourite");
            }
            assert!(cache.len() <= MOST_KEPT);
        }
        assert!(Arc::ptr_eq(&favourite, &get("favourite")));
    }
}
