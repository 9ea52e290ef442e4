//! Credentials that are no key: federated, impersonating, downscoped, a person's, the node's.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use bearerd::{
    app::Settings,
    credential::{CredentialName, Impersonated, Kind, Rule, Spec, expand_scope},
    demo::{FakeNode, Outage},
    policy::{HostPattern, Policy, Route, TokenKind, Unmatched},
};

use crate::{
    bed::{ACCOUNT, STORAGE, World, apis, send_below, send_to},
    client::{DOORS, Door, get, get_with, within},
};

pub(crate) const PROVIDER: &str =
    "//iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/pool/providers/cluster";
pub(crate) const NODE: &str = "node@demo-project.iam.gserviceaccount.com";
pub(crate) const REPORTS: &str = "reports@demo-project.iam.gserviceaccount.com";

pub(crate) fn named(name: &str, kind: Kind) -> Spec {
    Spec { name: CredentialName::new(name), kind }
}

pub(crate) fn impersonation(source: &str) -> Kind {
    let impersonated = Impersonated {
        account: REPORTS.to_owned(),
        delegates: Vec::new(),
        scopes: vec![expand_scope("bigquery")],
        lifetime: Duration::from_secs(3600),
    };
    Kind::Impersonation { source: CredentialName::new(source), impersonated }
}

pub(crate) fn federated(path: PathBuf) -> Kind {
    Kind::ExternalAccount { path, scopes: vec![expand_scope("cloud-platform")], account: None }
}

pub(crate) fn metadata_server() -> Kind {
    Kind::MetadataServer { scopes: vec![expand_scope("cloud-platform")] }
}

/// The token of `source`, good for reading one bucket.
pub(crate) fn less(source: &str) -> Kind {
    let rule = Rule {
        resource: BUCKET.to_owned(),
        permissions: vec!["inRole:roles/storage.objectViewer".to_owned()],
        condition: String::new(),
    };
    Kind::Downscoped { source: CredentialName::new(source), rules: vec![rule] }
}

/// gcloud's file, with this refresh token.
pub(crate) fn person(dir: &Path, refresh_token: &str) -> Kind {
    let path = dir.join("person.json");
    let file = serde_json::json!({
        "type": "authorized_user", "client_id": "id", "client_secret": "hunter2", "refresh_token": refresh_token,
    });
    std::fs::write(&path, file.to_string()).unwrap();
    Kind::AuthorizedUser { path, scopes: Vec::new() }
}

/// The file of a federated identity whose token lies in `token`.
pub(crate) fn identity_file(dir: &Path, impersonates: bool) -> PathBuf {
    identity_from(dir, &serde_json::json!({"file": dir.join("token")}), impersonates)
}

/// The same with any `credential_source`.
pub(crate) fn identity_from(dir: &Path, source: &serde_json::Value, impersonates: bool) -> PathBuf {
    let mut file = serde_json::json!({
        "type": "external_account",
        "audience": PROVIDER,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": "https://sts.googleapis.com/v1/token",
        "credential_source": source,
    });
    if impersonates {
        file["service_account_impersonation_url"] = format!(
            "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{REPORTS}:generateAccessToken"
        )
        .into();
    }
    let path = dir.join("identity.json");
    std::fs::write(&path, file.to_string()).unwrap();
    path
}

/// All requests by the credential `name`.
pub(crate) fn by(settings: &mut Settings, name: &str) {
    let mut route = Route::google_apis(apis());
    name.clone_into(&mut route.credential);
    settings.policy = Policy::new(vec![route], Unmatched::Pass, apis());
}

#[tokio::test]
async fn an_impersonated_account_is_who_google_sees() {
    let world = World::new().await;
    world.google.allow_impersonation(ACCOUNT, REPORTS);
    let bed = world.start(|settings| {
        settings.credentials.push(named("reports", impersonation("default")));
        by(settings, "reports");
    });
    for door in DOORS {
        assert_eq!(bed.client(door, STORAGE).await.call(get("/echo")).await.status(), 200, "{door:?}");
        let token = bed.last().token.unwrap();
        assert_eq!((token.account.as_str(), token.scopes), (REPORTS, vec![expand_scope("bigquery")]));
    }
}

