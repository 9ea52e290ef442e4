//! Who else can see this process: in a pod with `shareProcessNamespace`, the processes of every container.
//!
//! Owns the judgement and the one look at `/proc`. A process of our own user id is kept from our memory and our files
//! only from the moment on at which we have closed ourselves to it (`PR_SET_DUMPABLE`); before that, and by signals
//! always, it can do to us what it likes. Called by `cli`, which asks before any key is read.

use std::{fs, io, path::Path};

/// A process as `/proc/PID` tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its parent's; 0 when the parent is in another namespace.
    pub parent: u32,
    /// Its effective user id.
    pub user: u32,
    /// Its mount namespace, where we may know it.
    pub mounts: Option<String>,
    /// Its control groups.
    pub groups: Option<String>,
}

impl Process {
    /// Whether this process shares its namespace with other containers. Never where no container is: on a laptop and
    /// on a VM processes of one user see each other by design.
    ///
    /// It is told by what it is not: neither the first process of its namespace, nor the child of one that it can see.
    fn is_among_others(&self) -> bool {
        self.pid != 1 && self.parent == 0
    }

    /// Whether both are of one container: probes and `kubectl exec` start processes beside ours, whose parent nobody in
    /// the pod sees either. One that has closed itself, as a runtime does until it has become the command, shows its
    /// control groups at least.
    fn is_of_container_of(&self, other: &Self) -> bool {
        match (&self.mounts, &other.mounts) {
            (Some(own), Some(theirs)) => own == theirs,
            _ => self.groups.is_some() && self.groups == other.groups,
        }
    }
}

/// Whether processes of other containers can be seen at all, which never changes.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn can_be() -> io::Result<bool> {
    Ok(me()?.is_among_others())
}

/// The process of another container that has our user id, if one can be seen now.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn look() -> io::Result<Option<Process>> {
    let me = me()?;
    if !me.is_among_others() {
        return Ok(None);
    }
    let pids = fs::read_dir("/proc")?.take(MOST).map_while(Result::ok);
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // Those that cannot be read are gone meanwhile: no neighbours any more.
    let all: Vec<Process> = pids.filter_map(|pid| read(pid).ok()).collect();
    Ok(beside(&me, &all).cloned())
}

fn beside<'a>(me: &Process, all: &'a [Process]) -> Option<&'a Process> {
    let is_beside = |other: &&Process| other.user == me.user && other.pid != me.pid && !other.is_of_container_of(me);
    all.iter().find(|other| me.is_among_others() && is_beside(other))
}

fn me() -> io::Result<Process> {
    read(std::process::id())
}

fn read(pid: u32) -> io::Result<Process> {
    let folder = Path::new("/proc").join(pid.to_string());
    let status = fs::read_to_string(folder.join("status"))?;
    let mounts = fs::read_link(folder.join("ns/mnt")).ok();
    let process = parse(pid, &status).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(Process {
        mounts: mounts.map(|link| link.to_string_lossy().into_owned()),
        groups: fs::read_to_string(folder.join("cgroup")).ok().and_then(told),
        ..process
    })
}

/// Nothing where there is nothing: two processes without groups are not of one.
fn told(groups: String) -> Option<String> {
    Some(groups).filter(|groups| !groups.trim().is_empty())
}

fn parse(pid: u32, status: &str) -> Option<Process> {
    let field = |name: &str, column: usize| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().nth(column)?.parse().ok()
    };
    // Real, effective, saved, file system.
    Some(Process { pid, parent: field("PPid:", 0)?, user: field("Uid:", 1)?, ..Process::default() })
}

/// A pod has no more.
const MOST: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    const US: u32 = 14180;
    const PAUSE: Row = (1, 0, 65_535, "", "/pause");
    const ME: Row = (20, 0, US, "a", "/a");

    /// Id, parent, user, mount namespace (nothing where it cannot be known), control groups.
    type Row = (u32, u32, u32, &'static str, &'static str);

    fn process((pid, parent, user, mounts, groups): Row) -> Process {
        let mounts = Some(mounts.to_owned()).filter(|text| !text.is_empty());
        Process { pid, parent, user, mounts, groups: told(groups.to_owned()) }
    }

    #[test]
    fn only_another_containers_process_of_our_user_counts() {
        for (what, me, others, beside_us) in [
            ("alone in its namespace", (1, 0, US, "a", "/a"), &[(7, 1, US, "a", "/a")][..], None),
            ("a debug container in our namespace", (1, 0, US, "a", "/a"), &[(7, 0, US, "b", "/b")], None),
            ("a laptop", (20, 500, US, "a", "/a"), &[(1, 0, 0, "", "/a"), (500, 1, US, "a", "/a")], None),
            ("others of other users", ME, &[PAUSE, (30, 0, 1000, "b", "/b"), (31, 0, 0, "", "/b")], None),
            ("a child", ME, &[PAUSE, (21, 20, US, "a", "/a")], None),
            ("a probe of ours", ME, &[PAUSE, (40, 0, US, "a", "/a")], None),
            ("a probe that is about to start", ME, &[PAUSE, (40, 0, US, "", "/a")], None),
            ("a neighbour", ME, &[PAUSE, (30, 0, US, "b", "/b")], Some(30)),
            ("a neighbour that has closed itself", ME, &[PAUSE, (30, 0, US, "", "/b")], Some(30)),
            ("a neighbour in the same groups", ME, &[PAUSE, (30, 0, US, "b", "/a")], Some(30)),
            ("nothing known but the user", ME, &[PAUSE, (30, 0, US, "", "")], Some(30)),
            ("nothing known of us either", (20, 0, US, "", ""), &[PAUSE, (30, 0, US, "", "")], Some(30)),
            ("nothing in the groups", (20, 0, US, "", "\n"), &[PAUSE, (30, 0, US, "", "\n")], Some(30)),
            ("a neighbour's child", ME, &[PAUSE, (30, 0, 0, "", "/b"), (31, 30, US, "b", "/b")], Some(31)),
            ("the first process too", ME, &[(1, 0, US, "p", "/pause")], Some(1)),
        ] {
            let all: Vec<Process> = others.iter().chain([&me]).copied().map(process).collect();
            assert_eq!(beside(&process(me), &all).map(|process| process.pid), beside_us, "{what}");
        }
    }

    #[test]
    fn a_process_is_read() {
        let text = "Name:\tx\nPPid:\t42\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n";
        assert_eq!(parse(7, text), Some(Process { pid: 7, parent: 42, user: 2, ..Process::default() }));
        assert_eq!(parse(7, "PPid:\t42\n"), None);
        let me = me().unwrap();
        assert_eq!(me.parent, std::os::unix::process::parent_id());
        assert!(me.mounts.is_some_and(|link| link.starts_with("mnt:[")) && me.groups.is_some());
    }
}
