//! What routes of annotations may choose: parts of what the file's own routes give, and beyond these nothing that could
//! bring a token to anybody but the API that it is for (pure).

use super::{
    file::{File, PlacedRoute},
    merge::{check_ceiling, covered},
    problem::{Place, Report},
    settings::default_zone,
    tokens,
};
use crate::{
    credential::Spec,
    policy::{Action, DEFAULT_CREDENTIAL, HostPattern, Route, TokenKind, Unmatched},
};

/// The file's injecting routes, as a measure for those of annotations.
pub(super) struct FileRoutes<'a> {
    routes: Vec<Route>,
    /// Credentials that nothing of the file uses: they may be meant for annotations. One that only others are derived from,
    /// or that only entries of `tokens` or brokers get, is not.
    spare: Vec<&'a str>,
    known: Vec<&'a str>,
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
        (allow, is_flag): (&'a [HostPattern], bool),
    ) -> Self {
        let routes = listed.iter().map(|placed| &placed.route).filter(|route| route.action == Action::Inject);
        let routes: Vec<Route> = routes.cloned().collect();
        let is_used = |name: &&str| {
            routes.iter().any(|route| route.credential == *name)
                || credentials.iter().filter_map(|spec| spec.kind.source()).any(|source| source.as_str() == *name)
                || file.tokens.iter().any(|entry| entry.credential() == *name)
                || file.mqtt.iter().any(|door| door.settings.credential == *name)
        };
        let known: Vec<&str> = credentials.iter().map(|spec| spec.name.as_str()).collect();
        let spare = known.iter().copied().filter(|name| !is_used(name)).collect();
        let unmatched = file.unmatched.unwrap_or(Unmatched::Pass);
        Self { routes, spare, known, unmatched, allow, is_ceiling_set: is_flag || !file.allow.is_empty() }
    }

    /// Checks what a route of an annotation chose.
    pub(super) fn check(&self, placed: &PlacedRoute, report: &mut Report) {
        let PlacedRoute { route, hosts, credential, token, header, .. } = placed;
        match route.action {
            Action::Inject => {}
            Action::Pass if self.unmatched == Unmatched::Deny => {
                let each = route.hosts.iter().zip(hosts);
                return each.for_each(|(host, place)| check_ceiling(host, place, self.allow, report));
            }
            Action::Pass | Action::Deny => return,
        }
        self.check_hosts(placed, credential, report);
        let is_files = |of: &&Route| of.credential == route.credential && of.audience == route.audience;
        if route.audience.is_some() && !self.routes.iter().any(|of| is_files(&of)) {
            // Whoever answers at the host could use it elsewhere.
            let message = "no route of the file has this audience, want it left out: then it is the host's own";
            report.problem(token, message);
        }
        let in_file = |name: &str| self.routes.iter().any(|of| of.header == name);
        if !AUTHORIZATION.contains(&route.header.as_str()) && !in_file(route.header.as_str()) {
            let mut names = AUTHORIZATION.to_vec();
            names.extend(self.routes.iter().map(|of| of.header.as_str()).filter(|name| !AUTHORIZATION.contains(name)));
            names.dedup();
            // Any other may be kept or echoed by the API, which would hand the token to the application.
            report.problem(header, format!("no header of an annotation's route, want {}", names.join(" or ")));
        }
    }

    /// Checks the hosts for the credential and the kind of token that go there.
    pub(super) fn check_hosts(&self, placed: &PlacedRoute, credential: &Place, report: &mut Report) {
        let PlacedRoute { route, hosts, .. } = placed;
        if let Err(message) = self.may_use(route) {
            return report.problem(credential, message);
        }
        for (host, place) in route.hosts.iter().zip(hosts) {
            // What breaks a rule for all routes is told by that.
            let is_lawful = covered(host, self.allow) && tokens::sent(host, route.token).is_ok();
            if is_lawful && !self.may_go(host, route) {
                let message = format!(
                    "no route of the file sends a token of this kind ({}) of '{}' there, want a host of one that does",
                    route.token, route.credential
                );
                report.problem(place, message);
            }
        }
    }

    /// Whether the credential is one for annotations, and the route a part of one of the file's with it.
    fn may_use(&self, route: &Route) -> Result<(), String> {
        let name = route.credential.as_str();
        // One that is not known is told of by the check of all routes.
        if self.spare.contains(&name) || !self.known.contains(&name) {
            return Ok(());
        }
        let with_it: Vec<&Route> = self.routes.iter().filter(|of| of.credential == name).collect();
        if with_it.is_empty() {
            let mut names: Vec<&str> = self.routes.iter().map(|of| of.credential.as_str()).collect();
            names.extend(&self.spare);
            names.dedup();
            let wanted = if names.is_empty() { "none".to_owned() } else { names.join(" or ") };
            return Err(format!("no route of the file uses the credential '{name}', want {wanted}"));
        }
        let with_hosts = name != DEFAULT_CREDENTIAL || self.unmatched == Unmatched::Deny;
        if with_it.iter().any(|of| is_part(route, of, with_hosts)) {
            return Ok(());
        }
        let names: Vec<&str> = with_it.iter().map(|of| of.name.as_str()).collect();
        let what = if with_hosts { "hosts, methods and paths" } else { "methods and paths" };
        Err(format!("more than the file's routes give the credential '{name}', want a part of the {what} of {}", {
            names.join(" or ")
        }))
    }

    fn may_go(&self, host: &HostPattern, route: &Route) -> bool {
        let is_good_anywhere = |token| matches!(token, TokenKind::Access | TokenKind::SelfSigned);
        let like_it =
            |of: &Route| of.token == route.token || (is_good_anywhere(of.token) && is_good_anywhere(route.token));
        let from_file = |of: &Route| of.credential == route.credential && like_it(of) && covered(host, &of.hosts);
        match route.token {
            _ if self.routes.iter().any(from_file) => true,
            // It is for the host that it goes to.
            TokenKind::Id => true,
            TokenKind::Jwt => false,
            TokenKind::Access | TokenKind::SelfSigned => {
                // Where the file sends another kind, somebody else may answer.
                let touches = |of: &Route| of.hosts.iter().any(|other| other.covers(host) || host.covers(other));
                let is_others = self.routes.iter().any(|of| !like_it(of) && touches(of));
                covered(host, &default_zone()) || (self.is_ceiling_set && !is_others)
            }
        }
    }
}

