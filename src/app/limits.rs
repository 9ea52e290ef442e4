//! How many clients the machine lets us serve at once: by open files and by memory.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustix::process::{Resource, getrlimit};

use super::settings::MOST_CLIENTS;

/// How many clients' connections may be open, by the limits of this process.
pub(super) fn most_clients() -> usize {
    bounded(getrlimit(Resource::Nofile).current, memory())
}

/// Each client takes two descriptors as a rule; some stay for keys, DNS and our own requests. At its worst a client
/// that sends takes as much memory as the largest head, and half of the memory is for that.
fn bounded(files: Option<u64>, memory: Option<u64>) -> usize {
    let by_files = files.map_or(u64::MAX, |files| files.saturating_sub(RESERVED_FILES) / 2);
    let by_memory = memory.map_or(u64::MAX, |memory| memory / 2 / LARGEST_HEAD);
    let most = by_files.min(by_memory).max(FEWEST);
    usize::try_from(most).unwrap_or(usize::MAX).min(MOST_CLIENTS)
}

/// The memory that the pod's limit leaves us; `None` without one.
fn memory() -> Option<u64> {
    let mine = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let top = Path::new("/sys/fs/cgroup");
    files(&mine, top).iter().find_map(|file| limit(&fs::read_to_string(file).ok()?))
}

/// Where the limit may stand: both versions of control groups, seen from a namespace of their own or not.
fn files(mine: &str, top: &Path) -> [PathBuf; 4] {
    let of = |controller: &str| {
        let path = mine.lines().find_map(|line| {
            let (found, path) = line.split_once(':')?.1.split_once(':')?;
            (found == controller).then(|| path.trim_start_matches('/'))
        });
        path.unwrap_or_default()
    };
    [
        top.join(of("")).join("memory.max"),
        top.join("memory.max"),
        top.join("memory").join(of("memory")).join("memory.limit_in_bytes"),
        top.join("memory/memory.limit_in_bytes"),
    ]
}

/// `max`, or what the first version writes for none, is no limit.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|bytes| *bytes < NO_LIMIT)
}

const RESERVED_FILES: u64 = 256;
/// What the head gate holds.
const LARGEST_HEAD: u64 = 32 * 1024;
const FEWEST: u64 = 16;
const NO_LIMIT: u64 = 1 << 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_looked_for_in_both_versions_of_control_groups() {
        let shown = |mine: &str| files(mine, Path::new("/c")).map(|file| file.display().to_string());
        assert_eq!(shown("0::/\n")[0], "/c/memory.max");
        assert_eq!(shown("0::/kubepods/pod1\n")[0], "/c/kubepods/pod1/memory.max");
        let first = shown("4:memory:/kubepods/pod1\n3:cpu,cpuacct:/x\n0::/y\n");
        assert_eq!(first[2], "/c/memory/kubepods/pod1/memory.limit_in_bytes");
        assert_eq!(first[3], "/c/memory/memory.limit_in_bytes");
    }

    #[test]
    fn clients_are_bounded_by_files_and_memory() {
        const MIB: u64 = 1 << 20;
        for (files, memory, expected) in [
            (None, None, MOST_CLIENTS),
            (Some(1 << 20), None, MOST_CLIENTS),
            (Some(1024), None, 384),
            (Some(64), None, 16),
            (Some(0), Some(0), 16),
            (None, Some(64 * MIB), 1024),
            (Some(1024), Some(64 * MIB), 384),
            (None, Some(1024 * MIB), MOST_CLIENTS),
        ] {
            assert_eq!(bounded(files, memory), expected, "{files:?} {memory:?}");
        }
    }

    #[test]
    fn limits_of_memory_are_read_as_both_versions_write_them() {
        for (text, expected) in
            [("67108864\n", Some(67_108_864)), ("max\n", None), ("9223372036854771712\n", None), ("", None)]
        {
            assert_eq!(limit(text), expected, "{text:?}");
        }
    }
}
