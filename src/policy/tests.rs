use http::{HeaderName, HeaderValue};

use super::*;

const MARK: &str = "ya29.bearerd-placeholder-0123";

fn pattern(text: &str) -> HostPattern {
    HostPattern::parse(text).unwrap()
}

fn route(name: &str, action: Action, hosts: &[&str]) -> Route {
    let hosts = hosts.iter().map(|text| pattern(text)).collect();
    Route { name: name.to_owned(), action, ..Route::google_apis(hosts) }
}

fn policy(routes: Vec<Route>) -> Policy {
    let mut allow = vec![pattern("*.googleapis.com")];
    allow.extend(routes.iter().flat_map(|route| route.hosts.clone()));
    Policy::new(routes, Unmatched::Pass, allow)
}

fn default_policy() -> Policy {
    policy(vec![route(DEFAULT_ROUTE, Action::Inject, &["*.googleapis.com"])])
}

fn authority(text: &str) -> Authority {
    Authority::parse(text, Some(443)).unwrap()
}

fn headers(list: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
    };
    list.iter().map(pair).collect()
}

/// `inject`, `pass:<reason>`, `pass:<reason>+strip`, `deny:<reason>`, each behind `<route> ` if one matched.
fn verdict(policy: &Policy, request: &str, fields: &[(&str, &str)]) -> String {
    let (method, rest) = request.split_once(' ').unwrap();
    let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let facts = Facts {
        authority: &authority(host),
        method: &Method::from_bytes(method.as_bytes()).unwrap(),
        target: path,
        headers: &headers(fields),
        placeholder: Some(&Placeholder::new(MARK)),
    };
    let named = |route: Option<&Arc<Route>>| route.map(|route| format!("{} ", route.name)).unwrap_or_default();
    match policy.decide(&facts) {
        Decision::Inject { route } => format!("{}inject", named(Some(route))),
        Decision::Pass { route, reason, strip_placeholder } => {
            format!("{}pass:{}{}", named(route), reason.label(), if strip_placeholder { "+strip" } else { "" })
        }
        Decision::SignBlob { route, account } => format!("{}sign:{account}", named(Some(route))),
        Decision::Deny { route, reason } => format!("{}deny:{}", named(route), reason.label()),
    }
}

#[test]
fn patterns_match_whole_labels_only() {
    for (text, host, expected) in [
        ("*.googleapis.com", "storage.googleapis.com", true),
        ("*.googleapis.com", "a.b.googleapis.com", true),
        ("*.googleapis.com", "STORAGE.googleapis.com.", true),
        ("*.googleapis.com", "googleapis.com", false),
        ("*.googleapis.com", "evilgoogleapis.com", false),
        ("*.googleapis.com", "storage.googleapis.com.evil.test", false),
        ("storage.googleapis.com", "storage.googleapis.com", true),
        ("storage.googleapis.com", "a.storage.googleapis.com", false),
        ("Storage.GoogleAPIs.com.", "storage.googleapis.com", true),
    ] {
        assert_eq!(pattern(text).matches(&Host::parse(host).unwrap()), expected, "{text} and {host}");
    }
}

#[test]
fn a_pattern_that_would_match_by_accident_does_not_exist() {
    for text in [
        "",
        "*",
        "*.",
        "*.com",
        "**.googleapis.com",
        "*googleapis.com",
        "a.*.googleapis.com",
        "storage.*",
        "*.googleapis.com:443",
        "10.0.0.1",
        "*.0.0.1",
        "[::1]",
        "https://x.test",
        "x.test/path",
        "a@b.test",
        ".x.test",
    ] {
        assert!(HostPattern::parse(text).is_err(), "{text:?}");
    }
    assert_eq!(pattern("*.GoogleAPIs.com").to_string(), "*.googleapis.com");
}

#[test]
fn a_pattern_covers_what_lies_inside_it() {
    for (wide, narrow, expected) in [
        ("*.googleapis.com", "*.googleapis.com", true),
        ("*.googleapis.com", "storage.googleapis.com", true),
        ("*.googleapis.com", "*.storage.googleapis.com", true),
        ("*.googleapis.com", "googleapis.com", false),
        ("*.storage.googleapis.com", "*.googleapis.com", false),
        ("storage.googleapis.com", "*.storage.googleapis.com", false),
        ("*.googleapis.com", "*.evilgoogleapis.com", false),
    ] {
        assert_eq!(pattern(wide).covers(&pattern(narrow)), expected, "{wide} over {narrow}");
    }
}

