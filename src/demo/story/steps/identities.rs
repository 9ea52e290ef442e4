//! A sidecar with a credential of every kind gets a token for each that has one to get.

use std::collections::BTreeSet;

use super::{Failed, Told, millis};
use crate::{
    clock::Clock,
    demo::story::{
        stage::{ACCOUNT, Stage},
        uses::{NODE, PERSON, PRINCIPAL, REPORTS, WORKLOAD},
    },
};

pub(super) async fn play(stage: &mut Stage) -> Result<Told, Failed> {
    let clock = Clock::system();
    let begin = clock.now();
    stage.start().await?;
    let identities = [ACCOUNT, PRINCIPAL, REPORTS, PERSON, NODE];
    let shown = [ACCOUNT, WORKLOAD, REPORTS, PERSON, NODE];
    let known = || -> BTreeSet<String> { stage.google.tokens().into_iter().map(|(_, token)| token.account).collect() };
    let seen = || format!("tokens of {}", known().into_iter().collect::<Vec<_>>().join(", "));
    let all = || identities.iter().all(|identity| known().contains(*identity));
    stage.until("a token of each identity", seen, all).await?;
    Ok(Told::new("One sidecar started with a key, a device's key, a cluster's token and a person's login.")
        .google(format!("tokens asked for by {}", shown.join(", ")))
        .row("took", millis(begin.until(clock.now())))
        .because("Each has its own life, metrics and rotation; routes say which request gets whose token."))
}
