//! The metadata door: what SDKs find there opens requests through interception, and only there.

use bearerd::{
    app::Metadata,
    policy::{ClientAuthorization, HostPattern, Policy, Route, TokenKind, Unmatched},
};
use serde_json::Value;
use tokio::net::TcpStream;

use crate::{
    bed::{ACCOUNT, Bed, PROJECT, STORAGE, World, apis, routed, send_below},
    client::{DOORS, eventually, get_with},
    raw,
};

async fn ask(bed: &Bed, request: &str) -> raw::Answer {
    let mut stream = TcpStream::connect(bed.addresses.metadata.unwrap()).await.unwrap();
    raw::write(&mut stream, request.as_bytes()).await;
    raw::answer(&mut stream).await
}

async fn value(bed: &Bed, path: &str) -> raw::Answer {
    let head = format!("GET /computeMetadata/v1/{path} HTTP/1.1\r\nHost: metadata.google.internal\r\n");
    ask(bed, &format!("{head}Metadata-Flavor: Google\r\n\r\n")).await
}

#[tokio::test]
async fn the_token_it_gives_is_the_placeholder_and_opens_requests() {
    let bed = Bed::with(|settings| {
        routed(settings, |route| route.client_authorization = ClientAuthorization::Require);
    })
    .await;
    let answer = value(&bed, "instance/service-accounts/default/token").await;
    assert_eq!((answer.status(), answer.field("metadata-flavor")), (200, Some("Google")));
    let token: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(
        (token["token_type"].as_str(), token["access_token"].as_str()),
        (Some("Bearer"), Some(bed.placeholder().as_str()))
    );
    let placeholder = format!("Bearer {}", token["access_token"].as_str().unwrap());
    for door in DOORS {
        let mut client = bed.client(door, STORAGE).await;
        let response = client.call(get_with("/storage/v1/b?project=p", &[("authorization", &placeholder)])).await;
        assert_eq!(response.status(), 200, "{door:?}");
        assert_eq!(bed.last().headers["authorization"], format!("Bearer {}", bed.only_token()), "{door:?}");
    }
}

#[tokio::test]
async fn it_says_who_and_where_we_are() {
    let bed = Bed::start().await;
    bed.exchanges_reach(1).await;
    let answer = value(&bed, "project/project-id").await;
    assert_eq!((answer.status(), answer.body.as_slice()), (200, PROJECT.as_bytes()));
    let answer = value(&bed, "instance/service-accounts/default/email").await;
    assert_eq!((answer.status(), answer.body.as_slice()), (200, ACCOUNT.as_bytes()));
    let answer = value(&bed, "instance/service-accounts/default/scopes").await;
    assert_eq!(answer.body, b"https://www.googleapis.com/auth/cloud-platform\n");
    assert!(matches!(value(&bed, "instance/service-accounts").await.status(), 200 | 301));
    let answer = value(&bed, "instance/service-accounts/?recursive=true").await;
    let text = String::from_utf8(answer.body).unwrap();
    assert!(text.contains(ACCOUNT) && !text.contains("placeholder"), "{text}");
    let detection = ask(&bed, "GET / HTTP/1.1\r\nHost: metadata.google.internal\r\n\r\n").await;
    assert_eq!((detection.status(), detection.field("metadata-flavor")), (200, Some("Google")));
}

#[tokio::test]
async fn requests_that_no_sdk_sends_are_refused() {
    let bed = Bed::start().await;
    let path = "/computeMetadata/v1/instance/service-accounts/default/token";
    let flavor = "Metadata-Flavor: Google\r\n";
    let host = "Host: metadata.google.internal\r\n";
    for (request, status) in [
        (format!("GET {path} HTTP/1.1\r\n{host}\r\n"), 403),
        (format!("GET {path} HTTP/1.1\r\n{host}Metadata-Flavor: google\r\n\r\n"), 403),
        (format!("GET {path} HTTP/1.1\r\n{host}{flavor}{flavor}\r\n"), 400),
        (format!("GET {path} HTTP/1.1\r\nHost: evil.test\r\n{flavor}\r\n"), 404),
        (format!("GET {path} HTTP/1.1\r\nHost: metadata.google.internal:8080\r\n{flavor}\r\n"), 404),
        (format!("GET {path} HTTP/1.1\r\n{host}{host}{flavor}\r\n"), 400),
        (format!("GET {path} HTTP/1.1\r\n{flavor}\r\n"), 400),
        (format!("GET {path} HTTP/1.1\r\n{host}{flavor}X-Forwarded-For: 10.0.0.1\r\n\r\n"), 403),
        (format!("GET {path} HTTP/1.1\r\n{host}{flavor}Origin: https://evil.test\r\n\r\n"), 403),
        (format!("GET {path} HTTP/1.1\r\n{host}{flavor}Sec-Fetch-Mode: cors\r\n\r\n"), 403),
        (format!("GET {path} HTTP/1.1\r\n{host}{flavor}Via: 1.1 x\r\n\r\n"), 403),
        (format!("POST {path} HTTP/1.1\r\n{host}{flavor}Content-Length: 0\r\n\r\n"), 405),
        (format!("GET http://evil.test{path} HTTP/1.1\r\n{host}{flavor}\r\n"), 421),
        (format!("GET {path} HTTP/1.0\r\n{host}{flavor}\r\n"), 505),
        (format!("GET //computeMetadata/v1/instance/service-accounts/default/token HTTP/1.1\r\n{host}\r\n"), 404),
        (format!("CONNECT storage.googleapis.com:443 HTTP/1.1\r\n{host}{flavor}\r\n"), 405),
    ] {
        let answer = ask(&bed, &request).await;
        assert_eq!(answer.status(), status, "{request}: {}", answer.head);
        let placeholder = bed.placeholder();
        assert!(!String::from_utf8_lossy(&answer.body).contains(&placeholder), "{request}");
    }
}