#[test]
fn a_credential_goes_to_names_of_the_zone_at_443_only() {
    let policy = default_policy();
    for (request, expected) in [
        ("GET storage.googleapis.com/storage/v1/b", "google-apis inject"),
        ("GET STORAGE.googleapis.com.:443/", "google-apis inject"),
        ("POST us-central1-aiplatform.googleapis.com/v1/x:predict", "google-apis inject"),
        ("GET storage.googleapis.com:8443/", "pass:port"),
        ("GET storage.googleapis.com:80/", "pass:port"),
        ("GET googleapis.com/", "pass:unmatched"),
        ("GET googleapis.com.evil.test/", "pass:unmatched"),
        ("GET evilgoogleapis.com/", "pass:unmatched"),
        ("GET svc.run.app/", "pass:unmatched"),
        ("GET 199.36.153.8/", "pass:ip_literal"),
        ("GET 10.0.0.1:8080/", "pass:ip_literal"),
        ("GET [64:ff9b::a9fe:a9fe]/", "deny:local_address"),
        ("GET 169.254.169.254/", "deny:local_address"),
        ("GET 0xa9fea9fe/", "deny:local_address"),
        ("GET [::ffff:127.0.0.1]:14191/quit", "deny:local_address"),
        ("GET [fd20:ce::254]/", "deny:local_address"),
        ("GET localhost:14191/", "deny:local_address"),
        ("GET metadata.google.internal/", "deny:local_address"),
    ] {
        assert_eq!(verdict(&policy, request, &[]), expected, "{request}");
    }
}

#[test]
fn the_first_route_that_matches_decides() {
    let policy = policy(vec![
        Route { methods: vec![Method::DELETE], ..route("no-delete", Action::Deny, &["storage.googleapis.com"]) },
        Route { paths: vec!["/public/".to_owned()], ..route("public", Action::Pass, &["storage.googleapis.com"]) },
        route("all", Action::Inject, &["*.googleapis.com", "app.example.com"]),
        route("never", Action::Deny, &["pubsub.googleapis.com", "*.example.com"]),
    ]);
    for (request, expected) in [
        ("DELETE storage.googleapis.com/public/o", "no-delete deny:route"),
        ("GET storage.googleapis.com/public/o", "public pass:route"),
        ("GET storage.googleapis.com/private/o", "all inject"),
        ("DELETE pubsub.googleapis.com/x", "all inject"),
        ("GET app.example.com/", "all inject"),
        ("GET www.example.com/", "never deny:route"),
        ("GET www.example.com:8080/", "never deny:route"),
        // Injecting routes are for port 443, so the one below decides.
        ("GET pubsub.googleapis.com:8443/", "never deny:route"),
    ] {
        assert_eq!(verdict(&policy, request, &[]), expected, "{request}");
    }
}

#[test]
fn unmatched_requests_can_be_denied() {
    let mut policy = default_policy();
    policy.unmatched = Unmatched::Deny;
    for (request, expected) in [
        ("GET storage.googleapis.com/", "google-apis inject"),
        ("GET storage.googleapis.com:8443/", "deny:unmatched"),
        ("GET example.com/", "deny:unmatched"),
        ("GET 10.0.0.1/", "deny:unmatched"),
        ("POST oauth2.googleapis.com/token", "google-apis pass:token_exchange"),
    ] {
        assert_eq!(verdict(&policy, request, &[]), expected, "{request}");
    }
}

#[test]
fn the_ceiling_holds_whatever_the_routes_say() {
    let routes = vec![route("wide", Action::Inject, &["*.googleapis.com", "*.run.app"])];
    let policy = Policy::new(routes, Unmatched::Pass, vec![pattern("storage.googleapis.com")]);
    assert_eq!(verdict(&policy, "GET storage.googleapis.com/", &[]), "wide inject");
    assert_eq!(verdict(&policy, "GET pubsub.googleapis.com/", &[]), "wide pass:not_allowed");
    assert_eq!(verdict(&policy, "GET x.run.app/", &[]), "wide pass:not_allowed");
    assert_eq!(policy.connect(&authority("x.run.app")), Connect::Tunnel);
}

