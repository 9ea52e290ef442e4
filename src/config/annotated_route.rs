//! What routes of annotations may choose: parts of what the file's own routes give, and beyond these nothing that could
//! bring a token to anybody but the API that it is for (pure).

use super::{
    file::{File, PlacedRoute},
    merge::{check_ceiling, covered, main_credential},
    problem::{Place, Report},
    settings::default_zone,
    tokens,
};
use crate::{
    credential::Spec,
    policy::{Action, ClientAuthorization, HostPattern, Route, TokenKind, Unmatched},
};

/// The file's routes, as a measure for those of annotations.
pub(super) struct FileRoutes<'a> {
    routes: Vec<Route>,
    /// Credentials for hosts that no route of the file has: the one named `default`, else the first, where routes of the file
    /// use it, and those that nothing of the file uses. Others are there to derive from, for entries of `tokens`, for
    /// brokers or for the hosts of their routes.
    free: Vec<&'a str>,
    known: Vec<&'a str>,
    brokers: Vec<HostPattern>,
    unmatched: Unmatched,
    allow: &'a [HostPattern],
    /// Whether somebody set the ceiling: the one that nobody set has the hosts of the file's routes, whatever they get.
    is_ceiling_set: bool,
}

impl<'a> FileRoutes<'a> {
    /// By `listed`, the routes without those of annotations.
    pub(super) fn new(
        file: &File,
        listed: &[PlacedRoute],
        credentials: &'a [Spec],
        (allow, is_ceiling_set): (&'a [HostPattern], bool),
    ) -> Self {
        let routes: Vec<Route> = listed.iter().map(|placed| placed.route.clone()).collect();
        let names = || credentials.iter().map(|spec| spec.name.as_str());
        let main = names().nth(main_credential(credentials));
        let in_routes =
            |name: &str| routes.iter().any(|route| route.action == Action::Inject && route.credential == name);
        let is_elsewhere = |name: &str| {
            credentials.iter().filter_map(|spec| spec.kind.source()).any(|source| source.as_str() == name)
                || file.tokens.iter().any(|entry| entry.credential() == name)
                || file.mqtt.iter().any(|door| door.settings.credential == name)
        };
        let is_free = |name: &&str| match in_routes(name) {
            true => Some(*name) == main,
            false => !is_elsewhere(name),
        };
        let (free, known) = (names().filter(is_free).collect(), names().collect());
        let brokers = file.mqtt.iter().filter_map(|door| door.settings.upstream.host());
        let brokers = brokers.map(|host| HostPattern::exact(host.clone())).collect();
        let unmatched = file.unmatched.unwrap_or(Unmatched::Pass);
        Self { routes, free, known, brokers, unmatched, allow, is_ceiling_set }
    }

    /// Checks what a route of an annotation chose.
    pub(super) fn check(&self, placed: &PlacedRoute, report: &mut Report) {
        let PlacedRoute { route, hosts, .. } = placed;
        match route.action {
            Action::Inject => self.check_hosts(placed, 0, report),
            Action::Pass if self.unmatched == Unmatched::Deny => {
                for (host, place) in route.hosts.iter().zip(hosts) {
                    check_ceiling(host, place, self.allow, report);
                    self.check_refused(host, place, report);
                }
            }
            Action::Pass | Action::Deny => {}
        }
    }

    /// What a route of the file leaves of its host is refused where all is refused that is unmatched.
    fn check_refused(&self, host: &HostPattern, place: &Place, report: &mut Report) {
        if let Some(of) = self.routes.iter().find(|of| of.looks_inside() && touches(host, of)) {
            let message = format!("the file's route '{}' has some requests to such a host, want another host", of.name);
            report.problem(place, message);
        }
    }

    /// Checks each host of a route that is to stand before the file's routes from `first` on: where these have such a host,
    /// for being a part of each, and where they leave some of it for what may go anywhere inside the ceiling.
    ///
    /// Of the routes in front those count that let requests by: what their methods and paths leave is nobody's so far.
    pub(super) fn check_hosts(&self, placed: &PlacedRoute, first: usize, report: &mut Report) {
        let PlacedRoute { route, hosts, .. } = placed;
        if !self.known.contains(&route.credential.as_str()) {
            return;
        }
        for (host, place) in route.hosts.iter().zip(hosts) {
            // What breaks a rule for all routes is told by that.
            if !covered(host, self.allow) || tokens::sent(host, route.token).is_err() {
                continue;
            }
            let lets_by = |(at, of): &(usize, &Route)| *at >= first || of.looks_inside();
            let counting = self.routes.iter().enumerate().filter(lets_by).map(|(_, of)| of);
            let touched: Vec<_> = counting.filter(|of| of.action != Action::Deny && touches(host, of)).collect();
            let beyond = touched.iter().find_map(|of| {
                let more = more_than(route, of)?;
                Some((more, format!("the file's route '{}' has such a host: {}", of.name, more.wanted(of))))
            });
            // A wildcard may go round one name of a route; then the rest is nobody's, as another name is.
            let is_all_theirs = touched.iter().any(|of| covered(host, &of.hosts));
            let beyond = beyond.or_else(|| if is_all_theirs { None } else { self.more_than_free(host, route) });
            if let Some((more, message)) = beyond {
                report.problem(more.place(placed, place), message);
            }
        }
    }

    /// Checks what becomes of the hosts that `own`, the file's route number `at`, no longer has: the routes behind it get
    /// their requests, and may give no more.
    pub(super) fn check_dropped(
        &self,
        at: usize,
        (own, chosen): (&Route, &[HostPattern]),
        place: &Place,
        report: &mut Report,
    ) {
        for of in self.routes.iter().skip(at + 1).filter(|of| of.action == Action::Inject) {
            let mut both = of.hosts.iter().flat_map(|host| own.hosts.iter().filter_map(|other| common(host, other)));
            let dropped = both.find(|host| !covered(host, chosen));
            // Its methods and paths made no difference: what they leave to those behind it is theirs already.
            let more = more_than(of, own).filter(|more| *more != More::Part);
            if let (Some(host), Some(_)) = (dropped, more) {
                let message = format!(
                    "left to the file's route '{}', which gives more to '{host}' than '{}' does, want that host too",
                    of.name, own.name
                );
                report.problem(place, message);
            }
        }
    }

    /// What a route chose too much at a host that no route of the file has.
    fn more_than_free(&self, host: &HostPattern, route: &Route) -> Option<(More, String)> {
        let name = route.credential.as_str();
        let is_api = covered(host, &default_zone());
        let is_broker = self.brokers.iter().any(|broker| host.covers(broker));
        let goes_anywhere = (is_api || (self.is_ceiling_set && !is_broker)) && self.unmatched == Unmatched::Pass;
        match route.token {
            _ if !self.free.contains(&name) => {
                let names = if self.free.is_empty() { "none".to_owned() } else { self.free.join(" or ") };
                Some((
                    More::Credential,
                    format!("no route of the file has such a host, where annotations may use {names}"),
                ))
            }
            _ if route.audience.is_some() => Some((
                More::Token,
                "an audience is for the file's routes, want it left out: then it is the host's own".to_owned(),
            )),
            _ if !AUTHORIZATION.contains(&route.header.as_str()) => Some((More::Header, headers_wanted(None))),
            // One service has many names (`www`, regional ones, those of buckets), and what the file keeps from one of them
            // the others would give.
            _ if self.limits(route) => Some((
                More::Host,
                "the file's routes limit what the credential does at their hosts, want one of these".to_owned(),
            )),
            _ if is_api && self.withholds_api() => Some((
                More::Host,
                "the file keeps credentials from some of Google's APIs, which have other names too, want a host of its \
                 routes"
                    .to_owned(),
            )),
            // It is for the host that it goes to.
            TokenKind::Id => None,
            TokenKind::Access | TokenKind::SelfSigned if goes_anywhere => None,
            _ => Some((More::Host, format!("no route of the file sends a token of the kind {} there", route.token))),
        }
    }

    /// Whether a route of the file gives the same to some requests of its hosts alone.
    fn limits(&self, route: &Route) -> bool {
        let gives_it = |of: &Route| of.credential == route.credential && are_one_kind(of.token, route.token);
        self.routes.iter().any(|of| of.action == Action::Inject && gives_it(of) && (of.looks_inside() || requires(of)))
    }

    /// Whether a route of the file gives nothing to some of Google's APIs.
    fn withholds_api(&self) -> bool {
        let zone = default_zone();
        self.routes.iter().any(|of| of.action != Action::Inject && zone.iter().any(|api| touches(api, of)))
    }
}

/// In which field a route chose too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum More {
    Host,
    Credential,
    Token,
    Header,
    Client,
    Part,
}

