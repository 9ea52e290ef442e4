use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName, pki_types::pem::PemObject as _};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::*;
use crate::{clock::Clock, shutdown::Tasks};

const ACCOUNT: &str = "app@demo.iam.gserviceaccount.com";
const AUDIENCE: &str = "https://oauth2.googleapis.com/token";
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

type Out = BoxBody<Bytes, std::convert::Infallible>;

/// A fake Google with one account, and what a client needs to reach it.
struct World {
    google: FakeGoogle,
    tasks: Tasks,
    clock: Clock,
    key: KeyFile,
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    trailers: Option<HeaderMap>,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

enum Sender {
    H1(hyper::client::conn::http1::SendRequest<Out>),
    H2(hyper::client::conn::http2::SendRequest<Out>),
}

impl World {
    async fn new() -> Self {
        let (tasks, clock) = (Tasks::new(), Clock::system());
        let google = FakeGoogle::start(&tasks, clock).await.unwrap();
        let key = google.add_account(ACCOUNT, "demo").unwrap();
        Self { google, tasks, clock, key }
    }

    async fn tls(
        &self,
        address: SocketAddr,
        host: &str,
        alpn: &[&[u8]],
    ) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        let ca = self.google.ca_pem();
        roots.add(rustls::pki_types::CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let stream = TcpStream::connect(address).await?;
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    async fn connect(&self, host: &str, version: Version) -> std::io::Result<Sender> {
        let h2 = version == Version::HTTP_2;
        let alpn: &[&[u8]] = if h2 { &[b"h2"] } else { &[b"http/1.1"] };
        let stream = TokioIo::new(self.tls(self.google.address(), host, alpn).await?);
        if h2 {
            // h2 ends a connection on which small frames pile up unread; half this window is what may.
            let mut builder = hyper::client::conn::http2::Builder::new(self.tasks.clone());
            builder.initial_connection_window_size(64 << 20);
            let (sender, connection) = builder.handshake(stream).await.map_err(std::io::Error::other)?;
            self.tasks.spawn(async move { drop(connection.await) });
            return Ok(Sender::H2(sender));
        }
        let (sender, connection) =
            hyper::client::conn::http1::handshake(stream).await.map_err(std::io::Error::other)?;
        self.tasks.spawn(async move { drop(connection.with_upgrades().await) });
        Ok(Sender::H1(sender))
    }

    async fn send(&self, version: Version, request: Request<Out>) -> std::io::Result<Answer> {
        let host = request.uri().host().unwrap().to_owned();
        let mut sender = self.connect(&host, version).await?;
        sender.send(request).await
    }

    async fn get(&self, version: Version, url: &str, token: Option<&str>) -> Answer {
        self.send(version, request(Method::GET, url, token, full(""))).await.unwrap()
    }

    async fn exchange(&self, form: String) -> std::io::Result<Answer> {
        self.exchange_at(AUDIENCE, form).await
    }

    async fn exchange_at(&self, url: &str, form: String) -> std::io::Result<Answer> {
        self.send(Version::HTTP_11, request(Method::POST, url, None, full(form))).await
    }

    async fn token(&self) -> String {
        let answer = self.exchange(self.form(json!({}))).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["access_token"].as_str().unwrap().to_owned()
    }

    /// A good assertion's form, with some claims changed; null takes a claim away.
    fn form(&self, changed: Value) -> String {
        self.form_by(&self.key, changed)
    }

    fn form_by(&self, key: &KeyFile, changed: Value) -> String {
        let now = self.clock.wall().seconds();
        let claims = json!({ "iss": ACCOUNT, "scope": SCOPE, "aud": AUDIENCE, "iat": now - 10, "exp": now + 3500 });
        form(&sign(key, Some(&key.key_id), claims, changed))
    }
}

impl Sender {
    async fn start(&mut self, request: Request<Out>) -> std::io::Result<Response<Incoming>> {
        match self {
            Self::H1(sender) => {
                let (mut head, body) = request.into_parts();
                let host = head.uri.authority().unwrap().to_string();
                head.headers.entry("host").or_insert_with(|| host.parse().unwrap());
                head.uri = head.uri.path_and_query().unwrap().as_str().parse().unwrap();
                sender.send_request(Request::from_parts(head, body)).await
            }
            Self::H2(sender) => sender.send_request(request).await,
        }
        .map_err(std::io::Error::other)
    }

    async fn send(&mut self, request: Request<Out>) -> std::io::Result<Answer> {
        let (head, body) = self.start(request).await?.into_parts();
        let collected = body.collect().await.map_err(std::io::Error::other)?;
        let trailers = collected.trailers().cloned();
        Ok(Answer { status: head.status, headers: head.headers, trailers, body: collected.to_bytes() })
    }
}

fn sign(key: &KeyFile, kid: Option<&str>, mut claims: Value, changed: Value) -> String {
    for (name, value) in changed.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::RS256) };
    jsonwebtoken::encode(&header, &claims, &EncodingKey::from_rsa_pem(key.pem().as_bytes()).unwrap()).unwrap()
}

