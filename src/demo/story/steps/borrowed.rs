//! Identities that come from elsewhere: a person's login on a laptop, the node's own on Google's machines.

use super::{Failed, Told, admitted, ask, held};
use crate::demo::story::{
    stage::Stage,
    uses::{NODE, PERSON},
};

pub(super) async fn play(stage: &Stage) -> Result<Told, Failed> {
    for (host, identity) in [("gmail.googleapis.com", PERSON), ("compute.googleapis.com", NODE)] {
        let seen = ask(stage, host, "/echo").await?;
        let account = &admitted(Some(&seen))?.account;
        held(account == identity, identity, account)?;
    }
    Ok(Told::new("Requests by a person's login (authorizedUser) and by the machine's identity (metadataServer).")
        .client("200 twice")
        .google(format!("{PERSON}, then {NODE}"))
        .because("The same routes serve a laptop, a cluster elsewhere and a machine of Google's."))
}
