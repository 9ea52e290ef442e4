//! A token that may do less than its key.

use super::{Failed, Told, admitted, ask, held};
use crate::demo::story::stage::Stage;

pub(super) async fn play(stage: &Stage) -> Result<Told, Failed> {
    let photos = ask(stage, "storage.googleapis.com", "/storage/v1/b/photos/o").await?;
    let scopes = &admitted(Some(&photos))?.scopes;
    held(scopes.as_slice() == [BUCKET], "a token for one bucket", scopes.join(" "))?;
    let others = ask(stage, "storage.googleapis.com", "/storage/v1/b?project=demo-project").await?;
    let whole = &admitted(Some(&others))?.scopes;
    held(whole != scopes, "the account's own token elsewhere", whole.join(" "))?;
    Ok(Told::new("A request below /storage/v1/b/photos/, and one beside it.")
        .client("200 twice")
        .google(format!("for the first a token that is good for {BUCKET} alone"))
        .because("Routes choose by host, method and path; the less a request's token may do, the better."))
}

const BUCKET: &str = "//storage.googleapis.com/projects/_/buckets/photos";
