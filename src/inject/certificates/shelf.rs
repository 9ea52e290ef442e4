//! The Secret that all replicas share, read and written.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};

use super::{
    authority::{self, Authority, LEAF_LIFE, Root},
    step::{Kept, MOST_PREVIOUS},
};
use crate::clock::Wall;

/// Asks for a new authority, on the Secret; any value. Taken away when it has been begun.
pub const ROTATE: &str = "bearerd.dev/rotate-ca";

/// Until when `previous.crt` is trusted, in seconds since 1970, on the Secret.
pub(super) const UNTIL: &str = "bearerd.dev/previous-until";

/// What the Secret holds, with keys.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) current: Authority,
    pub(super) next: Option<Authority>,
    pub(super) previous: Vec<Root>,
    pub(super) until: Option<u64>,
    pub(super) asked: bool,
}

/// What a Secret turned out to be.
#[derive(Debug)]
pub(super) enum Read {
    /// Usable. The reason is why a next authority in it is not.
    Usable(Box<Shelf>, Option<&'static str>),
    /// No data.
    Empty,
    /// It was ours, and why it cannot be used.
    Broken(&'static str),
    /// It holds other things.
    Foreign,
}

impl Shelf {
    pub(super) fn new(current: Authority) -> Self {
        Self { current, next: None, previous: Vec::new(), until: None, asked: false }
    }

    /// Judges the Secret's content.
    pub(super) fn read(secret: &Secret, wall: Wall) -> Read {
        let data = secret.data.as_ref();
        let of = |key: &str| data.and_then(|data| data.get(key)).map(|bytes| bytes.0.as_slice());
        if data.is_none_or(BTreeMap::is_empty) {
            return Read::Empty;
        }
        if data.is_some_and(|data| !data.keys().any(|key| KEYS.contains(&key.as_str()))) {
            return Read::Foreign;
        }
        let (Some(certificate), Some(key)) = (of(CURRENT[0]), of(CURRENT[1])) else {
            return Read::Broken("ca.crt or ca.key is missing");
        };
        let current = match Authority::read(certificate, key, wall) {
            Ok(current) => current,
            Err(reason) => return Read::Broken(reason),
        };
        let (next, complaint) = match (of(NEXT[0]), of(NEXT[1])) {
            (None, None) => (None, None),
            (Some(certificate), Some(key)) => match Authority::read(certificate, key, wall) {
                Ok(next) => (Some(next), None),
                Err(reason) => (None, Some(reason)),
            },
            _ => (None, Some("next.crt or next.key is missing")),
        };
        let annotation = |key: &str| secret.metadata.annotations.as_ref().and_then(|all| all.get(key));
        let previous = of(PREVIOUS).map_or_else(Vec::new, |pem| authority::roots(pem, wall).0);
        let until = annotation(UNTIL).and_then(|text| text.parse().ok());
        let asked = annotation(ROTATE).is_some();
        Read::Usable(Box::new(Self { current, next, previous, until, asked }), complaint)
    }

    /// Puts the content into a Secret; whatever else lies in it stays.
    pub(super) fn write(&self, secret: &mut Secret) {
        let data = secret.data.get_or_insert_default();
        let mut put = |key: &str, text: Option<String>| match text {
            Some(text) => drop(data.insert(key.to_owned(), ByteString(text.into_bytes()))),
            None => drop(data.remove(key)),
        };
        put(CURRENT[0], Some(authority::pem([&self.current.root()])));
        put(CURRENT[1], Some(self.current.key_pem().to_string()));
        put(NEXT[0], self.next.as_ref().map(|next| authority::pem([&next.root()])));
        put(NEXT[1], self.next.as_ref().map(|next| next.key_pem().to_string()));
        put(PREVIOUS, (!self.previous.is_empty()).then(|| authority::pem(&self.previous)));
        let annotations = secret.metadata.annotations.get_or_insert_default();
        match self.until.filter(|_| !self.previous.is_empty()) {
            Some(until) => drop(annotations.insert(UNTIL.to_owned(), until.to_string())),
            None => drop(annotations.remove(UNTIL)),
        }
        if !self.asked {
            annotations.remove(ROTATE);
        }
    }

    /// What has to be decided on.
    pub(super) fn kept(&self, wall: Wall) -> Kept<Root> {
        Kept {
            current: self.current.root(),
            next: self.next.as_ref().map(Authority::root),
            previous: self.previous.clone(),
            until: self.until,
            asked: self.asked,
            due: self.current.life().is_due(wall.seconds()),
        }
    }

    /// A next authority waits to be trusted.
    pub(super) fn begin(&mut self, next: Authority) {
        self.next = Some(next);
        self.asked = false;
    }

    /// The next authority signs from now on; what the old one signed stays trusted.
    pub(super) fn promote(&mut self, wall: Wall) {
        if let Some(next) = self.next.take() {
            let old = std::mem::replace(&mut self.current, next);
            self.adopt(vec![old.root()], wall);
            self.asked = false;
        }
    }

    /// Trusts these until the last leaf that they can have signed by now has ended.
    pub(super) fn adopt(&mut self, roots: Vec<Root>, wall: Wall) {
        self.previous.splice(0..0, roots);
        self.previous.truncate(MOST_PREVIOUS);
        self.until = Some(wall.seconds().saturating_add(LEAF_LIFE + MARGIN));
    }

    /// Nobody trusts the previous ones any more.
    pub(super) fn forget(&mut self) {
        self.previous.clear();
        self.until = None;
    }
}

const CURRENT: [&str; 2] = ["ca.crt", "ca.key"];
const NEXT: [&str; 2] = ["next.crt", "next.key"];
const PREVIOUS: &str = "previous.crt";
const KEYS: [&str; 5] = ["ca.crt", "ca.key", "next.crt", "next.key", "previous.crt"];
/// A replica may have signed a little later than it was told, by a clock that is a little late.
const MARGIN: u64 = 86_400;
