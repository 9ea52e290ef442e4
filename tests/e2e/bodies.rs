//! Bodies of any size, both ways, whole and in order; and what happens when one breaks off.

use bearerd::demo::{Protocols, pattern};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::BodyExt;

use crate::{
    bed::{Bed, STORAGE, World, send_to},
    client::{DOORS, Door, empty, eventually, fed, full, get, get_with, post, with, within},
    raw,
};
use bearerd::demo::RecordingHost;

const UPSTREAMS: [Protocols; 2] = [Protocols::H1, Protocols::H2];

/// A bed whose upstream speaks one protocol only. The token endpoint had its turn before.
async fn bed_on(protocols: Protocols) -> Bed {
    let bed = Bed::start().await;
    bed.exchanges_reach(1).await;
    bed.google.protocols(protocols);
    bed
}

#[tokio::test]
async fn uploads_of_eight_mebibytes_arrive_whole() {
    let chunk = Bytes::from(pattern(0, 64 * 1024));
    for upstream in UPSTREAMS {
        let bed = bed_on(upstream).await;
        for door in DOORS {
            let mut client = bed.client(door, STORAGE).await;
            let (feed, body) = fed();
            let request = Request::post("/upload/storage/v1/b/b/o?uploadType=media&name=big").body(body).unwrap();
            let feeding = async {
                for _ in 0..MIB_8 / chunk.len() {
                    feed.data(chunk.clone()).await;
                }
                drop(feed);
            };
            let (response, ()) = tokio::join!(client.call(request), feeding);
            assert_eq!(response.status(), 200, "{door:?} to {upstream:?}");
            let body = bed.last().body;
            assert_eq!((body.complete, body.length), (true, MIB_8 as u64));
            assert_eq!(body.sha256, sha256(&pattern(0, MIB_8)), "{door:?} to {upstream:?}");
        }
    }
}

#[tokio::test]
async fn downloads_of_eight_mebibytes_arrive_whole() {
    let expected = pattern(0, MIB_8);
    for upstream in UPSTREAMS {
        let bed = bed_on(upstream).await;
        for door in DOORS {
            let mut client = bed.client(door, STORAGE).await;
            let response = client.call(get(&format!("/storage/v1/b/b/o/o?alt=media&size={MIB_8}"))).await;
            assert_eq!(response.headers()["content-length"], MIB_8.to_string(), "{door:?} to {upstream:?}");
            assert!(response.body() == &expected, "{door:?} to {upstream:?}");
        }
    }
}

#[tokio::test]
async fn an_empty_post_says_that_it_is_empty() {
    for upstream in UPSTREAMS {
        let bed = bed_on(upstream).await;
        for door in DOORS {
            let mut client = bed.client(door, STORAGE).await;
            let request = with(post("/echo", ""), &[("content-length", "0")]);
            assert_eq!(client.call(request).await.status(), 200, "{door:?} to {upstream:?}");
            let seen = bed.last();
            assert!(seen.body.complete && seen.body.length == 0);
            if upstream == Protocols::H1 {
                // Google's front ends answer 411 without it.
                assert_eq!(seen.headers["content-length"], "0", "{door:?}");
                assert!(!seen.headers.contains_key("transfer-encoding"), "{door:?}");
            }
        }
    }
}

#[tokio::test]
async fn bodies_of_unknown_length_are_never_taken_for_none() {
    for upstream in UPSTREAMS {
        let bed = bed_on(upstream).await;
        for door in DOORS {
            let mut client = bed.client(door, STORAGE).await;
            for pieces in [&["one ", "two ", "three"][..], &[]] {
                let (feed, body) = fed();
                let request = Request::post("/echo").body(body).unwrap();
                let feeding = async {
                    for piece in pieces {
                        feed.data(*piece).await;
                    }
                    drop(feed);
                };
                let (response, ()) = tokio::join!(client.call(request), feeding);
                assert_eq!(response.status(), 200, "{door:?} to {upstream:?}");
                let body = bed.last().body;
                assert_eq!(body.sha256, sha256(pieces.concat().as_bytes()), "{door:?} to {upstream:?} {pieces:?}");
            }
        }
    }
}

