//! Nothing of a request comes back in an answer of ours or stands in the log, whichever way the request failed: an
//! error page that repeats a field gives a credential to whoever can make a program show it.

use std::{collections::BTreeSet, net::SocketAddr};

use bearerd::{
    clock::Clock,
    demo::{Certificate, Outage, RecordingHost},
    policy::{Action, ClientAuthorization, HostPattern, Policy, Route, Unmatched},
};
use http::{Request, Response};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};

use crate::{
    bed::{Bed, STORAGE, World, apis, send_to},
    client::{Body, DOORS, Door, full},
    raw,
    refuse::AMBIGUOUS,
};

const IAM: &str = "iamcredentials.googleapis.com";
const MARKER: &str = "mArKeR0815";

/// What was answered so far: how many refusals, for which reasons.
#[derive(Default)]
struct Heard {
    paths: usize,
    reasons: BTreeSet<String>,
}

impl Heard {
    fn take(&mut self, what: &str, reason: Option<&str>, text: &str) {
        assert!(!text.to_ascii_lowercase().contains(&MARKER.to_ascii_lowercase()), "{what}: {text}");
        self.paths += 1;
        self.reasons.extend(reason.map(str::to_owned));
    }

    /// The answer to these bytes, which must be a refusal; whether it names its reason.
    async fn bytes(&mut self, mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> bool {
        raw::write(&mut stream, request.as_bytes()).await;
        let answer = raw::answer(&mut stream).await;
        let status = answer.status();
        assert!((400..=504).contains(&status) && status != 401, "{request}: {}", answer.head);
        let text = format!("{}{}", answer.head, String::from_utf8_lossy(&answer.body));
        self.take(request, answer.field("x-bearerd-error"), &text);
        answer.field("x-bearerd-error").is_some()
    }

    async fn plain(&mut self, address: Option<SocketAddr>, request: &str) {
        self.bytes(TcpStream::connect(address.unwrap()).await.unwrap(), request).await;
    }

    /// A request full of markers through every door; all of them must be refused for this reason.
    async fn doors(&mut self, bed: &Bed, host: &str, target: &str, more: &[(&str, &str)], reason: &str) {
        for door in DOORS {
            let response = bed.client(door, host).await.call(marked(target, more)).await;
            self.response(&format!("{door:?} {host} {target}"), &response, reason);
        }
    }

    fn response(&mut self, what: &str, response: &Response<bytes::Bytes>, reason: &str) {
        let found = response.headers().get("x-bearerd-error").map(|value| value.to_str().unwrap());
        assert_eq!(found, Some(reason), "{what}: {response:?}");
        let text = format!("{:?} {}", response.headers(), String::from_utf8_lossy(response.body()));
        self.take(what, found, &text);
    }
}

/// A POST with the marker in its path, its query, its fields and its body.
fn marked(target: &str, more: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::post(format!("{target}{MARKER}?{MARKER}={MARKER}"))
        .header(format!("x-{MARKER}"), MARKER)
        .header("authorization", format!("Bearer {MARKER}"))
        .header("cookie", MARKER)
        .header("user-agent", MARKER);
    for (name, value) in more {
        request = request.header(*name, *value);
    }
    request.body(full(MARKER)).unwrap()
}

/// The same by hand, with these lines in its head besides.
fn written(target: &str, host: &str, more: &str) -> String {
    format!(
        "POST {target}{MARKER}?{MARKER}={MARKER} HTTP/1.1\r\nHost: {host}\r\nX-{MARKER}: {MARKER}\r\n\
         Authorization: Bearer {MARKER}\r\nCookie: {MARKER}\r\nUser-Agent: {MARKER}\r\n{more}\
         Content-Length: 10\r\n\r\n{MARKER}"
    )
}

#[tokio::test]
async fn no_refusal_echoes_anything_of_its_request() {
    let mut heard = Heard::default();
    at_the_gate(&mut heard).await;
    by_the_policy(&mut heard).await;
    at_other_doors(&mut heard).await;
    without_an_upstream_or_a_token(&mut heard).await;
    assert!(heard.paths >= 150, "{}", heard.paths);
    let wanted = [
        "authority_mismatch",
        "certificate",
        "connect",
        "local_address",
        "method_override",
        "minting",
        "not_a_proxy_request",
        "proxy_password",
        "route",
        "several_credentials",
        "tls",
        "unavailable",
        "unmatched",
    ];
    let missing: Vec<&str> = wanted.into_iter().filter(|reason| !heard.reasons.contains(*reason)).collect();
    assert!(missing.is_empty() && heard.reasons.len() >= 30, "{missing:?} of {:?}", heard.reasons);
    assert!(!crate::capture::log().contains(MARKER), "nor is it logged");
}

/// Heads that cannot be read, or can be in two ways.
async fn at_the_gate(heard: &mut Heard) {
    let bed = Bed::start().await;
    let marker = MARKER;
    let requests = [
        written(&format!("http://{IAM}/v1/"), IAM, ""),
        written(&format!("http://{STORAGE}/"), "evil.test", ""),
        written("/", STORAGE, ""),
        written(&format!("http://{marker}:99999/"), STORAGE, ""),
        written(&format!("http://{marker}@{STORAGE}/"), STORAGE, ""),
        written("http://127.0.0.1:1/", "127.0.0.1:1", ""),
        written("ftp://storage.googleapis.com/", STORAGE, ""),
        format!("GET http://{STORAGE}/{marker} HTTP/1.1\r\nHost: {STORAGE}\r\nHost: {marker}\r\n\r\n"),
        format!("GET http://{STORAGE}/{marker} HTTP/1.1\r\nHost: {STORAGE}\r\n{marker}\r\n\r\n"),
        format!("{marker} {marker} HTTP/1.1\r\nHost: {marker}\r\n\r\n"),
        format!("TRACE http://{STORAGE}/{marker} HTTP/1.1\r\nHost: {STORAGE}\r\nX: {marker}\r\n\r\n"),
        format!("GET http://{STORAGE}/ HTTP/1.1\r\nHost: {STORAGE}\r\nExpect: {marker}\r\n\r\n"),
        format!("GET http://{STORAGE}/{} HTTP/1.1\r\nHost: {STORAGE}\r\n\r\n", marker.repeat(1000)),
        format!("GET http://{STORAGE}/ HTTP/1.1\r\nHost: {STORAGE}\r\nX: {}\r\n\r\n", marker.repeat(4000)),
        format!("GET http://{STORAGE}/ HTTP/1.1\r\nHost: {STORAGE}\r\n{}\r\n", format!("X: {marker}\r\n").repeat(101)),
        format!("GET http://{STORAGE}/{marker} HTTP/9.9\r\nHost: {STORAGE}\r\n\r\n"),
        format!("CONNECT {marker}:0 HTTP/1.1\r\nHost: {marker}\r\n\r\n"),
        format!("CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: 127.0.0.1:1\r\nX: {marker}\r\n\r\n"),
        format!("CONNECT {STORAGE}:443 HTTP/1.1\r\nHost: {marker}.test:443\r\n\r\n"),
        format!("CONNECT {STORAGE}:443 HTTP/1.1\r\nHost: {STORAGE}:443\r\nContent-Length: 10\r\n\r\n{marker}"),
    ];
    for request in &requests {
        assert!(heard.bytes(raw::proxy(&bed).await, request).await, "{request}");
    }
    for fields in AMBIGUOUS {
        let head = written(&format!("http://{STORAGE}/"), STORAGE, fields);
        assert!(heard.bytes(raw::proxy(&bed).await, &head).await, "{fields}");
        let inside = bed.connect(STORAGE, &[b"http/1.1"]).await;
        assert!(heard.bytes(inside, &written("/", STORAGE, fields)).await, "{fields}");
    }
    let closed = Bed::with(|settings| settings.password = Some("bearerd:secret".to_owned().into())).await;
    heard.bytes(raw::proxy(&closed).await, &written(&format!("http://{STORAGE}/"), STORAGE, "")).await;
}

async fn by_the_policy(heard: &mut Heard) {
    let bed = Bed::with(|settings| {
        let route = |name: &str, host: &str| Route {
            name: name.to_owned(),
            hosts: vec![HostPattern::parse(host).unwrap()],
            ..Route::google_apis(apis())
        };
        let denied = Route { action: Action::Deny, ..route("denied", "denied.googleapis.com") };
        let kept = Route { client_authorization: ClientAuthorization::Keep, ..route("kept", "kept.googleapis.com") };
        settings.policy = Policy::new(vec![denied, kept, Route::google_apis(apis())], Unmatched::Deny, apis());
    })
    .await;
    heard.doors(&bed, IAM, "/v1/", &[], "minting").await;
    heard.doors(&bed, IAM, "/google.iam.", &[("content-type", "application/grpc")], "minting").await;
    let mut overridden = marked("/v1/projects/p/serviceAccounts/a/keys?", &[("x-http-method-override", "POST")]);
    *overridden.method_mut() = http::Method::GET;
    let response = bed.client(Door::InterceptH2, "iam.googleapis.com").await.call(overridden).await;
    heard.response("override", &response, "method_override");
    heard.doors(&bed, "denied.googleapis.com", "/", &[], "route").await;
    let response = bed.client(Door::Forward, "elsewhere.test").await.call(marked("/", &[])).await;
    heard.response("unmatched", &response, "unmatched");
    let twice = marked("/", &[("authorization", &format!("Bearer other-{MARKER}"))]);
    let response = bed.client(Door::InterceptH2, "kept.googleapis.com").await.call(twice).await;
    heard.response("several", &response, "several_credentials");
    let other = marked("/", &[("host", &format!("{MARKER}.test"))]);
    let response = bed.client(Door::InterceptH2, STORAGE).await.call(other).await;
    heard.response("another host over h2", &response, "authority_mismatch");
}

async fn at_other_doors(heard: &mut Heard) {
    let bed = Bed::start().await;
    let google = "Metadata-Flavor: Google\r\n";
    let account = "/computeMetadata/v1/instance/service-accounts/";
    let name = "metadata.google.internal";
    for (target, host, more) in [
        ("/", name, google),
        ("/computeMetadata/v1/", name, google),
        (account, name, google),
        (account, name, ""),
        (account, "evil.test", google),
        (account, name, "Metadata-Flavor: mArKeR0815\r\n"),
        (account, name, "Metadata-Flavor: Google\r\nOrigin: http://mArKeR0815.test\r\n"),
        (account, name, "Metadata-Flavor: Google\r\nX-Forwarded-For: mArKeR0815\r\n"),
    ] {
        for method in ["POST", "GET"] {
            let request = written(target, host, more).replacen("POST", method, 1);
            heard.plain(bed.addresses.metadata, &request).await;
        }
    }
    let control = bed.addresses.control.unwrap().to_string();
    for (target, host, more) in [
        ("/", control.as_str(), ""),
        ("/quit", &control, ""),
        ("/quit", &control, "X-Bearerd-Quit: mArKeR0815\r\n"),
        ("/status.json", "mArKeR0815.test", ""),
        ("/status.json", &control, "Origin: http://mArKeR0815.test\r\n"),
    ] {
        heard.plain(bed.addresses.control, &written(target, host, more)).await;
        let health = bed.addresses.health;
        heard.plain(health, &written(target, host, more).replacen("POST", "GET", 1)).await;
    }
}

async fn without_an_upstream_or_a_token(heard: &mut Heard) {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let world = World::new().await;
    let plain = RecordingHost::start(&world.tasks, Some(b"no TLS at all\r\n"[..].into())).await.unwrap();
    let bed = world.start(|settings| {
        send_to(settings, "gone.googleapis.com", 443, gone);
        send_to(settings, "plain.googleapis.com", 443, plain.address());
    });
    heard.doors(&bed, "gone.googleapis.com", "/", &[], "connect").await;
    heard.doors(&bed, "plain.googleapis.com", "/", &[], "tls").await;
    bed.google.certificate(STORAGE, Certificate::Expired);
    heard.doors(&bed, STORAGE, "/", &[], "certificate").await;
    let world = World::at(Clock::fast(50)).await;
    world.google.outage(Outage::Error { status: 503, error: "backend_error", description: "" });
    world.google.script(|script| script.retry_after = Some("30".to_owned()));
    let bed = world.start(|_| {});
    heard.doors(&bed, STORAGE, "/", &[], "unavailable").await;
}
