//! Keys change under traffic: make before break, and never a request without a valid token.

use std::{cell::Cell, collections::BTreeSet};

use bearerd::{
    clock::Clock,
    demo::{KeyFile, KeyState},
};
use http::Request;

use crate::{
    bed::{ACCOUNT, Bed, PROJECT, STORAGE, World, credential},
    client::{Client, DOORS, Door, eventually, full, get, with, within},
};

/// Sends requests through every door until `done`, all of which must succeed.
async fn traffic(bed: &Bed, done: &Cell<bool>) -> u64 {
    let mut sent = 0;
    let mut clients = Vec::new();
    for door in DOORS {
        clients.push(bed.client(door, STORAGE).await);
    }
    while !done.get() {
        for client in &mut clients {
            assert_eq!(client.call(get("/echo")).await.status(), 200, "request {sent}");
            sent += 1;
        }
    }
    sent
}

/// Waits until requests carry tokens of this key.
async fn in_use(bed: &Bed, key: &KeyFile) {
    eventually("the new key in use", || bed.google.exchanges_of(&key.key_id) > 0).await;
    let series = format!("key_info{{credential=\"default\",key_id=\"{}\"}}", key.key_id);
    eventually("the new key on the metrics page", || bed.metric(&series) == 1).await;
}

#[tokio::test]
async fn a_swapped_secret_is_taken_into_use_without_one_failed_request() {
    let bed = Bed::start().await;
    let second = bed.google.add_key(ACCOUNT).unwrap();
    let third = bed.google.add_key(ACCOUNT).unwrap();
    let done = Cell::new(false);
    let swaps = async {
        bed.requests_reach(10).await;
        for (version, key) in [("..second", &second), ("..third", &third)] {
            bed.publish(version, &[("key.json", key.json())]);
            in_use(&bed, key).await;
            let seen = bed.google.request_count();
            bed.requests_reach(seen + 10).await;
        }
        done.set(true);
    };
    let (sent, ()) = tokio::join!(traffic(&bed, &done), swaps);
    let requests = bed.google.requests();
    assert!(sent >= 30 && requests.iter().all(|request| request.admission.is_good()));
    let used: BTreeSet<String> = requests.iter().filter_map(|request| Some(request.token.clone()?.key_id)).collect();
    let last = bed.last().token.unwrap();
    assert_eq!(last.key_id, third.key_id);
    assert!(
        used.contains(&third.key_id) && (used.contains(&second.key_id) || used.contains(&bed.key.key_id)),
        "{used:?}"
    );
    assert_eq!(bed.google.exchange_count(), 3);
}

#[tokio::test]
async fn a_key_that_google_does_not_know_yet_is_not_switched_to() {
    let world = World::at(Clock::fast(20)).await;
    let bed = world.start(|_| {});
    let second = bed.google.add_key(ACCOUNT).unwrap();
    bed.google.set_key(&second.key_id, KeyState::Disabled);
    bed.exchanges_reach(1).await;
    bed.publish("..second", &[("key.json", second.json())]);
    let done = Cell::new(false);
    let waiting = async {
        bed.exchanges_reach(3).await;
        assert_eq!(bed.google.exchanges_of(&second.key_id), 0);
        let status = bed.sidecar().status();
        let [resting] = &status.credentials[0].resting_keys[..] else { panic!("{status:?}") };
        assert_eq!((resting.file.as_str(), resting.key_id.as_ref()), ("key.json", Some(&second.key_id)));
        assert!(resting.message.contains("invalid_grant") && resting.next_try.is_some(), "{resting:?}");
        assert!(status.credentials[0].last_error.is_none(), "the token in hand is in no trouble");
        bed.google.set_key(&second.key_id, KeyState::Active);
        in_use(&bed, &second).await;
        eventually("no key at rest", || bed.sidecar().status().credentials[0].resting_keys.is_empty()).await;
        done.set(true);
    };
    tokio::join!(traffic(&bed, &done), waiting);
    assert!(bed.google.requests().iter().all(|request| request.admission.is_good()));
}

#[tokio::test]
async fn files_that_are_no_key_keep_the_last_good_one() {
    let bed = Bed::start().await;
    let good = bed.key.json();
    let stranger = KeyFile::generate("stranger@demo-project.iam.gserviceaccount.com", PROJECT).unwrap();
    let mut client = bed.client(Door::InterceptH2, STORAGE).await;
    assert_eq!(client.call(get("/echo")).await.status(), 200);
    let bad: Vec<String> = hostile(&good).into_iter().chain([stranger.json()]).collect();
    assert!(bad.len() >= 40);
    for (number, content) in bad.into_iter().enumerate() {
        let before = (trouble(&bed), bed.google.exchange_count());
        bed.publish(&format!("..bad{number}"), &[("key.json", content)]);
        eventually("the bad file to be seen", || (trouble(&bed), bed.google.exchange_count()) != before).await;
        assert_eq!(client.call(get("/echo")).await.status(), 200, "{number}");
        assert_eq!(bed.last().token.unwrap().key_id, bed.key.key_id, "{number}");
    }
    let second = bed.google.add_key(ACCOUNT).unwrap();
    bed.publish("..good", &[("key.json", second.json())]);
    in_use(&bed, &second).await;
    assert_eq!(client.call(get("/echo")).await.status(), 200);
    assert_eq!(bed.last().token.unwrap().key_id, second.key_id);
}

