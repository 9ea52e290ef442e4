//! Keys follow each other under load: every request succeeds, each with one token, and the old key is done with soon.
//!
//! A thousand requests a second need a release build: `.ci/full` runs them with `BEARERD_FULL` set, `cargo test` a
//! tenth of them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bearerd::{
    clock::{Clock, Moment},
    demo::{Admission, FakeGoogle, Recorded},
};
use http::StatusCode;
use tokio::task::JoinSet;

use crate::{
    bed::{ACCOUNT, Bed, STORAGE},
    client::{Door, eventually, get},
    full,
};

const CLIENTS: u64 = 8;

/// What all clients count together.
#[derive(Default)]
struct Load {
    sent: AtomicU64,
    good: AtomicU64,
    is_over: AtomicBool,
}

/// Sends requests, `a_second` by each client, until told to stop.
async fn clients(bed: &Bed, load: &Arc<Load>, a_second: u64) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let mut client = bed.client(Door::InterceptH1, STORAGE).await;
        let load = load.clone();
        clients.spawn(async move {
            let mut pace = tokio::time::interval(Duration::from_micros(1_000_000 / a_second));
            let mut count = 0;
            while !load.is_over.load(Ordering::Relaxed) {
                pace.tick().await;
                load.sent.fetch_add(1, Ordering::Relaxed);
                let answer = client.call(get(&format!("/echo?client={number}&count={count}"))).await;
                load.good.fetch_add(u64::from(answer.status() == StatusCode::OK), Ordering::Relaxed);
                count += 1;
            }
        });
    }
    clients
}

/// Google keeps the last thousand requests only: reads them all, in time.
#[derive(Default)]
struct Book {
    read: u64,
    /// By client: number of the request, token and key, in the order of arrival.
    clients: BTreeMap<String, Vec<(u64, u64, String)>>,
    last_by_key: BTreeMap<String, Moment>,
}

impl Book {
    fn read(&mut self, google: &FakeGoogle) {
        for request in google.requests() {
            if request.number > self.read {
                assert_eq!(request.number, self.read + 1, "requests were lost to the book");
                self.read = request.number;
                self.enter(&request);
            }
        }
    }

    fn enter(&mut self, request: &Recorded) {
        assert_eq!(request.admission, Admission::Token);
        let token = request.token.as_ref().unwrap();
        let query = request.target.split_once("client=").unwrap().1;
        let (client, count) = query.split_once("&count=").unwrap();
        let entry = (count.parse().unwrap(), token.number, token.key_id.clone());
        self.clients.entry(client.to_owned()).or_default().push(entry);
        self.last_by_key.insert(token.key_id.clone(), request.at);
    }
}

