//! Why a key file is refused: a label and a sentence.

/// Why a key file is refused: the closed set of labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyReason {
    /// Nobody could read the file.
    Unreadable,
    /// Larger than any key file.
    TooLarge,
    /// Nothing in it.
    Empty,
    /// Not UTF-8 text.
    NotText,
    /// Not JSON.
    NotJson,
    /// A line break or another control character inside a string.
    ControlCharacter,
    /// A field twice.
    DuplicateField,
    /// Another kind of credential file.
    WrongType,
    /// A field is missing.
    MissingField,
    /// A field has an impossible value.
    InvalidField,
    /// The private key is not a PEM block that can be read.
    NotPem,
    /// The private key needs a passphrase.
    Encrypted,
    /// The private key is not RSA.
    NotRsa,
    /// The private key is too short or too long.
    Bits,
    /// The private key cannot sign.
    Damaged,
    /// `token_uri` is not Google's.
    TokenUri,
    /// Another universe than googleapis.com.
    Universe,
    /// A key of another project than the one in use.
    WrongProject,
}

impl KeyReason {
    /// Every reason, so that each metric exists at zero before its first event.
    pub const ALL: [Self; 18] = [
        Self::Unreadable,
        Self::TooLarge,
        Self::Empty,
        Self::NotText,
        Self::NotJson,
        Self::ControlCharacter,
        Self::DuplicateField,
        Self::WrongType,
        Self::MissingField,
        Self::InvalidField,
        Self::NotPem,
        Self::Encrypted,
        Self::NotRsa,
        Self::Bits,
        Self::Damaged,
        Self::TokenUri,
        Self::Universe,
        Self::WrongProject,
    ];

    /// The label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::TooLarge => "too_large",
            Self::Empty => "empty",
            Self::NotText => "not_text",
            Self::NotJson => "not_json",
            Self::ControlCharacter => "control_character",
            Self::DuplicateField => "duplicate_field",
            Self::WrongType => "wrong_type",
            Self::MissingField => "missing_field",
            Self::InvalidField => "invalid_field",
            Self::NotPem => "not_pem",
            Self::Encrypted => "encrypted",
            Self::NotRsa => "not_rsa",
            Self::Bits => "bits",
            Self::Damaged => "damaged",
            Self::TokenUri => "token_uri",
            Self::Universe => "universe",
            Self::WrongProject => "wrong_project",
        }
    }
}

/// Why a key file is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct KeyError {
    /// The label.
    pub reason: KeyReason,
    /// For people. Never holds a secret.
    pub message: String,
}

impl KeyError {
    /// Puts both together.
    pub fn new(reason: KeyReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}
