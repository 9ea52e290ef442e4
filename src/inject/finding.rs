//! One thing to say about a pod.

use std::fmt;

use crate::config;

/// One error or warning: what it is about, what is wrong and what is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The annotation or field, such as `bearerd.dev/secret-name` or `spec.hostNetwork`.
    pub subject: String,
    /// The value, where it can be shown, what is wrong with it, and what is accepted.
    pub message: String,
    /// The page and heading under `docs/` that tells more, such as `kubernetes.md#pod-shapes`.
    pub anchor: &'static str,
}

impl Finding {
    /// Cut to what an API server passes on whole.
    pub(super) fn new(subject: impl Into<String>, message: impl Into<String>, anchor: &'static str) -> Self {
        let subject = cut(subject.into(), MOST_SUBJECT);
        let around = ": ".len() + " (docs: ".len() + anchor.len() + ")".len();
        let message = cut(message.into(), MOST.saturating_sub(subject.len() + around));
        Self { subject, message, anchor }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, message, anchor } = self;
        write!(f, "{subject}: {message} (docs: {anchor})")
    }
}

/// `'word'`, or a stand-in where it may be anything that was pasted into the wrong place.
pub(super) fn shown(word: &str) -> String {
    if config::is_plain(word) && !word.is_empty() { format!("'{word}'") } else { "this value".to_owned() }
}

pub(super) fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most.saturating_sub("…".len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Longer warnings are cut by the API server.
const MOST: usize = 256;

const MOST_SUBJECT: usize = 96;