/// Whether one of the file's `routes` gives the credential to the API that signs: no annotation opens that.
pub(super) fn reaches_signing(routes: &[PlacedRoute], credential: &str) -> bool {
    let api = HostPattern::parse("iamcredentials.googleapis.com");
    let gives = |route: &Route| route.action == Action::Inject && route.credential == credential;
    api.is_ok_and(|api| routes.iter().any(|placed| gives(&placed.route) && covered(&api, &placed.route.hosts)))
}

fn is_part(route: &Route, of: &Route, with_hosts: bool) -> bool {
    let hosts = !with_hosts || route.hosts.iter().all(|host| covered(host, &of.hosts));
    let methods = route.methods.iter().all(|method| of.methods.contains(method)) && !route.methods.is_empty();
    let lies_below = |path: &String| of.paths.iter().any(|prefix| path.starts_with(prefix.as_str()));
    let paths = route.paths.iter().all(lies_below) && !route.paths.is_empty();
    hosts && (of.methods.is_empty() || methods) && (of.paths.is_empty() || paths)
}

/// Headers that every API of Google's takes for a credential, and none keeps.
const AUTHORIZATION: [&str; 3] = ["authorization", "proxy-authorization", "x-serverless-authorization"];

#[cfg(test)]
mod tests {
    use crate::config::{Flags, Settings, Source, Sources, load};

    const FULL: &str = "credentials: [{name: default, serviceAccountKey: {path: /key}}, \
        {name: narrow, downscoped: {source: default, rules: [{resource: '//storage.googleapis.com/projects/_/buckets/reports', \
        permissions: ['inRole:roles/storage.objectViewer']}]}}, {name: spare, metadataServer: {}}]\n\
        routes: [{name: google-apis, hosts: [storage.googleapis.com], credential: narrow, header: x-own-token}]\n";

    fn settings(yaml: &str, annotation: (&str, &str), flags: Flags) -> Result<Settings, String> {
        let source = |name: &str, text: String| Some(Source { name: name.to_owned(), text });
        let text = format!("bearerd.dev/{}={:?}\n", annotation.0, annotation.1);
        let sources = Sources { file: source("bearerd.yaml", yaml.to_owned()), annotations: source("a", text), flags };
        load(&sources)
            .map(|loaded| loaded.settings)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    }

    #[track_caller]
    fn refused(yaml: &str, annotation: (&str, &str), words: &str) {
        let refused = settings(yaml, annotation, Flags::default()).expect_err(words);
        assert!(refused.contains(words) && refused.contains(annotation.0), "{annotation:?}: {refused}");
    }

    #[track_caller]
    fn taken(yaml: &str, annotation: (&str, &str)) -> Settings {
        settings(yaml, annotation, Flags::default()).unwrap_or_else(|error| panic!("{annotation:?}: {error}"))
    }

    #[test]
    fn a_pass_leads_around_no_deny_of_all_that_is_unmatched() {
        let pass = ("route.x", "hosts=evil.example.com action=pass");
        refused("unmatched: deny", pass, "'evil.example.com' is beyond the hosts");
        taken("", pass);
        taken("unmatched: deny", ("route.x", "hosts=evil.example.com action=deny"));
    }

