//! A cluster's own tokens: verified by STS, renewed by the kubelet, late, spent and from elsewhere; by file and by URL.

use std::time::Duration;

use bearerd::{
    clock::Clock,
    demo::{KeyFile, RecordingHost},
};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::{
    bed::{ACCOUNT, Bed, STORAGE, World},
    capture,
    client::{Door, get, recorded, within},
    derived::{PROVIDER, REPORTS, by, federated, identity_file, identity_from, less, named, person},
    raw,
};

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const SUBJECT: &str = "system:serviceaccount:shop:web";
const PRINCIPAL: &str = "principal://iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/pool/\
                         subject/system:serviceaccount:shop:web";

/// Longer than any test takes, also where time runs fast.
const MONTH: u64 = 30 * 86_400;

/// The cluster's signing key, known to the provider.
fn cluster(world: &World) -> KeyFile {
    let key = KeyFile::generate("cluster@example.com", "p").unwrap();
    world.google.allow_cluster(PROVIDER, ISSUER, &key);
    key
}

/// What the kubelet would put into the volume, changed.
fn token(key: &KeyFile, change: impl FnOnce(&mut Value)) -> String {
    let now = Clock::system().wall().seconds();
    let mut claims = json!({
        "iss": ISSUER, "sub": SUBJECT, "aud": [format!("https:{PROVIDER}")], "iat": now, "exp": now + MONTH,
        "kubernetes.io": {"namespace": "shop", "serviceaccount": {"name": "web"}},
    });
    change(&mut claims);
    let signer = jsonwebtoken::EncodingKey::from_rsa_pem(key.pem().as_bytes()).unwrap();
    jsonwebtoken::encode(&jsonwebtoken::Header::new(jsonwebtoken::Algorithm::RS256), &claims, &signer).unwrap()
}

fn failures(bed: &Bed, reason: &str) -> u64 {
    bed.metric(&format!("token_refresh_failures_total{{credential=\"default\",reason=\"{reason}\"}}"))
}

async fn failed(bed: &Bed, reason: &str, more_than: u64) {
    crate::client::eventually(reason, || failures(bed, reason) > more_than).await;
}

#[tokio::test]
async fn the_kubelet_s_token_is_verified_and_its_next_one_taken() {
    let world = World::new().await;
    let key = cluster(&world);
    let dir = world.dir.path().to_owned();
    std::fs::write(dir.join("token"), token(&key, |_| {}) + "\n").unwrap();
    let path = identity_file(&dir, false);
    let bed = world.start(|settings| settings.credentials = vec![named("default", federated(path))]);
    let mut client = bed.client(Door::InterceptH2, STORAGE).await;
    assert_eq!(client.call(get("/echo")).await.status(), 200);
    assert_eq!(bed.last().token.unwrap().account, PRINCIPAL);
    let next = token(&key, |claims| claims["sub"] = "system:serviceaccount:shop:next".into());
    // As the kubelet does it: a new file in the old one's place.
    std::fs::write(dir.join("..token"), &next).unwrap();
    std::fs::rename(dir.join("..token"), dir.join("token")).unwrap();
    bed.google.revoke_all();
    assert_eq!(client.call(get("/echo")).await.status(), 200);
    assert_eq!(bed.last().token.unwrap().account, PRINCIPAL.replace("web", "next"));
    assert!(!capture::log().contains(&next), "a subject token was logged");
}

#[tokio::test]
async fn a_cluster_s_token_that_google_would_not_have_is_told_apart_and_the_next_is_taken_soon() {
    let world = World::at(Clock::fast(300)).await;
    let (key, stranger) = (cluster(&world), KeyFile::generate("x@example.com", "p").unwrap());
    let dir = world.dir.path().to_owned();
    let bad = [
        (token(&stranger, |_| {}), "invalid_signature"),
        (token(&key, |claims| claims["iss"] = "https://elsewhere.test".into()), "invalid_grant"),
        (token(&key, |claims| claims["aud"] = json!(["https://elsewhere.test"])), "invalid_request"),
        (token(&key, |claims| claims["exp"] = 1_000_000_000.into()), "invalid_grant"),
        ("eyJhbGciOiJub25lIn0.e30.".to_owned(), "invalid_signature"),
        ("not-a-jwt".to_owned(), "invalid_signature"),
    ];
    std::fs::write(dir.join("token"), &bad[0].0).unwrap();
    let path = identity_file(&dir, false);
    let bed = world.start(|settings| settings.credentials = vec![named("default", federated(path))]);
    for (token, reason) in &bad {
        let before = failures(&bed, reason);
        std::fs::write(dir.join("token"), token).unwrap();
        // One that was under way may have read the last one.
        failed(&bed, reason, before + 1).await;
        assert!(!capture::log().contains(token.as_str()), "a subject token was logged");
    }
    assert_eq!(bed.google.request_count(), 0);
    std::fs::write(dir.join("token"), token(&key, |_| {})).unwrap();
    let mut client = bed.client(Door::InterceptH2, STORAGE).await;
    within("the good token", async { while client.call(get("/echo")).await.status() != 200 {} }).await;
    assert_eq!(bed.last().token.unwrap().account, PRINCIPAL);
}

