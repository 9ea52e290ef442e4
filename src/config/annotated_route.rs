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
mod tests {
    use crate::config::{Flags, Settings, samples::settings};

    const FULL: &str = "credentials: [{name: default, serviceAccountKey: {path: /key}}, \
        {name: narrow, downscoped: {source: default, rules: [{resource: '//storage.googleapis.com/projects/_/buckets/reports', \
        permissions: ['inRole:roles/storage.objectViewer']}]}}, {name: spare, metadataServer: {}}]\n\
        routes: [{name: google-apis, hosts: [storage.googleapis.com], credential: narrow, header: x-own-token}]\n";

    #[track_caller]
    fn refused(yaml: &str, annotation: (&str, &str), words: &str) {
        let refused = settings(yaml, &[annotation], Flags::default()).expect_err(words);
        assert!(refused.contains(words) && refused.contains(annotation.0), "{annotation:?}: {refused}");
    }

    #[track_caller]
    fn taken(yaml: &str, annotation: (&str, &str)) -> Settings {
        settings(yaml, &[annotation], Flags::default()).unwrap_or_else(|error| panic!("{annotation:?}: {error}"))
    }

    #[test]
    fn a_pass_leads_around_no_deny_of_all_that_is_unmatched() {
        let pass = ("route.x", "hosts=evil.example.com action=pass");
        refused("unmatched: deny", pass, "'evil.example.com' is beyond the hosts");
        taken("", pass);
        taken("unmatched: deny", ("route.x", "hosts=evil.example.com action=deny"));
    }

    #[test]
    fn a_pass_opens_nothing_that_a_route_of_the_file_leaves_refused() {
        let file = "unmatched: deny\nroutes: [{name: reports, hosts: [storage.googleapis.com], paths: [/b/reports/]}, \
            {name: p, hosts: [pubsub.googleapis.com]}, {name: no, hosts: [run.googleapis.com], paths: [/x], action: deny}]";
        for (host, of) in
            [("storage.googleapis.com", "reports"), ("*.googleapis.com", "reports"), ("run.googleapis.com", "no")]
        {
            let words = format!("the file's route '{of}' has some requests to such a host");
            refused(file, ("route.x", &format!("hosts={host} action=pass")), &words);
        }
        taken(file, ("route.x", "hosts=pubsub.googleapis.com action=pass"));
        taken(&file.replace("deny\n", "pass\n"), ("route.x", "hosts=storage.googleapis.com action=pass"));
    }

    #[test]
    fn a_wildcard_around_a_files_route_gets_no_more_at_other_names() {
        let two = "credentials: [{name: default, serviceAccountKey: {path: /a}}, {name: ro, serviceAccountKey: {path: /b}}, \
            {name: fleet, signedJwt: {path: /c, audience: a}}]\nallow: {hosts: ['*.googleapis.com', '*.example.com']}\n";
        let broker = "mqtt: [{listen: 1883, upstream: 'mqtt.example.com:8883', credential: fleet}]\n";
        for (file, route, words) in [
            (
                "unmatched: deny\nroutes: [{name: s, hosts: [storage.googleapis.com]}]",
                "hosts=*.googleapis.com",
                "kind access",
            ),
            (
                "routes: [{name: iap, hosts: [intranet.example.com], token: id, audience: client-id}]",
                "hosts=*.example.com token=id audience=client-id",
                "want it left out",
            ),
            (
                "routes: [{name: s, hosts: [storage.googleapis.com], header: x-own-token}]",
                "hosts=*.googleapis.com header=x-own-token",
                "no header of an annotation's route",
            ),
            (
                "routes: [{name: iot, hosts: [iot.example.com], credential: fleet, token: jwt}]",
                "hosts=*.example.com credential=fleet token=jwt",
                "where annotations may use",
            ),
            (
                "routes: [{name: s, hosts: [storage.googleapis.com], credential: ro}]",
                "hosts=*.googleapis.com credential=ro",
                "where annotations may use",
            ),
            (
                &format!("{broker}routes: [{{name: api, hosts: [api.example.com]}}]"),
                "hosts=*.example.com",
                "kind access",
            ),
        ] {
            refused(&format!("{two}{file}"), ("route.x", route), words);
            let whole = file
                .replace("[storage.", "['*.")
                .replace("[intranet.", "['*.")
                .replace("[iot.", "['*.")
                .replace("[api.", "['*.");
            let whole = whole.replace("googleapis.com]", "googleapis.com']").replace("example.com]", "example.com']");
            taken(&format!("{two}{whole}"), ("route.x", route));
        }
        let hosts = ("hosts", "*.googleapis.com");
        let file = "unmatched: deny\nroutes: [{name: google-apis, hosts: [storage.googleapis.com]}, {name: p, hosts: [pubsub.googleapis.com]}]";
        refused(file, hosts, "kind access");
    }

