//! What is refused, how a refusal looks, and what passes without a token of ours.

use bearerd::policy::{HostPattern, Policy, QuotaProject, Route, Unmatched};
use http::{Method, Request};

use crate::{
    bed::{Bed, STORAGE, apis},
    client::{DOORS, Door, eventually, full, get, get_with, post, with},
    raw,
};

const IAM: &str = "iamcredentials.googleapis.com";

#[tokio::test]
async fn apis_that_hand_out_credentials_are_denied_on_every_door() {
    let bed = Bed::start().await;
    bed.exchanges_reach(1).await;
    let account = "projects/-/serviceAccounts/a@p.iam.gserviceaccount.com";
    for (host, method, target) in [
        (IAM, "POST", format!("/v1/{account}:generateAccessToken")),
        (IAM, "POST", format!("/v1/{account}:generateIdToken")),
        (IAM, "POST", format!("/v1/{account}:signBlob")),
        (IAM, "POST", format!("/v1/{account}%3AsignJwt")),
        (IAM, "POST", format!("//v1//{account}:signBlob")),
        (IAM, "GET", "/anything".to_owned()),
        ("iamcredentials.mtls.googleapis.com", "POST", format!("/v1/{account}:signBlob")),
        ("iamcredentials.europe-west1.rep.googleapis.com", "POST", format!("/v1/{account}:signBlob")),
        ("iamcredentials-mine.p.googleapis.com", "POST", format!("/v1/{account}:signBlob")),
        ("iam.googleapis.com", "POST", format!("/v1/{account}:signBlob")),
        ("iam.googleapis.com", "POST", format!("/v1/{account}/keys")),
        ("iam.googleapis.com", "POST", format!("/v1/{account}/%6beys")),
        ("iam.googleapis.com", "POST", format!("/v1/{account}/x/../keys")),
        ("iam.googleapis.com", "POST", format!("/v1/{account}/keys:upload")),
        ("iam.googleapis.com", "POST", "/google.iam.admin.v1.IAM/CreateServiceAccountKey".to_owned()),
        ("iam.googleapis.com", "POST", "/batch/iam/v1".to_owned()),
        ("apikeys.googleapis.com", "GET", "/v2/projects/p/locations/global/keys/k/keyString".to_owned()),
        ("storage.googleapis.com", "POST", "/storage/v1/projects/p/hmacKeys".to_owned()),
        ("storage.googleapis.com", "POST", "/?Action=CreateAccessKey".to_owned()),
        ("www.googleapis.com", "POST", "/batch".to_owned()),
    ] {
        for door in DOORS {
            let request = Request::builder().method(method).uri(&target).body(full("{}")).unwrap();
            let response = bed.client(door, host).await.call(request).await;
            assert_eq!(response.status(), 403, "{door:?} {host} {target}");
            assert_eq!(response.headers()["x-bearerd-error"], "minting", "{door:?} {host} {target}");
        }
    }
    assert_eq!((bed.google.request_count(), bed.google.connections()), (0, 1));
}

/// As gRPC and as REST, over HTTP/2 and HTTP/1.1, under every name that the services have.
#[tokio::test]
async fn methods_that_mint_are_denied_by_grpc_under_every_name_of_their_service() {
    let bed = Bed::start().await;
    bed.exchanges_reach(1).await;
    for (service, methods) in [
        (
            "/google.iam.credentials.v1.IAMCredentials",
            &["GenerateAccessToken", "GenerateIdToken", "SignBlob", "SignJwt", "Sign%42lob", "%53ignJwt"][..],
        ),
        ("/google.iam.admin.v1.IAM", &["CreateServiceAccountKey", "UploadServiceAccountKey", "SignBlob", "Sign%4awt"]),
        ("/google.api.apikeys.v2.ApiKeys", &["GetKeyString", "CreateKey"]),
    ] {
        let name = match service.rsplit('.').next() {
            Some("IAMCredentials") => "iamcredentials",
            Some("IAM") => "iam",
            _ => "apikeys",
        };
        for host in ["NAME", "NAME.mtls", "NAME.europe-west1.rep", "NAME-mine.p", "europe-west1-NAME"] {
            // Carried unseen, with the client's own certificate and no token of ours.
            if host == "NAME.mtls" && name != "iamcredentials" {
                continue;
            }
            let host = format!("{}.googleapis.com", host.replace("NAME", name));
            for method in methods {
                for door in [Door::InterceptH1, Door::InterceptH2] {
                    let grpc = with(post(&format!("{service}/{method}"), ""), &[("content-type", "application/grpc")]);
                    let response = bed.client(door, &host).await.call(grpc).await;
                    let status = response.headers().get("grpc-status").map(|status| status.to_str().unwrap());
                    assert_eq!(status, Some("7"), "{door:?} {host} {service}/{method}");
                    assert_eq!(response.headers()["x-bearerd-error"], "minting", "{door:?} {host} {service}/{method}");
                }
            }
        }
    }
    assert_eq!((bed.google.request_count(), bed.google.connections()), (0, 1));
}