fn form(assertion: &str) -> String {
    format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={assertion}")
}

fn full(body: impl Into<Bytes>) -> Out {
    Full::new(body.into()).boxed()
}

fn request(method: Method, url: &str, token: Option<&str>, body: Out) -> Request<Out> {
    let mut request = Request::builder().method(method).uri(url);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request.body(body).unwrap()
}

fn grpc(method: &str, token: Option<&str>, metadata: &[(&str, &str)], body: Out) -> Request<Out> {
    let url = format!("https://pubsub.googleapis.com/demo.Echo/{method}");
    let mut request = request(Method::POST, &url, token, body);
    request.headers_mut().insert("content-type", "application/grpc+proto".parse().unwrap());
    request.headers_mut().insert("te", "trailers".parse().unwrap());
    for (name, value) in metadata {
        request.headers_mut().insert(http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
    }
    request
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[0][..], &length.to_be_bytes(), message].concat()
}

fn sha256(bytes: &[u8]) -> String {
    body::hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref())
}

#[tokio::test]
async fn a_good_assertion_buys_a_token_that_the_api_believes() {
    let world = World::new().await;
    let answer = world.exchange(world.form(json!({}))).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.json()["expires_in"].as_u64()), (200, Some(3599)));
    let json = answer.json();
    let token = json["access_token"].as_str().unwrap();
    assert!(token.starts_with("ya29.") && token.len() == 256, "{token}");
    assert!(answer.header("date").ends_with(" GMT"), "{answer:?}");

    for version in [Version::HTTP_11, Version::HTTP_2] {
        let list = world.get(version, "https://storage.googleapis.com/storage/v1/b?project=demo", Some(token)).await;
        assert_eq!((list.status.as_u16(), list.json()["caller"].as_str()), (200, Some(ACCOUNT)));
        assert!(!list.header("alt-svc").is_empty());
    }
    let requests = world.google.requests();
    assert_eq!(requests.iter().map(|request| request.version).collect::<Vec<_>>(), [Version::HTTP_11, Version::HTTP_2]);
    for request in &requests {
        let record = request.token.as_ref().unwrap();
        assert_eq!((&record.key_id, record.generation, record.number), (&world.key.key_id, 1, 1));
        assert_eq!((request.admission, request.status), (Admission::Token, Some(200)));
        assert_eq!(request.authority, "storage.googleapis.com");
        assert!(!format!("{request:?}").contains(token));
    }
    assert_eq!(world.google.exchanges_of(&world.key.key_id), 1);
    assert_eq!(world.google.tokens()[0].0, token);
}

#[tokio::test]
async fn assertions_are_refused_in_googles_words() {
    let world = World::new().await;
    let now = world.clock.wall().seconds();
    let (audience, times) = ("Failed audience check", "short-lived token");
    let cases: &[(Value, u16, &str, &str)] = &[
        (json!({"aud": "https://www.googleapis.com/oauth2/v4/token"}), 400, "invalid_grant", audience),
        (json!({"aud": null}), 400, "invalid_grant", audience),
        (json!({"iat": now - 7200, "exp": now - 3600}), 400, "invalid_grant", times),
        (json!({"iat": now + 600, "exp": now + 4200}), 400, "invalid_grant", times),
        (json!({"iat": now, "exp": now + 3601}), 400, "invalid_grant", times),
        (json!({"iat": null}), 400, "invalid_grant", times),
        (json!({"exp": null}), 400, "invalid_grant", times),
        (json!({"iss": "other@demo.iam.gserviceaccount.com"}), 400, "invalid_grant", "account not found"),
        (json!({"iss": null}), 400, "invalid_grant", "account not found"),
        (json!({"scope": null}), 400, "invalid_scope", "Invalid OAuth scope"),
        (json!({"scope": " "}), 400, "invalid_scope", "Invalid OAuth scope"),
        (json!({"scope": "a,b"}), 400, "invalid_scope", "Invalid OAuth scope"),
        (json!({"sub": "someone@example.com"}), 401, "unauthorized_client", "Client is unauthorized"),
    ];
    for (changed, status, error, description) in cases {
        let answer = world.exchange(world.form(changed.clone())).await.unwrap();
        let json = answer.json();
        assert_eq!((answer.status.as_u16(), json["error"].as_str()), (*status, Some(*error)), "{changed} {json}");
        assert!(json["error_description"].as_str().unwrap().contains(description), "{changed} {json}");
    }
    assert!(world.google.tokens().is_empty());
    assert_eq!(world.google.exchange_count(), cases.len() as u64);
}

