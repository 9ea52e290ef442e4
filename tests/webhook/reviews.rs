//! Reviews over the wire: bounds, reloads, the end.

use std::{fs, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use serde_json::json;

use crate::{
    Replica,
    cluster::Cluster,
    reviewer::{SERVICE, pod_review, post, whole},
    until,
};

async fn started() -> (Cluster, Replica, Vec<u8>) {
    let cluster = Cluster::start();
    let replica = Replica::start(&cluster);
    replica.ready().await;
    let bundle = cluster.bundle();
    (cluster, replica, bundle)
}

#[tokio::test]
async fn reviews_are_answered_on_both_protocols_and_counted() {
    let (_cluster, replica, bundle) = started().await;
    let review = pod_review("app", json!({}));
    let answer = replica.reviewer().review(&bundle, "/mutate", &review).await.unwrap();
    assert_eq!(answer["response"]["uid"], "uid-app");
    let mut kept = replica.reviewer().connect(&bundle, &replica.ground.tasks).await.unwrap();
    for _ in 0..9 {
        let (status, body) =
            whole(kept.send_request(post("/mutate", review.to_string())).await.unwrap()).await.unwrap();
        assert_eq!(status, StatusCode::OK);
        let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(answer["response"]["allowed"], true);
    }
    let metrics = replica.metrics().await;
    assert!(metrics.contains("bearerd_webhook_reviews_total{result=\"skipped\"} 10"), "{metrics}");
    assert!(metrics.contains("bearerd_webhook_reviews_total{result=\"denied\"} 0"), "{metrics}");
    assert!(metrics.contains("bearerd_webhook_review_duration_seconds_count 10"), "{metrics}");
}

#[tokio::test]
async fn what_is_no_review_is_refused_and_nothing_is_echoed() {
    let (_cluster, replica, bundle) = started().await;
    let typed = |path: &str, kind: &str, body: Vec<u8>| {
        let request = Request::post(path).header(header::HOST, SERVICE).header(header::CONTENT_TYPE, kind);
        request.body(Full::new(Bytes::from(body))).unwrap()
    };
    let review = pod_review("app", json!({})).to_string().into_bytes();
    let get = Request::get("/mutate").header(header::HOST, SERVICE).body(Full::default()).unwrap();
    let table = [
        (get, 405),
        (typed("/", "application/json", review.clone()), 404),
        (typed("/mutate/marker", "application/json", review.clone()), 404),
        (typed("/mutate", "text/plain", review.clone()), 415),
        (typed("/mutate", "application/json; charset=utf-8", review.clone()), 200),
        (typed("/mutate", "application/json", b"marker".to_vec()), 400),
        (typed("/mutate", "application/json", vec![b' '; 4 * 1024 * 1024 + 1]), 413),
    ];
    for (request, expected) in table {
        let name = format!("{} {}", request.method(), request.uri());
        let (status, body) = replica.reviewer().send(&bundle, request).await.unwrap();
        assert_eq!(status.as_u16(), expected, "{name}");
        assert!(!String::from_utf8_lossy(&body).contains("marker"), "{name}");
    }
    // The largest that fits: 4 MiB of something that an API server could send.
    let large = pod_review("app", json!({"annotations": {"large": "x".repeat(4 * 1024 * 1024 - 1024)}}));
    replica.reviewer().review(&bundle, "/mutate", &large).await.unwrap();
}

#[tokio::test]
async fn changed_settings_are_used_and_bad_ones_are_not() {
    let (_cluster, replica, bundle) = started().await;
    let counts = async |name: &str, count: u32| replica.metrics().await.contains(&format!("{name} {count}"));
    fs::write(&replica.config, "image: ghcr.io/bearerd/bearerd:0.2.0\n").unwrap();
    until("a reload", async || counts("bearerd_config_reloads_total", 1).await).await;
    fs::write(&replica.config, "imagge: x\n").unwrap();
    until("a refusal", async || counts("bearerd_config_reload_failures_total", 1).await).await;
    replica.reviewer().review(&bundle, "/mutate", &pod_review("app", json!({}))).await.unwrap();
    assert_eq!(replica.probe("/readyz").await, 200);
    fs::write(&replica.config, "image: ghcr.io/bearerd/bearerd:0.3.0\n").unwrap();
    until("a reload", async || counts("bearerd_config_reloads_total", 2).await).await;
}

#[tokio::test]
async fn settings_that_cannot_be_used_end_the_start_with_what_is_wrong() {
    let (_cluster, replica, _) = started().await;
    fs::write(&replica.config, "imagge: x\n").unwrap();
    let loopback = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let options = bearerd::inject::webhook::Options {
        config: replica.config.clone(),
        listen: loopback,
        health: loopback,
        certificate: bearerd::inject::certificates::Source::Files("/nowhere".into()),
        lame_duck: Duration::ZERO,
    };
    let error = bearerd::inject::webhook::Webhook::start(options, None, replica.ground.clone()).unwrap_err();
    assert!(error.to_string().contains("imagge"), "{error}");
}

#[tokio::test]
async fn a_lame_duck_says_so_first_and_loses_no_review() {
    let (cluster, replica, bundle) = started().await;
    let client_tasks = bearerd::shutdown::Tasks::new();
    let mut kept = replica.reviewer().connect(&bundle, &client_tasks).await.unwrap();
    let (health, reviewer, clock) = (replica.webhook.health, replica.reviewer(), replica.ground.clock);
    let probe = async |path| crate::reviewer::plain_get(health, path).await.0;
    let ended = std::sync::atomic::AtomicBool::new(false);
    let Replica { webhook, .. } = &replica;
    let begun = clock.now();
    let finish = async {
        // A clone would be the same webhook; the replica itself is needed until the end.
        let clean = webhook.finish().await;
        ended.store(true, std::sync::atomic::Ordering::Release);
        clean
    };
    let callers = async {
        let review = pod_review("app", json!({})).to_string();
        let stream = reviewer.dial(&bundle, &[b"http/1.1"]).await.unwrap();
        let (mut older, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        client_tasks.spawn(async move { drop(connection.await) });
        tokio::time::sleep(Duration::from_millis(100)).await;
        // As API servers do it: a kept connection of HTTP/1.1 is told to end by an answer, before it is closed.
        let answer = older.send_request(post("/mutate", review.clone())).await.unwrap();
        assert_eq!(
            (answer.status(), &answer.headers()["connection"]),
            (StatusCode::OK, &HeaderValue::from_static("close"))
        );
        assert_eq!((probe("/readyz").await, probe("/livez").await), (503, 200));
        let mut answered = 0;
        // For as long as somebody may not have heard of it, new connections and old ones are served.
        while begun.until(clock.now()) < Duration::from_millis(900) {
            let (status, _) = whole(kept.send_request(post("/mutate", review.clone())).await.unwrap()).await.unwrap();
            assert_eq!(status, StatusCode::OK);
            reviewer.review(&bundle, "/mutate", &pod_review("app", json!({}))).await.unwrap();
            answered += 2;
        }
        assert!(answered > 10, "{answered}");
    };
    let (clean, ()) = tokio::join!(finish, callers);
    assert!(clean && begun.until(clock.now()) >= Duration::from_secs(1));
    assert!(reviewer.dial(&bundle, &[b"h2"]).await.is_err(), "still served");
    // Told to go, not cut off.
    until("the old connection is closed", async || kept.is_closed()).await;
    drop(cluster);
}

#[tokio::test]
async fn a_pod_is_injected_or_refused_and_its_owner_hears_of_it_once() {
    let (cluster, replica, bundle) = started().await;
    let pod = |secret: &str| {
        let metadata = json!({
            "labels": {"bearerd.dev/inject": "enabled"},
            "annotations": {"bearerd.dev/secret-name": secret},
        });
        pod_review("app-6f7", metadata)
    };
    for _ in 0..3 {
        let answer = replica.reviewer().review(&bundle, "/mutate", &pod("gcp-key")).await.unwrap();
        assert_eq!(answer["response"]["allowed"], true, "{answer}");
        assert_eq!(answer["response"]["patchType"], "JSONPatch");
        let answer = replica.reviewer().review(&bundle, "/mutate", &pod("My_Key")).await.unwrap();
        assert_eq!(answer["response"]["allowed"], false);
        assert!(answer["response"]["status"]["message"].as_str().unwrap().contains("bearerd.dev/secret-name"));
        let mut dry = pod("Other_Key");
        dry["request"]["dryRun"] = json!(true);
        replica.reviewer().review(&bundle, "/mutate", &dry).await.unwrap();
    }
    until("two Events", async || cluster.state(|state| state.events.len()) >= 2).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    let events = cluster.state(|state| state.events.clone());
    let reasons: Vec<_> = events.iter().map(|event| event["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["Injected", "InjectionRefused"]);
    assert!(events.iter().all(|event| event["involvedObject"]["name"] == "app-6f7"), "{events:?}");
}