#[tokio::test]
async fn neighbours_of_denied_methods_are_served() {
    let bed = Bed::start().await;
    for (host, method, target) in [
        ("iam.googleapis.com", Method::GET, "/v1/projects/p/serviceAccounts/a/keys"),
        ("iam.googleapis.com", Method::POST, "/v1/projects/p/serviceAccounts"),
        ("storage.googleapis.com", Method::GET, "/storage/v1/projects/p/hmacKeys"),
        ("storage.googleapis.com", Method::GET, "/storage/v1/b/serviceAccounts/o/x:signBlob"),
        ("www.googleapis.com", Method::POST, "/batch/storage/v1"),
        ("apikeys.googleapis.com", Method::GET, "/v2/projects/p/locations/global/keys"),
    ] {
        let request = Request::builder().method(method).uri(target).body(full("")).unwrap();
        bed.client(Door::InterceptH2, host).await.call(request).await;
        let seen = bed.last();
        assert!(seen.admission.is_good() && seen.target == target, "{host} {target} {seen:?}");
    }
}

#[tokio::test]
async fn a_method_override_does_not_get_around_a_rule() {
    let bed = Bed::start().await;
    for name in ["x-http-method-override", "x-http-method", "x-method-override"] {
        for door in DOORS {
            let request = get_with("/v1/projects/p/serviceAccounts/a/keys", &[(name, "POST")]);
            let response = bed.client(door, "iam.googleapis.com").await.call(request).await;
            assert_eq!(response.status(), 403, "{door:?} {name}");
            assert_eq!(response.headers()["x-bearerd-error"], "method_override");
        }
    }
    assert_eq!(bed.google.request_count(), 0);
}

#[tokio::test]
async fn a_deny_route_is_not_dodged_by_spelling() {
    let bed = Bed::with(|settings| {
        let deny = Route {
            name: "no-deletes".to_owned(),
            hosts: vec![HostPattern::parse(STORAGE).unwrap()],
            paths: vec!["/storage/v1/b/precious".to_owned()],
            action: bearerd::policy::Action::Deny,
            ..Route::google_apis(apis())
        };
        settings.policy = Policy::new(vec![deny, Route::google_apis(apis())], Unmatched::Pass, apis());
    })
    .await;
    for target in [
        "/storage/v1/b/precious/o/x",
        "/storage/v1/b/%70recious/o/x",
        "/storage/v1/b/x/../precious/o/x",
        "/storage/v1/b/./precious",
        "//storage/v1//b/precious",
        "/storage/v1/b/x/%2e%2e/precious",
    ] {
        for door in DOORS {
            let response = bed.client(door, STORAGE).await.call(get(target)).await;
            assert_eq!(response.status(), 403, "{door:?} {target}");
        }
    }
    assert_eq!(bed.google.request_count(), 0);
    assert_eq!(bed.client(Door::InterceptH1, STORAGE).await.call(get("/storage/v1/b/other")).await.status(), 200);
}