#[tokio::test]
async fn requests_that_are_no_exchange_are_refused() {
    let world = World::new().await;
    let cases = [
        ("grant_type=refresh_token&assertion=x".to_owned(), "unsupported_grant_type"),
        ("grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer".to_owned(), "invalid_request"),
        (form("not.a.jwt"), "invalid_grant"),
        (String::new(), "unsupported_grant_type"),
        ("x".repeat(70_000), "invalid_request"),
    ];
    for (form, error) in cases {
        let answer = world.exchange(form).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.json()["error"].as_str()), (400, Some(error)));
    }
    let unsigned = jsonwebtoken::encode(&Header::default(), &json!({"iss": ACCOUNT}), &EncodingKey::from_secret(b"x"));
    assert_eq!(world.exchange(form(&unsigned.unwrap())).await.unwrap().status, 400);
    let answer = world.get(Version::HTTP_11, AUDIENCE, None).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (404, "text/html; charset=UTF-8"));
}

#[tokio::test]
async fn a_signature_counts_only_by_a_living_key_of_that_account() {
    let world = World::new().await;
    let google = &world.google;
    let refused = async |form: String, text: &str| {
        let json = world.exchange(form).await.unwrap().json();
        assert_eq!(json["error"], "invalid_grant");
        assert!(json["error_description"].as_str().unwrap().contains(text), "{json}");
    };
    let good = async |form: String| assert_eq!(world.exchange(form).await.unwrap().status, 200);

    let stranger = google.add_account("other@demo.iam.gserviceaccount.com", "demo").unwrap();
    refused(world.form_by(&stranger, json!({})), "Invalid JWT Signature.").await;
    let mixed = sign(&stranger, Some(&world.key.key_id), json!({"iss": ACCOUNT}), json!({}));
    refused(form(&mixed), "Invalid JWT Signature.").await;

    let second = google.add_key(ACCOUNT).unwrap();
    good(world.form_by(&second, json!({}))).await;
    google.set_key(&second.key_id, KeyState::ActiveFrom(world.clock.now() + Duration::from_secs(3600)));
    refused(world.form_by(&second, json!({})), "Invalid JWT Signature.").await;
    google.set_key(&second.key_id, KeyState::ActiveFrom(world.clock.now()));
    good(world.form_by(&second, json!({}))).await;

    google.set_key(&world.key.key_id, KeyState::Disabled);
    refused(world.form(json!({})), "Invalid JWT Signature.").await;
    google.set_key(&world.key.key_id, KeyState::Active);
    good(world.form(json!({}))).await;
    assert!(google.remove_key(&world.key.key_id));
    refused(world.form(json!({})), "Invalid JWT Signature.").await;

    google.set_account(ACCOUNT, AccountState::Disabled);
    refused(world.form_by(&second, json!({})), "Robot is disabled.").await;
    google.set_account(ACCOUNT, AccountState::Deleted);
    refused(world.form_by(&second, json!({})), "account not found").await;
    assert_eq!((google.exchanges_of(&second.key_id), google.exchanges_of(&world.key.key_id)), (2, 1));
}

#[tokio::test]
async fn old_endpoints_delegation_and_assertions_without_key_id_work() {
    let world = World::new().await;
    for url in ["https://www.googleapis.com/oauth2/v4/token", "https://accounts.google.com/o/oauth2/token"] {
        assert_eq!(world.exchange_at(url, world.form(json!({"aud": url}))).await.unwrap().status, 200);
        assert_eq!(world.exchange_at(url, world.form(json!({}))).await.unwrap().status, 400);
    }
    world.google.allow_delegation(ACCOUNT);
    assert_eq!(world.exchange(world.form(json!({"sub": "someone@example.com"}))).await.unwrap().status, 200);
    assert_eq!(world.google.tokens().last().unwrap().1.subject.as_deref(), Some("someone@example.com"));
    let now = world.clock.wall().seconds();
    let claims =
        json!({"iss": ACCOUNT, "sub": ACCOUNT, "scope": SCOPE, "aud": AUDIENCE, "iat": now, "exp": now + 3600});
    assert_eq!(world.exchange(form(&sign(&world.key, None, claims, json!({})))).await.unwrap().status, 200);
}

