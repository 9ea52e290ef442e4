//! `demo`: the whole story, with a fake Google inside.

use std::process::ExitCode;

use super::{DemoArgs, process};
use crate::{demo::story, telemetry};

/// Exits 0 only if every step held.
pub(super) fn main(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    telemetry::start(telemetry::Format::Text, "error");
    let runtime = process::runtime(1)?;
    let options = story::Options { all: args.all, stay: args.stay, ..story::Options::default() };
    let held = runtime.block_on(story::run(options, &mut std::io::stdout()))?;
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
