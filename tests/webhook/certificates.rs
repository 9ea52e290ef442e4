//! Replicas that share a CA: first start, race, rotation, accidents.

use std::{fs, time::Duration};

use bearerd::inject::certificates::Source;
use serde_json::json;

use crate::{
    Replica, SETTLE,
    cluster::Cluster,
    reviewer::{self, Reviewer, pod_review},
    until,
};

fn certificates(bundle: &[u8]) -> usize {
    String::from_utf8_lossy(bundle).matches("BEGIN").count()
}

async fn is_served(replica: &Replica, bundle: &[u8]) -> bool {
    replica.reviewer().dial(bundle, &[b"h2"]).await.is_ok()
}

#[tokio::test]
async fn ready_means_that_every_entry_trusts_what_is_served() {
    let cluster = Cluster::start();
    let replica = Replica::start(&cluster);
    replica.ready().await;
    for bundle in cluster.bundles() {
        assert!(is_served(&replica, &bundle).await);
    }
    assert_eq!(cluster.part("ca.crt").unwrap().into_bytes(), cluster.bundle());
    let metrics = replica.metrics().await;
    let expiry = "bearerd_webhook_certificate_expiry_timestamp_seconds";
    let line = metrics.lines().find(|line| line.starts_with(expiry)).unwrap();
    let left: f64 =
        line.split(' ').nth(1).unwrap().parse::<f64>().unwrap() - replica.ground.clock.wall().0.as_secs_f64();
    assert!((6.9..7.1).contains(&(left / 86_400.0)), "{left}");
}

#[tokio::test]
async fn two_replicas_that_race_share_one_ca() {
    for _ in 0..5 {
        let cluster = Cluster::start();
        let (one, two) = (Replica::start(&cluster), Replica::start(&cluster));
        one.ready().await;
        two.ready().await;
        assert_eq!(cluster.state(|state| state.creations), 1);
        let bundle = cluster.bundle();
        assert_eq!(certificates(&bundle), 1);
        assert!(is_served(&one, &bundle).await && is_served(&two, &bundle).await);
    }
}

/// Reviews on fresh connections, trusted by what the registration held a moment ago.
async fn call(cluster: &Cluster, replicas: &[Reviewer], stop: &std::sync::atomic::AtomicBool) -> (usize, Vec<String>) {
    let (mut answered, mut failed) = (0, Vec::new());
    let mut bundle = cluster.bundle();
    while !stop.load(std::sync::atomic::Ordering::Acquire) {
        for replica in replicas {
            match replica.review(&bundle, "/mutate", &pod_review("app", json!({}))).await {
                Ok(_) => answered += 1,
                Err(error) => failed.push(error.to_string()),
            }
        }
        // An API server learns of a change a little later.
        let seen = cluster.bundle();
        tokio::time::sleep(Duration::from_millis(50)).await;
        bundle = seen;
    }
    (answered, failed)
}

#[tokio::test]
async fn a_rotation_under_reviews_fails_none() {
    let cluster = Cluster::start();
    let replicas = [Replica::start(&cluster), Replica::start(&cluster)];
    for replica in &replicas {
        replica.ready().await;
    }
    let reviewers = [replicas[0].reviewer(), replicas[1].reviewer()];
    let first = cluster.bundle();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let rotate = async {
        let begun = replicas[0].ground.clock.now();
        cluster.annotate("bearerd.dev/rotate-ca", "now");
        until("the next CA is trusted", async || certificates(&cluster.bundle()) == 2).await;
        until("promoted", async || cluster.part("previous.crt").is_some()).await;
        let took = begun.until(replicas[0].ground.clock.now());
        assert!(took >= SETTLE, "signed after {took:?}");
        let second = cluster.part("ca.crt").unwrap().into_bytes();
        assert_ne!(first, second);
        for replica in &replicas {
            until("a leaf of the new CA", async || is_served(replica, &second).await).await;
            assert!(!is_served(replica, &first).await);
        }
        stop.store(true, std::sync::atomic::Ordering::Release);
    };
    let ((answered, failed), ()) = tokio::join!(call(&cluster, &reviewers, &stop), rotate);
    assert!(failed.is_empty(), "{answered} answered, failed: {failed:?}");
    assert!(answered > 20, "{answered}");
    // What was signed before is still trusted, and the wish was fulfilled once.
    assert_eq!(certificates(&cluster.bundle()), 2);
    cluster.state(|state| {
        let annotations = &state.secret.as_ref().unwrap()["metadata"]["annotations"];
        assert!(annotations.get("bearerd.dev/rotate-ca").is_none(), "{annotations}");
    });
}