#[tokio::test]
async fn what_may_not_be_impersonated_is_said_and_tried_again() {
    let world = World::new().await;
    world.google.allow_impersonation("somebody", REPORTS);
    let google = world.google.clone();
    let bed = world.start(|settings| {
        settings.credentials.push(named("reports", impersonation("default")));
        by(settings, "reports");
    });
    let mut client = bed.client(Door::InterceptH2, STORAGE).await;
    let response = within("a refusal", async {
        loop {
            let response = client.call(get("/echo")).await;
            if response.headers().get("x-bearerd-error").is_some_and(|reason| reason == "permission_denied") {
                return response;
            }
        }
    })
    .await;
    assert_eq!(response.status(), 503);
    google.allow_impersonation(ACCOUNT, REPORTS);
    within("the right", async { while client.call(get("/echo")).await.status() != 200 {} }).await;
    assert_eq!(bed.last().token.unwrap().account, REPORTS);
}

#[tokio::test]
async fn a_source_without_token_is_the_reason_until_it_has_one() {
    let world = World::new().await;
    world.google.allow_impersonation(ACCOUNT, REPORTS);
    world.google.outage(Outage::Status(500));
    let google = world.google.clone();
    let bed = world.start(|settings| {
        settings.credentials.push(named("reports", impersonation("default")));
        by(settings, "reports");
    });
    let mut client = bed.client(Door::InterceptH1, STORAGE).await;
    assert_eq!(client.call(get("/echo")).await.status(), 503);
    google.outage(Outage::None);
    within("the source", async { while client.call(get("/echo")).await.status() != 200 {} }).await;
    assert_eq!(bed.last().token.unwrap().account, REPORTS);
}

#[tokio::test]
async fn a_clusters_token_becomes_googles_and_the_kubelets_next_one_too() {
    let world = World::new().await;
    std::fs::write(world.dir.path().join("token"), "first-token\n").unwrap();
    world.google.allow_subject("first-token", PROVIDER, "principal://first");
    world.google.allow_subject("second-token", PROVIDER, "principal://second");
    let path = identity_file(world.dir.path(), false);
    let bed = world.start(|settings| {
        settings.credentials = vec![named("default", federated(path))];
    });
    let mut client = bed.client(Door::InterceptH2, STORAGE).await;
    assert_eq!(client.call(get("/echo")).await.status(), 200);
    assert_eq!(bed.last().token.unwrap().account, "principal://first");
    std::fs::write(bed.dir.path().join("token"), "second-token\n").unwrap();
    // A refresh reads the file anew.
    bed.google.revoke_all();
    assert_eq!(client.call(get("/echo")).await.status(), 200);
    assert_eq!(bed.last().token.unwrap().account, "principal://second");
}

#[tokio::test]
async fn a_federated_identity_impersonates_and_has_id_tokens_then() {
    let world = World::new().await;
    std::fs::write(world.dir.path().join("token"), "the-token").unwrap();
    world.google.allow_subject("the-token", PROVIDER, "principal://cluster");
    world.google.allow_impersonation("principal://cluster", REPORTS);
    let (path, google) = (identity_file(world.dir.path(), true), world.google.address());
    let bed = world.start(|settings| {
        settings.credentials = vec![named("default", federated(path))];
        let run = vec![HostPattern::parse("*.run.app").unwrap()];
        let id = Route { name: "run".to_owned(), token: TokenKind::Id, ..Route::google_apis(run.clone()) };
        settings.policy = Policy::new(vec![id, Route::google_apis(apis())], Unmatched::Pass, [apis(), run].concat());
        send_below(settings, "run.app", google);
    });
    assert_eq!(bed.client(Door::InterceptH2, STORAGE).await.call(get("/echo")).await.status(), 200);
    assert_eq!(bed.last().token.unwrap().account, REPORTS);
    assert_eq!(bed.client(Door::InterceptH2, "a.run.app").await.call(get("/echo")).await.status(), 200);
    let token = bed.last().token.unwrap();
    assert_eq!((token.account.as_str(), token.audience.as_deref()), (REPORTS, Some("https://a.run.app")));
}

#[tokio::test]
async fn a_subject_token_that_is_not_there_is_the_reason() {
    let world = World::new().await;
    world.google.allow_subject("late-token", PROVIDER, "principal://cluster");
    let path = identity_file(world.dir.path(), false);
    let bed = world.start(|settings| settings.credentials = vec![named("default", federated(path))]);
    let mut client = bed.client(Door::InterceptH2, STORAGE).await;
    let response = client.call(get("/echo")).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["x-bearerd-error"]),
        (503, &"subject_token".parse().unwrap())
    );
    std::fs::write(bed.dir.path().join("token"), "late-token").unwrap();
    within("the token", async { while client.call(get("/echo")).await.status() != 200 {} }).await;
}

