//! ID tokens, for code that customers run behind Google's front door.

use super::{Failed, Told, admitted, ask, held};
use crate::demo::story::stage::Stage;

pub(super) async fn play(stage: &Stage) -> Result<Told, Failed> {
    for host in HOSTS {
        let seen = ask(stage, host, "/echo").await?;
        let audience = admitted(Some(&seen))?.audience.as_deref().unwrap_or("an access token");
        held(audience == format!("https://{host}"), "an ID token for this service alone", audience)?;
    }
    Ok(Told::new("Two services on Cloud Run were asked, by a route with token: id.")
        .client("200 twice")
        .google(format!("an ID token each, for https://{} and for https://{}", HOSTS[0], HOSTS[1]))
        .because("Neither service can use at the other, or at Google, what it was shown."))
}

const HOSTS: [&str; 2] = ["orders-abc.a.run.app", "stock-abc.a.run.app"];
