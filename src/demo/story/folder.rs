//! A private temporary folder, and in it a key mounted as Kubernetes mounts a Secret.

use std::{
    cell::Cell,
    fs, io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink},
    path::{Path, PathBuf},
};

use anyhow::Context as _;

/// A folder that only we may enter, removed when dropped.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Under the system's folder for temporary files.
    ///
    /// # Errors
    /// There is none, as in an image without `/tmp`, or it cannot be written; the message says what to give.
    pub(super) fn make() -> anyhow::Result<Self> {
        let base = std::env::temp_dir();
        let path = base.join(format!("bearerd-demo-{:016x}", rand::random::<u64>()));
        // Not `create_dir_all`: one that is there already is somebody else's.
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| {
            format!(
                "no folder can be made in {}, want one for temporary files (mount one, or set TMPDIR)",
                base.display()
            )
        })?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A mounted Secret: `key.json` → `..data/key.json`, and `..data` → a folder that is replaced as a whole.
#[derive(Debug)]
pub(super) struct Mount {
    path: PathBuf,
    versions: Cell<u32>,
}

impl Mount {
    /// An empty one.
    pub(super) fn make(path: PathBuf) -> io::Result<Self> {
        fs::create_dir(&path)?;
        Ok(Self { path, versions: Cell::new(0) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Swaps the content in one step, as the kubelet does.
    pub(super) fn swap(&self, content: &str) -> io::Result<()> {
        let before = self.version();
        self.versions.update(|count| count + 1);
        let version = self.version();
        fs::create_dir(&version)?;
        let mut file = fs::OpenOptions::new();
        let mut file = file.write(true).create_new(true).mode(0o600).open(version.join(KEY))?;
        io::Write::write_all(&mut file, content.as_bytes())?;
        let beside = self.path.join("..data_tmp");
        symlink(version.file_name().unwrap_or_default(), &beside)?;
        fs::rename(&beside, self.path.join("..data"))?;
        if self.versions.get() == 1 {
            return symlink(Path::new("..data").join(KEY), self.path.join(KEY));
        }
        fs::remove_dir_all(before)
    }

    fn version(&self) -> PathBuf {
        self.path.join(format!("..{}", self.versions.get()))
    }
}

const KEY: &str = "key.json";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_mount_is_swapped_as_a_whole_and_leaves_nothing_behind() {
        let folder = Folder::make().unwrap();
        assert_eq!(fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777, 0o700);
        let mount = Mount::make(folder.path().join("keys")).unwrap();
        for content in ["one", "two", "three"] {
            mount.swap(content).unwrap();
            assert_eq!(fs::read_to_string(mount.path().join(KEY)).unwrap(), content);
            assert_eq!(fs::read_dir(mount.path()).unwrap().count(), 3, "the link, ..data and one version");
        }
        let path = folder.path().to_owned();
        drop(folder);
        assert!(!path.exists());
    }
}
