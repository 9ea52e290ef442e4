//! Whether a text repeats what it was made of.

/// Longer than any word that an error may repeat: `harmless` in `credential::answer` lets 40 bytes through.
const LONGEST: usize = 40;

/// Panics when `text`, made for people, holds more than 40 bytes in a row of `secret`.
pub fn must_not_repeat(text: &str, secret: &[u8]) {
    let Some(windows) = (secret.len() > LONGEST).then(|| secret.windows(LONGEST + 1)) else { return };
    for window in windows.filter(|window| window.iter().all(u8::is_ascii_graphic)) {
        let found = text.as_bytes().windows(window.len()).any(|part| part == window);
        assert!(!found, "{text:?} repeats {:?}", String::from_utf8_lossy(window));
    }
}
