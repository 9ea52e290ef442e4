//! Keys of another project: no task, no signature and no JWT takes one while a key of the first is known.

use super::{reload::with_scope, *};
use crate::credential::{Kind, Template};

#[tokio::test(start_paused = true)]
async fn a_key_of_another_project_signs_no_jwt_with_parameters() {
    let (clock, events) = (Clock::virtual_time(), Arc::new(Counts::default()));
    let setup = Setup { events: events.clone(), ..Setup::new(Arc::new(google(clock)), clock, Tasks::new()) };
    let tokens = Tokens::new(setup);
    let (files, snapshots) = watch::channel(Snapshot::default());
    let mut template = Template::new("project");
    template.claims.insert("vehicle".to_owned(), "{vehicle}".into());
    let spec = Spec { name: "drivers".into(), kind: Kind::SignedJwt { path: "/nowhere".into(), template } };
    tokens.apply_with(std::slice::from_ref(&spec), Settings::default(), |_| Some(snapshots.clone()));
    let write = async |all: &[(&str, String)]| {
        let file = |(name, content): &(&str, String)| File {
            name: (*name).to_owned(),
            content: Ok(Secret::new(content.as_str())),
            modified: Duration::ZERO,
        };
        let all: Arc<[File]> = all.iter().map(file).collect();
        files.send_modify(|snapshot| {
            snapshot.files = all;
            snapshot.version += 1;
        });
        clock.sleep(Duration::from_secs(1)).await;
    };
    let signer = || {
        let parameters = Parameters::new([("vehicle".to_owned(), "v1".to_owned())], &spec.parameters()).unwrap();
        let token = tokens.signed(&"drivers".into(), &parameters, Duration::ZERO).unwrap();
        token.key_id.clone().unwrap()
    };
    let refused = || {
        let status = tokens.status().remove(0);
        status.refused.iter().map(|refused| (refused.file.clone(), refused.error.reason.label())).collect::<Vec<_>>()
    };
    write(&[("1", key(0, "A"))]).await;
    assert_eq!(signer(), "A");
    for (what, all, by, known) in [
        ("newer, of elsewhere", vec![("1", key(0, "A")), ("2", foreign("X"))], "A", vec!["2"]),
        ("nothing else", vec![("2", foreign("X"))], "A", vec!["2"]),
        ("a newer one of ours", vec![("2", foreign("X")), ("3", key(1, "B"))], "B", vec!["2"]),
        ("only that", vec![("3", key(1, "B"))], "B", vec![]),
    ] {
        write(&all).await;
        assert_eq!(signer(), by, "{what}");
        let known: Vec<_> = known.into_iter().map(|file| (file.to_owned(), "wrong_project")).collect();
        assert_eq!(refused(), known, "{what}");
        assert_eq!(signer(), by, "{what}");
    }
    assert_eq!(count(&events.refused), 1, "told once");
}

