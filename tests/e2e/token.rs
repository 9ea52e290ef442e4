//! The life of a token as requests see it: there when needed, never expired, renewed when Google says so.

use std::time::Duration;

use bearerd::{
    clock::Clock,
    demo::{Admission, Outage, Protocols, RecordingHost},
};
use bytes::Bytes;
use http::Request;

use crate::{
    bed::{Bed, STORAGE, World, send_to},
    client::{DOORS, Door, eventually, fed, get, post, whole, within},
};

#[tokio::test]
async fn no_request_waits_when_there_is_a_token() {
    let bed = Bed::start().await;
    bed.client(Door::InterceptH2, STORAGE).await.call(get("/echo")).await;
    bed.google.outage(Outage::Blackhole);
    // Asks for a refresh that hangs from now on.
    bed.google.revoke_all();
    let mut first = bed.client(Door::InterceptH2, STORAGE).await;
    let mut second = bed.client(Door::InterceptH1, STORAGE).await;
    let refused = first.try_send(get("/echo"));
    let others = async {
        bed.requests_reach(2).await;
        for _ in 0..20 {
            // A signed URL needs no token, and a request that needs one uses the one there is.
            assert_eq!(second.call(get("/b/o?X-Goog-Signature=x")).await.status(), 404);
        }
    };
    tokio::select! {
        _ = refused => panic!("the refresh hangs"),
        () = others => {}
    }
}

#[tokio::test]
async fn requests_at_a_cold_start_wait_for_the_one_flight_which_no_client_can_cancel() {
    let world = World::new().await;
    world.google.script(|script| script.token_delay = Duration::from_millis(1500));
    let bed = world.start(|_| {});
    let mut clients = Vec::new();
    for door in DOORS {
        clients.push(bed.client(door, STORAGE).await);
    }
    let [first, second, third] = &mut clients[..] else { unreachable!() };
    {
        let leaving = first.try_send(get("/echo?first"));
        let all_wait = eventually("three waiting requests", || bed.ground.tasks.in_flight() == 3);
        let staying = async { tokio::join!(second.call(get("/echo?second")), third.call(get("/echo?third"))) };
        let staying = async {
            let (second, third) = staying.await;
            assert_eq!((second.status().as_u16(), third.status().as_u16()), (200, 200));
        };
        tokio::select! {
            _ = leaving => panic!("no token yet"),
            () = all_wait => assert_eq!(bed.google.exchange_count(), 0, "the machine is too slow for this test"),
            () = staying => panic!("no token yet"),
        }
    }
    // All three futures are dropped: three clients reset their requests or connections.
    drop(clients);
    let mut later = bed.client(Door::InterceptH2, STORAGE).await;
    assert_eq!(later.call(get("/echo")).await.status(), 200);
    assert_eq!(bed.google.exchange_count(), 1);
    assert_eq!(failures(&bed), 0);
    // A later refresh works as well.
    bed.google.script(|script| script.token_delay = Duration::ZERO);
    bed.google.revoke_all();
    assert_eq!(later.call(get("/echo")).await.status(), 200);
    assert_eq!(bed.google.exchange_count(), 2);
}

#[tokio::test]
async fn those_who_stay_are_served_when_another_leaves() {
    let world = World::new().await;
    world.google.script(|script| script.token_delay = Duration::from_millis(1500));
    let bed = world.start(|_| {});
    let mut first = bed.client(Door::Forward, STORAGE).await;
    let mut second = bed.client(Door::InterceptH1, STORAGE).await;
    let mut third = bed.client(Door::InterceptH2, STORAGE).await;
    let leaving = async {
        let wait = eventually("three waiting requests", || bed.ground.tasks.in_flight() == 3);
        tokio::select! {
            _ = first.try_send(get("/echo?first")) => panic!("no token yet"),
            () = wait => {}
        }
        drop(first);
    };
    let (second, third, ()) = tokio::join!(second.call(get("/echo?2")), third.call(get("/echo?3")), leaving);
    assert_eq!((second.status().as_u16(), third.status().as_u16()), (200, 200));
    assert_eq!((bed.google.exchange_count(), bed.google.request_count(), failures(&bed)), (1, 2, 0));
}

