//! Files of federated identities as Google writes them, and as nobody should.

use serde_json::{Value, json};

use super::*;

const PROVIDER: &str =
    "//iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/pool/providers/cluster";
const URL: &str = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/a@p.iam.gserviceaccount.com:generateAccessToken";

fn good() -> Value {
    json!({
        "type": "external_account",
        "audience": PROVIDER,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": "https://sts.googleapis.com/v1/token",
        "token_info_url": "https://sts.googleapis.com/v1/introspect",
        "credential_source": {"file": "/var/run/token"},
    })
}

fn with(pointer: &str, value: Value) -> Value {
    let mut file = good();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    file.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(name.to_owned(), value);
    file
}

fn load(file: &Value) -> Result<ExternalAccount, KeyError> {
    ExternalAccount::load(file.to_string().as_bytes(), &["s1".to_owned(), "s2".to_owned()], None)
}

#[test]
fn files_as_google_writes_them_load() {
    let plain = load(&good()).unwrap();
    assert_eq!((plain.scope.as_str(), plain.account()), ("s1 s2", None));
    assert_eq!(plain.source.place, Get::File("/var/run/token".into()));
    let impersonating = load(&with("/service_account_impersonation_url", json!(URL))).unwrap();
    assert_eq!(impersonating.account(), Some("a@p.iam.gserviceaccount.com"));
    assert_eq!(impersonating.scope, "https://www.googleapis.com/auth/cloud-platform");
    let mut longer = with("/service_account_impersonation_url", json!(URL));
    longer["service_account_impersonation"] = json!({"token_lifetime_seconds": 7200});
    assert_eq!(load(&longer).unwrap().impersonated.unwrap().lifetime, Duration::from_secs(7200));
    let content = good().to_string();
    let ours = ExternalAccount::load(content.as_bytes(), &[], Some("b@p.iam.gserviceaccount.com")).unwrap();
    assert_eq!(ours.account(), Some("b@p.iam.gserviceaccount.com"));
    for source in [
        json!({"url": "http://127.0.0.1:8080/token"}),
        json!({"url": "http://169.254.169.254/metadata/identity/oauth2/token?resource=x", "headers": {"Metadata": "True"}}),
        json!({"url": "https://issuer.example.com/token", "format": {"type": "json", "subject_token_field_name": "id"}}),
        json!({"file": "/token", "format": {"type": "text"}}),
    ] {
        load(&with("/credential_source", source)).unwrap();
    }
}

#[test]
fn what_is_not_taken_is_refused_by_field_and_with_what_is_accepted() {
    for (file, said) in [
        (json!({}), "`type` must be"),
        (with("/type", json!("service_account")), "`type` must be"),
        (with("/type", json!("authorized_user")), "`type` must be"),
        (with("/token_url", json!("http://sts.googleapis.com/v1/token")), "`token_url` must be"),
        (with("/token_url", json!("https://sts.googleapis.com.evil.test/v1/token")), "`token_url` must be"),
        (with("/token_url", json!("https://evil.test/v1/token")), "`token_url` must be"),
        (with("/token_url", json!("https://u@sts.googleapis.com/v1/token")), "`token_url` must be"),
        (with("/token_url", json!("https://sts.googleapis.com/v1/oauthtoken")), "`token_url` must be"),
        (with("/token_url", Value::Null), "`token_url` must be"),
        (with("/universe_domain", json!("other.test")), "`universe_domain` must be"),
        (with("/workforce_pool_user_project", json!("p")), "`workforce_pool_user_project`"),
        (with("/audience", json!("")), "`audience` must be"),
        (
            with("/audience", json!("//iam.googleapis.com/locations/global/workforcePools/p/providers/x")),
            "`audience` must",
        ),
        (
            with("/audience", json!("//evil.test/projects/1/locations/global/workloadIdentityPools/p/providers/x")),
            "`audience`",
        ),
        (with("/audience", json!(format!("{PROVIDER}/../x"))), "`audience` must be"),
        (
            with("/subject_token_type", json!("urn:ietf:params:aws:token-type:aws4_request")),
            "`subject_token_type` must",
        ),
        (with("/subject_token_type", Value::Null), "`subject_token_type` must be"),
        (
            with("/service_account_impersonation_url", json!("https://evil.test/a@b.c:generateAccessToken")),
            "`service_account",
        ),
        (
            with("/service_account_impersonation_url", json!(URL.replace("generateAccessToken", "signBlob"))),
            "`service_acc",
        ),
        (with("/service_account_impersonation_url", json!(URL.replace("a@", "x/a@"))), "`service_account"),
        (with("/service_account_impersonation_url", json!(URL.replace("https", "http"))), "`service_account"),
        (with("/service_account_impersonation_url", json!(URL.replace("a@p", "%61@p"))), "`service_account"),
        (
            with("/service_account_impersonation", json!({"token_lifetime_seconds": 599})),
            "`service_account_impersonation.token_lifetime_seconds` must be 600 to 43200",
        ),
        (
            with("/service_account_impersonation", json!({"token_lifetime_seconds": 43_201})),
            "`service_account_impersonation.token_lifetime_seconds` must be 600 to 43200",
        ),
        (
            with("/service_account_impersonation", json!({"token_lifetime_seconds": "3600"})),
            "`service_account_impersonation.token_lifetime_seconds` is not a whole number; accepted: 600 to 43200, w",
        ),
        (with("/service_account_impersonation", json!(3600)), "`service_account_impersonation` is not an object"),
        (with("/type", json!(["external_account"])), "`type` is not text; accepted: text"),
        (with("/audience", json!({"evil": 1})), "`audience` is not text; accepted: text"),
        (with("/credential_source", json!("/evil")), "`credential_source` is not an object; accepted: fields"),
    ] {
        refused(&file, said);
    }
    for content in [&b""[..], b"[]", b"{", b"\xff"] {
        assert!(ExternalAccount::load(content, &[], None).is_err());
    }
}

