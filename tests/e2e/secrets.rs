//! No secret is seen anywhere, whatever happens. Every test checks its own log; this one takes the paths that are most
//! likely to talk, and shows that the search would find what it looks for.

use std::os::unix::fs::PermissionsExt;

use bearerd::demo::Outage;
use http::Request;

use crate::{
    bed::{ACCOUNT, Bed, STORAGE},
    capture,
    client::{DOORS, Door, eventually, full, get, get_with, post, within},
    raw,
};

#[tokio::test]
async fn nothing_secret_is_logged_counted_or_answered_on_any_path() {
    let bed = Bed::start().await;
    let mut answers = Vec::new();
    for door in DOORS {
        let mut client = bed.client(door, STORAGE).await;
        for request in [
            get("/echo"),
            post("/echo", "body"),
            get("/status/401"),
            get("/status/500"),
            get("/b/o?X-Goog-Signature=sIgNaTuRe"),
            get_with("/echo", &[("authorization", &format!("Bearer {}", bed.placeholder()))]),
            Request::post("/upload/storage/v1/b/b/o?uploadType=media&name=x").body(full(vec![1; 100_000])).unwrap(),
        ] {
            let response = client.call(request).await;
            answers.push(format!("{:?} {}", response.headers(), String::from_utf8_lossy(response.body())));
        }
    }
    bed.google.revoke_all();
    bed.client(Door::InterceptH2, STORAGE).await.call(get("/echo")).await;
    let second = bed.google.add_key(ACCOUNT).unwrap();
    for (version, content) in [("..bad", second.json()[..900].to_owned()), ("..second", second.json())] {
        bed.publish(version, &[("key.json", content)]);
    }
    eventually("the new key", || bed.google.exchanges_of(&second.key_id) > 0).await;
    for outage in [Outage::Status(500), Outage::Html, Outage::Truncated] {
        bed.google.outage(outage);
        bed.google.revoke_all();
        within("an answer", bed.client(Door::InterceptH1, STORAGE).await.try_send(get("/echo"))).await.unwrap();
    }
    for bytes in ["BAD\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"] {
        let mut stream = raw::proxy(&bed).await;
        raw::write(&mut stream, bytes.as_bytes()).await;
        raw::rest(&mut stream).await;
    }
    let mut secrets = bed.secrets();
    secrets.extend(second.pem().lines().filter(|line| !line.starts_with('-')).map(str::to_owned));
    // Halves too: a log that cuts a secret in two gives most of it.
    let halves: Vec<String> = secrets.iter().map(|secret| secret[..secret.len() / 2].to_owned()).collect();
    let log = capture::log();
    let page = bed.ground.metrics.render();
    assert!(
        log.contains("token refreshed") && log.contains(&second.key_id),
        "the log is there, and names the key by its id"
    );
    for secret in secrets.iter().chain(&halves).filter(|secret| secret.len() > 20) {
        assert!(!log.contains(secret), "in the log");
        assert!(!page.contains(secret), "on the metrics page");
        let placeholder = bed.placeholder();
        assert!(!answers.iter().any(|answer| answer.contains(secret) && !placeholder.contains(secret)), "in an answer");
    }
    // An assertion is a JWT of ours; none has a business in a log.
    for piece in ["eyJ", "assertion=", "Bearer ya29", "PRIVATE KEY", "sIgNaTuRe"] {
        assert!(!log.contains(piece), "{piece} in the log");
    }
}

#[tokio::test]
async fn the_search_finds_what_it_looks_for() {
    let bed = Bed::start().await;
    bed.exchanges_reach(1).await;
    let before = capture::log();
    tracing::info!(target: "bearerd::test", leaked = "nEeDlE", "a line as ours are");
    assert!(!before.contains("nEeDlE") && capture::log().contains("nEeDlE"));
    assert!(bed.secrets().len() > 20, "key, token and placeholder");
    assert!(bed.secrets().iter().all(|secret| !secret.is_empty()));
}

#[tokio::test]
async fn private_files_are_private_and_public_ones_readable() {
    let bed = Bed::start().await;
    let mode = |path: &str| std::fs::metadata(bed.dir.path().join(path)).unwrap().permissions().mode() & 0o777;
    for entry in std::fs::read_dir(bed.dir.path().join("private")).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
    }
    assert_eq!(mode("private"), 0o700);
    for file in ["ca.pem", "bundle.pem", "truststore.p12"] {
        assert_eq!(mode(&format!("trust/{file}")), 0o644, "{file}");
    }
}