#[test]
fn no_spelling_dodges_a_denied_path() {
    let deny = Route { paths: vec!["/admin/keys".to_owned()], ..route("deny", Action::Deny, &["x.googleapis.com"]) };
    let policy = policy(vec![deny, route("rest", Action::Inject, &["*.googleapis.com"])]);
    for path in [
        "/admin/keys",
        "/admin/keys/1?x=y",
        "/admin/%6beys",
        "/%61dmin%2Fkeys",
        "//admin/keys",
        "/admin//keys",
        "/./admin/./keys",
        "/admin/x/../keys",
        "/x/%2e%2e/admin/keys",
        "/admin/x/%2E./keys/",
        "/../../admin/keys",
        "/%2fadmin/keys",
    ] {
        assert_eq!(verdict(&policy, &format!("GET x.googleapis.com{path}"), &[]), "deny deny:route", "{path}");
    }
    for path in ["/admin", "/admin/key", "/Admin/keys", "/admin/%256beys", "/x?/admin/keys", ""] {
        assert_eq!(verdict(&policy, &format!("GET x.googleapis.com{path}"), &[]), "rest inject", "{path}");
    }
}

#[test]
fn no_spelling_wins_a_credential_for_another_path() {
    let inject = Route { paths: vec!["/b/mine/".to_owned()], ..route("mine", Action::Inject, &["x.googleapis.com"]) };
    let policy = policy(vec![inject]);
    for path in ["/b/mine/o", "/b/mine/a/./b", "/b/mine/a//b", "/b/mine/%20", "/b%2Fmine/o"] {
        assert_eq!(verdict(&policy, &format!("GET x.googleapis.com{path}"), &[]), "mine inject", "{path}");
    }
    for path in ["/b/mine/../theirs/o", "/b/mine/%2e%2e/theirs", "/b/mine%2f..%2ftheirs/", "//b/mine/o", "/b/mine"] {
        assert_eq!(verdict(&policy, &format!("GET x.googleapis.com{path}"), &[]), "pass:unmatched", "{path}");
    }
}

#[test]
fn a_method_override_is_refused_where_the_method_decides() {
    let read = Route { methods: vec![Method::GET], ..route("read", Action::Inject, &["storage.googleapis.com"]) };
    let policy = policy(vec![read, route("rest", Action::Inject, &["pubsub.googleapis.com", "iam.googleapis.com"])]);
    let fields = [("X-HTTP-Method-Override", "DELETE")];
    for (request, expected) in [
        ("GET storage.googleapis.com/o", "read deny:method_override"),
        ("POST storage.googleapis.com/o", "read deny:method_override"),
        ("POST pubsub.googleapis.com/o", "rest inject"),
        ("GET iam.googleapis.com/v1/projects/p/serviceAccounts/s/keys", "rest deny:method_override"),
        ("GET iam.googleapis.com/v1/projects/p/serviceAccounts/s", "rest inject"),
    ] {
        assert_eq!(verdict(&policy, request, &fields), expected, "{request}");
    }
}

#[test]
fn methods_that_mint_tokens_are_denied_in_every_form() {
    let mint = "POST iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/a@b:generateAccessToken";
    let account = "/v1/projects/-/serviceAccounts/a@b.iam.gserviceaccount.com";
    let mut requests = vec![mint.to_owned()];
    for host in [
        "iamcredentials.mtls.googleapis.com",
        "iamcredentials.us-central1.rep.googleapis.com",
        "iamcredentials.us-central1.rep.mtls.googleapis.com",
        "iamcredentials-endpoint.p.googleapis.com",
        "us-central1-iamcredentials.googleapis.com",
        "us-central1-iamcredentials-x.p.googleapis.com",
        "iamcredentials-storage.p.googleapis.com",
        "staging-iamcredentials.sandbox.googleapis.com",
        "iamcredentials.new-form.googleapis.com",
        "IAMCredentials.googleapis.com.",
    ] {
        for verb in ["generateAccessToken", "generateIdToken", "signBlob", "signJwt", "whateverComesNext"] {
            requests.push(format!("POST {host}{account}:{verb}"));
        }
    }
    for path in [
        "/batch/iamcredentials/v1",
        "/batch/iamcredentials",
        "/%62atch/iamcredentials/v1",
        "//batch//iamcredentials/v1",
        "/batch/iam/v1",
        "/batch",
        "/google.iam.credentials.v1.IAMCredentials/GenerateAccessToken",
        "/google.iam.credentials.v9.Other/Anything",
        "/%67oogle.iam.credentials.v1.IAMCredentials/SignBlob",
        "//google.iam.credentials.v1.IAMCredentials/SignBlob",
        "/$rpc/google.iam.credentials.v1.IAMCredentials/SignJwt",
        "/%24rpc/google.iam.credentials.v1.IAMCredentials/SignJwt",
        "/v1/projects/-/serviceAccounts/a@b:signBlob",
    ] {
        requests.push(format!("POST www.googleapis.com{path}"));
        if path != "/batch" {
            requests.push(format!("POST pubsub.googleapis.com{path}"));
        }
    }
    assert_minting(&requests);
}

