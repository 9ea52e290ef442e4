//! What an SDK finds when it looks for default credentials, and what Google thinks of it.

use super::{Expecting as _, Failed, Told, admitted, held};
use crate::demo::{
    Admission,
    story::{
        client::{get, with_bearer},
        stage::{ACCOUNT, PROJECT, Stage},
        traffic::HOST,
    },
};

pub(super) async fn play(stage: &mut Stage) -> Result<Told, Failed> {
    let client = stage.client()?;
    let ask = async |path: &str| client.ask_metadata(path).await.expecting("a metadata server that answers");

    let found = ask("/").await?;
    let flavor = found.headers.get("metadata-flavor").is_some_and(|flavor| flavor == "Google");
    held(found.status == 200 && flavor, "a metadata server as on GCE", found.status)?;
    let email = ask("/computeMetadata/v1/instance/service-accounts/default/email").await?;
    held(email.body == ACCOUNT, "the account of the mounted key", String::from_utf8_lossy(&email.body))?;

    let token = ask("/computeMetadata/v1/instance/service-accounts/default/token").await?;
    let placeholder = token.json()["access_token"].as_str().map(str::to_owned);
    let placeholder = placeholder.ok_or_else(|| Failed::new("a token for the SDK", token.status.to_string()))?;

    let count = stage.google.request_count();
    let mut direct = client.direct(stage.google.address(), HOST).await.expecting("a connection to Google")?;
    let request = with_bearer(get(HOST, &format!("/storage/v1/b?project={PROJECT}")), &placeholder);
    let answer = direct.send(request).await.expecting("an answer of Google")?;
    let seen = stage.since(count);
    let refused = answer.status == 401 && seen.last().is_some_and(|request| request.admission == Admission::Unknown);
    let verdict = if admitted(seen.last()).is_ok() { "a real token" } else { "another answer" };
    held(refused, "a placeholder that Google refuses", format!("{verdict}: {}", answer.status))?;

    stage.placeholder = placeholder;
    Ok(Told::new("An SDK asked the metadata server, and sent what it got to Google directly.")
        .client(format!("{ACCOUNT}, and a placeholder"))
        .google("a token that it never issued: 401")
        .because("SDKs start unchanged, without a key, and hold nothing worth stealing."))
}
