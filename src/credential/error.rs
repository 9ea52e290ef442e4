//! Why a token could not be made: a class (what to do next), a reason (a fixed label) and a sentence.

use std::{fmt, time::Duration};

/// What a failure means for the next attempt. Whatever nobody has seen before is transient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// May pass by itself.
    Transient {
        /// What the endpoint asked for.
        retry_after: Option<Duration>,
    },
    /// The endpoint finds our time wrong, also after one correction.
    Clock,
    /// The endpoint refuses this key or account. Another key may work, and so may this one later:
    /// new keys need minutes to be known, disabled accounts can be enabled again.
    Key,
    /// The endpoint finds the request itself wrong.
    Configuration,
}

impl Class {
    /// A transient failure without a hint.
    pub const TRANSIENT: Self = Self::Transient { retry_after: None };

    /// Whether other keys of the same credential are worth a try.
    pub fn is_about_the_key(self) -> bool {
        matches!(self, Self::Key | Self::Configuration)
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $label:literal,)+) => {
        /// The closed set of reasons, for metrics, logs and error answers.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Reason {
            /// Every reason, so that each metric exists at zero before its first event.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The label.
            pub fn label(self) -> &'static str {
                match self {
                    $(Self::$name => $label,)+
                }
            }
        }
    };
}

reasons! {
    /// The endpoint's name was not resolved.
    Dns = "dns",
    /// No connection.
    Connect = "connect",
    /// No complete answer in time.
    Timeout = "timeout",
    /// The TLS handshake failed for another reason than the certificate.
    Tls = "tls",
    /// The endpoint's certificate was not accepted: a middlebox, or an attack.
    Certificate = "certificate",
    /// The connection ended before the answer did.
    Reset = "reset",
    /// The answer was larger than any token answer.
    TooLarge = "too_large",
    /// HTTP 408, 425, 5xx, or the endpoint said so in words.
    Unavailable = "unavailable",
    /// HTTP 429 or an "unusual traffic" page.
    RateLimited = "rate_limited",
    /// A redirect, which is never followed: the assertion would travel.
    Redirect = "redirect",
    /// HTTP 200 without a usable token.
    BadAnswer = "bad_answer",
    /// A token with less than a minute to live.
    ShortLived = "short_lived",
    /// Our clock or the endpoint's is wrong.
    Clock = "clock",
    /// The key is deleted, disabled, or too new to be known.
    InvalidSignature = "invalid_signature",
    /// The account is unknown or deleted.
    AccountNotFound = "account_not_found",
    /// The account or its project is disabled.
    AccountDisabled = "account_disabled",
    /// The client is unknown, deleted or disabled.
    InvalidClient = "invalid_client",
    /// Domain-wide delegation is not granted.
    Unauthorized = "unauthorized",
    /// A scope is wrong.
    InvalidScope = "invalid_scope",
    /// Another refusal of the grant.
    InvalidGrant = "invalid_grant",
    /// The identity may not impersonate the account, or not yet.
    PermissionDenied = "permission_denied",
    /// What a federated identity shows of itself is not there.
    SubjectToken = "subject_token",
    /// The credential that this one is derived from has no token.
    NoSource = "no_source",
    /// The request was wrong: `invalid_request`, 404, 405.
    InvalidRequest = "invalid_request",
    /// No usable key is loaded.
    NoKey = "no_key",
    /// The key could not sign.
    Signing = "signing",
    /// Our own code failed.
    Panic = "panic",
    /// Nobody has seen this before.
    Unknown = "unknown",
}

/// A token that could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchError {
    /// What to do next.
    pub class: Class,
    /// The label.
    pub reason: Reason,
    /// For people. Never holds a secret.
    pub message: String,
}

impl FetchError {
    /// Puts the three together.
    pub fn new(class: Class, reason: Reason, message: impl Into<String>) -> Self {
        Self { class, reason, message: message.into() }
    }

    /// A transient failure without a hint.
    pub fn transient(reason: Reason, message: impl Into<String>) -> Self {
        Self::new(Class::TRANSIENT, reason, message)
    }

    /// The fixed label.
    pub fn label(&self) -> &'static str {
        self.reason.label()
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for FetchError {}