#[test]
fn methods_that_create_or_return_keys_are_denied_in_every_form() {
    let mut requests = Vec::new();
    for path in [
        "/v1/projects/p/serviceAccounts/s/keys",
        "/v1/projects/p/serviceAccounts/s/keys/",
        "/v1/projects/p/serviceAccounts/s%2Fkeys",
        "/v1/projects/p/serviceAccounts/s/x/../keys",
        "/v1/projects/p/serviceAccounts/s/keys?alt=json",
        "/v1/projects/p/serviceAccounts/s/keys:upload",
        "/v1/projects/p/serviceAccounts/s:signBlob",
        "/v1/projects/p/serviceAccounts/s%3AsignBlob",
        "/v1/projects/p/serviceAccounts/s:signJwt",
        "/google.iam.admin.v1.IAM/CreateServiceAccountKey",
        "/google.iam.admin.v1.IAM/UploadServiceAccountKey",
        "/google.iam.admin.v1.IAM/SignBlob",
        "/google.iam.admin.v1.IAM/SignJwt",
        "/batch",
    ] {
        for host in ["iam.googleapis.com", "iam.europe-west1.rep.googleapis.com", "iam.mtls.googleapis.com"] {
            requests.push(format!("POST {host}{path}"));
        }
    }
    for request in [
        "GET apikeys.googleapis.com/v2/projects/p/locations/global/keys/k/keyString",
        "POST apikeys.googleapis.com/v2/projects/p/locations/global/keys",
        "POST apikeys.googleapis.com/google.api.apikeys.v2.ApiKeys/GetKeyString",
        "POST storage.googleapis.com/storage/v1/projects/p/hmacKeys?serviceAccountEmail=x",
        "POST www.googleapis.com/storage/v1/projects/p/hmacKeys",
        "POST storage.europe-west1.rep.googleapis.com/storage/v1/projects/p/hmacKeys",
        "POST storage.googleapis.com/?Action=CreateAccessKey&UserName=x",
        "GET storage.googleapis.com/?Action=Create%41ccessKey",
        "POST bucket.storage.googleapis.com/?Action=CreateAccessKey",
        "POST storage.googleapis.com/",
        "POST storage.googleapis.com/.",
        "POST storage.googleapis.com/google.storage.v2.Storage/CreateHmacKey",
    ] {
        requests.push(request.to_owned());
    }
    assert_minting(&requests);
}

/// Denied, also when the request carries a credential of its own.
fn assert_minting(requests: &[String]) {
    let policy = default_policy();
    for request in requests {
        assert_eq!(verdict(&policy, request, &[]), "google-apis deny:minting", "{request}");
        assert_eq!(verdict(&policy, request, &[("x-goog-api-key", "k")]), "google-apis deny:minting", "{request}");
    }
}

#[test]
fn ordinary_methods_of_the_same_services_keep_working() {
    let policy = default_policy();
    for request in [
        "GET iam.googleapis.com/v1/projects/p/serviceAccounts/s/keys",
        "GET iam.googleapis.com/v1/projects/p/serviceAccounts/s/keys/k",
        "DELETE iam.googleapis.com/v1/projects/p/serviceAccounts/s/keys/k",
        "POST iam.googleapis.com/v1/projects/p/serviceAccounts/s:getIamPolicy",
        "POST iam.googleapis.com/google.iam.admin.v1.IAM/ListServiceAccountKeys",
        "GET apikeys.googleapis.com/v2/projects/p/locations/global/keys",
        "GET storage.googleapis.com/storage/v1/projects/p/hmacKeys",
        "POST storage.googleapis.com/batch/storage/v1",
        "POST storage.googleapis.com/upload/storage/v1/b/x/o?uploadType=resumable&upload_id=abc",
        "POST storage.googleapis.com/storage/v1/b/a/o/src/rewriteTo/b/z/o/projects%2Fp%2FhmacKeys",
        "GET storage.googleapis.com/bucket/keys/1/keyString",
        "PUT storage.googleapis.com/bucket/serviceAccounts/a:signBlob",
        "GET iamcredentials.storage.googleapis.com/object",
        "POST my-iam-backups.storage.googleapis.com/",
        "POST www.googleapis.com/batch/drive/v3",
        "POST cloudkms.googleapis.com/v1/projects/p/locations/l/keyRings/r/cryptoKeys",
        "POST iamconnectors.googleapis.com/v1/x",
        "POST pubsub.googleapis.com/google.pubsub.v1.Publisher/Publish",
    ] {
        assert_eq!(verdict(&policy, request, &[]), "google-apis inject", "{request}");
    }
}

