//! What a request says in confidence, taken out of whatever is said about its answer (pure).
//!
//! An endpoint may repeat what it was sent, whole or in pieces, in words that are too short to look like a secret.

use std::collections::HashSet;

use percent_encoding::percent_decode;
use zeroize::Zeroizing;

use super::{FetchError, Request, RequestBody};
use crate::secret::Secret;

/// The secrets of one request.
pub(super) struct Confided(Vec<Secret>);

impl Confided {
    /// Whatever in `request` nobody may read: its bearer, and of a form every value but those that are known to be
    /// public, as decoded and as sent. Bodies in JSON are no `Secret` and hold none.
    pub(super) fn of(request: &Request) -> Self {
        let mut secrets: Vec<Secret> = request.bearer.iter().cloned().collect();
        if let RequestBody::Form(form) = &request.body {
            for field in form.expose().split(|byte| *byte == b'&') {
                let at = field.iter().position(|byte| *byte == b'=').unwrap_or_default();
                let (name, value) = (&field[..at], field.get(at + 1..).unwrap_or_default());
                if !PUBLIC.iter().any(|known| known.as_bytes() == name) {
                    let decoded: Vec<u8> = percent_decode(value).collect();
                    secrets.extend([Secret::new(decoded), Secret::new(value)]);
                }
            }
        }
        Self(secrets)
    }

    /// The same error, in whose message no word is a part of [`PIECE`] letters of a secret, in their order and in whatever
    /// case, or of all of a shorter one. Blanks do not count: a secret that was cut into short words is found as well.
    pub(super) fn hide(&self, error: FetchError) -> FetchError {
        let words: Vec<&str> = error.message.split(' ').collect();
        let letters = |(word, text): (usize, &&str)| text.bytes().map(move |byte| (word, byte)).collect::<Vec<_>>();
        let (of_word, text): (Vec<usize>, Vec<u8>) = words.iter().enumerate().flat_map(letters).unzip();
        let text = text.to_ascii_lowercase();
        let mut is_told = vec![false; words.len()];
        for part in self.0.iter().flat_map(|secret| secret.expose().split(u8::is_ascii_whitespace)) {
            if part.len() < LEAST {
                continue;
            }
            let (part, size) = (Zeroizing::new(part.to_ascii_lowercase()), part.len().min(PIECE));
            let pieces: HashSet<&[u8]> = part.windows(size).collect();
            for (at, _) in text.windows(size).enumerate().filter(|(_, piece)| pieces.contains(piece)) {
                is_told[of_word[at]..=of_word[at + size - 1]].fill(true);
            }
        }
        let hidden = words.iter().zip(is_told).map(|(word, is_told)| if is_told { HIDDEN } else { word });
        FetchError { message: hidden.collect::<Vec<_>>().join(" "), ..error }
    }
}

/// The fields of our forms that say nothing in confidence; what a refusal says about them is for people to read.
const PUBLIC: [&str; 7] =
    ["grant_type", "requested_token_type", "subject_token_type", "audience", "scope", "options", "client_id"];

/// Less is no secret.
const LEAST: usize = 4;
/// What is shorter helps nobody to guess the rest, and many a word has such a piece in it.
const PIECE: usize = 8;
const HIDDEN: &str = "(…)";

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::credential::{ApiHost, Reason, endpoint::form};

    fn request(body: RequestBody, bearer: Option<&str>) -> Request {
        Request { host: ApiHost::OAUTH, path: Cow::Borrowed("/token"), body, bearer: bearer.map(Secret::new) }
    }

    fn said(confided: &Confided, message: &str) -> String {
        confided.hide(FetchError::transient(Reason::Unknown, message)).message
    }

    #[test]
    fn no_word_of_a_message_tells_a_piece_of_what_was_sent() {
        let fields: [(&str, &[u8]); 6] = [
            ("grant_type", b"refresh_token"),
            ("client_id", b"764086051850.apps.example"),
            ("client_secret", b"hunter2"),
            ("refresh_token", b"1//0gAb/Cd/Ef/Gh-ijkl"),
            ("scope", b"https://www.googleapis.com/auth/cloud-platform"),
            ("something_new", b"also a-secret-of-ours"),
        ];
        let confided = Confided::of(&request(RequestBody::Form(form(&fields)), Some("ya29.bearer-token")));
        for (word, is_hidden) in [
            ("hunter2", true),
            ("client_secret='HUNTER2',", true),
            ("hunter", false),
            ("1//0gAb/", true),
            ("(Cd/Ef/Gh)", true),
            ("1%2F%2F0gAb%2FCd%2FEf%2FGh-ijkl", true),
            ("Gh-ijkl", false),
            ("bearer-t", true),
            ("A-Secret-Of", true),
            ("also", true),
            ("Invalid", false),
            ("refresh_token", false),
            ("764086051850.apps.example", false),
            ("https://www.googleapis.com/auth/cloud-platform", false),
            ("grün", false),
            ("", false),
        ] {
            let expected = if is_hidden { "is (…) wrong" } else { &format!("is {word} wrong") };
            assert_eq!(said(&confided, &format!("is {word} wrong")), *expected, "{word}");
        }
    }

    #[test]
    fn a_secret_that_is_cut_into_words_is_found_however_short_they_are() {
        let fields: [(&str, &[u8]); 1] = [("assertion", b"abcdefghijklmnopqrstuvwxyz")];
        let confided = Confided::of(&request(RequestBody::Form(form(&fields)), None));
        for (message, expected) in [
            ("got abcdefg hijklmn opqrstu vwxyz now", "got (…) (…) (…) (…) now"),
            ("got a b c d e f g h now", "got (…) (…) (…) (…) (…) (…) (…) (…) now"),
            ("got a b c d e f g now", "got a b c d e f g now"),
            ("got abcdefg abcdefg now", "got abcdefg abcdefg now"),
        ] {
            assert_eq!(said(&confided, message), expected);
        }
    }

    #[test]
    fn a_request_without_secrets_hides_nothing() {
        let json = RequestBody::Json(r#"{"scope":["https://www.googleapis.com/auth/a"]}"#.to_owned());
        let confided = Confided::of(&request(json, None));
        let message = "iamcredentials.googleapis.com answered 400: https://www.googleapis.com/auth/a is  unknown";
        assert_eq!(said(&confided, message), message);
        for body in ["", "&", "=", "a", "a=", "&=&a"] {
            let confided = Confided::of(&request(RequestBody::Form(Secret::new(body)), Some("")));
            assert_eq!(said(&confided, message), message, "{body}");
        }
    }
}
