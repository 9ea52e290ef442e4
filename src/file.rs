//! A file that is either the old one or the new one, whenever the process is killed.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use rustix::fs::OFlags;

/// Makes a directory and those above it.
///
/// # Errors
/// When one cannot be made.
pub fn directory(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path)
}

/// Whether a file must still be there after the machine lost power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing else could make it again.
    AcrossPowerLoss,
    /// It is made again at the next start, so nobody waits for the disk (10 ms and more each time).
    AcrossKill,
}

/// Writes `name` in `directory` through a temporary file, or leaves it alone when it already holds
/// these bytes. Returns whether it wrote.
///
/// # Errors
/// Of the file system; the file that was there stays.
pub fn replace(directory: &Path, name: &str, bytes: &[u8], mode: u32, keep: Keep) -> io::Result<bool> {
    let path = directory.join(name);
    if is_same(&path, bytes, mode) {
        return Ok(false);
    }
    let draft = directory.join(format!(".{name}.new"));
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // `create_new` refuses to follow a symlink that someone put there.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
    // The umask may have taken bits away that readers in other containers need.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    if keep == Keep::AcrossPowerLoss {
        file.sync_all()?;
    }
    fs::rename(&draft, &path)?;
    if keep == Keep::AcrossPowerLoss {
        // Without this the name itself may be lost, and the old file come back.
        OpenOptions::new().read(true).open(directory)?.sync_all()?;
    }
    Ok(true)
}

/// Opens a file for reading. A pipe that nobody writes to is waited for by nobody.
///
/// # Errors
/// Of the file system.
pub fn open(path: &Path) -> io::Result<fs::File> {
    open_with(path, OFlags::NONBLOCK)
}

fn open_with(path: &Path, flags: OFlags) -> io::Result<fs::File> {
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

/// Reads a file of at most `limit` bytes; `None` when it does not exist.
///
/// # Errors
/// Of the file system.
pub fn read(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // Room for all at once: a growing vector would leave copies of a key behind.
    let room = usize::try_from(file.metadata()?.len().min(limit)).unwrap_or(0) + 1;
    let mut bytes = Vec::with_capacity(room);
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Looks at one opened file, so that nobody can put another in its place between two looks: no link is followed, and a
/// pipe that nobody writes to is waited for by nobody.
fn is_same(path: &Path, bytes: &[u8], mode: u32) -> bool {
    let Ok(file) = open_with(path, OFlags::NOFOLLOW | OFlags::NONBLOCK) else { return false };
    let Ok(facts) = file.metadata() else { return false };
    let same_facts = facts.is_file() && facts.permissions().mode() & 0o777 == mode && facts.len() == bytes.len() as u64;
    let mut old = Vec::with_capacity(bytes.len());
    same_facts && file.take(facts.len()).read_to_end(&mut old).is_ok() && old == bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_equal_file_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        assert!(replace(place.path(), "a", b"one", 0o644, Keep::AcrossKill).unwrap());
        assert!(!replace(place.path(), "a", b"one", 0o644, Keep::AcrossKill).unwrap());
        assert!(replace(place.path(), "a", b"two", 0o644, Keep::AcrossKill).unwrap());
        assert_eq!(fs::read(place.path().join("a")).unwrap(), b"two");
    }

    #[test]
    fn a_file_with_other_permissions_is_written_again() {
        let place = tempfile::tempdir().unwrap();
        replace(place.path(), "a", b"one", 0o644, Keep::AcrossKill).unwrap();
        fs::set_permissions(place.path().join("a"), Permissions::from_mode(0o600)).unwrap();
        assert!(replace(place.path(), "a", b"one", 0o644, Keep::AcrossKill).unwrap());
        assert_eq!(fs::metadata(place.path().join("a")).unwrap().permissions().mode() & 0o777, 0o644);
    }

    #[test]
    fn a_draft_left_by_a_killed_process_is_no_obstacle() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join(".a.new"), "half").unwrap();
        replace(place.path(), "a", b"whole", 0o600, Keep::AcrossPowerLoss).unwrap();
        assert_eq!(fs::read(place.path().join("a")).unwrap(), b"whole");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_draft_that_is_a_link_is_not_followed() {
        let place = tempfile::tempdir().unwrap();
        let other = place.path().join("other");
        fs::write(&other, "kept").unwrap();
        std::os::unix::fs::symlink(&other, place.path().join(".a.new")).unwrap();
        replace(place.path(), "a", b"new", 0o600, Keep::AcrossPowerLoss).unwrap();
        assert_eq!(fs::read_to_string(&other).unwrap(), "kept");
    }

    #[test]
    fn a_reader_finds_the_old_file_or_the_new_one_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let content = |number: usize| number.to_string().repeat(1000).into_bytes();
        replace(place.path(), "a", &content(0), 0o600, Keep::AcrossKill).unwrap();
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    let found = fs::read(place.path().join("a")).unwrap();
                    assert!((0..10).any(|number| found == content(number)), "{} bytes", found.len());
                }
            });
            for number in 0..2000 {
                replace(place.path(), "a", &content(number % 10), 0o600, Keep::AcrossKill).unwrap();
            }
            over.store(true, std::sync::atomic::Ordering::Relaxed);
            reader.join().unwrap();
        });
    }

    #[test]
    fn a_link_or_a_pipe_in_the_files_place_is_replaced_and_not_read() {
        let place = tempfile::tempdir().unwrap();
        let (path, other) = (place.path().join("a"), place.path().join("other"));
        fs::write(&other, "same").unwrap();
        fs::set_permissions(&other, Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        assert!(replace(place.path(), "a", b"same", 0o600, Keep::AcrossKill).unwrap());
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
        fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").args(["-m", "600"]).arg(&path).status().unwrap().success());
        assert!(!is_same(&path, b"", 0o600));
        assert!(replace(place.path(), "a", b"same", 0o600, Keep::AcrossKill).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"same");
    }

    #[test]
    fn reading_stops_at_the_limit() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("a"), [b'x'; 100]).unwrap();
        assert_eq!(read(&place.path().join("a"), 10).unwrap().unwrap().len(), 10);
        assert_eq!(read(&place.path().join("b"), 10).unwrap(), None);
    }
}
