//! One authority: all claims about where a request goes agree, for every request, or not one byte leaves.

use bearerd::demo::RecordingHost;
use http::Request;

use crate::{
    bed::{Bed, STORAGE, World, send_below, send_to},
    client::{DOORS, Door, empty, get, recorded, within},
    full, raw,
};

/// How a place that can name the host names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    Good,
    /// The same name, spelled otherwise.
    Equal,
    Evil,
    /// Another Google name: the token must not go there either under this one's policy.
    Sibling,
    Absent,
    Malformed,
}

use Claim::{Absent, Equal, Evil, Good, Malformed, Sibling};

const CLAIMS: [Claim; 6] = [Good, Equal, Evil, Sibling, Absent, Malformed];

impl Claim {
    fn text(self) -> &'static str {
        match self {
            Good => STORAGE,
            Equal => "STORAGE.GoogleAPIs.com.",
            Evil => "evil.test",
            Sibling => "pubsub.googleapis.com",
            Absent => "",
            Malformed => "storage.googleapis.com@evil.test",
        }
    }

    fn is_right(self) -> bool {
        matches!(self, Good | Equal)
    }

    fn host_field(self) -> String {
        if self == Absent { String::new() } else { format!("Host: {}\r\n", self.text()) }
    }
}

/// A bed in which everybody who is not Google writes down every byte.
async fn bed() -> (Bed, RecordingHost) {
    let world = World::new().await;
    let evil = RecordingHost::start(&world.tasks, None).await.unwrap();
    let bed = world.start(|settings| {
        for port in [80, 443] {
            send_to(settings, "evil.test", port, evil.address());
        }
        send_below(settings, "evil.test", evil.address());
        send_to(settings, "storage.googleapis.com.evil.test", 80, evil.address());
    });
    bed.exchanges_reach(1).await;
    (bed, evil)
}

#[tokio::test]
async fn a_forward_request_names_one_host_or_goes_nowhere() {
    let (bed, evil) = bed().await;
    for target in CLAIMS {
        for host in CLAIMS {
            if target == Absent {
                continue;
            }
            let mut stream = raw::proxy(&bed).await;
            let head = format!("GET http://{}/echo HTTP/1.1\r\n{}\r\n", target.text(), host.host_field());
            let before = bed.google.request_count();
            raw::write(&mut stream, head.as_bytes()).await;
            let agree = target.is_right() && host.is_right() || target == host && target == Sibling;
            if target == Evil && host == Evil {
                // Goes where it says, and gets nothing of ours.
                recorded(&evil, |all| all.iter().any(|connection| connection.length > 0)).await;
                assert!(!evil.saw(b"Bearer") && !evil.saw(b"authorization"));
                continue;
            }
            let status = raw::answer(&mut stream).await.status();
            if agree {
                assert_eq!(status, 200, "{target:?} {host:?}");
                assert_eq!(bed.last().authority, if target == Sibling { target } else { Good }.text());
            } else {
                assert!(matches!(status, 400 | 421), "{target:?} {host:?}: {status}");
                assert_eq!(bed.google.request_count(), before, "{target:?} {host:?}");
            }
        }
    }
    assert_eq!(evil.connection_count(), 1);
}

#[tokio::test]
async fn an_intercepted_request_names_the_host_of_its_tunnel_or_goes_nowhere() {
    let (bed, evil) = bed().await;
    for tunnel in [Good, Equal] {
        for target in CLAIMS {
            for host in CLAIMS {
                let mut stream = bed.connect(tunnel.text(), &[b"http/1.1"]).await;
                let absolute = if target == Absent { String::new() } else { format!("https://{}", target.text()) };
                let head = format!("GET {absolute}/echo HTTP/1.1\r\n{}\r\n", host.host_field());
                let before = bed.google.request_count();
                raw::write(&mut stream, head.as_bytes()).await;
                let status = raw::answer(&mut stream).await.status();
                let agree = (target.is_right() || target == Absent) && host.is_right();
                if agree {
                    assert_eq!(status, 200, "{tunnel:?} {target:?} {host:?}");
                    assert_eq!((bed.last().authority.as_str(), bed.last().sni.as_deref()), (STORAGE, Some(STORAGE)));
                } else {
                    assert!(matches!(status, 400 | 421), "{tunnel:?} {target:?} {host:?}: {status}");
                    assert_eq!(bed.google.request_count(), before, "{tunnel:?} {target:?} {host:?}");
                }
            }
        }
    }
    assert_eq!(evil.connection_count(), 0);
}