    #[test]
    fn a_route_uses_the_credentials_of_the_files_routes_alone() {
        let words = "no route of the file uses the credential 'default', want narrow or spare";
        refused(FULL, ("route.x", "hosts=a.googleapis.com credential=default"), words);
        refused(FULL, ("route.x", "hosts=a.googleapis.com"), words);
        taken(FULL, ("route.x", "hosts=storage.googleapis.com credential=narrow"));
        taken(FULL, ("route.x", "hosts=a.googleapis.com credential=spare"));
        let handed_out = "credentials: [{name: default, serviceAccountKey: {path: /a}}, \
            {name: device, serviceAccountKey: {path: /b}}]\nlisteners: {tokenApi: '127.0.0.1:14183'}\n\
            allow: {hosts: ['*.googleapis.com', mqtt.example.com]}\n";
        for rest in [
            "tokens: [{name: t, credential: device, token: access, path: /t}]",
            "mqtt: [{listen: 1883, upstream: 'mqtt.example.com:8883', credential: device}]",
        ] {
            let route = ("route.x", "hosts=a.googleapis.com credential=device");
            refused(&format!("{handed_out}{rest}"), route, "no route of the file uses the credential 'device'");
        }
    }

    #[test]
    fn a_route_is_a_part_of_what_the_files_routes_give_a_credential() {
        let admin = "credentials: [{name: default, serviceAccountKey: {path: /a}}, \
            {name: admin, serviceAccountKey: {path: /b}}]\nroutes: [{name: reports, hosts: [storage.googleapis.com], \
            methods: [GET], paths: [/storage/v1/b/reports/], credential: admin}, \
            {name: google-apis, hosts: [pubsub.googleapis.com, storage.googleapis.com]}]\n";
        let words = "want a part of the hosts, methods and paths of reports";
        for more in [
            "hosts=secretmanager.googleapis.com credential=admin methods=GET paths=/storage/v1/b/reports/",
            "hosts=storage.googleapis.com credential=admin methods=GET",
            "hosts=storage.googleapis.com credential=admin methods=POST paths=/storage/v1/b/reports/",
            "hosts=storage.googleapis.com credential=admin paths=/storage/v1/b/reports/",
            "hosts=storage.googleapis.com credential=admin methods=GET paths=/storage/v1/b/reports",
            "hosts=*.googleapis.com credential=admin methods=GET paths=/storage/v1/b/reports/",
        ] {
            refused(admin, ("route.x", more), words);
        }
        let part = "hosts=storage.googleapis.com credential=admin methods=GET paths=/storage/v1/b/reports/o/";
        taken(admin, ("route.x", part));
        // The credential `default` goes to any API inside the ceiling, unless all that is unmatched is denied.
        let any = ("route.x", "hosts=bigquery.googleapis.com");
        taken(admin, any);
        refused(&format!("{admin}unmatched: deny"), any, "want a part of the hosts, methods and paths of google-apis");
        let hosts = ("hosts", "bigquery.googleapis.com");
        taken(admin, hosts);
        refused(
            &format!("{admin}unmatched: deny"),
            hosts,
            "want a part of the hosts, methods and paths of google-apis",
        );
        let narrow = "routes: [{name: r, hosts: [storage.googleapis.com], methods: [GET]}]";
        refused(narrow, any, "want a part of the methods and paths of r");
        taken(narrow, ("route.x", "hosts=bigquery.googleapis.com methods=GET"));
    }

    #[test]
    fn a_token_goes_where_its_kind_is_for_that_host() {
        let file = "credentials: [{name: default, serviceAccountKey: {path: /a}}, \
            {name: fleet, signedJwt: {path: /b, audience: a}}]\nroutes: [{name: google-apis, hosts: ['*.googleapis.com']}, \
            {name: iap, hosts: [intranet.example.com], token: id, audience: client-id}, \
            {name: broker, hosts: [iot.example.com], credential: fleet, token: jwt}]\n";
        let set = "allow: {hosts: ['*.googleapis.com', '*.example.com', '*.run.app']}\n";
        let all = format!("{file}{set}");
        for (yaml, route) in [
            (file, "hosts=intranet.example.com"),
            (file, "hosts=iot.example.com"),
            (&all, "hosts=intranet.example.com"),
            (&all, "hosts=*.example.com"),
            (&all, "hosts=iot.example.com token=selfSigned"),
            (&all, "hosts=other.example.com token=jwt credential=fleet"),
            (&all, "hosts=a.run.app token=jwt credential=fleet"),
        ] {
            let part = ["want a host of one that does", "want a part of the hosts"];
            let error = settings(yaml, ("route.x", route), Flags::default()).expect_err(route);
            assert!(part.iter().any(|words| error.contains(words)), "{route}: {error}");
        }
        for (yaml, route) in [
            (file, "hosts=a.googleapis.com"),
            (&all, "hosts=other.example.com"),
            (&all, "hosts=a.run.app token=id"),
            (&all, "hosts=intranet.example.com token=id"),
            (&all, "hosts=intranet.example.com token=id audience=client-id"),
            (&all, "hosts=iot.example.com token=jwt credential=fleet"),
        ] {
            taken(yaml, ("route.x", route));
        }
        for route in [
            "hosts=a.googleapis.com token=id audience=https://victim.a.run.app",
            "hosts=mine.a.run.app token=id audience=https://victim.a.run.app",
        ] {
            refused(&all, ("route.x", route), "no route of the file has this audience");
        }
        refused(&all, ("hosts", "intranet.example.com"), "want a host of one that does");
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