#[tokio::test]
async fn three_keys_follow_each_other_under_load_and_no_request_fails() {
    let (goal, a_second) = if full() { (12_000, 150) } else { (1_200, 60) };
    let bed = Bed::start().await;
    bed.google.exchanges_reach(1).await;
    let load = Arc::new(Load::default());
    let mut book = Book::default();
    let begin = Clock::system().now();
    let mut clients = clients(&bed, &load, a_second).await;
    let mut keys = vec![bed.key.key_id.clone()];
    let mut switched = Vec::new();
    for version in ["..second", "..third"] {
        let next = bed.google.add_key(ACCOUNT).unwrap();
        let sent = load.sent.load(Ordering::Relaxed);
        follow(&bed, &mut book, || load.sent.load(Ordering::Relaxed) >= sent + goal / 3).await;
        bed.publish(version, &[("key.json", next.json())]);
        follow(&bed, &mut book, || bed.google.exchanges_of(&next.key_id) > 0).await;
        switched.push(bed.clock.now());
        // Nothing depends on the old key any more.
        assert!(bed.google.remove_key(keys.last().unwrap()));
        keys.push(next.key_id);
    }
    follow(&bed, &mut book, || load.sent.load(Ordering::Relaxed) >= goal).await;
    let took = begin.until(Clock::system().now());
    load.is_over.store(true, Ordering::Relaxed);
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    book.read(&bed.google);

    let sent = load.sent.load(Ordering::Relaxed);
    assert_eq!(load.good.load(Ordering::Relaxed), sent, "every request succeeds");
    assert_eq!(book.read, sent, "each reached Google once");
    if full() {
        assert!(sent >= 10_000 && sent as f64 / took.as_secs_f64() >= 1000.0, "{sent} requests in {took:?}");
    }
    for key in &keys {
        assert_eq!(bed.google.exchanges_of(key), 1, "one exchange by each key");
    }
    for (client, requests) in &book.clients {
        assert!(requests.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0), "client {client}: in order, none twice");
        assert!(requests.windows(2).all(|pair| pair[0].1 <= pair[1].1), "client {client}: no older token again");
        assert_eq!(requests.last().map(|last| &last.2), keys.last());
    }
    for (old, switched) in keys.iter().zip(switched) {
        let late = switched.until(book.last_by_key[old]);
        assert!(late <= Duration::from_secs(5), "the token of an old key was used {late:?} after the switch");
    }
    assert_eq!(bed.metric("token_refresh_failures_total{credential=\"default\",reason=\"invalid_signature\"}"), 0);
}

#[tokio::test]
async fn keys_that_come_and_go_and_break_under_load_cost_no_request() {
    let (goal, a_second) = if full() { (3_000, 125) } else { (300, 40) };
    let bed = Bed::start().await;
    bed.google.exchanges_reach(1).await;
    let load = Arc::new(Load::default());
    let mut clients = clients(&bed, &load, a_second).await;
    let mut book = Book::default();
    let second = bed.google.add_key(ACCOUNT).unwrap();
    let good = bed.key.json();
    let foreign = good.replace("demo-project", "elsewhere");
    let refused =
        |reason| bed.metric(&format!("key_load_failures_total{{credential=\"default\",reason=\"{reason}\"}}"));
    for (version, files, reason) in [
        ("..torn", vec![("key.json", good[..good.len() / 2].to_owned())], "not_json"),
        ("..empty", vec![("key.json", String::new())], "empty"),
        ("..back", vec![("key.json", good.clone())], ""),
        ("..foreign", vec![("key.json", foreign)], "wrong_project"),
    ] {
        bed.publish(version, &files);
        if !reason.is_empty() {
            follow(&bed, &mut book, || refused(reason) > 0).await;
        }
    }
    // The key that Google does not know yet.
    let unknown = |known| {
        let state = if known { bearerd::demo::KeyState::Active } else { bearerd::demo::KeyState::Disabled };
        bed.google.set_key(&second.key_id, state)
    };
    unknown(false);
    bed.publish("..unknown", &[("key.json", second.json())]);
    let failures = "token_refresh_failures_total{credential=\"default\",reason=\"invalid_signature\"}";
    follow(&bed, &mut book, || bed.metric(failures) > 0).await;
    unknown(true);
    follow(&bed, &mut book, || bed.google.exchanges_of(&second.key_id) > 0).await;
    follow(&bed, &mut book, || load.sent.load(Ordering::Relaxed) >= goal).await;
    load.is_over.store(true, Ordering::Relaxed);
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    book.read(&bed.google);
    assert_eq!(load.good.load(Ordering::Relaxed), load.sent.load(Ordering::Relaxed));
    assert_eq!(book.read, load.sent.load(Ordering::Relaxed));
}

/// Keeps the book until something holds.
async fn follow(bed: &Bed, book: &mut Book, holds: impl Fn() -> bool) {
    eventually("the next step", || {
        // Copying a thousand requests is not for every look.
        if bed.google.request_count() > book.read + 300 {
            book.read(&bed.google);
        }
        holds()
    })
    .await;
}
