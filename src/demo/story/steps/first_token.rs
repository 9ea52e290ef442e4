//! A key file is mounted, the sidecar starts, and exchanges it.

use super::{Expecting as _, Failed, Told, held, key, millis};
use crate::{
    clock::Clock,
    demo::{Outcome, story::stage::Stage},
};

pub(super) async fn play(stage: &mut Stage) -> Result<Told, Failed> {
    let content = stage.first.json();
    stage.mount.swap(&content).expecting("a key file")?;
    let clock = Clock::system();
    let begin = clock.now();
    stage.start().await?;
    let took = begin.until(clock.now());

    let exchanges = stage.google.exchanges();
    let [exchange] = exchanges.as_slice() else {
        return Err(Failed::new("one exchange at Google", format!("{} exchanges", exchanges.len())));
    };
    let Outcome::Issued(number) = exchange.outcome else {
        return Err(Failed::new("a token issued", format!("{:?}", exchange.outcome)));
    };
    let key_id = exchange.key_id.as_deref().unwrap_or_default();
    held(key_id == stage.first.key_id, "an assertion signed by the mounted key", key(key_id))?;
    held(!exchange.authorization, "an exchange that carries no other credential", "an Authorization header")?;
    Ok(Told::new("bearerd read the mounted key, signed an assertion and exchanged it.")
        .google(format!("one exchange, signed by {} and verified: it issued token {number}", key(key_id)))
        .row("took", format!("{} from start to first token, pod CA and trust files included", millis(took)))
        .because("The key is the sidecar's alone: the application has none to leak."))
}