#[tokio::test]
async fn a_valid_token_serves_through_an_outage_and_an_expired_one_is_never_sent() {
    // A token lives 100 s, two seconds here.
    let world = World::at(Clock::fast(50)).await;
    world.google.script(|script| script.lifetime = Duration::from_secs(100));
    let bed = world.start(|_| {});
    let mut client = bed.client(Door::InterceptH2, STORAGE).await;
    assert_eq!(client.call(get("/echo")).await.status(), 200);
    bed.google.outage(Outage::Status(503));
    // So that waiting is in vain and the answer comes at once.
    bed.google.script(|script| script.retry_after = Some("30".to_owned()));
    let first = bed.last().token.unwrap();
    let refused = within("the end of the token", async {
        loop {
            let response = client.call(get("/echo")).await;
            if response.status() != 200 {
                return response;
            }
        }
    })
    .await;
    let last_served = bed.last().at;
    let life = first.issued.until(last_served).as_secs();
    assert!(life >= 60, "served for {life} s of 100 only");
    assert!(first.expires > last_served, "in its own time");
    assert_eq!(refused.status(), 503);
    let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=5).contains(&wait));
    let body: serde_json::Value = serde_json::from_slice(refused.body()).unwrap();
    assert_eq!(
        (&body["error"]["status"], &body["error"]["errors"][0]["reason"]),
        (&"UNAVAILABLE".into(), &"backendError".into())
    );
    assert!(failures(&bed) > 0);
    bed.google.outage(Outage::None);
    within("the recovery", async { while client.call(get("/echo")).await.status() != 200 {} }).await;
    assert!(bed.google.requests().iter().all(|request| request.admission == Admission::Token));
}

#[tokio::test]
async fn without_a_token_from_the_start_the_answer_is_503_with_the_reason() {
    for (outage, reason) in [
        (Outage::Status(500), "unavailable"),
        (Outage::Status(429), "rate_limited"),
        (Outage::Error { status: 503, error: "backend_error", description: "" }, "unavailable"),
    ] {
        let bed = without_token(&outage, Some("30")).await;
        for door in DOORS {
            let response = bed.client(door, STORAGE).await.call(get("/echo")).await;
            assert_eq!(response.status(), 503, "{door:?} {outage:?}");
            assert!(response.headers().contains_key("retry-after"), "{door:?} {outage:?}");
            assert_eq!(response.headers()["x-bearerd-error"], reason, "{door:?} {outage:?}");
        }
        assert_eq!(bed.google.request_count(), 0, "{outage:?}");
        assert!(!bed.ground.ready.is_ready(), "{outage:?}");
        bed.google.outage(Outage::None);
        let mut client = bed.client(Door::InterceptH2, STORAGE).await;
        within("the recovery", async { while client.call(get("/echo")).await.status() != 200 {} }).await;
        assert!(bed.ground.ready.is_ready(), "{outage:?}");
    }
}

#[tokio::test]
async fn a_request_that_waits_is_served_when_the_endpoint_comes_back() {
    for outage in [
        Outage::Refuse,
        Outage::TlsError,
        Outage::EmptyBody,
        Outage::Html,
        Outage::HalfJson,
        Outage::Truncated,
        Outage::Nested,
        Outage::Endless,
    ] {
        let bed = without_token(&outage, None).await;
        let mut client = bed.client(Door::InterceptH2, STORAGE).await;
        let recovery = async {
            eventually("a waiting request", || bed.ground.tasks.in_flight() == 1).await;
            assert_eq!(bed.google.request_count(), 0, "{outage:?}");
            bed.google.outage(Outage::None);
        };
        let (response, ()) = tokio::join!(client.call(get("/echo")), recovery);
        assert_eq!(response.status(), 200, "{outage:?}");
    }
}

#[tokio::test]
async fn a_request_waits_ten_seconds_for_a_token_and_no_longer() {
    let bed = without_token(&Outage::Refuse, None).await;
    let clients = DOORS.map(|door| {
        let bed = &bed;
        async move { bed.client(door, STORAGE).await.call(get("/echo")).await }
    });
    for response in within("answers", futures_util::future::join_all(clients)).await {
        assert_eq!(response.status(), 503);
        assert!(response.headers().contains_key("retry-after"));
    }
}

/// A bed whose first exchange has failed, on a clock fifty times as fast.
async fn without_token(outage: &Outage, retry_after: Option<&str>) -> Bed {
    let world = World::at(Clock::fast(50)).await;
    world.google.outage(outage.clone());
    world.google.script(|script| script.retry_after = retry_after.map(str::to_owned));
    let bed = world.start(|_| {});
    eventually("a failed exchange", || failures(&bed) > 0).await;
    bed
}

#[tokio::test]
async fn the_token_endpoint_cannot_send_us_elsewhere() {
    let world = World::at(Clock::fast(50)).await;
    let evil = RecordingHost::start(&world.tasks, None).await.unwrap();
    world.google.outage(Outage::Redirect("https://evil.test/token".to_owned()));
    world.google.script(|script| script.retry_after = Some("30".to_owned()));
    let bed = world.start(|settings| send_to(settings, "evil.test", 443, evil.address()));
    eventually("two failed exchanges", || failures(&bed) > 1).await;
    assert_eq!(evil.connection_count(), 0);
}

