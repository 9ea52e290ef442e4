//! The main job: a key goes in, requests come out with exactly one credential, ours.

use std::time::Duration;

use bearerd::{
    demo::Protocols,
    policy::{ClientAuthorization, QuotaProject, TokenKind},
};
use http::{HeaderName, header};

use crate::{
    bed::{Bed, STORAGE, World, routed},
    client::{DOORS, Door, get, get_with, post, with, within},
};

#[tokio::test]
async fn a_request_through_any_door_gets_the_token_on_any_upstream() {
    for protocols in [Protocols::Both, Protocols::H1] {
        let world = World::new().await;
        world.google.protocols(protocols);
        let bed = world.start(|_| {});
        for door in DOORS {
            let mut client = bed.client(door, STORAGE).await;
            let response = client.call(get("/storage/v1/b?project=p")).await;
            assert_eq!(response.status(), 200, "{door:?} {:?}", response.body());
            let seen = bed.last();
            assert_eq!(seen.headers["authorization"], format!("Bearer {}", bed.only_token()));
            assert_eq!((seen.authority.as_str(), seen.sni.as_deref()), (STORAGE, Some(STORAGE)), "{door:?}");
        }
        assert_eq!(bed.google.exchange_count(), 1, "one token for all");
        assert_eq!(bed.google.connections(), 2, "the exchange's and one for all requests");
    }
}

/// Forms of Google's host names beside `SERVICE.googleapis.com`: in a location, in a region, a bucket's, and an endpoint of
/// Private Service Connect, whose addresses are private.
#[tokio::test]
async fn a_service_gets_the_token_under_every_form_of_its_name() {
    let bed = World::new().await.start(|_| {});
    for host in [
        "us-central1-aiplatform.googleapis.com",
        "pubsub.europe-west1.rep.googleapis.com",
        "photos.2024.storage.googleapis.com",
        "storage-our-endpoint.p.googleapis.com",
    ] {
        for door in DOORS {
            let mut client = bed.client(door, host).await;
            assert_eq!(client.call(get("/echo")).await.status(), 200, "{door:?} {host}");
            let seen = bed.last();
            assert_eq!(seen.headers["authorization"], format!("Bearer {}", bed.only_token()), "{door:?} {host}");
            assert_eq!((seen.authority.as_str(), seen.sni.as_deref()), (host, Some(host)), "{door:?}");
        }
    }
    assert_eq!(bed.google.exchange_count(), 1, "one token for all");
}

#[tokio::test]
async fn whatever_credential_the_client_sends_is_replaced() {
    let bed = Bed::start().await;
    let placeholder = format!("Bearer {}", bed.placeholder());
    let spellings: [&[(&str, &str)]; 6] = [
        &[],
        &[("authorization", "Bearer ya29.of-the-client")],
        &[("Authorization", &placeholder)],
        &[("authorization", "Basic dTpw")],
        &[("authorization", "")],
        &[("authorization", "bearer x"), ("x-other", "1")],
    ];
    for door in DOORS {
        let mut client = bed.client(door, STORAGE).await;
        for fields in spellings {
            assert_eq!(client.call(get_with("/echo", fields)).await.status(), 200, "{door:?} {fields:?}");
            let seen = bed.last();
            let all: Vec<_> = seen.headers.get_all(header::AUTHORIZATION).iter().collect();
            assert_eq!(all, [format!("Bearer {}", bed.only_token()).as_str()], "{door:?} {fields:?}");
        }
    }
}

#[tokio::test]
async fn two_credentials_on_one_h2_request_become_one() {
    let bed = Bed::start().await;
    let mut client = bed.client(Door::InterceptH2, STORAGE).await;
    let request = get_with("/echo", &[("authorization", "Bearer one"), ("authorization", "Bearer two")]);
    assert_eq!(client.call(request).await.status(), 200);
    assert_eq!(bed.last().headers.get_all(header::AUTHORIZATION).iter().count(), 1);
}

