//! The steps of the story, in their order. Each does something, then looks at what both sides recorded, and holds
//! only if that is what was to be seen.

mod borrowed;
mod device;
mod drain;
mod federation;
mod first_token;
mod grpc;
mod https;
mod identities;
mod less;
mod outage;
mod placeholder;
mod refusals;
mod rotation;
mod self_signed;
mod services;
mod signed_url;
mod vehicle;

use std::{fmt, io, pin::Pin, time::Duration};

use super::{
    client::{get, with_bearer},
    stage::Stage,
};
use crate::demo::{Admission, Recorded, TokenRecord};

/// One step.
pub(super) struct Step {
    pub(super) title: &'static str,
    play: for<'a> fn(&'a mut Stage) -> Playing<'a>,
}

type Playing<'a> = Pin<Box<dyn Future<Output = Result<Told, Failed>> + 'a>>;

/// All of them; each builds on those before it.
pub(super) const STEPS: [Step; 8] = [
    Step { title: "A key goes in, a token comes out", play: |stage| Box::pin(first_token::play(stage)) },
    Step { title: "Default credentials that are worth nothing", play: |stage| Box::pin(placeholder::play(stage)) },
    Step { title: "An HTTPS request gets the token on its way", play: |stage| Box::pin(https::play(stage)) },
    Step { title: "gRPC, streaming both ways", play: |stage| Box::pin(grpc::play(stage)) },
    Step { title: "Places that get no token", play: |stage| Box::pin(refusals::play(stage)) },
    Step { title: "A key rotation that nobody notices", play: |stage| Box::pin(rotation::play(stage)) },
    Step { title: "An outage of the token endpoint", play: |stage| Box::pin(outage::play(stage)) },
    Step { title: "An orderly end", play: |stage| Box::pin(drain::play(stage)) },
];

/// The tokens for other uses than the main job, told with `--all`; the first starts the sidecar that the others ask.
pub(super) const USES: [Step; 9] = [
    Step { title: "One sidecar, a credential of every kind", play: |stage| Box::pin(identities::play(stage)) },
    Step { title: "A JWT in place of a token, without any exchange", play: |stage| Box::pin(self_signed::play(stage)) },
    Step { title: "ID tokens for services on Cloud Run", play: |stage| Box::pin(services::play(stage)) },
    Step { title: "Fleet Engine: a driver's token for one vehicle", play: |stage| Box::pin(vehicle::play(stage)) },
    Step { title: "A device's JWT for its IoT service", play: |stage| Box::pin(device::play(stage)) },
    Step { title: "Federation: a pod without any key", play: |stage| Box::pin(federation::play(stage)) },
    Step { title: "A token that may do less than its key", play: |stage| Box::pin(less::play(stage)) },
    Step { title: "A signed URL, without the key in the application", play: |stage| Box::pin(signed_url::play(stage)) },
    Step { title: "A person's login, and the machine's own identity", play: |stage| Box::pin(borrowed::play(stage)) },
];

/// Plays one step, and holds what must hold after every one.
pub(super) async fn play(step: &Step, stage: &mut Stage) -> Result<Told, Failed> {
    let limit = stage.patience * STEP_PATIENCE;
    let told = tokio::time::timeout(limit, (step.play)(stage)).await;
    let told = told.map_err(|_| Failed::new(format!("an end within {} s", limit.as_secs()), "none"))??;
    let tokens = stage.tokens();
    let leaked = stage.client()?.has_seen(&tokens);
    held(!leaked, "a client that never sees a token", "one of Google's tokens in what it received")?;
    Ok(told)
}

/// What there is to tell of a step that held.
pub(super) struct Told {
    /// Label and text.
    pub(super) rows: Vec<(&'static str, String)>,
    pub(super) why: &'static str,
}

impl Told {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { rows: vec![("what", what.into())], why: "" }
    }

    pub(super) fn client(self, text: impl Into<String>) -> Self {
        self.row("client saw", text)
    }

    pub(super) fn google(self, text: impl Into<String>) -> Self {
        self.row("Google saw", text)
    }

    pub(super) fn row(mut self, label: &'static str, text: impl Into<String>) -> Self {
        self.rows.push((label, text.into()));
        self
    }

    pub(super) fn because(self, why: &'static str) -> Self {
        Self { why, ..self }
    }
}

/// Why a step did not hold. Never with a token in it.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) expected: String,
    pub(super) seen: String,
}

impl Failed {
    pub(super) fn new(expected: impl Into<String>, seen: impl Into<String>) -> Self {
        Self { expected: expected.into(), seen: seen.into() }
    }
}

/// Fails unless it `holds`.
pub(super) fn held(holds: bool, expected: &str, seen: impl fmt::Display) -> Result<(), Failed> {
    if holds { Ok(()) } else { Err(Failed::new(expected, seen.to_string())) }
}

/// An error of the machine or of a connection is a step that failed.
pub(super) trait Expecting<T> {
    /// Says what was expected instead of the error.
    fn expecting(self, what: &str) -> Result<T, Failed>;
}

impl<T> Expecting<T> for io::Result<T> {
    fn expecting(self, what: &str) -> Result<T, Failed> {
        self.map_err(|error| Failed::new(what, explained(&error)))
    }
}

/// With its causes: hyper keeps the interesting one inside.
fn explained(error: &io::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.get_ref().and_then(|inner| inner.source());
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// The token of a request that Google let in for it.
fn admitted(request: Option<&Recorded>) -> Result<&TokenRecord, Failed> {
    let expected = "a request with a living token at Google";
    let Some(request) = request else { return Err(Failed::new(expected, "no request")) };
    match (&request.token, request.admission) {
        (Some(token), Admission::Token) => Ok(token),
        (_, admission) => Err(Failed::new(expected, verdict(admission))),
    }
}

fn verdict(admission: Admission) -> &'static str {
    match admission {
        Admission::Token => "a living token",
        Admission::SelfSigned => "a self-signed JWT",
        Admission::Presigned => "another kind of credential",
        Admission::Missing => "no credential",
        Admission::Several => "several credentials",
        Admission::Malformed => "something that is no bearer token",
        Admission::Unknown => "a token that it never issued",
        Admission::Expired => "an expired token",
        Admission::Revoked => "a revoked token",
    }
}

/// What Google saw of a GET that the client sent with nothing of worth, and that it answered with 200.
async fn ask(stage: &Stage, host: &str, target: &str) -> Result<Recorded, Failed> {
    let count = stage.google.request_count();
    let mut connection = stage.client()?.https(host).await.expecting("TLS through the sidecar")?;
    let answer = connection.send(with_bearer(get(host, target), "x")).await.expecting("an answer")?;
    held(answer.status == 200, "200", format!("{} ({})", answer.status, answer.reason()))?;
    let seen = stage.since(count).pop();
    seen.ok_or_else(|| Failed::new("a request at Google", "none"))
}

/// A key by the beginning of its public id.
fn key(key_id: &str) -> String {
    format!("key {}…", key_id.get(..6).unwrap_or(key_id))
}

/// A token by its number; its text is never told.
fn token(token: &TokenRecord) -> String {
    format!("token {} of {}", token.number, key(&token.key_id))
}

fn millis(took: Duration) -> String {
    match took.as_millis() {
        0 => "less than 1 ms".to_owned(),
        millis => format!("{millis} ms"),
    }
}

/// Times a stage's patience with one thing; some steps wait for several.
const STEP_PATIENCE: u32 = 3;
