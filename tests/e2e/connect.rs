//! CONNECT: intercepted, carried unseen, or refused; and what a client may send behind it.

use bearerd::{
    authority::Authority,
    demo::{Certificate, Protocols, RecordingHost},
    net::parent::ParentProxy,
    policy::{HostPattern, Policy, Route, Unmatched},
    secret::Secret,
};
use bytes::Bytes;
use rustls::{AlertDescription, Error};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    bed::{Bed, STORAGE, World, apis, default_policy, handshake, send_to},
    client::{DOORS, Door, eventually, get, get_with, recorded, within},
    parent::Parent,
    raw,
};

#[tokio::test]
async fn the_200_of_connect_has_no_fields_that_end_a_tunnel() {
    let bed = Bed::start().await;
    let mut stream = raw::proxy(&bed).await;
    raw::write(&mut stream, b"CONNECT storage.googleapis.com:443 HTTP/1.1\r\nHost: storage.googleapis.com:443\r\n\r\n")
        .await;
    let answer = raw::answer(&mut stream).await;
    assert_eq!(answer.status(), 200);
    for field in ["connection", "content-length", "transfer-encoding"] {
        assert_eq!(answer.field(field), None);
    }
}

#[tokio::test]
async fn a_tunnel_carries_bytes_unseen_and_adds_nothing() {
    let world = World::new().await;
    let host = RecordingHost::start(&world.tasks, Some(Bytes::from_static(b"pong"))).await.unwrap();
    let bed = world.start(|settings| {
        send_to(settings, "db.internal.test", 5432, host.address());
        send_to(settings, "www.example.test", 443, host.address());
    });
    bed.exchanges_reach(1).await;
    for target in ["db.internal.test:5432", "www.example.test:443"] {
        let mut stream = bed.tunnel(target).await.unwrap();
        // What looks like a request to Google is nobody's business in here.
        let sent = format!("GET http://{STORAGE}/ HTTP/1.1\r\nAuthorization: Bearer x\r\n\r\n");
        raw::write(&mut stream, sent.as_bytes()).await;
        let mut answer = [0; 4];
        within("an answer", stream.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"pong");
        stream.shutdown().await.unwrap();
        assert_eq!(raw::rest(&mut stream).await, b"");
        recorded(&host, |all| all.iter().all(|connection| connection.closed)).await;
        assert_eq!(host.connections().pop().unwrap().bytes, sent.as_bytes());
    }
    assert!(!host.saw(bed.only_token().as_bytes()));
}

#[tokio::test]
async fn an_intercepted_host_is_not_dialled_before_there_is_a_request() {
    let bed = Bed::start().await;
    bed.exchanges_reach(1).await;
    let stream = bed.connect(STORAGE, &[b"h2", b"http/1.1"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(bed.google.connections(), 1, "the exchange's alone");
}

#[tokio::test]
async fn the_leaf_has_one_name_and_chains_to_the_pods_ca() {
    let bed = Bed::start().await;
    let stream = bed.connect("STORAGE.googleapis.com", &[b"h2"]).await;
    let chain = stream.get_ref().1.peer_certificates().unwrap();
    let (_, leaf) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
    let names = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(format!("{names:?}"), "[DNSName(\"storage.googleapis.com\")]");
}

#[tokio::test]
async fn sni_must_be_the_name_of_the_connect() {
    let bed = Bed::start().await;
    for name in ["pubsub.googleapis.com", "evil.test", "googleapis.com"] {
        let stream = bed.tunnel("storage.googleapis.com:443").await.unwrap();
        let error = bed.handshake(stream, name, &[b"h2"]).await.unwrap_err();
        assert_eq!(alert(&error), Some(AlertDescription::UnrecognisedName), "{name}: {error}");
    }
    eventually("the count", || bed.refused("sni") == 3).await;
    assert_eq!(bed.google.request_count(), 0);
}

#[tokio::test]
async fn a_client_without_sni_can_only_mean_the_name_of_the_connect() {
    let bed = Bed::start().await;
    let mut config = bed.client_tls(&[b"http/1.1"]);
    config.enable_sni = false;
    let stream = bed.tunnel("storage.googleapis.com:443").await.unwrap();
    let mut stream = handshake(stream, config, STORAGE).await.unwrap();
    raw::write(&mut stream, b"GET /echo HTTP/1.1\r\nHost: storage.googleapis.com\r\n\r\n").await;
    assert_eq!(raw::answer(&mut stream).await.status(), 200);
}

#[tokio::test]
async fn alpn_is_h2_or_http11_and_nothing_is_guessed() {
    let bed = Bed::start().await;
    bed.exchanges_reach(1).await;
    for (offered, chosen) in [
        (&["grpc-exp", "h2"][..], Some("h2")),
        (&["http/1.1", "h2"], Some("h2")),
        (&["http/1.0", "http/1.1"], Some("http/1.1")),
        (&["http/1.1"], Some("http/1.1")),
        (&[], None),
    ] {
        let alpn: Vec<&[u8]> = offered.iter().map(|name| name.as_bytes()).collect();
        let stream = bed.connect(STORAGE, &alpn).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), chosen.map(str::as_bytes), "{offered:?}");
    }
    let stream = bed.tunnel("storage.googleapis.com:443").await.unwrap();
    let error = bed.handshake(stream, STORAGE, &[b"grpc-exp"]).await.unwrap_err();
    assert_eq!(alert(&error), Some(AlertDescription::NoApplicationProtocol), "{error}");
    eventually("the count", || bed.refused("alpn") == 1).await;
    assert_eq!(bed.google.connections(), 1, "no upstream connection for any of them");
}

