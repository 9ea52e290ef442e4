//! Keys that come, go and break, with readers who must not notice.

use super::*;

#[tokio::test(start_paused = true)]
async fn keys_follow_each_other_without_a_gap() {
    let house = House::without_key(40, || 0.5);
    house.write(&[("key.json", &key(0, "A"))]);
    house.first_token().await;
    for (number, id, before) in [(1, "B", "A"), (2, "C", "B")] {
        house.pass_with_token(60, "between rotations").await;
        assert_eq!(house.token().unwrap().key_id.as_deref(), Some(before));
        house.write(&[("key.json", &key(number, id))]);
        house.pass_with_token(5, "during the rotation").await;
        let switched = house.clock.now();
        assert_eq!(house.token().unwrap().key_id.as_deref(), Some(id), "at once, not at the next refresh");
        house.pass_with_token(3600, "after the rotation").await;
        let signers = house.google.posts_since(switched);
        assert!(signers.iter().all(|(_, signer)| signer == id), "the old key is not used again: {signers:?}");
    }
    assert_eq!(count(&house.events.switched), 3);
    assert_eq!(count(&house.events.failed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_new_key_that_google_does_not_know_yet_is_retried_while_the_old_one_serves() {
    let house = House::without_key(40, || 0.5);
    house.write(&[("key.json", &key(0, "A"))]);
    house.first_token().await;
    house.google.set_key("B", Mode::refuses("Invalid JWT Signature."));
    house.write(&[("key.json", &key(1, "B"))]);
    house.pass_with_token(180, "propagation").await;
    assert_eq!(house.handle.status().condition, Condition::Fresh, "the token in hand is in no trouble");
    house.google.set_key("B", Mode::Good);
    house.pass_with_token(61, "propagation").await;
    assert_eq!(house.token().unwrap().key_id.as_deref(), Some("B"));
}

#[tokio::test(start_paused = true)]
async fn a_new_key_takes_over_also_with_a_token_that_ends_earlier() {
    let house = House::without_key(40, || 0.5);
    house.google.change(|state| state.lifetime = 43_200);
    house.write(&[("key.json", &key(0, "A"))]);
    let first = house.first_token().await;
    house.google.change(|state| state.lifetime = 600);
    house.write(&[("key.json", &key(1, "B"))]);
    house.pass_with_token(1, "the switch").await;
    let token = house.token().unwrap();
    assert_eq!(token.key_id.as_deref(), Some("B"));
    assert!(token.expires < first.expires);
    assert_eq!(house.handle.status().key_id.as_deref(), Some("B"));
    house.google.set_key("A", Mode::refuses("Invalid JWT Signature."));
    let switched = house.clock.now();
    house.pass_with_token(3600, "and its short tokens are renewed in time").await;
    assert!(house.google.posts_since(switched).iter().all(|(_, signer)| signer == "B"));
}

#[tokio::test(start_paused = true)]
async fn a_new_key_that_meets_one_failure_is_in_use_a_moment_later() {
    for failure in
        [Mode::Answer(500, String::new()), Mode::Fails(PostFailure::Reset), Mode::Fails(PostFailure::Connect)]
    {
        let house = House::without_key(40, || 1.0);
        house.write(&[("key.json", &key(0, "A"))]);
        house.first_token().await;
        house.google.set_key("B", failure);
        house.write(&[("key.json", &key(1, "B"))]);
        house.sleep(0.1).await;
        house.google.set_key("B", Mode::Good);
        house.pass_with_token(1, "one failure").await;
        assert_eq!(house.token().unwrap().key_id.as_deref(), Some("B"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_rotation_during_an_outage_is_finished_soon_after_it() {
    for outage in [Mode::Answer(503, String::new()), Mode::Fails(PostFailure::Connect), Mode::Silent] {
        let house = House::without_key(40, || 1.0);
        house.write(&[("key.json", &key(0, "A"))]);
        house.first_token().await;
        house.google.set(outage);
        house.pass_with_token(1200, "the outage").await;
        house.write(&[("key.json", &key(1, "B"))]);
        house.pass_with_token(1200, "the new key in the outage").await;
        house.google.set(Mode::Good);
        let begin = house.clock.now();
        house.pass_with_token(30, "after the outage").await;
        assert_eq!(house.token().unwrap().key_id.as_deref(), Some("B"), "within 30 s");
        assert!(house.google.posts_since(begin).len() <= 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_stays_unknown_is_asked_about_for_ever_but_slowly() {
    let house = House::without_key(40, || 0.5);
    house.write(&[("key.json", &key(0, "A"))]);
    house.first_token().await;
    house.google.set_key("B", Mode::refuses("Invalid JWT Signature."));
    house.write(&[("key.json", &key(1, "B"))]);
    let begin = house.clock.now();
    house.pass_with_token(600, "propagation").await;
    let asked = |since| house.google.posts_since(since).iter().filter(|(_, signer)| signer == "B").count();
    assert!((10..=16).contains(&asked(begin)), "{}", asked(begin));
    let later = house.clock.now();
    house.pass_with_token(7200, "much later").await;
    assert!((23..=26).contains(&asked(later)), "{}", asked(later));
    house.google.set_key("B", Mode::Good);
    house.pass_with_token(301, "at last").await;
    assert_eq!(house.token().unwrap().key_id.as_deref(), Some("B"));
}

#[tokio::test(start_paused = true)]
async fn torn_empty_and_missing_files_keep_the_last_good_key() {
    let good = key(0, "A");
    let foreign = samples::key_file(1, "X", "robot", "elsewhere");
    for (what, files) in [
        ("torn", vec![("key.json", &good[..good.len() / 2])]),
        ("empty", vec![("key.json", "")]),
        ("gone", vec![]),
        ("renamed to nothing useful", vec![("other.json", "{}")]),
        ("of another project", vec![("key.json", foreign.as_str())]),
    ] {
        let house = House::without_key(40, || 0.5);
        house.write(&[("key.json", &good)]);
        house.first_token().await;
        house.write(&files);
        house.pass_with_token(7200, what).await;
        let signers = house.google.posts_since(house.clock.now() - Duration::from_secs(7200));
        assert!(signers.len() >= 7 && signers.iter().all(|(_, signer)| signer == "A"), "{what}: {signers:?}");
        assert_eq!(house.handle.status().condition, Condition::Fresh);
        if !files.is_empty() {
            assert_eq!(count(&house.events.refused), 1, "{what}: told once");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn of_several_keys_the_newest_that_works_is_used() {
    let house = House::without_key(40, || 0.5);
    house.google.set_key("new", Mode::refuses("Invalid JWT Signature."));
    house.google.set_key("odd", Mode::Answer(400, r#"{"error":"never_seen"}"#.into()));
    house.write(&[("1.json", &key(0, "old")), ("2.json", &key(1, "new"))]);
    assert_eq!(house.first_token().await.key_id.as_deref(), Some("old"));
    house.write(&[("1.json", &key(0, "old")), ("3.json", &key(2, "odd"))]);
    house.pass_with_token(7200, "a key that only meets unknown errors must not keep the good one waiting").await;
    assert_eq!(house.token().unwrap().key_id.as_deref(), Some("old"));
    house.google.set_key("odd", Mode::Answer(500, String::new()));
    house.pass_with_token(7200, "nor one that only meets 500").await;
    house.google.set_key("odd", Mode::Good);
    house.pass_with_token(61, "and it is used when it works").await;
    assert_eq!(house.token().unwrap().key_id.as_deref(), Some("odd"));
    house.write(&[("1.json", &key(0, "old"))]);
    house.pass_with_token(5, "the newest was taken away: back to what is left").await;
    assert_eq!(house.token().unwrap().key_id.as_deref(), Some("old"));
}

#[tokio::test(start_paused = true)]
async fn a_key_whose_file_is_gone_serves_until_another_has_proved_itself() {
    let house = House::without_key(40, || 0.5);
    house.write(&[("1.json", &key(0, "A"))]);
    house.first_token().await;
    house.google.set_key("B", Mode::refuses("Invalid JWT Signature."));
    house.write(&[("2.json", &key(1, "B"))]);
    house.pass_with_token(7200, "only a refused key lies there").await;
    assert_eq!(house.token().unwrap().key_id.as_deref(), Some("A"));
    house.google.set_key("A", Mode::refuses("Invalid JWT Signature."));
    house.google.set_key("B", Mode::Good);
    house.pass_with_token(3600, "and then it is the only one that works").await;
    assert_eq!(house.token().unwrap().key_id.as_deref(), Some("B"));
}

#[tokio::test(start_paused = true)]
async fn the_start_finds_the_key_that_works_behind_one_that_meets_500() {
    let house = House::without_key(40, || 1.0);
    house.google.set_key("new", Mode::Answer(500, String::new()));
    house.write(&[("1.json", &key(0, "old")), ("2.json", &key(1, "new"))]);
    let begin = house.clock.now();
    assert_eq!(house.first_token().await.key_id.as_deref(), Some("old"));
    assert!(begin.until(house.clock.now()).as_secs() < 2);
}

#[tokio::test(start_paused = true)]
async fn the_same_key_in_a_new_file_is_no_rotation() {
    let house = House::without_key(40, || 0.5);
    let file = key(0, "A");
    house.write(&[("key.json", &file)]);
    house.first_token().await;
    house.write(&[("renamed.json", &file)]);
    house.sleep(1.0).await;
    house.write(&[("renamed.json", &file.replace('\n', "\r\n"))]);
    house.sleep(1.0).await;
    house.write(&[("a.json", &file), ("b.json", &file)]);
    house.sleep(1.0).await;
    assert_eq!(house.google.posts(), 1);
    assert_eq!(count(&house.events.loaded), 1);
    assert_eq!(house.tokens.status()[0].keys.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_new_key_ends_the_pause_after_failures() {
    let house = House::without_key(40, || 1.0);
    house.google.set_key("A", Mode::refuses("Robot is disabled."));
    house.write(&[("key.json", &key(0, "A"))]);
    house.sleep(3600.0).await;
    assert!(house.token().is_none());
    house.write(&[("key.json", &key(1, "B"))]);
    house.sleep(1.0).await;
    assert_eq!(house.token().unwrap().key_id.as_deref(), Some("B"));
}

#[tokio::test]
async fn a_kubernetes_volume_is_followed_from_file_to_token() {
    use std::os::unix::fs::symlink;
    let volume = tempfile::tempdir().unwrap();
    let publish = |id: &str| {
        let dated = volume.path().join(format!("..{id}"));
        std::fs::create_dir(&dated).unwrap();
        std::fs::write(dated.join("key.json"), key(0, id)).unwrap();
        symlink(format!("..{id}"), volume.path().join("..data_tmp")).unwrap();
        std::fs::rename(volume.path().join("..data_tmp"), volume.path().join("..data")).unwrap();
    };
    publish("A");
    symlink("..data/key.json", volume.path().join("key.json")).unwrap();
    let clock = Clock::system();
    let google = Arc::new(google(clock));
    let tasks = Tasks::new();
    let mut setup = Setup::new(google, clock, tasks.clone());
    setup.pace.settle = Duration::from_millis(5);
    let tokens = Tokens::new(setup);
    let mut spec = samples::spec("default");
    let crate::credential::Kind::ServiceAccountKey { path, .. } = &mut spec.kind else { unreachable!() };
    *path = volume.path().to_owned();
    tokens.apply(&[spec], Settings::default());
    let handle = tokens.handle(&"default".into(), &Want::Access).unwrap();
    assert_eq!(handle.wait(Duration::from_secs(10)).await.unwrap().key_id.as_deref(), Some("A"));
    for (generation, id) in [(1, "B"), (2, "C")] {
        publish(id);
        let followed = handle.newer_than(generation);
        let token = tokio::time::timeout(Duration::from_secs(20), followed).await.expect("the new key is used");
        assert_eq!(token.key_id.as_deref(), Some(id));
    }
    tasks.end();
}

#[tokio::test(start_paused = true)]
async fn the_key_in_use_that_comes_back_is_no_new_one() {
    let house = House::without_key(40, || 0.5);
    house.google.set_key("B", Mode::refuses("Invalid JWT Signature."));
    house.write(&[("1", &key(0, "A"))]);
    house.first_token().await;
    house.write(&[("1", &key(1, "B"))]);
    house.sleep(5.0).await;
    house.write(&[("1", &key(0, "A"))]);
    house.sleep(5.0).await;
    assert_eq!((house.handle.lineage(), count(&house.events.switched)), (0, 1));
}

/// A house with a proven key, and with self-signed tokens too.
async fn with_self_signed() -> (House, Handle) {
    let house = House::without_key(40, || 0.5);
    let signed = house.tokens.handle(&"default".into(), &Want::SelfSigned).unwrap();
    house.write(&[("1", &key(0, "A"))]);
    house.first_token().await;
    (house, signed)
}

#[tokio::test(start_paused = true)]
async fn a_self_signed_token_is_of_the_last_key_that_proved_itself() {
    let (house, signed) = with_self_signed().await;
    house.sleep(1.0).await;
    assert_eq!(signed.current().unwrap().key_id.as_deref(), Some("A"));
    house.google.set_key("B", Mode::refuses("Invalid JWT Signature."));
    house.write(&[("1", &key(0, "A")), ("2", &key(1, "B"))]);
    house.sleep(5.0).await;
    assert_eq!(house.token().unwrap().key_id.as_deref(), Some("A"));
    assert_eq!(signed.current().unwrap().key_id.as_deref(), Some("A"), "B is refused by Google");
}

#[tokio::test(start_paused = true)]
async fn a_new_key_signs_nothing_while_no_endpoint_can_prove_it() {
    let (house, signed) = with_self_signed().await;
    house.google.set(Mode::Fails(PostFailure::Connect));
    house.sleep(3600.0).await;
    house.write(&[("1", &key(0, "A")), ("2", &samples::key_file(1, "B", "other", "demo"))]);
    house.sleep(5.0).await;
    assert!(house.token().is_none());
    assert_eq!(signed.current().unwrap().key_id.as_deref(), Some("A"), "B, of another account, has proved nothing");
}
