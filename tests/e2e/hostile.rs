//! What a hostile application, upstream or neighbour tries, beyond what the other files hold.

use bearerd::{
    demo::RecordingHost,
    policy::{Action, HostPattern, Policy, Route, Unmatched},
};
use http::Request;
use tokio::{io::AsyncReadExt as _, net::TcpStream};

use crate::{
    bed::{Bed, STORAGE, World, apis, routed, send_to},
    client::{Door, empty, get, with, within},
    raw,
};

#[tokio::test]
async fn h2_streams_are_held_to_what_the_gate_asks_of_http1() {
    let bed = Bed::start().await;
    for (method, status, reason) in
        [("TRACE", 405, "method_refused"), ("TRACK", 405, "method_refused"), ("CONNECT", 405, "connect_inside")]
    {
        let mut client = bed.client(Door::InterceptH2, STORAGE).await;
        let request = Request::builder().method(method).uri("/echo").body(empty()).unwrap();
        let response = client.send(request).await;
        assert_eq!(response.status(), status, "{method}");
        assert_eq!(response.headers()["x-bearerd-error"], reason, "{method}");
        assert_eq!(bed.google.request_count(), 0, "{method} went upstream");
        assert!(bed.refused(reason) > 0, "{method} is counted");
    }
    let mut client = bed.client(Door::InterceptH2, STORAGE).await;
    for field in [("authorization_", "Bearer x"), ("x_goog_user_project", "payer")] {
        assert_eq!(client.call(with(get("/echo"), &[field])).await.status(), 400, "{field:?}");
    }
    assert_eq!(bed.google.request_count(), 0);
    assert_eq!(client.call(get("/echo")).await.status(), 200, "the connection serves on");
}

#[tokio::test]
async fn after_alpn_h2_anything_but_its_preface_closes_the_connection() {
    let bed = Bed::start().await;
    for first in ["GET / HTTP/1.1\r\nHost: storage.googleapis.com\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"] {
        let mut stream = bed.connect(STORAGE, &[b"h2"]).await;
        raw::write(&mut stream, first.as_bytes()).await;
        let answer = raw::rest(&mut stream).await;
        assert!(!answer.starts_with(b"HTTP/"), "an HTTP/1 answer on an HTTP/2 connection");
    }
    assert_eq!(bed.google.request_count(), 0);
}

/// The pod's CA is older than the configuration, or narrower: then nobody sees inside.
#[tokio::test]
async fn a_deny_that_cannot_be_looked_into_is_no_tunnel() {
    let deny = |paths: &[&str]| Route {
        name: "never".to_owned(),
        hosts: vec![HostPattern::parse("partner.test").unwrap()],
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        action: Action::Deny,
        ..Route::google_apis(apis())
    };
    for paths in [&["/admin"][..], &[]] {
        let bed = Bed::with(|settings| {
            settings.policy = Policy::new(vec![deny(paths), Route::google_apis(apis())], Unmatched::Pass, apis());
        })
        .await;
        let refusal = bed.tunnel("partner.test:443").await.unwrap_err();
        assert_eq!((refusal.status(), refusal.field("x-bearerd-error")), (403, Some("route")), "{paths:?}");
    }
}

/// A tunnel outlives the connection that it came out of; uncounted, tunnels would have no bound.
#[tokio::test]
async fn tunnels_count_among_the_connections_that_may_be_open() {
    let bed = Bed::with(|settings| settings.most_clients = 1).await;
    for alpn in [&b"h2"[..], b"http/1.1"] {
        let mut first = bed.connect(STORAGE, &[alpn]).await;
        // It asks for nothing, so it makes room for one that does; if it did not count, both would stay.
        let mut second = raw::proxy(&bed).await;
        raw::write(&mut second, b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        assert_eq!(raw::answer(&mut second).await.status(), 204);
        let mut bytes = [0; 1024];
        // HTTP/2 has said something of its own before.
        within("the end of the first", async { while let Ok(1..) = first.read(&mut bytes).await {} }).await;
    }
}

#[tokio::test]
async fn tunnels_that_are_carried_unseen_count_too() {
    let world = World::new().await;
    let host = RecordingHost::start(&world.tasks, None).await.unwrap();
    let bed = world.start(|settings| {
        settings.most_clients = 1;
        send_to(settings, "www.example.test", 443, host.address());
    });
    let first = bed.tunnel("www.example.test:443").await.unwrap();
    holds_the_only_seat(&bed, first).await;
}

/// The next client is served when `first` has gone, and not before.
async fn holds_the_only_seat<T>(bed: &Bed, first: T) {
    let mut second = raw::proxy(bed).await;
    raw::write(&mut second, b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    // Far longer than an answer would take, without a clock.
    for _ in 0..20 {
        let mut probe = TcpStream::connect(bed.addresses.health.unwrap()).await.unwrap();
        raw::write(&mut probe, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert_eq!(raw::answer(&mut probe).await.status(), 200);
    }
    assert_eq!(second.try_read(&mut [0; 1]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    drop(first);
    assert_eq!(raw::answer(&mut second).await.status(), 204);
}

/// The health port is open to the cluster: who only holds connections must not make the kubelet's probes fail.
#[tokio::test]
async fn silent_connections_do_not_keep_probes_out() {
    let bed = Bed::start().await;
    let health = bed.addresses.health.unwrap();
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(TcpStream::connect(health).await.unwrap());
    }
    let mut probe = TcpStream::connect(health).await.unwrap();
    raw::write(&mut probe, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(raw::answer(&mut probe).await.status(), 200);
    assert!(bed.metric("connections_active{door=\"health\"}") <= 16);
}

/// Upstreams choose the names in their certificates; a thousand of them are no error message.
#[tokio::test]
async fn a_certificate_for_many_other_names_is_refused_in_few_words() {
    let world = World::new().await;
    let names: Vec<String> = (0..1000).map(|number| format!("marker-{number}.test")).collect();
    let (address, ca) = impostor(&world, names).await;
    let bed = world.start(|settings| {
        settings.upstream.extra_roots.get_or_insert_default().extend(ca.into_bytes());
        send_to(settings, STORAGE, 443, address);
    });
    for door in [Door::Forward, Door::InterceptH2] {
        let response = bed.client(door, STORAGE).await.call(get("/echo")).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["x-bearerd-error"]),
            (502, &"certificate".parse().unwrap())
        );
        let body = String::from_utf8_lossy(response.body()).into_owned();
        assert!(body.contains("it is for other names") && !body.contains("marker") && body.len() < 1024, "{body}");
    }
}

/// A TLS server's settings with a certificate for these names only, and the CA that vouches for them.
pub(crate) fn server_tls(names: Vec<String>) -> (rustls::ServerConfig, String) {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(names).unwrap();
    let leaf = leaf.signed_by(&key, &rcgen::Issuer::from_params(&ca, &ca_key)).unwrap();
    let der = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(bearerd::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.into()], der)
        .unwrap();
    (config, ca_pem)
}

/// TLS for these names, and the CA that vouches for them.
pub(crate) fn identity(names: Vec<String>) -> (tokio_rustls::TlsAcceptor, String) {
    let (config, ca) = server_tls(names);
    (tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config)), ca)
}