    #[test]
    fn what_the_file_keeps_from_one_name_of_an_api_no_other_name_gives() {
        let words = "limit what the credential does";
        for limit in ["methods: [GET]", "paths: [/storage/v1/b/reports/]", "clientAuthorization: require"] {
            let file = format!(
                "allow: {{hosts: ['*.googleapis.com', '*.run.app']}}\nroutes: [{{name: s, hosts: [storage.googleapis.com], {limit}}}]"
            );
            refused(&file, ("route.x", "hosts=www.googleapis.com"), words);
            refused(&file, ("route.x", "hosts=*.storage.googleapis.com"), words);
            taken(&file, ("route.x", "hosts=a.run.app token=id"));
        }
        let service =
            "allow: {hosts: ['*.run.app']}\nroutes: [{name: s, hosts: [a.run.app], token: id, paths: [/reports]}]";
        refused(service, ("route.x", "hosts=a-1.europe-west1.run.app token=id"), words);
        let file = "routes: [{name: no, hosts: [secretmanager.googleapis.com], action: deny}, {name: s, hosts: [storage.googleapis.com]}]";
        let regional = ("route.x", "hosts=secretmanager.us-central1.rep.googleapis.com");
        refused(file, regional, "the file keeps credentials from some of Google's APIs");
        refused(&file.replace("deny", "pass"), regional, "the file keeps credentials from some of Google's APIs");
        taken(&file.replace("secretmanager.googleapis.com", "evil.example.com"), regional);
    }

    #[test]
    fn a_route_uses_the_credentials_of_the_files_routes_alone() {
        let words = "where annotations may use spare";
        refused(FULL, ("route.x", "hosts=a.googleapis.com credential=default"), words);
        refused(FULL, ("route.x", "hosts=a.googleapis.com"), words);
        refused(FULL, ("route.x", "hosts=a.googleapis.com credential=narrow"), words);
        refused(
            FULL,
            ("route.x", "hosts=storage.googleapis.com"),
            "'google-apis' has such a host: want credential=narrow",
        );
        taken(FULL, ("route.x", "hosts=storage.googleapis.com credential=narrow"));
        taken(FULL, ("route.x", "hosts=a.googleapis.com credential=spare"));
        let handed_out = "credentials: [{name: default, serviceAccountKey: {path: /a}}, \
            {name: device, serviceAccountKey: {path: /b}}]\nlisteners: {tokenApi: '127.0.0.1:14183'}\n\
            allow: {hosts: ['*.googleapis.com', mqtt.example.com, a.example.com]}\n";
        for rest in [
            "tokens: [{name: t, credential: device, token: access, path: /t}]",
            "mqtt: [{listen: 1883, upstream: 'mqtt.example.com:8883', credential: device}]",
        ] {
            let route = ("route.x", "hosts=a.example.com credential=device");
            refused(&format!("{handed_out}{rest}"), route, "where annotations may use default");
        }
    }

