//! A service-account key file: bytes in, a typed key out, or the exact reason why not.
//!
//! The file is written by people, templates and tools, so it is read with care for how it was pasted and
//! with none for what it asks for: `token_uri` and the like choose nothing.

use std::fmt;

use zeroize::Zeroizing;

use super::{
    fields::{Fields, TWICE},
    jwt::{self, SigningKey},
    pem,
};

mod reason;

pub use reason::{KeyError, KeyReason};

/// The largest key file: Google's have 2.4 KB.
pub const MOST_BYTES: usize = 64 * 1024;

/// A service-account key that has proved that it can sign.
pub struct Key {
    client_email: String,
    key_id: Option<String>,
    project: Option<String>,
    quota_project: Option<String>,
    universe: Option<String>,
    signing: SigningKey,
}

impl Key {
    /// Reads a key file.
    ///
    /// # Errors
    ///
    /// Names the broken rule, and the line where that helps. Never quotes the file's secrets.
    pub fn parse(content: &[u8]) -> Result<Self, KeyError> {
        let file = File::read(content)?;
        file.check_type()?;
        file.check_places()?;
        let client_email =
            file.client_email.filter(|email| !email.trim().is_empty()).ok_or_else(|| missing("client_email"))?;
        if !is_email(&client_email) {
            return Err(invalid("`client_email` is not an e-mail address"));
        }
        let key_id = file.private_key_id.filter(|id| !id.is_empty());
        if key_id.as_deref().is_some_and(|id| !is_word(id)) {
            return Err(invalid("`private_key_id` must be 1 to 128 letters, digits, `-`, `_` or `.`"));
        }
        let private_key =
            file.private_key.filter(|key| !key.trim().is_empty()).ok_or_else(|| missing("private_key"))?;
        let signing = signing_key("`private_key`", &private_key)?;
        if !signing.is_rsa() {
            return Err(KeyError::new(KeyReason::NotRsa, "`private_key` is an EC key; RSA is needed"));
        }
        let project = file.project_id.filter(|id| is_word(id)).or_else(|| project_of(&client_email));
        let quota_project = file.quota_project_id.filter(|id| is_word(id));
        let universe = file.universe_domain.filter(|domain| domain != UNIVERSE);
        Ok(Self { client_email, key_id, project, quota_project, universe, signing })
    }

    /// The account's address, the issuer of assertions.
    pub fn client_email(&self) -> &str {
        &self.client_email
    }

    /// The public id of the key.
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// The account's project.
    pub fn project(&self) -> Option<&str> {
        self.project.as_deref()
    }

    /// The project to bill, where the file names one.
    pub fn quota_project(&self) -> Option<&str> {
        self.quota_project.as_deref()
    }

    /// The universe, where it is another than `googleapis.com`: tokens are self-signed there, nothing is exchanged.
    pub fn universe(&self) -> Option<&str> {
        self.universe.as_deref()
    }

    /// What signs.
    pub(super) fn signing(&self) -> &SigningKey {
        &self.signing
    }

    /// The key, the account's address, the key's id, the project.
    pub(super) fn into_parts(self) -> (SigningKey, Option<String>, Option<String>, Option<String>) {
        (self.signing, Some(self.client_email), self.key_id, self.project)
    }
}

/// Whether this is a bare PEM file.
pub(super) fn is_pem(content: &[u8]) -> bool {
    let content = content.strip_prefix("\u{feff}".as_bytes()).unwrap_or(content);
    content.trim_ascii_start().starts_with(b"-----BEGIN")
}

/// Reads a bare PEM file.
pub(super) fn pem(content: &[u8]) -> Result<SigningKey, KeyError> {
    if content.len() > MOST_BYTES {
        return Err(KeyError::new(KeyReason::TooLarge, "larger than 64 KiB"));
    }
    let text = std::str::from_utf8(content).map_err(|_| KeyError::new(KeyReason::NotText, "not UTF-8 text"))?;
    signing_key("the file", text)
}