#[test]
fn the_boundary_lookup_of_sdks_passes_without_credential() {
    let policy = default_policy();
    let path = "iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/a@b/allowedLocations";
    assert_eq!(verdict(&policy, &format!("GET {path}"), &[]), "google-apis pass:allowed_locations");
    for (request, fields) in [
        (format!("POST {path}"), &[][..]),
        (format!("GET {path}"), &[("x-http-method-override", "POST")]),
        (format!("GET {path}/../../a@b:generateAccessToken"), &[]),
        (format!("GET {path}/."), &[]),
        (format!("GET {path}/.."), &[]),
    ] {
        assert_eq!(verdict(&policy, &request, fields), "google-apis deny:minting", "{request}");
    }
}

#[test]
fn token_exchanges_pass_as_they_are() {
    let policy = policy(vec![route("all", Action::Inject, &["*.googleapis.com", "accounts.google.com"])]);
    for request in [
        "POST oauth2.googleapis.com/token",
        "GET oauth2.googleapis.com/tokeninfo",
        "POST oauth2.mtls.googleapis.com/token",
        "POST sts.googleapis.com/v1/token",
        "POST sts.us-central1.rep.googleapis.com/v1/token",
        "POST www.googleapis.com/oauth2/v4/token",
        "GET www.googleapis.com/%6Fauth2/v3/certs",
        "GET www.googleapis.com//oauth2/v1/userinfo",
        "GET www.googleapis.com/drive/../oauth2/v1/userinfo",
        "POST www.googleapis.com/batch/oauth2/v2",
        "GET accounts.google.com/o/oauth2/auth",
        "POST securetoken.googleapis.com/v1/token",
        "POST identitytoolkit.googleapis.com/v1/accounts:signInWithPassword",
    ] {
        assert_eq!(verdict(&policy, request, &[]), "all pass:token_exchange", "{request}");
    }
    assert_eq!(verdict(&policy, "GET www.googleapis.com/drive/v3/files", &[]), "all inject");
}

#[test]
fn only_the_end_user_apis_open_to_a_route_that_names_them() {
    let hosts = ["identitytoolkit.googleapis.com", "oauth2.googleapis.com", "iamcredentials.googleapis.com"];
    let policy = policy(vec![route("named", Action::Inject, &hosts)]);
    assert_eq!(verdict(&policy, "POST identitytoolkit.googleapis.com/v1/x", &[]), "named inject");
    assert_eq!(verdict(&policy, "POST oauth2.googleapis.com/token", &[]), "named pass:token_exchange");
    assert_eq!(verdict(&policy, "POST iamcredentials.googleapis.com/v1/x", &[]), "named deny:minting");
}

#[test]
fn words_in_the_names_of_other_peoples_hosts_mean_nothing() {
    let hosts = ["*.run.app", "*.example.com", "*.universe.test"];
    let policy = policy(vec![route("own", Action::Inject, &hosts)]);
    for request in [
        "GET oauth2-proxy.example.com/",
        "GET sts.example.com/v1",
        "POST my-iam-abc.run.app/batch",
        "POST storage.example.com/",
        "GET app-abc.run.app/oauth2/callback",
    ] {
        assert_eq!(verdict(&policy, request, &[]), "own inject", "{request}");
    }
    for request in [
        "POST iamcredentials.universe.test/v1/x",
        "POST iam.universe.test/v1/projects/p/serviceAccounts/s/keys",
        "POST app.run.app/google.iam.credentials.v1.IAMCredentials/SignBlob",
    ] {
        assert_eq!(verdict(&policy, request, &[]), "own deny:minting", "{request}");
    }
}