/// `HTTP/1.1 200 OK` with this body.
fn ok(body: &str) -> bytes::Bytes {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into()
}

#[tokio::test]
async fn a_subject_token_comes_by_url_as_text_or_json_with_the_file_s_headers() {
    for in_json in [false, true] {
        let world = World::new().await;
        let key = cluster(&world);
        let token = token(&key, |_| {});
        let answer = if in_json { json!({"value": token, "other": 7}).to_string() } else { format!(" {token}\n") };
        let host = RecordingHost::start(&world.tasks, Some(ok(&answer))).await.unwrap();
        let mut source = json!({
            "url": format!("http://{}/identity?resource=x", host.address()), "headers": {"Metadata": "True"},
        });
        if in_json {
            source["format"] = json!({"type": "json", "subject_token_field_name": "value"});
        }
        let path = identity_from(world.dir.path(), &source, false);
        let bed = world.start(|settings| settings.credentials = vec![named("default", federated(path))]);
        assert_eq!(bed.client(Door::InterceptH2, STORAGE).await.call(get("/echo")).await.status(), 200);
        assert_eq!(bed.last().token.unwrap().account, PRINCIPAL);
        recorded(&host, |seen| !seen.is_empty()).await;
        let asked = String::from_utf8(host.connections()[0].bytes.clone()).unwrap().to_ascii_lowercase();
        assert!(asked.starts_with("get /identity?resource=x http/1.1\r\n"), "{asked}");
        assert!(asked.contains("\r\nmetadata: true\r\n") && !asked.contains("authorization"), "{asked}");
        assert!(!capture::log().contains(&token), "a subject token was logged");
    }
}

#[tokio::test]
async fn a_redirect_of_the_subject_token_s_place_is_not_followed() {
    let world = World::at(Clock::fast(50)).await;
    cluster(&world);
    let elsewhere = RecordingHost::start(&world.tasks, Some(ok("token"))).await.unwrap();
    let moved = format!("HTTP/1.1 302 Found\r\nLocation: http://{}/\r\nContent-Length: 0\r\n\r\n", elsewhere.address());
    let host = RecordingHost::start(&world.tasks, Some(moved.into())).await.unwrap();
    let source = json!({"url": format!("http://{}/", host.address())});
    let path = identity_from(world.dir.path(), &source, false);
    let bed = world.start(|settings| settings.credentials = vec![named("default", federated(path))]);
    failed(&bed, "subject_token", 1).await;
    assert!(elsewhere.connections().is_empty());
}

/// Python's library reads all of this before it asks for anything.
#[tokio::test]
async fn sdks_find_somebody_at_the_metadata_door_whoever_the_identity_is() {
    for (kind, email, project) in [
        ("federated", "default@bearerd.invalid", None),
        ("impersonating", REPORTS, Some("demo-project")),
        ("downscoped", ACCOUNT, Some("demo-project")),
        ("person", "default@bearerd.invalid", None),
    ] {
        let world = World::new().await;
        let key = cluster(&world);
        let dir = world.dir.path().to_owned();
        std::fs::write(dir.join("token"), token(&key, |_| {})).unwrap();
        world.google.allow_impersonation(PRINCIPAL, REPORTS);
        world.google.allow_person("1//refresh", "me@example.com");
        let bed = world.start(|settings| {
            let plain = settings.credentials.remove(0);
            let of_default = match kind {
                "downscoped" => {
                    settings.credentials.push(bearerd::credential::Spec { name: "key".into(), ..plain });
                    less("key")
                }
                "person" => person(&dir, "1//refresh"),
                _ => federated(identity_file(&dir, kind == "impersonating")),
            };
            settings.credentials.push(named("default", of_default));
            by(settings, "default");
        });
        let account = ask(&bed, "instance/service-accounts/default/?recursive=true").await;
        let account: Value = serde_json::from_slice(&account.body).unwrap();
        assert_eq!(account["email"], email, "{kind}");
        let found = ask(&bed, "project/project-id").await;
        assert_eq!(
            (found.status() == 200).then_some(found.body),
            project.map(|name| name.as_bytes().to_vec()),
            "{kind}"
        );
        assert_eq!(ask(&bed, "instance/service-accounts/default/token").await.status(), 200, "{kind}");
        assert_eq!(bed.client(Door::InterceptH2, STORAGE).await.call(get("/echo")).await.status(), 200, "{kind}");
    }
}

