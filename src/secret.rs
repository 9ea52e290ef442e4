//! Bytes that must never be seen: no `Display`, a mute `Debug`, zeroed on drop.
//!
//! Owns the type and nothing else. Who may open one (`expose`) is a short list that
//! `tests/architecture.rs` holds. Copies inside TLS buffers are out of its reach.

use std::fmt;

use zeroize::Zeroizing;

/// Secret bytes. A boxed slice, not a `Vec`: growth would leave copies behind.
#[derive(Clone)]
pub struct Secret(Zeroizing<Box<[u8]>>);

impl Secret {
    /// Takes ownership; a `Vec` with spare capacity is copied once and the original wiped.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = Zeroizing::new(bytes.into());
        Self(Zeroizing::new(bytes.as_slice().into()))
    }

    /// The bytes. The caller must not print, log or store them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// How many bytes, which is safe to tell.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text.into_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Equality in time that does not depend on where the difference lies.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (self.expose(), other.expose());
        a.len() == b.len() && a.iter().zip(b).fold(0, |acc, (x, y)| acc | (x ^ y)) == 0
    }
}

impl Eq for Secret {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_never_shows_the_bytes() {
        let secret = Secret::new("marker");
        assert_eq!(format!("{secret:?}"), "Secret(..)");
    }

    #[test]
    fn equality_compares_every_byte() {
        assert_eq!(Secret::new("abc"), Secret::new("abc"));
        assert_ne!(Secret::new("abc"), Secret::new("abd"));
        assert_ne!(Secret::new("abc"), Secret::new("abcd"));
    }
}
