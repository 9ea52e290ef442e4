//! What belongs to one hop stays there; what belongs to the two ends travels.

use bearerd::demo::{Protocols, RecordingHost};
use bytes::Bytes;

use crate::{
    bed::{Bed, STORAGE, World, send_to},
    client::{DOORS, Door, get, get_with},
};

#[tokio::test]
async fn fields_of_one_hop_and_of_other_proxies_do_not_travel() {
    let bed = Bed::start().await;
    let fields = [
        ("connection", "keep-alive, x-hop"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("te", "gzip, trailers"),
        ("http2-settings", "AAMAAABkAAQAAP__"),
        ("via", "1.1 somebody"),
        ("forwarded", "for=10.0.0.1"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-host", "evil.test"),
        ("x-forwarded-proto", "http"),
        ("x-goog-request-params", "bucket=b"),
        ("x-goog-api-client", "gl-rust/1"),
    ];
    for door in [Door::Forward, Door::InterceptH1] {
        let mut client = bed.client(door, STORAGE).await;
        assert_eq!(client.call(get_with("/echo", &fields)).await.status(), 200, "{door:?}");
        let seen = bed.last();
        let mut names: Vec<_> = seen.headers.keys().map(http::HeaderName::as_str).collect();
        names.sort_unstable();
        let expected = ["authorization", "te", "x-goog-api-client", "x-goog-request-params"];
        assert_eq!(names, expected, "{door:?}");
        assert_eq!(seen.headers["te"], "trailers");
    }
}

#[tokio::test]
async fn a_request_to_upgrade_to_h2c_is_served_as_what_it_is() {
    let bed = Bed::start().await;
    let mut client = bed.client(Door::Forward, STORAGE).await;
    let fields =
        [("connection", "upgrade, http2-settings"), ("upgrade", "h2c"), ("http2-settings", "AAMAAABkAAQAAP__")];
    assert_eq!(client.call(get_with("/echo", &fields)).await.status(), 200);
    assert!(!bed.last().headers.contains_key("upgrade"));
}

#[tokio::test]
async fn answers_do_not_lead_around_the_proxy() {
    let bed = Bed::start().await;
    for door in DOORS {
        let mut client = bed.client(door, STORAGE).await;
        let response = client.call(get("/echo")).await;
        assert!(!response.headers().contains_key("alt-svc"), "{door:?}");
        assert_eq!(response.headers()["server"], "ESF", "{door:?}: the rest travels");
    }
}

#[tokio::test]
async fn cookies_that_h2_splits_are_one_field_for_the_server() {
    for protocols in [Protocols::H1, Protocols::H2] {
        let bed = Bed::start().await;
        bed.exchanges_reach(1).await;
        bed.google.protocols(protocols);
        let mut client = bed.client(Door::InterceptH2, STORAGE).await;
        client.call(get_with("/echo", &[("cookie", "a=1"), ("cookie", "b=2")])).await;
        let seen = bed.last();
        let cookies: Vec<_> = seen.headers.get_all("cookie").iter().collect();
        assert_eq!(cookies, ["a=1; b=2"], "{protocols:?}");
    }
}

#[tokio::test]
async fn redirects_are_returned_and_not_followed() {
    for status in [301, 302, 303, 307, 308] {
        for place in
            ["https://evil.test/x", "http://storage.googleapis.com/x", "/x", "https://redirect.googleapis.com:8443/"]
        {
            let world = World::new().await;
            let answer = format!("HTTP/1.1 {status} Moved\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n");
            let host = redirecting(&world, answer).await;
            let evil = RecordingHost::start(&world.tasks, None).await.unwrap();
            let bed = world.start(|settings| {
                send_to(settings, REDIRECT, 443, host.address());
                send_to(settings, "evil.test", 443, evil.address());
            });
            let mut client = bed.client(Door::InterceptH1, REDIRECT).await;
            let response = client.call(get("/begin")).await;
            assert_eq!((response.status().as_u16(), response.headers()["location"].to_str().unwrap()), (status, place));
            assert_eq!(evil.connection_count(), 0);
            assert_eq!((host.connection_count(), bed.google.request_count()), (1, 0));
            assert_eq!(host.connections()[0].bytes.windows(4).filter(|at| at == b"GET ").count(), 1, "one request");
        }
    }
}

async fn redirecting(world: &World, answer: String) -> RecordingHost {
    let answer = Some(Bytes::from(answer));
    RecordingHost::start_tls(&world.tasks, &world.google, REDIRECT, Protocols::H1, answer).await.unwrap()
}

#[tokio::test]
async fn answers_that_are_not_http_are_a_502_that_says_so() {
    for answer in [
        "SSH-2.0-OpenSSH_9.6\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 99999 OK\r\n\r\n",
        "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n",
    ] {
        let world = World::new().await;
        let host = redirecting(&world, answer.to_owned()).await;
        let bed = world.start(|settings| send_to(settings, REDIRECT, 443, host.address()));
        for door in DOORS {
            let mut client = bed.client(door, REDIRECT).await;
            let response = client.call(get("/x")).await;
            assert_eq!(response.status(), 502, "{door:?} {answer}");
            assert_eq!(response.headers()["x-bearerd-error"], "bad_answer", "{door:?} {answer}");
        }
    }
}

#[tokio::test]
async fn interim_answers_do_not_confuse_the_final_one() {
    let world = World::new().await;
    let answer = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let host = redirecting(&world, answer.to_owned()).await;
    let bed = world.start(|settings| send_to(settings, REDIRECT, 443, host.address()));
    let response = bed.client(Door::InterceptH1, REDIRECT).await.call(get("/x")).await;
    assert_eq!((response.status().as_u16(), response.body().as_ref()), (200, &b"ok"[..]));
}

const REDIRECT: &str = "redirect.googleapis.com";
