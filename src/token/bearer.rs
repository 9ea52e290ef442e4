//! A token as it is sent.

use http::HeaderValue;
use zeroize::Zeroizing;

use crate::{
    clock::Moment,
    credential::{Source, Token},
};

/// A token ready to be sent.
#[derive(Debug)]
pub struct Bearer {
    /// `Bearer …`, marked sensitive.
    pub header: HeaderValue,
    /// The token alone, marked sensitive.
    pub bare: HeaderValue,
    /// The beginning of its life.
    pub issued: Moment,
    /// The end of its life.
    pub expires: Moment,
    /// Counts up with every token of a slot.
    pub generation: u64,
    /// The key it was made with.
    pub key_id: Option<String>,
    /// The project that its credential's file would have requests count against.
    pub quota_project: Option<HeaderValue>,
}

/// What a token is made with, as far as it is told on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Maker<'a> {
    pub(super) key_id: Option<&'a str>,
    pub(super) quota_project: Option<&'a str>,
}

impl<'a> From<&'a Source> for Maker<'a> {
    fn from(source: &'a Source) -> Self {
        Self { key_id: source.key_id(), quota_project: source.quota_project() }
    }
}

pub(super) fn bearer(token: &Token, generation: u64, maker: Maker<'_>) -> Option<Bearer> {
    let with_scheme = Zeroizing::new([b"Bearer ", token.secret.expose()].concat());
    let mut header = HeaderValue::from_bytes(&with_scheme).ok()?;
    let mut bare = HeaderValue::from_bytes(token.secret.expose()).ok()?;
    header.set_sensitive(true);
    bare.set_sensitive(true);
    Some(Bearer {
        header,
        bare,
        issued: token.sent,
        expires: token.expires(),
        generation,
        key_id: maker.key_id.map(ToOwned::to_owned),
        quota_project: maker.quota_project.and_then(|project| HeaderValue::from_str(project).ok()),
    })
}
