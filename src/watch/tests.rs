//! Real directories, in real time, waiting only for what should happen.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

use super::*;

/// Fast enough for a test; the poll so slow that only events can explain a success.
const EVENTS_ONLY: Pace = Pace { settle: Duration::from_millis(5), poll: Duration::from_secs(600) };
const POLL_ONLY: Pace = Pace { settle: Duration::from_millis(5), poll: Duration::from_millis(20) };

struct Watched {
    root: tempfile::TempDir,
    tasks: Tasks,
    snapshots: watch::Receiver<Snapshot>,
}

impl Watched {
    fn new(path: &str, pace: Pace, prepare: impl FnOnce(&Path)) -> Self {
        let root = tempfile::tempdir().unwrap();
        prepare(root.path());
        let tasks = Tasks::new();
        let snapshots = start(root.path().join(path), pace, Clock::system(), &tasks);
        Self { root, tasks, snapshots }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    async fn until(&mut self, what: &str, condition: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let found = tokio::time::timeout(Duration::from_secs(30), self.snapshots.wait_for(condition)).await;
        found.unwrap_or_else(|_| panic!("{what}: not seen")).unwrap().clone()
    }

    async fn until_content(&mut self, content: &str) -> Snapshot {
        self.until(content, |snapshot| text(snapshot) == content).await
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.tasks.end();
    }
}

/// All contents in order of name.
fn text(snapshot: &Snapshot) -> String {
    let contents = snapshot.files.iter().filter_map(|file| file.content.as_ref().ok());
    contents.map(|bytes| std::str::from_utf8(bytes.expose()).unwrap()).collect()
}

/// What kubelet does: a new dated directory, a new link beside, renamed over the old, the old directory removed.
fn publish(volume: &Path, version: u32, content: &str) {
    let dated = volume.join(format!("..2026_11_25_{version}"));
    fs::create_dir(&dated).unwrap();
    fs::write(dated.join("key.json"), content).unwrap();
    let old = fs::read_link(volume.join("..data"));
    symlink(dated.file_name().unwrap(), volume.join("..data_tmp")).unwrap();
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    match old {
        Ok(old) => fs::remove_dir_all(volume.join(old)).unwrap(),
        Err(_) => symlink("..data/key.json", volume.join("key.json")).unwrap(),
    }
}

#[tokio::test]
async fn five_swaps_of_a_kubernetes_volume_are_seen_by_events_alone() {
    for path in ["", "key.json"] {
        let mut watched = Watched::new(path, EVENTS_ONLY, |root| publish(root, 0, "0"));
        let first = watched.until_content("0").await;
        assert_eq!(first.files[0].name, "key.json");
        for version in 1..=5 {
            publish(watched.root.path(), version, &version.to_string());
            watched.until_content(&version.to_string()).await;
        }
    }
}

#[tokio::test]
async fn swaps_behind_a_chain_of_links_are_seen() {
    let mut watched = Watched::new("app/key.json", EVENTS_ONLY, |root| {
        for directory in ["app", "driver/v1", "volume"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        publish(&root.join("volume"), 0, "0");
        symlink(root.join("volume/key.json"), root.join("driver/v1/key.json")).unwrap();
        symlink("v1", root.join("driver/current")).unwrap();
        symlink("../driver/current/key.json", root.join("app/key.json")).unwrap();
    });
    watched.until_content("0").await;
    for version in 1..=3 {
        publish(&watched.path("volume"), version, &version.to_string());
        watched.until_content(&version.to_string()).await;
    }
    fs::create_dir(watched.path("driver/v2")).unwrap();
    fs::write(watched.path("driver/v2/key.json"), "v2").unwrap();
    symlink("v2", watched.path("driver/next")).unwrap();
    fs::rename(watched.path("driver/next"), watched.path("driver/current")).unwrap();
    watched.until_content("v2").await;
}

#[tokio::test]
async fn ordinary_files_that_come_change_and_go_are_seen() {
    let mut watched = Watched::new("", EVENTS_ONLY, |root| fs::write(root.join("a"), "a").unwrap());
    watched.until_content("a").await;
    fs::write(watched.path("b"), "b").unwrap();
    watched.until_content("ab").await;
    fs::write(watched.path(".hidden"), "x").unwrap();
    fs::create_dir(watched.path("directory")).unwrap();
    fs::remove_file(watched.path("a")).unwrap();
    watched.until_content("b").await;
    fs::write(watched.path("c.tmp"), "B").unwrap();
    fs::rename(watched.path("c.tmp"), watched.path("b")).unwrap();
    watched.until_content("B").await;
}

#[tokio::test]
async fn a_path_that_does_not_exist_yet_is_awaited() {
    let mut watched = Watched::new("later/key.json", EVENTS_ONLY, |_| {});
    let nothing = watched.until("a first look", |snapshot| snapshot.version > 0).await;
    assert_eq!(nothing.problem, Some(Problem::Missing));
    fs::create_dir(watched.path("later")).unwrap();
    fs::write(watched.path("later/key.json"), "now").unwrap();
    let found = watched.until_content("now").await;
    assert_eq!(found.problem, None);
}

#[tokio::test]
async fn deletion_keeps_the_last_content_and_says_so() {
    for path in ["keys", "keys/a"] {
        let mut watched = Watched::new(path, EVENTS_ONLY, |root| {
            fs::create_dir(root.join("keys")).unwrap();
            fs::write(root.join("keys/a"), "a").unwrap();
        });
        watched.until_content("a").await;
        fs::remove_dir_all(watched.path("keys")).unwrap();
        let gone = watched.until("the problem", |snapshot| snapshot.problem == Some(Problem::Missing)).await;
        assert_eq!(text(&gone), "a");
        fs::create_dir(watched.path("keys")).unwrap();
        fs::write(watched.path("keys/a"), "again").unwrap();
        let back = watched.until_content("again").await;
        assert_eq!(back.problem, None, "a directory replaced under its name is watched again");
        fs::write(watched.path("keys/a"), "and again").unwrap();
        watched.until_content("and again").await;
    }
}

#[tokio::test]
async fn the_poll_finds_what_no_event_tells() {
    let mut watched = Watched::new("", POLL_ONLY, |root| fs::write(root.join("a"), "0").unwrap());
    let first = watched.until_content("0").await;
    assert_eq!(first.version, 1);
    for version in 1..=3_u64 {
        fs::write(watched.path("a"), version.to_string()).unwrap();
        watched.until_content(&version.to_string()).await;
    }
}

#[tokio::test]
async fn a_flood_of_events_ends_in_one_look_and_a_living_watch() {
    let mut watched = Watched::new("", EVENTS_ONLY, |root| publish(root, 0, "0"));
    watched.until_content("0").await;
    for number in 0..5_000 {
        let name = watched.path(&format!("..flood_{number}"));
        fs::write(&name, "").unwrap();
        fs::remove_file(&name).unwrap();
    }
    for version in 1..=3 {
        publish(watched.root.path(), version, &version.to_string());
        watched.until_content(&version.to_string()).await;
    }
}

#[test]
fn reading_is_no_change_and_an_overflow_is_one() {
    use notify::event::{CreateKind, ModifyKind, RemoveKind};
    for (kind, is_change) in [
        (EventKind::Access(AccessKind::Open(AccessMode::Any)), false),
        (EventKind::Access(AccessKind::Close(AccessMode::Read)), false),
        (EventKind::Access(AccessKind::Close(AccessMode::Write)), true),
        (EventKind::Create(CreateKind::Any), true),
        (EventKind::Modify(ModifyKind::Any), true),
        (EventKind::Remove(RemoveKind::Any), true),
        // What notify sends for a queue that overflowed.
        (EventKind::Other, true),
        (EventKind::Any, true),
    ] {
        assert_eq!(is_a_change(kind), is_change, "{kind:?}");
    }
}

#[test]
fn a_look_is_bounded_and_survives_odd_files() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    fs::write(path("big"), vec![b'x'; 64 * 1024 + 1]).unwrap();
    fs::write(path("fits"), vec![b'x'; 64 * 1024]).unwrap();
    symlink("nowhere", path("dangling")).unwrap();
    symlink("loop", path("loop")).unwrap();
    symlink("/proc/self/mem", path("odd")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let snapshot = look(root.path());
    let found: BTreeMap<_, _> =
        snapshot.files.iter().map(|file| (file.name.as_str(), file.content.as_ref().err().copied())).collect();
    let expected = [
        ("big", Some(Unread::TooLarge)),
        ("dangling", Some(Unread::Missing)),
        ("fits", None),
        ("loop", Some(Unread::Other)),
        ("odd", Some(Unread::Other)),
        ("pipe", Some(Unread::NotAFile)),
        ("socket", Some(Unread::NotAFile)),
    ];
    assert_eq!(found, BTreeMap::from(expected));
    for number in 0..40 {
        fs::write(path(&format!("file-{number}")), "x").unwrap();
    }
    let snapshot = look(root.path());
    assert_eq!(snapshot.files.len(), 32);
    assert_eq!(snapshot.problem, Some(Problem::TooManyFiles));
}

#[test]
fn an_unreadable_file_is_told_from_a_missing_one() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("key.json");
    assert_eq!(look(&file).problem, Some(Problem::Missing));
    assert_eq!(look(root.path()).problem, Some(Problem::NoFiles));
    fs::write(&file, "x").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    // Root reads everything.
    if !rustix::process::geteuid().is_root() {
        assert_eq!(look(&file).problem, Some(Problem::Unread(Unread::Denied)));
    }
}