#[tokio::test]
async fn a_route_that_keeps_the_clients_credential_lets_it_win_alone() {
    let bed = Bed::with(|settings| {
        routed(settings, |route| route.client_authorization = ClientAuthorization::Keep);
    })
    .await;
    let placeholder = format!("Bearer {}", bed.placeholder());
    for door in DOORS {
        let mut client = bed.client(door, STORAGE).await;
        for (own, status) in [("Bearer of-the-client", 401), (placeholder.as_str(), 200), ("", 200)] {
            let response = client.call(get_with("/echo", &[("authorization", own)])).await;
            assert_eq!(response.status(), status, "{door:?} {own}");
            let seen = bed.last();
            let all: Vec<_> = seen.headers.get_all(header::AUTHORIZATION).iter().collect();
            let expected = if status == 401 { own.to_owned() } else { format!("Bearer {}", bed.only_token()) };
            assert_eq!(all, [expected.as_str()], "{door:?} {own}");
        }
    }
    assert_eq!(bed.google.exchange_count(), 1, "a 401 for the client's own credential says nothing about ours");
}

/// Over HTTP/1.1 the gate refuses a second one already.
#[tokio::test]
async fn of_several_credentials_over_h2_none_is_kept_beside_another() {
    let bed = Bed::with(|settings| {
        routed(settings, |route| route.client_authorization = ClientAuthorization::Keep);
    })
    .await;
    let placeholder = format!("Bearer {}", bed.placeholder());
    let mut client = bed.client(Door::InterceptH2, STORAGE).await;
    let two = [("authorization", "Bearer one"), ("authorization", "Bearer two")];
    let response = client.call(get_with("/echo", &two)).await;
    let reason = response.headers()["x-bearerd-error"].to_str().unwrap();
    assert_eq!((response.status().as_u16(), reason, bed.google.request_count()), (403, "several_credentials", 0));
    let with_placeholder = [("authorization", placeholder.as_str()), ("authorization", "Bearer own")];
    assert_eq!(client.call(get_with("/echo", &with_placeholder)).await.status(), 401);
    let seen = bed.last();
    assert_eq!(seen.headers.get_all(header::AUTHORIZATION).iter().collect::<Vec<_>>(), ["Bearer own"]);
}

#[tokio::test]
async fn a_route_that_requires_the_placeholder_gives_nothing_to_other_requests() {
    let bed = Bed::with(|settings| {
        routed(settings, |route| route.client_authorization = ClientAuthorization::Require);
    })
    .await;
    let placeholder = format!("Bearer {}", bed.placeholder());
    for door in DOORS {
        let mut client = bed.client(door, STORAGE).await;
        assert_eq!(client.call(get_with("/echo", &[("authorization", &placeholder)])).await.status(), 200);
        for fields in [&[][..], &[("authorization", "Bearer ya29.bearerd-placeholder-of-another-pod")]] {
            assert_eq!(client.call(get_with("/echo", fields)).await.status(), 401, "{door:?} {fields:?}");
            let seen = bed.last();
            let own = fields.first().map(|(_, value)| *value);
            assert_eq!(seen.headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap()), own);
        }
    }
}

#[tokio::test]
async fn a_route_may_put_the_token_into_another_header() {
    let serverless = HeaderName::from_static("x-serverless-authorization");
    let bed = Bed::with(|settings| routed(settings, |route| route.header = serverless)).await;
    for door in DOORS {
        let mut client = bed.client(door, STORAGE).await;
        let fields = [("authorization", "Bearer of-the-application"), ("x-serverless-authorization", "Bearer x")];
        assert_eq!(client.call(get_with("/echo", &fields)).await.status(), 200);
        let seen = bed.last();
        let all: Vec<_> = seen.headers.get_all("x-serverless-authorization").iter().collect();
        assert_eq!(all, [format!("Bearer {}", bed.only_token()).as_str()], "{door:?}");
        // Cloud Run looks at the other header only, so that the application's own can reach the service.
        assert_eq!(seen.headers["authorization"], "Bearer of-the-application", "{door:?}");
    }
}

