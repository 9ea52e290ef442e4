//! Signatures under signed URLs, without the key in the application.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bearerd::{app::Settings, credential::Kind, demo::Outage};

use crate::{
    bed::{ACCOUNT, Bed, World, routed},
    client::{DOORS, Door, post},
};

const IAM: &str = "iamcredentials.googleapis.com";

fn signs(settings: &mut Settings) {
    routed(settings, |route| route.signs_urls = true);
    let Kind::ServiceAccountKey { signs_urls, .. } = &mut settings.credentials[0].kind else { unreachable!() };
    *signs_urls = true;
}

fn string_to_sign() -> String {
    let hash = "0123456789abcdef".repeat(4);
    format!("GOOG4-RSA-SHA256\n20261126T101112Z\n20261126/auto/storage/goog4_request\n{hash}")
}

fn target(account: &str) -> String {
    format!("/v1/projects/-/serviceAccounts/{account}:signBlob")
}

fn asked(blob: &str) -> String {
    format!(r#"{{"payload":"{}"}}"#, STANDARD.encode(blob))
}

/// The answer to one request, through one door.
async fn ask(bed: &Bed, door: Door, account: &str, body: &str) -> (u16, serde_json::Value) {
    let response = bed.client(door, IAM).await.call(post(&target(account), body.to_owned())).await;
    (response.status().as_u16(), serde_json::from_slice(response.body()).unwrap_or_default())
}

#[tokio::test]
async fn a_signed_url_of_the_pods_own_account_is_signed_here_by_the_key_in_use() {
    let bed = Bed::with(signs).await;
    bed.exchanges_reach(1).await;
    for door in DOORS {
        let (status, answer) = ask(&bed, door, ACCOUNT, &asked(&string_to_sign())).await;
        assert_eq!((status, answer["keyId"].as_str()), (200, Some(&*bed.key.key_id)), "{door:?}");
        let signature = STANDARD.decode(answer["signedBlob"].as_str().unwrap()).unwrap();
        let public = bed.key.public().to_vec();
        let verifier =
            aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA256, public);
        verifier.verify(string_to_sign().as_bytes(), &signature).unwrap();
    }
    assert_eq!(bed.google.request_count(), 0, "nothing is asked of Google");
}

#[tokio::test]
async fn nothing_else_is_signed_and_nobody_elses_signature_is_given() {
    let bed = Bed::with(signs).await;
    bed.exchanges_reach(1).await;
    let jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzY29wZSI6ImNsb3VkLXBsYXRmb3JtIn0";
    let long = format!(r#"{{"payload":"{}"}}"#, "A".repeat(20_000));
    for (account, body) in [
        (ACCOUNT, asked(jwt)),
        (ACCOUNT, asked("GET\n\n\n1700000000\n/bucket/object")),
        (ACCOUNT, asked(&string_to_sign().replace("storage", "iam"))),
        (ACCOUNT, asked(&string_to_sign()).replace('{', r#"{"delegates":["other@p"],"#)),
        (ACCOUNT, String::new()),
        (ACCOUNT, long),
        ("other@demo-project.iam.gserviceaccount.com", asked(&string_to_sign())),
        ("-", asked(&string_to_sign())),
    ] {
        let (status, answer) = ask(&bed, Door::InterceptH2, account, &body).await;
        assert_eq!(
            (status, answer["error"]["details"][0]["reason"].as_str()),
            (403, Some("SIGN_BLOB")),
            "{account} {body}"
        );
    }
    assert_eq!((bed.google.request_count(), bed.refused("sign_blob")), (0, 8));
}

#[tokio::test]
async fn without_being_told_so_nothing_is_signed() {
    let bed = Bed::start().await;
    let (status, answer) = ask(&bed, Door::InterceptH2, ACCOUNT, &asked(&string_to_sign())).await;
    assert_eq!((status, answer["error"]["details"][0]["reason"].as_str()), (403, Some("MINTING")));
    assert_eq!(bed.google.request_count(), 0);
}

#[tokio::test]
async fn an_outage_of_the_token_endpoint_keeps_nobody_from_signing() {
    let world = World::new().await;
    world.google.outage(Outage::Refuse);
    let bed = world.start(signs);
    bed.client(Door::Forward, IAM).await;
    let signed = crate::client::within("a key", async {
        loop {
            let (status, answer) = ask(&bed, Door::Forward, ACCOUNT, &asked(&string_to_sign())).await;
            if status == 200 {
                return answer;
            }
        }
    });
    assert_eq!(signed.await["keyId"].as_str(), Some(&*bed.key.key_id));
}