async fn ask(bed: &Bed, path: &str) -> raw::Answer {
    let mut stream = TcpStream::connect(bed.addresses.metadata.unwrap()).await.unwrap();
    let head = format!("GET /computeMetadata/v1/{path} HTTP/1.1\r\nHost: metadata.google.internal\r\n");
    raw::write(&mut stream, format!("{head}Metadata-Flavor: Google\r\n\r\n").as_bytes()).await;
    within("an answer of the metadata door", raw::answer(&mut stream)).await
}

/// Each kind, its own endpoint down until the token has ended, and up again.
#[tokio::test]
async fn every_kind_serves_through_an_outage_and_comes_back() {
    const KINDS: [(&str, &str); 5] = [
        ("federated", "sts.googleapis.com"),
        ("impersonation", "iamcredentials.googleapis.com"),
        ("downscoped", "sts.googleapis.com"),
        ("person", ""),
        ("node", ""),
    ];
    for (kind, host) in KINDS {
        let world = World::at(Clock::fast(200)).await;
        world.google.script(|script| {
            script.lifetime = Duration::from_secs(400);
            // So that nobody waits in vain.
            script.retry_after = Some("30".to_owned());
        });
        let key = cluster(&world);
        let dir = world.dir.path().to_owned();
        std::fs::write(dir.join("token"), token(&key, |_| {})).unwrap();
        world.google.allow_impersonation(ACCOUNT, REPORTS);
        world.google.allow_person("1//refresh", "me@example.com");
        let node = bearerd::demo::FakeNode::start(&world.tasks, &world.google, crate::derived::NODE).await.unwrap();
        let at = node.address();
        let bed = world.start(|settings| {
            let kind = match kind {
                "federated" => federated(identity_file(&dir, false)),
                "impersonation" => brief(crate::derived::impersonation("default")),
                "downscoped" => less("default"),
                "person" => person(&dir, "1//refresh"),
                _ => crate::derived::metadata_server(),
            };
            settings.credentials.push(named("it", kind));
            by(settings, "it");
            crate::bed::send_to(settings, "metadata.google.internal", 80, at);
        });
        let outage = |is_down: bool| match kind {
            "person" => bed.google.outage(if is_down { DOWN } else { bearerd::demo::Outage::None }),
            "node" => node.trouble(if is_down {
                bearerd::demo::NodeTrouble::Status(503)
            } else {
                bearerd::demo::NodeTrouble::None
            }),
            _ => bed.google.answer_at(host, is_down.then_some((503, ""))),
        };
        let mut client = bed.client(Door::InterceptH2, STORAGE).await;
        within("the first token", async { while client.call(get("/echo")).await.status() != 200 {} }).await;
        outage(true);
        let unavailable = within("the token's end", async {
            loop {
                let response = client.call(get("/echo")).await;
                match response.status().as_u16() {
                    200 => tokio::task::yield_now().await,
                    _ => return response,
                }
            }
        })
        .await;
        assert_eq!(unavailable.status(), 503, "{kind}");
        assert_eq!(unavailable.headers()["x-bearerd-error"], "unavailable", "{kind}");
        outage(false);
        within("the recovery", async { while client.call(get("/echo")).await.status() != 200 {} }).await;
    }
}

const DOWN: bearerd::demo::Outage = bearerd::demo::Outage::Status(503);

/// With tokens that end as soon as the others.
fn brief(kind: bearerd::credential::Kind) -> bearerd::credential::Kind {
    let bearerd::credential::Kind::Impersonation { source, mut impersonated } = kind else { unreachable!() };
    impersonated.lifetime = Duration::from_secs(400);
    bearerd::credential::Kind::Impersonation { source, impersonated }
}
