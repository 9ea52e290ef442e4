//! What annotations may make of the file's routes and credentials: a choice among what the administrator listed.

use super::{
    annotated_route::FileRoutes,
    annotations::Annotations,
    file::{File, Placed, PlacedRoute},
    merge::{check_ceiling, covered, main_credential},
    problem::Report,
    scope,
    settings::{CLOUD_PLATFORM, MetadataMode},
    tokens,
};
use crate::{
    credential::Spec,
    policy::{Action, DEFAULT_ROUTE, HostPattern, Route},
};

/// Gives the credential `default` (else the first) the scopes that an annotation chose among `allowed` and its own.
pub(super) fn scopes(chosen: &[Placed<String>], allowed: &[String], credentials: &mut [Spec], report: &mut Report) {
    let Some(first) = chosen.first() else { return };
    let Some(credential) = credentials.get_mut(main_credential(credentials)) else { return };
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
        // Not repeated: anything may have been pasted here.
        let message = format!(
            "it gives more than the credential '{name}' has, want a part of {}: more is allowed by --allow-scopes, the \
             chart's sidecar.allowScopes",
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
    of_file: &FileRoutes<'_>,
    report: &mut Report,
) {
    let Some(first) = hosts.first() else { return };
    let Some(at) = listed.iter().position(|placed| placed.route.name == DEFAULT_ROUTE) else {
        let message = format!("the file has no route '{DEFAULT_ROUTE}', want route.<name> instead");
        return report.problem(&first.place, message);
    };
    let is_before_a_deny = listed[at + 1..].iter().any(|placed| placed.route.action == Action::Deny);
    let own = listed[at].route.clone();
    if own.action != Action::Inject {
        let message = format!("the file's route '{DEFAULT_ROUTE}' does not inject, want route.<name> instead");
        return report.problem(&first.place, message);
    }
    // Where the route stands it would win over the refusal.
    for host in hosts.iter().filter(|host| is_before_a_deny && !covered(&host.value, &own.hosts)) {
        let list: Vec<String> = own.hosts.iter().map(ToString::to_string).collect();
        let message = format!(
            "a deny of the file follows its route '{DEFAULT_ROUTE}', so that this may only be a part of {}, or want \
             route.<name> instead",
            list.join(", ")
        );
        report.problem(&host.place, message);
    }
    let chosen = hosts.iter().map(|host| host.value.clone()).collect();
    let placed = PlacedRoute {
        route: Route { hosts: chosen, is_annotated: true, ..own.clone() },
        hosts: hosts.iter().map(|host| host.place.clone()).collect(),
        ..listed[at].clone()
    };
    for host in hosts {
        check_ceiling(&host.value, &host.place, allow, report);
        if let Err(message) = tokens::sent(&host.value, placed.route.token) {
            report.problem(&host.place, message);
        }
    }
    // What it had, it may have; what it has not, goes before what follows.
    let more = hosts.iter().filter(|host| !covered(&host.value, &own.hosts)).cloned();
    let (added, places) = more.map(|host| (host.value, host.place)).unzip();
    let route = Route { hosts: added, ..own.clone() };
    let here = || first.place.clone();
    let added = PlacedRoute { route, hosts: places, place: here(), credential: here(), token: here(), header: here() };
    of_file.check_hosts(&added, at + 1, report);
    of_file.check_dropped(at, (&own, &placed.route.hosts), &first.place, report);
    listed[at] = placed;
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

#[cfg(test)]
mod tests {
    use crate::config::{
        Flags,
        samples::{refused, settings},
    };

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
        refused(after, ("hosts", "*.googleapis.com"), "the file keeps credentials from some of Google's APIs");
        let elsewhere = after.replace("secretmanager.googleapis.com", "evil.example.com");
        settings(&elsewhere, &[("hosts", "*.googleapis.com")], Flags::default()).expect("the deny comes first");
        for action in ["deny", "pass"] {
            let other = format!("routes: [{{name: google-apis, hosts: [a.googleapis.com], action: {action}}}]");
            refused(&other, ("hosts", "a.googleapis.com"), "the file's route 'google-apis' does not inject");
        }
    }

    const TWO: &str =
        "credentials: [{name: default, serviceAccountKey: {path: /a}}, {name: ro, serviceAccountKey: {path: /b}}]\n";

    #[test]
    fn hosts_leave_none_to_a_route_that_gives_more() {
        for (file, chosen) in [
            (
                "{name: google-apis, hosts: [storage.googleapis.com, pubsub.googleapis.com], credential: ro}, \
                 {name: rest, hosts: ['*.googleapis.com']}",
                "pubsub.googleapis.com",
            ),
            (
                "{name: google-apis, hosts: ['*.googleapis.com'], credential: ro}, \
                 {name: rest, hosts: [storage.googleapis.com, pubsub.googleapis.com]}",
                "pubsub.googleapis.com",
            ),
            (
                "{name: google-apis, hosts: [run.googleapis.com, pubsub.googleapis.com], clientAuthorization: require}, \
                 {name: rest, hosts: ['*.googleapis.com']}",
                "pubsub.googleapis.com",
            ),
        ] {
            refused(&format!("{TWO}routes: [{file}]"), ("hosts", chosen), "left to the file's route 'rest'");
        }
        for (file, chosen) in [
            (
                "{name: google-apis, hosts: [storage.googleapis.com, pubsub.googleapis.com], methods: [GET]}, \
                 {name: rest, hosts: ['*.googleapis.com']}",
                "pubsub.googleapis.com",
            ),
            (
                "{name: google-apis, hosts: ['*.googleapis.com'], credential: ro}, \
                 {name: rest, hosts: [pubsub.googleapis.com]}",
                "pubsub.googleapis.com",
            ),
            ("{name: google-apis, hosts: ['*.googleapis.com']}", "pubsub.googleapis.com"),
        ] {
            let file = format!("{TWO}routes: [{file}]");
            settings(&file, &[("hosts", chosen)], Flags::default()).expect("no more than before");
        }
    }

    #[test]
    fn hosts_get_nothing_that_a_route_in_front_lets_by() {
        let hosts = |host| format!("pubsub.googleapis.com,{host}");
        for (front, host, words) in [
            (
                "{name: front, hosts: [storage.googleapis.com], methods: [GET], credential: ro}",
                "storage.googleapis.com",
                "want credential=ro",
            ),
            (
                "{name: front, hosts: [run.googleapis.com], paths: [/v2/], clientAuthorization: require}",
                "run.googleapis.com",
                "want clientAuthorization=require",
            ),
            (
                "{name: front, hosts: [secretmanager.googleapis.com], methods: [GET, POST], action: pass}",
                "secretmanager.googleapis.com",
                "it gives no credential",
            ),
        ] {
            let file = format!("{TWO}routes: [{front}, {{name: google-apis, hosts: [pubsub.googleapis.com]}}]");
            refused(&file, ("hosts", &hosts(host)), words);
        }
        let whole = "{name: front, hosts: [storage.googleapis.com], credential: ro}";
        let file = format!("{TWO}routes: [{whole}, {{name: google-apis, hosts: [pubsub.googleapis.com]}}]");
        let taken = settings(&file, &[("hosts", &hosts("*.googleapis.com"))], Flags::default());
        assert_eq!(taken.expect("the one in front has all of its own").policy.routes[0].credential, "ro");
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
        let words = "scopes[1]: it gives more than the credential 'default' has, want a part of devstorage.read_only";
        refused(own, ("scopes", "devstorage.read_only, devstorage.full_control"), words);
        refused(own, ("scopes", "cloud-platform"), "scopes[0]: it gives more");
        refused("", ("scopes", "https://mail.google.com/"), "scopes[0]: it gives more");
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
