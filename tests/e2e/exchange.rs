//! Token exchanges pass untouched: a program that still exchanges its own key keeps working.

use bearerd::demo::{KeyFile, Outcome};
use bytes::Bytes;
use http::{Request, Response};
use serde_json::json;

use crate::{
    bed::{ACCOUNT, Bed, STORAGE},
    client::{DOORS, Door, full, get, get_with, with},
};

/// What a user's own program posts: its assertion for this endpoint.
fn exchange(bed: &Bed, key: &KeyFile, endpoint: &str, path: &str) -> Request<crate::client::Body> {
    let now = bed.clock.wall().seconds();
    let claims = json!({
        "iss": key.email, "scope": "https://www.googleapis.com/auth/compute.readonly",
        "aud": endpoint, "iat": now, "exp": now + 3600,
    });
    let signer = jsonwebtoken::EncodingKey::from_rsa_pem(key.pem().as_bytes()).unwrap();
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::RS256);
    header.kid = Some(key.key_id.clone());
    let assertion = jsonwebtoken::encode(&header, &claims, &signer).unwrap();
    let form = format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={assertion}");
    let request = Request::post(path).body(full(form)).unwrap();
    with(request, &[("content-type", "application/x-www-form-urlencoded")])
}

fn token(response: &Response<Bytes>) -> String {
    assert_eq!(response.status(), 200, "{:?}", response.body());
    let answer: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
    answer["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_program_that_exchanges_its_own_key_works_through_every_door() {
    let bed = Bed::start().await;
    bed.exchanges_reach(1).await;
    let own = bed.google.add_key(ACCOUNT).unwrap();
    for (host, path) in [("www.googleapis.com", "/oauth2/v4/token"), ("oauth2.googleapis.com", "/token")] {
        for door in DOORS {
            if host == "oauth2.googleapis.com" && door != Door::Forward {
                continue;
            }
            let request = exchange(&bed, &own, &format!("https://{host}{path}"), path);
            let text = token(&bed.client(door, host).await.call(request).await);
            let seen = bed.google.exchanges().pop().unwrap();
            assert_eq!(seen.key_id.as_deref(), Some(own.key_id.as_str()), "{door:?} {host}");
            assert!(!seen.authorization, "{door:?} {host}: an exchange never gets a credential");
            // The token it got is replaced on its way to the API, as any client's credential is.
            let mut client = bed.client(door, "compute.googleapis.com").await;
            let fields = [("authorization", format!("Bearer {text}"))];
            let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
            assert_eq!(client.call(get_with("/echo", &fields)).await.status(), 200);
            assert_ne!(bed.last().headers["authorization"], format!("Bearer {text}"));
        }
    }
}

#[tokio::test]
async fn hosts_that_only_exchange_are_carried_unseen() {
    let bed = Bed::start().await;
    for host in ["oauth2.googleapis.com", "sts.googleapis.com"] {
        let stream = bed.tunnel(&format!("{host}:443")).await.unwrap();
        // The pod's CA is no help here: the certificate is the host's own.
        assert!(bed.handshake(stream, host, &[b"h2"]).await.is_err(), "{host}");
    }
}

#[tokio::test]
async fn a_token_exchange_is_passed_even_when_there_is_no_token_at_all() {
    let bed =
        Bed::with(|settings| settings.credentials[0] = crate::bed::credential("default", "/nowhere".into())).await;
    let request = exchange(&bed, &bed.key, "https://www.googleapis.com/oauth2/v4/token", "/oauth2/v4/token");
    token(&bed.client(Door::InterceptH1, "www.googleapis.com").await.call(request).await);
    assert!(matches!(bed.google.exchanges()[0].outcome, Outcome::Issued(_)));
    let signed = get("/b/o?X-Goog-Signature=abc");
    bed.client(Door::InterceptH1, STORAGE).await.call(signed).await;
    assert_eq!(bed.google.request_count(), 1, "nor does a signed URL wait for one");
}
