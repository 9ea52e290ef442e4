//! One whole story of a token, told in a terminal: the `demo` command.
//!
//! Owns the stage (a fake Google, a real sidecar, a client without a key), the steps and how they are told; each
//! step holds or fails by what both sides recorded. Refuses to know how the sidecar works inside: it uses the
//! doors, the key file and the counters that any user has. Called by `cli`, and by its own tests, which break the
//! stage to see every step fail.

mod client;
mod folder;
mod narration;
mod stage;
mod stay;
mod steps;
mod traffic;
mod uses;

#[cfg(test)]
mod tests;

use std::{
    io::{IsTerminal as _, Write},
    time::Duration,
};

use anyhow::Context as _;

use self::{
    narration::Narrator,
    stage::{Pace, Stage, Sum},
    steps::{Failed, STEPS, Step, USES},
};
use crate::clock::{Clock, Moment};

/// How the story is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Tell of the tokens for other uses too.
    pub all: bool,
    /// When all of it held, leave a fake Google and a sidecar running until Ctrl-C.
    pub stay: bool,
    /// Whether to use colours.
    pub color: Color,
}

/// Whether to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Color {
    /// When standard output is a terminal that can show them and `NO_COLOR` is not set.
    #[default]
    Auto,
    /// Yes.
    Always,
    /// No.
    Never,
}

impl Color {
    fn is_on(self) -> bool {
        // `NO_COLOR` counts when it is not empty (no-color.org).
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
                std::io::stdout().is_terminal() && !is_set("NO_COLOR") && !dumb
            }
        }
    }
}

/// Tells the story. Whether all of it held.
///
/// # Errors
/// When the stage cannot be set (no port, no temporary folder) or `out` cannot be written.
pub async fn run(options: Options, out: &mut dyn Write) -> anyhow::Result<bool> {
    let mut narrator = Narrator::new(out, options.color.is_on());
    let whole = Box::pin(async {
        narrator.opening()?;
        let mut ending = Ending::of(if options.all { STEPS.len() + USES.len() } else { STEPS.len() });
        let mut stage = Stage::set(Pace::Story).await.context("setting the stage")?;
        tell(&STEPS, &mut stage, &mut narrator, &mut ending).await?;
        drop(stage);
        if options.all && ending.failed.is_none() {
            let mut stage = uses::set().await.context("setting the stage for other uses")?;
            tell(&USES, &mut stage, &mut narrator, &mut ending).await?;
        }
        narrator.ending(&ending)?;
        anyhow::Ok(ending.failed.is_none())
    });
    let held = tokio::select! {
        held = whole => held?,
        // The stage is dropped, and its folder with it.
        interrupted = interrupted() => return interrupted.map(|()| false),
    };
    if held && options.stay {
        let stage = Box::pin(stay::set(&mut narrator)).await.context("setting the stage that stays")?;
        interrupted().await?;
        drop(stage);
    }
    Ok(held)
}

/// Completes at Ctrl-C.
async fn interrupted() -> anyhow::Result<()> {
    tokio::signal::ctrl_c().await.context("waiting for Ctrl-C")
}

/// How the story ended.
struct Ending {
    /// Steps that there are.
    all: usize,
    /// Steps that held.
    held: usize,
    /// The step that did not: its title, and why. Those after it were not tried, since each builds on the last.
    failed: Option<(&'static str, Failed)>,
    took: Duration,
    /// What came together over all steps.
    sum: Sum,
}

impl Ending {
    fn of(all: usize) -> Self {
        Self { all, held: 0, failed: None, took: Duration::ZERO, sum: Sum::default() }
    }
}

async fn tell(
    steps: &'static [Step],
    stage: &mut Stage,
    narrator: &mut Narrator<'_>,
    ending: &mut Ending,
) -> anyhow::Result<()> {
    // The machine's own clock: the stage's runs fast.
    let clock = Clock::system();
    let begin = clock.now();
    let since = |moment: Moment| moment.until(clock.now());
    for step in steps {
        narrator.begin(ending.held + 1, step.title)?;
        let step_begin = clock.now();
        match steps::play(step, stage).await {
            Ok(told) => {
                narrator.held(&told, since(step_begin))?;
                ending.held += 1;
            }
            Err(failed) => {
                narrator.failed(&failed, since(step_begin))?;
                ending.failed = Some((step.title, failed));
                break;
            }
        }
    }
    ending.took += since(begin);
    ending.sum += stage.sum();
    Ok(())
}
