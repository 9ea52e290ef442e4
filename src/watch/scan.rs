//! One look at a path: the bytes of its files, within bounds.

use std::{
    fs,
    io::{ErrorKind, Read},
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use super::mounts;
use crate::secret::Secret;

/// Files of one directory.
const MOST_FILES: usize = 32;
/// Bytes of one file.
const MOST_BYTES: u64 = 64 * 1024;
/// Names of one directory that are read at all.
const MOST_NAMES: usize = 4096;

/// A file as it was read. Equal when name and bytes are: a new time alone is no news.
#[derive(Clone, Debug)]
pub struct File {
    /// The name in its directory.
    pub name: String,
    /// The bytes, or why there are none.
    pub content: Result<Secret, Unread>,
    /// When it was changed, since 1970. Equal for all files of a Kubernetes volume.
    pub modified: Duration,
}

impl PartialEq for File {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.content == other.content
    }
}

impl Eq for File {}

/// Why a file was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// It vanished, or its link points nowhere.
    #[error("there is no such file")]
    Missing,
    /// Its mode or owner keeps us out.
    #[error("permission denied: the sidecar's user cannot read it")]
    Denied,
    /// More than 64 KiB.
    #[error("larger than 64 KiB")]
    TooLarge,
    /// A pipe, a socket, a device.
    #[error("not a regular file")]
    NotAFile,
    /// Another error of the file system.
    #[error("it cannot be read")]
    Other,
}

/// Why a look did not find (all) files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Nothing there.
    #[error("there is no such file or directory")]
    Missing,
    /// A directory without a file whose name does not start with a dot.
    #[error("the directory holds no file")]
    NoFiles,
    /// The path itself cannot be read.
    #[error("{0}")]
    Unread(Unread),
    /// More than 32 files; the first by name were read.
    #[error("the directory holds more than 32 files, only the first 32 are read")]
    TooManyFiles,
}

/// What one look found.
pub(super) struct Look {
    pub(super) files: Vec<File>,
    pub(super) problem: Option<Problem>,
    pub(super) is_stuck: bool,
}

/// Looks at `path`.
pub(super) fn scan(path: &Path) -> Look {
    let (files, problem) = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => directory(path),
        Ok(_) => single(path),
        Err(error) if is_missing(&error) => (Vec::new(), Some(Problem::Missing)),
        Err(error) => (Vec::new(), Some(Problem::Unread(unread(&error)))),
    };
    let is_stuck = mounts::are_stuck(path, &files);
    Look { files, problem, is_stuck }
}

fn single(path: &Path) -> (Vec<File>, Option<Problem>) {
    let file = read(path);
    match file.content {
        Ok(_) => (vec![file], None),
        Err(Unread::Missing) => (Vec::new(), Some(Problem::Missing)),
        Err(why) => (Vec::new(), Some(Problem::Unread(why))),
    }
}

fn directory(path: &Path) -> (Vec<File>, Option<Problem>) {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) => return (Vec::new(), Some(Problem::Unread(unread(&error)))),
    };
    let mut names: Vec<_> = entries
        .take(MOST_NAMES)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort_unstable();
    let files = names.iter().map(|name| path.join(name)).filter(|file| !file.is_dir());
    // One more than is kept tells whether there were too many.
    let mut files: Vec<_> = files.take(MOST_FILES + 1).map(|file| read(&file)).collect();
    let problem = match files.len() {
        0 => Some(Problem::NoFiles),
        count if count > MOST_FILES => Some(Problem::TooManyFiles),
        _ => None,
    };
    files.truncate(MOST_FILES);
    (files, problem)
}

fn read(path: &Path) -> File {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match bytes(path) {
        Ok((content, modified)) => File { name, content: Ok(content), modified },
        Err(why) => File { name, content: Err(why), modified: Duration::ZERO },
    }
}

fn bytes(path: &Path) -> Result<(Secret, Duration), Unread> {
    let file = crate::file::open(path).map_err(|error| unread(&error))?;
    let metadata = file.metadata().map_err(|error| unread(&error))?;
    if !metadata.is_file() {
        return Err(Unread::NotAFile);
    }
    // The size can lie (`/proc`, a file that is being written): the reading is what is bounded.
    let mut content = zeroize::Zeroizing::new(Vec::with_capacity(4096));
    file.take(MOST_BYTES + 1).read_to_end(&mut content).map_err(|error| unread(&error))?;
    if content.len() as u64 > MOST_BYTES {
        return Err(Unread::TooLarge);
    }
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    Ok((Secret::new(content.as_slice()), modified.unwrap_or_default()))
}

fn unread(error: &std::io::Error) -> Unread {
    match error.kind() {
        _ if is_missing(error) => Unread::Missing,
        ErrorKind::PermissionDenied => Unread::Denied,
        ErrorKind::IsADirectory => Unread::NotAFile,
        // What opening a socket or a device without driver says.
        _ if error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => Unread::NotAFile,
        _ => Unread::Other,
    }
}

fn is_missing(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}
