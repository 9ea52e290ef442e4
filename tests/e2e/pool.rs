//! Upstream connections that end between requests: idempotent requests do not notice, others are never sent twice.

use bearerd::demo::Protocols;
use http::Request;

use crate::{
    bed::{Bed, STORAGE},
    client::{DOORS, Door, full, get, post},
};

/// A bed whose APIs speak one protocol only; the token endpoint had its turn before.
async fn bed_on(protocols: Protocols) -> Bed {
    let bed = Bed::start().await;
    bed.exchanges_reach(1).await;
    bed.google.protocols(protocols);
    bed
}

#[tokio::test]
async fn idempotent_requests_do_not_notice_that_idle_connections_ended() {
    for upstream in [Protocols::H1, Protocols::H2] {
        let bed = bed_on(upstream).await;
        for door in DOORS {
            let mut client = bed.client(door, STORAGE).await;
            for round in 0..30 {
                assert_eq!(client.call(get("/echo")).await.status(), 200, "{door:?} to {upstream:?} {round}");
                // In order or not, told or not: it shows as an end, a reset or a failed write.
                if round % 2 == 0 {
                    bed.google.abort_connections()
                } else {
                    bed.google.drain_connections()
                }
                let put = Request::put("/echo").body(full("a small body")).unwrap();
                assert_eq!(client.call(put).await.status(), 200, "{door:?} to {upstream:?} {round}");
                if round % 3 == 0 { bed.google.abort_connections() } else { bed.google.drain_connections() }
            }
        }
    }
}

#[tokio::test]
async fn a_connection_that_dies_under_a_request_is_replaced_where_that_is_safe() {
    for upstream in [Protocols::H1, Protocols::H2] {
        let bed = bed_on(upstream).await;
        for door in DOORS {
            for (method, status, deliveries) in [("GET", 200, 2), ("PUT", 200, 2), ("DELETE", 200, 2), ("POST", 502, 1)]
            {
                let mut client = bed.client(door, STORAGE).await;
                assert_eq!(client.call(get("/echo")).await.status(), 200);
                let before = bed.google.request_count();
                let request = Request::builder().method(method).uri("/slow?ms=100").body(full("small")).unwrap();
                let dying = async {
                    bed.requests_reach(before + 1).await;
                    bed.google.abort_connections();
                };
                let (response, ()) = tokio::join!(client.call(request), dying);
                assert_eq!(response.status(), status, "{method} {door:?} to {upstream:?}");
                assert_eq!(bed.google.request_count() - before, deliveries, "{method} {door:?} to {upstream:?}");
                let last = bed.last();
                assert!(status == 502 || last.body.length == 5, "{method} {door:?} to {upstream:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_request_on_a_fresh_connection_that_dies_is_not_sent_again() {
    // What kills a connection with its first request would kill the next one too.
    for upstream in [Protocols::H1, Protocols::H2] {
        let bed = bed_on(upstream).await;
        let mut client = bed.client(Door::InterceptH2, STORAGE).await;
        let dying = async {
            bed.requests_reach(1).await;
            bed.google.abort_connections();
        };
        let (response, ()) = tokio::join!(client.call(get("/slow?ms=100")), dying);
        assert_eq!((response.status().as_u16(), bed.google.request_count()), (502, 1), "{upstream:?}");
    }
}

#[tokio::test]
async fn a_post_that_may_have_been_taken_is_not_sent_again() {
    for upstream in [Protocols::H1, Protocols::H2] {
        let bed = bed_on(upstream).await;
        for door in DOORS {
            let mut client = bed.client(door, STORAGE).await;
            for round in 0..20 {
                assert_eq!(client.call(get("/echo")).await.status(), 200);
                bed.google.abort_connections();
                let target = format!("/echo?{door:?}-{round}");
                let response = client.call(post(&target, vec![7; 1024])).await;
                let delivered = bed.google.requests().iter().filter(|request| request.target == target).count();
                match response.status().as_u16() {
                    200 => assert_eq!(delivered, 1, "{door:?} to {upstream:?}"),
                    // Whether it was taken is not known, and this must not be made up.
                    502 => assert!(delivered <= 1, "{door:?} to {upstream:?}"),
                    other => panic!("{other} from nowhere"),
                }
            }
        }
    }
}