#[tokio::test]
async fn the_api_says_what_is_wrong_with_a_credential() {
    let world = World::new().await;
    let url = "https://storage.googleapis.com/echo";
    let bare = "Bearer realm=\"https://accounts.google.com/\"";
    let invalid = "Bearer realm=\"https://accounts.google.com/\", error=\"invalid_token\"";
    let missing = world.get(Version::HTTP_2, url, None).await;
    assert_eq!((missing.status.as_u16(), missing.header("www-authenticate")), (401, bare));
    assert_eq!(missing.json()["error"]["details"][0]["reason"], "CREDENTIALS_MISSING");

    let (living, revoked) = (world.google.mint(ACCOUNT), world.google.mint(ACCOUNT));
    assert!(world.google.revoke(&revoked));
    world.google.script(|script| script.lifetime = Duration::ZERO);
    let expired = world.google.mint(ACCOUNT);
    for token in ["ya29.unknown", &revoked, &expired] {
        let answer = world.get(Version::HTTP_11, url, Some(token)).await;
        assert_eq!((answer.status.as_u16(), answer.header("www-authenticate")), (401, invalid));
        let error = &answer.json()["error"];
        assert_eq!((error["status"].as_str(), error["code"].as_u64()), (Some("UNAUTHENTICATED"), Some(401)));
        assert_eq!(error["errors"][0]["reason"], "authError");
    }
    let mut twice = request(Method::GET, url, Some(&living), full(""));
    twice.headers_mut().append("authorization", format!("Bearer {living}").parse().unwrap());
    assert_eq!(world.send(Version::HTTP_11, twice).await.unwrap().status, 401);
    let mut basic = request(Method::GET, url, None, full(""));
    basic.headers_mut().insert("authorization", "Basic eDp5".parse().unwrap());
    assert_eq!(world.send(Version::HTTP_11, basic).await.unwrap().status, 401);

    assert_eq!(world.get(Version::HTTP_11, url, Some(&living)).await.status, 200);
    world.google.revoke_all();
    assert_eq!(world.get(Version::HTTP_11, url, Some(&living)).await.status, 401);
    assert_eq!(world.get(Version::HTTP_11, &format!("{url}?X-Goog-Signature=00"), None).await.status, 200);
    let admissions: Vec<Admission> = world.google.requests().iter().map(|request| request.admission).collect();
    use Admission::{Expired, Malformed, Missing, Presigned, Revoked, Several, Token, Unknown};
    assert_eq!(admissions, [Missing, Unknown, Revoked, Expired, Several, Malformed, Token, Revoked, Presigned]);
}

#[tokio::test]
async fn a_jwt_for_this_host_stands_in_for_a_token() {
    let world = World::new().await;
    let now = world.clock.wall().seconds();
    let jwt = |changed| {
        let claims = json!({"iss": ACCOUNT, "sub": ACCOUNT, "iat": now, "exp": now + 3600});
        sign(&world.key, Some(&world.key.key_id), claims, changed)
    };
    let url = "https://storage.googleapis.com/echo";
    for (changed, status) in [
        (json!({"aud": "https://storage.googleapis.com/"}), 200),
        (json!({"scope": SCOPE}), 200),
        (json!({"aud": "https://pubsub.googleapis.com/"}), 401),
        (json!({"aud": "https://storage.googleapis.com/", "iat": now - 7200, "exp": now - 3600}), 401),
        (json!({}), 401),
    ] {
        let answer = world.get(Version::HTTP_11, url, Some(&jwt(changed.clone()))).await;
        assert_eq!(answer.status.as_u16(), status, "{changed}");
    }
}

#[tokio::test]
async fn a_connection_serves_only_the_name_in_its_hello() {
    let world = World::new().await;
    let token = world.google.mint(ACCOUNT);
    let mut sender = world.connect("storage.googleapis.com", Version::HTTP_2).await.unwrap();
    let other = request(Method::GET, "https://pubsub.googleapis.com/echo", Some(&token), full(""));
    assert_eq!(sender.send(other).await.unwrap().status, StatusCode::MISDIRECTED_REQUEST);
}

#[tokio::test]
async fn echo_shows_the_head_but_no_credential() {
    let world = World::new().await;
    let token = world.google.mint(ACCOUNT);
    let answer = world.get(Version::HTTP_11, "https://any.sub.googleapis.com/echo?a=%2F", Some(&token)).await;
    let json = answer.json();
    assert_eq!(
        (json["target"].as_str(), json["authority"].as_str()),
        (Some("/echo?a=%2F"), Some("any.sub.googleapis.com"))
    );
    assert!(!String::from_utf8_lossy(&answer.body).contains(&token));
    let recorded = &world.google.requests()[0];
    assert_eq!(recorded.headers["authorization"], format!("Bearer {token}"));
    assert_eq!(recorded.sni.as_deref(), Some("any.sub.googleapis.com"));
}

#[tokio::test]
async fn eight_mebibytes_survive_both_ways() {
    let world = World::new().await;
    let token = world.google.mint(ACCOUNT);
    let data: Vec<u8> = (0..8_u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let hash = sha256(&data);
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let url = "https://storage.googleapis.com/upload/storage/v1/b/demo/o?uploadType=media&name=a%2Fb";
        let upload = request(Method::POST, url, Some(&token), full(data.clone()));
        let stored = world.send(version, upload).await.unwrap();
        assert_eq!((stored.status.as_u16(), stored.json()["size"].as_str()), (200, Some("8388608")));
        assert_eq!(stored.json()["metadata"]["sha256"], hash);
        let recorded = world.google.requests().pop().unwrap().body;
        assert_eq!((recorded.complete, recorded.length, recorded.sha256), (true, 8 << 20, hash.clone()));

        let url = "https://storage.googleapis.com/storage/v1/b/demo/o/a%2Fb?alt=media";
        let loaded = world.get(version, url, Some(&token)).await;
        assert_eq!(sha256(&loaded.body), hash);
        let mut part = request(Method::GET, url, Some(&token), full(""));
        part.headers_mut().insert("range", "bytes=10-19".parse().unwrap());
        let part = world.send(version, part).await.unwrap();
        assert_eq!((part.status.as_u16(), &part.body[..]), (206, &data[10..20]));
        assert_eq!(part.header("content-range"), "bytes 10-19/8388608");

        let url = "https://storage.googleapis.com/storage/v1/b/demo/o/any?alt=media&size=200000";
        let generated = world.get(version, url, Some(&token)).await;
        assert!(generated.body == pattern(0, 200_000));
    }
}

