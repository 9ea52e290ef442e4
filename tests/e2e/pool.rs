//! Upstream connections that end between requests: idempotent requests do not notice, others are never sent twice.

use bearerd::demo::Protocols;
use http::Request;

use crate::{
    bed::{Bed, STORAGE},
    client::{DOORS, full, get, post},
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
