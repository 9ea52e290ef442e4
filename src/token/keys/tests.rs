//! What stays and what goes when files change.

use super::*;
use crate::{credential::samples, watch::Problem};

struct Mount {
    loader: Loader,
    snapshot: Snapshot,
    clock: Clock,
    second: u64,
}

impl Mount {
    fn new() -> Self {
        let loader = Loader::new(samples::spec("default"), KeySet::default(), Project::default());
        Self { loader, snapshot: Snapshot::default(), clock: Clock::virtual_time(), second: 0 }
    }

    /// The candidates' key ids, and how many news there were.
    fn put(&mut self, files: &[(&str, Result<&str, Unread>)]) -> (Vec<String>, usize) {
        let file = |(name, content): &(&str, Result<&str, Unread>)| File {
            name: (*name).to_owned(),
            content: content.map(Secret::new),
            modified: Duration::ZERO,
        };
        self.snapshot.files = files.iter().map(file).collect();
        self.snapshot.version += 1;
        self.second += 1;
        let now = self.clock.now() + Duration::from_secs(self.second);
        let (keys, news) = self.loader.take(&self.snapshot, now, self.second);
        let id = |candidate: &Candidate| candidate.source.key_id().unwrap().to_owned();
        (keys.candidates.iter().map(id).collect(), news.len())
    }
}

#[tokio::test]
async fn keys_are_ordered_by_appearance_then_time_then_name() {
    let (a, b, c) = (samples::good(0), samples::good(1), samples::good(2));
    let mut mount = Mount::new();
    assert_eq!(mount.put(&[("a", Ok(&a)), ("b", Ok(&b))]), (vec!["key-1".into(), "key-0".into()], 2));
    let all = [("a", Ok(a.as_str())), ("b", Ok(b.as_str())), ("0", Ok(c.as_str()))];
    assert_eq!(mount.put(&all).0, ["key-2", "key-1", "key-0"]);
    assert_eq!(mount.put(&all).1, 0, "nothing new");
    let mut mount = Mount::new();
    let at = |name: &str, content: &str, seconds| File {
        name: name.into(),
        content: Ok(Secret::new(content)),
        modified: Duration::from_secs(seconds),
    };
    mount.snapshot.files = [at("a", &a, 9), at("b", &b, 5)].into();
    let (keys, _) = mount.loader.take(&mount.snapshot, mount.clock.now(), 0);
    assert_eq!(keys.candidates[0].file, "a", "the file's time decides between files of one look");
}

#[tokio::test]
async fn a_broken_file_keeps_its_last_good_key_and_is_told_once() {
    let (a, b) = (samples::good(0), samples::good(1));
    let mut mount = Mount::new();
    mount.put(&[("a", Ok(&a)), ("b", Ok(&b))]);
    for broken in [Ok(""), Ok("{"), Err(Unread::Denied), Err(Unread::TooLarge)] {
        let files = [("a", Ok(a.as_str())), ("b", broken)];
        assert_eq!(mount.put(&files), (vec!["key-1".into(), "key-0".into()], 1), "{broken:?}");
        assert_eq!(mount.put(&files).1, 0, "{broken:?} again");
        assert_eq!(mount.loader.keys.refused[0].file, "b");
    }
    assert_eq!(mount.put(&[("a", Ok(&a)), ("b", Ok(&b))]), (vec!["key-1".into(), "key-0".into()], 0), "healed");
    assert!(mount.loader.keys.refused.is_empty());
    assert_eq!(mount.put(&[("a", Ok(&a))]).0, ["key-0"], "a file that goes takes its key along");
    assert_eq!(mount.put(&[("z", Ok("{}"))]).0, ["key-0"], "but not the last one");
}

#[tokio::test]
async fn problems_of_the_mount_are_shown_with_their_reason() {
    let mut mount = Mount::new();
    mount.snapshot.problem = Some(Problem::NoFiles);
    assert_eq!(mount.put(&[]), (vec![], 1));
    let refused = &mount.loader.keys.refused[0];
    assert_eq!((refused.file.as_str(), refused.error.reason), ("", KeyReason::Unreadable));
    assert_eq!(refused.error.to_string(), "the directory holds no file");
    assert_eq!(mount.loader.keys.loaded_at, None);
}
