//! `check` and `explain`: what the sidecar would do, without running it.

use std::process::ExitCode;

use anyhow::Context as _;

use super::{CheckArgs, ExplainArgs, process};
use crate::{check, clock::Clock};

/// A table and an exit status.
pub(super) fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let loaded = args.source.load()?;
    let runtime = process::runtime(1).context("cannot start the runtime")?;
    let report = runtime.block_on(check::run(&loaded, args.offline, Clock::system()));
    super::print(&report.table());
    if report.is_good() {
        return Ok(ExitCode::SUCCESS);
    }
    if !args.source.is_given() {
        super::complain(super::GIVE_A_KEY);
    }
    Ok(ExitCode::FAILURE)
}

/// The route and the reason.
pub(super) fn explain(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let loaded = args.source.load()?;
    match check::explain(&loaded.settings, &args.method, &args.url, &args.headers) {
        Ok(text) => {
            super::print(&text);
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Ok(super::usage(&error)),
    }
}