#[tokio::test]
async fn real_tokens_are_handed_out_only_where_the_configuration_says_so() {
    let bed = Bed::with(|settings| settings.metadata = Metadata::Token).await;
    bed.exchanges_reach(1).await;
    eventually("a token", || bed.ground.ready.is_ready()).await;
    let answer = value(&bed, "instance/service-accounts/default/token").await;
    let token: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(token["access_token"], bed.only_token());
    let left = token["expires_in"].as_u64().unwrap();
    assert!((3500..3600).contains(&left), "{left}");
}

#[tokio::test]
async fn it_is_not_reached_through_the_proxy() {
    let bed = Bed::start().await;
    let own = bed.addresses.metadata.unwrap();
    for host in ["metadata.google.internal".to_owned(), "169.254.169.254".to_owned(), own.to_string()] {
        let mut stream = raw::proxy(&bed).await;
        let path = "computeMetadata/v1/instance/service-accounts/default/token";
        let head = format!("GET http://{host}/{path} HTTP/1.1\r\nHost: {host}\r\nMetadata-Flavor: Google\r\n\r\n");
        raw::write(&mut stream, head.as_bytes()).await;
        assert_eq!(raw::answer(&mut stream).await.status(), 403, "{host}");
    }
}

#[tokio::test]
async fn an_id_token_from_the_metadata_door_opens_the_route_that_gives_the_real_one() {
    const HOST: &str = "service-abc.a.run.app";
    let world = World::new().await;
    let google = world.google.address();
    let bed = world.start(|settings| {
        let hosts = vec![HostPattern::parse("*.run.app").unwrap()];
        let run = Route {
            name: "run".to_owned(),
            token: TokenKind::Id,
            client_authorization: ClientAuthorization::Require,
            ..Route::google_apis(hosts.clone())
        };
        let routes = vec![run, Route::google_apis(apis())];
        settings.policy = Policy::new(routes, Unmatched::Pass, [apis(), hosts].concat());
        send_below(settings, "run.app", google);
    });
    bed.exchanges_reach(1).await;
    let identity =
        |audience: &str| format!("instance/service-accounts/default/identity?audience={audience}&format=full");
    let answer = value(&bed, &identity(&format!("https://{HOST}"))).await;
    let token = String::from_utf8(answer.body).unwrap();
    assert!(token.ends_with('.') && token.len() > 100, "unsigned: {token}");
    assert_eq!(value(&bed, &identity("https://elsewhere.example.com")).await.status(), 403);
    for door in DOORS {
        let mut client = bed.client(door, HOST).await;
        let bearer = format!("Bearer {token}");
        assert_eq!(client.call(get_with("/echo", &[("authorization", &bearer)])).await.status(), 200, "{door:?}");
        let last = bed.last();
        assert_eq!(last.token.unwrap().audience, Some(format!("https://{HOST}")));
        assert_ne!(last.headers["authorization"], bearer);
        assert_eq!(client.call(get_with("/echo", &[])).await.status(), 401, "{door:?}: nobody asked for it");
    }
}

#[tokio::test]
async fn where_tokens_are_handed_out_so_are_id_tokens_for_the_audiences_of_routes() {
    let world = World::new().await;
    let bed = world.start(|settings| {
        settings.metadata = Metadata::Token;
        let hosts = vec![HostPattern::parse("*.run.app").unwrap()];
        let run = Route { name: "run".to_owned(), token: TokenKind::Id, ..Route::google_apis(hosts.clone()) };
        settings.policy = Policy::new(vec![run], Unmatched::Pass, [apis(), hosts].concat());
    });
    bed.exchanges_reach(1).await;
    let path = "instance/service-accounts/default/identity?audience=https://one.run.app";
    let answer = value(&bed, path).await;
    let given = String::from_utf8(answer.body).unwrap();
    let issued = bed.google.tokens().into_iter().find(|(text, _)| *text == given).expect("a token of Google's").1;
    assert_eq!(issued.audience.as_deref(), Some("https://one.run.app"));
}

#[tokio::test]
async fn it_says_who_we_are_also_beside_a_key_of_another_project() {
    let world = World::new().await;
    let other = world.google.add_account("robot@elsewhere.iam.gserviceaccount.com", "elsewhere").unwrap();
    let bed = world.start(|_| {});
    bed.exchanges_reach(1).await;
    eventually("a token", || bed.ground.ready.is_ready()).await;
    bed.publish("..second", &[("key.json", other.json())]);
    eventually("the refusal", || {
        bed.metric("key_load_failures_total{credential=\"default\",reason=\"wrong_project\"}") > 0
    })
    .await;
    let email = value(&bed, "instance/service-accounts/default/email").await;
    let project = value(&bed, "project/project-id").await;
    let told = (String::from_utf8(email.body).unwrap(), String::from_utf8(project.body).unwrap());
    assert_eq!(told, (ACCOUNT.to_owned(), PROJECT.to_owned()));
}