#[tokio::test]
async fn a_client_that_offers_no_alpn_speaks_http11() {
    let bed = Bed::start().await;
    let mut stream = bed.connect(STORAGE, &[]).await;
    raw::write(&mut stream, b"GET /echo HTTP/1.1\r\nHost: storage.googleapis.com\r\n\r\n").await;
    assert_eq!(raw::answer(&mut stream).await.status(), 200);
    assert!(bed.last().admission.is_good());
}

#[tokio::test]
async fn h2_without_alpn_is_not_served() {
    let bed = Bed::start().await;
    let mut stream = bed.connect(STORAGE, &[]).await;
    raw::write(&mut stream, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    let answer = raw::answer(&mut stream).await;
    assert_eq!((answer.status(), bed.google.request_count()), (400, 0));
}

#[tokio::test]
async fn a_hello_that_comes_with_the_connect_is_not_lost() {
    let bed = Bed::start().await;
    let mut stream = raw::proxy(&bed).await;
    // The client's TLS writes into memory first, so that its hello can be glued behind the CONNECT.
    let name = rustls::pki_types::ServerName::try_from(STORAGE).unwrap();
    let mut tls = rustls::ClientConnection::new(bed.client_tls(&[b"http/1.1"]).into(), name).unwrap();
    let mut first = b"CONNECT storage.googleapis.com:443 HTTP/1.1\r\nHost: storage.googleapis.com:443\r\n\r\n".to_vec();
    tls.write_tls(&mut first).unwrap();
    raw::write(&mut stream, &first).await;
    assert_eq!(raw::answer(&mut stream).await.status(), 200);
    while tls.is_handshaking() {
        let mut bytes = vec![0; 16 * 1024];
        let read = within("the server's hello", stream.read(&mut bytes)).await.unwrap();
        assert_ne!(read, 0);
        tls.read_tls(&mut &bytes[..read]).unwrap();
        tls.process_new_packets().unwrap();
        let mut out = Vec::new();
        tls.write_tls(&mut out).unwrap();
        raw::write(&mut stream, &out).await;
    }
    assert_eq!(tls.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[tokio::test]
async fn a_connect_in_pieces_is_a_connect() {
    let bed = Bed::start().await;
    let mut stream = raw::proxy(&bed).await;
    for byte in b"CONNECT storage.googleapis.com:443 HTTP/1.1\r\nHost: storage.googleapis.com:443\r\n\r\n" {
        raw::write(&mut stream, &[*byte]).await;
    }
    assert_eq!(raw::answer(&mut stream).await.status(), 200);
}

#[tokio::test]
async fn what_is_not_tls_gets_no_token() {
    let bed = Bed::start().await;
    bed.exchanges_reach(1).await;
    let request = format!("GET /echo HTTP/1.1\r\nHost: {STORAGE}\r\n\r\n");
    for bytes in
        [request.as_bytes(), b"SSH-2.0-OpenSSH_9.6\r\n", b"EHLO x\r\n", &[0; 64], &[22, 3, 1, 0, 5, 1, 2, 3, 4, 5]]
    {
        let mut stream = bed.tunnel("storage.googleapis.com:443").await.unwrap();
        raw::write(&mut stream, bytes).await;
        let answer = raw::rest(&mut stream).await;
        assert!(!answer.starts_with(b"HTTP"), "nothing of HTTP is spoken in clear in there");
    }
    assert_eq!((bed.google.connections(), bed.google.request_count()), (1, 0));
}

#[tokio::test]
async fn tls_on_the_proxy_port_itself_is_closed_and_counted() {
    let bed = Bed::start().await;
    let stream = raw::proxy(&bed).await;
    assert!(within("an end", bed.handshake(stream, STORAGE, &[b"h2"])).await.is_err());
    eventually("the count", || bed.refused("tls_on_proxy_port") == 1).await;
    assert_eq!(bed.google.request_count(), 0);
}

/// Spellings of loopback, of the link, of the metadata server, and of what looks like them to some reader.
const LOCAL: &[&str] = &[
    "127.0.0.1",
    "127.1.2.3",
    "0.0.0.0",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "a.localhost",
    "localhost.localdomain",
    "ip6-loopback",
    "ip6-localhost",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:0:0:1]",
    "[64:ff9b::7f00:1]",
    "[::127.0.0.1]",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "127.1",
    "017700000001",
    "127.0.1",
    "0",
    "169.254.169.254",
    "[::ffff:169.254.169.254]",
    "2852039166",
    "0xa9fea9fe",
    "169.254.43518",
    "0251.0376.0251.0376",
    "[64:ff9b::a9fe:a9fe]",
    "[fd20:ce::254]",
    "[fd20:00ce:0:0:0:0:0:254]",
    "metadata",
    "metadata.google.internal",
    "METADATA.google.internal.",
    "metadata.goog",
    "[fe80::1]",
    "[fe80::1%25eth0]",
    "224.0.0.1",
    "[ff02::1]",
    "255.255.255.255",
    "127.000.000.001",
    "0x7f.0.0.1",
    "0177.1",
    "127.0.0.1.",
    "0x0",
    "0.1.2.3",
    "0xa9.0xfe.0xa9.0xfe",
    "169.254.169.254.",
    "169.254.170.2",
    "[::ffff:0:127.0.0.1]",
    "[0:0:0:0:0:ffff:127.0.0.1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2002:a9fe:a9fe::1]",
    "[::ffff:a9fe:a9fe]",
    "[FD20:CE::254]",
    "239.255.255.250",
    "[ff01::1]",
    "localhost.localdomain.",
    "x.y.LOCALHOST.",
    "metadata.goog.",
    "Metadata",
    "127.0.0.1@storage.googleapis.com",
    "\u{2460}27.0.0.1",
    "127\u{3002}0.0.1",
];

#[tokio::test]
async fn local_addresses_are_refused_in_every_spelling_without_a_connect() {
    let world = World::new().await;
    let victim = RecordingHost::start(&world.tasks, None).await.unwrap();
    let port = victim.address().port();
    let bed = world.start(|_| {});
    let own = bed.addresses;
    let mut targets: Vec<String> = LOCAL.iter().map(|host| format!("{host}:{port}")).collect();
    for address in [own.proxy, own.metadata, own.health, own.control].into_iter().flatten() {
        targets.push(address.to_string());
        targets.push(format!("localhost:{}", address.port()));
    }
    for target in targets {
        let refused = bed.tunnel(&target).await.expect_err(&target);
        assert!(matches!(refused.status(), 400 | 403), "{target}: {}", refused.head);
        let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
        for (scheme, more) in [("http", ""), ("https", ""), ("http", websocket), ("https", websocket)] {
            let mut stream = raw::proxy(&bed).await;
            let head = format!("GET {scheme}://{target}/ HTTP/1.1\r\nHost: {target}\r\n{more}\r\n");
            raw::write(&mut stream, head.as_bytes()).await;
            let refused = raw::answer(&mut stream).await;
            assert!(matches!(refused.status(), 400 | 403), "{scheme} {target}: {}", refused.head);
        }
    }
    assert_eq!(victim.connection_count(), 0);
    assert_eq!(bed.metric("connections_active{door=\"tunnel\"}"), 0);
}

#[tokio::test]
async fn malformed_connects_are_refused_and_close() {
    let bed = Bed::start().await;
    bed.exchanges_reach(1).await;
    for (target, status) in [
        ("storage.googleapis.com", 400),
        ("storage.googleapis.com:", 400),
        ("storage.googleapis.com:0", 400),
        ("storage.googleapis.com:65536", 400),
        ("storage.googleapis.com:+443", 400),
        ("storage.googleapis.com:0443", 400),
        ("storage.googleapis.com:abc", 400),
        ("storage.googleapis.com@evil.test:443", 400),
        ("evil.test@storage.googleapis.com:443", 400),
        ("http://storage.googleapis.com:443", 400),
        ("storage.googleapis.com:443/", 400),
        ("storage..googleapis.com:443", 400),
        (".googleapis.com:443", 400),
        ("[storage.googleapis.com]:443", 400),
        ("[::1%25.googleapis.com]:443", 400),
        ("evil.test#.googleapis.com:443", 400),
        ("evil.test?.googleapis.com:443", 400),
        ("evil.test\\.googleapis.com:443", 400),
        ("evil.test;.googleapis.com:443", 400),
        ("evil.test,.googleapis.com:443", 400),
        ("*.googleapis.com:443", 400),
        ("st%6frage.googleapis.com:443", 400),
        ("/", 400),
        ("*", 400),
        // Well-formed: refused behind the gate, which is sealed by then.
        ("pubsub.googleapis.com:443", 421),
    ] {
        let mut stream = raw::proxy(&bed).await;
        let head = format!("CONNECT {target} HTTP/1.1\r\nHost: storage.googleapis.com:443\r\n\r\n");
        // What was sent behind a refused CONNECT must never be read as a request.
        let behind = format!("GET http://{STORAGE}/echo HTTP/1.1\r\nHost: {STORAGE}\r\n\r\n");
        raw::write(&mut stream, format!("{head}{behind}").as_bytes()).await;
        let answer = raw::answer(&mut stream).await;
        assert_eq!(answer.status(), status, "{target}");
        assert_eq!(answer.field("connection"), Some("close"), "{target}");
        assert_eq!(raw::rest(&mut stream).await, b"", "{target}");
    }
    assert_eq!((bed.google.request_count(), bed.google.connections()), (0, 1));
}

/// Whatever the reason: a client that talks on believes in a tunnel that is not there.
#[tokio::test]
async fn what_follows_a_connect_that_failed_is_never_a_request() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let bed = Bed::with(|settings| {
        send_to(settings, "gone.example.test", 443, gone);
        let never = Route {
            name: "never".to_owned(),
            action: bearerd::policy::Action::Deny,
            ..Route::google_apis(vec![HostPattern::parse("never.example.test").unwrap()])
        };
        settings.policy = Policy::new(vec![never, Route::google_apis(apis())], Unmatched::Pass, apis());
    })
    .await;
    bed.exchanges_reach(1).await;
    let behind = format!("GET http://{STORAGE}/echo HTTP/1.1\r\nHost: {STORAGE}\r\n\r\n");
    for (target, host, status) in [
        ("127.0.0.1:443", "127.0.0.1:443", 403),
        ("metadata.google.internal:80", "metadata.google.internal:80", 403),
        ("never.example.test:443", "never.example.test:443", 403),
        ("gone.example.test:443", "gone.example.test:443", 502),
        ("storage.googleapis.com:443", "evil.test:443", 421),
        ("storage.googleapis.com", "storage.googleapis.com", 400),
    ] {
        let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        for glued in [true, false] {
            let mut stream = raw::proxy(&bed).await;
            let first = if glued { format!("{head}{behind}{behind}") } else { head.clone() };
            raw::write(&mut stream, first.as_bytes()).await;
            let answer = raw::answer(&mut stream).await;
            assert_eq!((answer.status(), answer.field("connection")), (status, Some("close")), "{target}");
            raw::write(&mut stream, behind.as_bytes()).await;
            assert_eq!(raw::rest(&mut stream).await, b"", "{target} {glued}");
        }
    }
    // Behind one that succeeded it is not TLS, and gets no answer either.
    let mut stream = raw::proxy(&bed).await;
    let head = format!("CONNECT {STORAGE}:443 HTTP/1.1\r\nHost: {STORAGE}:443\r\n\r\n{behind}");
    raw::write(&mut stream, head.as_bytes()).await;
    assert_eq!(raw::answer(&mut stream).await.status(), 200);
    assert!(!raw::rest(&mut stream).await.starts_with(b"HTTP"));
    assert_eq!((bed.google.request_count(), bed.google.connections()), (0, 1));
}

#[tokio::test]
async fn a_connect_with_a_body_or_another_host_is_refused() {
    let bed = Bed::start().await;
    for (fields, status) in [
        ("Host: storage.googleapis.com:443\r\nContent-Length: 0\r\n", 400),
        ("Host: storage.googleapis.com:443\r\nContent-Length: 5\r\n", 400),
        ("Host: storage.googleapis.com:443\r\nTransfer-Encoding: chunked\r\n", 400),
        ("Host: evil.test:443\r\n", 421),
        ("Host: storage.googleapis.com:8443\r\n", 421),
        ("", 400),
    ] {
        let mut stream = raw::proxy(&bed).await;
        let head = format!("CONNECT storage.googleapis.com:443 HTTP/1.1\r\n{fields}\r\n");
        raw::write(&mut stream, head.as_bytes()).await;
        assert_eq!(raw::answer(&mut stream).await.status(), status, "{fields}");
        assert_eq!(raw::rest(&mut stream).await, b"", "{fields}");
    }
}

#[tokio::test]
async fn unmatched_hosts_are_refused_where_the_configuration_says_so() {
    let world = World::new().await;
    let host = RecordingHost::start(&world.tasks, None).await.unwrap();
    let bed = world.start(|settings| {
        settings.policy = default_policy(Unmatched::Deny);
        send_to(settings, "www.example.test", 443, host.address());
    });
    let refused = bed.tunnel("www.example.test:443").await.unwrap_err();
    assert_eq!((refused.status(), refused.field("x-bearerd-error")), (403, Some("unmatched")));
    assert_eq!(host.connection_count(), 0);
    assert_eq!(bed.client(Door::InterceptH1, STORAGE).await.call(get("/echo")).await.status(), 200);
}

#[tokio::test]
async fn a_host_that_a_route_passes_is_carried_unseen_and_one_that_it_denies_is_told_inside() {
    let world = World::new().await;
    let host = RecordingHost::start(&world.tasks, None).await.unwrap();
    let bed = world.start(|settings| {
        let route = |name: &str, host: &str, action| Route {
            name: name.to_owned(),
            action,
            ..Route::google_apis(vec![HostPattern::parse(host).unwrap()])
        };
        let routes = vec![
            route("own", "own.googleapis.com", bearerd::policy::Action::Pass),
            route("never", "never.googleapis.com", bearerd::policy::Action::Deny),
            Route::google_apis(apis()),
        ];
        settings.policy = Policy::new(routes, Unmatched::Pass, apis());
        send_to(settings, "own.googleapis.com", 443, host.address());
    });
    let mut stream = bed.tunnel("own.googleapis.com:443").await.unwrap();
    raw::write(&mut stream, b"unseen").await;
    recorded(&host, |all| all.iter().any(|connection| connection.bytes == b"unseen")).await;
    for door in [Door::InterceptH1, Door::InterceptH2] {
        let response = bed.client(door, "never.googleapis.com").await.call(get("/echo")).await;
        assert_eq!(
            (response.status().as_u16(), response.headers()["x-bearerd-error"].to_str().unwrap()),
            (403, "route")
        );
    }
    assert_eq!(bed.google.request_count(), 0);
}

#[tokio::test]
async fn an_upstream_that_does_not_prove_its_name_gets_not_one_byte_of_a_request() {
    for (certificate, label) in [
        (Certificate::WrongName, "certificate"),
        (Certificate::Expired, "certificate"),
        (Certificate::Untrusted, "certificate"),
    ] {
        let bed = Bed::start().await;
        bed.google.certificate(STORAGE, certificate);
        for door in DOORS {
            let response = bed.client(door, STORAGE).await.call(get_with("/echo", &[("x-marker", "m")])).await;
            assert_eq!(response.status(), 502, "{door:?} {certificate:?}");
            assert_eq!(response.headers()["x-bearerd-error"], label, "{door:?} {certificate:?}");
        }
        assert_eq!((bed.google.request_count(), bed.google.failed_handshakes()), (0, 3), "{certificate:?}");
        assert_eq!(bed.metric("upstream_connect_errors_total{reason=\"certificate\"}"), 3);
        bed.google.certificate(STORAGE, Certificate::Right);
        assert_eq!(bed.client(Door::InterceptH2, STORAGE).await.call(get("/echo")).await.status(), 200);
    }
}

#[tokio::test]
async fn plain_text_where_tls_should_be_gets_not_one_byte_of_a_request() {
    let world = World::new().await;
    let plain = RecordingHost::start(&world.tasks, Some(Bytes::from_static(b"HTTP/1.1 200 OK\r\n\r\n"))).await.unwrap();
    let bed = world.start(|settings| send_to(settings, "plain.googleapis.com", 443, plain.address()));
    let response = bed.client(Door::Forward, "plain.googleapis.com").await.call(get("/secret-path")).await;
    assert_eq!((response.status().as_u16(), response.headers()["x-bearerd-error"].to_str().unwrap()), (502, "tls"));
    assert!(!plain.saw(b"secret-path") && !plain.saw(b"Bearer"));
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_a_502_inside_the_tunnel() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let bed = Bed::with(|settings| {
        send_to(settings, "gone.googleapis.com", 443, gone);
        send_to(settings, "gone.example.test", 443, gone);
    })
    .await;
    for door in DOORS {
        let response = bed.client(door, "gone.googleapis.com").await.call(get("/")).await;
        assert_eq!(
            (response.status().as_u16(), response.headers()["x-bearerd-error"].to_str().unwrap()),
            (502, "connect")
        );
    }
    // A tunnel is dialled before its 200.
    let refused = bed.tunnel("gone.example.test:443").await.unwrap_err();
    assert_eq!((refused.status(), refused.field("x-bearerd-error")), (502, Some("connect")));
}

#[tokio::test]
async fn everything_goes_through_a_parent_proxy() {
    for (user_info, wants) in [(None, None), (Some("corp:s3cret"), Some("Basic Y29ycDpzM2NyZXQ="))] {
        let world = World::new().await;
        let parent = Parent::start(&world.tasks, world.google.address(), wants).await;
        let bed = world.start(|settings| {
            settings.upstream.dial.connect_to = Default::default();
            settings.upstream.dial.parent = Some(ParentProxy {
                authority: Authority::parse(&parent.address.to_string(), None).unwrap(),
                tls: None,
                user_info: user_info.map(|text: &str| Secret::new(text)),
            });
        });
        for door in DOORS {
            assert_eq!(bed.client(door, STORAGE).await.call(get("/echo")).await.status(), 200, "{door:?}");
        }
        let stream = bed.tunnel("www.example.test:443").await.unwrap();
        // The fake answers any name; the client sees its certificate, not ours.
        let pem = bed.google.ca_pem();
        let roots = bearerd::tls::client_roots(Some(pem.as_bytes())).unwrap();
        let config = (*bearerd::tls::client_config(roots, &[b"h2"]).unwrap()).clone();
        within("a handshake", handshake(stream, config, "www.example.test")).await.unwrap();
        let asked: Vec<String> =
            parent.heads().iter().map(|head| head.lines().next().unwrap_or_default().to_owned()).collect();
        assert_eq!(
            asked,
            [
                "CONNECT oauth2.googleapis.com:443 HTTP/1.1",
                "CONNECT storage.googleapis.com:443 HTTP/1.1",
                "CONNECT www.example.test:443 HTTP/1.1",
            ]
        );
        assert!(parent.heads().iter().all(|head| !head.contains("Bearer") && !head.contains("placeholder")));
        assert!(bed.tunnel("127.0.0.1:1").await.is_err(), "a parent is not asked for what is never reached");
        assert_eq!(parent.heads().len(), 3);
        assert!(!crate::capture::log().contains("s3cret"));
    }
}

#[tokio::test]
async fn a_parent_proxy_that_refuses_is_told_by_its_status() {
    let world = World::new().await;
    let parent = Parent::start(&world.tasks, world.google.address(), Some("Basic other")).await;
    let bed = world.start(|settings| {
        settings.upstream.dial.connect_to = Default::default();
        settings.upstream.dial.parent = Some(ParentProxy {
            authority: Authority::parse(&parent.address.to_string(), None).unwrap(),
            tls: None,
            user_info: None,
        });
    });
    let refused = bed.tunnel("www.example.test:443").await.unwrap_err();
    assert_eq!((refused.status(), refused.field("x-bearerd-error")), (502, Some("parent_proxy")));
    assert!(String::from_utf8_lossy(&refused.body).contains("407"));
}

#[tokio::test]
async fn a_half_closed_tunnel_carries_the_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let bed = Bed::with(|settings| send_to(settings, "old.example.test", 43, address)).await;
    let (mut stream, mut server) = {
        let (stream, server) = tokio::join!(bed.tunnel("old.example.test:43"), listener.accept());
        (stream.unwrap(), server.unwrap().0)
    };
    raw::write(&mut stream, b"question").await;
    stream.shutdown().await.unwrap();
    assert_eq!(raw::rest(&mut server).await, b"question");
    raw::write(&mut server, b"answer").await;
    drop(server);
    assert_eq!(raw::rest(&mut stream).await, b"answer");
    eventually("nothing in flight", || bed.ground.tasks.in_flight() == 0).await;
}

