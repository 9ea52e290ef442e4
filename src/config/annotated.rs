//! What annotations may make of the file's routes and credentials: a choice among what the administrator listed.

use http::HeaderName;

use super::{
    annotations::Annotations,
    file::{File, Placed, PlacedRoute},
    merge::{check_ceiling, covered},
    problem::Report,
    scope,
    settings::{CLOUD_PLATFORM, MetadataMode},
    tokens,
};
use crate::{
    credential::Spec,
    policy::{Action, DEFAULT_CREDENTIAL, DEFAULT_ROUTE, HostPattern, Unmatched},
};

/// Gives the credential `default` (else the first) the scopes that an annotation chose among `allowed` and its own.
pub(super) fn scopes(chosen: &[Placed<String>], allowed: &[String], credentials: &mut [Spec], report: &mut Report) {
    let Some(first) = chosen.first() else { return };
    let named = credentials.iter().position(|credential| credential.name.as_str() == DEFAULT_CREDENTIAL);
    let Some(credential) = credentials.get_mut(named.unwrap_or_default()) else { return };
    let (name, kind) = (credential.name.clone(), credential.kind.label());
    let Some(scopes) = credential.kind.scopes_mut() else {
        let message = format!("the credential '{name}' is a {kind}, which has no scopes, want this left out");
        return report.problem(&first.place, message);
    };
    if scopes.is_empty() {
        // A person's grant or a node's account decides.
        scopes.push(CLOUD_PLATFORM.to_owned());
    }
    for scope in chosen.iter().filter(|scope| !scope::is_within(scopes, allowed, &scope.value)) {
        let list: Vec<&str> = scopes.iter().chain(allowed).map(|scope| scope::short(scope)).collect();
        let message = format!(
            "'{}' gives more than the credential '{name}' has, want a part of {}: more is allowed by --allow-scopes, \
             the chart's sidecar.allowScopes",
            scope::short(&scope.value),
            list.join(", ")
        );
        report.problem(&scope.place, message);
    }
    *scopes = chosen.iter().map(|scope| scope.value.clone()).collect();
}

/// `bearerd.dev/hosts` is about the default route; a file with routes of its own has no such thing.
pub(super) fn hosts(
    listed: &mut [PlacedRoute],
    hosts: &[Placed<HostPattern>],
    allow: &[HostPattern],
    report: &mut Report,
) {
    let Some(first) = hosts.first() else { return };
    let Some(at) = listed.iter().position(|placed| placed.route.name == DEFAULT_ROUTE) else {
        let message = format!("the file has no route '{DEFAULT_ROUTE}', want route.<name> instead");
        return report.problem(&first.place, message);
    };
    let is_before_a_deny = listed[at + 1..].iter().any(|placed| placed.route.action == Action::Deny);
    let route = &mut listed[at].route;
    if route.action != Action::Inject {
        let message = format!("the file's route '{DEFAULT_ROUTE}' does not inject, want route.<name> instead");
        return report.problem(&first.place, message);
    }
    for host in hosts {
        check_ceiling(&host.value, &host.place, allow, report);
        if let Err(message) = tokens::sent(&host.value, route.token) {
            report.problem(&host.place, message);
        }
        // Where the route stands it would win over the refusal.
        if is_before_a_deny && !covered(&host.value, &route.hosts) {
            let own: Vec<String> = route.hosts.iter().map(ToString::to_string).collect();
            let message = format!(
                "a deny of the file follows its route '{DEFAULT_ROUTE}', so that this may only be a part of {}, or want \
                 route.<name> instead",
                own.join(", ")
            );
            report.problem(&host.place, message);
        }
    }
    route.hosts = hosts.iter().map(|host| host.value.clone()).collect();
}

/// What the file's routes use, and what an annotation's route may therefore use too.
pub(super) struct InUse<'a> {
    headers: Vec<&'a HeaderName>,
    credentials: Vec<&'a str>,
    unmatched: Unmatched,
}

impl<'a> InUse<'a> {
    /// By `listed`, the routes without those of annotations. A credential that nothing of the file uses may be meant for
    /// annotations; one that only others are derived from, or that only entries of `tokens` or brokers get, is not.
    pub(super) fn new(file: &'a File, listed: &'a [PlacedRoute], credentials: &'a [Spec]) -> Self {
        let injecting = || listed.iter().map(|placed| &placed.route).filter(|route| route.action == Action::Inject);
        let by_routes: Vec<&str> = injecting().map(|route| route.credential.as_str()).collect();
        let is_elsewhere = |name: &str| {
            credentials.iter().filter_map(|spec| spec.kind.source()).any(|source| source.as_str() == name)
                || file.tokens.iter().any(|entry| entry.credential() == name)
                || file.mqtt.iter().any(|door| door.settings.credential == name)
        };
        let names = credentials.iter().map(|spec| spec.name.as_str());
        let credentials = names.filter(|name| by_routes.contains(name) || !is_elsewhere(name)).collect();
        let headers = injecting().map(|route| &route.header).collect();
        Self { headers, credentials, unmatched: file.unmatched.unwrap_or(Unmatched::Pass) }
    }