#[test]
fn a_request_that_is_a_credential_already_passes() {
    let policy = default_policy();
    let host = "storage.googleapis.com/b/o";
    let authorization = |value| vec![("authorization", value)];
    for (query, fields, reason) in [
        ("?X-Goog-Algorithm=A&X-Goog-Signature=abc", vec![], "signed_url"),
        ("?X-Goog%2DSignature=abc", vec![], "signed_url"),
        ("?GoogleAccessId=a&Expires=1&Signature=abc", vec![], "signed_url"),
        ("?X-Amz-Signature=abc", vec![], "signed_url"),
        ("?key=AIza-test", vec![], "api_key"),
        ("?alt=json&key=AIza-test&x=y", vec![], "api_key"),
        ("?access_token=abc", vec![], "token_in_query"),
        ("?oauth_token=abc", vec![], "token_in_query"),
        ("", vec![("X-Goog-Api-Key", "AIza-test")], "api_key"),
        ("", authorization("GOOG1 id:sig"), "hmac"),
        ("", authorization("GOOG4-HMAC-SHA256 Credential=x"), "hmac"),
        ("", authorization("goog4-rsa-sha256 Credential=x"), "hmac"),
        ("", authorization("AWS4-HMAC-SHA256 Credential=x"), "hmac"),
        ("", authorization("AWS id:sig"), "hmac"),
    ] {
        let got = verdict(&policy, &format!("GET {host}{query}"), &fields);
        assert_eq!(got, format!("google-apis pass:{reason}"), "{query} {fields:?}");
    }
    for (query, fields) in [
        ("?X-Goog-Signature=", vec![]),
        ("?x-goog-signature=abc", vec![]),
        ("?Signature=abc", vec![]),
        ("?GoogleAccessId=abc", vec![]),
        ("?Signature=&GoogleAccessId=abc", vec![]),
        ("?key", vec![]),
        ("?key=", vec![]),
        ("?Key=abc", vec![]),
        ("?apikey=abc&monkey=abc", vec![]),
        ("?pageToken=key=abc", vec![]),
        ("?upload_id=abc&uploadType=resumable", vec![]),
        ("", vec![("x-goog-api-key", "")]),
        ("", authorization("Bearer ya29.own")),
        ("", authorization("Basic AWS4-")),
    ] {
        assert_eq!(
            verdict(&policy, &format!("GET {host}{query}"), &fields),
            "google-apis inject",
            "{query} {fields:?}"
        );
    }
}

#[test]
fn the_route_says_what_becomes_of_the_clients_own_credential() {
    use ClientAuthorization::{Keep, Replace, Require};
    let own = ("authorization", "Bearer ya29.own");
    let mark = ("authorization", "Bearer ya29.bearerd-placeholder-0123");
    for (mode, fields, expected) in [
        (Replace, vec![], "r inject"),
        (Replace, vec![own], "r inject"),
        (Replace, vec![mark], "r inject"),
        (Keep, vec![], "r inject"),
        (Keep, vec![("authorization", "")], "r inject"),
        (Keep, vec![mark], "r inject"),
        (Keep, vec![own], "r pass:client_credential"),
        (Keep, vec![("authorization", "Basic dTpw")], "r pass:client_credential"),
        (Keep, vec![mark, own], "r pass:client_credential+strip"),
        (Keep, vec![own, own], "r deny:several_credentials"),
        (Keep, vec![own, mark, ("authorization", "Basic dTpw")], "r deny:several_credentials"),
        (Keep, vec![own, ("authorization", "")], "r pass:client_credential"),
        (Replace, vec![own, own], "r inject"),
        (Require, vec![], "r pass:no_placeholder"),
        (Require, vec![own], "r pass:no_placeholder"),
        (Require, vec![mark], "r inject"),
        (Require, vec![("authorization", "bearer  ya29.bearerd-placeholder-0123 ")], "r inject"),
        (Require, vec![("authorization", "Bearer ya29.bearerd-placeholder-01234")], "r pass:no_placeholder"),
        (Require, vec![("authorization", "Bearer ya29.bearerd-placeholder-012")], "r pass:no_placeholder"),
        (Require, vec![("cookie", MARK)], "r pass:no_placeholder+strip"),
    ] {
        let route = Route { client_authorization: mode, ..route("r", Action::Inject, &["*.googleapis.com"]) };
        let got = verdict(&policy(vec![route]), "GET storage.googleapis.com/", &fields);
        assert_eq!(got, expected, "{mode:?} {fields:?}");
    }
}

