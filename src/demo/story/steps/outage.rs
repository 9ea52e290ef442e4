//! The token endpoint fails while a refresh is due, and comes back.

use super::{Failed, Told, admitted, held, millis};
use crate::{
    clock::Clock,
    credential::Reason,
    demo::{
        Outage, Outcome,
        story::{
            stage::{SPEED, Stage},
            traffic,
        },
    },
    policy::DEFAULT_CREDENTIAL,
};

pub(super) async fn play(stage: &Stage) -> Result<Told, Failed> {
    let (requests, exchanges) = (stage.google.request_count(), stage.google.exchange_count());
    let failures = failures(stage)?;
    let clock = Clock::system();
    let outage = async {
        let begin = clock.now();
        stage.google.outage(Outage::Status(503));
        let turned_away = || outcomes(stage, exchanges).filter(|outcome| *outcome == Outcome::Outage).count();
        let seen = || format!("{} that failed", turned_away());
        stage.until("a refresh that is tried in the outage, again and again", seen, || turned_away() >= 3).await?;
        let back = clock.now();
        stage.google.outage(Outage::None);
        let newest = || {
            outcomes(stage, exchanges).find_map(|outcome| match outcome {
                Outcome::Issued(number) => Some(number),
                _ => None,
            })
        };
        stage.until("a new token after the outage", || "none".to_owned(), || newest().is_some()).await?;
        let recovered = back.until(clock.now());
        let goal = stage.google.request_count() + 20;
        let seen = || "fewer".to_owned();
        stage.until("requests that reach Google", seen, || stage.google.request_count() >= goal).await?;
        Ok((begin.until(back), recovered, turned_away(), newest().unwrap_or_default()))
    };
    let ((lasted, recovered, turned_away, fresh), tally) = traffic::during(stage, outage).await?;

    let seen = stage.since(requests);
    held(seen.len() as u64 == tally.sent, "every request at Google", format!("{} of {}", seen.len(), tally.sent))?;
    let tokens = seen.iter().map(|request| Ok(admitted(Some(request))?.number));
    let tokens = tokens.collect::<Result<Vec<_>, Failed>>()?;
    let old = tokens.first().copied().unwrap_or_default();
    let meanwhile = tokens.iter().take_while(|number| **number == old).count();
    let rest = tokens.get(meanwhile..).unwrap_or_default();
    let switched = old < fresh && !rest.is_empty() && rest.iter().all(|number| *number == fresh);
    held(switched, "the old token in the outage, the new one after it", format!("tokens {old} to {fresh}"))?;
    let counted = self::failures(stage)? - failures;
    held(counted >= 3, "failed refreshes in the metrics", counted)?;

    let life = (stage.life / SPEED).as_secs();
    Ok(Told::new(format!(
        "Tokens live {life} s here, not an hour, so that a new one came due while the endpoint said 503, for {} ms.",
        lasted.as_millis()
    ))
    .client(format!("{0} of {0} requests answered with 200", tally.sent))
    .google(format!(
        "{turned_away} refreshes that it turned away, and {meanwhile} requests with token {old} all the same; {} after \
         its return, token {fresh}",
        millis(recovered)
    ))
    .because(
        "Only a success replaces a token, and a refresh comes long before its end: with tokens of an hour, 40 min of \
         outage pass unnoticed.",
    ))
}

/// How the exchanges after number `count` ended.
fn outcomes(stage: &Stage, count: u64) -> impl Iterator<Item = Outcome> {
    let exchanges = stage.google.exchanges().into_iter();
    exchanges.filter(move |exchange| exchange.number > count).map(|exchange| exchange.outcome)
}

/// Failed refreshes as the metrics count them.
fn failures(stage: &Stage) -> Result<u64, Failed> {
    let metrics = &stage.ground()?.metrics;
    let of =
        |reason: Reason| metrics.token_refresh_failures.with_label_values(&[DEFAULT_CREDENTIAL, reason.label()]).get();
    Ok(Reason::ALL.iter().copied().map(of).sum())
}