#[tokio::test]
async fn every_h2_stream_names_the_host_of_its_tunnel_or_goes_nowhere() {
    let (bed, evil) = bed().await;
    let mut client = bed.client(Door::InterceptH2, STORAGE).await;
    for authority in [Good, Equal, Evil, Sibling] {
        for host in CLAIMS {
            let mut request = Request::get(format!("https://{}/echo", authority.text())).body(empty()).unwrap();
            if host != Absent {
                request.headers_mut().insert("host", host.text().parse().unwrap());
            }
            let before = bed.google.request_count();
            let status = client.call(request).await.status();
            let agree = authority.is_right() && (host.is_right() || host == Absent);
            if agree {
                assert_eq!(status, 200, "{authority:?} {host:?}");
                assert_eq!(bed.last().authority, STORAGE);
            } else {
                assert!(matches!(status.as_u16(), 400 | 421), "{authority:?} {host:?}: {status}");
                assert_eq!(bed.google.request_count(), before, "{authority:?} {host:?}");
            }
        }
    }
    // A stream that was refused costs its neighbours nothing.
    assert_eq!(client.call(get("/echo")).await.status(), 200);
    assert_eq!(evil.connection_count(), 0);
}

#[tokio::test]
async fn h2_streams_with_a_foreign_scheme_or_port_go_nowhere() {
    let (bed, _) = bed().await;
    let mut client = bed.client(Door::InterceptH2, STORAGE).await;
    for uri in [
        "http://storage.googleapis.com/echo",
        "https://storage.googleapis.com:8443/echo",
        "https://storage.googleapis.com:80/echo",
        "ftp://storage.googleapis.com/echo",
    ] {
        let status = client.call(Request::get(uri).body(empty()).unwrap()).await.status();
        assert!(matches!(status.as_u16(), 400 | 421), "{uri}: {status}");
    }
    assert_eq!(bed.google.request_count(), 0);
    let status =
        client.call(Request::get("https://storage.googleapis.com:443/echo").body(empty()).unwrap()).await.status();
    assert_eq!(status, 200);
}

#[tokio::test]
async fn the_second_request_on_a_connection_is_judged_like_the_first() {
    let (bed, evil) = bed().await;
    let connections = if full() { 1000 } else { 4 };
    for number in 0..3 * connections {
        let door = DOORS[number % 3];
        let mut client = bed.client(door, STORAGE).await;
        for round in 0..10 {
            assert_eq!(client.call(get("/echo")).await.status(), 200, "{door:?} {round}");
            let mut request = get("/echo");
            let evil_uri = format!("https://{STORAGE}/echo");
            match door {
                Door::Forward => {
                    *request.uri_mut() = evil_uri.replace("https", "http").parse().unwrap();
                    request.headers_mut().insert("host", "evil.test".parse().unwrap());
                }
                Door::InterceptH1 => {
                    request.headers_mut().insert("host", "evil.test".parse().unwrap());
                }
                Door::InterceptH2 => *request.uri_mut() = "https://evil.test/echo".parse().unwrap(),
            }
            assert_eq!(client.call(request).await.status(), 421, "{door:?} {round}");
            if client.is_closed() {
                client = bed.client(door, STORAGE).await;
            }
        }
    }
    assert!(bed.google.requests().iter().all(|request| request.authority == STORAGE));
    assert_eq!((bed.google.request_count(), evil.connection_count()), (30 * connections as u64, 0));
}

#[tokio::test]
async fn evil_streams_beside_good_ones_change_nothing_for_them() {
    let (bed, evil) = bed().await;
    let client = bed.client(Door::InterceptH2, STORAGE).await;
    let calls = (0..100).map(|number| {
        let mut sender = client.h2();
        let host = if number % 2 == 0 { STORAGE } else { "evil.test" };
        let request = Request::get(format!("https://{host}/echo?{number}")).body(empty()).unwrap();
        async move { (number, sender.send_request(request).await.unwrap().status().as_u16()) }
    });
    for (number, status) in within("a hundred answers", futures_util::future::join_all(calls)).await {
        assert_eq!(status, if number % 2 == 0 { 200 } else { 421 }, "{number}");
    }
    assert_eq!((bed.google.request_count(), evil.connection_count()), (50, 0));
}

