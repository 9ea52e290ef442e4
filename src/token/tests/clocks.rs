//! Suspended machines and wall clocks that are set: no dead token, no storm, no sleep without end.

use super::*;
use crate::{
    clock::Hand,
    credential::{Kind, Template},
};

/// A house whose clock has a hand.
fn house() -> (House, &'static Hand) {
    let (clock, hand) = Clock::with_hand();
    let house = House::on(clock, 40, || 0.5);
    house.write(&[("key.json", &samples::good(0))]);
    (house, hand)
}

const SLEPT: [u64; 8] = [10, 60, 600, 1200, 3000, 3595, 4 * 3600, 2 * 86_400];

#[tokio::test(start_paused = true)]
async fn the_first_request_after_a_suspension_succeeds_after_one_fetch_at_most() {
    for slept in SLEPT {
        let (house, hand) = house();
        house.first_token().await;
        house.sleep(7.0).await;
        hand.suspend(Duration::from_secs(slept));
        let woke = house.clock.now();
        let token = house.handle.wait(Duration::from_secs(10)).await.unwrap();
        assert!(house.clock.now() + Duration::from_secs(10) < token.expires, "{slept} s: a dead token");
        assert!(woke.until(house.clock.now()).as_secs() < 1, "{slept} s: the request waited");
        let fetches = |since| house.google.posts_since(since).len();
        assert!(fetches(woke) <= 1, "{slept} s: {} fetches", fetches(woke));
        house.pass_with_token(60, "after waking").await;
        let expected = usize::from(slept >= 900);
        assert_eq!(fetches(woke), expected, "{slept} s: in the first minute");
        house.pass_with_token(3600, "an hour later").await;
        assert!((4..=5).contains(&fetches(woke)), "{slept} s: {} in an hour", fetches(woke));
    }
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_wakes_up_refreshes_within_a_tick_without_being_asked() {
    for slept in SLEPT.into_iter().filter(|slept| *slept >= 900) {
        let (house, hand) = house();
        house.first_token().await;
        hand.suspend(Duration::from_secs(slept));
        house.sleep(15.2).await;
        assert!(house.token().is_some_and(|token| token.generation == 2), "{slept} s");
    }
}

#[tokio::test(start_paused = true)]
async fn suspensions_one_after_the_other_cause_no_storm() {
    let (house, hand) = house();
    house.first_token().await;
    for round in 0..200 {
        hand.suspend(Duration::from_secs(30 * (round % 7)));
        house.sleep(1.0).await;
        assert!(house.handle.wait(Duration::from_secs(10)).await.is_ok(), "round {round}");
    }
    // 200 × 90 s on average are 5 h: four an hour, less what a tick of 15 s costs when each second takes a minute.
    assert!((8..=25).contains(&house.google.posts()), "{}", house.google.posts());
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_is_set_changes_nothing() {
    let (house, hand) = house();
    house.first_token().await;
    let begin = house.clock.now();
    for seconds in [1, -1, 30, -30, 31, -31, 3600, -3600, 86_400, -86_400, -86_400, 86_400] {
        hand.step_wall(seconds);
        house.pass_with_token(20, "after a step").await;
    }
    assert_eq!(house.google.posts_since(begin).len(), 0, "no step causes a fetch");
    house.pass_with_token(3600, "the hour after").await;
    assert!((4..=5).contains(&house.google.posts_since(begin).len()));
    hand.step_wall(-1_000_000_000);
    house.pass_with_token(3600, "before everything").await;
    hand.step_wall(i64::MAX / 2);
    house.pass_with_token(3600, "after everything").await;
}

#[tokio::test(start_paused = true)]
async fn only_suspensions_and_large_steps_count_as_jumps() {
    for (slept, step, jumps) in [(0, 0, 0), (10, 0, 0), (0, 20, 0), (0, -31, 1), (0, 3600, 1), (90, 0, 1), (3600, 5, 1)]
    {
        let (house, hand) = house();
        house.first_token().await;
        // Past a tick, so that the jump lies between two.
        house.sleep(40.0).await;
        hand.suspend(Duration::from_secs(slept));
        hand.step_wall(step);
        house.sleep(60.0).await;
        assert_eq!(count(&house.events.jumped), jumps, "slept {slept} s, set by {step} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_signed_jwt_does_not_outlive_a_clock_that_was_set_right() {
    let (clock, hand) = Clock::with_hand();
    let tokens = Tokens::new(Setup::new(Arc::new(google(clock)), clock, Tasks::new()));
    let (files, snapshots) = watch::channel(Snapshot::default());
    let mut template = Template::new("project");
    template.claims.insert("vehicle".to_owned(), "{vehicle}".into());
    let spec = Spec { name: "drivers".into(), kind: Kind::SignedJwt { path: "/nowhere".into(), template } };
    tokens.apply_with(std::slice::from_ref(&spec), Settings::default(), |_| Some(snapshots.clone()));
    let file = File { name: "1".into(), content: Ok(Secret::from(key(0, "A"))), modified: Duration::ZERO };
    files.send_modify(|snapshot| (snapshot.files, snapshot.version) = (Arc::new([file]), 1));
    clock.sleep(Duration::from_secs(1)).await;
    let parameters = Parameters::new([("vehicle".to_owned(), "v".to_owned())], &spec.parameters()).unwrap();
    let get = || tokens.signed(&"drivers".into(), &parameters, Duration::from_secs(900)).unwrap();
    get();
    hand.step_wall(2 * 3600);
    clock.sleep(Duration::from_secs(120)).await;
    let token = get();
    assert!(claimed_end(&token) > clock.wall().seconds());
}

#[tokio::test(start_paused = true)]
async fn nor_does_a_self_signed_token() {
    let (clock, hand) = Clock::with_hand();
    let house = House::on(clock, 40, || 0.5);
    let signed = house.tokens.handle(&"default".into(), &Want::SelfSigned).unwrap();
    house.write(&[("1", &key(0, "A"))]);
    house.first_token().await;
    house.sleep(1.0).await;
    hand.step_wall(2 * 3600);
    house.sleep(120.0).await;
    let token = signed.current().unwrap();
    assert!(claimed_end(&token) > clock.wall().seconds());
}