#[tokio::test]
async fn a_refused_token_is_renewed_once_and_the_request_sent_again() {
    // The token endpoint is asked over HTTP/1.1, so `Both` is how the APIs come to speak HTTP/2.
    for upstream in [Protocols::H1, Protocols::Both] {
        for door in DOORS {
            for body in ["", "a small body"] {
                let bed = Bed::start().await;
                bed.exchanges_reach(1).await;
                bed.google.protocols(upstream);
                let mut client = bed.client(door, STORAGE).await;
                assert_eq!(client.call(get("/echo")).await.status(), 200);
                bed.google.revoke_all();
                let request = if body.is_empty() { get("/echo?again") } else { post("/echo?again", body) };
                let response = client.call(request).await;
                assert_eq!(response.status(), 200, "{door:?} to {upstream:?} {body:?}");
                let seen: Vec<_> = bed.google.requests().into_iter().skip(1).collect();
                let admissions: Vec<_> = seen.iter().map(|request| request.admission).collect();
                assert_eq!(admissions, [Admission::Revoked, Admission::Token], "{door:?} to {upstream:?} {body:?}");
                assert_eq!((seen[1].body.length, seen[1].target.as_str()), (body.len() as u64, "/echo?again"));
                assert_eq!(seen[1].headers.get_all("authorization").iter().count(), 1);
                assert_eq!(bed.google.exchange_count(), 2);
            }
        }
    }
}

#[tokio::test]
async fn a_401_for_a_body_that_is_not_held_goes_to_the_client_and_the_next_request_is_served() {
    for door in DOORS {
        let world = World::new().await;
        // Reads on after its answer, as a server must that wants its answer to arrive.
        let name = "early.googleapis.com";
        let answer = Some(UNAUTHORIZED.into());
        let host = RecordingHost::start_tls(&world.tasks, &world.google, name, Protocols::H1, answer).await.unwrap();
        let bed = world.start(|settings| send_to(settings, name, 443, host.address()));
        bed.exchanges_reach(1).await;
        let mut client = bed.client(door, name).await;
        let (feed, body) = fed();
        let chunk = Bytes::from(vec![7; 64 * 1024]);
        feed.data(chunk.clone()).await;
        feed.data(chunk.clone()).await;
        let response = client.send(Request::post("/echo").body(body).unwrap()).await;
        assert_eq!(response.status(), 401, "{door:?}");
        assert!(response.headers().contains_key("www-authenticate"));
        assert!(!response.headers().contains_key("x-bearerd-error"), "it is the upstream's word, not ours");
        drop((feed, response));
        assert_eq!(host.connection_count(), 1, "{door:?}: sent once");
        bed.exchanges_reach(2).await;
        assert_eq!(bed.client(door, STORAGE).await.call(get("/echo")).await.status(), 200, "{door:?}");
    }
}

#[tokio::test]
async fn an_upstream_that_refuses_every_token_is_passed_through_and_causes_no_storm() {
    let world = World::new().await;
    let name = "never.googleapis.com";
    let answer = Some(UNAUTHORIZED.into());
    let host = RecordingHost::start_tls(&world.tasks, &world.google, name, Protocols::H1, answer).await.unwrap();
    let bed = world.start(|settings| send_to(settings, name, 443, host.address()));
    let mut client = bed.client(Door::InterceptH2, name).await;
    for _ in 0..20 {
        let response = client.call(get("/x")).await;
        assert_eq!((response.status().as_u16(), response.body().as_ref()), (401, &b"never"[..]));
    }
    assert_eq!(bed.google.exchange_count(), 2, "the first, and one forced");
    assert_eq!(host.connection_count(), 21, "one request was sent twice");
}

#[tokio::test]
async fn other_refusals_say_nothing_about_the_token() {
    let bed = Bed::start().await;
    for door in DOORS {
        let mut client = bed.client(door, STORAGE).await;
        for status in [400, 401, 403, 404, 429, 500, 503] {
            let response = client.call(get(&format!("/status/{status}"))).await;
            assert_eq!(response.status(), status, "{door:?}");
            assert!(!response.headers().contains_key("x-bearerd-error"), "{door:?} {status}");
        }
    }
    assert_eq!((bed.google.exchange_count(), bed.google.request_count()), (1, 21));
}

#[tokio::test]
async fn fifty_requests_with_a_refused_token_cause_one_refresh_and_all_succeed() {
    let bed = Bed::start().await;
    let mut client = bed.client(Door::InterceptH2, STORAGE).await;
    assert_eq!(client.call(get("/echo")).await.status(), 200);
    bed.google.revoke_all();
    let calls = (0..50).map(|number| {
        let mut sender = client.h2();
        let request = client.place(get(&format!("/echo?{number}")));
        async move { whole(sender.send_request(request).await.unwrap()).await.status() }
    });
    let all = within("fifty answers", futures_util::future::join_all(calls)).await;
    assert!(all.iter().all(|status| *status == 200), "{all:?}");
    assert_eq!(bed.google.exchange_count(), 2);
}

/// All failed exchanges.
fn failures(bed: &Bed) -> u64 {
    let page = bed.ground.metrics.render();
    let failed = page.lines().filter(|line| line.starts_with("bearerd_token_refresh_failures_total{"));
    failed.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

const UNAUTHORIZED: &str = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"x\", error=\"invalid_token\"\r\n\
                            Connection: close\r\nContent-Length: 5\r\n\r\nnever";
