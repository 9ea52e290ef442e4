//! A machine that sleeps and clocks that are set, with a Google that checks times.

use std::time::Duration;

use bearerd::{
    clock::{Clock, Hand},
    demo::{Admission, DateHeader, Outcome},
};
use http::StatusCode;

use crate::{
    bed::{Bed, STORAGE, World},
    client::{Client, Door, get},
};

/// The hands of the pod's clock and of Google's, which is right.
#[derive(Clone, Copy)]
struct Hands {
    pod: &'static Hand,
    google: &'static Hand,
}

impl Hands {
    /// The pod's machine is suspended; the world goes on.
    fn suspend(self, seconds: u64) {
        self.pod.suspend(Duration::from_secs(seconds));
        self.google.suspend(Duration::from_secs(seconds));
    }
}

async fn pod(date: DateHeader) -> (Bed, Hands, Client) {
    let (right, google) = Clock::with_hand();
    let world = World::at(right).await;
    world.google.script(|script| script.date = date);
    let (clock, pod) = Clock::with_hand();
    let bed = World { clock, ..world }.start(|_| {});
    let mut client = bed.client(Door::InterceptH1, STORAGE).await;
    assert_eq!(client.call(get("/echo")).await.status(), StatusCode::OK);
    (bed, Hands { pod, google }, client)
}

/// A request after every token so far was revoked: it asks for a new one, since thirty seconds have passed.
async fn renewed(bed: &Bed, hands: Hands, client: &mut Client) -> StatusCode {
    hands.suspend(31);
    bed.google.revoke_all();
    client.call(get("/echo")).await.status()
}

#[tokio::test]
async fn the_first_request_after_a_long_sleep_succeeds_with_one_new_token() {
    let (bed, hands, mut client) = pod(DateHeader::True).await;
    for (nights, slept) in [(1, 3600), (2, 2 * 86_400)] {
        hands.suspend(slept);
        assert_eq!(client.call(get("/echo")).await.status(), StatusCode::OK);
        assert_eq!(bed.google.exchange_count(), 1 + nights, "one fetch");
        assert_eq!(bed.last().token.unwrap().number, 1 + nights);
    }
    hands.suspend(10);
    assert_eq!(client.call(get("/echo")).await.status(), StatusCode::OK);
    assert_eq!(bed.google.exchange_count(), 3, "a nap costs nothing");
}

#[tokio::test]
async fn a_wall_clock_set_by_up_to_a_day_is_corrected_within_one_refresh() {
    let (bed, hands, mut client) = pod(DateHeader::True).await;
    let day = 86_400 - 3600;
    let mut before = bed.google.exchange_count();
    for step in [1, -1, 60, -60, 3600, -3600, day, -day, -day, day] {
        hands.pod.step_wall(step);
        assert_eq!(client.call(get("/echo")).await.status(), StatusCode::OK, "{step} s: the token in hand is good");
        assert_eq!(bed.google.exchange_count(), before, "{step} s: no fetch");
        assert_eq!(renewed(&bed, hands, &mut client).await, StatusCode::OK, "{step} s");
        let exchanges = bed.google.exchange_count() - before;
        assert!((1..=2).contains(&exchanges), "{step} s: {exchanges} exchanges");
        before += exchanges;
        assert!(matches!(bed.google.exchanges().pop().unwrap().outcome, Outcome::Issued(_)));
    }
    assert!(bed.google.requests().iter().all(|seen| matches!(seen.admission, Admission::Token | Admission::Revoked)));
}

#[tokio::test]
async fn an_absurd_date_is_not_believed() {
    for date in [
        DateHeader::Absent,
        DateHeader::Garbage,
        DateHeader::Shifted(86_400 * 400),
        DateHeader::Shifted(-86_400 * 400),
        DateHeader::Shifted(-3_000_000_000),
        DateHeader::Shifted(200_000_000_000),
    ] {
        let (bed, hands, mut client) = pod(date).await;
        for round in 0..7 {
            assert_eq!(renewed(&bed, hands, &mut client).await, StatusCode::OK, "{date:?}, round {round}");
        }
        assert!(bed.google.exchange_count() <= 8, "{date:?}: {}", bed.google.exchange_count());
    }
}
