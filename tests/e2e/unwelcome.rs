//! What may come in place of a token: from STS, `iamcredentials`, a metadata server, and where subject tokens lie. Each
//! is told by its reason, nothing ends or waits for ever, and the credential beside it never notices.

use std::{path::Path, time::Duration};

use bearerd::{
    app::Settings,
    clock::Clock,
    credential::Kind,
    demo::{FakeNode, NodeTrouble, Outage},
    policy::{HostPattern, Policy, Route, Unmatched},
};
use serde_json::json;

use crate::{
    bed::{ACCOUNT, Bed, STORAGE, World, apis, send_to},
    capture,
    client::{Door, eventually, get, within},
    derived::{
        NODE, PROVIDER, REPORTS, federated, identity_file, identity_from, impersonation, less, metadata_server, named,
        person,
    },
};

const BIGQUERY: &str = "bigquery.googleapis.com";
const STS: &str = "sts.googleapis.com";
const IAM: &str = "iamcredentials.googleapis.com";

/// A credential `it` for BigQuery beside the good one, which has tokens for all of the test. Time runs fast: a refused
/// identity rests for minutes.
async fn world() -> World {
    let world = World::at(Clock::fast(300)).await;
    world.google.script(|script| script.lifetime = Duration::from_secs(36_000));
    world.google.allow_subject("the-subject-token", PROVIDER, "principal://it");
    world.google.allow_person("1//the-refresh-token", "me@example.com");
    world
}

fn beside(settings: &mut Settings, kind: Kind) {
    settings.credentials.push(named("it", kind));
    let hosts = vec![HostPattern::parse(BIGQUERY).unwrap()];
    let route = Route { name: "it".to_owned(), credential: "it".to_owned(), ..Route::google_apis(hosts) };
    settings.policy = Policy::new(vec![route, Route::google_apis(apis())], Unmatched::Pass, apis());
}

fn failures(bed: &Bed, reason: &str) -> u64 {
    bed.metric(&format!("token_refresh_failures_total{{credential=\"it\",reason=\"{reason}\"}}"))
}

/// After `change` the credential fails for this reason, and the one beside it does not.
async fn told(bed: &Bed, what: &str, reason: &str, change: impl FnOnce()) {
    let before = failures(bed, reason);
    change();
    // The attempt that was under way may have met what was there before.
    eventually(&format!("{what}: {reason}"), || failures(bed, reason) > before + 1).await;
    let mut client = bed.client(Door::InterceptH2, STORAGE).await;
    assert_eq!(client.call(get("/echo")).await.status(), 200, "{what}");
    assert_eq!(bed.last().token.unwrap().account, ACCOUNT, "{what}");
    let log = capture::log();
    for secret in ["the-subject-token", "1//the-refresh-token", "hunter2"] {
        assert!(!log.contains(secret), "{what}: {secret} was logged");
    }
}

async fn recovers(bed: &Bed, account: &str) {
    let mut client = bed.client(Door::InterceptH2, BIGQUERY).await;
    within("the recovery", async { while client.call(get("/echo")).await.status() != 200 {} }).await;
    assert_eq!(bed.last().token.unwrap().account, account);
}