#[tokio::test]
async fn a_placeholder_never_travels_beside_a_token_in_another_header() {
    let serverless = HeaderName::from_static("x-serverless-authorization");
    let bed = Bed::with(|settings| routed(settings, |route| route.header = serverless)).await;
    let placeholder = format!("Bearer {}", bed.placeholder());
    let mut client = bed.client(Door::InterceptH2, STORAGE).await;
    assert_eq!(client.call(get_with("/echo", &[("authorization", &placeholder)])).await.status(), 200);
    assert!(!bed.last().headers.contains_key(header::AUTHORIZATION));
}

#[tokio::test]
async fn a_header_of_another_kind_carries_the_bare_token() {
    let bed = Bed::with(|settings| {
        routed(settings, |route| route.header = HeaderName::from_static("clearblade-usertoken"));
    })
    .await;
    let mut client = bed.client(Door::InterceptH1, STORAGE).await;
    client.call(get("/echo")).await;
    assert_eq!(bed.last().headers["clearblade-usertoken"], bed.only_token());
}

#[tokio::test]
async fn the_quota_project_is_added_where_the_client_names_none() {
    let bed =
        Bed::with(|settings| routed(settings, |route| route.quota_project = QuotaProject::Is("payer".to_owned())))
            .await;
    for door in DOORS {
        let mut client = bed.client(door, STORAGE).await;
        client.call(get("/echo")).await;
        assert_eq!(bed.last().headers["x-goog-user-project"], "payer");
        client.call(get_with("/echo", &[("x-goog-user-project", "own")])).await;
        let seen = bed.last();
        assert_eq!(seen.headers.get_all("x-goog-user-project").iter().collect::<Vec<_>>(), ["own"], "{door:?}");
    }
}

#[tokio::test]
async fn the_quota_project_of_the_key_file_goes_with_access_tokens_unless_a_route_says_otherwise() {
    for (said, token, expected) in [
        (QuotaProject::OfCredential, TokenKind::Access, Some("of-the-file")),
        (QuotaProject::OfCredential, TokenKind::SelfSigned, Some("of-the-file")),
        (QuotaProject::OfCredential, TokenKind::Id, None),
        (QuotaProject::Unsaid, TokenKind::Access, None),
        (QuotaProject::Is("payer".to_owned()), TokenKind::Access, Some("payer")),
    ] {
        let world = World::new().await;
        let mut file: serde_json::Value = serde_json::from_str(&world.key.json()).unwrap();
        file["quota_project_id"] = "of-the-file".into();
        world.publish("..quota", &[("key.json", file.to_string())]);
        let bed = world.start(|settings| {
            routed(settings, |route| {
                route.quota_project = said.clone();
                route.token = token;
                route.audience = Some("somebody".to_owned()).filter(|_| token == TokenKind::Id);
            });
        });
        bed.client(Door::InterceptH2, STORAGE).await.call(get("/echo")).await;
        let sent = bed.last().headers.get("x-goog-user-project").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(sent.as_deref(), expected, "{said:?} {token:?}");
    }
}