/// A TLS server whose certificate, from a CA that is trusted, is for these names only.
async fn impostor(world: &World, names: Vec<String>) -> (std::net::SocketAddr, String) {
    let (acceptor, ca) = identity(names);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    world.tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = acceptor.accept(stream).await;
        }
    });
    (address, ca)
}

/// `exec` on a machine with other users: loopback is theirs too.
#[tokio::test]
async fn a_proxy_with_a_password_serves_only_those_who_give_it_and_keeps_it() {
    use base64::Engine as _;
    let bed = Bed::with(|settings| settings.password = Some("bearerd:secret".to_owned().into())).await;
    let basic = |text: &str| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text));
    let right = basic("bearerd:secret");
    for (given, served) in [
        (None, false),
        (Some(basic("bearerd:secreT")), false),
        (Some(basic("bearerd:secret2")), false),
        (Some(basic("bearerd:")), false),
        (Some("Bearer bearerd:secret".to_owned()), false),
        (Some("Basic bearerd:secret".to_owned()), false),
        (Some(right.clone()), true),
        (Some(right.replace("Basic", "bASIC")), true),
    ] {
        let field = given.as_ref().map(|given| format!("Proxy-Authorization: {given}\r\n")).unwrap_or_default();
        for request in [
            format!("GET http://{STORAGE}/echo HTTP/1.1\r\nHost: {STORAGE}\r\n{field}\r\n"),
            format!("CONNECT {STORAGE}:443 HTTP/1.1\r\nHost: {STORAGE}:443\r\n{field}\r\n"),
            format!("OPTIONS * HTTP/1.1\r\nHost: x\r\n{field}\r\n"),
        ] {
            let seen = bed.google.request_count();
            let mut stream = raw::proxy(&bed).await;
            raw::write(&mut stream, request.as_bytes()).await;
            let answer = raw::answer(&mut stream).await;
            assert_eq!(answer.status() < 300, served, "{given:?} {request}");
            if !served {
                let close = (answer.status(), answer.field("proxy-authenticate"), answer.field("connection"));
                assert_eq!(close, (407, Some("Basic realm=\"bearerd\""), Some("close")));
                assert_eq!(bed.google.request_count(), seen);
            }
        }
    }
    assert!(bed.google.requests().iter().all(|seen| !seen.headers.contains_key("proxy-authorization")));
}

/// What the client lists in `Connection` is taken off before we write, never after.
#[tokio::test]
async fn a_connection_field_cannot_take_the_token_off_again() {
    let bed = Bed::with(|settings| {
        routed(settings, |route| route.header = http::HeaderName::from_static("x-own-token"));
    })
    .await;
    for door in [Door::Forward, Door::InterceptH1] {
        let fields = [("connection", "X-Own-Token, x-other"), ("x-own-token", "mine"), ("x-other", "1")];
        assert_eq!(bed.client(door, STORAGE).await.call(with(get("/echo"), &fields)).await.status(), 401);
        let seen = bed.last().headers;
        assert_eq!(seen.get_all("x-own-token").iter().collect::<Vec<_>>(), [&bed.only_token()], "{door:?}");
        assert!(!seen.contains_key("x-other") && !seen.contains_key("connection"));
    }
}
