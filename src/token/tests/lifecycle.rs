//! From the first token to the last: waiting, refreshing, expiring.

use tokio::task::JoinSet;

use super::*;

#[tokio::test(start_paused = true)]
async fn the_first_token_comes_at_once_and_the_next_after_a_quarter_of_an_hour() {
    let house = House::new(40, || 0.5);
    let first = house.first_token().await;
    assert_eq!(text(&first), "ya29.key-0.1");
    assert_eq!(first.header.to_str().unwrap(), "Bearer ya29.key-0.1");
    assert!(first.header.is_sensitive() && first.bare.is_sensitive());
    assert_eq!(first.key_id.as_deref(), Some("key-0"));
    house.sleep(899.0).await;
    assert_eq!(house.google.posts(), 1);
    house.sleep(2.0).await;
    assert_eq!(house.google.posts(), 2);
    assert_eq!(house.token().unwrap().generation, 2);
    assert_eq!(count(&house.events.refreshed), 2);
    assert_eq!(count(&house.events.switched), 1, "the first key counts as a switch from none");
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_requests_at_a_cold_start_cause_one_fetch() {
    let house = House::new(40, || 0.5);
    house.google.change(|state| state.latency = Duration::from_secs(3));
    let mut waiting = JoinSet::new();
    for _ in 0..10_000 {
        let handle = house.handle.clone();
        waiting.spawn(async move { handle.wait(Duration::from_secs(10)).await });
    }
    house.sleep(1.0).await;
    let refused = house.handle.wait(Duration::from_secs(10)).await.unwrap_err();
    assert_eq!(refused.reason, "too_many_waiters");
    while let Some(result) = waiting.join_next().await {
        assert_eq!(text(&result.unwrap().unwrap()), "ya29.key-0.1");
    }
    assert_eq!(house.google.posts(), 1);
    assert!(house.handle.wait(Duration::ZERO).await.is_ok(), "those who left make room");
}

#[tokio::test(start_paused = true)]
async fn eight_credentials_are_fetched_apart_and_never_mixed() {
    let clock = Clock::virtual_time();
    let google = Arc::new(google(clock));
    let tokens = Tokens::new(Setup::new(google.clone(), clock, Tasks::new()));
    let names: Vec<String> = (0..8).map(|number| format!("c{number}")).collect();
    let specs: Vec<Spec> = names.iter().map(|name| samples::spec(name)).collect();
    tokens.apply_with(&specs, Settings::default(), |spec| {
        let file = samples::key_file(0, spec.name.as_str(), "robot", "demo");
        let file = File { name: "k".into(), content: Ok(Secret::new(file)), modified: Duration::ZERO };
        let (files, snapshots) = watch::channel(Snapshot { files: [file].into(), version: 1, ..Snapshot::default() });
        // Closing it must not matter.
        drop(files);
        Some(snapshots)
    });
    let mut waiting = JoinSet::new();
    for round in 0..1000 {
        let name = names[round % 8].clone();
        let handle = tokens.handle(&name.as_str().into(), &Want::Access).unwrap();
        waiting.spawn(async move { (name, handle.wait(Duration::from_secs(10)).await.unwrap()) });
    }
    while let Some(result) = waiting.join_next().await {
        let (name, bearer) = result.unwrap();
        assert!(text(&bearer).starts_with(&format!("ya29.{name}.")));
    }
    assert_eq!(google.posts(), 8);
    assert!(tokens.handle(&"other".into(), &Want::Access).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_cancels_nothing() {
    let house = House::new(40, || 0.5);
    house.google.change(|state| state.latency = Duration::from_secs(3));
    let mut waiting = JoinSet::new();
    for _ in 0..2 {
        let handle = house.handle.clone();
        waiting.spawn(async move { handle.wait(Duration::from_secs(10)).await });
    }
    let gone = tokio::time::timeout(Duration::from_secs(1), house.handle.wait(Duration::from_secs(10))).await;
    assert!(gone.is_err(), "the first client left before the answer");
    while let Some(result) = waiting.join_next().await {
        assert!(result.unwrap().is_ok());
    }
    assert_eq!(house.google.posts(), 1);
    assert_eq!(count(&house.events.failed), 0);
    house.pass_with_token(4000, "an hour later").await;
    assert!(house.token().unwrap().generation > 4);
}

#[tokio::test(start_paused = true)]
async fn waiting_is_bounded_and_says_why() {
    let house = House::new(40, || 0.5);
    house.google.set(Mode::Silent);
    let begin = house.clock.now();
    let error = house.handle.wait(Duration::from_secs(3600)).await.unwrap_err();
    assert_eq!(begin.until(house.clock.now()).as_secs(), 10);
    assert!((1..=5).contains(&error.retry_after_seconds), "{error:?}");
    assert!(["starting", "timeout"].contains(&error.reason), "{error:?}");
    house.sleep(5.0).await;
    let error = house.handle.wait(Duration::from_secs(2)).await.unwrap_err();
    assert_eq!(error.reason, "timeout");
}

#[tokio::test(start_paused = true)]
async fn a_refused_key_is_said_at_once_and_no_key_too() {
    let house = House::without_key(40, || 0.5);
    let error = house.handle.wait(Duration::from_millis(10)).await.unwrap_err();
    assert_eq!(error.reason, "starting");
    house.write(&[("key.json", "{\"type\":\"authorized_user\"}")]);
    let begin = house.clock.now();
    house.sleep(0.1).await;
    let error = house.handle.wait(Duration::from_secs(10)).await.unwrap_err();
    assert_eq!(error.reason, "no_key");
    assert!(error.message.contains("key.json: `type` is `authorized_user`"), "{error}");
    house.google.set(Mode::refuses("Robot is disabled."));
    house.write(&[("key.json", &samples::good(0))]);
    house.sleep(0.2).await;
    house.google.set(Mode::Good);
    let error = house.handle.wait(Duration::from_secs(3)).await.unwrap_err();
    assert_eq!(error.reason, "account_disabled");
    assert!(begin.until(house.clock.now()).as_secs() < 1, "no waiting in vain");
    let found = house.handle.wait(Duration::from_secs(10)).await;
    assert!(found.is_ok(), "a new key is tried again after 5 s: {found:?}");
}

#[tokio::test(start_paused = true)]
async fn requests_wait_for_the_flight_of_a_key_that_has_just_come() {
    let house = House::without_key(40, || 0.5);
    house.google.change(|state| state.latency = Duration::from_secs(3));
    house.write(&[("key.json", "{}")]);
    house.sleep(1.0).await;
    assert_eq!(house.handle.wait(Duration::from_secs(10)).await.unwrap_err().reason, "no_key");
    house.write(&[("key.json", &samples::good(0))]);
    house.sleep(0.1).await;
    assert!(house.handle.wait(Duration::from_secs(10)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_first_token_comes_two_seconds_after_the_network() {
    let house = House::new(40, || 1.0);
    house.google.set(Mode::Fails(PostFailure::Connect));
    house.sleep(60.0).await;
    house.google.set(Mode::Good);
    let begin = house.clock.now();
    house.first_token().await;
    // The latency of the exchange comes on top.
    assert!(begin.until(house.clock.now()) <= Duration::from_millis(2100));
}

#[tokio::test(start_paused = true)]
async fn with_two_keys_the_first_token_comes_as_soon_after_the_network() {
    for offset in 0..40 {
        let house = House::without_key(40, || 1.0);
        house.google.set(Mode::Fails(PostFailure::Connect));
        house.write(&[("a.json", &samples::good(0)), ("b.json", &samples::good(1))]);
        house.sleep(60.0 + 0.1 * f64::from(offset)).await;
        house.google.set(Mode::Good);
        let begin = house.clock.now();
        house.first_token().await;
        assert!(begin.until(house.clock.now()) <= Duration::from_millis(2200), "{:?}", begin.until(house.clock.now()));
    }
}

#[tokio::test(start_paused = true)]
async fn an_expired_token_is_never_given_and_its_end_is_reported_once() {
    let house = House::new(40, || 1.0);
    house.google.change(|state| state.lifetime = 300);
    let first = house.first_token().await;
    house.google.set(Mode::Answer(503, String::new()));
    let mut last_seen = 0;
    for second in 0..3600 {
        if house.token().is_some() {
            last_seen = second;
        }
        house.sleep(1.0).await;
    }
    assert!((288..=290).contains(&last_seen), "given until ten seconds before its end, but {last_seen}");
    assert_eq!(count(&house.events.expired), 1);
    let status = house.handle.status();
    assert_eq!(status.condition, Condition::Expired);
    assert_eq!(status.expires, Some(first.expires), "the end stays known");
    let expired_since = house.clock.wall().seconds() - status.expires_at.unwrap();
    assert!((3280..3400).contains(&expired_since), "{expired_since}");
    assert!(status.trouble.unwrap().failures > 100);
    house.google.set(Mode::Good);
    assert!(house.handle.wait(Duration::from_secs(10)).await.is_ok());
    assert_eq!(house.handle.status().condition, Condition::Fresh);
}

#[tokio::test(start_paused = true)]
async fn removed_and_changed_credentials_start_anew_and_others_go_on() {
    let house = House::new(40, || 0.5);
    let bearer = house.first_token().await;
    let snapshots = house.files.subscribe();
    let spec = samples::spec("default");
    house.tokens.apply_with(std::slice::from_ref(&spec), Settings::default(), |_| Some(snapshots.clone()));
    let same = house.tokens.handle(&spec.name, &Want::Access).unwrap();
    assert_eq!(same.current().unwrap().generation, bearer.generation);
    let mut changed = spec.clone();
    let crate::credential::Kind::ServiceAccountKey { scopes, .. } = &mut changed.kind else { unreachable!() };
    scopes.push("openid".to_owned());
    house.tokens.apply_with(&[changed], Settings::default(), |_| Some(snapshots.clone()));
    let new = house.tokens.handle(&spec.name, &Want::Access).unwrap();
    assert!(new.current().is_none(), "another identity's token is not taken over");
    assert!(new.wait(Duration::from_secs(5)).await.is_ok());
    house.tokens.apply_with(&[], Settings::default(), |_| Some(snapshots.clone()));
    assert!(house.tokens.handle(&spec.name, &Want::Access).is_none());
    assert!(new.current().is_some(), "requests under way keep their token");
    let posts = house.google.posts();
    house.sleep(7200.0).await;
    assert_eq!(house.google.posts(), posts, "its task has ended");
    assert_eq!(new.wait(Duration::from_secs(10)).await.unwrap_err().reason, "removed");
}

#[tokio::test(start_paused = true)]
async fn a_new_availability_counts_from_the_next_token_on() {
    let house = House::new(40, || 0.5);
    house.first_token().await;
    let snapshots = house.files.subscribe();
    let settings = Settings { availability: Duration::from_secs(55 * 60) };
    house.tokens.apply_with(&[samples::spec("default")], settings, |_| Some(snapshots.clone()));
    house.sleep(1000.0).await;
    let posts = house.google.posts();
    house.sleep(3600.0).await;
    assert_eq!(house.google.posts() - posts, 15);
}

/// Keeps the lines of one level.
struct Lines(Arc<Mutex<Vec<String>>>, tracing::Level);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Lines {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        struct Text(String);
        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0.push_str(&format!("{}={value:?} ", field.name()));
            }
        }
        if *event.metadata().level() <= self.1 {
            let mut text = Text(String::new());
            event.record(&mut text);
            self.0.lock().unwrap().push(text.0);
        }
    }
}

fn listen(level: tracing::Level) -> (Arc<Mutex<Vec<String>>>, tracing::subscriber::DefaultGuard) {
    use tracing_subscriber::layer::SubscriberExt;
    let lines = Arc::new(Mutex::new(Vec::new()));
    let subscriber = tracing_subscriber::registry().with(Lines(lines.clone(), level));
    (lines, tracing::subscriber::set_default(subscriber))
}

#[tokio::test(start_paused = true)]
async fn two_hours_without_endpoint_make_one_error_line_at_the_expiry() {
    let (lines, _guard) = listen(tracing::Level::ERROR);
    let house = House::new(40, || 1.0);
    let first = house.first_token().await;
    house.google.set(Mode::Answer(503, String::new()));
    while house.token().is_some() {
        assert!(lines.lock().unwrap().is_empty());
        house.sleep(1.0).await;
    }
    house.sleep(2.0).await;
    assert!(house.clock.now() < first.expires, "at the moment of expiry, not later");
    house.sleep(3600.0).await;
    let lines = lines.lock().unwrap();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("token expired") && lines[0].contains("credential=default"), "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn a_first_key_that_is_refused_is_an_error_and_a_later_one_a_warning() {
    let (lines, _guard) = listen(tracing::Level::WARN);
    let house = House::without_key(40, || 0.5);
    house.write(&[("key.json", "\u{feff}{\"type\": oops}")]);
    house.sleep(60.0).await;
    house.write(&[("key.json", &samples::good(0))]);
    house.sleep(60.0).await;
    house.write(&[("key.json", "")]);
    house.sleep(3600.0).await;
    let lines = lines.lock().unwrap();
    assert_eq!(lines.len(), 2, "each once: {lines:?}");
    assert!(lines[0].contains("no other is loaded") && lines[0].contains("not_json"), "{lines:?}");
    assert!(lines[1].contains("the last good one stays"), "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn no_line_at_any_level_holds_key_assertion_or_token() {
    let (lines, _guard) = listen(tracing::Level::TRACE);
    let house = House::new(40, || 0.5);
    house.first_token().await;
    house.google.set(Mode::refuses("Invalid JWT Signature."));
    house.sleep(3000.0).await;
    house.write(&[("key.json", &samples::good(1))]);
    house.google.set(Mode::Good);
    house.sleep(3000.0).await;
    let seen = format!("{:?} {:?} {:?}", lines.lock().unwrap(), house.tokens.status(), house.handle.current());
    assert!(seen.contains("token refreshed") && seen.contains("key-1"));
    for secret in ["ya29", "eyJ", "PRIVATE", "MII"] {
        assert!(!seen.contains(secret), "{secret}");
    }
}