#[tokio::test]
async fn chunks_as_a_client_writes_them_arrive_as_one_body() {
    for upstream in UPSTREAMS {
        let bed = bed_on(upstream).await;
        let mut stream = raw::proxy(&bed).await;
        let head =
            format!("POST http://{STORAGE}/echo HTTP/1.1\r\nHost: {STORAGE}\r\nTransfer-Encoding: chunked\r\n\r\n");
        // The second request follows in the same segment, its body empty.
        let bytes = format!("{head}4\r\nWiki\r\n00005;x=y\r\npedia\r\n0\r\n\r\n{head}0\r\n\r\n");
        raw::write(&mut stream, bytes.as_bytes()).await;
        for expected in ["Wikipedia", ""] {
            assert_eq!(raw::answer(&mut stream).await.status(), 200);
            let sha = sha256(expected.as_bytes());
            eventually("the body in the record", || bed.google.requests().iter().any(|seen| seen.body.sha256 == sha))
                .await;
        }
    }
}

#[tokio::test]
async fn answers_without_a_body_have_none_and_keep_the_connection() {
    for upstream in UPSTREAMS {
        let bed = bed_on(upstream).await;
        for door in DOORS {
            let mut client = bed.client(door, STORAGE).await;
            let response = client.call(Request::head("/echo").body(empty()).unwrap()).await;
            assert_eq!((response.status().as_u16(), response.body().len()), (200, 0), "{door:?} to {upstream:?}");
            assert_ne!(response.headers()["content-length"], "0", "{door:?} to {upstream:?}");
            for status in [204, 304] {
                let response = client.call(get(&format!("/status/{status}"))).await;
                assert_eq!(
                    (response.status().as_u16(), response.body().len()),
                    (status, 0),
                    "{door:?} to {upstream:?}"
                );
            }
            assert_eq!(client.call(get("/echo")).await.status(), 200, "{door:?} to {upstream:?}");
        }
        assert_eq!(bed.google.connections(), 2, "{upstream:?}");
    }
}

