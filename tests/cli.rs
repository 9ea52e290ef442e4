//! The built binary as its users meet it: what it prints and where, what it exits with, and a sidecar as a process of
//! its own against a fake Google.

#![allow(clippy::unwrap_used, reason = "everything here is a test or a part of one")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use bearerd::{
    clock::Clock,
    demo::{FakeGoogle, FakeNode, KeyFile, NodeTrouble},
    shutdown::Tasks,
};
use rustix::process::{Pid, Signal, kill_process};

const ACCOUNT: &str = "uploader@demo-project.iam.gserviceaccount.com";
const PATIENCE: Duration = Duration::from_secs(20);

/// The command with an environment of its own: what the machine has set must not show.
fn bearerd(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bearerd"));
    command.args(args).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    bearerd(args).output().unwrap()
}

/// Exit status, standard output, standard error.
fn outcome(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn key() -> KeyFile {
    KeyFile::generate(ACCOUNT, "demo-project").unwrap()
}

/// A folder with files in it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn name(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn file(&self, name: &str, content: &str) -> String {
        // As editors do it: the new version takes the old one's place in one step.
        fs::write(self.path("..new"), content).unwrap();
        fs::rename(self.path("..new"), self.path(name)).unwrap();
        self.name(name)
    }
}

#[test]
fn wrong_usage_is_64_on_standard_error_and_says_what_is_accepted() {
    for (args, told) in [
        (&[][..], "Usage: bearerd <COMMAND>"),
        (&["rum"], "a similar subcommand exists: 'run'"),
        (&["run", "--confg", "x"], "a similar argument exists: '--config'"),
        (&["run"], "nothing to run on: give --config FILE, --annotations FILE or --key PATH"),
        (&["run", "--key", "x", "--log-level", "loud"], "error, warn, info, debug, trace"),
        (&["explain", "GET"], "<URL>"),
        (&["explain", "GET", "storage.googleapis.com"], "want https://HOST/PATH"),
        (&["explain", "GET", "https://x.test/", "-H", "nothing"], "want 'name: value'"),
        (&["ready", "--wait", "5"], "want a duration such as 10s"),
        (&["env", "--format", "bash"], "shell, dotenv, json, k8s"),
        (&["exec", "--key", "x"], "<COMMAND>..."),
        (&["exec", "--", "true"], "give --key PATH or --config FILE"),
        (&["inject"], "--filename <PATH>"),
        (&["inject", "-f", "x", "--check", "--diff"], "cannot be used with '--diff'"),
    ] {
        let (status, out, err) = outcome(&run(args));
        assert_eq!((status, out.as_str()), (64, ""), "{args:?}: {err}");
        assert!(err.contains(told), "{args:?}: {err}");
    }
}

#[test]
fn a_webhook_that_cannot_start_says_what_is_missing() {
    let folder = Folder::new();
    let config = folder.file("config.yaml", "image: ghcr.io/bearerd/bearerd:0.1.0\n");
    let with = |rest: &'static str| format!("webhook --config {config} {rest}");
    let names = "--webhook-configuration b --service b.ns.svc --ca-secret ns/b-ca";
    let table = [
        ("webhook".to_owned(), 64, "--config <FILE>"),
        (with(""), 64, "--tls=selfManaged needs --webhook-configuration NAME"),
        (with("--webhook-configuration b"), 64, "--tls=selfManaged needs --ca-secret NAMESPACE/NAME"),
        (with("--webhook-configuration b --ca-secret b"), 64, "--ca-secret: want NAMESPACE/NAME, such as"),
        (
            with("--webhook-configuration b --ca-secret ns/b"),
            64,
            "--tls=selfManaged needs --service NAME.NAMESPACE.svc",
        ),
        (with("--webhook-configuration b --ca-secret ns/b --service B!"), 64, "--service: want NAME.NAMESPACE.svc"),
        (with("--tls=files"), 64, "--tls=files needs --tls-dir DIR"),
        (with("--tls=provided"), 64, "invalid value 'provided'"),
        (with("--listen 10250"), 64, "invalid value '10250'"),
        (format!("{} {names}", with("")), 1, "not in a cluster: the webhook needs the service account"),
        ("webhook --config /does/not/exist --tls=files --tls-dir /tmp".to_owned(), 1, "/does/not/exist: No such file"),
    ];
    for (line, expected, told) in table {
        let (status, out, err) = outcome(&run(&line.split_whitespace().collect::<Vec<_>>()));
        assert_eq!((status, out.as_str()), (expected, ""), "{line}: {err}");
        assert!(err.contains(told), "{line}: {err}");
    }
}

