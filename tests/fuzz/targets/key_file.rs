//! Service-account key files, and the private key in them: a key that a second reader agrees with, or a reason that
//! repeats nothing.
//!
//! The first byte says what the rest is: a whole file, the text of `private_key`, or DER for its PEM block.

#![no_main]

use base64::Engine as _;
use bearerd::credential::Key;
use bearerd_fuzz::{target, words};
use serde_json::{Value, json};

target!(seeds(), |data: &[u8]| {
    let Some((&kind, rest)) = data.split_first() else { return };
    let file = match kind {
        0 => rest.to_vec(),
        1 => around(&String::from_utf8_lossy(rest)),
        _ => {
            let label = if kind % 2 == 0 { "PRIVATE KEY" } else { "RSA PRIVATE KEY" };
            let base64 = base64::engine::general_purpose::STANDARD.encode(rest);
            around(&format!("-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n"))
        }
    };
    let again = Key::parse(&file);
    match Key::parse(&file) {
        Err(error) => {
            assert_eq!(Err(error.to_string()), again.map_err(|error| error.to_string()), "read twice, two answers");
            let text = error.to_string();
            assert!(!text.is_empty() && text.len() < 1000, "{text}");
            // What may be secret: everything, in a wrong file. The accepted places are constants of ours.
            if !text.contains("token_uri") {
                words::must_not_repeat(&text, &file);
            }
        }
        Ok(key) => {
            assert!(file.len() <= bearerd::credential::key::MOST_BYTES);
            let text = std::str::from_utf8(&file).expect("a key file is text");
            let value: Value = serde_json::from_str(text.trim_start_matches('\u{feff}')).expect("a key file is JSON");
            assert_eq!(value["type"], "service_account");
            assert_eq!(value["client_email"], key.client_email());
            assert_eq!(value["private_key_id"].as_str().filter(|id| !id.is_empty()), key.key_id());
            assert!(key.client_email().bytes().all(|byte| byte.is_ascii_graphic()));
            let shown = format!("{key:?}");
            let private = value["private_key"].as_str().expect("a private key");
            words::must_not_repeat(&shown, private.as_bytes());
        }
    }
});

fn around(private_key: &str) -> Vec<u8> {
    let mut file = template();
    file["private_key"] = private_key.into();
    file.to_string().into_bytes()
}

fn template() -> Value {
    json!({
        "type": "service_account",
        "project_id": "demo",
        "private_key_id": "0123abcd",
        "private_key": PKCS1,
        "client_email": "robot@demo.iam.gserviceaccount.com",
        "client_id": "123456789012345678901",
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": "https://oauth2.googleapis.com/token",
        "universe_domain": "googleapis.com",
    })
}

fn seeds() -> Vec<Vec<u8>> {
    let whole = serde_json::to_vec_pretty(&template()).expect("JSON");
    let der = |pem: &str| {
        let base64: String = pem.lines().filter(|line| !line.starts_with("--")).collect();
        base64::engine::general_purpose::STANDARD.decode(base64).expect("base64")
    };
    let mut seeds = vec![with(0, &whole), with(0, b"{}"), with(0, b"{\"installed\":{}}"), with(0, b"")];
    seeds.extend([PKCS1, EC, SMALL].map(|pem| with(1, pem.as_bytes())));
    seeds.push(with(1, PKCS1.replace('\n', "\\n").as_bytes()));
    seeds.push(with(3, &der(PKCS1)));
    seeds.push(with(2, &pkcs8(&der(PKCS1))));
    seeds.push(with(2, &der(EC)));
    seeds
}

/// PrivateKeyInfo (RFC 5208) around a PKCS#1 key of 256 to 65535 bytes.
fn pkcs8(pkcs1: &[u8]) -> Vec<u8> {
    let long = |tag: u8, content: &[u8]| [&[tag, 0x82], &(content.len() as u16).to_be_bytes()[..], content].concat();
    let algorithm = [0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 1, 1, 5, 0];
    long(0x30, &[&[2, 1, 0], &algorithm[..], &long(4, pkcs1)].concat())
}

fn with(kind: u8, rest: &[u8]) -> Vec<u8> {
    [&[kind], rest].concat()
}

const PKCS1: &str = include_str!("../../data/rfc7515-a2.pem");
const EC: &str = include_str!("../../data/ec-p256.pem");
const SMALL: &str = include_str!("../../data/rsa-1024.pem");
