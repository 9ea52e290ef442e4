//! Each kind of token on requests: exchanged, self-signed, for somebody, and of the credential's own claims.

use std::time::Duration;

use bearerd::{
    app::Settings,
    clock::Clock,
    credential::{CredentialName, Kind, Spec, Template},
    demo::{Admission, Outage},
    policy::{Fallback, HostPattern, Policy, Route, TokenKind, Unmatched},
};
use http::header;

use crate::{
    bed::{STORAGE, World, apis, routed, send_below, send_to},
    client::{DOORS, Door, get, post, within},
};

const PUBSUB: &str = "pubsub.googleapis.com";

fn hosts(patterns: &[&str]) -> Vec<HostPattern> {
    patterns.iter().map(|pattern| HostPattern::parse(pattern).unwrap()).collect()
}

fn self_signed(settings: &mut Settings) {
    routed(settings, |route| route.token = TokenKind::SelfSigned);
}

fn with_fallback(settings: &mut Settings) {
    routed(settings, |route| route.fallback = Fallback::SelfSigned);
}

#[tokio::test]
async fn a_self_signed_token_needs_no_endpoint() {
    let world = World::new().await;
    world.google.outage(Outage::Refuse);
    let bed = world.start(self_signed);
    for door in DOORS {
        assert_eq!(bed.client(door, STORAGE).await.call(get("/echo")).await.status(), 200, "{door:?}");
        let last = bed.last();
        assert_eq!(last.admission, Admission::SelfSigned);
        let token = last.token.unwrap();
        assert_eq!(token.scopes, ["https://www.googleapis.com/auth/cloud-platform"]);
        assert_eq!(token.key_id, bed.key.key_id);
    }
}

#[tokio::test]
async fn a_host_that_refuses_self_signed_tokens_gets_exchanged_ones_from_then_on() {
    let world = World::new().await;
    world.google.script(|script| script.refuse_self_signed = vec![STORAGE.to_owned()]);
    let bed = world.start(self_signed);
    let mut client = bed.client(Door::InterceptH2, STORAGE).await;
    // Refused once, sent again: the client notices nothing.
    assert_eq!(client.call(get("/echo")).await.status(), 200);
    let seen: Vec<Admission> = bed.google.requests().iter().map(|request| request.admission).collect();
    assert_eq!(seen, [Admission::Unknown, Admission::Token]);
    assert_eq!(client.call(post("/echo", "body")).await.status(), 200);
    assert_eq!((bed.google.request_count(), bed.last().admission), (3, Admission::Token));
    // That one host says nothing about another.
    assert_eq!(bed.client(Door::InterceptH2, PUBSUB).await.call(get("/echo")).await.status(), 200);
    assert_eq!(bed.last().admission, Admission::SelfSigned);
}

#[tokio::test]
async fn with_a_fallback_requests_go_on_while_the_endpoint_is_down() {
    let world = World::at(Clock::fast(50)).await;
    world.google.script(|script| {
        script.lifetime = Duration::from_secs(100);
        script.refuse_self_signed = vec![PUBSUB.to_owned()];
    });
    let bed = world.start(with_fallback);
    let mut client = bed.client(Door::InterceptH2, STORAGE).await;
    assert_eq!(client.call(get("/echo")).await.status(), 200);
    assert_eq!(bed.last().admission, Admission::Token);
    bed.google.script(|script| script.retry_after = Some("30".to_owned()));
    bed.google.outage(Outage::Status(503));
    within("the end of the token", async {
        loop {
            assert_eq!(client.call(get("/echo")).await.status(), 200);
            if bed.last().admission == Admission::SelfSigned {
                break;
            }
        }
    })
    .await;
    // A host that takes none: its own 401 once, and then an answer of ours that says what is wrong.
    let mut refusing = bed.client(Door::InterceptH2, PUBSUB).await;
    assert_eq!(refusing.call(get("/echo")).await.status(), 401);
    let count = bed.google.request_count();
    let response = refusing.call(get("/echo")).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["x-bearerd-error"]),
        (503, &"unavailable".parse().unwrap())
    );
    assert_eq!(bed.google.request_count(), count);
    bed.google.outage(Outage::None);
    within("the recovery", async {
        loop {
            assert_eq!(client.call(get("/echo")).await.status(), 200);
            if bed.last().admission == Admission::Token {
                break;
            }
        }
    })
    .await;
    assert_eq!(refusing.call(get("/echo")).await.status(), 200);
}

#[tokio::test]
async fn without_a_fallback_an_outage_is_a_503_although_the_key_could_sign() {
    let world = World::new().await;
    world.google.outage(Outage::Status(500));
    world.google.script(|script| script.retry_after = Some("30".to_owned()));
    let bed = world.start(|_| {});
    bed.exchanges_reach(1).await;
    assert_eq!(bed.client(Door::InterceptH2, STORAGE).await.call(get("/echo")).await.status(), 503);
    assert_eq!(bed.google.request_count(), 0);
}

