//! What routes of annotations are refused, each beside what is taken.

use crate::config::{
    Flags, Settings,
    samples::{refused, settings},
};

const FULL: &str = "credentials: [{name: default, serviceAccountKey: {path: /key}}, \
    {name: narrow, downscoped: {source: default, rules: [{resource: '//storage.googleapis.com/projects/_/buckets/reports', \
    permissions: ['inRole:roles/storage.objectViewer']}]}}, {name: spare, metadataServer: {}}]\n\
    routes: [{name: google-apis, hosts: [storage.googleapis.com], credential: narrow, header: x-own-token}]\n";

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
        (&format!("{broker}routes: [{{name: api, hosts: [api.example.com]}}]"), "hosts=*.example.com", "kind access"),
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
    refused(FULL, ("route.x", "hosts=storage.googleapis.com"), "'google-apis' has such a host: want credential=narrow");
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