#[tokio::test]
async fn sdk_uploads_in_two_parts_and_in_chunks_are_understood() {
    let world = World::new().await;
    let token = world.google.mint(ACCOUNT);
    let upload = "https://storage.googleapis.com/upload/storage/v1/b/demo/o";
    let body = "--=xyz=\r\ncontent-type: application/json\r\n\r\n{\"name\": \"parts\"}\r\n--=xyz=\r\ncontent-type: \
                text/plain\r\n\r\n123456789\r\n--=xyz=--";
    let mut parts = request(Method::POST, &format!("{upload}?uploadType=multipart"), Some(&token), full(body));
    parts.headers_mut().insert("content-type", "multipart/related; boundary=\"=xyz=\"".parse().unwrap());
    let stored = world.send(Version::HTTP_11, parts).await.unwrap().json();
    // The check value of CRC-32C, big-endian: e3069283.
    assert_eq!((stored["name"].as_str(), stored["crc32c"].as_str()), (Some("parts"), Some("4waSgw==")));

    let begin =
        request(Method::POST, &format!("{upload}?uploadType=resumable"), Some(&token), full("{\"name\":\"r\"}"));
    let place = world.send(Version::HTTP_11, begin).await.unwrap().header("location").to_owned();
    let put = async |range: &str, bytes: &'static str| {
        let mut put = request(Method::PUT, &place, Some(&token), full(bytes));
        put.headers_mut().insert("content-range", range.parse().unwrap());
        let answer = world.send(Version::HTTP_11, put).await.unwrap();
        (answer.status.as_u16(), answer.header("range").to_owned())
    };
    assert_eq!(put("bytes 0-3/*", "abcd").await, (308, "bytes=0-3".to_owned()));
    assert_eq!(put("bytes */*", "").await, (308, "bytes=0-3".to_owned()));
    assert_eq!(put("bytes 9-12/*", "zzzz").await, (308, "bytes=0-3".to_owned()));
    assert_eq!(put("bytes 4-5/6", "ef").await, (200, String::new()));
    assert_eq!(put("bytes 4-5/6", "ef").await.0, 404);
    let loaded =
        world.get(Version::HTTP_11, "https://storage.googleapis.com/storage/v1/b/demo/o/r?alt=media", Some(&token));
    assert_eq!(loaded.await.body, "abcdef");
}

#[tokio::test]
async fn statuses_trailers_and_events_come_as_asked() {
    let world = World::new().await;
    let token = world.google.mint(ACCOUNT);
    for version in [Version::HTTP_11, Version::HTTP_2] {
        for status in [200, 204, 302, 403, 404, 429, 503, 999] {
            let url = format!("https://storage.googleapis.com/status/{status}");
            assert_eq!(world.get(version, &url, Some(&token)).await.status.as_u16(), status);
        }
        for url in ["https://storage.googleapis.com/status/101", "https://storage.googleapis.com/status/x"] {
            assert_eq!(world.get(version, url, Some(&token)).await.status, 400);
        }
        let mut trailed = request(Method::GET, "https://storage.googleapis.com/trailers", Some(&token), full(""));
        trailed.headers_mut().insert("te", "trailers".parse().unwrap());
        let trailed = world.send(version, trailed).await.unwrap();
        assert_eq!(trailed.trailers.unwrap()["x-demo-trailer"], "end");
        let events = world.get(version, "https://storage.googleapis.com/sse?count=2&ms=1", Some(&token)).await;
        assert_eq!(events.body, "id: 1\ndata: tick\n\nid: 2\ndata: tick\n\n");
        let slow = world.get(version, "https://storage.googleapis.com/slow?ms=1", Some(&token)).await;
        assert_eq!(slow.json()["waited_ms"], 1);
        let drip = world.get(version, "https://storage.googleapis.com/drip?chunks=3&bytes=2&ms=1", Some(&token)).await;
        assert_eq!(drip.body, "000000");
    }
    let mut end = HeaderMap::new();
    end.insert("x-checksum", "1".parse().unwrap());
    let body = Full::new(Bytes::from("data")).with_trailers(std::future::ready(Some(Ok(end)))).boxed();
    let sent = request(Method::POST, "https://storage.googleapis.com/echo", Some(&token), body);
    world.send(Version::HTTP_2, sent).await.unwrap();
    assert_eq!(world.google.requests().pop().unwrap().body.trailers["x-checksum"], "1");
}