#[tokio::test]
async fn requests_that_are_credentials_already_pass_as_they_are() {
    let bed = Bed::with(|settings| {
        crate::bed::routed(settings, |route| route.quota_project = QuotaProject::Is("payer".to_owned()));
    })
    .await;
    for (host, target, fields) in [
        (STORAGE, "/b/o?X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Signature=abc", &[][..]),
        (STORAGE, "/b/o?GoogleAccessId=a&Expires=1&Signature=abc%3D", &[]),
        (STORAGE, "/b/o?X-Amz-Signature=abc", &[]),
        (STORAGE, "/b/o", &[("authorization", "GOOG1 id:sig")]),
        (STORAGE, "/b/o", &[("authorization", "AWS4-HMAC-SHA256 Credential=x")]),
        ("generativelanguage.googleapis.com", "/v1beta/models/m:generateContent?key=AIza-test", &[]),
        ("generativelanguage.googleapis.com", "/v1beta/models/m:generateContent", &[("x-goog-api-key", "AIza-test")]),
        (STORAGE, "/storage/v1/b?access_token=ya29.own", &[]),
    ] {
        for door in DOORS {
            bed.client(door, host).await.call(with(post(target, "{}"), fields)).await;
            let seen = bed.last();
            assert_eq!(seen.target, target, "{door:?}");
            let own = fields.iter().find(|(name, _)| *name == "authorization").map(|(_, value)| *value);
            let sent = seen.headers.get("authorization").map(|value| value.to_str().unwrap());
            assert_eq!(sent, own, "{door:?} {target}");
            assert!(!seen.headers.contains_key("x-goog-user-project"), "{door:?} {target}: their project, not ours");
            for (name, value) in fields {
                assert_eq!(seen.headers[*name], *value);
            }
        }
    }
    // The placeholder beside it says nothing, and goes nowhere.
    let fields = [("x-goog-api-key", "AIza-test"), ("authorization", &format!("Bearer {}", bed.placeholder()))];
    bed.client(Door::InterceptH2, STORAGE).await.call(get_with("/echo", &fields)).await;
    assert!(!bed.last().headers.contains_key("authorization"));
    assert!(bed.metric("requests_passed_total{reason=\"api_key\"}") >= 7);
    assert!(!crate::capture::log().contains("AIza"), "queries and keys are not logged");
}

#[tokio::test]
async fn names_that_only_look_like_signatures_get_the_token() {
    let bed = Bed::start().await;
    for target in [
        "/echo?key",
        "/echo?key=",
        "/echo?Key=AIza",
        "/echo?x-goog-signature=abc",
        "/echo?Signature=abc",
        "/echo?q=X-Goog-Signature%3Dabc",
        "/upload/storage/v1/b/b/o?uploadType=resumable&upload_id=abc",
    ] {
        bed.client(Door::InterceptH1, STORAGE).await.call(get(target)).await;
        let seen = bed.last();
        assert_eq!(seen.headers["authorization"], format!("Bearer {}", bed.only_token()), "{target}");
    }
}

#[tokio::test]
async fn refusals_look_as_the_caller_expects_and_are_never_a_401() {
    let bed = Bed::start().await;
    for door in [Door::InterceptH2, Door::InterceptH1] {
        let mut client = bed.client(door, IAM).await;
        let response = client.call(post("/v1/x:signBlob", "{}")).await;
        assert_eq!(response.status(), 403);
        assert_eq!(response.headers()["content-type"], "application/json; charset=UTF-8");
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!((&body["error"]["code"], &body["error"]["status"]), (&403.into(), &"PERMISSION_DENIED".into()));
        assert_eq!(body["error"]["errors"][0]["reason"], "forbidden");
        assert_eq!(body["error"]["details"][0]["domain"], "bearerd.dev");
        assert!(body["error"]["message"].as_str().unwrap().starts_with("bearerd: "), "{body}");
        let grpc = with(
            post("/google.iam.credentials.v1.IAMCredentials/SignBlob", ""),
            &[("content-type", "application/grpc")],
        );
        let response = client.call(grpc).await;
        assert_eq!((response.status().as_u16(), response.headers()["grpc-status"].to_str().unwrap()), (200, "7"));
        assert_eq!(response.headers()["content-type"], "application/grpc");
        assert_eq!(response.headers()["x-bearerd-error"], "minting");
        assert!(response.headers()["grpc-message"].to_str().unwrap().starts_with("bearerd: "));
        assert!(response.body().is_empty());
    }
}

#[tokio::test]
async fn a_refused_head_has_no_body() {
    let bed = Bed::start().await;
    for door in DOORS {
        let mut client = bed.client(door, IAM).await;
        let response = client.call(Request::head("/v1/x").body(full("")).unwrap()).await;
        assert_eq!((response.status().as_u16(), response.body().len()), (403, 0), "{door:?}");
        if client.is_closed() {
            continue;
        }
        assert_eq!(client.call(get("/v1/x")).await.status(), 403, "{door:?}: the connection is still good");
    }
}

