//! A client that sends one request after the other and counts what it got.

use std::{cell::Cell, time::Duration};

use super::{
    client::{Http1, get, with_bearer},
    stage::{PROJECT, Stage},
    steps::{Expecting as _, Failed, held},
};
use crate::clock::Clock;

/// What came of the requests.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) sent: u64,
    pub(super) good: u64,
}

/// Sends requests for as long as `work` takes. Fails with the first that is not answered with 200.
pub(super) async fn during<T>(
    stage: &Stage,
    work: impl Future<Output = Result<T, Failed>>,
) -> Result<(T, Tally), Failed> {
    let mut connection = stage.client()?.https(HOST).await.expecting("a tunnel to the API")?;
    let done = Cell::new(false);
    let work = async {
        let result = work.await;
        done.set(true);
        result
    };
    let requests = async {
        let mut tally = Tally::default();
        let mut trouble = None;
        while !done.get() {
            tally.sent += 1;
            match one(stage, &mut connection, tally.sent).await {
                Ok(()) => tally.good += 1,
                Err(failed) => trouble = trouble.or(Some(failed)),
            }
            Clock::system().sleep(PAUSE).await;
        }
        (tally, trouble)
    };
    let (result, (tally, trouble)) = tokio::join!(work, requests);
    match trouble {
        Some(Failed { expected, seen }) => {
            let count = tally.sent - tally.good;
            Err(Failed::new(expected, format!("{count} of {} failed, the first: {seen}", tally.sent)))
        }
        None => Ok((result?, tally)),
    }
}

async fn one(stage: &Stage, connection: &mut Http1, number: u64) -> Result<(), Failed> {
    let expected = "every request answered with 200";
    let target = format!("/storage/v1/b?project={PROJECT}&request={number}");
    let request = with_bearer(get(HOST, &target), &stage.placeholder);
    let answer = connection.send(request).await.expecting(expected)?;
    held(answer.status == 200, expected, format!("{} ({})", answer.status, answer.reason()))
}

/// The API that is asked.
pub(super) const HOST: &str = "storage.googleapis.com";

/// Some hundred requests a second: many, and no more than Google's record holds.
const PAUSE: Duration = Duration::from_millis(2);