    /// Checks what a route of an annotation chose beyond the file.
    pub(super) fn check(&self, placed: &PlacedRoute, known: &[Spec], allow: &[HostPattern], report: &mut Report) {
        let PlacedRoute { route, hosts, credential, header, .. } = placed;
        match route.action {
            Action::Inject => {}
            Action::Pass if self.unmatched == Unmatched::Deny => {
                let each = route.hosts.iter().zip(hosts);
                return each.for_each(|(host, place)| check_ceiling(host, place, allow, report));
            }
            Action::Pass | Action::Deny => return,
        }
        let name = route.credential.as_str();
        if known.iter().any(|spec| spec.name.as_str() == name) && !self.credentials.contains(&name) {
            let message = match &self.credentials[..] {
                [] => format!("no route of the file uses the credential '{name}', and annotations may use no other"),
                names => format!("no route of the file uses the credential '{name}', want {}", names.join(" or ")),
            };
            report.problem(credential, message);
        }
        if !AUTHORIZATION.contains(&route.header.as_str()) && !self.headers.contains(&&route.header) {
            let mut names = AUTHORIZATION.to_vec();
            names
                .extend(self.headers.iter().map(|header| header.as_str()).filter(|name| !AUTHORIZATION.contains(name)));
            names.dedup();
            // Any other may be kept or echoed by the API, which would hand the token to the application.
            report.problem(header, format!("no header of an annotation's route, want {}", names.join(" or ")));
        }
    }
}