#[test]
fn another_header_is_judged_by_its_own_content() {
    let own = ClientAuthorization::Keep;
    let header = HeaderName::from_static("x-serverless-authorization");
    let hosts = &["app.run.app"];
    let keep = Route { client_authorization: own, header: header.clone(), ..route("r", Action::Inject, hosts) };
    assert!(keep.bears());
    let policy = policy(vec![keep]);
    let request = "GET app.run.app/";
    assert_eq!(verdict(&policy, request, &[("authorization", "Bearer app")]), "r inject");
    assert_eq!(verdict(&policy, request, &[(header.as_str(), "Bearer own")]), "r pass:client_credential");
    let bare = Route { header: HeaderName::from_static("clearblade-usertoken"), ..route("r", Action::Inject, hosts) };
    assert!(!bare.bears());
}

#[test]
fn the_placeholder_is_taken_off_wherever_no_token_goes_on() {
    let policy = policy(vec![
        route("pass", Action::Pass, &["pass.googleapis.com"]),
        route("rest", Action::Inject, &["*.googleapis.com"]),
    ]);
    let bearer = format!("Bearer {MARK}");
    let fields = ["authorization", "x-serverless-authorization", "proxy-authorization", "x-another-routes-token"];
    for (request, expected) in [
        ("GET example.com/", "pass:unmatched+strip"),
        ("GET pass.googleapis.com/", "pass pass:route+strip"),
        ("GET storage.googleapis.com:80/", "pass:port+strip"),
        ("GET storage.googleapis.com/?key=k", "rest pass:api_key+strip"),
        ("POST oauth2.googleapis.com/token", "rest pass:token_exchange+strip"),
    ] {
        for name in fields {
            assert_eq!(verdict(&policy, request, &[(name, &bearer)]), expected, "{request}");
            assert_eq!(verdict(&policy, request, &[(name, MARK)]), expected, "{request}");
        }
    }
}

#[test]
fn a_connect_is_intercepted_only_where_something_is_to_be_seen() {
    let policy = policy(vec![
        Route { paths: vec!["/x".to_owned()], ..route("part", Action::Pass, &["part.example.com"]) },
        route("pass", Action::Pass, &["pass.googleapis.com"]),
        route("deny", Action::Deny, &["deny.googleapis.com"]),
        route("named", Action::Inject, &["kms.mtls.googleapis.com"]),
        route("rest", Action::Inject, &["*.googleapis.com"]),
    ]);
    use Connect::{Intercept, Refuse, Tunnel};
    let local = Refuse(DenyReason::Local);
    for (target, expected) in [
        ("storage.googleapis.com:443", Intercept),
        ("storage.googleapis.com.:443", Intercept),
        ("www.googleapis.com:443", Intercept),
        ("iamcredentials.googleapis.com:443", Intercept),
        ("iamcredentials.mtls.googleapis.com:443", Intercept),
        ("deny.googleapis.com:443", Intercept),
        ("part.example.com:443", Intercept),
        ("kms.mtls.googleapis.com:443", Intercept),
        ("storage.mtls.googleapis.com:443", Tunnel),
        ("pass.googleapis.com:443", Tunnel),
        ("oauth2.googleapis.com:443", Tunnel),
        ("sts.googleapis.com:443", Tunnel),
        ("accounts.google.com:443", Tunnel),
        ("example.com:443", Tunnel),
        ("evilgoogleapis.com:443", Tunnel),
        ("storage.googleapis.com:8443", Tunnel),
        ("deny.googleapis.com:8443", Refuse(DenyReason::Route)),
        ("github.com:22", Tunnel),
        ("kubernetes.default.svc:443", Tunnel),
        ("10.0.0.1:5432", Tunnel),
        ("172.16.0.1:443", Tunnel),
        ("100.64.0.1:443", Tunnel),
        ("[fd00::1]:443", Tunnel),
        ("8.8.8.8:443", Tunnel),
        ("127.0.0.1:14191", local),
        ("localhost:443", local),
        ("a.localhost:443", local),
        ("metadata:80", local),
        ("metadata.google.internal:80", local),
        ("169.254.169.254:80", local),
        ("2852039166:80", local),
        ("0251.0376.0251.0376:80", local),
        ("0.0.0.0:14191", local),
        ("[::]:14191", local),
        ("[::1]:14191", local),
        ("[::ffff:127.0.0.1]:80", local),
        ("[64:ff9b::a9fe:a9fe]:80", local),
        ("[2002:7f00:1::]:80", local),
        ("[fe80::1]:443", local),
        ("[fd20:ce::254]:80", local),
        ("224.0.0.1:443", local),
    ] {
        assert_eq!(policy.connect(&authority(target)), expected, "{target}");
    }
}

