//! Starting, and starting again, while the token endpoint or the configuration is in trouble.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bearerd::{
    admin::status::TokenState,
    app::{
        Ground, Settings, Sidecar, WaitFor,
        reload::{Follower, Origin},
    },
    clock::{Clock, Hand},
    config::{Flags, Written},
    demo::Outage,
};
use http::StatusCode;

use crate::{
    bed::{Bed, STORAGE, World, send_to},
    capture,
    client::{Door, eventually, get, within},
    raw,
};

/// What `/startupz` answers.
async fn startup(bed: &Bed) -> u16 {
    let mut stream = tokio::net::TcpStream::connect(bed.addresses.health.unwrap()).await.unwrap();
    raw::write(&mut stream, b"GET /startupz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    raw::answer(&mut stream).await.status()
}

fn opened(what: &str) -> bool {
    capture::log()
        .lines()
        .any(|line| line.contains("ERROR") && line.contains("not met within 60 s") && line.contains(what))
}

/// Lets `seconds` pass in small steps.
async fn pass(hand: &Hand, seconds: u64) {
    for _ in 0..seconds * 10 {
        hand.advance(Duration::from_millis(100));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Starts a pod, sees the minute of waiting pass, repairs what was wrong, and expects a token within `seconds`.
async fn starts_without(
    world: World,
    hand: &Hand,
    change: impl FnOnce(&mut Settings),
    repair: impl FnOnce(&Bed),
    seconds: u64,
) {
    let bed = world.start(change);
    bed.sidecar().limit_waiting();
    eventually("the key", || bed.metric("key_load_timestamp_seconds{credential=\"default\"}") > 0).await;
    for _ in 0..59 {
        hand.advance(Duration::from_secs(1));
        assert_eq!(startup(&bed).await, 503);
    }
    hand.advance(Duration::from_secs(1));
    eventually("the end of the wait", || bed.ground.ready.is_ready()).await;
    assert_eq!(startup(&bed).await, 200);
    assert!(opened("token=\"none\""), "{}", capture::log());
    assert_eq!(bed.sidecar().status().credentials[0].state, TokenState::None);
    repair(&bed);
    pass(hand, seconds).await;
    // What began within that time ends without more of it.
    eventually("the first token", || bed.google.tokens().len() == 1).await;
    let mut client = bed.client(Door::InterceptH1, STORAGE).await;
    assert_eq!(client.call(get("/echo")).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn the_application_starts_after_a_minute_without_a_token_and_is_told() {
    for outage in [Outage::Refuse, Outage::Status(503), Outage::Blackhole] {
        let (clock, hand) = Clock::by_hand();
        let world = World::at(clock).await;
        world.google.outage(outage);
        starts_without(world, hand, |_| {}, |bed| bed.google.outage(Outage::None), 5).await;
    }
}

#[tokio::test]
async fn without_a_network_the_first_token_comes_two_seconds_after_it_works() {
    let (clock, hand) = Clock::by_hand();
    let world = World::at(clock).await;
    // A port where nobody listens until the network works.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let unreachable = |settings: &mut Settings| send_to(settings, "oauth2.googleapis.com", 443, closed);
    let repair = |bed: &Bed| {
        let listener = std::net::TcpListener::bind(closed).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (listener, google) = (tokio::net::TcpListener::from_std(listener).unwrap(), bed.google.address());
        let tasks = bed.tasks.clone();
        bed.tasks.spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut google = tokio::net::TcpStream::connect(google).await.unwrap();
                tasks.spawn(async move {
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut google).await;
                });
            }
        });
    };
    starts_without(world, hand, unreachable, repair, 2).await;
}

#[tokio::test]
async fn what_is_waited_for_is_the_users_choice() {
    for (wait_for, before_key, without_token) in
        [(WaitFor::Listening, 200, 200), (WaitFor::Credentials, 503, 200), (WaitFor::Token, 503, 503)]
    {
        let (clock, hand) = Clock::by_hand();
        let world = World::at(clock).await;
        world.google.outage(Outage::Status(500));
        world.publish("..nothing", &[("key.json", "{}".to_owned())]);
        let bed = world.start(|settings| settings.wait_for = wait_for);
        eventually("a first look", || capture::log().contains("key refused, and no other is loaded")).await;
        assert_eq!(startup(&bed).await, before_key, "{wait_for:?}");
        bed.publish("..good", &[("key.json", bed.key.json())]);
        eventually("the key", || {
            hand.advance(Duration::from_millis(200));
            bed.metric("key_load_timestamp_seconds{credential=\"default\"}") > 0
        })
        .await;
        assert_eq!(startup(&bed).await, without_token, "{wait_for:?}");
        bed.google.outage(Outage::None);
        eventually("the token", || {
            hand.advance(Duration::from_millis(200));
            bed.ground.ready.is_ready()
        })
        .await;
        assert_eq!(startup(&bed).await, 200);
    }
}

#[tokio::test]
async fn a_restart_in_an_outage_comes_back_and_recovers_when_the_endpoint_does() {
    let bed = Bed::start().await;
    bed.google.exchanges_reach(1).await;
    let placeholder = bed.placeholder();
    bed.google.outage(Outage::Refuse);
    let bed = bed.kill().start(|_| {});
    assert_eq!(bed.placeholder(), placeholder, "applications go on with what they hold");
    let mut client = bed.client(Door::InterceptH1, STORAGE).await;
    let waiting = client.call(get("/echo"));
    let recovery = async {
        eventually("an attempt in the outage", || bed.google.failed_handshakes() >= 2).await;
        bed.google.outage(Outage::None);
    };
    let (answer, ()) = within("an answer", async { tokio::join!(waiting, recovery) }).await;
    assert_eq!(answer.status(), StatusCode::OK, "the request waited for the token");
    assert_eq!(bed.google.exchange_count(), 2);
}

/// A configuration with annotations, run as `run` does it.
struct Configured {
    world: World,
    ground: Ground,
    hand: &'static Hand,
    config: PathBuf,
    annotations: PathBuf,
}

impl Configured {
    async fn new() -> Self {
        let (clock, hand) = Clock::by_hand();
        let world = World::at(clock).await;
        let (config, annotations) = (world.dir.path().join("config.yaml"), world.dir.path().join("annotations"));
        let configured = Self { ground: Ground::new(clock).unwrap(), world, hand, config, annotations };
        configured.write_config("");
        configured
    }

    fn write_config(&self, rest: &str) {
        let dir = self.world.dir.path().display();
        let google = self.world.google.address();
        let roots = self.world.dir.path().join("roots.pem");
        std::fs::write(&roots, self.world.google.ca_pem()).unwrap();
        let text = format!(
            "credentials: [{{name: default, serviceAccountKey: {{path: {dir}/keys}}}}]\n\
             listeners: {{proxy: '127.0.0.1:0', metadata: 'off', transparent: 'off', tokenApi: 'off', health: \
             '127.0.0.1:0', control: '127.0.0.1:0'}}\n\
             trust: {{public: {dir}/trust, private: {dir}/private}}\n\
             upstream: {{extraRoots: {}, connectTo: {{'*.googleapis.com:443': '{google}'}}}}\n{rest}",
            roots.display()
        );
        std::fs::write(&self.config, text).unwrap();
    }

    fn annotate(&self, text: &str) {
        std::fs::write(&self.annotations, text).unwrap();
    }

    async fn start(&self, wait_for: &str) -> (Sidecar, Follower) {
        let flags = Flags { wait_for: Some(wait_for.to_owned()), ..Flags::default() };
        let origin = Origin {
            config: Some(Written::InFile(self.config.clone())),
            annotations: Some(self.annotations.clone()),
            flags,
        };
        within("a start", Follower::new(origin, self.ground.clone(), None, Arc::default()).start()).await
    }

    fn unmet(&self) -> Vec<String> {
        self.ground.ready.unmet().into_iter().map(|(name, reason)| format!("{name}: {reason}")).collect()
    }

    /// Waits until something holds while time goes on, the configuration being followed.
    async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        eventually(what, || {
            self.hand.advance(Duration::from_millis(50));
            holds()
        })
        .await;
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        self.ground.tasks.end();
    }
}

