//! Credentials that are derived from others: what they wait for, and what becomes of them when those change.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::credential::{Kind, Rule};

/// Gives `ya29.source.N` for assertions and `of.TOKEN.N` for tokens; what is asked while it is down fails.
struct Google {
    is_down: AtomicBool,
    /// Who is refused as a subject token.
    refused: Mutex<Vec<String>>,
    given: AtomicU64,
    /// Of every token, in seconds.
    lifetime: AtomicU64,
}

impl Post for Google {
    fn post(&self, request: Request) -> BoxFuture<'_, Result<Answer, PostError>> {
        let RequestBody::Form(form) = request.body else { panic!("a form") };
        let form = String::from_utf8(form.expose().to_vec()).unwrap();
        let subject = form.split('&').find_map(|field| field.strip_prefix("subject_token=")).map(str::to_owned);
        let (status, body) = match subject {
            _ if self.is_down.load(Ordering::Relaxed) => (500, String::new()),
            Some(subject) if self.refused.lock().unwrap().contains(&subject) => {
                (400, r#"{"error":"invalid_request","error_description":"Invalid subject token"}"#.to_owned())
            }
            subject => {
                let number = self.given.fetch_add(1, Ordering::Relaxed);
                let lifetime = self.lifetime.load(Ordering::Relaxed);
                let token = subject.map_or_else(|| "ya29.source".to_owned(), |subject| format!("of.{subject}"));
                (200, format!(r#"{{"access_token":"{token}.{number}","expires_in":{lifetime}}}"#))
            }
        };
        let body = Secret::from(body);
        let answer = Answer { status, date: None, retry_after: None, is_of_metadata_server: false, body };
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(80)).await;
            Ok(answer)
        })
    }
}

fn less(name: &str, source: &str) -> Spec {
    let rule = Rule {
        resource: "//storage.googleapis.com/projects/_/buckets/b".to_owned(),
        permissions: vec!["inRole:roles/storage.objectViewer".to_owned()],
        condition: String::new(),
    };
    Spec { name: name.into(), kind: Kind::Downscoped { source: source.into(), rules: vec![rule] } }
}

fn of_another_person(spec: &Spec) -> Spec {
    let mut spec = spec.clone();
    let Kind::ServiceAccountKey { subject, .. } = &mut spec.kind else { panic!("a key") };
    *subject = Some("somebody@example.com".to_owned());
    spec
}

struct House {
    clock: Clock,
    google: Arc<Google>,
    files: watch::Sender<Snapshot>,
    tokens: Tokens,
}

impl House {
    fn new() -> Self {
        let clock = Clock::virtual_time();
        let google = Arc::new(Google {
            is_down: false.into(),
            refused: Mutex::default(),
            given: AtomicU64::new(0),
            lifetime: AtomicU64::new(3599),
        });
        let setup = Setup { random: || 0.5, ..Setup::new(google.clone(), clock, Tasks::new()) };
        let house = Self { clock, google, files: watch::Sender::default(), tokens: Tokens::new(setup) };
        house.write(&samples::good(0));
        house
    }

    /// Replaces the key of every credential that has one.
    fn write(&self, key: &str) {
        let file = File { name: "k".into(), content: Ok(key.to_owned().into()), modified: Duration::ZERO };
        self.files.send_modify(|snapshot| {
            snapshot.files = [file].into();
            snapshot.version += 1;
        });
    }

    fn apply(&self, specs: &[Spec]) {
        self.tokens.apply_with(specs, Settings::default(), |spec| {
            spec.path()?;
            Some(self.files.subscribe())
        });
    }

    fn handle(&self, name: &str) -> Handle {
        self.tokens.handle(&name.into(), &Want::Access).unwrap()
    }

