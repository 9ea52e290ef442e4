//! The order of attempts, as tables.

use std::sync::Arc;

use super::*;
use crate::{
    clock::Clock,
    credential::{Reason, samples},
    secret::Secret,
    watch::{File, Snapshot},
};

/// A ring over keys `0..count`, the last being the newest, through the real loader.
async fn ring(count: usize, project_of_last: &str) -> (Ring, Moment, KeySet) {
    let clock = Clock::virtual_time();
    let files: Arc<[File]> = (0..count)
        .map(|number| {
            let project = if number + 1 == count { project_of_last } else { "demo" };
            let content = samples::key_file(number, &number.to_string(), "robot", project);
            File { name: number.to_string(), content: Ok(Secret::new(content)), modified: Duration::ZERO }
        })
        .collect();
    let (files, snapshots) = tokio::sync::watch::channel(Snapshot { files, version: 1, ..Snapshot::default() });
    let (publish, mut keys) = tokio::sync::watch::channel(KeySet::default());
    let load =
        super::super::keys::load(samples::spec("default"), Default::default(), snapshots, clock, Arc::new(()), publish);
    tokio::select! {
        () = load => {}
        changed = keys.changed() => changed.unwrap(),
    }
    drop(files);
    let set = keys.borrow().clone();
    let mut ring = Ring::default();
    assert!(ring.update(&set).has_new);
    (ring, clock.now(), set)
}

fn error() -> FetchError {
    FetchError::transient(Reason::Unavailable, "no luck")
}

fn ids(ring: &Ring, purpose: Purpose, now: Moment) -> Vec<String> {
    ring.plan(purpose, now).iter().map(|candidate| candidate.source.key_id().unwrap().to_owned()).collect()
}

fn id(set: &KeySet, key_id: &str) -> u64 {
    set.candidates.iter().find(|candidate| candidate.source.key_id() == Some(key_id)).unwrap().id
}

#[tokio::test(start_paused = true)]
async fn the_newest_comes_first_and_only_newer_ones_are_of_interest_beside_a_good_token() {
    let (mut ring, now, set) = ring(3, "demo").await;
    assert_eq!(ids(&ring, Purpose::Refresh, now), ["2", "1", "0"]);
    assert!(ids(&ring, Purpose::Rotate, now).is_empty(), "nothing is in use yet");
    assert_eq!(ring.succeeded(id(&set, "1")), Some((None, Some("1".into()))));
    assert_eq!(ids(&ring, Purpose::Rotate, now), ["2"]);
    assert_eq!(ring.succeeded(id(&set, "1")), None, "no switch");
    assert_eq!(ring.succeeded(id(&set, "2")), Some((Some("1".into()), Some("2".into()))));
    assert!(ids(&ring, Purpose::Rotate, now).is_empty());
    assert_eq!(ids(&ring, Purpose::Refresh, now), ["2", "1", "0"], "older ones stay a way out");
}

#[tokio::test(start_paused = true)]
async fn refused_keys_rest_and_come_back() {
    let (mut ring, now, set) = ring(2, "demo").await;
    let next = ring.refused(id(&set, "1"), &error(), now, 0.5).unwrap();
    assert_eq!(ids(&ring, Purpose::Refresh, now), ["0"]);
    assert_eq!(ring.next_try(Purpose::Refresh), Some(next));
    assert_eq!(now.until(next).as_secs(), 5);
    let resting = ring.resting();
    assert_eq!((resting[0].file.as_str(), resting[0].reason, resting[0].next_try), ("1", "unavailable", Some(next)));
    assert_eq!(ids(&ring, Purpose::Refresh, next), ["1", "0"]);
    ring.succeeded(id(&set, "0"));
    assert!(ids(&ring, Purpose::Rotate, now).is_empty());
    assert_eq!(ids(&ring, Purpose::Rotate, next), ["1"]);
    assert!(!ring.update(&set).has_new, "the same files change nothing");
    assert_eq!(ring.next_try(Purpose::Rotate), Some(next));
}

