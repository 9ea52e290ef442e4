//! What a changed configuration leaves a credential that keeps its files.

use super::*;
use crate::credential::Kind;

/// A changed specification of the house's credential.
pub(super) fn with_scope(scope: &str) -> Spec {
    let mut spec = samples::spec("default");
    *spec.kind.scopes_mut().unwrap() = vec![format!("https://www.googleapis.com/auth/{scope}")];
    spec
}

#[tokio::test(start_paused = true)]
async fn other_settings_keep_the_last_good_key_whatever_lies_there() {
    let house = House::without_key(40, || 0.5);
    house.write(&[("1", &key(0, "A"))]);
    house.first_token().await;
    for (scope, what, files) in [
        ("pubsub", "of another project", vec![("2", foreign("X"))]),
        ("datastore", "torn", vec![("1", "{".to_owned())]),
        ("bigquery", "nothing", vec![]),
    ] {
        let files: Vec<_> = files.iter().map(|(name, content)| (*name, content.as_str())).collect();
        house.write(&files);
        house.sleep(5.0).await;
        let handle = house.reload(with_scope(scope));
        assert_eq!(handle.wait(Duration::from_secs(10)).await.unwrap().key_id.as_deref(), Some("A"), "{what}");
    }
    house.write(&[("1", &key(0, "A"))]);
    house.sleep(5.0).await;
    assert_eq!(house.google.posts(), 4, "the same key again is no new one");
    let handle = house.reload(with_scope("trace"));
    house.sleep(5.0).await;
    house.write(&[("1", &key(0, "A")), ("2", &key(1, "B"))]);
    house.sleep(5.0).await;
    house.write(&[("2", &key(1, "B"))]);
    assert_eq!(handle.current().unwrap().key_id.as_deref(), Some("B"), "and a new one is taken as ever");
}

#[tokio::test(start_paused = true)]
async fn a_changed_credential_goes_back_to_no_older_key() {
    let house = House::without_key(40, || 0.5);
    house.write(&[("1-old", &key(0, "O"))]);
    house.first_token().await;
    house.write(&[("1-old", &key(0, "O")), ("2-new", &key(1, "N"))]);
    house.sleep(5.0).await;
    assert_eq!(house.token().unwrap().key_id.as_deref(), Some("N"));
    let handle = house.reload(with_scope("pubsub"));
    handle.wait(Duration::from_secs(10)).await.unwrap();
    house.sleep(4000.0).await;
    assert_eq!(handle.current().unwrap().key_id.as_deref(), Some("N"), "an hour later");
    assert!(house.tokens.status()[0].loaded_at.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_key_that_comes_back_after_a_change_is_the_newest_again() {
    let house = House::without_key(40, || 0.5);
    house.write(&[("1", &key(0, "A"))]);
    house.first_token().await;
    let handle = house.reload(with_scope("pubsub"));
    handle.wait(Duration::from_secs(10)).await.unwrap();
    house.write(&[("2", &key(1, "B"))]);
    house.sleep(5.0).await;
    assert_eq!(handle.current().unwrap().key_id.as_deref(), Some("B"));
    house.write(&[("2", &key(1, "B")), ("3", &key(0, "A"))]);
    house.sleep(60.0).await;
    assert_eq!(handle.current().unwrap().key_id.as_deref(), Some("A"), "the newest that works");
}

#[tokio::test(start_paused = true)]
async fn what_may_be_signed_besides_changes_no_token() {
    let house = House::without_key(40, || 0.5);
    house.write(&[("1", &key(0, "A"))]);
    house.first_token().await;
    house.google.set(Mode::Fails(PostFailure::Connect));
    let mut spec = samples::spec("default");
    let Kind::ServiceAccountKey { signs_urls, .. } = &mut spec.kind else { panic!("a key") };
    *signs_urls = true;
    let handle = house.reload(spec);
    assert!(handle.wait(Duration::from_secs(10)).await.is_ok(), "the same token would do");
}
