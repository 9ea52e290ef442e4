//! The key file is swapped under continuous requests, the old key deleted, and then a torn file comes.

use super::{Expecting as _, Failed, Told, admitted, held, key, millis};
use crate::{
    clock::Clock,
    credential::KeyReason,
    demo::{
        Recorded,
        story::{
            stage::Stage,
            traffic::{self, Tally},
        },
    },
    policy::DEFAULT_CREDENTIAL,
};

pub(super) async fn play(stage: &Stage) -> Result<Told, Failed> {
    let (old, new) = (stage.first.key_id.clone(), stage.second.key_id.clone());
    let count = stage.google.request_count();
    let content = stage.second.json();
    let clock = Clock::system();
    let rotation = async {
        more(stage, 80).await?;
        let begin = clock.now();
        stage.mount.swap(&content).expecting("a swapped key file")?;
        let trouble = || format!("{} exchanges with it", stage.google.exchanges_of(&new));
        stage.until("an exchange with the new key", trouble, || stage.google.exchanges_of(&new) > 0).await?;
        more(stage, 1).await?;
        let took = begin.until(clock.now());
        more(stage, 80).await?;
        Ok(took)
    };
    let (took, during) = traffic::during(stage, rotation).await?;
    let (by_old, by_new) = counted(stage, count, during.sent, &old, &new)?;
    held(by_old > 0, "requests before the swap", "none")?;

    let count = stage.google.request_count();
    held(stage.google.remove_key(&old), "an old key that can be deleted", "it was not there")?;
    let after = traffic::during(stage, more(stage, 50)).await?.1;
    let torn = torn(stage, &content).await?;
    let (stale, fresh) = counted(stage, count, after.sent + torn.sent, &old, &new)?;
    held(stale == 0, "no token of the deleted key", format!("{stale} requests with one"))?;

    let all = during.sent + after.sent + torn.sent;
    Ok(Told::new(
        "Under continuous requests the key file was swapped as Kubernetes does it, the old key deleted at Google, and \
         the new file torn in half.",
    )
    .client(format!("{all} of {all} requests answered with 200"))
    .google(format!(
        "{by_old} requests by {}, then {} by {}, which was in use {} after the swap",
        key(&old),
        by_new + fresh,
        key(&new),
        millis(took)
    ))
    .because("A new key is used only after an exchange with it has succeeded; a torn file changes nothing."))
}

/// Waits until so many more requests have reached Google.
async fn more(stage: &Stage, count: u64) -> Result<(), Failed> {
    let goal = stage.google.request_count() + count;
    let seen = || format!("{} fewer", goal.saturating_sub(stage.google.request_count()));
    stage.until("requests that reach Google", seen, || stage.google.request_count() >= goal).await
}

/// Half a key file, until the sidecar has noticed; it stays torn to the end of the story.
async fn torn(stage: &Stage, content: &str) -> Result<Tally, Failed> {
    let failures = |stage: &Stage| -> Result<u64, Failed> {
        let metrics = &stage.ground()?.metrics;
        let of = |reason: KeyReason| {
            metrics.key_load_failures.with_label_values(&[DEFAULT_CREDENTIAL, reason.label()]).get()
        };
        Ok(KeyReason::ALL.iter().copied().map(of).sum())
    };
    let before = failures(stage)?;
    let half = content.get(..content.len() / 2).unwrap_or_default();
    stage.mount.swap(half).expecting("a torn key file")?;
    let work = async {
        let noticed = || failures(stage).is_ok_and(|count| count > before);
        stage.until("a torn file that is noticed", || "no failure counted".to_owned(), noticed).await?;
        more(stage, 50).await
    };
    Ok(traffic::during(stage, work).await?.1)
}

/// Requests by the old key, and by the new one after them.
fn counted(stage: &Stage, count: u64, sent: u64, old: &str, new: &str) -> Result<(usize, usize), Failed> {
    let seen = stage.since(count);
    let reached = format!("{} of {}", seen.len(), sent);
    held(seen.len() as u64 == sent, "every request at Google", reached)?;
    let keys = seen.iter().map(|request: &Recorded| Ok(admitted(Some(request))?.key_id.as_str()));
    let keys = keys.collect::<Result<Vec<_>, Failed>>()?;
    let by_old = keys.iter().take_while(|id| **id == old).count();
    let by_new = keys.iter().skip(by_old).filter(|id| **id == new).count();
    held(by_old + by_new == keys.len(), "first the old key alone, then the new one alone", "a mixture")?;
    held(by_new > 0, "requests with a token of the new key", "none")?;
    Ok((by_old, by_new))
}
