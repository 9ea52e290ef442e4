//! A device's own JWT, on its way to an IoT service that bridges HTTP.

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::Value;

use super::{Expecting as _, Failed, Told, held};
use crate::demo::story::{
    client::get,
    stage::Stage,
    uses::{BRIDGE, IOT_PROJECT},
};

pub(super) async fn play(stage: &Stage) -> Result<Told, Failed> {
    let mut connection = stage.client()?.https(BRIDGE).await.expecting("TLS through the sidecar")?;
    let answer = connection.send(get(BRIDGE, "/v/4/publish")).await.expecting("an answer")?;
    held(answer.status == 200, "200", answer.status)?;
    let token = shown(stage)?;
    let claims = claims(stage, &token)?;
    let [issued, expires] = ["iat", "exp"].map(|name| claims[name].as_u64().unwrap_or_default());
    let hours = expires.saturating_sub(issued) / 3600;
    held(hours == 24, "a day's life", format!("{hours} h"))?;
    Ok(Told::new("A device asked its IoT service, by a route with token: jwt and header: clearblade-usertoken.")
        .client("200")
        .row("service", format!("saw a JWT, ES256, for {IOT_PROJECT}, good for {hours} h, and no other credential"))
        .because("A device's program that signs its own JWT, and forgets to sign the next, is not needed any more."))
}

/// The field that the route writes, as it arrived.
fn shown(stage: &Stage) -> Result<String, Failed> {
    let expected = "a JWT at the IoT service";
    let bridge = stage.bridge.as_ref().ok_or_else(|| Failed::new(expected, "no such service"))?;
    let bytes: Vec<u8> = bridge.connections().into_iter().flat_map(|connection| connection.bytes).collect();
    let head = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
    held(!head.contains("\r\nauthorization:"), "no other credential there", "an Authorization header")?;
    let field = "\r\nclearblade-usertoken: ";
    let at = head.find(field).ok_or_else(|| Failed::new(expected, "a request without"))? + field.len();
    let rest = String::from_utf8_lossy(bytes.get(at..).unwrap_or_default()).into_owned();
    Ok(rest.split("\r\n").next().unwrap_or_default().to_owned())
}

fn claims(stage: &Stage, token: &str) -> Result<Value, Failed> {
    let expected = "a JWT that the device's key signed for its project";
    let pem = std::fs::read_to_string(stage.folder().join("device.pem")).expecting(expected)?;
    let pair = rcgen::KeyPair::from_pem(&pem).map_err(|error| Failed::new(expected, error.to_string()))?;
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_audience(&[IOT_PROJECT]);
    let public = DecodingKey::from_ec_der(rcgen::PublicKeyData::der_bytes(&pair));
    let data = jsonwebtoken::decode(token, &public, &validation);
    Ok(data.map_err(|error| Failed::new(expected, error.to_string()))?.claims)
}
