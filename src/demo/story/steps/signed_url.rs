//! A signature under a signed URL, by a key that the application does not have.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use http_body_util::{BodyExt as _, Full};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::json;

use super::{Expecting as _, Failed, Told, held, key};
use crate::demo::story::{
    client::{request, with_bearer},
    stage::{ACCOUNT, Stage},
};

pub(super) async fn play(stage: &Stage) -> Result<Told, Failed> {
    let count = stage.google.request_count();
    let hash = "0123456789abcdef".repeat(4);
    let text = format!("GOOG4-RSA-SHA256\n20261126T101112Z\n20261126/auto/storage/goog4_request\n{hash}");
    let mut request = with_bearer(
        request(http::Method::POST, IAM, &format!("/v1/projects/-/serviceAccounts/{ACCOUNT}:signBlob")),
        "x",
    );
    *request.body_mut() = Full::from(json!({ "payload": STANDARD.encode(&text) }).to_string()).boxed_unsync();
    let mut connection = stage.client()?.https(IAM).await.expecting("TLS through the sidecar")?;
    let answer = connection.send(request).await.expecting("an answer")?;

    held(answer.status == 200, "200", format!("{} ({})", answer.status, answer.reason()))?;
    let signature = STANDARD.decode(answer.json()["signedBlob"].as_str().unwrap_or_default()).unwrap_or_default();
    let public = DecodingKey::from_rsa_der(stage.first.public());
    let good =
        jsonwebtoken::crypto::verify(&URL_SAFE_NO_PAD.encode(signature), text.as_bytes(), &public, Algorithm::RS256);
    held(good.unwrap_or_default(), "a signature of the mounted key", "another one, or none")?;
    let asked = stage.google.request_count() - count;
    held(asked == 0, "nothing asked of Google", format!("{asked} requests"))?;
    Ok(Told::new("An SDK that has no key asked iamcredentials to sign what makes a signed URL.")
        .client(format!("a signature by {}, verified", key(&stage.first.key_id)))
        .google("nothing: the sidecar answers by itself, and signs nothing else")
        .because("generate_signed_url() of the storage SDKs works unchanged."))
}

const IAM: &str = "iamcredentials.googleapis.com";
