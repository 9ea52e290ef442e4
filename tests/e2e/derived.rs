//! Credentials that are no key: federated, impersonating, downscoped, a person's, the node's.

use std::{path::PathBuf, time::Duration};

use bearerd::{
    app::Settings,
    credential::{CredentialName, Impersonated, Kind, Rule, Spec, expand_scope},
    demo::{Admission, Outage},
    policy::{HostPattern, Policy, Route, TokenKind, Unmatched},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::{
    bed::{ACCOUNT, Bed, STORAGE, World, apis, send_below, send_to},
    client::{DOORS, Door, get, within},
};

const PROVIDER: &str =
    "//iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/pool/providers/cluster";
const REPORTS: &str = "reports@demo-project.iam.gserviceaccount.com";

fn named(name: &str, kind: Kind) -> Spec {
    Spec { name: CredentialName::new(name), kind }
}

fn impersonation(source: &str) -> Kind {
    let impersonated = Impersonated {
        account: REPORTS.to_owned(),
        delegates: Vec::new(),
        scopes: vec![expand_scope("bigquery")],
        lifetime: Duration::from_secs(3600),
    };
    Kind::Impersonation { source: CredentialName::new(source), impersonated }
}

fn federated(path: PathBuf) -> Kind {
    Kind::ExternalAccount { path, scopes: vec![expand_scope("cloud-platform")], account: None }
}

/// The file of a federated identity whose token lies in `token`.
fn identity_file(world: &World, impersonates: bool) -> PathBuf {
    let mut file = serde_json::json!({
        "type": "external_account",
        "audience": PROVIDER,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": "https://sts.googleapis.com/v1/token",
        "credential_source": {"file": world.dir.path().join("token")},
    });
    if impersonates {
        file["service_account_impersonation_url"] = format!(
            "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{REPORTS}:generateAccessToken"
        )
        .into();
    }
    let path = world.dir.path().join("identity.json");
    std::fs::write(&path, file.to_string()).unwrap();
    path
}

/// All requests by the credential `name`.
fn by(settings: &mut Settings, name: &str) {
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
    let path = identity_file(&world, false);
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
    let (path, google) = (identity_file(&world, true), world.google.address());
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
    let path = identity_file(&world, false);
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
    let bucket = "//storage.googleapis.com/projects/_/buckets/cells";
    let bed = world.start(|settings| {
        let rule = Rule {
            resource: bucket.to_owned(),
            permissions: vec!["inRole:roles/storage.objectViewer".to_owned()],
            condition: String::new(),
        };
        let source = CredentialName::new("default");
        settings.credentials.push(named("less", Kind::Downscoped { source, rules: vec![rule] }));
        by(settings, "less");
    });
    assert_eq!(bed.client(Door::InterceptH2, STORAGE).await.call(get("/echo")).await.status(), 200);
    let token = bed.last().token.unwrap();
    assert_eq!((token.account.as_str(), token.scopes), (ACCOUNT, vec![bucket.to_owned()]));
}

#[tokio::test]
async fn a_person_s_own_credential_serves_on_a_laptop() {
    let world = World::new().await;
    world.google.allow_person("1//refresh", "me@example.com");
    let path = world.dir.path().join("person.json");
    let file = r#"{"type":"authorized_user","client_id":"id","client_secret":"secret","refresh_token":"1//refresh"}"#;
    std::fs::write(&path, file).unwrap();
    let bed = world.start(|settings| {
        settings.credentials = vec![named("default", Kind::AuthorizedUser { path, scopes: Vec::new() })];
    });
    assert_eq!(bed.client(Door::InterceptH2, STORAGE).await.call(get("/echo")).await.status(), 200);
    assert_eq!(bed.last().token.unwrap().account, "me@example.com");
}

/// A metadata server that gives the token `text` to whoever asks as SDKs do, and is told what was asked.
async fn node(world: &World, flavor: &'static str, text: String) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    world.tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 4096];
            let length = stream.read(&mut head).await.unwrap_or_default();
            let head = String::from_utf8_lossy(&head[..length]).to_ascii_lowercase();
            let is_good = head.starts_with("get /computemetadata/v1/instance/service-accounts/default/token?scopes=")
                && head.contains("metadata-flavor: google")
                && head.contains("host: metadata.google.internal\r\n");
            let body = format!(r#"{{"access_token":"{text}","expires_in":3000,"token_type":"Bearer"}}"#);
            let status = if is_good { "200 OK" } else { "403 Forbidden" };
            let answer = format!(
                "HTTP/1.1 {status}\r\nMetadata-Flavor: {flavor}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    address
}

#[tokio::test]
async fn on_google_s_own_machines_the_node_s_account_serves() {
    let world = World::new().await;
    let token = world.google.mint("node@demo-project.iam.gserviceaccount.com");
    let address = node(&world, "Google", token).await;
    let bed = world.start(|settings| {
        settings.credentials =
            vec![named("default", Kind::MetadataServer { scopes: vec![expand_scope("cloud-platform")] })];
        send_to(settings, "metadata.google.internal", 80, address);
    });
    assert_eq!(bed.client(Door::InterceptH2, STORAGE).await.call(get("/echo")).await.status(), 200);
    assert_eq!(bed.last().token.unwrap().account, "node@demo-project.iam.gserviceaccount.com");
}

#[tokio::test]
async fn what_is_no_metadata_server_gives_no_token() {
    let world = World::new().await;
    let token = world.google.mint("node@demo-project.iam.gserviceaccount.com");
    let address = node(&world, "Other", token).await;
    let bed = world.start(|settings| {
        settings.credentials =
            vec![named("default", Kind::MetadataServer { scopes: vec![expand_scope("cloud-platform")] })];
        send_to(settings, "metadata.google.internal", 80, address);
    });
    let response = bed.client(Door::InterceptH2, STORAGE).await.call(get("/echo")).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["x-bearerd-error"]),
        (503, &"bad_answer".parse().unwrap())
    );
    assert_eq!(bed.google.request_count(), 0);
}

/// Four identities, one host each and one by its path, 200 requests at once, and keys that rotate meanwhile.
#[tokio::test]
async fn no_request_ever_carries_another_identity_s_token() {
    const ACCOUNTS: [&str; 3] = [
        "a@demo-project.iam.gserviceaccount.com",
        "b@demo-project.iam.gserviceaccount.com",
        "c@demo-project.iam.gserviceaccount.com",
    ];
    let world = World::new().await;
    world.google.allow_impersonation(ACCOUNTS[0], REPORTS);
    for (account, name) in ACCOUNTS.iter().zip(["a", "b", "c"]) {
        let key = world.google.add_account(account, "demo-project").unwrap();
        std::fs::create_dir(world.dir.path().join(name)).unwrap();
        std::fs::write(world.dir.path().join(name).join("key.json"), key.json()).unwrap();
    }
    let dir = world.dir.path().to_owned();
    let bed = world.start(|settings| {
        settings.credentials = ["a", "b", "c"].map(|name| crate::bed::credential(name, dir.join(name))).to_vec();
        settings.credentials.push(named("reports", impersonation("a")));
        let route = |name: &str, host: &str, paths: &[&str]| Route {
            name: format!("{name}{}", paths.len()),
            credential: name.to_owned(),
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            ..Route::google_apis(vec![HostPattern::parse(host).unwrap()])
        };
        let routes = vec![
            route("c", "storage.googleapis.com", &["/echo/of-c"]),
            route("a", "storage.googleapis.com", &[]),
            route("b", "pubsub.googleapis.com", &[]),
            route("reports", "bigquery.googleapis.com", &[]),
        ];
        settings.policy = Policy::new(routes, Unmatched::Pass, apis());
    });
    let targets = [
        ("storage.googleapis.com", "/echo/of-c", ACCOUNTS[2]),
        ("storage.googleapis.com", "/echo/of-a", ACCOUNTS[0]),
        ("pubsub.googleapis.com", "/echo/of-b", ACCOUNTS[1]),
        ("bigquery.googleapis.com", "/echo/of-reports", REPORTS),
    ];
    let ask = async |number: usize, bed: &Bed| {
        let (host, path, _) = targets[number % 4];
        let door = DOORS[number % 3];
        let status = bed.client(door, host).await.call(get(path)).await.status();
        assert!([200, 404].contains(&status.as_u16()), "{status} {host}{path}");
    };
    for round in 0..3 {
        let all = (0..200).map(|number| ask(number, &bed));
        futures_util::future::join_all(all).await;
        for (account, name) in ACCOUNTS.iter().zip(["a", "b", "c"]) {
            let next = bed.google.add_key(account).unwrap();
            std::fs::write(dir.join(name).join(format!("key-{round}.json")), next.json()).unwrap();
        }
    }
    let requests = bed.google.requests();
    assert!(requests.len() >= 600);
    for request in &requests {
        assert_eq!(request.admission, Admission::Token);
        let (_, _, account) = targets.iter().find(|(_, path, _)| request.target.starts_with(path)).unwrap();
        assert_eq!(request.token.as_ref().unwrap().account, *account, "{}", request.target);
    }
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
