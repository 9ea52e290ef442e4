//! Keys and files for tests: made once for each test binary.

use std::sync::LazyLock;

use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};

use super::{Kind, Spec};

/// PKCS#8 PEM of three RSA keys.
pub(crate) static PEMS: LazyLock<[String; 3]> = LazyLock::new(|| std::array::from_fn(|_| rsa(RsaKeySize::_2048)));

fn rsa(size: RsaKeySize) -> String {
    KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, size).unwrap().serialize_pem()
}

/// The key file of `account` in `project` with the private key `PEMS[number]` and the id `id`.
pub(crate) fn key_file(number: usize, id: &str, account: &str, project: &str) -> String {
    with_pem(&PEMS[number], id, account, project)
}

/// A key file around any private key, laid out as Google does.
pub(crate) fn with_pem(pem: &str, id: &str, account: &str, project: &str) -> String {
    let pem = serde_json::to_string(pem).unwrap();
    format!(
        r#"{{
  "type": "service_account",
  "project_id": "{project}",
  "private_key_id": "{id}",
  "private_key": {pem},
  "client_email": "{account}@{project}.iam.gserviceaccount.com",
  "client_id": "123456789012345678901",
  "auth_uri": "https://accounts.google.com/o/oauth2/auth",
  "token_uri": "https://oauth2.googleapis.com/token",
  "universe_domain": "googleapis.com"
}}
"#
    )
}

/// A good file of project `demo`.
pub(crate) fn good(number: usize) -> String {
    key_file(number, &format!("key-{number}"), "robot", "demo")
}

/// A spec that nothing reads from a disk.
pub(crate) fn spec(name: &str) -> Spec {
    let scopes = vec!["https://www.googleapis.com/auth/cloud-platform".to_owned()];
    let kind = Kind::ServiceAccountKey { path: "/nowhere/key.json".into(), scopes, subject: None, signs_urls: false };
    Spec { name: name.into(), kind }
}
