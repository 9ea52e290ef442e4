//! Which token a route puts on a request: a pure choice among readers of tokens.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{
    authority::Host,
    clock::{Clock, Moment},
    credential::{CredentialName, Want},
    policy::{Fallback, Route, TokenKind},
    token::{Handle, Signature, SignatureError, Tokens},
};

/// Where the tokens of one route come from.
#[derive(Debug)]
pub struct Supply {
    main: Main,
    /// What goes on in place of `main`, and when.
    other: Option<(When, Handle)>,
    /// Who signs, where the route signs URLs.
    signer: Option<(Tokens, CredentialName)>,
}

#[derive(Debug)]
enum Main {
    /// One token for all requests.
    One(Handle),
    /// An ID token for each host.
    ForHost(Tokens, CredentialName),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// The main token is self-signed, and the host has refused such a one.
    SelfSignedIsRefused,
    /// There is no valid main token, its endpoint is down, and the host has not refused a self-signed one.
    EndpointIsDown,
}

/// The token for one request.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub(super) handle: Handle,
    /// Signed by the account itself: a host that refuses it is remembered.
    pub(super) is_self_signed: bool,
}

impl Supply {
    /// What `route` needs of `tokens`; `None` when its credential is not there.
    pub fn new(route: &Route, tokens: &Tokens) -> Option<Self> {
        let name = CredentialName::new(&route.credential);
        let handle = |want| tokens.handle(&name, &want);
        let (main, other) = match (route.token, &route.audience) {
            (TokenKind::Access, _) => {
                let other = match route.fallback {
                    Fallback::None => None,
                    Fallback::SelfSigned => Some((When::EndpointIsDown, handle(Want::SelfSigned)?)),
                };
                (Main::One(handle(Want::Access)?), other)
            }
            (TokenKind::SelfSigned, _) => {
                let other = (When::SelfSignedIsRefused, handle(Want::Access)?);
                (Main::One(handle(Want::SelfSigned)?), Some(other))
            }
            (TokenKind::Id, Some(audience)) => (Main::One(handle(Want::Id(audience.as_str().into()))?), None),
            (TokenKind::Id, None) => (Main::ForHost(tokens.clone(), name), None),
            (TokenKind::Jwt, _) => (Main::One(handle(Want::Jwt(crate::credential::Parameters::none()))?), None),
        };
        let signer = route.signs_urls.then(|| (tokens.clone(), CredentialName::new(&route.credential)));
        Some(Self { main, other, signer })
    }

    /// Signs `blob` for `account`.
    pub(super) fn sign(&self, account: &str, blob: &[u8]) -> Result<Signature, SignatureError> {
        let none = || SignatureError::NoKey("the route signs no URLs".to_owned());
        let (tokens, name) = self.signer.as_ref().ok_or_else(none)?;
        tokens.sign_blob(name, account, blob)
    }

    /// The token for a request to `host`.
    pub(super) fn choose(&self, host: &Host, refusals: &Refusals) -> Option<Chosen> {
        let main = match &self.main {
            Main::One(handle) => handle.clone(),
            Main::ForHost(tokens, name) => {
                tokens.handle(name, &Want::Id(format!("https://{}", host.as_str()).into()))?
            }
        };
        let Some((when, other)) = &self.other else { return Some(Chosen { handle: main, is_self_signed: false }) };
        let has_refused = refusals.has(host);
        let (takes_other, other_is_self_signed) = match when {
            When::SelfSignedIsRefused => (has_refused, false),
            When::EndpointIsDown => (!has_refused && main.current().is_none() && main.is_in_trouble(), true),
        };
        Some(if takes_other {
            Chosen { handle: other.clone(), is_self_signed: other_is_self_signed }
        } else {
            Chosen { handle: main, is_self_signed: !other_is_self_signed }
        })
    }
}

/// The hosts that have refused a self-signed token with a 401, each for an hour: some services know no such tokens
/// (AIP-4111 names none, so that only trying tells).
#[derive(Debug)]
pub(super) struct Refusals {
    clock: Clock,
    hosts: Mutex<HashMap<Arc<str>, Moment>>,
}

impl Refusals {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, hosts: Mutex::default() }
    }

    /// Remembers `host`.
    pub(super) fn add(&self, host: &Host) {
        let now = self.clock.now();
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= MOST_HOSTS {
            hosts.retain(|_, since| since.until(now) < REMEMBERED);
        }
        if hosts.len() < MOST_HOSTS {
            hosts.insert(host.as_str().into(), now);
        }
    }

    fn has(&self, host: &Host) -> bool {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.get(host.as_str()).is_some_and(|since| since.until(self.clock.now()) < REMEMBERED)
    }
}

const MOST_HOSTS: usize = 512;
const REMEMBERED: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_remembered_for_an_hour_and_their_number_is_bounded() {
        let refusals = Refusals::new(Clock::virtual_time());
        let host = |number: usize| Host::parse(&format!("h{number}.googleapis.com")).unwrap();
        refusals.add(&host(0));
        assert!(refusals.has(&host(0)) && !refusals.has(&host(1)));
        for number in 0..MOST_HOSTS + 5 {
            refusals.add(&host(number));
        }
        assert_eq!(refusals.hosts.lock().unwrap().len(), MOST_HOSTS);
        tokio::time::advance(REMEMBERED).await;
        assert!(!refusals.has(&host(0)));
        refusals.add(&host(MOST_HOSTS + 9));
        assert_eq!(refusals.hosts.lock().unwrap().len(), 1);
    }
}