#[tokio::test]
async fn a_client_that_expects_100_gets_it_before_its_body() {
    for upstream in UPSTREAMS {
        let bed = bed_on(upstream).await;
        let mut stream = raw::proxy(&bed).await;
        let head = format!(
            "POST http://{STORAGE}/echo HTTP/1.1\r\nHost: {STORAGE}\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        );
        for _ in 0..2 {
            raw::write(&mut stream, head.as_bytes()).await;
            assert_eq!(raw::answer(&mut stream).await.status(), 100);
            raw::write(&mut stream, b"hello").await;
            assert_eq!(raw::answer(&mut stream).await.status(), 200);
            let seen = bed.last();
            assert_eq!(seen.body.sha256, sha256(b"hello"));
            assert!(!seen.headers.contains_key("expect"), "the expectation was met here");
        }
    }
}

#[tokio::test]
async fn a_refused_request_is_told_so_before_its_body_is_asked_for() {
    let bed = Bed::start().await;
    let mut stream = raw::proxy(&bed).await;
    let head = "POST http://iamcredentials.googleapis.com/v1/x:signBlob HTTP/1.1\r\nHost: iamcredentials.googleapis.com\r\n\
                Content-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    raw::write(&mut stream, head.as_bytes()).await;
    assert_eq!(raw::answer(&mut stream).await.status(), 403);
}

#[tokio::test]
async fn an_answer_that_comes_before_the_body_has_ended_reaches_the_client() {
    let world = World::new().await;
    let answer = Bytes::from_static(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig");
    let host = RecordingHost::start_tls(&world.tasks, &world.google, EARLY, Protocols::H1, Some(answer)).await.unwrap();
    let bed = world.start(|settings| send_to(settings, EARLY, 443, host.address()));
    for door in DOORS {
        let mut client = bed.client(door, EARLY).await;
        let (feed, body) = fed();
        feed.data("the first piece").await;
        let response = client.send(Request::post("/x").body(body).unwrap()).await;
        assert_eq!(response.status(), 413, "{door:?}");
        let body = within("the body", response.into_body().collect()).await.unwrap().to_bytes();
        assert_eq!(body, "big", "{door:?}");
        drop(feed);
    }
    // Half a request lies on each of these connections: none may carry another.
    assert_eq!(host.connection_count(), 3);
}

#[tokio::test]
async fn an_upload_that_the_client_breaks_off_is_broken_off_upstream() {
    for upstream in UPSTREAMS {
        let bed = bed_on(upstream).await;
        for (index, door) in DOORS.into_iter().enumerate() {
            let mut client = bed.client(door, STORAGE).await;
            let (feed, body) = fed();
            feed.data("begun").await;
            let request = Request::post("/upload/storage/v1/b/b/o?uploadType=media&name=half").body(body).unwrap();
            let breaking = async {
                bed.requests_reach(index as u64 + 1).await;
                feed.fail().await;
            };
            let (sent, ()) = tokio::join!(within("an end", client.try_send(request)), breaking);
            assert!(sent.is_err() || !sent.unwrap().status().is_success(), "{door:?} to {upstream:?}");
            eventually("the half body in the record", || !bed.last().body.sha256.is_empty()).await;
            assert!(!bed.last().body.complete, "{door:?} to {upstream:?}: half a body must not look whole");
        }
        eventually("nothing in flight", || bed.ground.tasks.in_flight() == 0).await;
    }
}

#[tokio::test]
async fn a_download_that_the_client_leaves_is_left_upstream() {
    for upstream in UPSTREAMS {
        let bed = bed_on(upstream).await;
        for door in DOORS {
            let mut client = bed.client(door, STORAGE).await;
            let response = client.send(get("/drip?chunks=1000000&ms=5")).await;
            assert_eq!(response.status(), 200);
            assert_eq!(bed.ground.tasks.in_flight(), 1, "{door:?}");
            drop((response, client));
            eventually("nothing in flight", || bed.ground.tasks.in_flight() == 0).await;
        }
        let counted = bed.metric("http_requests_total{code=\"200\",method=\"GET\",route=\"google-apis\"}");
        assert_eq!(counted, 3, "each is counted all the same");
    }
}

#[tokio::test]
async fn an_answer_that_the_upstream_breaks_off_does_not_look_whole() {
    for upstream in UPSTREAMS {
        let bed = bed_on(upstream).await;
        for door in DOORS {
            let mut client = bed.client(door, STORAGE).await;
            let response = client.send(get("/drip?chunks=1000000&ms=5")).await;
            bed.google.abort_connections();
            let body = within("the end of the body", response.into_body().collect()).await;
            assert!(body.is_err(), "{door:?} to {upstream:?}");
        }
    }
}

#[tokio::test]
async fn trailers_of_answers_travel_to_the_client() {
    for upstream in UPSTREAMS {
        let bed = bed_on(upstream).await;
        for door in DOORS {
            let mut client = bed.client(door, STORAGE).await;
            let response = client.send(get_with("/trailers", &[("te", "trailers")])).await;
            let body = within("the body", response.into_body().collect()).await.unwrap();
            let trailers = body.trailers().unwrap_or_else(|| panic!("{door:?} to {upstream:?}"));
            assert_eq!(trailers["x-demo-trailer"], "end", "{door:?} to {upstream:?}");
        }
    }
}

#[tokio::test]
async fn no_trailer_of_a_request_can_be_taken_for_a_head_field() {
    for upstream in UPSTREAMS {
        let bed = bed_on(upstream).await;
        let mut client = bed.client(Door::InterceptH2, STORAGE).await;
        let (feed, body) = fed();
        let mut trailers = HeaderMap::new();
        for name in ["authorization", "host", "x-goog-user-project", "content-length", "grpc-timeout"] {
            trailers.insert(name, HeaderValue::from_static("1"));
        }
        let feeding = async {
            feed.data("body").await;
            feed.trailers(trailers).await;
            drop(feed);
        };
        let request = Request::post("/echo").body(body).unwrap();
        let (response, ()) = tokio::join!(client.call(request), feeding);
        assert_eq!(response.status(), 200);
        let seen = bed.last();
        let names: Vec<_> = seen.body.trailers.keys().map(http::HeaderName::as_str).collect();
        assert!(names.iter().all(|name| *name == "grpc-timeout"), "{upstream:?} {names:?}");
        assert_eq!(seen.headers.get_all("authorization").iter().count(), 1);
        assert!(!seen.headers.contains_key("x-goog-user-project"), "{upstream:?}");
    }
}

#[tokio::test]
async fn a_get_with_a_body_keeps_it() {
    for upstream in UPSTREAMS {
        let bed = bed_on(upstream).await;
        for door in DOORS {
            let mut client = bed.client(door, STORAGE).await;
            let request = Request::get("/echo").body(full("odd but legal")).unwrap();
            assert_eq!(client.call(request).await.status(), 200);
            assert_eq!(bed.last().body.sha256, sha256(b"odd but legal"), "{door:?} to {upstream:?}");
        }
    }
}

fn sha256(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

const MIB_8: usize = 8 << 20;
const EARLY: &str = "early.googleapis.com";
