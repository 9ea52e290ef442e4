//! The token endpoint fails at the worst instant, and no request does; on a clock that is moved by hand.
//!
//! `BEARERD_FULL` (see `.ci/full`) asks for a token every second of the outage instead of every few.

use std::time::Duration;

use bearerd::{
    clock::{Clock, Hand},
    demo::{Admission, Outage},
    token::{self, schedule},
};
use http::StatusCode;

use crate::{
    bed::{Bed, STORAGE, World},
    client::{Client, Door, eventually, get, within},
    full,
};

/// Trouble of five kinds.
fn outages() -> [(&'static str, Outage); 5] {
    [
        ("refused", Outage::Refuse),
        ("black hole", Outage::Blackhole),
        ("500", Outage::Status(500)),
        ("200 and empty", Outage::EmptyBody),
        ("TLS error", Outage::TlsError),
    ]
}

/// A sidecar whose time is moved by hand, with its first token.
struct Stage {
    bed: Bed,
    hand: &'static Hand,
    client: Client,
    settings: token::Settings,
}

impl Stage {
    async fn new(availability_minutes: u64) -> Self {
        let (clock, hand) = Clock::by_hand();
        let settings = token::Settings { availability: Duration::from_secs(60 * availability_minutes) };
        let bed = World::at(clock).await.start(|all| all.refresh = settings);
        bed.google.exchanges_reach(1).await;
        let client = bed.client(Door::InterceptH1, STORAGE).await;
        let mut stage = Self { bed, hand, client, settings };
        assert_eq!(stage.status().await, StatusCode::OK);
        stage
    }

    async fn status(&mut self) -> StatusCode {
        self.client.call(get("/echo")).await.status()
    }

    /// Passes `seconds` in steps, with a request at each that must succeed. Returns how many there were.
    async fn pass(&mut self, what: &str, seconds: u64, step: u64) -> u64 {
        let mut passed = 0;
        let mut requests = 0;
        while passed < seconds {
            let by = step.min(seconds - passed);
            self.hand.advance(Duration::from_secs(by));
            passed += by;
            assert_eq!(self.status().await, StatusCode::OK, "{what}: after {passed} s of {seconds}");
            requests += 1;
        }
        requests
    }

    /// The answer to a request; time goes on when it has to wait for a token.
    async fn answer(&mut self) -> http::Response<bytes::Bytes> {
        let (hand, mut answer) = (self.hand, std::pin::pin!(self.client.call(get("/echo"))));
        let mut patience = Duration::from_millis(100);
        loop {
            tokio::select! {
                answer = &mut answer => return answer,
                () = tokio::time::sleep(patience) => hand.advance(Duration::from_millis(300)),
            }
            patience = Duration::from_millis(2);
        }
    }

    /// Lets half a minute pass after the endpoint came back, then waits for what began meanwhile to end.
    async fn recover(&mut self, what: &str) {
        let before = self.bed.google.exchange_count();
        self.bed.google.outage(Outage::None);
        let end = self.bed.clock.now() + Duration::from_secs(30);
        while self.bed.clock.now() < end {
            self.hand.advance(Duration::from_secs(1));
            // In the last seconds of the old token a request may have to wait for the new one; it does not fail.
            assert_eq!(self.answer().await.status(), StatusCode::OK, "{what}: the recovery");
        }
        let tokens = || self.bed.google.tokens().len();
        eventually(what, || tokens() > 1).await;
        let fetches = self.bed.google.exchange_count() - before;
        assert!((1..=3).contains(&fetches), "{what}: {fetches} fetches");
        eventually(what, || self.bed.metric("token_refreshes_total{credential=\"default\"}") == 2).await;
        assert_eq!(self.status().await, StatusCode::OK);
        let newest = self.bed.google.tokens().pop().unwrap().1.number;
        assert_eq!(self.bed.last().token.unwrap().number, newest, "{what}: the new token is used");
    }
}

/// The outage is there from before the earliest refresh until the availability has passed since the latest one, so
/// that whenever the refresh came due, the outage began an instant before. Returns the requests that went through.
async fn survives(availability_minutes: u64, what: &str, outage: Outage) -> u64 {
    let step = if full() { 1 } else { 10 };
    let mut stage = Stage::new(availability_minutes).await;
    stage.bed.google.outage(outage);
    let latest = schedule::refresh_age(Duration::from_secs(3599), stage.settings, 1.0).as_secs() + 1;
    let mut requests = stage.pass(what, latest, 20).await;
    eventually("a failed refresh", || stage.bed.google.connections() > 2).await;
    requests += stage.pass(what, 60 * availability_minutes, step).await;
    assert_eq!(stage.bed.google.tokens().len(), 1, "{what}: that was no outage");
    stage.recover(what).await;
    assert!(stage.bed.google.requests().iter().all(|request| request.admission == Admission::Token));
    requests
}

#[tokio::test]
async fn forty_minutes_without_token_endpoint_are_not_noticed() {
    for (what, outage) in outages() {
        assert!(survives(40, what, outage).await >= 240, "{what}");
    }
}

#[tokio::test]
async fn fifty_five_minutes_without_token_endpoint_are_not_noticed_where_that_is_asked_for() {
    for (what, outage) in outages() {
        assert!(survives(55, what, outage).await >= 330, "{what}");
    }
}

#[tokio::test]
async fn an_expired_token_is_never_sent_and_clients_are_told_when_to_come_back() {
    let mut stage = Stage::new(40).await;
    stage.bed.google.outage(Outage::Error { status: 400, error: "invalid_grant", description: "Robot is disabled." });
    stage.pass("in its life", 3580, 20).await;
    // Ten seconds before its end a token is as good as expired.
    stage.hand.advance(Duration::from_secs(10));
    let reached = stage.bed.google.request_count();
    for _ in 0..200 {
        let answer = stage.answer().await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        let wait: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=5).contains(&wait), "{wait}");
        stage.hand.advance(Duration::from_millis(300));
    }
    assert_eq!(stage.bed.google.request_count(), reached, "nothing was sent");
    assert!(stage.bed.google.requests().iter().all(|request| request.admission == Admission::Token));
    stage.bed.google.outage(Outage::None);
    within("the token after it", async {
        while stage.answer().await.status() != StatusCode::OK {
            stage.hand.advance(Duration::from_secs(1));
        }
    })
    .await;
}

