//! A pod without any key of Google's: its cluster's token is traded, and an account impersonated.

use super::{Failed, Told, admitted, ask, held};
use crate::demo::story::{
    stage::Stage,
    uses::{PRINCIPAL, REPORTS, WORKLOAD},
};

pub(super) async fn play(stage: &Stage) -> Result<Told, Failed> {
    for (host, identity) in [("bigquery.googleapis.com", PRINCIPAL), ("analyticsdata.googleapis.com", REPORTS)] {
        let seen = ask(stage, host, "/echo").await?;
        let account = &admitted(Some(&seen))?.account;
        held(account == identity, identity, account)?;
    }
    Ok(Told::new(
        "Two requests by routes whose credentials have no key: the pod's token of its own cluster is traded at \
                  sts.googleapis.com, and for the second an account is impersonated.",
    )
    .client("200 twice")
    .google(format!("{WORKLOAD} of the pool 'clusters', then {REPORTS}"))
    .because("What was never made cannot be lost: workload identity federation needs no key."))
}
