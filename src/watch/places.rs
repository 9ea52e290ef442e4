//! The directories in which a change can change what a path means.

use std::{
    collections::{BTreeMap, VecDeque},
    ffi::OsString,
    fs,
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
};

/// As many links as the kernel follows.
const MOST_LINKS: usize = 40;
/// Directories of one watch. What lies in others is found by the poll.
const MOST_PLACES: usize = 16;
/// Files of a directory whose links are followed.
const MOST_FILES: usize = 32;

/// The directories to watch for `path`, each with its inode: every directory that holds a link on the way,
/// and the one that holds the file at the end (or the first one that is there, while the path is not).
pub(super) fn places(path: &Path) -> BTreeMap<PathBuf, u64> {
    let mut places = BTreeMap::new();
    let end = follow(path, &mut places);
    // A directory of links, each of which may lead elsewhere.
    if let Some(directory) = end
        && let Ok(entries) = fs::read_dir(&directory)
    {
        let visible = |name: &OsString| !name.as_encoded_bytes().starts_with(b".");
        for name in entries.filter_map(|entry| Some(entry.ok()?.file_name())).filter(visible).take(MOST_FILES) {
            follow(&directory.join(name), &mut places);
        }
    }
    places
}

/// Walks `path` component by component. The directory at its end, where it is one.
fn follow(path: &Path, places: &mut BTreeMap<PathBuf, u64>) -> Option<PathBuf> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut rest: VecDeque<PathBuf> = components(&absolute);
    let mut here = PathBuf::from("/");
    let mut links = 0;
    while let Some(component) = rest.pop_front() {
        if component == Path::new("..") {
            here.pop();
            continue;
        }
        let next = here.join(&component);
        let Ok(metadata) = fs::symlink_metadata(&next) else {
            add(&here, places);
            return None;
        };
        if metadata.is_symlink() {
            add(&here, places);
            links += 1;
            let Ok(target) = fs::read_link(&next) else { return None };
            if links > MOST_LINKS {
                return None;
            }
            if target.is_absolute() {
                here = PathBuf::from("/");
            }
            for component in components(&target).into_iter().rev() {
                rest.push_front(component);
            }
        } else {
            here = next;
        }
    }
    if here.is_dir() {
        add(&here, places);
        return Some(here);
    }
    add(here.parent()?, places);
    None
}

fn components(path: &Path) -> VecDeque<PathBuf> {
    let named = |component: &Component<'_>| matches!(component, Component::Normal(_) | Component::ParentDir);
    path.components().filter(named).map(|component| PathBuf::from(component.as_os_str())).collect()
}

fn add(place: &Path, places: &mut BTreeMap<PathBuf, u64>) {
    if places.len() < MOST_PLACES
        && let Ok(metadata) = fs::metadata(place)
    {
        places.insert(place.to_owned(), metadata.ino());
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_directory_that_holds_a_link_is_a_place() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        for directory in ["volume/..2026", "driver/v1", "app"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        fs::write(root.join("volume/..2026/key.json"), "x").unwrap();
        symlink("..2026", root.join("volume/..data")).unwrap();
        symlink("..data/key.json", root.join("volume/key.json")).unwrap();
        symlink(root.join("volume/key.json"), root.join("driver/v1/key.json")).unwrap();
        symlink("v1", root.join("driver/current")).unwrap();
        symlink("../driver/current/key.json", root.join("app/key.json")).unwrap();
        let names = |path: &str| -> Vec<String> {
            let found = places(&root.join(path)).into_keys();
            found.map(|place| place.strip_prefix(&root).unwrap().display().to_string()).collect()
        };
        assert_eq!(names("volume/key.json"), ["volume", "volume/..2026"]);
        assert_eq!(names("volume"), ["volume", "volume/..2026"]);
        let chain = ["app", "driver", "driver/v1", "volume", "volume/..2026"];
        assert_eq!(names("app/key.json"), chain);
        assert_eq!(names("app"), chain);
        assert_eq!(names("app/nothing/here.json"), ["app"], "where the path would begin to exist");
    }

    #[test]
    fn a_circle_of_links_ends() {
        let root = tempfile::tempdir().unwrap();
        symlink("b", root.path().join("a")).unwrap();
        symlink("a", root.path().join("b")).unwrap();
        assert!(places(&root.path().join("a")).len() <= MOST_PLACES);
    }
}
