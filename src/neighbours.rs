//! Who else can see this process: in a pod with `shareProcessNamespace`, the processes of every container.
//!
//! Owns the judgement and the one look at `/proc`. A process of our own user id is kept from our memory and our files
//! only from the moment on at which we have closed ourselves to it (`PR_SET_DUMPABLE`); before that, and by signals
//! always, it can do to us what it likes. Called by `cli`, which asks before any key is read.

use std::{fs, io, path::Path};

/// A process as `/proc/PID/status` tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its parent's; 0 when the parent is in another namespace.
    pub parent: u32,
    /// Its effective user id.
    pub user: u32,
}

/// Looks who is there.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn look() -> io::Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.take(MOST) {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // Gone meanwhile: no neighbour any more.
        if let Ok(status) = fs::read_to_string(Path::new("/proc").join(name).join("status")) {
            found.extend(read(pid, &status));
        }
    }
    Ok(found)
}

fn read(pid: u32, status: &str) -> Option<Process> {
    let field = |name: &str, column: usize| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().nth(column)?.parse().ok()
    };
    // Real, effective, saved, file system.
    Some(Process { pid, parent: field("PPid:", 0)?, user: field("Uid:", 1)? })
}

/// The process of another container that has our user id, if one can be seen. `None` too where no container is: on a
/// laptop and on a VM processes of one user see each other by design.
///
/// A container that shares the namespace of its pod is told by what it is not: neither the first process of its
/// namespace, nor the child of one that it can see.
pub fn beside(own: u32, processes: &[Process]) -> Option<Process> {
    let find = |pid: u32| processes.iter().find(|process| process.pid == pid);
    let me = find(own)?;
    if me.pid == 1 || me.parent != 0 {
        return None;
    }
    let is_ours = |process: &Process| {
        let mut at = *process;
        // Bounded: a parent may end, and its id be given to a child of its child.
        for _ in 0..MOST_DEEP {
            match find(at.parent) {
                _ if at.pid == own => return true,
                Some(parent) => at = *parent,
                None => return false,
            }
        }
        false
    };
    processes.iter().find(|process| process.user == me.user && !is_ours(process)).copied()
}

/// A pod has no more.
const MOST: usize = 65_536;
const MOST_DEEP: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[(u32, u32, u32)]) -> Vec<Process> {
        rows.iter().map(|&(pid, parent, user)| Process { pid, parent, user }).collect()
    }

    #[test]
    fn only_another_containers_process_of_our_user_counts() {
        const US: u32 = 14180;
        for (what, rows, beside_us) in [
            ("alone in its namespace", &[(1, 0, US)][..], None),
            ("alone, with children", &[(1, 0, US), (7, 1, US)], None),
            ("a laptop", &[(1, 0, 0), (500, 1, US), (20, 500, US)], None),
            ("shared, others of other users", &[(1, 0, 65_535), (20, 0, US), (30, 0, 1000)], None),
            ("shared, our own child", &[(1, 0, 65_535), (20, 0, US), (21, 20, US), (22, 21, US)], None),
            ("shared, a neighbour", &[(1, 0, 65_535), (20, 0, US), (30, 0, US)], Some(30)),
            ("shared, a neighbour's child", &[(1, 0, 65_535), (20, 0, US), (30, 0, 0), (31, 30, US)], Some(31)),
            ("shared, the first process too", &[(1, 0, US), (20, 0, US)], Some(1)),
            ("parents in a circle", &[(1, 0, 0), (20, 0, US), (30, 31, US), (31, 30, US)], Some(30)),
            ("we are not there", &[(1, 0, US)], None),
        ] {
            let own = if what.starts_with("alone") { 1 } else { 20 };
            assert_eq!(beside(own, &table(rows)).map(|process| process.pid), beside_us, "{what}");
        }
    }

    #[test]
    fn the_status_of_a_process_is_read() {
        let text = "Name:\tx\nPPid:\t42\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n";
        assert_eq!(read(7, text), Some(Process { pid: 7, parent: 42, user: 2 }));
        assert_eq!(read(7, "PPid:\t42\n"), None);
        let own = std::process::id();
        let me = look().unwrap().into_iter().find(|process| process.pid == own).expect("we see ourselves");
        assert_eq!(me.parent, std::os::unix::process::parent_id());
    }
}