#[tokio::test]
async fn an_upgraded_connection_echoes_raw_bytes() {
    let world = World::new().await;
    let token = world.google.mint(ACCOUNT);
    let mut sender = world.connect("storage.googleapis.com", Version::HTTP_11).await.unwrap();
    let mut hello = request(Method::GET, "https://storage.googleapis.com/ws", Some(&token), full(""));
    for (name, value) in [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ] {
        hello.headers_mut().insert(name, value.parse().unwrap());
    }
    let response = sender.start(hello).await.unwrap();
    assert_eq!(response.status(), 101);
    // The example of RFC 6455 §1.3.
    assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    stream.write_all(b"\x81\x85bytes").await.unwrap();
    stream.flush().await.unwrap();
    let mut back = [0; 7];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"\x81\x85bytes");
}

#[tokio::test]
async fn grpc_calls_end_in_trailers() {
    let world = World::new().await;
    let token = world.google.mint(ACCOUNT);
    let mut sender = world.connect("pubsub.googleapis.com", Version::HTTP_2).await.unwrap();
    let one = framed(b"hello");

    let unary = sender.send(grpc("Unary", Some(&token), &[], full(one.clone()))).await.unwrap();
    assert_eq!((&unary.body[..], &unary.trailers.unwrap()["grpc-status"]), (&one[..], &"0".parse().unwrap()));
    let late = grpc("Unary", Some(&token), &[("x-demo-late-status", "10")], full(one.clone()));
    assert_eq!(sender.send(late).await.unwrap().trailers.unwrap()["grpc-status"], "10");

    let many = grpc("ServerStream", Some(&token), &[("x-demo-count", "100000")], full(framed(b"x")));
    let many = sender.send(many).await.unwrap();
    assert_eq!((many.body.len(), &many.trailers.unwrap()["grpc-status"]), (600_000, &"0".parse().unwrap()));

    for (call, status) in [
        (grpc("Unary", None, &[], full(one.clone())), "16"),
        (grpc("Unary", Some("ya29.wrong"), &[], full(one.clone())), "16"),
        (grpc("Unary", Some(&token), &[("x-demo-status", "7")], full(one.clone())), "7"),
        (grpc("Unknown", Some(&token), &[], full(one.clone())), "12"),
        (grpc("Unary", Some(&token), &[], full(&b"\0\0\0\0\x09torn"[..])), "13"),
    ] {
        let answer = sender.send(call).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.header("grpc-status")), (200, status));
        assert!(answer.trailers.is_none() && answer.body.is_empty());
        assert!(!answer.header("grpc-message").is_empty());
    }
}

#[tokio::test]
async fn a_bidirectional_call_answers_each_message_before_the_next() {
    let world = World::new().await;
    let token = world.google.mint(ACCOUNT);
    let mut sender = world.connect("pubsub.googleapis.com", Version::HTTP_2).await.unwrap();
    let (feed, fed) = tokio::sync::mpsc::channel(1);
    let response = sender.start(grpc("Bidi", Some(&token), &[], Fed(fed).boxed())).await.unwrap();
    let mut body = response.into_body();
    for round in 0..100_u32 {
        let message = framed(&round.to_be_bytes());
        feed.send(Bytes::from(message.clone())).await.unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), message);
    }
    // A flood of messages, which the fake has to swallow as Google does.
    let flood = async {
        for _ in 0..20_000 {
            feed.send(Bytes::from_static(b"\0\0\0\0\x01x")).await.unwrap();
        }
        drop(feed);
    };
    let drain = async {
        let mut length = 0;
        loop {
            match body.frame().await.unwrap().unwrap().into_data() {
                Ok(data) => length += data.len(),
                Err(frame) => return (length, frame.into_trailers().unwrap()),
            }
        }
    };
    let ((), (length, trailers)) = tokio::join!(flood, drain);
    assert_eq!((length, &trailers["grpc-status"]), (120_000, &"0".parse().unwrap()));
    let empty = sender.send(grpc("Bidi", Some(&token), &[], full(""))).await.unwrap();
    assert_eq!(empty.trailers.unwrap()["grpc-status"], "0");
}

/// A body fed through a channel.
struct Fed(tokio::sync::mpsc::Receiver<Bytes>);

impl http_body::Body for Fed {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|data| data.map(|data| Ok(Frame::data(data))))
    }
}

