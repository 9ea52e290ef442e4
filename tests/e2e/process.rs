//! The real program in a process of its own, where a test has to stop it or to mount something under it.

use std::{
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;

use crate::{
    bed::{ACCOUNT, STORAGE, World},
    client::{eventually, within},
    full, raw,
};

/// `bearerd run` with the keys at `path`, started by `sh -c` after `prepare`.
pub(crate) struct Process {
    pub(crate) world: World,
    pub(crate) child: Child,
    log: PathBuf,
}

impl Process {
    pub(crate) fn start(world: World, path: &Path, wrap: &[&str], prepare: &str) -> Self {
        let (dir, google) = (world.dir.path().to_owned(), world.google.address());
        std::fs::write(dir.join("roots.pem"), world.google.ca_pem()).unwrap();
        let (keys, dir_shown) = (path.display(), dir.display());
        let config = format!(
            "credentials: [{{name: default, serviceAccountKey: {{path: {keys}}}}}]\n\
             listeners: {{proxy: '127.0.0.1:0', metadata: 'off', transparent: 'off', tokenApi: 'off', health: \
             '127.0.0.1:0', control: '127.0.0.1:0'}}\n\
             trust: {{public: {dir_shown}/trust, private: {dir_shown}/private}}\n\
             upstream: {{extraRoots: {dir_shown}/roots.pem, connectTo: {{'*.googleapis.com:443': '{google}'}}}}\n"
        );
        std::fs::write(dir.join("config.yaml"), config).unwrap();
        let run = format!("{prepare} exec {} run --config {dir_shown}/config.yaml", env!("CARGO_BIN_EXE_bearerd"));
        let log = dir.join("log");
        let file = File::create(&log).unwrap();
        let all: Vec<&str> = wrap.iter().copied().chain(["sh", "-c", &run]).collect();
        let mut command = Command::new(all[0]);
        command.args(&all[1..]).stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        Self { world, child: command.spawn().unwrap(), log }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) async fn proxy(&self) -> SocketAddr {
        let address = || {
            let log = self.log();
            let rest = log.lines().find(|line| line.contains("listening"))?.split_once("proxy")?.1;
            let rest = &rest[rest.find("127.0.0.1:")?..];
            rest.split(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').next()?.parse().ok()
        };
        eventually("the listeners", || address().is_some()).await;
        address().unwrap()
    }

    /// One request; which key's token it carried.
    async fn key_used(&self, proxy: SocketAddr) -> String {
        let mut stream = TcpStream::connect(proxy).await.unwrap();
        let head = format!("GET http://{STORAGE}/echo HTTP/1.1\r\nHost: {STORAGE}\r\nConnection: close\r\n\r\n");
        raw::write(&mut stream, head.as_bytes()).await;
        assert_eq!(raw::answer(&mut stream).await.status(), 200, "{}", self.log());
        self.world.google.requests().pop().unwrap().token.unwrap().key_id
    }

    /// Requests until one carries a token of this key.
    async fn until_used(&self, proxy: SocketAddr, key_id: &str) {
        within("the use of a key", async {
            while self.key_used(proxy).await != key_id {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_queue_of_events_that_overflowed_loses_no_key_and_the_watch_lives_on() {
    let world = World::new().await;
    let keys = world.keys();
    let process = Process::start(world, &keys, &[], "");
    let proxy = process.proxy().await;
    process.until_used(proxy, &process.world.key.key_id).await;
    process.signal(Signal::STOP);
    // More than the kernel keeps: 16 384 unless somebody changed `fs.inotify.max_queued_events`.
    for number in 0..20_000 {
        let name = keys.join(format!("..flood_{number}"));
        File::create(&name).unwrap();
        std::fs::remove_file(&name).unwrap();
    }
    let second = process.world.google.add_key(ACCOUNT).unwrap();
    process.world.publish("..second", &[("key.json", second.json())]);
    process.signal(Signal::CONT);
    process.until_used(proxy, &second.key_id).await;
    for version in ["..third", "..fourth"] {
        let next = process.world.google.add_key(ACCOUNT).unwrap();
        process.world.publish(version, &[("key.json", next.json())]);
        process.until_used(proxy, &next.key_id).await;
    }
}

/// Needs the right to make namespaces, so it runs in `.ci/full`.
#[tokio::test]
async fn a_key_mounted_with_subpath_serves_and_is_said_not_to_follow_rotations() {
    if !full() {
        return;
    }
    let world = World::new().await;
    let mounted = world.dir.path().join("mounted.json");
    std::fs::write(&mounted, "").unwrap();
    let source = world.keys().join("..first");
    let prepare = format!("mount --bind {}/key.json {} &&", source.display(), mounted.display());
    let process = Process::start(world, &mounted, &["unshare", "--user", "--map-root-user", "--mount"], &prepare);
    let proxy = process.proxy().await;
    process.until_used(proxy, &process.world.key.key_id).await;
    // The kubelet's update: the old directory is gone, the new key lies only in a new one.
    let second = process.world.google.add_key(ACCOUNT).unwrap();
    process.world.publish("..second", &[("key.json", second.json())]);
    std::fs::rename(&source, source.with_file_name("..gone")).unwrap();
    std::fs::remove_dir_all(source.with_file_name("..gone")).unwrap();
    let said = || process.log().matches("mounted with subPath: cannot see rotation").count();
    eventually("a warning", || said() > 0).await;
    for _ in 0..20 {
        assert_eq!(process.key_used(proxy).await, process.world.key.key_id, "traffic goes on with the old key");
    }
    assert_eq!(said(), 1, "said once");
}

/// More connections than there are descriptors: the program lives on, and those who ask are served.
#[tokio::test]
async fn without_descriptors_idle_connections_make_room() {
    let world = World::new().await;
    let keys = world.keys();
    let process = Process::start(world, &keys, &[], "ulimit -n 64 &&");
    let proxy = process.proxy().await;
    process.until_used(proxy, &process.world.key.key_id).await;
    let mut silent = Vec::new();
    for round in 0..6 {
        for _ in 0..100 {
            silent.push(TcpStream::connect(proxy).await.unwrap());
        }
        process.key_used(proxy).await;
        if round % 2 == 1 {
            silent.clear();
        }
    }
    assert!(!process.log().contains("panic"), "{}", process.log());
}