#[tokio::test]
async fn a_storm_of_401s_causes_two_fetches_a_minute() {
    let mut stage = Stage::new(40).await;
    let minutes = if full() { 30 } else { 4 };
    let mut refused = 0;
    for _ in 0..minutes * 60 {
        stage.bed.google.revoke_all();
        let answer = stage.client.call(get("/echo")).await;
        refused += u64::from(answer.status() == StatusCode::UNAUTHORIZED);
        stage.hand.advance(Duration::from_secs(1));
    }
    let exchanges = stage.bed.google.exchanges();
    assert!(refused >= minutes * 55, "the 401 is passed through: {refused}");
    for window in exchanges[1..].windows(3) {
        assert!(window[0].at.until(window[2].at).as_secs() >= 59, "three fetches within a minute");
    }
    assert!(exchanges.len() as u64 > minutes, "{}", exchanges.len());
    stage.hand.advance(Duration::from_secs(31));
    assert_eq!(stage.status().await, StatusCode::OK, "and when the storm is over, all is well");
}

#[tokio::test]
async fn requests_at_a_cold_start_wait_for_one_fetch() {
    let (connections, streams): (u64, u64) = if full() { (100, 100) } else { (4, 100) };
    let (clock, hand) = Clock::by_hand();
    let world = World::at(clock).await;
    world.google.script(|script| script.token_delay = Duration::from_secs(3));
    let bed = world.start(|_| {});
    let mut answers = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let client = bed.client(Door::InterceptH2, STORAGE).await;
        for _ in 0..streams {
            let mut sender = client.h2();
            let request = client.place(get("/echo"));
            answers.spawn(async move {
                sender.ready().await.unwrap();
                sender.send_request(request).await.unwrap().status()
            });
        }
    }
    eventually("all requests wait", || bed.ground.tasks.in_flight() >= connections * streams).await;
    assert_eq!(bed.google.request_count(), 0);
    hand.advance(Duration::from_secs(3));
    while let Some(status) = within("all answers", answers.join_next()).await {
        assert_eq!(status.unwrap(), StatusCode::OK);
    }
    assert_eq!(bed.google.exchange_count(), 1);
    assert_eq!(bed.google.request_count(), connections * streams);
}