impl More {
    fn wanted(self, of: &Route) -> String {
        match self {
            Self::Host => "it gives no credential, want another host".to_owned(),
            Self::Credential => format!("want credential={}", of.credential),
            Self::Token => match &of.audience {
                Some(audience) => format!("want token={} audience={audience}", of.token),
                None => format!("want token={} without an audience", of.token),
            },
            Self::Header => headers_wanted(Some(of)),
            Self::Client => "want clientAuthorization=require".to_owned(),
            Self::Part => "want a part of its methods and paths".to_owned(),
        }
    }

    fn place<'p>(self, placed: &'p PlacedRoute, host: &'p Place) -> &'p Place {
        match self {
            Self::Credential => &placed.credential,
            Self::Token => &placed.token,
            Self::Header => &placed.header,
            Self::Host | Self::Client | Self::Part => host,
        }
    }
}

/// What `route` gives beyond `of`, in whose place it would stand for some requests.
fn more_than(route: &Route, of: &Route) -> Option<More> {
    let methods = route.methods.iter().all(|method| of.methods.contains(method)) && !route.methods.is_empty();
    let lies_below = |path: &String| of.paths.iter().any(|prefix| path.starts_with(prefix.as_str()));
    let paths = route.paths.iter().all(lies_below) && !route.paths.is_empty();
    let is_part = (of.methods.is_empty() || methods) && (of.paths.is_empty() || paths);
    match () {
        () if of.action != Action::Inject => Some(More::Host),
        () if of.credential != route.credential => Some(More::Credential),
        () if !are_one_kind(of.token, route.token) || of.audience != route.audience => Some(More::Token),
        () if of.header != route.header && !AUTHORIZATION.contains(&route.header.as_str()) => Some(More::Header),
        () if requires(of) && !requires(route) => Some(More::Client),
        () if !is_part => Some(More::Part),
        () => None,
    }
}

