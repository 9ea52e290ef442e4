//! A day in a minute: every refresh, rotations, outages and broken connections, and not one failed request.

use std::time::Duration;

use bearerd::{
    clock::Clock,
    demo::{Admission, Outage},
};
use http::StatusCode;

use crate::{
    bed::{ACCOUNT, STORAGE, World},
    capture,
    client::{DOORS, get},
    full,
};

/// What happens in a step of time, besides requests. `minute` counts from the start.
fn happens(minute: u64) -> Vec<Event> {
    let mut events = Vec::new();
    let every = |minutes: u64, at: u64| minute % minutes == at;
    if every(10, 3) {
        events.push(Event::GoAway);
    }
    if every(7, 5) {
        events.push(Event::Reset);
    }
    if every(180, 20) {
        events.push(Event::OutageBegins);
    }
    if every(180, 50) {
        events.push(Event::OutageEnds);
    }
    if every(150, 90) {
        events.push(Event::Rotation);
    }
    events
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// Upstream ends its connections in order.
    GoAway,
    /// Upstream's connections break.
    Reset,
    OutageBegins,
    OutageEnds,
    /// Another key lies in the mount.
    Rotation,
}

/// `VmRSS` in KiB without what the test itself remembers of the log, and open descriptors.
fn held() -> (u64, usize) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().count();
    let resident: u64 = line.split_ascii_whitespace().next().unwrap().parse().unwrap();
    (resident.saturating_sub(capture::length() as u64 / 1024), descriptors)
}

#[tokio::test]
async fn hours_of_refreshes_rotations_outages_and_broken_connections_cost_no_request() {
    let (hours, steps_a_minute) = if full() { (24, 4) } else { (6, 1) };
    let (clock, hand) = Clock::by_hand();
    let bed = World::at(clock).await.start(|_| {});
    bed.exchanges_reach(1).await;
    let mut clients = Vec::new();
    for door in DOORS {
        clients.push(bed.client(door, STORAGE).await);
    }
    let mut newest = bed.key.key_id.clone();
    let (mut requests, mut rotations, mut outages, mut at_first) = (0, 0, 0, None);
    for minute in 0..hours * 60 {
        for event in happens(minute) {
            match event {
                Event::GoAway => bed.google.drain_connections(),
                Event::Reset => bed.google.abort_connections(),
                Event::OutageBegins => bed.google.outage(Outage::Status(503)),
                Event::OutageEnds => bed.google.outage(Outage::None),
                Event::Rotation => {
                    let next = bed.google.add_key(ACCOUNT).unwrap();
                    bed.publish(&format!("..rotation-{minute}"), &[("key.json", next.json())]);
                    newest = next.key_id;
                }
            }
            rotations += u64::from(event == Event::Rotation);
            outages += u64::from(event == Event::OutageEnds);
        }
        for _ in 0..steps_a_minute {
            hand.advance(Duration::from_secs(60 / steps_a_minute));
            for (client, door) in clients.iter_mut().zip(DOORS) {
                let status = client.call(get("/echo")).await.status();
                assert_eq!(status, StatusCode::OK, "{door:?} after {minute} minutes");
                requests += 1;
            }
        }
        // What is made once is made by then.
        if minute == 120 {
            at_first = Some(held());
        }
    }
    let refreshes = bed.google.exchange_count();
    let ((memory_before, files_before), (memory, files)) = (at_first.unwrap(), held());
    assert!(bed.google.requests().iter().all(|request| request.admission == Admission::Token));
    assert_eq!(bed.last().token.unwrap().key_id, newest);
    assert!(refreshes >= hours * 3, "{refreshes} exchanges in {hours} hours");
    // Alone in its process only: other tests open and allocate too.
    if full() {
        assert!(refreshes >= 96 && rotations >= 3 && outages >= 5, "{refreshes}, {rotations}, {outages}");
        assert!(files <= files_before + 5, "{files_before} -> {files} descriptors");
        assert!(memory < memory_before + 2048, "{memory_before} -> {memory} KiB");
    }
    eprintln!(
        "{hours} hours: {requests} requests, 0 failures, {refreshes} exchanges, {rotations} rotations, {outages} outages; \
         {memory_before} -> {memory} KiB, {files_before} -> {files} descriptors"
    );
}
