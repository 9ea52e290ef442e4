//! `check` and `explain`: what the sidecar would do, without running it.

use std::process::ExitCode;

use super::{CheckArgs, ExplainArgs, process};
use crate::{check, clock::Clock};

/// A table and an exit status.
pub(super) fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let problems = match args.source.origin().load() {
        Ok(loaded) => {
            let runtime = process::runtime(1)?;
            let report = runtime.block_on(check::run(&loaded, args.offline, Clock::system()));
            super::print(&report.table());
            return Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Err(problems) => problems,
    };
    for problem in &problems {
        super::complain(&problem.to_string());
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