#[test]
fn a_configuration_in_the_environment_counts_like_a_file_and_beside_none() {
    let with = |args: &[&str], text: &str| outcome(&bearerd(args).env("BEARERD_CONFIG_TEXT", text).output().unwrap());
    let explain = ["explain", "GET", "https://x.example.org/"];
    let (status, out, err) = with(&explain, r#"{"routes":[{"name":"mine","hosts":["x.example.org"]}]}"#);
    assert!(status == 0 && out.contains("mine"), "{out}{err}");
    let (status, out, err) = with(&["check", "--offline"], "workers: none");
    assert_eq!((status, out.as_str()), (1, ""), "{err}");
    assert!(err.starts_with("bearerd: --config-text:1:10: workers: want a number"), "{err}");
    let (status, _, err) = with(&["ready", "--config", "/does/not/exist"], "{}");
    assert!(status == 64 && err.contains("'--config <FILE>' cannot be used with '--config-text <YAML>'"), "{err}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    drop(taken);
    let (status, _, err) = with(&["ready"], &format!("listeners: {{health: '{address}'}}"));
    assert!(status == 1 && err.contains(&format!("no sidecar answers on {address}")), "{err}");
}

#[test]
fn every_command_has_one_help_text() {
    let commands = ["run", "demo", "exec", "check", "explain", "token", "env", "webhook", "inject", "ready", "quit"];
    for command in commands {
        let (status, long, err) = outcome(&run(&[command, "--help"]));
        assert_eq!((status, err.as_str()), (0, ""), "{command}");
        assert!(long.contains(&format!("Usage: bearerd {command}")), "{long}");
        assert_eq!(long, outcome(&run(&[command, "-h"])).1, "{command}");
        let mut with_value = bearerd(&[command, "--help"]);
        let shown = outcome(&with_value.env("BEARERD_CONFIG", "/of/this/shell").output().unwrap()).1;
        assert_eq!(long, shown, "{command}: a value of the environment is no help");
    }
    let (status, version, _) = outcome(&run(&["--version"]));
    assert_eq!((status, version), (0, format!("bearerd {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn everything_wrong_with_a_configuration_is_told_at_once_and_where() {
    let folder = Folder::new();
    let config = folder.file(
        "c.yaml",
        "routes:\n  - name: a\n    hosts: ['https://x.googleapis.com/']\n    action: injekt\nunmatchd: deny\n\
         upstream: {parentProxy: 'socks://user:hunter2@proxy:1'}\n",
    );
    let annotations = folder.file("annotations", "bearerd.dev/log-levl=\"debug\"\n");
    let (status, out, err) = outcome(&run(&["check", "--offline", "--config", &config, "--annotations", &annotations]));
    assert_eq!((status, out.as_str()), (1, ""));
    let lines: Vec<&str> = err.lines().collect();
    for (line, place, message) in [
        (0, "c.yaml:3:13: routes[0].hosts[0]: ", "a URL or path, want only the name"),
        (1, "c.yaml:4:13: routes[0].action: ", "want inject, pass or deny"),
        (2, "c.yaml:5:1: ", "unknown field 'unmatchd', did you mean 'unmatched'?"),
        (3, "c.yaml:6:25: upstream.parentProxy: ", "want http://host:port"),
        (4, "annotations:1:1: ", "unknown annotation 'log-levl', did you mean 'log-level'?"),
    ] {
        assert!(lines[line].starts_with("bearerd: "), "{err}");
        assert!(lines[line].contains(place) && lines[line].contains(message), "{}", lines[line]);
    }
    assert!(lines.len() == 5 && !err.contains("hunter2"), "{err}");
}

#[test]
fn keys_are_judged_offline_with_a_reason_each() {
    let folder = Folder::new();
    let key = key();
    let good = key.json();
    let ec = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let with = |field: &str, value: &str| {
        let mut json: serde_json::Value = serde_json::from_str(&good).unwrap();
        json[field] = value.into();
        json.to_string()
    };
    for (content, status, told) in [
        (good.clone(), 0, ACCOUNT),
        (key.json_pkcs1(), 0, ACCOUNT),
        (with("private_key", &ec), 1, "is an EC key; RSA is needed"),
        (with("type", "authorized_user"), 1, "accepted here: `service_account`"),
        (with("token_uri", "https://evil.test/token"), 1, "`token_uri` is not one of Google's"),
        (good[..300].to_owned(), 1, "cut short"),
        (String::new(), 1, "empty"),
        (key.pem(), 1, "accepted: the JSON key file"),
    ] {
        let path = folder.file("key.json", &content);
        let (found, out, err) = outcome(&run(&["check", "--offline", "--key", &path]));
        assert_eq!((found, err.as_str()), (status, ""), "{told}: {out}");
        let mark = if status == 0 { "\nok    key default" } else { "\nFAIL  key default" };
        assert!(out.contains(mark) && out.contains(told), "{told}: {out}");
        let body = key.pem().lines().nth(1).unwrap().to_owned();
        assert!(!out.contains(&body), "{told}");
    }
    fs::create_dir(folder.path("mount")).unwrap();
    let (status, out, _) = outcome(&run(&["check", "--offline", "--key", &folder.name("mount")]));
    assert!(status == 1 && out.contains("the directory holds no file"), "{out}");
    let (status, _, err) = outcome(&run(&["token", "--key", &folder.name("nowhere")]));
    assert!(status == 1 && err.contains("no usable key") && err.contains("there is no such file"), "{err}");
}

#[test]
fn explain_says_route_and_reason() {
    let folder = Folder::new();
    let config = folder.file(
        "c.yaml",
        "routes:\n  - {name: read, hosts: ['*.googleapis.com'], methods: [GET]}\n\
         \x20 - {name: no-writes, hosts: ['*.googleapis.com'], action: deny}\n",
    );
    let storage = "https://storage.googleapis.com/b";
    for (method, url, told) in [
        ("GET", storage, "gets the access token of credential 'default' in its header authorization"),
        ("POST", storage, "no-writes (deny)\nresult  refused with 403"),
        ("get", storage, "methods are case-sensitive"),
        ("GET", "http://storage.googleapis.com/b", "sent on over TLS to port 443"),
        ("GET", "https://storage.googleapis.com/b?X-Goog-Signature=abc", "(signed_url)"),
        ("GET", "https://example.com/", "bytes are carried unseen"),
        ("GET", "http://169.254.169.254/computeMetadata/v1/", "(local_address)"),
        ("GET", "https://203.0.113.7/", "(ip_literal)"),
    ] {
        let (status, out, err) = outcome(&run(&["explain", method, url, "--config", &config]));
        assert!(status == 0 && err.is_empty() && out.contains(told), "{method} {url}: {out}{err}");
    }
    let partial = folder.file("p.yaml", "routes: [{name: no, hosts: [a.example], paths: [/admin], action: deny}]");
    let (_, out, err) = outcome(&run(&["explain", "GET", "https://a.example:8443/admin", "--config", &partial]));
    assert!(out.contains("a tunnel") && out.contains("result  passes as it is"), "{out}{err}");
    for (url, told) in [
        ("https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/x:generateAccessToken", "(minting)"),
        ("https://oauth2.googleapis.com/token", "(token_exchange)"),
    ] {
        let out = outcome(&run(&["explain", "POST", url])).1;
        assert!(out.contains(told), "{out}");
    }
}

#[test]
fn check_knows_who_gets_tokens_by_mqtt() {
    let folder = Folder::new();
    let key = folder.file("device.pem", include_str!("data/p256-sec1.pem"));
    let config = folder.file(
        "bearerd.yaml",
        &format!(
            "credentials:\n  - {{name: device, signedJwt: {{path: {key}, preset: iotDevice, audience: p}}}}\n\
             mqtt:\n  - {{listen: 1883, upstream: 'mqtt.example.com:8883', credential: device}}\nroutes: []\n"
        ),
    );
    let (status, out, err) = outcome(&run(&["check", "--offline", "--config", &config]));
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("mqtt.example.com:8883: a token of device as the password"), "{out}");
    assert!(!out.contains("warn"), "{out}");
}

#[test]
fn check_and_explain_know_what_is_handed_out() {
    let folder = Folder::new();
    let key = folder.file("key.json", &key().json());
    let config = folder.file(
        "bearerd.yaml",
        &format!(
            "credentials:\n  - {{name: default, serviceAccountKey: {{path: {key}}}}}\n  \
             - {{name: drivers, signedJwt: {{path: {key}, preset: fleetEngineDriver}}}}\n\
             tokens:\n  - {{name: driver, credential: drivers, token: jwt, path: '/token/driver/{{vehicleId}}'}}\n  \
             - {{name: self, credential: default, token: selfSigned, file: {{path: /nowhere/at-all/token}}}}\n"
        ),
    );
    let (status, out, err) = outcome(&run(&["check", "--offline", "--config", &config]));
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    for line in [
        "1 route (google-apis), hands out driver, self",
        "/token/driver/{vehicleId}: jwt of drivers, 15 min left",
        "/v1/tokens/self: selfSigned of default, 15 min left",
        "/nowhere/at-all is no directory here",
    ] {
        assert!(out.contains(line), "{line}: {out}");
    }
    for (url, told) in [
        (
            "http://127.0.0.1:14183/token/driver/v1",
            "entry   driver\nresult  the jwt token of credential 'drivers' is handed",
        ),
        ("http://127.0.0.1:14183/v1/tokens/self", "entry   self\nresult  the selfSigned token of credential 'default'"),
        ("http://127.0.0.1:14183/token/driver/*", "refused with 400: a parameter is malformed"),
        ("http://127.0.0.1:14183/other", "refused with 404: no entry of tokens has this path"),
        ("http://127.0.0.1:14184/other", "route "),
    ] {
        let (status, out, err) = outcome(&run(&["explain", "GET", url, "--config", &config]));
        assert_eq!((status, err.as_str()), (0, ""), "{url}");
        assert!(out.contains(told), "{url}: {out}");
    }
}

#[test]
fn the_environment_is_printed_so_that_a_shell_can_take_it() {
    let folder = Folder::new();
    let key = folder.file("key.json", &key().json());
    let (status, shell, err) = outcome(&run(&["env", "--key", &key]));
    assert_eq!((status, err.as_str()), (0, ""));
    let shown = "eval \"$1\"; printf '%s\\n' \"$HTTPS_PROXY\" \"$GOOGLE_CLOUD_PROJECT\" \"$JAVA_TOOL_OPTIONS\"";
    let sourced = Command::new("sh").args(["-euc", shown, "sh", &shell]).env_clear().output().unwrap();
    let sourced = String::from_utf8(sourced.stdout).unwrap();
    assert!(sourced.starts_with("http://127.0.0.1:14180\ndemo-project\n-Dhttps.proxyHost=127.0.0.1 "), "{sourced}");

    let json = outcome(&run(&["env", "--key", &key, "--format", "json", "--project", "it's"])).1;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["GOOGLE_CLOUD_PROJECT"], "it's");
    let dotenv = outcome(&run(&["env", "--format", "dotenv"])).1;
    assert!(dotenv.starts_with("HTTPS_PROXY=http://127.0.0.1:14180\n"), "{dotenv}");
    let k8s = outcome(&run(&["env", "--format", "k8s"])).1;
    assert!(k8s.starts_with("- name: HTTPS_PROXY\n  value: \"http://127.0.0.1:14180\"\n"), "{k8s}");
}

#[test]
fn what_the_user_has_set_is_kept_and_told_without_its_value() {
    let mut command = bearerd(&["env"]);
    command.env("HTTPS_PROXY", "http://me:hunter2@proxy.corp:3128").env("SSL_CERT_FILE", "/corp.pem");
    command.env("CURL_CA_BUNDLE", "/corp.pem").env("NO_PROXY", "corp.test");
    let (status, out, err) = outcome(&command.output().unwrap());
    assert_eq!(status, 0);
    assert!(out.contains("export NO_PROXY='corp.test,localhost,"), "{out}");
    assert!(!out.contains("HTTPS_PROXY") && !out.contains("SSL_CERT_FILE"), "{out}");
    assert!(err.contains("bearerd: HTTPS_PROXY: already set"), "{err}");
    assert!(err.contains("bearerd: SSL_CERT_FILE, CURL_CA_BUNDLE: already set"), "{err}");
    assert!(!err.contains("hunter2") && err.lines().count() == 2, "{err}");
}

#[test]
fn nobody_to_ask_is_said_with_the_address() {
    let folder = Folder::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = folder.file("c.yaml", &format!("listeners: {{health: '{port}', control: '{port}'}}\n"));
    for command in ["ready", "quit"] {
        let (status, out, err) = outcome(&run(&[command, "--config", &config]));
        assert_eq!((status, out.as_str()), (1, ""));
        assert!(err.starts_with(&format!("bearerd: no sidecar answers on {port} (")), "{err}");
    }
    let config = folder.file("c.yaml", "listeners: {health: 'off'}\n");
    let (status, _, err) = outcome(&run(&["ready", "--config", &config]));
    assert!(status == 1 && err.contains("listeners.health is off"), "{err}");
}

/// A fake Google, and what a configuration needs to reach it.
struct World {
    google: FakeGoogle,
    key: KeyFile,
    folder: Folder,
    tasks: Tasks,
}

impl World {
    async fn new() -> Self {
        let tasks = Tasks::new();
        let google = FakeGoogle::start(&tasks, Clock::system()).await.unwrap();
        let key = google.add_account(ACCOUNT, "demo-project").unwrap();
        let folder = Folder::new();
        folder.file("key.json", &key.json());
        folder.file("google.pem", &google.ca_pem());
        Self { google, key, folder, tasks }
    }

    /// A configuration with free ports and this Google.
    fn config(&self) -> String {
        let at = |name: &str| self.folder.name(name);
        let free = "127.0.0.1:0";
        format!(
            "credentials: [{{name: default, serviceAccountKey: {{path: '{}'}}}}]\n\
             listeners: {{proxy: '{free}', metadata: '{free}', health: '{free}', control: '{free}'}}\n\
             upstream: {{extraRoots: '{}', connectTo: {{'*.googleapis.com:443': '{}'}}}}\n\
             trust: {{public: '{}', private: '{}'}}\n\
             drain: {{linger: 0s}}\n",
            at("key.json"),
            at("google.pem"),
            self.google.address(),
            at("trust"),
            at("private"),
        )
    }

    fn config_file(&self) -> String {
        self.folder.file("c.yaml", &self.config())
    }

    /// What no output may hold.
    fn secrets(&self) -> Vec<String> {
        let tokens = self.google.tokens().into_iter().map(|(token, _)| token);
        let pem = self.key.pem();
        tokens.chain(pem.lines().filter(|line| !line.starts_with('-')).map(str::to_owned)).collect()
    }
}

/// A table without its columns.
fn single_spaced(table: &str) -> String {
    table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n").collect()
}

/// `bearerd run` as a process, its log read as it comes.
struct Sidecar {
    child: Child,
    lines: mpsc::Receiver<String>,
    log: Vec<String>,
}

impl Sidecar {
    fn start(args: &[&str]) -> Self {
        let mut child = bearerd(&["run"]).args(args).stderr(Stdio::piped()).spawn().unwrap();
        let (send, lines) = mpsc::channel();
        let err = child.stderr.take().unwrap();
        thread::spawn(move || BufReader::new(err).lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        Self { child, lines, log: Vec::new() }
    }

    /// The next line that contains `text`.
    fn line(&mut self, text: &str) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.log.push(line),
                Err(_) => panic!("{text:?} was not logged:\n{}", self.log.join("\n")),
            }
            let line = self.log.last().unwrap();
            if line.contains(text) {
                return line.clone();
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The end, with everything that was logged.
    fn end(mut self) -> (i32, String) {
        let log = std::iter::from_fn(|| self.lines.recv_timeout(PATIENCE).ok());
        let log: Vec<String> = self.log.drain(..).chain(log).collect();
        (self.child.wait().unwrap().code().unwrap_or(-1), log.join("\n"))
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `name=127.0.0.1:123` in a log line.
fn address(line: &str, name: &str) -> SocketAddr {
    let found = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no {name} in {line}")).parse().unwrap()
}

fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_first_configuration_is_waited_for_and_every_later_one_followed() {
    let world = World::new().await;
    let good = world.config();
    // A token pasted into the wrong place, and a field that is not one.
    let pasted = "ya29.c0ASRK0Ga-pasted";
    let config = world.folder.file("c.yaml", &format!("{good}rutes: []\n{pasted}: x\n"));
    let mut sidecar = Sidecar::start(&["--config", &config]);
    let health = address(&sidecar.line("answering probes"), "health");
    assert_eq!(get(health, "/livez").0, 200);
    assert_eq!(get(health, "/readyz").0, 503);
    let (status, why) = get(health, "/startupz");
    assert!(status == 503 && why.contains("c.yaml:6:1: unknown field 'rutes', did you mean 'routes'?"), "{why}");
    assert!(!why.contains(pasted), "{why}");

    world.folder.file("c.yaml", &good);
    let listening = sidecar.line("listening");
    let (health, control) = (address(&listening, "health"), address(&listening, "control"));
    let ports = format!("listeners: {{health: '{health}', control: '{control}'}}\n");
    let ports = world.folder.file("ports.yaml", &ports);
    let (status, out, err) = outcome(&run(&["ready", "--wait", "20s", "--config", &ports]));
    assert_eq!((status, out.as_str(), err.as_str()), (0, "", ""));

    world.folder.file("c.yaml", &format!("{good}unmatched: perhaps\n"));
    sidecar.line("the changed configuration is not used");
    let json = get(control, "/status.json").1;
    assert!(json.contains("c.yaml:6:12: unmatched: want pass or deny"), "{json}");
    world.folder.file("c.yaml", &format!("{good}unmatched: deny\nworkers: 2\n"));
    sidecar.line("workers: the change takes effect at the next start");
    sidecar.line("the changed configuration is in use");
    sidecar.signal(Signal::HUP);
    sidecar.line("the configuration was read again and is the one in use");
    assert!(get(control, "/status.json").1.contains("\"lastError\": null"));

    let (status, out, err) = outcome(&run(&["quit", "--config", &ports]));
    assert_eq!((status, out.as_str(), err.as_str()), (0, "", ""));
    let (status, log) = sidecar.end();
    assert_eq!(status, 0, "{log}");
    assert!(log.ends_with("ended clean=true"), "{log}");
    assert_eq!(log.matches("the changed configuration is in use").count(), 1, "{log}");
    for secret in world.secrets().iter().map(String::as_str).chain([pasted]) {
        assert!(!log.contains(secret), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_waited_for_and_sigterm_ends_in_order() {
    let world = World::new().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap();
    let config = world.config().replacen("proxy: '127.0.0.1:0'", &format!("proxy: '{port}'"), 1);
    let config = world.folder.file("c.yaml", &config);
    let mut sidecar = Sidecar::start(&["--config", &config]);
    let health = address(&sidecar.line("answering probes"), "health");
    let (status, why) = get(health, "/startupz");
    assert!(status == 503 && why.contains(&format!("listeners.proxy: cannot listen on {port}")), "{why}");
    assert!(sidecar.log.iter().any(|line| line.contains("cannot start yet")), "{:?}", sidecar.log);
    drop(taken);
    let listening = sidecar.line("listening");
    assert_eq!(address(&listening, "proxy"), port);
    sidecar.signal(Signal::TERM);
    let (status, log) = sidecar.end();
    assert_eq!(status, 0, "{log}");
    assert!(log.contains("draining reason=SIGTERM"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_cannot_be_written_is_the_reason_at_startupz() {
    let world = World::new().await;
    let in_the_way = world.folder.file("file", "");
    let config = world.config().replace(&world.folder.name("private"), &format!("{in_the_way}/private"));
    let config = world.folder.file("c.yaml", &config);
    let mut sidecar = Sidecar::start(&["--config", &config]);
    let health = address(&sidecar.line("listening"), "health");
    let (status, why) = get(health, "/startupz");
    assert!(status == 503 && why.starts_with("trust: trust.private: cannot use "), "{why}");
    assert!(why.contains("must be writable"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_google_refuses_is_the_reason_at_startupz() {
    let world = World::new().await;
    world.google.remove_key(&world.key.key_id);
    let config = world.config_file();
    let annotations = world.folder.file("annotations", "bearerd.dev/wait-for=\"token\"\n");
    let mut sidecar = Sidecar::start(&["--config", &config, "--annotations", &annotations]);
    let health = address(&sidecar.line("listening"), "health");
    sidecar.line("token refresh failed");
    let (status, why) = get(health, "/startupz");
    assert_eq!(status, 503);
    assert!(why.starts_with("token default: ") && !why.contains("no token yet"), "{why}");
    for secret in world.secrets() {
        assert!(!why.contains(&secret), "{why}");
    }
    // Everything that can be counted is there before it happens.
    let metrics = get(health, "/metrics").1;
    for series in [
        "bearerd_requests_refused_total{reason=\"two_hosts\"} 0",
        "bearerd_requests_refused_total{reason=\"authority_mismatch\"} 0",
        "bearerd_requests_refused_total{reason=\"untrusted_ca\"} 0",
        "bearerd_requests_refused_total{reason=\"minting\"} 0",
        "bearerd_requests_passed_total{reason=\"signed_url\"} 0",
        "bearerd_upstream_connect_errors_total{reason=\"dns\"} 0",
        "bearerd_token_refreshes_total{credential=\"default\"} 0",
        "bearerd_http_request_duration_seconds_count{route=\"google-apis\"} 0",
        "bearerd_connections_active{door=\"tunnel\"} 0",
        "bearerd_panics_total 0",
    ] {
        assert!(metrics.contains(series), "{series}");
    }
    assert!(!metrics.contains("bearerd_token_expiry_timestamp_seconds{"), "no token, no expiry");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_and_token_ask_google_once() {
    let world = World::new().await;
    let config = world.config_file();
    let (status, out, err) = outcome(&run(&["check", "--config", &config]));
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("\nok    token default  "), "{out}");
    let (status, out, err) = outcome(&run(&["token", "--header", "--config", &config]));
    assert_eq!((status, err.as_str()), (0, ""));
    let issued = world.google.tokens().pop().unwrap().0;
    assert_eq!(out, format!("Authorization: Bearer {issued}\n"));
    let (status, out, err) = outcome(&run(&["token", "reports", "--config", &config]));
    assert_eq!((status, out.as_str()), (1, ""));
    assert!(err.contains("no credential is called 'reports' (there is default)"), "{err}");

    world.google.remove_key(&world.key.key_id);
    let (status, out, _) = outcome(&run(&["check", "--config", &config]));
    assert!(status == 1 && out.contains("FAIL  token default"), "{out}");
}

const PROVIDER: &str = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/c";
const REPORTS: &str = "reports@demo-project.iam.gserviceaccount.com";

/// A configuration with a credential of each kind, all of which Google knows; the node's server is at `node`.
fn every_kind(world: &World, node: SocketAddr) -> String {
    world.google.allow_subject("the-subject-token", PROVIDER, "principal://cluster");
    world.google.allow_impersonation(ACCOUNT, REPORTS);
    world.google.allow_impersonation("principal://cluster", REPORTS);
    world.google.allow_person("1//refresh", "me@example.com");
    world.google.allow_person("1//another", "somebody@example.com");
    let token = world.folder.file("token", "the-subject-token\n");
    let identity = serde_json::json!({
        "type": "external_account", "audience": PROVIDER, "credential_source": {"file": token},
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": "https://sts.googleapis.com/v1/token",
    });
    let identity = world.folder.file("identity.json", &identity.to_string());
    let person = r#"{"type":"authorized_user","client_id":"i","client_secret":"hunter2","refresh_token":"1//refresh"}"#;
    let person = world.folder.file("person.json", person);
    let rule = "{resource: //storage.googleapis.com/projects/_/buckets/bbb, permissions: ['inRole:roles/x']}";
    let more = format!(
        "  - {{name: reports, impersonation: {{source: default, serviceAccount: {REPORTS}}}}}\n\
         \x20 - {{name: cluster, externalAccount: {{path: '{identity}'}}}}\n\
         \x20 - {{name: acting, externalAccount: {{path: '{identity}', serviceAccount: {REPORTS}}}}}\n\
         \x20 - {{name: less, downscoped: {{source: reports, rules: [{rule}]}}}}\n\
         \x20 - {{name: me, authorizedUser: {{path: '{person}'}}}}\n\
         \x20 - {{name: node, metadataServer: {{}}}}\nlisteners:"
    );
    let config = world.config().replacen("credentials: [", "credentials:\n  - ", 1).replacen(
        "}}]\nlisteners:",
        &format!("}}}}\n{more}"),
        1,
    );
    let config =
        config.replacen("connectTo: {", &format!("connectTo: {{'metadata.google.internal:80': '{}', ", node), 1);
    world.folder.file("c.yaml", &config)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_and_token_know_every_kind_of_credential() {
    let world = World::new().await;
    let node = FakeNode::start(&world.tasks, &world.google, "node@example.com").await.unwrap();
    let config = every_kind(&world, node.address());
    let (status, out, err) = outcome(&run(&["check", "--config", &config]));
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    let out = single_spaced(&out);
    for line in [
        "ok key reports impersonation: impersonates reports@demo-project.iam.gserviceaccount.com by the token of 'default'",
        "ok key cluster identity.json: a federated identity, without an account to impersonate",
        "ok key acting identity.json: a federated identity, impersonates reports@demo-project.iam",
        "ok key less downscoped: the token of 'reports', cut down by one rule",
        "ok key me person.json: a person's, of unknown address",
        "ok key node metadataServer: metadata.google.internal",
    ] {
        assert!(out.contains(line), "{line}\n{out}");
    }
    for name in ["default", "reports", "cluster", "acting", "less", "me", "node"] {
        assert!(out.contains(&format!("ok token {name} Google gave one for ")), "{name}: {out}");
        let (status, out, err) = outcome(&run(&["token", name, "--config", &config]));
        assert_eq!((status, err.as_str()), (0, ""), "{name}");
        assert_eq!(out.trim_end(), world.google.tokens().pop().unwrap().0, "{name}");
    }
    for name in ["reports", "acting", "node"] {
        let words = ["token", name, "--audience", "https://x.run.app", "--config", &config];
        let (status, out, err) = outcome(&run(&words));
        assert_eq!((status, err.as_str()), (0, ""), "{name}");
        assert!(out.split('.').count() == 3, "{name}: {out}");
    }

    world.google.forbid_impersonation(ACCOUNT, REPORTS);
    world.google.forbid_person("1//refresh");
    world.folder.file("token", "another-token\n");
    node.trouble(NodeTrouble::Stranger);
    let (status, out, _) = outcome(&run(&["check", "--config", &config]));
    assert_eq!(status, 1);
    let out = single_spaced(&out);
    for (name, told) in [
        ("reports", "(permission_denied); may it? gcloud iam service-accounts get-iam-policy"),
        ("cluster", "(invalid_grant); do issuer, audience and keys of the subject token fit the provider?"),
        ("less", "(permission_denied)"),
        ("me", "(invalid_grant); ask for another: gcloud auth application-default login"),
        ("node", "what answered is no metadata server of Google's (bad_answer)"),
    ] {
        let line = out.lines().find(|line| line.starts_with(&format!("FAIL token {name} "))).unwrap_or(&out);
        assert!(line.contains(told), "{name}: {line}");
    }
    for secret in ["another-token", "the-subject-token", "1//refresh", "hunter2"] {
        assert!(!out.contains(secret), "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exec_gives_its_command_the_way_and_takes_its_exit_status() {
    let world = World::new().await;
    let config = world.config_file();
    let exec = |words: &[&str]| {
        let mut command = bearerd(&["exec", "--config", &config, "--"]);
        command.args(words).env("XDG_RUNTIME_DIR", world.folder.name(""));
        command.env("SSL_CERT_FILE", world.folder.name("google.pem"));
        outcome(&command.output().unwrap())
    };
    let (status, out, err) = exec(&["sh", "-c", "printf '%s\\n' \"$HTTPS_PROXY\"; cat \"$SSL_CERT_FILE\"; exit 7"]);
    assert_eq!((status, err.as_str()), (7, ""));
    assert!(out.starts_with("http://bearerd:") && out.contains("@127.0.0.1:"), "{out}");
    assert!(out.contains(world.google.ca_pem().trim()), "the roots that were trusted are trusted still");
    assert_eq!(exec(&["sh", "-c", "kill -TERM $$"]).0, 143);
    assert_eq!(world.google.tokens().len(), 2, "a token each");

    for (words, status, told) in [
        (&["no-such-program"][..], 127, "cannot run no-such-program: it is not in PATH"),
        (&["/no/such/program"], 127, "cannot run /no/such/program: there is no such file"),
        (&["/etc/passwd"], 126, "cannot run /etc/passwd: it may not be executed"),
    ] {
        let (found, out, err) = exec(words);
        assert_eq!((found, out.as_str()), (status, ""));
        assert_eq!(err, format!("bearerd: {told}\n"));
    }
    assert_eq!(world.google.tokens().len(), 2, "nothing was started for a command that cannot run");
    let left: Vec<_> = fs::read_dir(world.folder.0.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("bearerd-")), "{left:?}");
}

#[test]
fn exec_does_not_start_a_command_without_a_usable_key() {
    let folder = Folder::new();
    let key = folder.file("key.json", "{}");
    let marker = folder.name("ran");
    let (status, out, err) = outcome(&run(&["exec", "--key", &key, "--", "touch", &marker]));
    assert_eq!((status, out.as_str()), (1, ""));
    assert!(err.starts_with("bearerd: credential 'default' has no usable key: key.json: "), "{err}");
    assert!(!Path::new(&marker).exists());
}

/// Standard input, what `inject` makes of it, and what it says.
fn inject(args: &[&str], input: &str) -> (i32, String, String) {
    let mut command = bearerd(&["inject"]);
    let mut child =
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may have ended on its settings before it reads.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    outcome(&child.wait_with_output().unwrap())
}

const NOT_ASKED: &str = "# kept\r\nkind: Service\nmetadata: {name: web}   \n---\napiVersion: v1\nkind: Pod\nmetadata: {name: \
                         web}\nspec: {containers: [{name: app}]}\n";

#[test]
fn manifests_that_ask_for_nothing_come_out_byte_for_byte_and_are_reported() {
    let told = "stdin:2: service/web untouched\nstdin:5: pod/web untouched: ";
    let (status, out, err) = inject(&["-f", "-"], NOT_ASKED);
    assert_eq!((status, out.as_str()), (0, NOT_ASKED), "{err}");
    assert!(err.starts_with(told), "{err}");
    for flag in ["--check", "--diff"] {
        let (status, out, err) = inject(&["-f", "-", flag], NOT_ASKED);
        assert_eq!((status, out.as_str()), (0, ""), "{flag}: {err}");
        assert!(err.starts_with(told), "{flag}: {err}");
    }
}

#[test]
fn after_a_refusal_nothing_goes_to_standard_output() {
    let folder = Folder::new();
    let good = folder.file("a.yaml", NOT_ASKED);
    let bad = folder.file("b.yaml", "kind: Pod\nmetadata: {name: twice}\nspec:\n  a: 1\n  a: 2\n");
    for flags in [&[][..], &["--check"], &["--diff"]] {
        let (status, out, err) = inject(&[&["-f", good.as_str(), "-f", bad.as_str()], flags].concat(), "");
        assert_eq!((status, out.as_str()), (1, ""), "{err}");
        let wanted = format!("{bad}:5: pod/twice refused: 'a' stands here again, first in line 4; want it once\n");
        assert!(err.ends_with(&wanted), "{err}");
    }
}

#[test]
fn every_manifest_that_cannot_be_read_is_named() {
    let folder = Folder::new();
    let (gone, also) = (folder.name("gone.yaml"), folder.name("also"));
    let (status, out, err) = inject(&["-f", &gone, "-f", &also], "");
    assert_eq!((status, out.as_str()), (1, ""));
    assert!(
        err.contains(&format!("bearerd: {gone}: No such file")) && err.contains(&format!("bearerd: {also}: ")),
        "{err}"
    );
    let settings = folder.file("settings.yaml", "imag: x\n");
    let (status, out, err) = inject(&["-f", "-", "--config", &settings], NOT_ASKED);
    assert_eq!((status, out.as_str()), (1, ""));
    assert!(err.contains(&settings) && err.contains("imag"), "{err}");
}

#[test]
fn a_pod_that_asks_gets_the_sidecar_once_and_the_diff_shows_it() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web # kept\n  labels:\n    bearerd.dev/inject: enabled\n  annotations:\n    bearerd.dev/secret-name: key\nspec:\n  containers:\n  - name: app\n    image: example.test/app\n";
    let (status, out, err) = inject(&["-f", "-"], pod);
    assert_eq!((status, err.as_str()), (0, "stdin:1: pod/web injected\n"), "{out}");
    assert!(pod.lines().all(|line| out.lines().any(|new| new == line)), "{out}");
    assert!(out.contains("  initContainers:\n  - name: bearerd\n"), "{out}");
    let (status, again, err) = inject(&["-f", "-"], &out);
    assert_eq!((status, again, err.as_str()), (0, out, "stdin:1: pod/web injected already\n"));
    let (status, diff, _) = inject(&["-f", "-", "--diff"], pod);
    assert!(status == 1 && diff.starts_with("--- a/stdin\n+++ b/stdin\n"), "{diff}");
    let refused = pod.replace("spec:\n", "spec:\n  hostNetwork: true\n");
    let (status, out, err) = inject(&["-f", "-"], &refused);
    assert_eq!((status, out.as_str()), (1, ""), "{err}");
    assert!(err.starts_with("stdin:10: pod/web refused: spec.hostNetwork: "), "{err}");
}