/// Cloud Run by the host's own name, IAP by a client id, Google's own APIs by an access token.
fn three_audiences(settings: &mut Settings, google: std::net::SocketAddr) {
    let route =
        |name: &str, host: &str, token| Route { name: name.to_owned(), token, ..Route::google_apis(hosts(&[host])) };
    let mut behind = route("behind", "wiki.example.com", TokenKind::Id);
    behind.audience = Some("https://the-client-id".to_owned());
    behind.header = header::HeaderName::from_static("x-serverless-authorization");
    let routes =
        vec![route("run", "*.run.app", TokenKind::Id), behind, route("apis", "*.googleapis.com", TokenKind::Access)];
    let allow = hosts(&["*.googleapis.com", "*.run.app", "wiki.example.com"]);
    settings.policy = Policy::new(routes, Unmatched::Pass, allow);
    send_below(settings, "run.app", google);
    send_to(settings, "wiki.example.com", 443, google);
}

#[tokio::test]
async fn an_id_token_is_for_the_host_that_it_goes_to_and_an_access_token_never_goes_there() {
    let world = World::new().await;
    let google = world.google.address();
    let bed = world.start(|settings| three_audiences(settings, google));
    for door in DOORS {
        for host in ["one-abc.a.run.app", "two-abc.a.run.app"] {
            assert_eq!(bed.client(door, host).await.call(get("/echo")).await.status(), 200, "{door:?} {host}");
            let token = bed.last().token.unwrap();
            assert_eq!(token.audience, Some(format!("https://{host}")));
            assert_eq!(token.scopes, [""; 0]);
        }
        assert_eq!(bed.client(door, STORAGE).await.call(get("/echo")).await.status(), 200);
        assert_eq!(bed.last().token.unwrap().audience, None);
    }
    // Two hosts, one exchange each, however many ask; one for the API, and one for the audience that is known.
    assert_eq!(bed.google.exchange_count(), 4);
}

#[tokio::test]
async fn an_id_token_beside_the_applications_own_authorization() {
    let world = World::new().await;
    let google = world.google.address();
    let bed = world.start(|settings| three_audiences(settings, google));
    let mut client = bed.client(Door::InterceptH1, "wiki.example.com").await;
    let mut request = get("/echo");
    request.headers_mut().insert(header::AUTHORIZATION, "Basic dTpw".parse().unwrap());
    // The fake takes a token for its own name only, and refuses this one; what counts is whom it was asked for.
    assert_eq!(client.call(request).await.status(), 401);
    let audiences: Vec<_> = bed.google.tokens().into_iter().filter_map(|(_, token)| token.audience).collect();
    assert!(!audiences.is_empty() && audiences.iter().all(|audience| audience == "https://the-client-id"));
}

#[tokio::test]
async fn a_jwt_of_ones_own_claims_is_what_its_reader_verifies() {
    let world = World::new().await;
    let (google, dir) = (world.google.address(), world.dir.path().to_owned());
    let pem = include_str!("../data/p256-sec1.pem");
    std::fs::write(dir.join("device.pem"), pem).unwrap();
    let bed = world.start(|settings| {
        let mut template = Template::new("my-project");
        template.claims = serde_json::from_str(r#"{"sk": "system", "uid": "device-1", "ut": 3}"#).unwrap();
        let kind = Kind::SignedJwt { path: dir.join("device.pem"), template };
        settings.credentials.push(Spec { name: CredentialName::new("device"), kind });
        let mut route = Route::google_apis(hosts(&["bridge.example.com"]));
        (route.name, route.credential, route.token) = ("bridge".to_owned(), "device".to_owned(), TokenKind::Jwt);
        route.header = header::HeaderName::from_static("clearblade-usertoken");
        let routes = vec![route, Route::google_apis(apis())];
        settings.policy = Policy::new(routes, Unmatched::Pass, hosts(&["*.googleapis.com", "bridge.example.com"]));
        send_to(settings, "bridge.example.com", 443, google);
    });
    let mut client = bed.client(Door::InterceptH2, "bridge.example.com").await;
    client.call(get("/echo")).await;
    let headers = bed.last().headers;
    let token = headers["clearblade-usertoken"].to_str().unwrap().to_owned();
    let key = rcgen::KeyPair::from_pem(include_str!("../data/p256-pkcs8.pem")).unwrap();
    let key = jsonwebtoken::DecodingKey::from_ec_der(rcgen::PublicKeyData::der_bytes(&key));
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
    validation.set_audience(&["my-project"]);
    let decoded = jsonwebtoken::decode::<serde_json::Value>(&token, &key, &validation).unwrap();
    assert_eq!((&decoded.claims["ut"], &decoded.claims["uid"]), (&3.into(), &"device-1".into()));
    assert_eq!(decoded.header.kid, None);
    assert!(!headers.contains_key(header::AUTHORIZATION));
}