#[test]
fn a_denied_zone_lets_nothing_through_a_tunnel() {
    let mut policy = policy(vec![route("rest", Action::Inject, &["*.googleapis.com"])]);
    policy.unmatched = Unmatched::Deny;
    let refused = Connect::Refuse(DenyReason::Unmatched);
    for (target, expected) in [
        ("storage.googleapis.com:443", Connect::Intercept),
        ("storage.googleapis.com:8443", refused),
        ("example.com:443", refused),
        ("10.0.0.1:443", refused),
    ] {
        assert_eq!(policy.connect(&authority(target)), expected, "{target}");
    }
}

#[test]
fn a_host_the_ca_cannot_sign_for_is_refused_in_the_open() {
    let routes = vec![route("deny", Action::Deny, &["*.example.com"])];
    let policy = Policy::new(routes, Unmatched::Pass, vec![pattern("*.googleapis.com")]);
    assert_eq!(policy.connect(&authority("www.example.com:443")), Connect::Refuse(DenyReason::Route));
}

#[test]
fn labels_are_distinct_and_fit_for_metrics() {
    let labels: Vec<_> = PassReason::ALL.iter().map(|reason| reason.label()).collect();
    let denied: Vec<_> = DenyReason::ALL.iter().map(|reason| reason.label()).collect();
    for set in [labels, denied] {
        let distinct: std::collections::BTreeSet<_> = set.iter().collect();
        assert_eq!(distinct.len(), set.len());
        assert!(set.iter().all(|label| label.bytes().all(|byte| byte.is_ascii_lowercase() || b"_0".contains(&byte))));
    }
}

#[test]
fn a_signature_is_asked_for_in_one_form_only_and_where_the_credential_allows_it() {
    const PLAIN: &str = "POST iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/a@p.iam:signBlob";
    let signs = |change: fn(&mut Route)| {
        let mut route = route("apis", Action::Inject, &["*.googleapis.com"]);
        route.signs_urls = true;
        change(&mut route);
        Policy::new(vec![route], Unmatched::Pass, vec![pattern("*.googleapis.com")])
    };
    let policy = signs(|_| {});
    assert_eq!(verdict(&policy, PLAIN, &[]), "apis sign:a@p.iam");
    for (from, to) in [
        ("POST", "GET"),
        ("POST", "PUT"),
        ("iamcredentials.", "iamcredentials.mtls."),
        ("iamcredentials.", "iamcredentials-x.p."),
        ("iamcredentials.", "us-central1-iamcredentials."),
        ("v1", "v1beta1"),
        ("/v1", "//v1"),
        ("/v1", "/x/../v1"),
        ("projects/-", "projects/p"),
        (":signBlob", ":signJwt"),
        (":signBlob", ":SIGNBLOB"),
        (":signBlob", ":generateAccessToken"),
        (":signBlob", ":signBlob/"),
        ("a@p.iam", ""),
        ("a@p.iam", "a/b"),
        ("a@p.iam", "-"),
    ] {
        let request = PLAIN.replacen(from, to, 1);
        let expected = if to == "-" { "apis sign:-" } else { "apis deny:minting" };
        assert_eq!(verdict(&policy, &request, &[]), expected, "{request}");
    }
    assert_eq!(verdict(&policy, PLAIN, &[("x-http-method-override", "GET")]), "apis deny:minting");
    assert_eq!(verdict(&signs(|route| route.signs_urls = false), PLAIN, &[]), "apis deny:minting");
    let require = signs(|route| route.client_authorization = ClientAuthorization::Require);
    assert_eq!(verdict(&require, PLAIN, &[]), "apis deny:minting");
    assert_eq!(verdict(&require, PLAIN, &[("authorization", &format!("Bearer {MARK}"))]), "apis sign:a@p.iam");
    let keep = signs(|route| route.client_authorization = ClientAuthorization::Keep);
    assert_eq!(verdict(&keep, PLAIN, &[("authorization", "Bearer own")]), "apis deny:minting");
}
