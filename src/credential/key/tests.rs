//! Key files as people, templates and attackers write them.

use super::*;
use crate::credential::samples::{PEMS, good, with_pem};

fn reason(content: impl AsRef<[u8]>) -> (KeyReason, String) {
    let error = Key::parse(content.as_ref()).expect_err("the file must be refused");
    (error.reason, error.message)
}

/// The good file with one field's value (or the whole field) replaced.
fn with(field: &str, value: &str) -> String {
    let mut fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&good(0)).unwrap();
    match value {
        "" => drop(fields.remove(field)),
        _ => drop(fields.insert(field.to_owned(), serde_json::from_str(value).unwrap())),
    }
    serde_json::to_string(&fields).unwrap()
}

fn with_key(pem: &str) -> String {
    with_pem(pem, "id", "robot", "demo")
}

fn pkcs1() -> &'static str {
    include_str!("../../../tests/data/rfc7515-a2.pem")
}

#[test]
fn a_key_as_google_wrote_it_loads() {
    let key = Key::parse(good(0).as_bytes()).unwrap();
    assert_eq!(key.client_email(), "robot@demo.iam.gserviceaccount.com");
    assert_eq!(key.key_id(), Some("key-0"));
    assert_eq!(key.project(), Some("demo"));
    assert!(!format!("{key:?}").contains("BEGIN"));
}