#[tokio::test]
async fn names_that_only_look_like_googles_get_no_token() {
    let (bed, evil) = bed().await;
    for (host, expected) in [
        ("storage.googleapis.com.evil.test", None),
        ("evil.test", None),
        ("storage.googleapis.com@evil.test", Some(400)),
        ("evil.test#.googleapis.com", Some(400)),
        ("evil.test;.googleapis.com", Some(400)),
        ("evil.test,.googleapis.com", Some(400)),
        ("evil.test%2f.googleapis.com", Some(400)),
        ("evil.test%00.googleapis.com", Some(400)),
        ("evil.test\\.googleapis.com", Some(400)),
        ("storage..googleapis.com", Some(400)),
        (".googleapis.com", Some(400)),
        ("storage.googleapis.com..", Some(400)),
        ("storage.googleapis.com:65536", Some(400)),
        ("storage.googleapis.com:abc", Some(400)),
        ("storage.googleapis.com:", Some(400)),
        ("storage.googleapis.com:+80", Some(400)),
        ("storage.googleapis.com:00080", Some(400)),
        ("[storage.googleapis.com]", Some(400)),
        ("[::1%25.googleapis.com]", Some(400)),
        ("st\u{f6}rage.googleapis.com", Some(400)),
        ("storage\u{3002}googleapis.com", Some(400)),
    ] {
        let mut stream = raw::proxy(&bed).await;
        let head = format!("GET http://{host}/echo HTTP/1.1\r\nHost: {host}\r\n\r\n");
        raw::write(&mut stream, head.as_bytes()).await;
        match expected {
            Some(status) => assert_eq!(raw::answer(&mut stream).await.status(), status, "{host}"),
            // Carried in clear to where it says.
            None => {
                let named = format!("host: {host}\r\n");
                let has_it = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(&named);
                recorded(&evil, |all| all.iter().any(|one| has_it(&one.bytes))).await;
            }
        }
    }
    assert_eq!(bed.google.request_count(), 0);
    assert!(!evil.saw(b"Bearer") && !evil.saw(b"uthorization"));
}

#[tokio::test]
async fn ports_other_than_443_never_get_a_token() {
    let world = World::new().await;
    let host = RecordingHost::start(&world.tasks, None).await.unwrap();
    let bed = world.start(|settings| {
        for port in [8443, 8080, 80] {
            send_to(settings, STORAGE, port, host.address());
        }
    });
    bed.exchanges_reach(1).await;
    // In a tunnel it is carried unseen, as any other service on any other port.
    for port in [8443, 80] {
        let mut stream = bed.tunnel(&format!("{STORAGE}:{port}")).await.unwrap();
        raw::write(&mut stream, b"unseen").await;
    }
    recorded(&host, |all| all.iter().filter(|connection| connection.bytes == b"unseen").count() == 2).await;
    let mut stream = raw::proxy(&bed).await;
    let head = format!("GET http://{STORAGE}:8080/x HTTP/1.1\r\nHost: {STORAGE}:8080\r\n\r\n");
    raw::write(&mut stream, head.as_bytes()).await;
    recorded(&host, |all| all.len() == 3 && all[2].length > 0).await;
    let mut stream = raw::proxy(&bed).await;
    let head = format!("GET https://{STORAGE}:8443/x HTTP/1.1\r\nHost: {STORAGE}:8443\r\n\r\n");
    raw::write(&mut stream, head.as_bytes()).await;
    assert_eq!(raw::answer(&mut stream).await.status(), 502);
    assert!(!host.saw(bed.only_token().as_bytes()));
    assert_eq!(bed.google.request_count(), 0);
}

#[tokio::test]
async fn what_a_host_can_be_called_reaches_it_under_its_one_name() {
    let (bed, _) = bed().await;
    for spelling in
        ["STORAGE.GOOGLEAPIS.COM", "storage.googleapis.com.", "Storage.googleapis.com:443", "storage.googleapis.com:80"]
    {
        let mut stream = raw::proxy(&bed).await;
        let head = format!("GET http://{spelling}/echo HTTP/1.1\r\nHost: {spelling}\r\n\r\n");
        raw::write(&mut stream, head.as_bytes()).await;
        assert_eq!(raw::answer(&mut stream).await.status(), 200, "{spelling}");
        let seen = bed.last();
        assert_eq!((seen.authority.as_str(), seen.sni.as_deref()), (STORAGE, Some(STORAGE)), "{spelling}");
    }
    assert_eq!(bed.google.connections(), 2, "one name, one connection");
}