#[test]
fn a_subject_token_comes_from_a_file_or_a_url_and_from_nowhere_else() {
    let source = |source: Value| with("/credential_source", source);
    for (file, said) in [
        (with("/credential_source", Value::Null), "`credential_source` is missing"),
        (source(json!({})), "`credential_source` has neither"),
        (source(json!({"file": "/a", "url": "http://a"})), "both `file` and `url`"),
        (source(json!({"file": "relative"})), "`credential_source.file` must be an absolute path"),
        (source(json!({"executable": {"command": "rm -rf /"}})), "`executable` runs a program"),
        (source(json!({"environment_id": "aws1"})), "AWS's requests"),
        (source(json!({"certificate": {"use_default_certificate_config": true}})), "`certificate` wants"),
        (source(json!({"url": "ftp://a/b"})), "`credential_source.url` must be"),
        (source(json!({"url": "file:///etc/passwd"})), "`credential_source.url` must be"),
        (source(json!({"url": "http://u:p@a/b"})), "`credential_source.url` must be"),
        (source(json!({"url": "https://a:8443/b"})), "`credential_source.url` must be"),
        (source(json!({"url": "http://a b/"})), "`credential_source.url` must be"),
        (source(json!({"url": "http:///"})), "`credential_source.url` must be"),
        (source(json!({"url": "http://a/b#c"})), "`credential_source.url` must be"),
        (source(json!({"url": "http://a/", "headers": {"a b": "c"}})), "`credential_source.headers` must be"),
        (source(json!({"url": "http://a/", "headers": {"a": "b\nc"}})), "`credential_source.headers` must be"),
        (source(json!({"url": "http://a/", "headers": {"Host": "b"}})), "`credential_source.headers` must not"),
        (
            source(json!({"url": "http://a/", "headers": {"content-length": "9"}})),
            "`credential_source.headers` must not",
        ),
        (
            source(json!({"url": "http://a/", "headers": {"Transfer-Encoding": "x"}})),
            "`credential_source.headers` must",
        ),
        (source(json!({"url": "http://a/", "headers": {"Proxy-Authorization": "x"}})), "`credential_source.headers` m"),
        (with("/client_id", json!("id")), "`client_id` and `client_secret`"),
        (with("/client_secret", json!("hunter2")), "`client_id` and `client_secret`"),
        (source(json!({"file": "/a", "format": {"type": "json"}})), "`format` of type json needs"),
        (source(json!({"file": "/a", "format": {"type": "xml"}})), "`format` must be"),
        (source(json!({"file": 7})), "`credential_source.file` is not text; accepted: text"),
        (source(json!({"file": "/a", "format": {"type": 7}})), "`credential_source.format.type` is not text"),
        (source(json!({"url": "http://a/", "headers": {"a": 7}})), "`credential_source.headers` must be names and"),
    ] {
        refused(&file, said);
    }
}

#[test]
fn a_field_that_stands_twice_is_named() {
    let file = good().to_string().replacen('{', "{\"type\":\"external_account\",", 1);
    let error = ExternalAccount::load(file.as_bytes(), &[], None).unwrap_err();
    assert_eq!(error.reason, KeyReason::DuplicateField);
    assert_eq!(error.message, "`type` stands twice, line 1; accepted: once");
}

#[test]
fn an_account_has_the_letters_that_the_configuration_takes_too() {
    for account in
        ["a<b@c.d", "a>@p.iam", "a b@p.iam", "a@b", "a@b@c.d", "@c.d", "a", "a@c.d;x", "a\u{e4}@c.d", "a'@c.d"]
    {
        let url = URL.replace("a@p.iam.gserviceaccount.com", account);
        let said = "`service_account_impersonation_url` must be";
        refused(&with("/service_account_impersonation_url", json!(url)), said);
    }
    for account in ["A-b_c.1@p.example.com.iam.gserviceaccount.com", "123-compute@developer.gserviceaccount.com"] {
        let url = URL.replace("a@p.iam.gserviceaccount.com", account);
        assert_eq!(load(&with("/service_account_impersonation_url", json!(url))).unwrap().account(), Some(account));
    }
}

fn refused(file: &Value, said: &str) {
    let error = load(file).expect_err(said);
    assert!(error.message.starts_with(said), "{said}: {error}");
    for secret in ["evil", "passwd", "hunter2"] {
        assert!(!error.message.contains(secret), "{error}");
    }
}