/// What people, templates and attackers put in the place of a good key file.
fn hostile(good: &str) -> Vec<String> {
    let cut = |keep: usize| good.chars().take(keep).collect::<String>();
    let length = good.trim_end().chars().count();
    let mut files: Vec<String> = [
        "",
        " \r\n",
        "\u{feff}",
        "{}",
        "[]",
        "null",
        "\"x\"",
        "7",
        "not json at all",
        "<html></html>",
        "{{ .Values.key }}",
    ]
    .map(str::to_owned)
    .into();
    files.extend([
        cut(length / 2),
        cut(length - 1),
        cut(1),
        format!("{good}{good}"),
        format!("[{good}]"),
        "\0".repeat(2400),
    ]);
    files.extend([good.replace("\\n", "\n"), " ".repeat(64 * 1024 + 1), "[".repeat(30_000)]);
    let types =
        ["authorized_user", "external_account", "external_account_authorized_user", "impersonated_service_account"];
    files.extend(types.iter().chain(&["gdch_service_account", ""]).map(|other| good.replace("service_account", other)));
    let labels = ["PUBLIC KEY", "ENCRYPTED PRIVATE KEY", "OPENSSH PRIVATE KEY", "CERTIFICATE", "RSA PRIVATE KEY"];
    files.extend(labels.map(|label| good.replace("PRIVATE KEY", label)));
    let fields = ["type", "private_key", "client_email"];
    files.extend(fields.map(|field| good.replacen(&format!("\"{field}\""), "\"other\"", 1)));
    files.extend(fields.map(|field| good.replacen('{', &format!("{{\"{field}\": \"x\","), 1)));
    let endpoint = "https://oauth2.googleapis.com/token";
    let endpoints = [
        "https://evil.test/token",
        "http://oauth2.googleapis.com/token",
        "https://oauth2.googleapis.com.evil.test/token",
    ];
    files.extend(endpoints.map(|other| good.replace(endpoint, other)));
    let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(good).unwrap();
    let keys = [
        include_str!("../data/rsa-1024.pem"),
        include_str!("../data/ec-p256.pem"),
        include_str!("../data/ed25519.pem"),
    ];
    files.extend(keys.map(|pem| {
        let mut fields = fields.clone();
        fields.insert("private_key".to_owned(), pem.into());
        serde_json::to_string(&fields).unwrap()
    }));
    files
}

/// Key files refused so far, and exchanges that failed.
fn trouble(bed: &Bed) -> u64 {
    let page = bed.ground.metrics.render();
    let failed = page.lines().filter(|line| {
        line.starts_with("bearerd_key_load_failures_total{")
            || line.starts_with("bearerd_token_refresh_failures_total{")
    });
    failed.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

#[tokio::test]
async fn a_first_key_that_is_bad_is_replaced_by_a_good_one_without_a_restart() {
    let world = World::new().await;
    world.publish("..bad", &[("key.json", "{".to_owned())]);
    let bed = world.start(|_| {});
    eventually("the bad file to be seen", || trouble(&bed) > 0).await;
    assert!(!bed.ground.ready.is_ready());
    bed.publish("..good", &[("key.json", bed.key.json())]);
    let mut client = bed.client(Door::InterceptH2, STORAGE).await;
    within("the first 200", async { while client.call(get("/echo")).await.status() != 200 {} }).await;
    eventually("readiness", || bed.ground.ready.is_ready()).await;
}

#[tokio::test]
async fn a_file_named_by_itself_is_followed_through_the_swap_too() {
    let bed = Bed::with(|settings| {
        let path = settings.credentials[0].path().unwrap().join("key.json");
        settings.credentials[0] = credential("default", path);
    })
    .await;
    bed.exchanges_reach(1).await;
    let second = bed.google.add_key(ACCOUNT).unwrap();
    bed.publish("..second", &[("key.json", second.json())]);
    in_use(&bed, &second).await;
}

#[tokio::test]
async fn each_chunk_of_an_upload_on_one_connection_carries_the_token_of_its_moment() {
    for door in DOORS {
        let bed = Bed::start().await;
        let mut client = bed.client(door, STORAGE).await;
        let begin = Request::post("/upload/storage/v1/b/b/o?uploadType=resumable&name=big").body(full("{}")).unwrap();
        let begun = client.call(begin).await;
        let place: http::Uri = begun.headers()["location"].to_str().unwrap().parse().unwrap();
        let place = place.path_and_query().unwrap().to_string();
        let mut keys = vec![bed.key.key_id.clone()];
        for number in 0..4 {
            chunk(&mut client, &place, number, if number == 3 { "1048576" } else { "*" }).await;
            assert_eq!(bed.last().token.unwrap().key_id, keys[number], "{door:?}");
            let next = bed.google.add_key(ACCOUNT).unwrap();
            bed.publish(&format!("..chunk{number}"), &[("key.json", next.json())]);
            in_use(&bed, &next).await;
            keys.push(next.key_id);
        }
        let connections: BTreeSet<u64> = bed.google.requests().iter().map(|request| request.connection).collect();
        assert_eq!(connections.len(), 1, "{door:?}: one connection all along");
        assert!(bed.google.requests().iter().all(|request| request.admission.is_good()), "{door:?}");
    }
}

async fn chunk(client: &mut Client, place: &str, number: usize, total: &str) {
    let size = 256 * 1024;
    let range = format!("bytes {}-{}/{total}", number * size, (number + 1) * size - 1);
    let request = Request::put(place).body(full(vec![7; size])).unwrap();
    let response = client.call(with(request, &[("content-range", &range)])).await;
    assert_eq!(
        response.status().as_u16(),
        if total == "*" { 308 } else { 200 },
        "chunk {number}: {:?}",
        response.body()
    );
}