#[tokio::test]
async fn another_quota_project_in_the_key_file_takes_effect_without_a_request_lost() {
    let world = World::new().await;
    let key = world.key.json();
    let with_project = |project: &str| {
        let mut file: serde_json::Value = serde_json::from_str(&key).unwrap();
        file["quota_project_id"] = project.into();
        file.to_string()
    };
    world.publish("..first", &[("key.json", with_project("first"))]);
    let bed = world.start(|_| {});
    let mut client = bed.client(Door::InterceptH2, STORAGE).await;
    let mut sent = async || {
        assert_eq!(client.call(get("/echo")).await.status(), 200);
        bed.last().headers["x-goog-user-project"].to_str().unwrap().to_owned()
    };
    assert_eq!(sent().await, "first");
    bed.publish("..second", &[("key.json", with_project("second"))]);
    let seen = async {
        while sent().await != "second" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("the second project", seen).await;
}

#[tokio::test]
async fn the_target_goes_out_byte_for_byte() {
    for protocols in [Protocols::H2, Protocols::H1] {
        let world = World::new().await;
        let bed = {
            let bed = world.start(|_| {});
            bed.exchanges_reach(1).await;
            bed.google.protocols(protocols);
            bed
        };
        for door in DOORS {
            let mut client = bed.client(door, STORAGE).await;
            for target in [
                "/storage/v1/b/bucket/o/a%2Fb%2fc",
                "//double//slash//",
                "/a/./b/../c",
                "/%2e%2E/x",
                "/echo?",
                "/echo?a=1&a=2&b=%20+%2B&c",
                "/echo?q=a/b?c",
                "/with:colon@and;semi,comma!$'()*~",
                "/%FF%00",
                "/",
            ] {
                client.call(get(target)).await;
                let seen = bed.last();
                assert_eq!(seen.target, target, "{door:?} {protocols:?}");
                assert!(seen.admission.is_good(), "{target}");
            }
        }
    }
}

#[tokio::test]
async fn a_query_alone_becomes_a_path_with_that_query() {
    let bed = Bed::start().await;
    let mut stream = crate::raw::proxy(&bed).await;
    let head = format!("GET http://{STORAGE}?project=p HTTP/1.1\r\nHost: {STORAGE}\r\n\r\n");
    crate::raw::write(&mut stream, head.as_bytes()).await;
    crate::raw::answer(&mut stream).await;
    assert_eq!(bed.last().target, "/?project=p");
}

#[tokio::test]
async fn clients_that_close_after_each_request_cost_no_upstream_handshakes() {
    for protocols in [Protocols::Both, Protocols::H1] {
        let world = World::new().await;
        world.google.protocols(protocols);
        let bed = world.start(|_| {});
        for _ in 0..5 {
            for door in [Door::Forward, Door::InterceptH1] {
                let mut client = bed.client(door, STORAGE).await;
                let response = client.call(get_with("/echo", &[("connection", "close")])).await;
                assert_eq!(response.status(), 200);
            }
        }
        assert_eq!(bed.google.connections(), 2, "{protocols:?}: the exchange's and one for all requests");
    }
}

#[tokio::test]
async fn an_absolute_https_url_on_the_proxy_port_goes_out_over_verified_tls() {
    let bed = Bed::start().await;
    let mut client = bed.client(Door::Forward, STORAGE).await;
    let response = client.call(get(&format!("https://{STORAGE}/echo"))).await;
    assert_eq!(response.status(), 200);
    assert!(bed.last().admission.is_good());
}

#[tokio::test]
async fn proxy_authorization_is_ours_on_the_proxy_port_and_the_hosts_inside_a_tunnel() {
    let bed = Bed::start().await;
    for (door, travels) in [(Door::Forward, false), (Door::InterceptH1, true), (Door::InterceptH2, true)] {
        let mut client = bed.client(door, STORAGE).await;
        client.call(get_with("/echo", &[("proxy-authorization", "Bearer of-the-application")])).await;
        assert_eq!(bed.last().headers.contains_key("proxy-authorization"), travels, "{door:?}");
    }
}

#[tokio::test]
async fn many_requests_at_once_all_get_the_one_token() {
    let bed = Bed::start().await;
    let client = bed.client(Door::InterceptH2, STORAGE).await;
    let calls = (0..50).map(|number| {
        let mut sender = client.h2();
        let request = client.place(with(post("/echo", format!("body {number}")), &[("x-number", &number.to_string())]));
        async move { crate::client::whole(sender.send_request(request).await.unwrap()).await.status() }
    });
    let all = within("fifty answers", futures_util::future::join_all(calls)).await;
    assert!(all.iter().all(|status| *status == 200));
    assert!(bed.google.requests().iter().all(|request| request.admission.is_good()));
    assert_eq!(bed.google.exchange_count(), 1);
}
