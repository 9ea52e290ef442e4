//! What a derived token was made of, and whether that has become another identity's since.

use crate::credential::{CredentialName, Exchange};

/// The credential that another is derived from, as a refresh task knows it.
#[derive(Debug)]
pub(super) struct Parent {
    name: CredentialName,
    /// Of the token in hand, or of what the last attempt failed with where there is none; see [`crate::credential::Parents::lineage`].
    made_of: Option<u64>,
    /// At the beginning of the attempt under way: at worst older than the token which that got, and then the token is
    /// fetched once more.
    asked_at: Option<u64>,
    /// The newest that was noticed.
    noticed: Option<u64>,
}

impl Parent {
    pub(super) fn new(name: CredentialName) -> Self {
        Self { name, made_of: None, asked_at: None, noticed: None }
    }

    fn lineage(&self, exchange: &Exchange) -> Option<u64> {
        exchange.parents.as_ref()?.lineage(&self.name)
    }

    /// An attempt begins.
    pub(super) fn ask(&mut self, exchange: &Exchange) {
        self.asked_at = self.lineage(exchange);
    }

    /// Whether there has been a switch since the token in hand was asked for, and since this was last told.
    pub(super) fn has_just_switched(&mut self, exchange: &Exchange) -> bool {
        let now = self.lineage(exchange);
        let is_another = now.is_some() && self.made_of.is_some() && now != self.made_of;
        let is_news = is_another && now != self.noticed;
        if is_news {
            self.noticed = now;
        }
        is_news
    }

    /// The attempt brought none: with another identity the next may.
    pub(super) fn fail(&mut self) {
        self.made_of = self.made_of.or(self.asked_at);
    }

    /// The attempt brought a token. Whether it is another identity's than the one in hand.
    pub(super) fn take(&mut self) -> bool {
        let is_another = self.made_of.is_some() && self.asked_at != self.made_of;
        (self.made_of, self.noticed) = (self.asked_at, None);
        is_another
    }
}

/// Completes at the next switch; never, where nothing is derived or there is no token yet.
pub(super) async fn switched(parent: Option<&Parent>, exchange: &Exchange) {
    let known = parent.and_then(|parent| Some((&parent.name, parent.noticed.or(parent.made_of)?)));
    match known.zip(exchange.parents.as_ref()) {
        Some(((name, since), parents)) => parents.switched(name, since).await,
        None => std::future::pending().await,
    }
}

/// Completes when what was missing is there; never, if nothing was.
pub(super) async fn arrival(missed: Option<&CredentialName>, exchange: &Exchange) {
    match missed.zip(exchange.parents.as_ref()) {
        Some((name, parents)) => parents.arrival(name).await,
        None => std::future::pending().await,
    }
}