#[tokio::test(start_paused = true)]
async fn urls_are_signed_by_the_key_in_use_alone() {
    let house = House::without_key(40, || 0.5);
    let sign = |account: &str| {
        let signed = house.tokens.sign_blob(&"default".into(), account, b"a string to sign");
        signed.map(|signature| signature.key_id)
    };
    let (ours, theirs) = ("robot@demo.iam.gserviceaccount.com", "robot@elsewhere.iam.gserviceaccount.com");
    house.write(&[("1", &key(0, "A"))]);
    house.first_token().await;
    assert_eq!(sign(ours), Ok("A".to_owned()));
    house.google.set_key("B", Mode::refuses("Invalid JWT Signature."));
    for (what, files) in [
        ("of another project, newer", vec![("1", key(0, "A")), ("2", foreign("X"))]),
        ("nothing but that", vec![("2", foreign("X"))]),
        ("one that Google does not know", vec![("1", key(0, "A")), ("3", key(1, "B"))]),
        ("nothing but that one", vec![("3", key(1, "B"))]),
        ("nothing", vec![]),
    ] {
        let files: Vec<_> = files.iter().map(|(name, content)| (*name, content.as_str())).collect();
        house.write(&files);
        house.sleep(5.0).await;
        assert_eq!(sign(ours), Ok("A".to_owned()), "{what}");
        assert_eq!(sign(theirs), Err(SignatureError::OtherAccount), "{what}");
    }
    house.google.set_key("B", Mode::Good);
    house.write(&[("3", &key(1, "B"))]);
    house.pass_with_token(301, "until it is tried again").await;
    assert_eq!(sign(ours), Ok("B".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn what_is_only_signed_here_settles_no_project() {
    let house = House::without_key(40, || 0.5);
    house.google.set_key("X", Mode::refuses("Invalid JWT Signature."));
    let signed = house.tokens.handle(&"default".into(), &Want::SelfSigned).unwrap();
    house.write(&[("1", &key(0, "A")), ("2", &foreign("X"))]);
    assert_eq!(house.first_token().await.key_id.as_deref(), Some("A"), "X was refused");
    house.sleep(1.0).await;
    assert_eq!(signed.current().unwrap().key_id.as_deref(), Some("A"), "A has proved itself since");
    house.write(&[("2", &foreign("X"))]);
    house.pass_with_token(4000, "A goes on without its file").await;
    assert_eq!(signed.current().unwrap().key_id.as_deref(), Some("A"), "here too");
    let id = house.tokens.handle(&"default".into(), &Want::Id("https://a.run.app".into())).unwrap();
    house.google.set_key("X", Mode::Good);
    house.sleep(20.0).await;
    assert_eq!(id.status().resting[0].reason, "wrong_project", "nor does a later task try it");
    let last = house.google.posts_since(house.clock.now() - Duration::from_secs(20));
    assert!(!last.is_empty() && last.iter().all(|(_, signer)| signer == "A"), "which has the last good key: {last:?}");
    assert_eq!(count(&house.events.refused), 1, "told once, however many tasks there are");
    assert_eq!(
        count(&house.events.switched),
        1,
        "the key in use is that of the access token, whatever X signed at first"
    );
}

#[tokio::test(start_paused = true)]
async fn a_project_that_lost_signs_nothing_more_whatever_goes_at_that_moment() {
    let house = House::without_key(40, || 0.5);
    house.google.set_key("X", Mode::refuses("Invalid JWT Signature."));
    let signed = house.tokens.handle(&"default".into(), &Want::SelfSigned).unwrap();
    house.write(&[("1", &key(0, "A")), ("2", &foreign("X"))]);
    assert_eq!(house.first_token().await.key_id.as_deref(), Some("A"));
    house.write(&[("2", &foreign("X"))]);
    house.sleep(1.0).await;
    assert_eq!(signed.current().unwrap().key_id.as_deref(), Some("A"));
}

#[tokio::test(start_paused = true)]
async fn other_scopes_let_no_key_of_another_project_take_over() {
    let house = House::without_key(40, || 0.5);
    house.write(&[("1", &key(0, "A"))]);
    house.first_token().await;
    house.write(&[("1", &key(0, "A")), ("2", &foreign("X"))]);
    house.sleep(60.0).await;
    let (files, snapshots) = watch::channel(Snapshot::default());
    let spec = with_scope("devstorage.read_only");
    house.tokens.apply_with(&[spec], Settings::default(), |_| Some(snapshots.clone()));
    // It knows its project before its files, and waits for them without haste.
    house.sleep(5.0).await;
    files.send_replace(house.files.borrow().clone());
    let handle = house.tokens.handle(&"default".into(), &Want::Access).unwrap();
    assert_eq!(handle.wait(Duration::from_secs(10)).await.unwrap().key_id.as_deref(), Some("A"));
    // What is told of the credential is of the key in use too, though a newer one lies there.
    let status = house.tokens.status().remove(0);
    assert_eq!(status.keys[0].key_id.as_deref(), Some("X"));
    assert_eq!(status.in_use.unwrap().key_id.as_deref(), Some("A"));
}

#[tokio::test(start_paused = true)]
async fn a_removed_credential_leaves_no_key_behind() {
    let house = House::without_key(40, || 0.5);
    house.write(&[("1", &key(0, "A"))]);
    house.first_token().await;
    let slot = house.tokens.lock()[&CredentialName::new("default")].slots[&Want::Access].slot.clone();
    let key = Arc::downgrade(&slot.maker().unwrap().source);
    house.tokens.apply_with(&[], Settings::default(), |_| None);
    house.sleep(60.0).await;
    assert!(slot.last().is_some(), "who holds the reader may finish");
    assert!(key.upgrade().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_key_of_another_universe_takes_over_from_none() {
    let house = House::without_key(40, || 0.5);
    house.write(&[("1", &key(0, "A"))]);
    house.first_token().await;
    let other =
        key(1, "B").replace("\"universe_domain\": \"googleapis.com\"", "\"universe_domain\": \"googleapis.co\"");
    house.write(&[("1", &key(0, "A")), ("2", &other)]);
    house.sleep(5.0).await;
    let posts = house.google.posts();
    assert_eq!((house.token().unwrap().key_id.as_deref(), posts), (Some("A"), 1));
}