#[tokio::test(start_paused = true)]
async fn only_keys_with_others_beside_them_are_set_aside() {
    let (mut pair, now, set) = ring(2, "demo").await;
    pair.succeeded(id(&set, "0"));
    assert_eq!(pair.set_aside(id(&set, "0"), &error(), (now, now), Duration::ZERO, 1.0), None, "never the one in use");
    let next = pair.set_aside(id(&set, "1"), &error(), (now, now), Duration::ZERO, 1.0).unwrap();
    assert_eq!(now.until(next).as_millis(), 500, "nobody else waits for a turn");
    let (mut lonely, now, set) = ring(1, "demo").await;
    assert_eq!(lonely.set_aside(id(&set, "0"), &error(), (now, now), Duration::ZERO, 1.0), None);
    assert!(!lonely.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_key_rests_for_seconds_only_while_another_waits_for_its_turn() {
    let hour = Duration::from_secs(3000);
    let unreachable = FetchError::transient(Reason::Connect, "no way");
    // At a cold start, two keys of which neither has proved itself.
    let (mut ring, now, set) = ring(2, "demo").await;
    let next = ring.set_aside(id(&set, "1"), &error(), (now, now), Duration::ZERO, 1.0).unwrap();
    assert_eq!(now.until(next).as_secs(), 5, "the other has its turn");
    let next = ring.set_aside(id(&set, "0"), &error(), (now, now), Duration::ZERO, 1.0).unwrap();
    assert_eq!(now.until(next).as_millis(), 500, "the first one rests already");
    for _ in 0..9 {
        let next = ring.set_aside(id(&set, "0"), &unreachable, (now, now), Duration::ZERO, 1.0).unwrap();
        assert!(now.until(next).as_secs() <= 2, "a network that begins to work is noticed");
    }
    // Beside a good token, the new key alone.
    let (mut ring, now, set) = self::ring(2, "demo").await;
    ring.succeeded(id(&set, "0"));
    for (failures, seconds) in [(1, 0.5), (2, 1.0), (3, 2.0), (4, 4.0), (5, 8.0), (6, 16.0), (7, 20.0)] {
        let next = ring.set_aside(id(&set, "1"), &error(), (now, now), hour, 1.0).unwrap();
        assert_eq!(now.until(next).as_secs_f64(), seconds, "after {failures}");
    }
    // Two new keys beside a good token: the newest must not keep the other waiting.
    let (mut ring, now, set) = self::ring(3, "demo").await;
    ring.succeeded(id(&set, "0"));
    let next = ring.set_aside(id(&set, "2"), &error(), (now, now), hour, 0.0).unwrap();
    assert_eq!(now.until(next).as_secs(), 5);
    assert_eq!(ids(&ring, Purpose::Rotate, now), ["1"]);
    // The ten seconds of an attempt that nobody answered count for the wait, but not for the other's turn.
    let later = now + Duration::from_secs(10);
    let next = ring.set_aside(id(&set, "2"), &error(), (now, later), hour, 1.0).unwrap();
    assert_eq!(later.until(next).as_secs(), 5);
    let next = ring.set_aside(id(&set, "1"), &error(), (now, later), hour, 1.0).unwrap();
    assert_eq!(next, later);
}

#[tokio::test(start_paused = true)]
async fn keys_of_another_project_are_told_and_never_tried_beside_one_in_use() {
    let (mut ring, now, set) = ring(2, "elsewhere").await;
    assert_eq!(ids(&ring, Purpose::Refresh, now), ["1", "0"], "at the start either may be meant");
    ring.succeeded(id(&set, "0"));
    let update = ring.update(&set);
    assert_eq!(update.foreign.len(), 1);
    assert_eq!(ring.resting()[0].reason, "wrong_project");
    assert!(ids(&ring, Purpose::Rotate, now).is_empty());
    assert_eq!(ids(&ring, Purpose::Refresh, now), ["0"]);
}

#[tokio::test(start_paused = true)]
async fn the_key_in_use_outlives_its_file() {
    let (mut ring, now, set) = ring(2, "demo").await;
    ring.succeeded(id(&set, "1"));
    let mut without = set.clone();
    without.candidates.retain(|candidate| candidate.source.key_id() == Some("0"));
    ring.update(&without);
    assert_eq!(ids(&ring, Purpose::Refresh, now), ["0", "1"]);
    ring.succeeded(id(&set, "0"));
    assert_eq!(ids(&ring, Purpose::Refresh, now), ["0"]);
}