/// The key in `text`, called `what` in errors, that has proved that it can sign.
fn signing_key(what: &str, text: &str) -> Result<SigningKey, KeyError> {
    let signing = SigningKey::from_pem(text).map_err(|error| pem_error(what, error))?;
    jwt::sign(None, &(), &signing).map_err(|_| {
        KeyError::new(KeyReason::Damaged, format!("{what} is damaged: its numbers do not fit together"))
    })?;
    Ok(signing)
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("client_email", &self.client_email).field("key_id", &self.key_id).finish()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.client_email == other.client_email
            && self.key_id == other.key_id
            && self.project == other.project
            && self.universe == other.universe
            && self.quota_project == other.quota_project
            && self.signing == other.signing
    }
}

impl Eq for Key {}

/// The fields that matter.
#[derive(Default)]
struct File {
    kind: Option<String>,
    client_email: Option<String>,
    private_key: Option<Zeroizing<String>>,
    private_key_id: Option<String>,
    project_id: Option<String>,
    quota_project_id: Option<String>,
    token_uri: Option<String>,
    universe_domain: Option<String>,
    is_client_secret: bool,
}

impl File {
    fn read(content: &[u8]) -> Result<Self, KeyError> {
        let mut fields = Fields::read(content)?;
        Ok(Self {
            kind: fields.text("type")?,
            client_email: fields.text("client_email")?,
            private_key: fields.secret("private_key")?,
            private_key_id: fields.text("private_key_id")?,
            project_id: fields.text("project_id")?,
            quota_project_id: fields.text("quota_project_id")?,
            token_uri: fields.text("token_uri")?,
            universe_domain: fields.text("universe_domain")?,
            is_client_secret: fields.has("installed") || fields.has("web"),
        })
    }

    fn check_type(&self) -> Result<(), KeyError> {
        let wrong = |message: String| Err(KeyError::new(KeyReason::WrongType, message));
        match self.kind.as_deref() {
            Some("service_account") => Ok(()),
            // Only known words and harmless ones are repeated: anything may stand in a wrong file.
            Some(kind) if kind.len() <= 40 && kind.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') => {
                wrong(format!("`type` is `{kind}`; accepted here: `service_account`"))
            }
            Some(_) => wrong("`type` is unknown; accepted here: `service_account`".to_owned()),
            None if self.is_client_secret => wrong(
                "this is an OAuth client secret file (`installed` or `web`), not a service-account key".to_owned(),
            ),
            None => Err(KeyError::new(KeyReason::MissingField, "`type` is missing: not a service-account key file")),
        }
    }

    fn check_places(&self) -> Result<(), KeyError> {
        if self.token_uri.as_deref().is_some_and(|uri| !TOKEN_URIS.contains(&uri)) {
            let accepted = TOKEN_URIS.join(", ");
            let message = format!("`token_uri` is not one of Google's; accepted: {accepted}, or none");
            return Err(KeyError::new(KeyReason::TokenUri, message));
        }
        if self.universe_domain.as_deref().is_some_and(|domain| !is_domain(domain)) {
            let message =
                format!("`universe_domain` is no domain; accepted: `{UNIVERSE}`, or that of another universe");
            return Err(KeyError::new(KeyReason::Universe, message));
        }
        Ok(())
    }
}