#[tokio::test]
async fn an_outage_that_answers_answers_as_told() {
    let world = World::new().await;
    let cases = [
        (Outage::Status(502), 502, "<!DOCTYPE html>"),
        (Outage::EmptyBody, 200, ""),
        (Outage::Html, 200, "<!DOCTYPE html>"),
        (Outage::HalfJson, 200, "{\"access_token\""),
        (Outage::Nested, 200, "[[[["),
        (Outage::Redirect("https://elsewhere.example/token".to_owned()), 302, ""),
        (Outage::Answer(200, Bytes::from("{\"expires_in\": 1}")), 200, "{\"expires_in\": 1}"),
        (
            Outage::Error { status: 500, error: "internal_failure", description: "" },
            500,
            "{\n  \"error\": \"internal_failure\"\n}",
        ),
    ];
    world.google.script(|script| script.retry_after = Some("7".to_owned()));
    let token = world.google.mint(ACCOUNT);
    for (outage, status, start) in cases {
        world.google.outage(outage.clone());
        let answer = world.exchange(world.form(json!({}))).await.unwrap();
        assert_eq!(answer.status.as_u16(), status, "{outage:?}");
        assert!(answer.body.starts_with(start.as_bytes()), "{outage:?}");
        assert!(
            serde_json::from_slice::<Value>(&answer.body).is_err() || status != 200 || start.contains("expires_in")
        );
        assert_eq!(answer.header("retry-after"), if status == 200 { "" } else { "7" }, "{outage:?}");
        let api = world.get(Version::HTTP_11, "https://storage.googleapis.com/echo", Some(&token)).await;
        assert_eq!(api.status, 200, "the API is up in {outage:?}");
    }
    assert!(world.google.exchanges().iter().all(|exchange| exchange.outcome == Outcome::Outage));
    world.google.outage(Outage::None);
    assert_eq!(world.exchange(world.form(json!({}))).await.unwrap().status, 200);
}

#[tokio::test]
async fn an_outage_below_http_breaks_the_connection() {
    let world = World::new().await;
    let mut kept = world.connect("oauth2.googleapis.com", Version::HTTP_11).await.unwrap();
    for outage in [Outage::Refuse, Outage::TlsError] {
        world.google.outage_times(outage.clone(), 1);
        assert!(world.exchange(world.form(json!({}))).await.is_err(), "{outage:?}");
        assert_eq!(world.exchange(world.form(json!({}))).await.unwrap().status, 200, "{outage:?} was over");
    }
    world.google.outage(Outage::Refuse);
    let old = kept.send(request(Method::POST, AUDIENCE, None, full(world.form(json!({}))))).await;
    assert!(old.is_err(), "an old connection meets the outage too");
    assert_eq!(world.google.failed_handshakes(), 2);
    world.google.outage(Outage::Truncated);
    assert!(world.exchange(world.form(json!({}))).await.is_err());
}

#[tokio::test]
async fn the_black_hole_holds_until_the_script_changes() {
    let world = World::new().await;
    let mut kept = world.connect("oauth2.googleapis.com", Version::HTTP_11).await.unwrap();
    world.google.outage(Outage::Blackhole);
    let asked = kept.send(request(Method::POST, AUDIENCE, None, full(world.form(json!({})))));
    let mut asked = std::pin::pin!(asked);
    let mut connecting = std::pin::pin!(world.connect("oauth2.googleapis.com", Version::HTTP_2));
    tokio::select! {
        biased;
        _ = &mut asked => panic!("answered"),
        _ = &mut connecting => panic!("connected"),
        () = world.google.exchanges_reach(1) => {}
    }
    world.google.outage(Outage::None);
    assert!(asked.await.is_err());
    assert!(connecting.await.is_err());
}

#[tokio::test]
async fn an_endless_and_a_dripping_answer_never_end() {
    let world = World::new().await;
    for (outage, enough) in [(Outage::Endless, 1 << 20), (Outage::Drip, 1)] {
        world.google.outage(outage);
        let mut sender = world.connect("oauth2.googleapis.com", Version::HTTP_11).await.unwrap();
        let asked = request(Method::POST, AUDIENCE, None, full(world.form(json!({}))));
        let mut body = sender.start(asked).await.unwrap().into_body();
        let mut seen = 0;
        while seen < enough {
            seen += body.frame().await.unwrap().unwrap().into_data().unwrap().len();
        }
    }
}

#[tokio::test]
async fn tokens_are_as_long_lived_as_told() {
    let world = World::new().await;
    world.google.script(|script| {
        script.lifetime = Duration::from_secs(90);
        script.token_length = 1024;
        script.same_token = true;
    });
    let first = world.exchange(world.form(json!({}))).await.unwrap().json();
    assert_eq!(first["access_token"].as_str().unwrap().len(), 1024);
    assert_eq!(first["expires_in"], 90);
    assert_eq!(world.token().await, first["access_token"].as_str().unwrap());
    world.google.revoke_all();
    assert_ne!(world.token().await, first["access_token"].as_str().unwrap());
    world.google.script(|script| script.expires_in = Some(json!("3599")));
    assert_eq!(world.exchange(world.form(json!({}))).await.unwrap().json()["expires_in"], "3599");
}