    #[test]
    fn a_route_is_a_part_of_every_route_of_the_file_whose_host_it_has() {
        let file = "credentials: [{name: default, serviceAccountKey: {path: /a}}, \
            {name: admin, serviceAccountKey: {path: /b}}]\nroutes: [{name: reports, hosts: [storage.googleapis.com], \
            methods: [GET], paths: [/storage/v1/b/reports/], credential: admin}, \
            {name: none, hosts: [secretmanager.googleapis.com], action: pass}, \
            {name: careful, hosts: [run.googleapis.com], clientAuthorization: require}, \
            {name: reads, hosts: [logging.googleapis.com], methods: [GET]}, {name: rest, hosts: [pubsub.googleapis.com]}]\n";
        for (more, words) in [
            ("hosts=storage.googleapis.com", "'reports' has such a host: want credential=admin"),
            ("hosts=storage.googleapis.com credential=admin methods=GET", "want a part of its methods and paths"),
            ("hosts=storage.googleapis.com credential=admin methods=POST paths=/storage/v1/b/reports/", "want a part"),
            ("hosts=storage.googleapis.com credential=admin paths=/storage/v1/b/reports/", "want a part"),
            ("hosts=storage.googleapis.com credential=admin methods=GET paths=/storage/v1/b/reports", "want a part"),
            ("hosts=secretmanager.googleapis.com", "'none' has such a host: it gives no credential"),
            ("hosts=run.googleapis.com", "want clientAuthorization=require"),
            ("hosts=logging.googleapis.com", "'reads' has such a host: want a part"),
            ("hosts=*.googleapis.com methods=GET", "has such a host"),
            ("hosts=bigquery.googleapis.com credential=admin", "where annotations may use default"),
        ] {
            refused(file, ("route.x", more), words);
        }
        for part in [
            "hosts=storage.googleapis.com credential=admin methods=GET paths=/storage/v1/b/reports/o/",
            "hosts=run.googleapis.com clientAuthorization=require",
            "hosts=logging.googleapis.com methods=GET",
            "hosts=pubsub.googleapis.com",
        ] {
            taken(file, ("route.x", part));
        }
        let file = "routes: [{name: rest, hosts: [pubsub.googleapis.com]}]\n";
        taken(file, ("route.x", "hosts=bigquery.googleapis.com,pubsub.googleapis.com"));
        let denied = format!("{file}unmatched: deny");
        taken(&denied, ("route.x", "hosts=pubsub.googleapis.com"));
        refused(
            &denied,
            ("route.x", "hosts=bigquery.googleapis.com"),
            "no route of the file sends a token of the kind access",
        );
    }

    #[test]
    fn hosts_stand_before_no_later_route_of_another_kind() {
        let file = "credentials: [{name: default, serviceAccountKey: {path: /a}}, \
            {name: ro, serviceAccountKey: {path: /b}}]\nroutes: [{name: first, hosts: [run.googleapis.com], credential: ro}, \
            {name: google-apis, hosts: [pubsub.googleapis.com]}, {name: storage, hosts: [storage.googleapis.com], credential: ro}]";
        refused(file, ("hosts", "storage.googleapis.com"), "'storage' has such a host: want credential=ro");
        taken(file, ("hosts", "run.googleapis.com,pubsub.googleapis.com,bigquery.googleapis.com"));
        let iap = "allow: {hosts: ['*.googleapis.com', iap.example.com, '*.run.app']}\n\
            routes: [{name: google-apis, hosts: [iap.example.com], token: id, audience: client}]";
        refused(iap, ("hosts", "evil.a.run.app"), "an audience is for the file's routes");
        taken(iap, ("hosts", "iap.example.com"));
    }