/// The text of the file, without byte-order mark.
pub(super) fn text(content: &[u8]) -> Result<&str, KeyError> {
    if content.len() > MOST_BYTES {
        return Err(KeyError::new(KeyReason::TooLarge, "larger than 64 KiB"));
    }
    if content.starts_with(&[0xff, 0xfe]) || content.starts_with(&[0xfe, 0xff]) {
        return Err(KeyError::new(KeyReason::NotText, "UTF-16 text; save it as UTF-8"));
    }
    let text = std::str::from_utf8(content).map_err(|_| KeyError::new(KeyReason::NotText, "not UTF-8 text"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match text.trim_ascii_start().chars().next() {
        None => Err(KeyError::new(KeyReason::Empty, "empty")),
        Some('{') => Ok(text),
        Some('-') if text.contains("-----BEGIN") => {
            Err(KeyError::new(KeyReason::WrongType, "a bare PEM file; accepted: the JSON key file as Google wrote it"))
        }
        Some('e') if text.trim_ascii_start().starts_with("ew") || text.trim_ascii_start().starts_with("eyJ") => {
            Err(KeyError::new(KeyReason::NotJson, "base64 text; store the decoded JSON"))
        }
        Some(_) => Err(KeyError::new(KeyReason::NotJson, "not JSON: it does not begin with `{`")),
    }
}

/// serde_json's messages may quote the file, so that only its category and position are used, and what we said ourselves.
pub(super) fn json_error(text: &str, error: &serde_json::Error) -> KeyError {
    use serde_json::error::Category;
    let said = error.to_string();
    if said.starts_with("control character") {
        // The position is behind the offending character, which is mostly a line end.
        let line = line_of_control_character(text).unwrap_or_else(|| error.line());
        let message = format!("control character in string, line {line}: line breaks must be \\n");
        return KeyError::new(KeyReason::ControlCharacter, message);
    }
    let (line, column) = (error.line(), error.column());
    match error.classify() {
        Category::Eof => KeyError::new(KeyReason::NotJson, format!("not JSON: cut short at line {line}")),
        // Its name is one that may be repeated.
        Category::Data if said.contains(TWICE) => {
            let name = said.split(TWICE).next().unwrap_or_default();
            KeyError::new(KeyReason::DuplicateField, format!("{name}{TWICE}, line {line}; accepted: once"))
        }
        _ => KeyError::new(KeyReason::NotJson, format!("not JSON: line {line} column {column}")),
    }
}

/// The line on which a string holds its first control character.
fn line_of_control_character(text: &str) -> Option<usize> {
    let (mut line, mut in_string, mut escaped) = (1, false, false);
    for byte in text.bytes() {
        match byte {
            _ if in_string && byte < 0x20 => return Some(line),
            b'\n' => line += 1,
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ => {}
        }
    }
    None
}

fn pem_error(what: &str, error: pem::PemError) -> KeyError {
    let (reason, said) = match error {
        pem::PemError::NotPem(why) => (KeyReason::NotPem, format!("{what} is not a PEM key: {why}")),
        pem::PemError::Kind(kind) => (KeyReason::NotPem, format!("{what} holds {kind}; accepted: PKCS#8 or PKCS#1")),
        pem::PemError::Encrypted => {
            (KeyReason::Encrypted, format!("{what} is encrypted; a key without passphrase is needed"))
        }
        pem::PemError::Algorithm(algorithm) => {
            (KeyReason::NotRsa, format!("{what} is {algorithm}; accepted: RSA, and EC on P-256 where a device signs"))
        }
        pem::PemError::Bits(bits) if bits < 2048 => (KeyReason::Bits, format!("RSA {bits} bits, at least 2048 needed")),
        pem::PemError::Bits(bits) => (KeyReason::Bits, format!("RSA {bits} bits, at most 8192 accepted")),
    };
    KeyError::new(reason, said)
}

fn missing(name: &str) -> KeyError {
    KeyError::new(KeyReason::MissingField, format!("`{name}` is missing"))
}

fn invalid(message: &str) -> KeyError {
    KeyError::new(KeyReason::InvalidField, message)
}

pub(super) fn is_email(text: &str) -> bool {
    let shape = text.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty());
    shape && text.len() <= 254 && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
}

/// Safe as a metric label and in a log.
pub(super) fn is_word(text: &str) -> bool {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    (1..=128).contains(&text.len()) && text.bytes().all(safe)
}

fn is_domain(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    let labels = text.split('.').all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'));
    text.len() <= 253 && text.contains('.') && labels && text.bytes().all(legal)
}

fn project_of(client_email: &str) -> Option<String> {
    let project = client_email.split_once('@')?.1.strip_suffix(".iam.gserviceaccount.com")?;
    Some(project.to_owned())
}

const UNIVERSE: &str = "googleapis.com";
/// What Google has written into key files over the years. None of them is used: see `TokenEndpoint`.
const TOKEN_URIS: [&str; 4] = [
    "https://oauth2.googleapis.com/token",
    "https://accounts.google.com/o/oauth2/token",
    "https://www.googleapis.com/oauth2/v4/token",
    "https://oauth2.mtls.googleapis.com/token",
];

#[cfg(test)]
mod tests;