/// Any other may be kept or echoed by the API, which would hand the token to the application.
fn headers_wanted(of: Option<&Route>) -> String {
    let own = of.map(|of| of.header.as_str()).filter(|name| !AUTHORIZATION.contains(name));
    let names: Vec<&str> = AUTHORIZATION.into_iter().chain(own).collect();
    format!("no header of an annotation's route, want {}", names.join(" or "))
}

/// Whether an API takes one for the other.
fn are_one_kind(a: TokenKind, b: TokenKind) -> bool {
    let is_access = |token| matches!(token, TokenKind::Access | TokenKind::SelfSigned);
    a == b || (is_access(a) && is_access(b))
}

fn requires(route: &Route) -> bool {
    route.client_authorization == ClientAuthorization::Require
}

/// The names of both: of two patterns that have any in common, one lies in the other.
fn common<'h>(host: &'h HostPattern, other: &'h HostPattern) -> Option<&'h HostPattern> {
    match () {
        () if other.covers(host) => Some(host),
        () if host.covers(other) => Some(other),
        () => None,
    }
}

fn touches(host: &HostPattern, of: &Route) -> bool {
    of.hosts.iter().any(|other| common(host, other).is_some())
}

/// Whether one of the file's `routes` gives the credential to the API that signs: no annotation opens that.
pub(super) fn reaches_signing(routes: &[PlacedRoute], credential: &str) -> bool {
    let api = HostPattern::parse("iamcredentials.googleapis.com");
    let gives = |route: &Route| route.action == Action::Inject && route.credential == credential;
    api.is_ok_and(|api| routes.iter().any(|placed| gives(&placed.route) && covered(&api, &placed.route.hosts)))
}

/// Headers that every API of Google's takes for a credential, and none keeps.
const AUTHORIZATION: [&str; 3] = ["authorization", "proxy-authorization", "x-serverless-authorization"];

#[cfg(test)]
mod tests;