#[test]
fn keys_load_however_they_were_pasted() {
    let file = good(0);
    let pem = &PEMS[0];
    let crlf = pem.replace('\n', "\r\n");
    let one_line = pem.replace('\n', " ");
    let files = [
        ("byte-order mark", format!("\u{feff}{file}")),
        ("blank lines, CRLF, trailing blanks", format!("\n\n{}{}", file.replace('\n', "\r\n"), " ".repeat(40))),
        ("PKCS#1", with_key(pkcs1())),
        ("PKCS#1 with CRLF", with_key(&pkcs1().replace('\n', "\r\n"))),
        ("PEM with CRLF", with_key(&crlf)),
        ("PEM on one line", with_key(&one_line)),
        ("PEM without last line end", with_key(pem.trim_end())),
        ("PEM with blanks around", with_key(&format!("  \n{pem}  \n\n"))),
        ("literal backslash-n", with_key(&pem.replace('\n', "\\n"))),
        ("literal backslash-r-n", with_key(&pem.replace('\n', "\\r\\n"))),
        ("compact JSON", serde_json::from_str::<serde_json::Value>(&file).unwrap().to_string()),
        ("no token_uri", with("token_uri", "")),
        ("old token_uri", with("token_uri", r#""https://accounts.google.com/o/oauth2/token""#)),
        ("no universe", with("universe_domain", "")),
        ("no key id", with("private_key_id", "")),
        ("no project", with("project_id", "")),
        ("unknown fields", with("x", r#"{"y": [1, {"z": null}]}"#)),
        ("null where optional", with("quota_project_id", "null")),
    ];
    for (what, file) in files {
        if let Err(error) = Key::parse(file.as_bytes()) {
            panic!("{what}: {error}");
        }
    }
    let derived = Key::parse(with("project_id", "").as_bytes()).unwrap();
    assert_eq!(derived.project(), Some("demo"), "the project is in the address too");
}

#[test]
fn the_same_key_in_another_layout_is_the_same_key() {
    let (one, two) = (good(0), format!("\u{feff}{}", good(0).replace('\n', "\r\n")));
    assert_eq!(Key::parse(one.as_bytes()).unwrap(), Key::parse(two.as_bytes()).unwrap());
    assert_ne!(Key::parse(one.as_bytes()).unwrap(), Key::parse(good(1).as_bytes()).unwrap());
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn hostile_and_broken_files_are_refused_with_the_exact_reason() {
    use KeyReason::*;
    let file = good(0);
    let utf16: Vec<u8> = [0xff, 0xfe].into_iter().chain(file.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    let real_line_ends = file.replace("\\n", "\n");
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(50_000 / 2), "]".repeat(50_000 / 2));
    let short = include_str!("../../../tests/data/rsa-1024.pem");
    let ec = include_str!("../../../tests/data/ec-p256.pem");
    let pem = PEMS[0].as_str();
    let encrypted = pem.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let old_encrypted =
        pkcs1().replacen("KEY-----\n", "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n", 1);
    let cut = &pem[..pem.len() / 2];
    let flipped = {
        let mut pem = pkcs1().to_owned();
        let middle = pem.len() / 2;
        let other = if &pem[middle..=middle] == "A" { "B" } else { "A" };
        pem.replace_range(middle..=middle, other);
        pem
    };
    let table: Vec<(&str, Vec<u8>, KeyReason, &str)> = vec![
        ("nothing", vec![], Empty, "empty"),
        ("blanks", b" \r\n\t ".to_vec(), Empty, "empty"),
        ("only a mark", "\u{feff}".into(), Empty, "empty"),
        ("64 KiB and one byte", vec![b' '; MOST_BYTES + 1], TooLarge, "64 KiB"),
        ("UTF-16", utf16, NotText, "UTF-16"),
        ("binary", vec![b'{', 0xb7, 0x80], NotText, "not UTF-8"),
        ("NUL bytes", vec![0; 2400], NotJson, "begin with `{`"),
        ("base64", b"eyJ0eXBlIjogInNlcnZpY2VfYWNjb3VudCJ9".to_vec(), NotJson, "base64"),
        ("bare PEM", pem.into(), WrongType, "bare PEM"),
        ("HTML", b"<html>".to_vec(), NotJson, "begin with `{`"),
        ("a string", b"\"x\"".to_vec(), NotJson, "begin with `{`"),
        ("a list", b"[{}]".to_vec(), NotJson, "begin with `{`"),
        ("cut in half", file.as_bytes()[..file.len() / 2].to_vec(), NotJson, "cut short"),
        ("cut by one", file.trim_end().as_bytes()[..file.trim_end().len() - 1].to_vec(), NotJson, "cut short"),
        ("broken after the mark", "\u{feff}{\"type\": oops}".into(), NotJson, "line 1"),
        ("two files in one", format!("{file}{file}").into(), NotJson, "not JSON"),
        ("real line ends", real_line_ends.into(), ControlCharacter, "line 5: line breaks must be \\n"),
        ("NUL in string", with("x", "1").replace("demo", "de\0mo").into(), ControlCharacter, "line 1"),
        ("deep", deep.into(), MissingField, "`type`"),
        ("doubled field", file.replacen("{", "{\"private_key\": \"x\",", 1).into(), DuplicateField, "twice"),
        ("doubled unknown field", b"{\"a\":1,\"a\":2}".to_vec(), DuplicateField, "twice"),
        ("no object", b"{}".to_vec(), MissingField, "`type` is missing"),
        ("installed", b"{\"installed\":{\"client_id\":\"x\"}}".to_vec(), WrongType, "OAuth client secret"),
        ("web", b"{\"web\":{\"client_secret\":\"x\"}}".to_vec(), WrongType, "OAuth client secret"),
        ("user", with("type", "\"authorized_user\"").into(), WrongType, "`authorized_user`"),
        ("federation", with("type", "\"external_account\"").into(), WrongType, "`external_account`"),
        ("federated user", with("type", "\"external_account_authorized_user\"").into(), WrongType, "authorized_user`"),
        ("impersonated", with("type", "\"impersonated_service_account\"").into(), WrongType, "`impersonated_service"),
        ("gdch", with("type", "\"gdch_service_account\"").into(), WrongType, "`gdch_service_account`"),
        ("strange type", with("type", "\"<script>\"").into(), WrongType, "`type` is unknown"),
        ("type is no text", with("type", "7").into(), InvalidField, "not text"),
        ("no key", with("private_key", "").into(), MissingField, "`private_key` is missing"),
        ("blank key", with("private_key", "\"  \"").into(), MissingField, "`private_key` is missing"),
        ("null key", with("private_key", "null").into(), MissingField, "`private_key` is missing"),
        ("no e-mail", with("client_email", "").into(), MissingField, "`client_email` is missing"),
        ("no e-mail address", with("client_email", "\"robot\"").into(), InvalidField, "not an e-mail"),
        ("line end in e-mail", with("client_email", "\"a@b\\r\\nc\"").into(), InvalidField, "not an e-mail"),
        ("key id for a label", with("private_key_id", "\"a\\\"}\"").into(), InvalidField, "`private_key_id`"),
        (
            "foreign token_uri",
            with("token_uri", "\"https://evil.example/token\"").into(),
            TokenUri,
            "not one of Google",
        ),
        ("plain token_uri", with("token_uri", "\"http://oauth2.googleapis.com/token\"").into(), TokenUri, "accepted:"),
        ("universe", with("universe_domain", "\"not a domain\"").into(), Universe, "`googleapis.com`"),
        ("key is no PEM", with_key("hello").into(), NotPem, "no `-----BEGIN`"),
        ("key is cut", with_key(cut).into(), NotPem, "cut short"),
        ("key is not base64", with_key(&pem.replace("MII", "*!*")).into(), NotPem, "base64"),
        ("public key", with_key(&pem.replace("PRIVATE KEY", "PUBLIC KEY")).into(), NotPem, "a public key"),
        ("certificate", with_key(&pem.replace("PRIVATE KEY", "CERTIFICATE")).into(), NotPem, "a certificate"),
        ("labels differ", with_key(&pem.replace("BEGIN PRIVATE", "BEGIN RSA PRIVATE")).into(), NotPem, "do not match"),
        ("OpenSSH", with_key(&pem.replace("PRIVATE", "OPENSSH PRIVATE")).into(), NotPem, "OpenSSH"),
        ("PKCS#8 said to be PKCS#1", with_key(&pem.replace("PRIVATE", "RSA PRIVATE")).into(), NotPem, "not a key"),
        ("encrypted PKCS#8", with_key(&encrypted).into(), Encrypted, "without passphrase"),
        ("encrypted PKCS#1", with_key(&old_encrypted).into(), Encrypted, "without passphrase"),
        ("EC", with_key(ec).into(), NotRsa, "an EC key"),
        ("EC as SEC 1", with_key(include_str!("../../../tests/data/p256-sec1.pem")).into(), NotRsa, "an EC key"),
        ("1024 bits", with_key(short).into(), Bits, "RSA 1024 bits, at least 2048 needed"),
        ("1024 bits, CRLF", with_key(&short.replace('\n', "\r\n")).into(), Bits, "RSA 1024 bits, at least 2048"),
        ("flipped bit", with_key(&flipped).into(), Damaged, "damaged"),
    ];
    assert!(table.len() >= 40);
    for (what, content, expected, part) in table {
        let (found, message) = reason(content);
        assert_eq!(found, expected, "{what}: {message}");
        assert!(message.contains(part), "{what}: {message}");
        assert!(!message.contains("MII") && !message.contains("evil"), "{what} is quoted: {message}");
    }
}

#[test]
fn no_cut_and_no_flipped_byte_makes_a_panic() {
    let file = good(0);
    for end in (0..file.len()).step_by(7) {
        let _ = Key::parse(&file.as_bytes()[..end]);
    }
    for position in (0..file.len()).step_by(11) {
        let mut bytes = file.clone().into_bytes();
        bytes[position] ^= 0x15;
        let _ = Key::parse(&bytes);
    }
}

#[test]
fn labels_are_distinct() {
    let labels: std::collections::HashSet<_> = KeyReason::ALL.iter().map(|reason| reason.label()).collect();
    assert_eq!(labels.len(), KeyReason::ALL.len());
}

#[test]
fn a_key_of_another_universe_says_so() {
    let parse = |domain: &str| Key::parse(with("universe_domain", domain).as_bytes()).unwrap();
    assert_eq!(parse("\"apis-tpczero.goog\"").universe(), Some("apis-tpczero.goog"));
    assert_eq!(parse("\"googleapis.com\"").universe(), None);
}
