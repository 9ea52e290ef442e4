//! What the story is played on: a fake Google, two hosts that only look like it, a mounted key, and the settings
//! of a real sidecar, all on free ports of loopback.

use std::{fmt, io, path::Path, time::Duration};

use bytes::Bytes;

use super::{
    client::Client,
    folder::{Folder, Mount},
    steps::{Expecting as _, Failed},
};
use crate::{
    app::{Addresses, Ground, Listeners, MOST_CLIENTS, Metadata, Settings, Sidecar, Upstream, WaitFor, trust},
    authority::{Authority, Host},
    clock::Clock,
    credential::{CredentialName, Kind, Spec, expand_scope},
    demo::{FakeGoogle, KeyFile, Protocols, Recorded, RecordingHost},
    net::dial,
    policy::{DEFAULT_CREDENTIAL, HostPattern, Policy, Route, Unmatched},
    shutdown::{DrainSettings, Tasks},
    tls::TrustFiles,
    token,
};

/// How fast time passes on the stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Ten times as fast, and refreshes come early: a token's whole life fits into the story.
    Story,
    /// As it does.
    Real,
}

/// What came together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    requests: u64,
    tokens: usize,
    received: usize,
}

impl std::ops::AddAssign for Sum {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.tokens += other.tokens;
        self.received += other.received;
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, tokens, received } = self;
        let received = received.div_ceil(1000);
        write!(
            f,
            "Google saw {requests} requests and issued {tokens} tokens. The client received {received} kB, and not one \
             of Google's tokens in them."
        )
    }
}

/// One stage. A story that is to fail breaks something on it before it is told.
pub(super) struct Stage {
    pub(super) google: FakeGoogle,
    pub(super) first: KeyFile,
    pub(super) second: KeyFile,
    pub(super) mount: Mount,
    /// Named like a Google host and not Google's; over plain HTTP and over TLS.
    pub(super) evil: RecordingHost,
    pub(super) evil_tls: RecordingHost,
    /// An IoT service, where the story has one.
    pub(super) bridge: Option<RecordingHost>,
    pub(super) settings: Settings,
    /// How long something may take that should take milliseconds.
    pub(super) patience: Duration,
    /// Life of Google's tokens, on the stage's clock.
    pub(super) life: Duration,
    /// What the metadata server gave the client.
    pub(super) placeholder: String,
    clock: Clock,
    sidecar: Option<Sidecar>,
    ground: Option<Ground>,
    client: Option<Client>,
    pub(super) tasks: Tasks,
    folder: Folder,
}