    #[test]
    fn a_token_goes_where_its_kind_is_for_that_host() {
        let file = "credentials: [{name: default, serviceAccountKey: {path: /a}}, \
            {name: fleet, signedJwt: {path: /b, audience: a}}]\nroutes: [{name: google-apis, hosts: ['*.googleapis.com']}, \
            {name: iap, hosts: [intranet.example.com], token: id, audience: client-id}, \
            {name: broker, hosts: [iot.example.com], credential: fleet, token: jwt}]\n";
        let door = "mqtt: [{listen: 1883, upstream: 'mqtt.example.com:8883', credential: fleet}]\n";
        let all = format!("{file}{door}allow: {{hosts: ['*.googleapis.com', '*.example.com', '*.run.app']}}\n");
        for (yaml, route, words) in [
            (file, "hosts=intranet.example.com", "want token=id audience=client-id"),
            (file, "hosts=iot.example.com", "want credential=fleet"),
            (&all, "hosts=intranet.example.com", "want token=id audience=client-id"),
            (&all, "hosts=intranet.example.com token=id", "want token=id audience=client-id"),
            (&all, "hosts=*.example.com", "has such a host"),
            (&all, "hosts=iot.example.com token=selfSigned", "want credential=fleet"),
            (&all, "hosts=mqtt.example.com", "no route of the file sends a token of the kind access there"),
            (&all, "hosts=other.example.com token=jwt credential=fleet", "where annotations may use default"),
            (&all, "hosts=mine.a.run.app token=id audience=client-id", "an audience is for the file's routes"),
            (&all, "hosts=a.googleapis.com token=id audience=https://victim.a.run.app", "want token=access"),
        ] {
            refused(yaml, ("route.x", route), words);
        }
        for (yaml, route) in [
            (file, "hosts=a.googleapis.com"),
            (file, "hosts=a.googleapis.com token=selfSigned"),
            (&all, "hosts=other.example.com"),
            (&all, "hosts=a.run.app token=id"),
            (&all, "hosts=intranet.example.com token=id audience=client-id"),
            (&all, "hosts=iot.example.com token=jwt credential=fleet"),
        ] {
            taken(yaml, ("route.x", route));
        }
        let denied = "unmatched: deny\nallow: {hosts: ['*.googleapis.com', '*.run.app']}\n";
        taken(denied, ("route.x", "hosts=*.run.app token=id"));
    }

    #[test]
    fn the_route_of_a_file_without_routes_has_googles_apis_alone() {
        let annotation = ("log-level", "info");
        let hosts = |allow: &str| {
            let settings = taken(&format!("allow: {{hosts: [{allow}]}}"), annotation);
            settings.policy.routes.iter().flat_map(|route| &route.hosts).map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(hosts("storage.googleapis.com, mqtt.example.com"), ["storage.googleapis.com"]);
        assert_eq!(hosts("'*.googleapis.com', '*.run.app'"), ["*.googleapis.com"]);
        assert_eq!(hosts("mqtt.example.com"), [""; 0]);
    }

    #[test]
    fn a_name_in_an_annotation_is_no_name_that_the_administrator_wrote() {
        let route = taken("", ("route.x", "hosts=identitytoolkit.googleapis.com")).policy.routes[0].clone();
        assert!(route.is_annotated);
        let route = taken("", ("hosts", "identitytoolkit.googleapis.com")).policy.routes[0].clone();
        assert!(route.is_annotated);
    }

    #[test]
    fn no_annotation_opens_the_api_that_signs() {
        let file = |hosts: &str| {
            format!(
                "credentials: [{{name: default, serviceAccountKey: {{path: /a, signBlob: signedUrl}}}}]\n\
                 routes: [{{name: google-apis, hosts: ['{hosts}']}}]"
            )
        };
        for (hosts, annotation, signs) in [
            ("*.googleapis.com", ("route.x", "hosts=iamcredentials.googleapis.com"), true),
            ("storage.googleapis.com", ("route.x", "hosts=iamcredentials.googleapis.com"), false),
            ("storage.googleapis.com", ("hosts", "iamcredentials.googleapis.com"), false),
        ] {
            let settings = taken(&file(hosts), annotation);
            assert_eq!(settings.policy.routes[0].signs_urls, signs, "{hosts} {annotation:?}");
        }
    }

    #[test]
    fn a_token_goes_into_no_header_that_an_api_might_keep() {
        let words = "no header of an annotation's route, want authorization or proxy-authorization or \
             x-serverless-authorization";
        refused("", ("route.x", "hosts=storage.googleapis.com header=x-goog-meta-loot"), words);
        for header in ["authorization", "proxy-authorization", "x-serverless-authorization"] {
            taken("", ("route.x", &format!("hosts=storage.googleapis.com header={header}")));
        }
        taken(FULL, ("route.x", "hosts=storage.googleapis.com credential=narrow header=x-own-token"));
    }
}
