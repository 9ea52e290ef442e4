//! Whether a request may get a credential, and which.
//!
//! Owns host patterns, routes, the built-in rules about minting and about requests that carry a
//! credential of their own, and the decision over all of them; every decision is a pure function. Refuses to
//! know tokens, connections, DNS and time: it names a credential and never sees one. Called by every door of
//! the proxy for each request, by `explain`, and by config, which builds it.

use std::sync::Arc;

use http::{HeaderMap, Method};

use crate::authority::{Authority, Host};

mod decision;
mod host;
mod minting;
mod own_credential;
mod placeholder;
mod route;
mod service;
mod signed_url;
mod target;

pub use decision::{Connect, Decision, DenyReason, PassReason};
pub use host::{HostPattern, PatternError};
pub use placeholder::Placeholder;
pub use route::{
    Action, ClientAuthorization, DEFAULT_CREDENTIAL, DEFAULT_ROUTE, Fallback, QuotaProject, Route, TokenKind,
    X_SERVERLESS_AUTHORIZATION,
};
pub use signed_url::is_string_to_sign;

use minting::Guarded;
use service::Service;
use target::RequestTarget;

/// The routes in their order, and what surrounds them.
#[derive(Clone, Debug)]
pub struct Policy {
    routes: Vec<Arc<Route>>,
    unmatched: Unmatched,
    allow: Vec<HostPattern>,
}

/// What becomes of requests that no route matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmatched {
    /// They go out as they are.
    Pass,
    /// They are refused.
    Deny,
}

/// What is known of a request before it is judged.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Where it goes, from the one place that every claim was checked against.
    pub authority: &'a Authority,
    /// Its method.
    pub method: &'a Method,
    /// Path and query, as sent.
    pub target: &'a str,
    /// Its fields.
    pub headers: &'a HeaderMap,
    /// This pod's placeholder, if it has one.
    pub placeholder: Option<&'a Placeholder>,
}

impl Policy {
    /// `allow` bounds where a credential may go at all, whatever the routes say.
    pub fn new(routes: Vec<Route>, unmatched: Unmatched, allow: Vec<HostPattern>) -> Self {
        Self { routes: routes.into_iter().map(Arc::new).collect(), unmatched, allow }
    }

    /// The routes, first match first.
    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// Where a credential may go at all; the pod CA is constrained to it.
    pub fn allow(&self) -> &[HostPattern] {
        &self.allow
    }

    /// What becomes of a request.
    pub fn decide<'a>(&'a self, facts: &Facts<'_>) -> Decision<'a> {
        if facts.authority.local().is_some() {
            return Decision::Deny { route: None, reason: DenyReason::Local };
        }
        let Some(host) = facts.authority.host() else {
            return self.unmatched(facts, PassReason::IpLiteral);
        };
        let target = RequestTarget::new(facts.target);
        let mut reason = PassReason::Unmatched;
        for route in self.routes.iter().filter(|route| route.has_host(host)) {
            if route.action == Action::Inject && facts.authority.port != HTTPS {
                reason = PassReason::Port;
                continue;
            }
            if !route.has_target(&target) {
                continue;
            }
            if !route.methods.is_empty() && minting::has_method_override(facts.headers) {
                return Decision::Deny { route: Some(route), reason: DenyReason::MethodOverride };
            }
            if !route.has_method(facts.method) {
                continue;
            }
            return match route.action {
                Action::Inject => self.inject(route, host, facts, &target),
                Action::Pass => pass(Some(route), facts, PassReason::Route),
                Action::Deny => Decision::Deny { route: Some(route), reason: DenyReason::Route },
            };
        }
        self.unmatched(facts, reason)
    }

    /// What becomes of a CONNECT, from what it names alone.
    ///
    /// Hosts at other ports are tunnelled or refused: what is spoken there is not known.
    pub fn connect(&self, authority: &Authority) -> Connect {
        if authority.local().is_some() {
            return Connect::Refuse(DenyReason::Local);
        }
        let unmatched = match self.unmatched {
            Unmatched::Pass => Connect::Tunnel,
            Unmatched::Deny => Connect::Refuse(DenyReason::Unmatched),
        };
        let Some(host) = authority.host() else { return unmatched };
        for route in self.routes.iter().filter(|route| route.has_host(host)) {
            let verdict = match (authority.port, route.action) {
                (HTTPS, _) => self.connect_by(route, host),
                (_, Action::Deny) if !route.looks_inside() => Some(Connect::Refuse(DenyReason::Route)),
                (_, Action::Pass) if !route.looks_inside() => Some(Connect::Tunnel),
                _ => None,
            };
            if let Some(verdict) = verdict {
                return verdict;
            }
        }
        unmatched
    }