#[tokio::test]
async fn google_may_think_it_is_another_time() {
    let world = World::new().await;
    let date = |answer: &Answer| httpdate::parse_http_date(answer.header("date")).unwrap();
    let seconds = |answer: &Answer| date(answer).duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    world.google.script(|script| script.skew = 7200);
    let early = world.exchange(world.form(json!({}))).await.unwrap();
    assert!(early.json()["error_description"].as_str().unwrap().contains("short-lived"));
    let now = world.clock.wall().seconds();
    assert!((now + 7195..=now + 7200).contains(&seconds(&early)));
    let corrected = world.form(json!({"iat": now + 7190, "exp": now + 7200 + 3000}));
    assert_eq!(world.exchange(corrected).await.unwrap().status, 200);

    world.google.script(|script| (script.skew, script.date) = (0, DateHeader::Shifted(-86_400)));
    let lying = world.exchange(world.form(json!({}))).await.unwrap();
    assert!(lying.status == 200 && seconds(&lying) < now - 86_000);
    world.google.script(|script| script.date = DateHeader::Absent);
    assert_eq!(world.exchange(world.form(json!({}))).await.unwrap().header("date"), "");
    world.google.script(|script| script.date = DateHeader::Garbage);
    assert_eq!(world.exchange(world.form(json!({}))).await.unwrap().header("date"), "the day after tomorrow");
}

#[tokio::test]
async fn protocols_and_certificates_are_as_told() {
    let world = World::new().await;
    let (address, host) = (world.google.address(), "storage.googleapis.com");
    let both: &[&[u8]] = &[b"h2", b"http/1.1"];
    for (protocols, chosen) in [(Protocols::Both, "h2"), (Protocols::H1, "http/1.1"), (Protocols::H2, "h2")] {
        world.google.protocols(protocols);
        let stream = world.tls(address, host, both).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(chosen.as_bytes()));
    }
    assert!(world.connect(host, Version::HTTP_11).await.is_err());
    for (certificate, good) in [
        (Certificate::WrongName, false),
        (Certificate::Expired, false),
        (Certificate::Untrusted, false),
        (Certificate::Right, true),
    ] {
        world.google.certificate(host, certificate);
        assert_eq!(world.tls(address, host, both).await.is_ok(), good, "{certificate:?}");
    }
    assert!(world.tls(address, "service-abc.a.run.app", both).await.is_ok());
}

#[tokio::test]
async fn connections_end_when_told() {
    let world = World::new().await;
    let token = world.google.mint(ACCOUNT);
    let echo = || request(Method::GET, "https://storage.googleapis.com/echo", Some(&token), full(""));
    for version in [Version::HTTP_11, Version::HTTP_2] {
        for end in [FakeGoogle::drain_connections, FakeGoogle::abort_connections] {
            let mut sender = world.connect("storage.googleapis.com", version).await.unwrap();
            assert_eq!(sender.send(echo()).await.unwrap().status, 200);
            end(&world.google);
            while sender.send(echo()).await.is_ok() {}
        }
    }
}

#[tokio::test]
async fn a_recording_host_counts_every_connection_and_byte() {
    let world = World::new().await;
    let plain = RecordingHost::start(&world.tasks, Some(Bytes::from("pong"))).await.unwrap();
    assert_eq!((plain.connection_count(), plain.byte_count()), (0, 0));
    let mut stream = TcpStream::connect(plain.address()).await.unwrap();
    stream.write_all(b"ping").await.unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"pong");
    drop(stream);
    plain.until(|connections| connections.iter().all(|connection| connection.closed)).await;
    assert!(plain.saw(b"ping") && !plain.saw(b"pong"));
    assert_eq!((plain.connection_count(), plain.byte_count()), (1, 4));

    let evil =
        RecordingHost::start_tls(&world.tasks, &world.google, "evil.example", Protocols::H1, None).await.unwrap();
    let mut stream = world.tls(evil.address(), "evil.example", &[b"http/1.1"]).await.unwrap();
    stream.write_all(b"secret").await.unwrap();
    evil.until(|connections| connections.iter().any(|connection| connection.length == 6)).await;
    assert!(evil.saw(b"secret") && evil.connections()[0].handshaken);
}

#[test]
fn key_files_have_googles_shape_in_both_encodings() {
    let key = KeyFile::generate(ACCOUNT, "demo").unwrap();
    for (json, label) in [(key.json(), "PRIVATE KEY"), (key.json_pkcs1(), "RSA PRIVATE KEY")] {
        let file: Value = serde_json::from_str(&json).unwrap();
        assert_eq!((file["type"].as_str(), file["client_email"].as_str()), (Some("service_account"), Some(ACCOUNT)));
        assert_eq!(file["private_key_id"], key.key_id);
        let pem = file["private_key"].as_str().unwrap();
        assert!(
            pem.starts_with(&format!("-----BEGIN {label}-----\n"))
                && pem.ends_with(&format!("-----END {label}-----\n"))
        );
        let signed = jsonwebtoken::encode(
            &Header::new(Algorithm::RS256),
            &json!({"a": 1}),
            &EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap(),
        );
        let mut lenient = jsonwebtoken::Validation::new(Algorithm::RS256);
        lenient.required_spec_claims.clear();
        let public = jsonwebtoken::DecodingKey::from_rsa_der(key.public());
        assert!(jsonwebtoken::decode::<Value>(signed.unwrap(), &public, &lenient).is_ok());
    }
    assert_eq!(key.key_id.len(), 40);
    assert!(!format!("{key:?}").contains("PRIVATE"));
}
