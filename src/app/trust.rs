//! The pod's CA, its trust files and its placeholder: made at the first start, found again at every other.

use std::{
    fs, io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;

use crate::{
    clock::Clock,
    policy::Placeholder,
    tls::{Leaves, PodCa, TrustFiles, write_trust},
};

/// Where the pod's trust lies.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Read by applications: `ca.pem`, `bundle.pem`, `truststore.p12`.
    pub public: PathBuf,
    /// Ours alone: the CA's key and the placeholder.
    pub private: PathBuf,
}

/// What was made or found.
pub(super) struct Trust {
    pub(super) leaves: Arc<Leaves>,
    pub(super) files: TrustFiles,
    pub(super) placeholder: Placeholder,
}

/// Makes or loads everything. `zones` are the hosts that may be intercepted, without `*.`.
pub(super) fn prepare(
    settings: &Settings,
    zones: &[String],
    extra_roots: Option<&[u8]>,
    clock: Clock,
) -> anyhow::Result<Trust> {
    make_private(&settings.private)
        .with_context(|| format!("trust.private: cannot use {}", settings.private.display()))?;
    let placeholder = placeholder(&settings.private.join("placeholder"))
        .with_context(|| format!("trust.private: cannot keep the placeholder in {}", settings.private.display()))?;
    let ca = PodCa::load_or_create(&settings.private, zones, clock.wall()).context("trust.private")?;
    fs::create_dir_all(&settings.public)
        .with_context(|| format!("trust.public: cannot make {}", settings.public.display()))?;
    let files = write_trust(&settings.public, &ca, extra_roots).context("trust.public")?;
    let leaves = Leaves::new(Arc::new(ca), clock).context("the pod's CA")?;
    Ok(Trust { leaves: Arc::new(leaves), files, placeholder })
}

fn make_private(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0 {
        // An emptyDir arrives as 0777. Where it is not ours to narrow, files of mode 0600 still keep their content.
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
    }
    Ok(())
}

/// The placeholder, the same after a restart: SDKs go on holding it.
fn placeholder(path: &Path) -> io::Result<Placeholder> {
    if let Ok(kept) = fs::read_to_string(path)
        && is_placeholder(&kept)
    {
        return Ok(Placeholder::new(kept));
    }
    let made = format!("{PREFIX}{:032x}", rand::random::<u128>());
    let beside = path.with_extension("new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // `create_new` refuses to follow a symlink that someone put there.
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    io::Write::write_all(&mut file, made.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    Ok(Placeholder::new(made))
}

fn is_placeholder(text: &str) -> bool {
    text.strip_prefix(PREFIX).is_some_and(|rest| rest.len() == 32 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Some tools check that access tokens begin with `ya29.`.
const PREFIX: &str = "ya29.bearerd-placeholder-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_placeholder_survives_a_restart_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("placeholder");
        let first = placeholder(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(placeholder(&path).unwrap().as_str(), first.as_str());
        fs::write(&path, "ya29.bearerd-placeholder-torn").unwrap();
        assert_ne!(placeholder(&path).unwrap().as_str(), first.as_str());
    }

    #[test]
    fn a_link_in_the_way_of_the_placeholder_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let other = dir.path().join("other");
        fs::write(&other, "kept").unwrap();
        std::os::unix::fs::symlink(&other, dir.path().join("placeholder.new")).unwrap();
        placeholder(&dir.path().join("placeholder")).unwrap();
        assert_eq!(fs::read_to_string(&other).unwrap(), "kept");
    }
}