#[tokio::test]
async fn ambiguous_requests_are_refused_before_anything_goes_upstream() {
    let bed = Bed::start().await;
    bed.exchanges_reach(1).await;
    let line = format!("POST http://{STORAGE}/echo HTTP/1.1");
    let host = format!("Host: {STORAGE}");
    let mut requests = Vec::new();
    for fields in AMBIGUOUS {
        requests.push(format!("{line}\r\n{host}\r\n{fields}\r\nhello"));
    }
    for chunks in [
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n",
        "5 \r\nhello\r\n",
        "5\nhello\r\n",
        "\r\nhello",
        "fffffffffffffffff\r\n",
    ] {
        requests.push(format!("{line}\r\n{host}\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"));
    }
    for head in [
        format!("GET\thttp://{STORAGE}/echo HTTP/1.1\r\n{host}\r\n\r\n"),
        format!("GET  http://{STORAGE}/echo HTTP/1.1\r\n{host}\r\n\r\n"),
        format!("GET http://{STORAGE}/echo HTTP/1.1 \r\n{host}\r\n\r\n"),
        format!("GET http://{STORAGE}/echo HTTP/1.2\r\n{host}\r\n\r\n"),
        format!("GET http://{STORAGE}/echo HTTP/2.0\r\n{host}\r\n\r\n"),
        format!("GET http://{STORAGE}/echo http/1.1\r\n{host}\r\n\r\n"),
        format!("GET http://{STORAGE}/echo\r\n{host}\r\n\r\n"),
        format!("GET http://{STORAGE}/echo HTTP/1.1\n{host}\n\n"),
        format!("GET http://{STORAGE}/a#b HTTP/1.1\r\n{host}\r\n\r\n"),
        format!("GET http://{STORAGE}/a b HTTP/1.1\r\n{host}\r\n\r\n"),
        format!("GET http://{STORAGE}/\u{e9} HTTP/1.1\r\n{host}\r\n\r\n"),
        format!("\r\n\r\nGET http://{STORAGE}/echo HTTP/1.1\r\n{host}\r\n\r\n"),
        format!("GET http://{STORAGE}/echo HTTP/1.1\r\n X: 1\r\n{host}\r\n\r\n"),
        format!("GET http://{STORAGE}/echo HTTP/1.1\r\n\r\n"),
        format!("GET {STORAGE}:443 HTTP/1.1\r\n{host}\r\n\r\n"),
        format!("GET foo HTTP/1.1\r\n{host}\r\n\r\n"),
        format!("GET * HTTP/1.1\r\n{host}\r\n\r\n"),
        format!("TRACE http://{STORAGE}/echo HTTP/1.1\r\n{host}\r\n\r\n"),
        format!("GET http://{STORAGE}/echo HTTP/1.1\r\n{host}\r\n{}\r\n", "X: 1\r\n".repeat(101)),
        format!("GET http://{STORAGE}/echo HTTP/1.1\r\n{host}\r\nX: {}\r\n\r\n", "x".repeat(40_000)),
        format!("GET http://{STORAGE}/{} HTTP/1.1\r\n{host}\r\n\r\n", "x".repeat(9000)),
    ] {
        requests.push(head);
    }
    let inside = |request: &str| request.replacen(&format!("http://{STORAGE}"), "", 1);
    for request in &requests {
        for tls in [false, true] {
            let answer = if tls {
                let mut stream = bed.connect(STORAGE, &[b"http/1.1"]).await;
                refusal(&mut stream, &inside(request)).await
            } else {
                refusal(&mut raw::proxy(&bed).await, request).await
            };
            let status = answer.status();
            assert!((400..=501).contains(&status) && status != 401, "{request:?} tls={tls}: {:?}", answer.head);
        }
    }
    assert_eq!((bed.google.request_count(), bed.google.connections()), (0, 1));
}

/// The one answer on a connection that ends after it.
async fn refusal<S>(stream: &mut S, request: &str) -> raw::Answer
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let good = format!("GET http://{STORAGE}/echo HTTP/1.1\r\nHost: {STORAGE}\r\n\r\n");
    raw::write(stream, format!("{request}{good}").as_bytes()).await;
    let answer = raw::answer(stream).await;
    assert_eq!(raw::rest(stream).await, b"", "nothing is answered after a refusal: {request:?}");
    answer
}

