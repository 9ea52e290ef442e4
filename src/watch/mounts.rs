//! Recognises mounts that never show an update: `subPath`, and directories that were deleted beneath them.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use super::scan::File;

/// Whether `path`, or a file in it, is such a mount.
pub(super) fn are_stuck(path: &Path, files: &[File]) -> bool {
    let Ok(mountinfo) = std::fs::read_to_string("/proc/self/mountinfo") else { return false };
    let Ok(path) = std::path::absolute(path) else { return false };
    let is_directory = path.is_dir();
    let children = files.iter().filter(|_| is_directory).map(|file| path.join(&file.name));
    let files: HashSet<PathBuf> = children.collect();
    mountinfo.lines().any(|line| is_stuck(line, &path, is_directory, &files))
}

/// One line of mountinfo (proc(5)): id, parent, device, root, mount point, …
fn is_stuck(line: &str, path: &Path, is_directory: bool, files: &HashSet<PathBuf>) -> bool {
    let mut fields = line.split(' ').skip(3);
    let (Some(root), Some(point)) = (fields.next(), fields.next()) else { return false };
    let point = PathBuf::from(unescaped(point));
    if files.contains(&point) {
        return true;
    }
    if point != path {
        return false;
    }
    // A file that is a mount itself stays the file it was; a directory only if it was mounted by its dated
    // name (what `..data` points to), or is gone.
    !is_directory || root.ends_with("//deleted") || root.split('/').any(|part| part.starts_with("..2"))
}

/// Blanks and the like are written as three octal digits.
fn unescaped(field: &str) -> String {
    let mut text = String::with_capacity(field.len());
    let mut rest = field;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        let code = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                text.push(char::from(code));
                rest = &after[3..];
            }
            None => {
                text.push('\\');
                rest = after;
            }
        }
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_file_mounts_and_deleted_directories_are_recognised() {
        let line = |root: &str, point: &str| format!("611 590 0:63 {root} {point} ro,relatime - tmpfs tmpfs rw");
        for (root, point, is_directory, stuck) in [
            ("/..2026_11_25/key.json", "/keys/key.json", false, true),
            ("/..2026_11_25/key.json//deleted", "/keys/key.json", false, true),
            ("/secret/key.json", "/keys/key.json", false, true),
            ("/", "/keys", false, false),
            ("/", "/keys", true, false),
            ("/..2026_11_25", "/keys", true, true),
            ("/vol//deleted", "/keys", true, true),
            ("/..2026_11_25/a.json", "/keys/a.json", true, true),
            ("/..2026_11_25/b.json", "/keys/b.json", true, false),
            ("/", "/", true, false),
        ] {
            let path = Path::new(if is_directory { "/keys" } else { "/keys/key.json" });
            let files = if is_directory { HashSet::from(["/keys/a.json".into()]) } else { HashSet::new() };
            let line = line(root, point);
            assert_eq!(is_stuck(&line, path, is_directory, &files), stuck, "{line}");
        }
        assert!(!is_stuck("", Path::new("/keys"), true, &HashSet::new()));
    }

    #[test]
    fn escapes_are_undone() {
        for (field, text) in [("/a\\040b", "/a b"), ("/a\\134", "/a\\"), ("/a\\", "/a\\"), ("/a\\9é", "/a\\9é")] {
            assert_eq!(unescaped(field), text);
        }
    }
}