    /// What becomes of a CONNECT to a host that we should look inside of and cannot, since the pod's CA does not
    /// cover it: a tunnel, unless something in there is denied.
    pub fn connect_unseen(&self, host: &Host) -> Connect {
        for route in self.routes.iter().filter(|route| route.has_host(host)) {
            match route.action {
                Action::Deny => return Connect::Refuse(DenyReason::Route),
                _ if !route.looks_inside() => return Connect::Tunnel,
                _ => {}
            }
        }
        match self.unmatched {
            Unmatched::Pass => Connect::Tunnel,
            Unmatched::Deny => Connect::Refuse(DenyReason::Unmatched),
        }
    }

    /// `None` when only a later route can tell.
    fn connect_by(&self, route: &Route, host: &Host) -> Option<Connect> {
        let service = Service::of(host);
        // Outside `allow` the pod CA cannot sign, so a refusal inside would be an unreadable TLS error.
        let can_sign = self.allows(host);
        match route.action {
            Action::Deny if !route.looks_inside() && !can_sign => Some(Connect::Refuse(DenyReason::Route)),
            Action::Deny => Some(Connect::Intercept),
            Action::Inject if leaves_certificate_to_client(service, route, host) => Some(Connect::Tunnel),
            _ if route.looks_inside() => Some(Connect::Intercept),
            Action::Pass => Some(Connect::Tunnel),
            Action::Inject => {
                let never = match service {
                    Service::Exchange => true,
                    Service::EndUsers => !route.names(host),
                    _ => !can_sign,
                };
                Some(if never { Connect::Tunnel } else { Connect::Intercept })
            }
        }
    }

    fn inject<'a>(
        &'a self,
        route: &'a Arc<Route>,
        host: &Host,
        facts: &Facts<'_>,
        target: &RequestTarget<'_>,
    ) -> Decision<'a> {
        if !self.allows(host) {
            return pass(Some(route), facts, PassReason::NotAllowed);
        }
        if route.signs_urls
            && by_client_authorization(route, facts).is_none()
            && let Some(account) = signed_url::account(host, facts, target)
        {
            return Decision::SignBlob { route, account };
        }
        match minting::judge(host, route.names(host), facts.method, facts.headers, target) {
            Some(Guarded::Deny(reason)) => return Decision::Deny { route: Some(route), reason },
            Some(Guarded::Pass(reason)) => return pass(Some(route), facts, reason),
            None => {}
        }
        // Which of them the upstream would believe is not known, so neither wins.
        if route.client_authorization == ClientAuthorization::Keep && own_credentials(route, facts) > 1 {
            return Decision::Deny { route: Some(route), reason: DenyReason::SeveralCredentials };
        }
        let reason = own_credential::find(target, facts.headers).or_else(|| by_client_authorization(route, facts));
        match reason {
            Some(reason) => pass(Some(route), facts, reason),
            None => Decision::Inject { route },
        }
    }

    fn unmatched<'a>(&self, facts: &Facts<'_>, reason: PassReason) -> Decision<'a> {
        match self.unmatched {
            Unmatched::Pass => pass(None, facts, reason),
            Unmatched::Deny => Decision::Deny { route: None, reason: DenyReason::Unmatched },
        }
    }

    fn allows(&self, host: &Host) -> bool {
        self.allow.iter().any(|pattern| pattern.matches(host))
    }
}

/// Hosts that want a client certificate get the client's, so nothing can be injected, unless a route names
/// the host. Minting is refused all the same.
fn leaves_certificate_to_client(service: Service, route: &Route, host: &Host) -> bool {
    service::wants_client_certificate(host) && service != Service::Minting && !route.names(host)
}

/// Set when the client's own credential, or a missing placeholder, leaves no room for ours.
fn by_client_authorization(route: &Route, facts: &Facts<'_>) -> Option<PassReason> {
    match route.client_authorization {
        ClientAuthorization::Replace => None,
        ClientAuthorization::Keep => (own_credentials(route, facts) > 0).then_some(PassReason::ClientCredential),
        ClientAuthorization::Require if has_placeholder(route, facts) => None,
        ClientAuthorization::Require => Some(PassReason::NoPlaceholder),
    }
}

/// How many credentials of its own the client put where the route's goes.
fn own_credentials(route: &Route, facts: &Facts<'_>) -> usize {
    let is_own = |value: &&http::HeaderValue| {
        !value.as_bytes().trim_ascii().is_empty() && !facts.placeholder.is_some_and(|it| it.is(value))
    };
    facts.headers.get_all(&route.header).iter().filter(is_own).count()
}

fn has_placeholder(route: &Route, facts: &Facts<'_>) -> bool {
    facts.placeholder.is_some_and(|placeholder| {
        placeholder.is_in(facts.headers) || placeholder.is_in_header(facts.headers, route.header.as_str())
    })
}

fn pass<'a>(route: Option<&'a Arc<Route>>, facts: &Facts<'_>, reason: PassReason) -> Decision<'a> {
    // Not only where this route would look for it: another route's header may be the one that holds it.
    let strip_placeholder = facts.placeholder.is_some_and(|placeholder| placeholder.is_anywhere(facts.headers));
    Decision::Pass { route, reason, strip_placeholder }
}

/// The only port that credentials go to.
const HTTPS: u16 = 443;

#[cfg(test)]
mod tests;