#[tokio::test]
async fn a_bad_first_set_of_annotations_is_ignored_as_a_whole_and_said_and_the_file_alone_is_used() {
    let pod = Configured::new().await;
    pod.annotate("bearerd.dev/log-level=\"debug\"\nbearerd.dev/metadata=\"everything\"\n");
    let (sidecar, follower) = pod.start("token").await;
    let follow = follower.follow(&sidecar);
    let story = async {
        pod.world.google.exchanges_reach(1).await;
        let unmet = || pod.unmet().join("\n");
        pod.until("the token", || !unmet().contains("token default")).await;
        assert!(unmet().starts_with("annotations: ") && unmet().contains("metadata"), "{}", unmet());
        let status = sidecar.status();
        assert!(status.config.last_error.as_ref().unwrap().message.contains("metadata"), "shown in the status");
        assert!(status.config.loaded.is_some());
        assert!(capture::log().contains("the annotations are not used: "));
        // A minute later the application starts all the same.
        for _ in 0..61 {
            pod.hand.advance(Duration::from_secs(1));
        }
        eventually("the end of the wait", || pod.ground.ready.is_ready()).await;
        assert!(opened("annotations"));
        // And a good set is taken at once.
        pod.annotate("bearerd.dev/hosts=\"storage.googleapis.com\"\n");
        let hosts = || sidecar.status().routes[0].hosts.clone();
        pod.until("the annotations in use", || hosts() == ["storage.googleapis.com"]).await;
        assert!(sidecar.status().config.last_error.is_none());
        // A bad set later leaves the last good one, also when the file changes under it.
        pod.annotate("bearerd.dev/hosts=\"storage.googleapis.com\"\nbearerd.dev/scope=\"x\"\n");
        pod.until("the refusal", || sidecar.status().config.last_error.is_some()).await;
        assert_eq!(hosts(), ["storage.googleapis.com"]);
        pod.write_config("unmatched: deny\n");
        let reloads = || pod.ground.metrics.config_reloads.get();
        let before = reloads();
        pod.until("the changed file in use", || reloads() > before).await;
        assert_eq!(hosts(), ["storage.googleapis.com"], "with the last good annotations");
        assert!(sidecar.status().config.last_error.is_some(), "and the bad ones still said");
    };
    tokio::select! {
        never = follow => panic!("{never}"),
        () = story => {}
    }
}

