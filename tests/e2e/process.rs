//! The real program in a process of its own, where a test has to stop it or to mount something under it.

use std::{
    fs::File,
    net::SocketAddr,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
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
        Self::start_as(None, world, path, wrap, prepare)
    }

    /// The same under another user id, which only root can do.
    fn start_as(as_user: Option<u32>, world: World, path: &Path, wrap: &[&str], prepare: &str) -> Self {
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
        // Under a user id of its own the program must lie where that one may go.
        let program = dir.join("bearerd");
        std::fs::hard_link(env!("CARGO_BIN_EXE_bearerd"), &program)
            .or_else(|_| std::fs::copy(env!("CARGO_BIN_EXE_bearerd"), &program).map(|_| ()))
            .unwrap();
        let run = format!("{prepare} exec {} run --config {dir_shown}/config.yaml", program.display());
        let log = dir.join("log");
        let file = File::create(&log).unwrap();
        let all: Vec<&str> = wrap.iter().copied().chain(["sh", "-c", &run]).collect();
        let mut command = Command::new(all[0]);
        command.args(&all[1..]).stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        if let Some(user) = as_user {
            give(&dir, user);
            command.uid(user).gid(user).current_dir(&dir);
        }
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

/// A user id that is not root's: root may look at every process.
fn nobody() -> Option<u32> {
    rustix::process::getuid().is_root().then_some(65_532)
}

fn give(path: &Path, user: u32) {
    std::os::unix::fs::lchown(path, Some(user), Some(user)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        std::fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path(), user));
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

#[tokio::test]
async fn a_process_of_the_same_user_finds_memory_variables_and_files_shut() {
    let world = World::new().await;
    let keys = world.keys();
    let process = Process::start_as(nobody(), world, &keys, &[], "");
    process.proxy().await;
    let proc = format!("/proc/{}", process.child.id());
    let neighbour = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir("/").stdin(Stdio::null()).stderr(Stdio::piped());
        nobody().map(|user| command.uid(user).gid(user));
        command.output().unwrap()
    };
    for file in ["environ", "maps", "mem", "auxv", "io", "stack", "syscall"] {
        let output = neighbour(&format!("exec 3<{proc}/{file} && cat <&3"));
        assert!(!output.status.success() && output.stdout.is_empty(), "{file} was read");
    }
    for link in ["root", "cwd", "exe", "fd/0"] {
        assert!(!neighbour(&format!("readlink {proc}/{link}")).status.success(), "{link} was followed");
    }
    assert!(!neighbour(&format!("ls {proc}/fd")).status.success());
    // What everybody may see of every process: this one is there, and is the neighbour's own user's.
    let status = String::from_utf8(neighbour(&format!("cat {proc}/status")).stdout).unwrap();
    let user = nobody().unwrap_or_else(|| rustix::process::getuid().as_raw());
    assert!(status.contains(&format!("Uid:\t{user}\t")), "{status}");
    // The same is open where nobody has shut it.
    let output = neighbour("exec 3</proc/self/environ && cat <&3");
    assert!(output.status.success());
}

#[tokio::test]
async fn no_core_file_is_written() {
    let world = World::new().await;
    let keys = world.keys();
    let dir = world.dir.path().to_owned();
    let prepare = format!("ulimit -c unlimited || exit 9; cd {};", dir.display());
    let mut process = Process::start_as(nobody(), world, &keys, &[], &prepare);
    process.proxy().await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.child.id()));
    if let Ok(limits) = limits {
        let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(line.split_ascii_whitespace().nth(4), Some("0"), "{line}");
    }
    process.signal(Signal::ABORT);
    let status = process.child.wait().unwrap();
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()));
    assert!(!status.core_dumped());
    let names = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let cores: Vec<String> = names.filter(|name| name.starts_with("core")).collect();
    assert!(cores.is_empty(), "{cores:?}");
}