#[tokio::test]
async fn accidents_are_repaired_without_a_failed_review() {
    let cluster = Cluster::start();
    let replica = Replica::start(&cluster);
    replica.ready().await;
    let (first, reviewers) = (cluster.bundle(), [replica.reviewer()]);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let accidents = async {
        cluster.state(|state| state.secret = None);
        until("the Secret is written back", async || cluster.part("ca.key").is_some()).await;
        cluster.state(|state| {
            state.secret.as_mut().unwrap()["data"] = json!({"ca.crt": "bm9uc2Vuc2U="});
        });
        until("a broken Secret is written anew", async || cluster.part("ca.key").is_some()).await;
        cluster.state(|state| state.is_down = true);
        tokio::time::sleep(Duration::from_millis(500)).await;
        cluster.state(|state| state.is_down = false);
        stop.store(true, std::sync::atomic::Ordering::Release);
    };
    let ((answered, failed), ()) = tokio::join!(call(&cluster, &reviewers, &stop), accidents);
    assert!(failed.is_empty(), "{answered} answered, failed: {failed:?}");
    assert_eq!(cluster.bundle(), first);
    // As an upgrade that renders an empty field would do.
    cluster.state(|state| {
        let version = state.version();
        state.mutating["webhooks"][1]["clientConfig"]["caBundle"] = json!("");
        state.mutating["metadata"]["resourceVersion"] = json!(version);
    });
    until("the bundle is written back", async || cluster.bundles().iter().all(|bundle| *bundle == first)).await;
}

#[tokio::test]
async fn a_secret_of_somebody_else_is_left_alone_and_complained_about() {
    let cluster = Cluster::start();
    let theirs =
        json!({"metadata": {"name": "bearerd-webhook-ca", "resourceVersion": "9"}, "data": {"tls.crt": "eA=="}});
    cluster.state(|state| state.secret = Some(theirs.clone()));
    let replica = Replica::start(&cluster);
    until("a complaint", async || {
        let (status, text) = reviewer::plain_get(replica.webhook.health, "/startupz").await;
        status == 503 && text.contains("certificate: the CA Secret holds other things")
    })
    .await;
    assert_eq!(replica.probe("/readyz").await, 503);
    assert_eq!(cluster.state(|state| state.secret.clone()), Some(theirs));
}

#[tokio::test]
async fn without_a_registration_it_is_not_ready_and_says_why() {
    let cluster = Cluster::start();
    cluster.state(|state| state.validating = None);
    let replica = Replica::start(&cluster);
    // Templates may be left out; pods may not.
    replica.ready().await;
    let cluster = Cluster::start();
    cluster.state(|state| state.is_down = true);
    let replica = Replica::start(&cluster);
    until("a complaint", async || {
        reviewer::plain_get(replica.webhook.health, "/startupz").await.1.contains("cannot be read")
    })
    .await;
    assert_eq!(replica.probe("/livez").await, 200);
    cluster.state(|state| state.is_down = false);
    replica.ready().await;
}

#[tokio::test]
async fn files_are_served_followed_and_the_last_good_pair_stays() {
    let (one, two) = (pair(), pair());
    let directory = tempfile::TempDir::new().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    let replica = Replica::with(Source::Files(directory.path().to_owned()), None);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(replica.probe("/readyz").await, 503);
    write("tls.crt", &one.0);
    write("tls.key", &one.1);
    replica.ready().await;
    assert!(is_served(&replica, one.0.as_bytes()).await);
    // Half of an update, then rubbish: what is served stays.
    write("tls.crt", &two.0);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(is_served(&replica, one.0.as_bytes()).await);
    write("tls.key", "rubbish");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(is_served(&replica, one.0.as_bytes()).await);
    write("tls.key", &two.1);
    until("the new pair", async || is_served(&replica, two.0.as_bytes()).await).await;
}

fn pair() -> (String, String) {
    let made = rcgen::generate_simple_self_signed([reviewer::SERVICE.to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}
