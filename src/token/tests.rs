//! The lifecycle on virtual time, against a token endpoint that does what a test says.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::*;
use crate::{
    clock::Moment,
    credential::{Answer, BoxFuture, KeyReason, PostError, PostFailure, Reason, Request, RequestBody, samples},
    secret::Secret,
    watch::File,
};

mod clocks;
mod derived;
mod lifecycle;
mod model;
mod projects;
mod reload;
mod rotation;
mod trouble;

/// How the endpoint behaves.
#[derive(Clone)]
pub(super) enum Mode {
    Good,
    Answer(u16, String),
    Fails(PostFailure),
    Silent,
    Panics,
}

impl Mode {
    fn refuses(description: &str) -> Self {
        Self::Answer(400, format!(r#"{{"error":"invalid_grant","error_description":"{description}"}}"#))
    }
}

/// The fake endpoint: mints `ya29.<key id>.<number>` and remembers when.
pub(super) struct Google {
    clock: Clock,
    state: Mutex<Behaviour>,
}

struct Behaviour {
    mode: Mode,
    /// By key id, before `mode`.
    keys: BTreeMap<String, Mode>,
    lifetime: u64,
    latency: Duration,
    retry_after: Option<Duration>,
    posts: Vec<(Moment, String)>,
}

impl Google {
    fn change(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.state.lock().unwrap());
    }

    fn set(&self, mode: Mode) {
        self.change(|state| state.mode = mode);
    }

    fn set_key(&self, key_id: &str, mode: Mode) {
        self.change(|state| drop(state.keys.insert(key_id.to_owned(), mode)));
    }

    fn posts(&self) -> usize {
        self.state.lock().unwrap().posts.len()
    }

    fn posts_since(&self, since: Moment) -> Vec<(Moment, String)> {
        self.state.lock().unwrap().posts.iter().filter(|(at, _)| *at >= since).cloned().collect()
    }
}

impl Post for Google {
    fn post(&self, request: Request) -> BoxFuture<'_, Result<Answer, PostError>> {
        let RequestBody::Form(form) = request.body else { panic!("a form") };
        let key_id = signer(&form);
        Box::pin(async move {
            let (mode, lifetime, latency, retry_after, number) = {
                let mut state = self.state.lock().unwrap();
                state.posts.push((self.clock.now(), key_id.clone()));
                let mode = state.keys.get(&key_id).unwrap_or(&state.mode).clone();
                (mode, state.lifetime, state.latency, state.retry_after, state.posts.len())
            };
            tokio::time::sleep(latency).await;
            let answer = |status, body: String| Answer {
                status,
                date: None,
                retry_after,
                is_of_metadata_server: false,
                body: Secret::from(body),
            };
            match mode {
                Mode::Good => {
                    let body = format!(
                        r#"{{"access_token":"ya29.{key_id}.{number}","expires_in":{lifetime},"token_type":"Bearer"}}"#
                    );
                    Ok(answer(200, body))
                }
                Mode::Answer(status, body) => Ok(answer(status, body)),
                Mode::Fails(failure) => Err(PostError::new(failure, "no luck")),
                Mode::Silent => std::future::pending().await,
                Mode::Panics => panic!("a bug in the transport"),
            }
        })
    }
}

/// Counts events.
#[derive(Default)]
pub(super) struct Counts {
    refreshed: AtomicU64,
    failed: AtomicU64,
    expired: AtomicU64,
    loaded: AtomicU64,
    refused: AtomicU64,
    switched: AtomicU64,
    jumped: AtomicU64,
}

impl Events for Counts {
    fn refreshed(&self, _: &CredentialName, _: &Want, _: Duration, _: u64) {
        self.refreshed.fetch_add(1, Ordering::Relaxed);
    }

    fn refresh_failed(&self, _: &CredentialName, _: &Want, _: Reason, _: Duration) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    fn expired(&self, _: &CredentialName, _: &Want) {
        self.expired.fetch_add(1, Ordering::Relaxed);
    }

    fn key_loaded(&self, _: &CredentialName, _: Option<&str>) {
        self.loaded.fetch_add(1, Ordering::Relaxed);
    }

    fn key_refused(&self, _: &CredentialName, _: KeyReason) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    fn switched(&self, _: &CredentialName, _: Option<&str>, _: Option<&str>) {
        self.switched.fetch_add(1, Ordering::Relaxed);
    }

    fn time_jumped(&self) {
        self.jumped.fetch_add(1, Ordering::Relaxed);
    }
}