#[tokio::test]
async fn a_token_is_made_to_do_less() {
    let world = World::new().await;
    // Somebody has to be known for STS to answer.
    world.google.allow_subject("x", "y", "z");
    let bed = world.start(|settings| {
        settings.credentials.push(named("less", less("default")));
        by(settings, "less");
    });
    assert_eq!(bed.client(Door::InterceptH2, STORAGE).await.call(get("/echo")).await.status(), 200);
    let token = bed.last().token.unwrap();
    assert_eq!((token.account.as_str(), token.scopes), (ACCOUNT, vec![BUCKET.to_owned()]));
}

#[tokio::test]
async fn a_person_s_own_credential_serves_on_a_laptop() {
    let world = World::new().await;
    world.google.allow_person("1//refresh", "me@example.com");
    let kind = person(world.dir.path(), "1//refresh");
    let bed = world.start(|settings| {
        settings.credentials = vec![named("default", kind)];
    });
    assert_eq!(bed.client(Door::InterceptH2, STORAGE).await.call(get("/echo")).await.status(), 200);
    assert_eq!(bed.last().token.unwrap().account, "me@example.com");
}

#[tokio::test]
async fn on_google_s_own_machines_the_node_s_account_serves() {
    let world = World::new().await;
    let node = FakeNode::start(&world.tasks, &world.google, NODE).await.unwrap();
    let (address, google) = (node.address(), world.google.address());
    let bed = world.start(|settings| {
        settings.credentials = vec![named("default", metadata_server())];
        send_to(settings, "metadata.google.internal", 80, address);
        let run = vec![HostPattern::parse("*.run.app").unwrap()];
        let id = Route { name: "run".to_owned(), token: TokenKind::Id, ..Route::google_apis(run.clone()) };
        settings.policy = Policy::new(vec![id, Route::google_apis(apis())], Unmatched::Pass, [apis(), run].concat());
        send_below(settings, "run.app", google);
    });
    for door in DOORS {
        assert_eq!(bed.client(door, STORAGE).await.call(get("/echo")).await.status(), 200, "{door:?}");
        assert_eq!(bed.last().token.unwrap().account, NODE);
    }
    assert_eq!(bed.client(Door::InterceptH2, "a.run.app").await.call(get("/echo")).await.status(), 200);
    let token = bed.last().token.unwrap();
    assert_eq!((token.account.as_str(), token.audience.as_deref()), (NODE, Some("https://a.run.app")));
    let account = "/computeMetadata/v1/instance/service-accounts/default";
    assert_eq!(
        node.asked(),
        [
            format!("{account}/token?scopes=https%3A%2F%2Fwww%2Egoogleapis%2Ecom%2Fauth%2Fcloud%2Dplatform"),
            format!("{account}/email"),
            format!("{account}/identity?audience=https%3A%2F%2Fa%2Erun%2Eapp&format=full"),
        ]
    );
}

/// The rule for clients stays what it was, also where we ask there ourselves.
#[tokio::test]
async fn clients_never_reach_the_metadata_server_that_the_sidecar_asks() {
    let world = World::new().await;
    let node = FakeNode::start(&world.tasks, &world.google, NODE).await.unwrap();
    let address = node.address();
    let bed = world.start(|settings| {
        settings.credentials = vec![named("default", metadata_server())];
        send_to(settings, "metadata.google.internal", 80, address);
    });
    assert_eq!(bed.client(Door::InterceptH2, STORAGE).await.call(get("/echo")).await.status(), 200);
    let asked = node.asked().len();
    for place in ["metadata.google.internal", "169.254.169.254", "[fd20:ce::254]"] {
        let mut client = bed.client(Door::Forward, place).await;
        let target = format!("http://{place}/computeMetadata/v1/instance/service-accounts/default/token");
        let response = client.call(get_with(&target, &[("metadata-flavor", "Google")])).await;
        // The name is served by our own door, with a placeholder; the addresses by nobody.
        let body = String::from_utf8_lossy(response.body()).into_owned();
        assert!(bed.google.tokens().iter().all(|(token, _)| !body.contains(token)), "{place}: {body}");
        assert!(bed.tunnel(&format!("{place}:80")).await.is_err(), "{place}");
    }
    assert_eq!(node.asked().len(), asked);
}

#[tokio::test]
async fn a_source_whose_token_google_would_not_have_gets_another() {
    let world = World::new().await;
    world.google.allow_impersonation(ACCOUNT, REPORTS);
    let bed = world.start(|settings| {
        settings.credentials.push(named("reports", impersonation("default")));
        by(settings, "reports");
    });
    let mut client = bed.client(Door::InterceptH2, STORAGE).await;
    assert_eq!(client.call(get("/echo")).await.status(), 200);
    bed.google.revoke_all();
    within("another token of both", async { while client.call(get("/echo")).await.status() != 200 {} }).await;
}

const BUCKET: &str = "//storage.googleapis.com/projects/_/buckets/cells";
