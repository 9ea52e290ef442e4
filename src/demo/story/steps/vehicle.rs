//! Fleet Engine: a JWT for one vehicle, handed to a backend that hands it to a phone.

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::Value;

use super::{Expecting as _, Failed, Told, held, key};
use crate::demo::{KeyFile, story::stage::Stage};

pub(super) async fn play(stage: &Stage) -> Result<Told, Failed> {
    let (first, again) = (driver(stage, "7").await?, driver(stage, "7").await?);
    let other = driver(stage, "8").await?;
    held(first == again, "the same token for the same vehicle, as long as it is fresh", "another one")?;
    for (token, vehicle) in [(&first, "7"), (&other, "8")] {
        let claims = claims(&stage.first, token)?;
        let only = serde_json::json!({ "vehicleid": vehicle });
        held(claims["authorization"] == only, "claims for this vehicle alone", &claims["authorization"])?;
    }
    Ok(Told::new("A backend asked the token API for /token/driver/7, twice, and for /token/driver/8.")
        .client(format!(
            "JWTs signed by {}, each for its one vehicle; the second was the first again",
            key(&stage.first.key_id)
        ))
        .because("The backend decides who drives what; it needs no key to say so."))
}

/// The token that a backend gets for a vehicle.
async fn driver(stage: &Stage, vehicle: &str) -> Result<String, Failed> {
    let expected = "a token from the token API";
    let answer = stage.client()?.ask_token_api(&format!("/token/driver/{vehicle}")).await.expecting(expected)?;
    let token = answer.json()["jwt"].as_str().map(str::to_owned);
    token.ok_or_else(|| Failed::new(expected, format!("{} ({})", answer.status, answer.reason())))
}

fn claims(key: &KeyFile, token: &str) -> Result<Value, Failed> {
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_audience(&["https://fleetengine.googleapis.com/"]);
    let data = jsonwebtoken::decode(token, &DecodingKey::from_rsa_der(key.public()), &validation);
    Ok(data.map_err(|error| Failed::new("a JWT that the key signed for Fleet Engine", error.to_string()))?.claims)
}