pub(super) fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// One credential `default` over files that a test writes.
pub(super) struct House {
    clock: Clock,
    google: Arc<Google>,
    events: Arc<Counts>,
    files: watch::Sender<Snapshot>,
    tokens: Tokens,
    handle: Handle,
}

impl House {
    /// With the good key `key-0`, jitter drawn by `random`.
    fn new(availability_minutes: u64, random: fn() -> f64) -> Self {
        let house = Self::without_key(availability_minutes, random);
        house.write(&[("key.json", &samples::good(0))]);
        house
    }

    fn without_key(availability_minutes: u64, random: fn() -> f64) -> Self {
        Self::on(Clock::virtual_time(), availability_minutes, random)
    }

    fn on(clock: Clock, availability_minutes: u64, random: fn() -> f64) -> Self {
        let google = Arc::new(google(clock));
        let events = Arc::new(Counts::default());
        let setup = Setup { events: events.clone(), random, ..Setup::new(google.clone(), clock, Tasks::new()) };
        let tokens = Tokens::new(setup);
        let (files, snapshots) = watch::channel(Snapshot::default());
        let settings = Settings { availability: Duration::from_secs(60 * availability_minutes) };
        tokens.apply_with(&[samples::spec("default")], settings, |_| Some(snapshots.clone()));
        let handle = tokens.handle(&"default".into(), &Want::Access).unwrap();
        Self { clock, google, events, files, tokens, handle }
    }

    /// Replaces the files, as a rotation does.
    fn write(&self, files: &[(&str, &str)]) {
        let file = |(name, content): &(&str, &str)| File {
            name: (*name).to_owned(),
            content: Ok(Secret::new(*content)),
            modified: Duration::ZERO,
        };
        let files: Arc<[File]> = files.iter().map(file).collect();
        self.files.send_modify(|snapshot| {
            snapshot.files = files;
            snapshot.version += 1;
        });
    }

    /// Changes the settings of its credential, over the same files.
    fn reload(&self, spec: Spec) -> Handle {
        self.tokens.apply_with(&[spec], Settings::default(), |_| Some(self.files.subscribe()));
        self.tokens.handle(&"default".into(), &Want::Access).unwrap()
    }

    async fn first_token(&self) -> Arc<Bearer> {
        self.handle.wait(Duration::from_secs(10)).await.unwrap()
    }

    async fn sleep(&self, seconds: f64) {
        self.clock.sleep(Duration::from_secs_f64(seconds)).await;
    }

    /// The token for a request now, checked to be one that may be sent.
    fn token(&self) -> Option<Arc<Bearer>> {
        let bearer = self.handle.current()?;
        assert!(self.clock.now() + Duration::from_secs(10) < bearer.expires, "an expired token was given");
        Some(bearer)
    }

    /// Passes `seconds`, asking for the token every second; each must be there.
    async fn pass_with_token(&self, seconds: u64, what: &str) {
        for second in 0..seconds {
            assert!(self.token().is_some(), "{what}: no token after {second} s");
            self.sleep(1.0).await;
        }
    }
}

/// A key file of the account that the tests have.
fn key(number: usize, id: &str) -> String {
    samples::key_file(number, id, "robot", "demo")
}

/// One of another project.
fn foreign(id: &str) -> String {
    samples::key_file(2, id, "robot", "elsewhere")
}

/// When a JWT ends by its own words, in seconds since 1970.
fn claimed_end(jwt: &Bearer) -> u64 {
    let claims = URL_SAFE_NO_PAD.decode(text(jwt).split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice::<serde_json::Value>(&claims).unwrap()["exp"].as_u64().unwrap()
}

/// The key id that an assertion names.
fn signer(form: &Secret) -> String {
    let form = String::from_utf8(form.expose().to_vec()).unwrap();
    let header = form.split("assertion=").nth(1).unwrap().split('.').next().unwrap();
    let header: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

pub(super) fn google(clock: Clock) -> Google {
    let state = Behaviour {
        mode: Mode::Good,
        keys: BTreeMap::new(),
        lifetime: 3599,
        latency: Duration::from_millis(80),
        retry_after: None,
        posts: Vec::new(),
    };
    Google { clock, state: Mutex::new(state) }
}

pub(super) fn text(bearer: &Bearer) -> &str {
    bearer.bare.to_str().unwrap()
}

#[tokio::test]
async fn what_was_stopped_does_nothing_more() {
    // More than once: which of two that are ready goes first would be left to chance.
    for _ in 0..32 {
        let stop = CancellationToken::new();
        stop.cancel();
        let mut has_run = false;
        until(stop, async { has_run = true }).await;
        assert!(!has_run);
    }
}