/// `metadata: token` hands the application the real token.
pub(super) fn metadata(annotations: &Annotations, file: &File, is_allowed: bool, report: &mut Report) {
    let token = |chosen: Option<&Placed<MetadataMode>>| chosen.is_some_and(|mode| mode.value == MetadataMode::Token);
    if let Some(chosen) = &annotations.metadata
        && token(annotations.metadata.as_ref())
        && !token(file.metadata.as_ref())
        && !is_allowed
    {
        let message = "it would hand the application the token itself, want off or placeholder: token is allowed by \
             --allow-metadata-token, the chart's sidecar.allowMetadataToken";
        report.problem(&chosen.place, message);
    }
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

    fn settings(yaml: &str, annotations: &[(&str, &str)], flags: Flags) -> Result<Settings, String> {
        let source = |name: &str, text: &str| Some(Source { name: name.to_owned(), text: text.to_owned() });
        let text: String = annotations.iter().map(|(name, value)| format!("bearerd.dev/{name}={value:?}\n")).collect();
        let sources = Sources { file: source("bearerd.yaml", yaml), annotations: source("annotations", &text), flags };
        load(&sources)
            .map(|loaded| loaded.settings)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    }

    #[track_caller]
    fn refused(yaml: &str, annotation: (&str, &str), words: &str) {
        let refused = settings(yaml, &[annotation], Flags::default()).expect_err(words);
        assert!(refused.contains(words) && refused.contains(annotation.0), "{annotation:?}: {refused}");
    }

    #[test]
    fn hosts_lead_around_no_deny() {
        let before = "routes: [{name: google-apis, hosts: ['*.storage.googleapis.com']}, \
            {name: no, hosts: [secretmanager.googleapis.com], action: deny}]";
        for hosts in ["secretmanager.googleapis.com", "*.googleapis.com", "pubsub.googleapis.com"] {
            refused(before, ("hosts", hosts), "a deny of the file follows its route 'google-apis'");
        }
        settings(before, &[("hosts", "b.storage.googleapis.com")], Flags::default()).expect("a part of its own");
        let after = "routes: [{name: no, hosts: [secretmanager.googleapis.com], action: deny}, \
            {name: google-apis, hosts: [storage.googleapis.com]}]";
        settings(after, &[("hosts", "*.googleapis.com")], Flags::default()).expect("the deny comes first");
        for action in ["deny", "pass"] {
            let other = format!("routes: [{{name: google-apis, hosts: [a.googleapis.com], action: {action}}}]");
            refused(&other, ("hosts", "a.googleapis.com"), "the file's route 'google-apis' does not inject");
        }
    }

    #[test]
    fn a_pass_leads_around_no_deny_of_all_that_is_unmatched() {
        let pass = ("route.x", "hosts=evil.example.com action=pass");
        refused("unmatched: deny", pass, "'evil.example.com' is beyond the hosts");
        settings("", &[pass], Flags::default()).expect("it passes without the route too");
        let denied = ("route.x", "hosts=evil.example.com action=deny");
        settings("unmatched: deny", &[denied], Flags::default()).expect("that gives nothing");
    }

    #[test]
    fn a_route_uses_the_credentials_of_the_files_routes_alone() {
        let words = "no route of the file uses the credential 'default', want narrow or spare";
        refused(FULL, ("route.x", "hosts=a.googleapis.com credential=default"), words);
        refused(FULL, ("route.x", "hosts=a.googleapis.com"), words);
        for name in ["narrow", "spare"] {
            let route = format!("hosts=a.googleapis.com credential={name}");
            settings(FULL, &[("route.x", &route)], Flags::default()).expect(name);
        }
        let handed_out = "credentials: [{name: default, serviceAccountKey: {path: /a}}, \
            {name: device, serviceAccountKey: {path: /b}}]\nlisteners: {tokenApi: '127.0.0.1:14183'}\n\
            allow: {hosts: ['*.googleapis.com', mqtt.example.com]}\n";
        for rest in [
            "tokens: [{name: t, credential: device, token: access, path: /t}]",
            "mqtt: [{listen: 1883, upstream: 'mqtt.example.com:8883', credential: device}]",
        ] {
            let yaml = format!("{handed_out}{rest}");
            let route = ("route.x", "hosts=a.googleapis.com credential=device");
            refused(&yaml, route, "no route of the file uses the credential 'device', want default");
        }
    }

    #[test]
    fn a_token_goes_into_no_header_that_an_api_might_keep() {
        let words = "no header of an annotation's route, want authorization or proxy-authorization or \
             x-serverless-authorization";
        refused("", ("route.x", "hosts=storage.googleapis.com header=x-goog-meta-loot"), words);
        for header in ["authorization", "proxy-authorization", "x-serverless-authorization"] {
            let route = format!("hosts=storage.googleapis.com header={header}");
            settings("", &[("route.x", &route)], Flags::default()).expect(header);
        }
        let own = "hosts=a.googleapis.com credential=narrow header=x-own-token";
        settings(FULL, &[("route.x", own)], Flags::default()).expect("the file has it too");
    }

    #[test]
    fn the_real_token_is_handed_out_only_where_the_administrator_allows_it() {
        refused("", ("metadata", "token"), "want off or placeholder: token is allowed by --allow-metadata-token");
        let allowed = Flags { allow_metadata_token: true, ..Flags::default() };
        settings("", &[("metadata", "token")], allowed).expect("by the flag");
        let file = "metadata: {mode: token}";
        for mode in ["token", "placeholder", "off"] {
            settings(file, &[("metadata", mode)], Flags::default()).expect("by the file");
        }
    }

    #[test]
    fn scopes_are_those_of_the_credential_or_listed_ones() {
        let own = "credentials: [{name: default, serviceAccountKey: {path: /key, scopes: [devstorage.read_only]}}]";
        let words = "'devstorage.full_control' gives more than the credential 'default' has, want a part of devstorage.read_only";
        refused(own, ("scopes", "devstorage.read_only, devstorage.full_control"), words);
        refused(own, ("scopes", "cloud-platform"), "'cloud-platform' gives more");
        refused("", ("scopes", "https://mail.google.com/"), "'https://mail.google.com/' gives more");
        settings("", &[("scopes", "devstorage.read_only")], Flags::default()).expect("a part of cloud-platform");
        let allowed = Flags { allow_scopes: vec!["drive.readonly".to_owned()], ..Flags::default() };
        let settings = settings(own, &[("scopes", "drive.readonly")], allowed).expect("listed");
        assert_eq!(settings.credentials[0].kind.scopes(), ["https://www.googleapis.com/auth/drive.readonly"]);
        let signed = "credentials: [{name: default, signedJwt: {path: /key, audience: a}}]\n\
            routes: [{name: r, hosts: [a.googleapis.com], token: jwt}]";
        refused(signed, ("scopes", "cloud-platform"), "is a signedJwt, which has no scopes");
    }

    #[test]
    fn a_list_of_scopes_that_is_wrong_is_told() {
        let flags = Flags { allow_scopes: vec!["a b".to_owned()], ..Flags::default() };
        let refused = settings("", &[], flags).expect_err("a blank");
        assert!(refused.contains("--allow-scopes: want a scope"), "{refused}");
    }
}