/// What both STS and `iamcredentials` may answer, and the reason.
fn answers_of_both() -> Vec<(u16, String, &'static str)> {
    let long = "x".repeat(70_000);
    [
        (500, "", "unavailable"),
        (502, "<html><title>Error 502</title></html>", "unavailable"),
        (503, r#"{"error":{"code":503,"status":"UNAVAILABLE","message":"try again"}}"#, "unavailable"),
        (429, r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED"}}"#, "rate_limited"),
        (302, "", "redirect"),
        (307, "{}", "redirect"),
        (200, "", "bad_answer"),
        (200, "<html></html>", "bad_answer"),
        (200, "{}", "bad_answer"),
        (200, "[]", "bad_answer"),
        (200, "null", "bad_answer"),
        (200, "\u{feff}{}", "bad_answer"),
        (200, long.as_str(), "too_large"),
    ]
    .map(|(status, body, reason)| (status, body.to_owned(), reason))
    .into()
}

#[tokio::test]
async fn whatever_sts_answers_has_its_reason() {
    let world = world().await;
    let dir = world.dir.path().to_owned();
    std::fs::write(dir.join("token"), "the-subject-token").unwrap();
    world.google.answer_at(STS, Some((500, "")));
    let bed = world.start(|settings| beside(settings, federated(identity_file(&dir, false))));
    let own = [
        (400, r#"{"error":"invalid_target","error_description":"the pool is deleted"}"#, "invalid_request"),
        (400, r#"{"error":"invalid_request"}"#, "invalid_request"),
        (400, r#"{"error":"invalid_grant","error_description":"ID Token is stale to sign-in."}"#, "invalid_grant"),
        (400, r#"{"error":"invalid_grant","error_description":"Invalid JWT signature."}"#, "invalid_signature"),
        (401, r#"{"error":"unauthorized_client"}"#, "unauthorized"),
        (403, r#"{"error":{"code":403,"status":"PERMISSION_DENIED","message":"disabled"}}"#, "permission_denied"),
        (403, "<html>unusual traffic</html>", "rate_limited"),
        (404, "{}", "invalid_request"),
        (418, "{}", "unknown"),
        (200, r#"{"access_token":"a b","expires_in":3599}"#, "bad_answer"),
        (200, r#"{"access_token":"","expires_in":3599}"#, "bad_answer"),
        (200, r#"{"access_token":7,"expires_in":3599}"#, "bad_answer"),
        (200, r#"{"access_token":"ya29.x"}"#, "bad_answer"),
        (200, r#"{"access_token":"ya29.x","expires_in":3599,"token_type":"N_A"}"#, "bad_answer"),
        (200, r#"{"access_token":"ya29.x","expires_in":5}"#, "short_lived"),
        (200, r#"{"access_token":"ya29.x","expires_in":-1}"#, "short_lived"),
        (200, r#"{"access_token":"ya29.x","expires_in":"never"}"#, "bad_answer"),
    ]
    .map(|(status, body, reason)| (status, body.to_owned(), reason));
    for (status, body, reason) in own.into_iter().chain(answers_of_both()) {
        let what = format!("{status} {}", body.chars().take(80).collect::<String>());
        told(&bed, &what, reason, || bed.google.answer_at(STS, Some((status, &body)))).await;
    }
    bed.google.answer_at(STS, None);
    recovers(&bed, "principal://it").await;
}

#[tokio::test]
async fn whatever_iamcredentials_answers_has_its_reason() {
    let world = world().await;
    world.google.allow_impersonation(ACCOUNT, REPORTS);
    world.google.answer_at(IAM, Some((500, "")));
    let bed = world.start(|settings| beside(settings, impersonation("default")));
    let own = [
        (403, r#"{"error":{"code":403,"status":"PERMISSION_DENIED","message":"denied"}}"#, "permission_denied"),
        (404, r#"{"error":{"code":404,"status":"NOT_FOUND"}}"#, "account_not_found"),
        (400, r#"{"error":{"code":400,"status":"INVALID_ARGUMENT","message":"lifetime"}}"#, "invalid_request"),
        (401, r#"{"error":{"code":401,"status":"UNAUTHENTICATED"}}"#, "unauthorized"),
        (200, r#"{"accessToken":"ya29.x"}"#, "bad_answer"),
        (200, r#"{"accessToken":"ya29.x","expireTime":"tomorrow"}"#, "bad_answer"),
        (200, r#"{"accessToken":"ya29.x","expireTime":"2001-01-01T00:00:00Z"}"#, "short_lived"),
        (200, r#"{"accessToken":"ya29\nx","expireTime":"2099-01-01T00:00:00Z"}"#, "bad_answer"),
        (200, r#"{"access_token":"ya29.x","expires_in":3599}"#, "bad_answer"),
    ]
    .map(|(status, body, reason)| (status, body.to_owned(), reason));
    for (status, body, reason) in own.into_iter().chain(answers_of_both()) {
        let what = format!("{status} {}", body.chars().take(80).collect::<String>());
        told(&bed, &what, reason, || bed.google.answer_at(IAM, Some((status, &body)))).await;
    }
    bed.google.answer_at(IAM, None);
    recovers(&bed, REPORTS).await;
}

/// Puts something where the subject token should lie.
fn put(dir: &Path, what: &str) {
    let place = dir.join("token");
    let _ = std::fs::remove_file(&place);
    let _ = std::fs::remove_dir(&place);
    let write = |content: &[u8]| std::fs::write(&place, content).unwrap();
    match what {
        "nothing" => {}
        "a directory" => std::fs::create_dir(&place).unwrap(),
        "a link to nowhere" => std::os::unix::fs::symlink("/nowhere/at/all", &place).unwrap(),
        "a link to itself" => std::os::unix::fs::symlink(&place, &place).unwrap(),
        "a device" => std::os::unix::fs::symlink("/dev/zero", &place).unwrap(),
        "too much" => write(&[b'x'; 100_000]),
        "no text" => write(b"\xff\xfe\x00"),
        content => write(content.as_bytes()),
    }
}

#[tokio::test]
async fn whatever_lies_where_the_subject_token_should_has_its_reason() {
    let things = [
        "nothing",
        "",
        " \n\t",
        "two words",
        "a\0b",
        "a directory",
        "a link to nowhere",
        "a link to itself",
        "a device",
    ];
    let world = world().await;
    let dir = world.dir.path().to_owned();
    let bed = world.start(|settings| beside(settings, federated(identity_file(&dir, false))));
    for what in things.into_iter().chain(["too much", "no text"]) {
        told(&bed, what, "subject_token", || put(&dir, what)).await;
    }
    put(&dir, "the-subject-token\r\n");
    recovers(&bed, "principal://it").await;
}

#[tokio::test]
async fn whatever_json_the_subject_token_should_be_in_has_its_reason() {
    let things =
        ["nothing", "{", "[]", "{}", "\"x\"", r#"{"id":7}"#, r#"{"id":""}"#, r#"{"id":{"id":"x"}}"#, r#"{"ID":"x"}"#];
    let world = world().await;
    let dir = world.dir.path().to_owned();
    let format = json!({"type": "json", "subject_token_field_name": "id"});
    let source = json!({"file": dir.join("token"), "format": format});
    let bed = world.start(|settings| beside(settings, federated(identity_from(&dir, &source, false))));
    for what in things {
        told(&bed, what, "subject_token", || put(&dir, what)).await;
    }
    put(&dir, r#"{"id":"the-subject-token\n"}"#);
    recovers(&bed, "principal://it").await;
}

#[tokio::test]
async fn whatever_answers_in_place_of_the_metadata_server_has_its_reason() {
    let world = world().await;
    let node = FakeNode::start(&world.tasks, &world.google, NODE).await.unwrap();
    node.trouble(NodeTrouble::Status(503));
    let address = node.address();
    let bed = world.start(|settings| {
        beside(settings, metadata_server());
        send_to(settings, "metadata.google.internal", 80, address);
    });
    for (trouble, reason) in [
        (NodeTrouble::Stranger, "bad_answer"),
        (NodeTrouble::OtherFlavor, "bad_answer"),
        (NodeTrouble::Status(403), "unavailable"),
        (NodeTrouble::Status(404), "account_not_found"),
        (NodeTrouble::Status(429), "rate_limited"),
        (NodeTrouble::Status(500), "unavailable"),
        (NodeTrouble::Empty, "bad_answer"),
        (NodeTrouble::Redirect, "unavailable"),
    ] {
        told(&bed, &format!("{trouble:?}"), reason, || node.trouble(trouble)).await;
    }
    node.trouble(NodeTrouble::None);
    recovers(&bed, NODE).await;
}

#[tokio::test]
async fn a_person_s_token_that_google_would_not_have_has_its_reason() {
    let world = world().await;
    let dir = world.dir.path().to_owned();
    world.google.forbid_person("1//the-refresh-token");
    world.google.allow_person("1//another", "other@example.com");
    let bed = world.start(|settings| beside(settings, person(&dir, "1//the-refresh-token")));
    told(&bed, "a refresh token that is over", "invalid_grant", || {}).await;
    for (status, error, reason) in [
        (401, "invalid_client", "invalid_client"),
        (400, "invalid_scope", "invalid_scope"),
        (400, "admin_policy_enforced", "unauthorized"),
        (500, "internal_failure", "unavailable"),
    ] {
        let trouble = Outage::Error { status, error, description: "" };
        told(&bed, error, reason, || bed.google.outage(trouble)).await;
    }
    bed.google.outage(Outage::None);
    bed.google.allow_person("1//the-refresh-token", "me@example.com");
    recovers(&bed, "me@example.com").await;
}

/// Files that are no credential of the kind that was configured: told by field, and the last good one stays.
#[tokio::test]
async fn a_file_of_another_kind_is_refused_and_the_last_good_one_stays() {
    let world = world().await;
    let dir = world.dir.path().to_owned();
    std::fs::write(dir.join("token"), "the-subject-token").unwrap();
    let path = identity_file(&dir, false);
    let good = std::fs::read_to_string(&path).unwrap();
    let bed = world.start(|settings| beside(settings, federated(path.clone())));
    recovers(&bed, "principal://it").await;
    let with = |pointer: &str, value: serde_json::Value| {
        let mut file: serde_json::Value = serde_json::from_str(&good).unwrap();
        file[pointer] = value;
        file.to_string()
    };
    for (content, said) in [
        (bed.key.json(), "`type` must be `external_account`"),
        ("{".to_owned(), "cut short"),
        (String::new(), "empty"),
        (with("token_url", json!("https://evil.test/v1/token")), "`token_url` must be"),
        (with("credential_source", json!({"executable": {"command": "/bin/x"}})), "`executable` runs a program"),
        (with("credential_source", json!({"environment_id": "aws1"})), "AWS's requests (`environment_id`)"),
        (with("credential_source", json!({"certificate": {}})), "`certificate` wants mutual TLS"),
        (with("credential_source", json!({"file": "/a", "url": "http://b"})), "both `file` and `url` are given"),
        (with("client_secret", json!("hunter2")), "`client_id` and `client_secret`"),
    ] {
        // By a rename, so that no torn file is seen in between.
        std::fs::write(dir.join("..next"), &content).unwrap();
        std::fs::rename(dir.join("..next"), &path).unwrap();
        eventually(said, || capture::log().contains(said)).await;
        let mut client = bed.client(Door::InterceptH2, BIGQUERY).await;
        assert_eq!(client.call(get("/echo")).await.status(), 200, "{said}");
        assert_eq!(bed.last().token.unwrap().account, "principal://it", "{said}");
        assert!(!capture::log().contains("evil.test") && !capture::log().contains("hunter2"), "{said}");
    }
}

#[tokio::test]
async fn a_boundary_that_google_would_not_have_has_its_reason() {
    let world = world().await;
    world.google.answer_at(STS, Some((400, r#"{"error":"invalid_request","error_description":"Invalid options"}"#)));
    let bed = world.start(|settings| beside(settings, less("default")));
    told(&bed, "invalid options", "invalid_request", || {}).await;
    bed.google.answer_at(STS, None);
    recovers(&bed, ACCOUNT).await;
}
