//! Tokens handed out by name: to whoever may ask, in the shape that each client wants, and never another's.

use std::{collections::BTreeMap, time::Duration};

use bearerd::{
    app::Settings,
    clock::Clock,
    credential::{CredentialName, Kind, Parameters, Preset, Spec, Want},
    demo::{KeyFile, Outage},
    token_api::{Entry, Field, Mapping, Path, Refusal},
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::{
    bed::{Bed, World},
    client::eventually,
    raw,
};

const MEANT: &str = "X-Bearerd-Token-Request: true\r\n";

/// An entry as configuration makes it, with the defaults.
pub(crate) fn entry(name: &str, credential: &str, want: Want) -> Entry {
    Entry {
        name: name.to_owned(),
        credential: CredentialName::new(credential),
        want,
        parameters: Vec::new(),
        path: Path::of_name(name),
        json: Mapping::default(),
        min_life: Duration::from_secs(900),
        file: None,
    }
}

/// A credential that signs by one of the presets, with the key of the bed.
pub(crate) fn signer(name: &str, preset: &str, key: std::path::PathBuf) -> Spec {
    let template = Preset::named(preset).unwrap().template();
    Spec { name: CredentialName::new(name), kind: Kind::SignedJwt { path: key, template } }
}

/// Drivers and consumers, each with its own path and shape.
fn fleet(settings: &mut Settings, json: &[(&str, Field)]) {
    let Kind::ServiceAccountKey { path, .. } = settings.credentials[0].kind.clone() else { unreachable!() };
    settings.credentials.push(signer("drivers", "fleetEngineDriver", path.clone()));
    settings.credentials.push(signer("consumers", "fleetEngineConsumer", path));
    let jwt = || Want::Jwt(Parameters::none());
    let json = Mapping(json.iter().map(|(key, field)| ((*key).to_owned(), *field)).collect());
    settings.tokens = vec![
        Entry {
            parameters: vec!["vehicleId".to_owned()],
            path: Path::parse("/token/driver/{vehicleId}").unwrap(),
            json: json.clone(),
            ..entry("driver", "drivers", jwt())
        },
        Entry { parameters: vec!["tripId".to_owned()], json, ..entry("consumer", "consumers", jwt()) },
    ];
    settings.listeners.token_api = Some("127.0.0.1:0".parse().unwrap());
}

/// The shape of the stub provider's answers, which the samples for on-demand trips were written for.
const ON_DEMAND: [(&str, Field); 3] =
    [("jwt", Field::Token), ("creationTimestamp", Field::IssuedAtMs), ("expirationTimestamp", Field::ExpiresAtMs)];

async fn with(change: impl FnOnce(&mut Settings)) -> Bed {
    let bed = Bed::with(change).await;
    keys_are_read(&bed).await;
    bed
}

async fn keys_are_read(bed: &Bed) {
    eventually("every key", || bed.sidecar().status().credentials.iter().all(|one| one.key_id.is_some())).await;
}

async fn send(bed: &Bed, request: &str) -> raw::Answer {
    let mut stream = TcpStream::connect(bed.addresses.token_api.unwrap()).await.unwrap();
    raw::write(&mut stream, request.as_bytes()).await;
    raw::answer(&mut stream).await
}

pub(crate) async fn ask(bed: &Bed, target: &str) -> raw::Answer {
    let listen = bed.addresses.token_api.unwrap();
    send(bed, &format!("GET {target} HTTP/1.1\r\nHost: {listen}\r\n{MEANT}\r\n")).await
}

async fn json(bed: &Bed, target: &str) -> Value {
    let answer = ask(bed, target).await;
    assert_eq!(answer.status(), 200, "{target}: {} {}", answer.head, String::from_utf8_lossy(&answer.body));
    assert_eq!(
        (answer.field("content-type"), answer.field("cache-control")),
        (Some("application/json"), Some("no-store"))
    );
    serde_json::from_slice(&answer.body).unwrap()
}

/// The claims of a token that the account's key signed, whatever the time.
fn claims(key: &KeyFile, token: &str) -> Value {
    let mut validation = Validation::new(Algorithm::RS256);
    validation.validate_exp = false;
    validation.set_audience(&["https://fleetengine.googleapis.com/"]);
    let public = DecodingKey::from_rsa_der(key.public());
    let data = jsonwebtoken::decode::<Value>(token, &public, &validation).unwrap();
    assert_eq!((data.header.kid.as_deref(), data.header.typ.as_deref()), (Some(key.key_id.as_str()), Some("JWT")));
    data.claims
}

#[tokio::test]
async fn a_driver_gets_a_token_for_the_vehicle_that_was_asked_for_and_no_other() {
    let bed = with(|settings| fleet(settings, &ON_DEMAND)).await;
    let before = bed.ground.clock.wall().seconds();
    let answer = json(&bed, "/token/driver/vehicle-7").await;
    let claims = claims(&bed.key, answer["jwt"].as_str().unwrap());
    assert_eq!(claims["authorization"], json!({"vehicleid": "vehicle-7"}));
    assert_eq!((&claims["iss"], &claims["sub"]), (&json!(bed.key.email), &json!(bed.key.email)));
    let (iat, exp) = (claims["iat"].as_u64().unwrap(), claims["exp"].as_u64().unwrap());
    assert_eq!(exp - iat, 3600);
    assert!((before - 11..=before).contains(&iat), "{iat} at {before}");
    // Exactly what the token says itself, in milliseconds.
    assert_eq!(
        (&answer["creationTimestamp"], &answer["expirationTimestamp"]),
        (&json!(iat * 1000), &json!(exp * 1000))
    );
    assert_eq!(answer.as_object().unwrap().len(), 3);

    let again = json(&bed, "/token/driver/vehicle-7").await;
    assert_eq!(again["jwt"], answer["jwt"], "kept");
    assert_ne!(json(&bed, "/token/driver/vehicle-8").await["jwt"], answer["jwt"]);
    let in_query = json(&bed, "/v1/tokens/consumer?tripId=trip-1").await;
    assert_eq!(self::claims(&bed.key, in_query["jwt"].as_str().unwrap())["authorization"], json!({"tripid": "trip-1"}));
    let raw = ask(&bed, "/token/driver/vehicle-7?format=raw").await;
    assert_eq!(raw.body, answer["jwt"].as_str().unwrap().as_bytes());
    assert_eq!(raw.field("content-type"), Some("text/plain; charset=utf-8"));
    let flavor = "GET /token/driver/v HTTP/1.1\r\nHost: localhost:PORT\r\nMetadata-Flavor: Google\r\n\r\n";
    let port = bed.addresses.token_api.unwrap().port().to_string();
    assert_eq!(send(&bed, &flavor.replace("PORT", &port)).await.status(), 200);
    assert_eq!(bed.metric("tokens_handed_out_total{entry=\"driver\"}"), 5);
    assert_eq!(bed.metric("tokens_handed_out_total{entry=\"consumer\"}"), 1);
}

/// A phone or a browser: it keeps tokens as its own code does, and asks when that says so.
struct Phone {
    /// `None` where it keeps one token, of whichever vehicle.
    keeps_each: bool,
    /// From an answer and the time (seconds since 1970), when it will ask again.
    good_until: fn(&Value, f64) -> f64,
    /// Where the token is.
    key: &'static str,
    kept: BTreeMap<String, (String, f64)>,
    asked: Vec<f64>,
}

impl Phone {
    fn new(key: &'static str, keeps_each: bool, good_until: fn(&Value, f64) -> f64) -> Self {
        Self { keeps_each, good_until, key, kept: BTreeMap::new(), asked: Vec::new() }
    }

    async fn token(&mut self, bed: &Bed, vehicle: &str) -> String {
        let now = bed.ground.clock.wall().0.as_secs_f64();
        if let Some((token, until)) = self.kept.get(vehicle)
            && now < *until
        {
            return token.clone();
        }
        if !self.keeps_each {
            self.kept.clear();
        }
        let answer = json(bed, &format!("/token/driver/{vehicle}")).await;
        self.asked.push(now);
        let token = answer[self.key].as_str().unwrap().to_owned();
        self.kept.insert(vehicle.to_owned(), (token.clone(), (self.good_until)(&answer, now)));
        token
    }
}

/// Each client as its sample is written, for six hours, a look each minute: the token in its hand is always good, and no
/// two looks in a row ask. The samples are those of Google's repositories for on-demand rides and deliveries, and of its
/// pages on JavaScript.
#[tokio::test]
async fn every_client_lives_on_the_answers_that_its_own_code_expects() {
    type Sample = (&'static str, &'static [(&'static str, Field)], Phone);
    let samples: [Sample; 6] = [
        // JsonAuthTokenFactory of the Android guide: one token, and none in the last ten minutes.
        (
            "android",
            &[("VehicleServiceToken", Field::Token), ("TokenExpiryMs", Field::ExpiresAtMs)],
            Phone::new("VehicleServiceToken", false, |answer, _| {
                answer["TokenExpiryMs"].as_f64().unwrap() / 1000.0 - 600.0
            }),
        ),
        // Swift: compared with the time since 1970, in seconds, to the last one.
        (
            "ios swift",
            &[("VEHICLE_TOKEN_KEY", Field::Token), ("TOKEN_EXPIRATION", Field::ExpiresAtSeconds)],
            Phone::new("VEHICLE_TOKEN_KEY", true, |answer, _| answer["TOKEN_EXPIRATION"].as_f64().unwrap()),
        ),
        // Objective-C: `[NSDate dateWithTimeIntervalSinceNow:…]`, of the number under the same key.
        (
            "ios objective-c",
            &[("VEHICLE_TOKEN_KEY", Field::Token), ("TOKEN_EXPIRATION", Field::ExpiresInSeconds)],
            Phone::new("VEHICLE_TOKEN_KEY", true, |answer, now| now + answer["TOKEN_EXPIRATION"].as_f64().unwrap()),
        ),
        // The samples for on-demand trips: milliseconds, on Android less ten minutes.
        (
            "on-demand android",
            &ON_DEMAND,
            Phone::new("jwt", false, |answer, _| answer["expirationTimestamp"].as_f64().unwrap() / 1000.0 - 600.0),
        ),
        (
            "on-demand ios",
            &ON_DEMAND,
            Phone::new("jwt", true, |answer, _| answer["expirationTimestamp"].as_f64().unwrap() / 1000.0),
        ),
        // JavaScript: `authTokenFetcher` resolves to these two.
        (
            "web",
            &[("token", Field::Token), ("expiresInSeconds", Field::ExpiresInSeconds)],
            Phone::new("token", true, |answer, now| now + answer["expiresInSeconds"].as_f64().unwrap()),
        ),
    ];
    for (name, shape, mut phone) in samples {
        let (clock, hand) = Clock::with_hand();
        let bed = World::at(clock).await.start(|settings| fleet(settings, shape));
        keys_are_read(&bed).await;
        // Somebody else asked for the same vehicle before, so that what this phone gets is not new.
        json(&bed, "/token/driver/v1").await;
        hand.suspend(Duration::from_secs(20 * 60));
        for minute in 0..360 {
            let token = phone.token(&bed, "v1").await;
            let claims = claims(&bed.key, &token);
            assert_eq!(claims["authorization"]["vehicleid"], "v1", "{name}");
            let (now, exp) = (bed.ground.clock.wall().0.as_secs_f64(), claims["exp"].as_f64().unwrap());
            assert!(now < exp, "{name}: {} s after its end in minute {minute}", now - exp);
            hand.suspend(Duration::from_secs(60));
        }
        let gaps = phone.asked.windows(2).map(|pair| pair[1] - pair[0]);
        let least = gaps.fold(f64::INFINITY, f64::min);
        assert!(phone.asked.len() >= 6 && least >= 299.0, "{name}: asked after {least} s");
        // Another vehicle's token is never the one that is kept.
        let other = phone.token(&bed, "v2").await;
        assert_eq!(claims(&bed.key, &other)["authorization"]["vehicleid"], "v2", "{name}");
    }
}

#[tokio::test]
async fn whoever_may_not_ask_and_whatever_is_no_question_gets_no_token() {
    let bed = with(|settings| fleet(settings, &ON_DEMAND)).await;
    let listen = bed.addresses.token_api.unwrap();
    let (good, host) = ("/token/driver/v-marker", format!("Host: {listen}\r\n"));
    let get = |target: &str, lines: &str| format!("GET {target} HTTP/1.1\r\n{host}{lines}\r\n");
    let with_line = |line: &str| get(good, &format!("{MEANT}{line}\r\n"));
    let for_host = |host: &str| format!("GET {good} HTTP/1.1\r\nHost: {host}\r\n{MEANT}\r\n");
    let meant = |target: &str| get(target, MEANT);
    let port = listen.port();
    for (request, status, reason) in [
        (get(good, ""), 403, "token_api_header"),
        (get(good, "X-Bearerd-Token-Request: 1\r\n"), 403, "token_api_header"),
        (get(good, "X-Bearerd-Token-Request: TRUE\r\n"), 403, "token_api_header"),
        (get(good, "Metadata-Flavor: google\r\n"), 403, "token_api_header"),
        (get(good, &format!("{MEANT}{MEANT}")), 400, "token_api_repeated_header"),
        (with_line("Origin: https://evil.test"), 403, "token_api_browser"),
        (with_line("Origin: null"), 403, "token_api_browser"),
        (with_line("Sec-Fetch-Site: same-origin"), 403, "token_api_browser"),
        (with_line("Sec-Fetch-Mode: no-cors"), 403, "token_api_browser"),
        (with_line("X-Forwarded-For: 10.0.0.1"), 403, "token_api_relayed"),
        (with_line("Forwarded: for=10.0.0.1"), 403, "token_api_relayed"),
        (with_line("Via: 1.1 proxy"), 403, "token_api_relayed"),
        (with_line("X-Real-IP: 10.0.0.1"), 403, "token_api_relayed"),
        (with_line("Content-Length: 1"), 400, "token_api_body"),
        (for_host("evil.test"), 403, "token_api_foreign_host"),
        (for_host(&format!("evil.test:{port}")), 403, "token_api_foreign_host"),
        (for_host("127.0.0.1"), 403, "token_api_foreign_host"),
        (for_host("127.0.0.1:1"), 403, "token_api_foreign_host"),
        (for_host(&format!("metadata.google.internal:{port}")), 403, "token_api_foreign_host"),
        (for_host(&format!("127.0.0.2:{port}")), 403, "token_api_foreign_host"),
        (format!("GET {good} HTTP/1.1\r\n{host}{host}{MEANT}\r\n"), 400, ""),
        (format!("GET {good} HTTP/1.1\r\n{MEANT}\r\n"), 400, ""),
        (format!("GET http://evil.test{good} HTTP/1.1\r\n{host}{MEANT}\r\n"), 421, "token_api_disagree"),
        (format!("GET {good} HTTP/1.0\r\n{host}{MEANT}\r\n"), 505, "token_api_version"),
        (format!("POST {good} HTTP/1.1\r\n{host}{MEANT}Content-Length: 0\r\n\r\n"), 405, "token_api_method"),
        (format!("HEAD {good} HTTP/1.1\r\n{host}{MEANT}Connection: close\r\n\r\n"), 405, "token_api_method"),
        (format!("OPTIONS {good} HTTP/1.1\r\n{host}{MEANT}\r\n"), 405, "token_api_method"),
        (format!("DELETE {good} HTTP/1.1\r\n{host}{MEANT}\r\n"), 405, "token_api_method"),
        (meant("/"), 404, "token_api_unknown_path"),
        (meant("/v1/tokens"), 404, "token_api_unknown_path"),
        (meant("/v1/tokens/"), 404, "token_api_unknown_path"),
        (meant("/v1/tokens/driver?vehicleId=v-marker"), 404, "token_api_unknown_path"),
        (meant("/v1/tokens/default"), 404, "token_api_unknown_path"),
        (meant("/token/driver"), 404, "token_api_unknown_path"),
        (meant("/token/driver/v-marker/"), 404, "token_api_unknown_path"),
        (meant("//token/driver/v-marker"), 404, "token_api_unknown_path"),
        (meant("/token/./driver/v-marker"), 404, "token_api_unknown_path"),
        (meant("/computeMetadata/v1/instance/service-accounts/default/token"), 404, "token_api_unknown_path"),
        (meant("/token/driver/"), 400, "token_api_malformed_parameter"),
        (meant("/token/driver/*"), 400, "token_api_malformed_parameter"),
        (meant("/token/driver/%2A"), 400, "token_api_malformed_parameter"),
        (meant("/token/driver/v-marker%2F.."), 400, "token_api_malformed_parameter"),
        (meant("/token/driver/v-marker?vehicleId=other-marker"), 400, "token_api_parameters_disagree"),
        (meant("/token/driver/v-marker?tripId=t-marker"), 400, "token_api_unknown_parameter"),
        (meant("/token/driver/v-marker?format=marker"), 400, "token_api_format"),
        (meant("/v1/tokens/consumer"), 400, "token_api_missing_parameter"),
        (meant("/v1/tokens/consumer?tripId=*"), 400, "token_api_malformed_parameter"),
        (meant("/v1/tokens/consumer?tripId=t-marker&tripId=t-marker"), 400, "token_api_repeated_parameter"),
        (meant(&format!("/token/driver/{}", "v".repeat(5000))), 414, "token_api_too_long"),
        (format!("CONNECT storage.googleapis.com:443 HTTP/1.1\r\n{host}{MEANT}\r\n"), 405, "token_api_method"),
    ] {
        let before = if reason.is_empty() { 0 } else { bed.refused(reason) };
        let answer = send(&bed, &request).await;
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status(), status, "{request}: {} {body}", answer.head);
        assert!(!body.contains("marker") && !answer.head.contains("marker"), "{request} is echoed: {body}");
        assert!(!body.contains("eyJ"), "{request}: a token");
        if !reason.is_empty() {
            assert_eq!((answer.field("x-bearerd-error"), bed.refused(reason)), (Some(reason), before + 1), "{request}");
            assert_eq!(answer.field("cache-control"), Some("no-store"), "{request}");
        }
    }
    let unseen: Vec<_> = Refusal::ALL.into_iter().filter(|refusal| bed.refused(refusal.label()) == 0).collect();
    assert_eq!(unseen.len(), 1, "{unseen:?}: the gate refuses two Hosts and none before us");
    assert_eq!(bed.metric("tokens_handed_out_total{entry=\"driver\"}"), 0);
}

/// Two hundred at once, of many vehicles and trips: each gets the token of its own, and the same vehicle the same one.
#[tokio::test]
async fn of_two_hundred_who_ask_at_once_nobody_gets_a_token_of_another() {
    let bed = with(|settings| fleet(settings, &ON_DEMAND)).await;
    let one = async |number: usize| {
        let id = format!("id-{}", number % 40);
        let (target, claim) = match number % 2 {
            0 => (format!("/token/driver/{id}"), "vehicleid"),
            _ => (format!("/v1/tokens/consumer?tripId={id}"), "tripid"),
        };
        let token = json(&bed, &target).await["jwt"].as_str().unwrap().to_owned();
        assert_eq!(claims(&bed.key, &token)["authorization"], json!({claim: id}));
        (target, token)
    };
    let all = futures_util::future::join_all((0..200).map(one)).await;
    let mut kept: BTreeMap<&str, &str> = BTreeMap::new();
    for (target, token) in &all {
        assert_eq!(*kept.entry(target).or_insert(token), token, "{target}");
    }
    assert_eq!(kept.len(), 40);
}

#[tokio::test]
async fn without_a_key_it_is_503_and_with_one_there_is_a_token() {
    let world = World::new().await;
    std::fs::create_dir(world.dir.path().join("later")).unwrap();
    let bed = world.start(|settings| {
        fleet(settings, &ON_DEMAND);
        let nowhere = settings.trust.public.with_file_name("later");
        settings.credentials[1] = signer("drivers", "fleetEngineDriver", nowhere);
    });
    let answer = ask(&bed, "/token/driver/v1").await;
    assert_eq!((answer.status(), answer.field("x-bearerd-error")), (503, Some("no_key")));
    assert!((1..=5).contains(&answer.field("retry-after").unwrap().parse::<u64>().unwrap()));
    assert_eq!(answer.field("cache-control"), Some("no-store"));
    assert_eq!(bed.refused("no_key"), 1);
    std::fs::write(bed.dir.path().join("later/key.json"), bed.key.json()).unwrap();
    keys_are_read(&bed).await;
    assert_eq!(json(&bed, "/token/driver/v1").await["jwt"].as_str().map(|jwt| &jwt[..3]), Some("eyJ"));
}

fn of_the_account(settings: &mut Settings, min_life: u64) {
    let min_life = Duration::from_secs(min_life);
    settings.tokens = vec![
        Entry { min_life, ..entry("access", "default", Want::Access) },
        Entry { min_life, ..entry("self", "default", Want::SelfSigned) },
        Entry { min_life, ..entry("id", "default", Want::Id("https://service.example".into())) },
    ];
    settings.listeners.token_api = Some("127.0.0.1:0".parse().unwrap());
}

#[tokio::test]
async fn access_self_signed_and_id_tokens_are_handed_out_too() {
    let bed = with(|settings| of_the_account(settings, 900)).await;
    let access = json(&bed, "/v1/tokens/access").await;
    let issued = bed.google.tokens();
    assert!(issued.iter().any(|(token, _)| access["access_token"] == token.as_str()), "Google's own");
    assert_eq!(access["token_type"], "Bearer");
    let left = access["expires_in"].as_u64().unwrap();
    assert!((3590..3600).contains(&left), "{left}");
    assert!(json(&bed, "/v1/tokens/self").await["access_token"].as_str().unwrap().starts_with("eyJ"));
    assert!(json(&bed, "/v1/tokens/id").await["access_token"].as_str().unwrap().starts_with("eyJ"));
    assert_eq!(ask(&bed, "/v1/tokens/access?vehicleId=v1").await.status(), 400, "it has no parameters");
}

/// An exchanged token is refreshed ahead; while that fails it is handed out as long as it has what was promised, and
/// then there is none, although requests through the proxy still get it.
#[tokio::test]
async fn a_token_with_less_than_min_life_is_never_handed_out() {
    let (clock, hand) = Clock::with_hand();
    let bed = World::at(clock).await.start(|settings| of_the_account(settings, 900));
    bed.exchanges_reach(1).await;
    keys_are_read(&bed).await;
    json(&bed, "/v1/tokens/access").await;
    bed.google.outage(Outage::Status(503));
    hand.suspend(Duration::from_secs(3599 - 901 - 60));
    let left = json(&bed, "/v1/tokens/access").await["expires_in"].as_u64().unwrap();
    assert!((900..=961).contains(&left), "{left}");
    hand.suspend(Duration::from_secs(120));
    let answer = ask(&bed, "/v1/tokens/access").await;
    assert_eq!((answer.status(), answer.field("x-bearerd-error")), (503, Some("token_api_min_life")));
    assert!(answer.field("retry-after").is_some());
    assert_eq!(bed.refused("token_api_min_life"), 1);
    bed.google.outage(Outage::None);
    hand.suspend(Duration::from_secs(31));
    let left = json(&bed, "/v1/tokens/access").await["expires_in"].as_u64().unwrap();
    assert!(left > 3500, "{left}");
}

#[tokio::test]
async fn entries_come_and_go_without_a_restart() {
    let bed = with(|settings| fleet(settings, &ON_DEMAND)).await;
    let mut settings = None;
    // The same settings as the bed's own, changed.
    let again = Bed::with(|own| {
        fleet(own, &ON_DEMAND);
        settings = Some(own.clone());
    })
    .await;
    drop(again);
    let mut settings = settings.unwrap();
    for spec in &mut settings.credentials {
        match &mut spec.kind {
            Kind::ServiceAccountKey { path, .. } | Kind::SignedJwt { path, .. } => *path = bed.keys(),
            #[allow(unreachable_patterns, reason = "other kinds have no path")]
            _ => {}
        }
    }
    let first = json(&bed, "/token/driver/v1").await;
    settings.tokens[0].path = Path::parse("/d/{vehicleId}").unwrap();
    settings.tokens.pop();
    bed.sidecar().apply(settings.clone());
    assert_eq!(ask(&bed, "/token/driver/v1").await.status(), 404);
    assert_eq!(ask(&bed, "/v1/tokens/consumer?tripId=t").await.status(), 404);
    assert_eq!(json(&bed, "/d/v1").await, first, "the token is the one that was kept");
    settings.tokens.clear();
    bed.sidecar().apply(settings);
    assert_eq!(ask(&bed, "/d/v1").await.status(), 404);
}

#[tokio::test]
async fn the_status_tells_what_is_handed_out_and_never_a_token() {
    let bed = with(|settings| fleet(settings, &ON_DEMAND)).await;
    let token = json(&bed, "/token/driver/v-seen-nowhere").await["jwt"].as_str().unwrap().to_owned();
    let status = serde_json::to_value(bed.sidecar().status()).unwrap();
    let listens = status["listeners"].as_array().unwrap().iter().any(|listener| listener["door"] == "tokenApi");
    assert!(listens, "{status}");
    let driver = &status["tokens"][0];
    assert_eq!(driver["path"], "/token/driver/{vehicleId}");
    assert_eq!((&driver["handedOut"], &driver["minLifeSeconds"]), (&json!(1), &json!(900)));
    assert_eq!((&driver["credential"], &driver["parameters"]), (&json!("drivers"), &json!(["vehicleId"])));
    let log = crate::capture::log();
    for text in [status.to_string(), bed.ground.metrics.render(), log] {
        assert!(!text.contains(&token) && !text.contains("v-seen-nowhere"), "whoever asked, or the token, is told");
    }
}
