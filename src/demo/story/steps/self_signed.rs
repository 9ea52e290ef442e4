//! A JWT of our own in place of an access token (AIP-4111).

use super::{Failed, Told, ask, held};
use crate::demo::{Admission, story::stage::Stage};

pub(super) async fn play(stage: &Stage) -> Result<Told, Failed> {
    let exchanges = stage.google.exchange_count();
    let seen = ask(stage, "pubsub.googleapis.com", "/echo").await?;
    held(seen.admission == Admission::SelfSigned, "a JWT signed by the key", super::verdict(seen.admission))?;
    let more = stage.google.exchange_count() - exchanges;
    held(more == 0, "no exchange", format!("{more} exchanges"))?;
    Ok(Told::new("A request to an API whose route says token: selfSigned.")
        .client("200")
        .google("a JWT signed by the mounted key, which it takes in place of a token; no exchange")
        .because("Most APIs take them, so these requests need no token endpoint at all (AIP-4111)."))
}