impl Stage {
    /// Sets it. The sidecar is not started.
    pub(super) async fn set(pace: Pace) -> anyhow::Result<Self> {
        let (clock, life) = match pace {
            Pace::Story => (Clock::fast(SPEED), BRIEF_LIFE),
            Pace::Real => (Clock::system(), LIFE),
        };
        let tasks = Tasks::new();
        let google = FakeGoogle::start(&tasks, clock).await?;
        let first = google.add_account(ACCOUNT, PROJECT)?;
        let second = google.add_key(ACCOUNT)?;
        let hello = || Some(Bytes::from_static(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"));
        let evil = RecordingHost::start(&tasks, hello()).await?;
        let evil_tls = RecordingHost::start_tls(&tasks, &google, EVIL, Protocols::H1, hello()).await?;
        let folder = Folder::make()?;
        let mount = Mount::make(folder.path().join("keys"))?;
        let mut connect_to = dial::ConnectTo::default();
        connect_to.below(Host::parse("googleapis.com")?, 443, here(google.address())?);
        connect_to.exact(Host::parse(EVIL)?, 80, here(evil.address())?);
        connect_to.exact(Host::parse(EVIL)?, 443, here(evil_tls.address())?);
        let settings = settings(pace, &google, folder.path(), mount.path(), connect_to)?;
        Ok(Self {
            google,
            first,
            second,
            mount,
            evil,
            evil_tls,
            bridge: None,
            settings,
            patience: PATIENCE,
            life,
            placeholder: String::new(),
            clock,
            sidecar: None,
            ground: None,
            client: None,
            tasks,
            folder,
        })
    }

    /// Starts a sidecar on the settings and a client beside it; waits until `/startupz` would say 200.
    pub(super) async fn start(&mut self) -> Result<Addresses, Failed> {
        self.google.script(|script| script.lifetime = self.life);
        let ground = self.ground.insert(Ground::new(self.clock).map_err(|error| not_started(&error))?).clone();
        let sidecar = Sidecar::start(self.settings.clone(), ground.clone()).map_err(|error| not_started(&error))?;
        let addresses = self.sidecar.insert(sidecar).addresses();
        let unmet = || ground.ready.unmet().into_iter().map(|(name, why)| format!("{name}: {why}")).collect::<Vec<_>>();
        self.until("a sidecar that has a token", || unmet().join("; "), || ground.ready.is_ready()).await?;
        let (Some(proxy), Some(metadata)) = (addresses.proxy, addresses.metadata) else {
            return Err(Failed::new("a proxy and a metadata server", "one of them is switched off"));
        };
        let bundle = self.trust_files().bundle;
        let client = Client::new(proxy, metadata, addresses.token_api, &bundle, &self.tasks);
        self.client = Some(client.expecting("a bundle of roots")?);
        Ok(addresses)
    }

    pub(super) fn client(&self) -> Result<&Client, Failed> {
        self.client.as_ref().ok_or_else(|| Failed::new("a running sidecar", "none"))
    }

    pub(super) fn ground(&self) -> Result<&Ground, Failed> {
        self.ground.as_ref().ok_or_else(|| Failed::new("a running sidecar", "none"))
    }

    /// Hands the sidecar out, to be ended.
    pub(super) fn take_sidecar(&mut self) -> Result<Sidecar, Failed> {
        self.sidecar.take().ok_or_else(|| Failed::new("a running sidecar", "none"))
    }

    pub(super) fn trust_files(&self) -> TrustFiles {
        TrustFiles::in_directory(&self.folder.path().join("trust"))
    }

    /// Where the files of the story lie.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Every token that Google has issued.
    pub(super) fn tokens(&self) -> Vec<String> {
        self.google.tokens().into_iter().map(|(text, _)| text).collect()
    }

    /// What reached Google's APIs after its request number `count`.
    pub(super) fn since(&self, count: u64) -> Vec<Recorded> {
        self.google.requests().into_iter().filter(|request| request.number > count).collect()
    }

    /// Looks again and again until `done`, but not for ever.
    pub(super) async fn until(
        &self,
        expected: &str,
        seen: impl Fn() -> String,
        done: impl Fn() -> bool,
    ) -> Result<(), Failed> {
        // The machine's clock: patience does not run fast.
        let clock = Clock::system();
        let begin = clock.now();
        while !done() {
            let waited = begin.until(clock.now());
            if waited > self.patience {
                let seen = seen();
                return Err(Failed::new(expected, format!("{seen}, after {:.1} s", waited.as_secs_f64())));
            }
            clock.sleep(LOOK).await;
        }
        Ok(())
    }

    /// The story in numbers.
    pub(super) fn sum(&self) -> Sum {
        Sum {
            requests: self.google.request_count(),
            tokens: self.google.tokens().len(),
            received: self.client.as_ref().map_or(0, Client::received),
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(ground) = &self.ground {
            ground.tasks.end();
        }
        self.tasks.end();
    }
}

/// What a configuration with nothing but a key would give, on free ports and with this Google.
fn settings(
    pace: Pace,
    google: &FakeGoogle,
    folder: &Path,
    keys: &Path,
    connect_to: dial::ConnectTo,
) -> anyhow::Result<Settings> {
    let free = Some("127.0.0.1:0".parse()?);
    let apis = || HostPattern::parse("*.googleapis.com").map(|apis| vec![apis]);
    // Nothing is left to save of a token's life: its refresh comes due after a sixteenth of it.
    let early = token::Settings { availability: Duration::from_secs(3600) };
    let brief = DrainSettings { linger: Duration::from_millis(200), deadline: Duration::from_secs(250) };
    let (refresh, drain) = match pace {
        Pace::Story => (early, brief),
        Pace::Real => Default::default(),
    };
    Ok(Settings {
        credentials: vec![Spec {
            name: CredentialName::new(DEFAULT_CREDENTIAL),
            kind: Kind::ServiceAccountKey {
                path: keys.to_owned(),
                scopes: vec![expand_scope("cloud-platform")],
                subject: None,
                signs_urls: false,
            },
        }],
        refresh,
        policy: Policy::new(vec![Route::google_apis(apis()?)], Unmatched::Pass, apis()?),
        upstream: Upstream {
            dial: dial::Settings { connect_to, parent: None },
            extra_roots: Some(google.ca_pem().into_bytes()),
        },
        trust: trust::Settings { public: folder.join("trust"), private: folder.join("private") },
        listeners: Listeners { proxy: free, metadata: free, token_api: None, health: free, control: free },
        mqtt: Vec::new(),
        most_clients: MOST_CLIENTS,
        metadata: Metadata::Placeholder,
        tokens: Vec::new(),
        wait_for: WaitFor::Token,
        password: None,
        drain,
        log_level: None,
    })
}

pub(super) fn here(address: std::net::SocketAddr) -> io::Result<Authority> {
    Authority::parse(&address.to_string(), None).map_err(io::Error::other)
}

fn not_started(error: &anyhow::Error) -> Failed {
    Failed::new("a sidecar that starts", format!("{error:#}"))
}

pub(super) const ACCOUNT: &str = "uploader@demo-project.iam.gserviceaccount.com";
pub(super) const PROJECT: &str = "demo-project";
/// Begins like one of Google's names and ends elsewhere.
pub(super) const EVIL: &str = "storage.googleapis.com.evil.test";

/// Times the machine's clock: enough for a token's life, and the sidecar's shortest time limits stay seconds.
pub(super) const SPEED: u32 = 10;

/// What Google answers.
const LIFE: Duration = Duration::from_secs(3599);

/// Sixteen seconds of the machine's; a refresh comes due after one.
const BRIEF_LIFE: Duration = Duration::from_secs(160);

const PATIENCE: Duration = Duration::from_secs(10);

const LOOK: Duration = Duration::from_millis(1);