#[tokio::test]
async fn a_narrower_ceiling_comes_into_force_whatever_the_annotations_chose_before() {
    let pod = Configured::new().await;
    let elsewhere = "bearerd.dev/hosts=\"pubsub.googleapis.com\"\n";
    pod.annotate(elsewhere);
    let (sidecar, follower) = pod.start("listening").await;
    let follow = follower.follow(&sidecar);
    let story = async {
        let hosts = || sidecar.status().routes[0].hosts.clone();
        let error = || sidecar.status().config.last_error.map(|error| error.message).unwrap_or_default();
        assert_eq!(hosts(), ["pubsub.googleapis.com"]);
        let narrow = "allow: {hosts: [storage.googleapis.com]}\n";
        pod.write_config(narrow);
        pod.until("the narrower ceiling", || hosts() == ["storage.googleapis.com"]).await;
        assert!(error().contains("'pubsub.googleapis.com' is beyond"), "{}", error());
        assert!(!error().contains("the last good ones"), "said once: {}", error());
        // Back inside, they count again; and when another bad set lies there, both are told.
        pod.write_config("");
        pod.until("the annotations in use again", || hosts() == ["pubsub.googleapis.com"] && error().is_empty()).await;
        pod.annotate("bearerd.dev/scope=\"x\"\n");
        pod.until("the refusal", || error().contains("unknown annotation 'scope'")).await;
        assert_eq!(hosts(), ["pubsub.googleapis.com"]);
        pod.write_config(narrow);
        pod.until("the narrower ceiling again", || hosts() == ["storage.googleapis.com"]).await;
        let both = ["unknown annotation 'scope'", "; the last good ones: ", "bearerd.dev/hosts[0]: 'pubsub"];
        assert!(both.iter().all(|part| error().contains(part)), "{}", error());
        // A file that is wrong by itself takes nothing away.
        pod.write_config("unmatched: maybe\n");
        pod.until("the file's refusal", || error().contains("unmatched")).await;
        assert_eq!(hosts(), ["storage.googleapis.com"]);
    };
    tokio::select! {
        never = follow => panic!("{never}"),
        () = story => {}
    }
}

#[tokio::test]
async fn a_changed_annotation_of_the_injectors_is_said_to_wait_for_the_next_pod_until_it_is_back() {
    let pod = Configured::new().await;
    let annotate = |secret: &str, host: &str| {
        pod.annotate(&format!("bearerd.dev/secret-name=\"{secret}\"\nbearerd.dev/hosts=\"{host}\"\n"));
    };
    annotate("first", "storage.googleapis.com");
    let (sidecar, follower) = pod.start("listening").await;
    let follow = follower.follow(&sidecar);
    let story = async {
        let warnings = || {
            let all = sidecar.status().warnings;
            all.into_iter().filter(|warning| warning.contains("pod")).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(warnings(), "");
        annotate("second", "pubsub.googleapis.com");
        let told = "bearerd.dev/secret-name: the change takes effect in the next pod, not in this one";
        pod.until("the warning", || warnings() == told).await;
        assert_eq!(sidecar.status().routes[0].hosts, ["pubsub.googleapis.com"], "the rest takes effect");
        assert!(capture::log().contains(told));
        annotate("first", "pubsub.googleapis.com");
        pod.until("no warning", || warnings().is_empty()).await;
    };
    tokio::select! {
        never = follow => panic!("{never}"),
        () = story => {}
    }
}

#[tokio::test]
async fn who_waits_for_nothing_is_not_kept_by_bad_annotations_either() {
    let pod = Configured::new().await;
    pod.annotate("bearerd.dev/metadata=\"everything\"\n");
    let (sidecar, _follower) = pod.start("listening").await;
    assert!(pod.ground.ready.is_ready(), "{:?}", pod.unmet());
    assert!(sidecar.status().config.last_error.is_some());
}
