//! For tests of annotations: what is made of a file with some of them.

use super::{Flags, Settings, Source, Sources, load};

/// The settings, or all problems in one line. `annotations` are names without our prefix, with their values.
pub(super) fn settings(yaml: &str, annotations: &[(&str, &str)], flags: Flags) -> Result<Settings, String> {
    let source = |name: &str, text: String| Some(Source { name: name.to_owned(), text });
    let text = annotations.iter().map(|(name, value)| format!("bearerd.dev/{name}={value:?}\n")).collect();
    let sources =
        Sources { file: source("bearerd.yaml", yaml.to_owned()), annotations: source("annotations", text), flags };
    load(&sources)
        .map(|loaded| loaded.settings)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

/// The annotation is refused, in these words among others, and named.
#[track_caller]
pub(super) fn refused(yaml: &str, annotation: (&str, &str), words: &str) {
    let refused = settings(yaml, &[annotation], Flags::default()).expect_err(words);
    assert!(refused.contains(words) && refused.contains(annotation.0), "{annotation:?}: {refused}");
}