#[tokio::test]
async fn a_fault_in_the_middle_of_a_body_breaks_the_upload_off() {
    let bed = Bed::start().await;
    let mut stream = raw::proxy(&bed).await;
    let head = format!("POST http://{STORAGE}/echo HTTP/1.1\r\nHost: {STORAGE}\r\nTransfer-Encoding: chunked\r\n\r\n");
    raw::write(&mut stream, format!("{head}5\r\nhello\r\n").as_bytes()).await;
    bed.requests_reach(1).await;
    raw::write(
        &mut stream,
        format!("5\r\nworldXX0\r\n\r\nGET http://{STORAGE}/echo HTTP/1.1\r\nHost: {STORAGE}\r\n\r\n").as_bytes(),
    )
    .await;
    raw::rest(&mut stream).await;
    eventually("the broken body in the record", || !bed.last().body.sha256.is_empty()).await;
    assert!(!bed.last().body.complete);
    assert_eq!(bed.google.request_count(), 1);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_and_each_judged_alone() {
    let bed = Bed::start().await;
    let mut stream = raw::proxy(&bed).await;
    let one = |host: &str, target: &str| format!("GET http://{host}{target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let all = [one(STORAGE, "/status/201"), one(IAM, "/v1/x"), one(STORAGE, "/status/202"), "BAD\r\n\r\n".to_owned()];
    raw::write(&mut stream, all.concat().as_bytes()).await;
    for status in [201, 403, 202, 400] {
        assert_eq!(raw::answer(&mut stream).await.status(), status);
    }
    assert_eq!(raw::rest(&mut stream).await, b"");
}

#[tokio::test]
async fn a_request_for_the_proxy_itself_is_told_what_this_port_is() {
    let bed = Bed::start().await;
    let mut stream = raw::proxy(&bed).await;
    raw::write(&mut stream, b"GET / HTTP/1.1\r\nHost: localhost:14180\r\n\r\n").await;
    let answer = raw::answer(&mut stream).await;
    assert_eq!((answer.status(), answer.field("x-bearerd-error")), (400, Some("not_a_proxy_request")));
    let mut stream = raw::proxy(&bed).await;
    raw::write(&mut stream, b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(raw::answer(&mut stream).await.status(), 204);
}

/// Fields behind `Host` that two readers could take for two things, or that no reader should take.
pub(crate) const AMBIGUOUS: &[&str] = &[
    "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    "Content-Length: 5\r\nContent-Length: 5\r\n",
    "Content-Length: 5, 5\r\n",
    "Content-Length: +5\r\n",
    "Content-Length: -1\r\n",
    "Content-Length: 0x5\r\n",
    "Content-Length: 05\r\n",
    "Content-Length:\r\n",
    "Content-Length: 18446744073709551616\r\n",
    "Content-Length: 9223372036854775808\r\n",
    "Content-Length : 5\r\n",
    "Transfer-Encoding : chunked\r\n",
    "Transfer-Encoding: xchunked\r\n",
    "Transfer-Encoding: chunked, chunked\r\n",
    "Transfer-Encoding: ,chunked\r\n",
    "Transfer-Encoding: chunked,\r\n",
    "Transfer-Encoding: identity\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding:\x0bchunked\r\n",
    "Transfer_Encoding: chunked\r\n",
    "Transfer-Encoding:\r\n chunked\r\n",
    "X: a\r\n b\r\n",
    "X: a\nContent-Length: 5\r\n",
    "X: a\rb\r\n",
    "X: a\0b\r\n",
    "X: a\x7fb\r\n",
    ": empty name\r\n",
    "no colon\r\n",
    "X\u{e9}: 1\r\n",
    "Host: evil.test\r\n",
    "Host: storage.googleapis.com\r\n",
    "Authorization: Bearer a\r\nAuthorization: Bearer b\r\n",
    "X_Serverless_Authorization: Bearer a\r\n",
    "Connection: close, Authorization\r\n",
    "Connection: Host\r\n",
    "Connection: content-length\r\n",
    "Expect: foo\r\n",
];