#[tokio::test]
async fn plain_http_to_other_hosts_is_carried_as_it_is() {
    let world = World::new().await;
    let answer = Bytes::from_static(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let host = RecordingHost::start(&world.tasks, Some(answer)).await.unwrap();
    let bed = world.start(|settings| send_to(settings, "plain.example.test", 80, host.address()));
    bed.exchanges_reach(1).await;
    let placeholder = format!("Bearer {}", bed.placeholder());
    let mut client = bed.client(Door::Forward, "plain.example.test").await;
    // Whatever the field: some route may put tokens there, and SDKs did as it says.
    let fields = [("x-own", "1"), ("authorization", &placeholder), ("clearblade-usertoken", &bed.placeholder())];
    let response = client.call(get_with("/a%2Fb?c", &fields)).await;
    assert_eq!((response.status().as_u16(), response.body().as_ref()), (200, &b"ok"[..]));
    assert!(
        host.saw(b"GET /a%2Fb?c HTTP/1.1\r\n")
            && host.saw(b"x-own: 1\r\n")
            && host.saw(b"host: plain.example.test\r\n")
    );
    assert!(!host.saw(bed.only_token().as_bytes()) && !host.saw(bed.placeholder().as_bytes()));
}

#[tokio::test]
async fn a_second_request_on_a_passed_plain_connection_is_judged_anew() {
    let world = World::new().await;
    let answer = Bytes::from_static(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let host = RecordingHost::start(&world.tasks, Some(answer)).await.unwrap();
    let bed = world.start(|settings| send_to(settings, "plain.example.test", 80, host.address()));
    let mut stream: TcpStream = raw::proxy(&bed).await;
    raw::write(&mut stream, b"GET http://plain.example.test/ HTTP/1.1\r\nHost: plain.example.test\r\n\r\n").await;
    assert_eq!(raw::answer(&mut stream).await.status(), 200);
    raw::write(&mut stream, format!("GET http://{STORAGE}/echo HTTP/1.1\r\nHost: {STORAGE}\r\n\r\n").as_bytes()).await;
    assert_eq!(raw::answer(&mut stream).await.status(), 200);
    assert!(bed.last().admission.is_good());
    assert!(!host.saw(STORAGE.as_bytes()));
}

#[tokio::test]
async fn an_h1_upstream_serves_h2_clients_and_the_other_way_round() {
    for protocols in [Protocols::H1, Protocols::H2] {
        let bed = Bed::start().await;
        bed.exchanges_reach(1).await;
        bed.google.protocols(protocols);
        for door in DOORS {
            assert_eq!(
                bed.client(door, STORAGE).await.call(get("/echo")).await.status(),
                200,
                "{door:?} {protocols:?}"
            );
        }
        let version = if protocols == Protocols::H1 { http::Version::HTTP_11 } else { http::Version::HTTP_2 };
        assert!(bed.google.requests().iter().all(|request| request.version == version));
    }
}

fn alert(error: &std::io::Error) -> Option<AlertDescription> {
    match error.get_ref()?.downcast_ref::<Error>()? {
        Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

#[tokio::test]
async fn without_a_ca_a_routed_host_is_refused_with_a_reason_instead_of_carried_unseen() {
    let bed = World::new().await.start(|settings| settings.trust.public = "/dev/null/trust".into());
    let refused = bed.tunnel(&format!("{STORAGE}:443")).await.unwrap_err();
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.field("x-bearerd-error"), Some("no_ca"));
}
