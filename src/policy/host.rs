//! Patterns of host names, matched by whole labels.

use std::fmt;

use crate::authority::{AuthorityError, Host};

/// One exact name, or every name below a zone. One that exists is correct.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPattern {
    host: Host,
    below: bool,
}

/// Why a text is no pattern. Comes from configuration only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// `*`, `*com`, `a.*.b`.
    #[error("'*' only stands for whole labels at the front, want a name or '*.' and a suffix such as *.googleapis.com")]
    Star,
    /// `*.com`: a credential for everybody.
    #[error("a wildcard for a whole top-level domain, want at least two labels after '*.'")]
    TooWide,
    /// `name:443`.
    #[error("a port in a host pattern, want only the name: credentials go to port 443 only")]
    Port,
    /// Anything [`Host::parse`] refuses.
    #[error(transparent)]
    Host(#[from] AuthorityError),
}

impl HostPattern {
    /// Reads `name` or `*.zone`.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let (name, below) = match text.strip_prefix("*.") {
            Some(zone) => (zone, true),
            None => (text, false),
        };
        if name.contains('*') {
            return Err(PatternError::Star);
        }
        if name.contains(':') && !name.contains('[') {
            return Err(PatternError::Port);
        }
        let host = Host::parse(name)?;
        if below && host.labels().count() < 2 {
            return Err(PatternError::TooWide);
        }
        Ok(Self { host, below })
    }

    /// Exactly `host`.
    pub fn exact(host: Host) -> Self {
        Self { host, below: false }
    }

    /// Whether `host` is the name, or lies one or more labels below the zone. The zone itself does not.
    pub fn matches(&self, host: &Host) -> bool {
        if self.below { host.is_below(&self.host) } else { *host == self.host }
    }

    /// Whether every name that `other` matches is matched by `self`.
    pub fn covers(&self, other: &Self) -> bool {
        match (self.below, other.below) {
            (true, true) => other.host == self.host || other.host.is_below(&self.host),
            (_, false) => self.matches(&other.host),
            (false, true) => false,
        }
    }

    /// Whether this is one name and no wildcard.
    pub fn is_exact(&self) -> bool {
        !self.below
    }

    /// The name, or the zone without its `*.` (what a name constraint of the pod CA permits).
    pub fn zone(&self) -> &Host {
        &self.host
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.below { "*." } else { "" }, self.host)
    }
}

impl std::str::FromStr for HostPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        Self::parse(text)
    }
}
