//! Outages, refusals, storms, panics.

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;

fn outages() -> Vec<(&'static str, Mode)> {
    vec![
        ("refused", Mode::Fails(PostFailure::Connect)),
        ("black hole", Mode::Silent),
        ("500", Mode::Answer(500, "<html>".into())),
        ("200 and empty", Mode::Answer(200, String::new())),
        ("TLS error", Mode::Fails(PostFailure::Certificate)),
    ]
}

/// Answers that must never displace a token.
fn useless_answers() -> Vec<Mode> {
    let mut modes: Vec<Mode> = outages().into_iter().map(|(_, mode)| mode).collect();
    for body in [
        "<html>",
        "{\"access_token\":\"ya2",
        "{\"access_token\":\"\",\"expires_in\":3599}",
        "{\"access_token\":\"a b\",\"expires_in\":3599}",
        "{\"access_token\":\"a\",\"expires_in\":0}",
        "{\"access_token\":\"a\",\"expires_in\":59}",
        "{\"access_token\":\"a\",\"expires_in\":-1}",
        "{\"access_token\":\"a\"}",
        "{\"id_token\":\"a\",\"expires_in\":3599}",
    ] {
        modes.push(Mode::Answer(200, body.into()));
    }
    for status in [301, 307, 400, 401, 403, 404, 407, 408, 425, 429, 502, 503, 504, 999] {
        modes.push(Mode::Answer(status, String::new()));
    }
    for description in ["Invalid JWT Signature.", "Robot is disabled.", "Invalid JWT: not in a reasonable timeframe"] {
        modes.push(Mode::refuses(description));
    }
    modes.push(Mode::Answer(400, r#"{"error":"invalid_scope"}"#.into()));
    modes.push(Mode::Panics);
    modes
}

/// The outage begins 1 ms before the latest possible refresh, and all back-off draws are the longest.
async fn survives(availability_minutes: u64, what: &str, outage: Mode) {
    let house = House::new(availability_minutes, || 1.0);
    let first = house.first_token().await;
    let sent = first.expires - Duration::from_secs(3599);
    let age = schedule::refresh_age(
        Duration::from_secs(3599),
        Settings { availability: Duration::from_secs(60 * availability_minutes) },
        1.0,
    );
    house.clock.sleep(house.clock.now().until(sent + age) - Duration::from_millis(1)).await;
    assert_eq!(house.google.posts(), 1);
    house.google.set(outage);
    house.pass_with_token(availability_minutes * 60, what).await;
    house.google.set(Mode::Good);
    let recovery = house.clock.now();
    house.sleep(30.0).await;
    let fetches = house.google.posts_since(recovery).len();
    assert!(house.token().is_some_and(|token| token.generation == 2), "{what}: no new token within 30 s");
    assert!((1..=3).contains(&fetches), "{what}: {fetches} fetches");
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_forty_minutes_at_the_worst_instant_is_not_noticed() {
    for (what, outage) in outages() {
        survives(40, what, outage).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_fifty_five_minutes_is_not_noticed_where_that_is_asked_for() {
    for (what, outage) in outages() {
        survives(55, what, outage).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_returns_in_the_last_seconds_of_a_token_is_in_time_for_every_request() {
    // Other lives, so that other parts of a back-off are left at their end.
    for (lifetime, before) in (600..630).step_by(3).flat_map(|lifetime| [(lifetime, 50), (lifetime, 6000)]) {
        for (what, outage) in outages() {
            let house = House::new(40, || 1.0);
            house.google.change(|state| state.lifetime = lifetime);
            let end = house.first_token().await.expires - schedule::GUARD;
            house.google.set(outage);
            house.clock.sleep(house.clock.now().until(end - Duration::from_millis(before))).await;
            house.google.set(Mode::Good);
            for _ in 0..80 {
                let answer = house.handle.wait(Duration::from_secs(10)).await;
                // An attempt that meets silence takes as long as a client waits.
                assert!(answer.is_ok() || what == "black hole", "{what}, {before} ms before {lifetime} s: {answer:?}");
                house.sleep(0.1).await;
            }
            assert!(house.token().is_some(), "{what}, {before} ms before {lifetime} s");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_valid_token_is_never_displaced() {
    for mode in useless_answers() {
        let house = House::new(40, || 0.5);
        house.google.change(|state| state.lifetime = 200);
        house.first_token().await;
        house.google.set(mode);
        // 200 s less the guard, less the second that `first_token` may have taken.
        house.pass_with_token(189, "useless answers").await;
        assert_eq!(house.handle.current().unwrap().generation, 1);
        assert_eq!(house.handle.status().condition, Condition::Stale);
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_honoured_but_never_past_the_last_minute() {
    for (asked, expected) in [(120, 120..=121), (86_400, 300..=301), (0, 0..=1)] {
        let house = House::new(40, || 1.0);
        house.first_token().await;
        house.google.set(Mode::Answer(429, String::new()));
        house.google.change(|state| state.retry_after = Some(Duration::from_secs(asked)));
        house.pass_with_token(1500, "rate limited").await;
        let posts = house.google.posts_since(house.clock.now() - Duration::from_secs(1490));
        let gap = posts[0].0.until(posts[1].0).as_secs();
        assert!(expected.contains(&gap), "asked {asked} s, waited {gap} s");
    }
    let house = House::new(40, || 1.0);
    house.google.change(|state| state.lifetime = 300);
    let first = house.first_token().await;
    house.google.set(Mode::Answer(503, String::new()));
    house.google.change(|state| state.retry_after = Some(Duration::from_secs(3000)));
    house.sleep(280.0).await;
    let last = house.google.posts_since(house.clock.now() - Duration::from_secs(90));
    assert!(last.iter().any(|(at, _)| at.until(first.expires).as_secs() > 10), "tried again before the end: {last:?}");
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_401s_causes_two_fetches_a_minute_at_most() {
    let house = House::new(40, || 0.5);
    house.first_token().await;
    let begin = house.clock.now();
    for _ in 0..60_000 {
        let generation = house.token().unwrap().generation;
        house.handle.suspect(generation);
        house.sleep(0.01).await;
    }
    let posts = house.google.posts_since(begin);
    assert!((10..=21).contains(&posts.len()), "{} fetches in ten minutes", posts.len());
    for pair in posts.windows(3) {
        assert!(pair[0].0.until(pair[2].0).as_secs() >= 59);
    }
}

#[tokio::test(start_paused = true)]
async fn a_401_brings_one_new_token_to_all_who_saw_it() {
    let house = House::new(40, || 0.5);
    let old = house.first_token().await;
    let renew = || house.handle.renewed(old.generation, Duration::from_secs(5));
    let (one, two, three) = tokio::join!(renew(), renew(), renew());
    for renewed in [one, two, three] {
        assert_eq!(renewed.unwrap().generation, old.generation + 1);
    }
    assert_eq!(house.google.posts(), 2);
    let late = house.handle.renewed(old.generation, Duration::from_secs(5)).await;
    assert_eq!(late.unwrap().generation, 2, "who comes late gets the new one at once");
    let begin = house.clock.now();
    assert!(house.handle.renewed(2, Duration::from_secs(5)).await.is_none(), "not twice within 30 s");
    assert_eq!(begin, house.clock.now(), "and without waiting");
    house.sleep(31.0).await;
    house.google.set(Mode::refuses("Robot is disabled."));
    assert!(house.handle.renewed(2, Duration::from_secs(5)).await.is_none());
    assert!(house.token().is_some(), "the suspect is still served: upstream may be wrong");
    assert!(begin.until(house.clock.now()).as_secs() < 33);
}

#[tokio::test(start_paused = true)]
async fn tokens_near_their_end_cause_no_rush() {
    for lifetime in [0, 59, 60, 90] {
        for (availability, random) in [(40, (|| 0.0) as fn() -> f64), (55, || 0.0), (40, || 1.0)] {
            let house = House::new(availability, random);
            house.google.change(|state| state.lifetime = 120);
            house.first_token().await;
            house.google.change(|state| state.lifetime = lifetime);
            house.sleep(200.0).await;
            let begin = house.clock.now();
            house.sleep(600.0).await;
            let posts = house.google.posts_since(begin).len();
            assert!(posts <= 121, "{posts} fetches in ten minutes of {lifetime} s tokens");
            assert!(lifetime < 60 || house.token().is_some());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_endpoint_with_short_tokens_is_not_asked_without_a_pause() {
    let house = House::new(55, || 0.5);
    house.google.change(|state| (state.lifetime, state.latency) = (60, Duration::from_millis(9900)));
    house.first_token().await;
    let begin = house.clock.now();
    house.sleep(600.0).await;
    let posts = house.google.posts_since(begin).len();
    assert!((35..=41).contains(&posts), "{posts} fetches in ten minutes");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_repeats_one_token_causes_no_rush() {
    let house = House::new(40, || 0.5);
    let first = house.first_token().await;
    // The same token with the life that it has left, as a caching middlebox gives it.
    let mut asked = 0;
    while let Some(token) = house.token() {
        assert_eq!(token.generation, 1);
        let left = house.clock.now().until(first.expires).as_secs();
        let body = format!(r#"{{"access_token":"{}","expires_in":{left}}}"#, text(&first));
        house.google.set(Mode::Answer(200, body));
        asked = house.google.posts();
        house.sleep(1.0).await;
    }
    assert!(asked < 40, "{asked} fetches in an hour");
}

#[tokio::test(start_paused = true)]
async fn the_task_outlives_every_failure() {
    let house = House::new(40, rand::random::<f64>);
    house.google.change(|state| state.lifetime = 60);
    let mut random = StdRng::seed_from_u64(11);
    let modes = useless_answers();
    for round in 0..60 {
        for _ in 0..random.random_range(1..20) {
            house.google.set(modes[random.random_range(0..modes.len())].clone());
            if random.random_bool(0.1) {
                house.write(&[("key.json", &samples::good(0)[..random.random_range(0..2000)])]);
            }
            if let Some(token) = house.token() {
                house.handle.suspect(token.generation);
            }
            house.sleep(random.random::<f64>() * 8.0).await;
        }
        let before = house.handle.status().generation;
        house.google.set(Mode::Good);
        // A key that Google refused may rest for minutes; a new one is tried at once.
        house.write(&[("key.json", &samples::key_file(0, &format!("round-{round}"), "robot", "demo"))]);
        house.sleep(30.0).await;
        assert!(house.handle.status().generation > before, "round {round}: no new token within 30 s");
    }
    assert!(house.google.posts() > 500, "{}", house.google.posts());
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_panics_stops_nothing() {
    struct Broken;
    impl Events for Broken {
        fn refreshed(&self, _: &CredentialName, _: &Want, _: Duration, _: u64) {
            panic!("a bug in the metrics");
        }

        fn key_loaded(&self, _: &CredentialName, _: Option<&str>) {
            panic!("another one");
        }
    }
    let clock = Clock::virtual_time();
    let google = Arc::new(google(clock));
    let tokens = Tokens::new(Setup { events: Arc::new(Broken), ..Setup::new(google.clone(), clock, Tasks::new()) });
    let file = File { name: "k".into(), content: Ok(Secret::new(samples::good(0))), modified: Duration::ZERO };
    let snapshot = Snapshot { files: [file].into(), version: 1, ..Snapshot::default() };
    let (_files, snapshots) = watch::channel(snapshot);
    tokens.apply_with(&[samples::spec("default")], Settings::default(), |_| Some(snapshots.clone()));
    let handle = tokens.handle(&"default".into(), &Want::Access).unwrap();
    assert!(handle.wait(Duration::from_secs(10)).await.is_ok());
    clock.sleep(Duration::from_secs(7200)).await;
    assert!(handle.current().is_some_and(|token| token.generation > 6));
}