    async fn token(&self, name: &str) -> String {
        let bearer = self.handle(name).wait(Duration::from_secs(10)).await.unwrap();
        text(&bearer).to_owned()
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_derived_from_a_changed_credential_starts_anew_and_nothing_else_does() {
    let house = House::new();
    let specs = [samples::spec("a"), samples::spec("b"), less("of-a", "a"), less("of-of-a", "of-a"), less("of-b", "b")];
    house.apply(&specs);
    let names = ["a", "b", "of-a", "of-of-a", "of-b"];
    let mut before = Vec::new();
    for name in names {
        before.push(house.token(name).await);
    }
    let old = house.handle("of-a");
    let mut changed = specs.clone();
    changed[0] = of_another_person(&specs[0]);
    house.apply(&changed);
    assert!(old.wait(Duration::ZERO).await.is_ok(), "who holds it may finish");
    for (name, before) in names.iter().zip(before) {
        let is_kept = house.handle(name).current().is_some_and(|bearer| text(&bearer) == before);
        assert_eq!(is_kept, ["b", "of-b"].contains(name), "{name}");
        let after = house.token(name).await;
        assert_eq!(after == before, is_kept, "{name}: {after}");
    }
    let source = house.token("a").await;
    assert!(house.token("of-a").await.contains(&source));
}

#[tokio::test(start_paused = true)]
async fn what_is_derived_follows_when_the_file_of_its_source_becomes_another_account_s() {
    let house = House::new();
    house.apply(&[samples::spec("a"), less("of-a", "a"), less("of-of-a", "of-a")]);
    let names = ["a", "of-a", "of-of-a"];
    let mut before = Vec::new();
    for name in names {
        before.push(house.token(name).await);
    }
    house.clock.sleep(Duration::from_secs(300)).await;
    let given = || house.google.given.load(Ordering::Relaxed);
    let asked = given();
    // It counts although it ends sooner than the old one.
    house.google.lifetime.store(1800, Ordering::Relaxed);
    house.write(&samples::key_file(1, "other", "other", "demo"));
    // Three exchanges, 80 ms each.
    house.clock.sleep(Duration::from_millis(300)).await;
    let now: Vec<_> = names.iter().map(|name| text(&house.handle(name).current().unwrap()).to_owned()).collect();
    assert!(now[1].contains(&now[0]) && now[2].contains(&now[1]), "{now:?}");
    assert!(before.iter().all(|old| !now.contains(old)), "{now:?} {before:?}");
    house.clock.sleep(Duration::from_secs(300)).await;
    assert_eq!(given() - asked, 3, "once each");
    // The same again while nothing can be had: what is in hand goes on, as with any key that cannot prove itself yet.
    house.google.is_down.store(true, Ordering::Relaxed);
    house.write(&samples::key_file(2, "third", "third", "demo"));
    house.clock.sleep(Duration::from_secs(60)).await;
    assert_eq!(house.token("of-of-a").await, now[2]);
    house.google.is_down.store(false, Ordering::Relaxed);
    house.clock.sleep(Duration::from_secs(60)).await;
    let of_a = house.token("of-a").await;
    assert!(of_a.contains(&house.token("a").await) && !now.contains(&of_a), "{of_a}");
}

#[tokio::test(start_paused = true)]
async fn a_derived_token_comes_at_once_when_its_source_has_one() {
    let house = House::new();
    house.google.is_down.store(true, Ordering::Relaxed);
    house.apply(&[samples::spec("a"), less("of-a", "a"), less("of-of-a", "of-a")]);
    let last = house.handle("of-of-a");
    for _ in 0..60 {
        house.clock.sleep(Duration::from_secs(10)).await;
        let unavailable = last.wait(Duration::ZERO).await.unwrap_err();
        assert_eq!(unavailable.reason, "no_source");
        assert!(unavailable.message.contains("the credential 'of-a' has no token"), "{unavailable}");
    }
    house.google.is_down.store(false, Ordering::Relaxed);
    house.handle("a").newer_than(0).await;
    // Two exchanges, 80 ms each.
    house.clock.sleep(Duration::from_millis(170)).await;
    assert!(last.current().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_source_s_token_that_sts_would_not_have_is_replaced_first() {
    let house = House::new();
    house.apply(&[samples::spec("a")]);
    let spent = house.token("a").await;
    house.google.refused.lock().unwrap().push(spent.clone());
    house.apply(&[samples::spec("a"), less("of-a", "a")]);
    let token = house.token("of-a").await;
    assert!(token.starts_with("of.ya29.source") && !token.contains(&spent), "{token}");
}

#[tokio::test(start_paused = true)]
async fn a_removed_source_is_told_and_who_is_derived_comes_back_with_it() {
    let house = House::new();
    house.apply(&[samples::spec("a"), less("of-a", "a")]);
    house.token("of-a").await;
    // `config` refuses this; nothing may hang or panic over it all the same.
    house.apply(&[less("of-a", "a")]);
    let unavailable = house.handle("of-a").wait(Duration::from_secs(10)).await.unwrap_err();
    assert_eq!(unavailable.reason, "no_source");
    house.apply(&[samples::spec("a"), less("of-a", "a")]);
    house.token("of-a").await;
}

#[test]
fn a_chain_is_unchanged_when_all_of_it_is() {
    let (a, b) = (samples::spec("a"), samples::spec("b"));
    let other = of_another_person(&a);
    let circle = [less("x", "y"), less("y", "x")];
    for (name, before, after, expected) in [
        ("a", vec![a.clone()], vec![a.clone()], true),
        ("a", vec![a.clone()], vec![other.clone()], false),
        ("a", vec![a.clone()], vec![], false),
        ("l", vec![a.clone(), less("l", "a")], vec![less("l", "a"), a.clone()], true),
        ("l", vec![a.clone(), less("l", "a")], vec![other.clone(), less("l", "a")], false),
        ("l", vec![a.clone(), less("l", "a")], vec![a.clone(), b.clone(), less("l", "b")], false),
        ("l", vec![a.clone(), less("l", "a")], vec![less("l", "a")], false),
        ("l", vec![a.clone(), less("m", "a"), less("l", "m")], vec![other, less("m", "a"), less("l", "m")], false),
        ("l", vec![a.clone(), b, less("l", "a")], vec![a, less("l", "a")], true),
        ("x", circle.to_vec(), circle.to_vec(), true),
    ] {
        assert_eq!(is_unchanged(&name.into(), &before, &after), expected, "{name}: {before:?} {after:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_old_identity_was_refused_is_asked_for_at_once_by_the_new_one() {
    let house = House::new();
    house.apply(&[samples::spec("a")]);
    house.google.refused.lock().unwrap().extend((0..2000).map(|number| format!("ya29.source.{number}")));
    house.apply(&[samples::spec("a"), less("of-a", "a")]);
    house.clock.sleep(Duration::from_secs(1600)).await;
    assert!(house.handle("of-a").current().is_none());
    house.google.refused.lock().unwrap().clear();
    house.write(&samples::key_file(1, "other", "other", "demo"));
    house.clock.sleep(Duration::from_secs(1)).await;
    assert!(house.handle("of-a").current().is_some(), "{:?}", house.handle("of-a"));
}
