//! `run`: the sidecar.

use std::process::ExitCode;

use anyhow::Context as _;

use super::{RunArgs, process};
use crate::{
    app::{self, Ground, Sidecar},
    clock::Clock,
    telemetry,
};

/// Runs until a signal or `quit`. A bad configuration is no reason to exit: it is waited for.
pub(super) fn main(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let origin = args.source.origin();
    let fixed = origin.flags.log_level.is_some();
    let log = telemetry::start(args.log_format, origin.flags.log_level.as_deref().unwrap_or("info"));
    process::report_panics();
    process::harden();
    if origin.config.is_none() && origin.flags.key.is_none() && origin.annotations.is_none() {
        return Ok(super::usage("nothing to run on: give --config FILE, --annotations FILE or --key PATH"));
    }
    let workers = origin.load().map_or(1, |loaded| loaded.settings.workers);
    let runtime = process::runtime(workers).context("cannot start the runtime")?;
    runtime.block_on(async {
        let ground = Ground::new(Clock::system())?;
        log.gather(&ground.tasks);
        let mut ending = process::Ending::listen().context("cannot listen for signals")?;
        let follower = app::reload::Follower::new(origin, ground.clone(), (!fixed).then(|| log.clone()));
        let started = tokio::select! {
            started = follower.start() => started?,
            signal = ending.next() => {
                tracing::info!(signal, "ended before there was a usable configuration");
                return Ok(ExitCode::SUCCESS);
            }
        };
        let ended = serve(started, ending, &ground).await;
        log.flush();
        ended
    })
}

async fn serve(
    (sidecar, follower): (Sidecar, app::reload::Follower),
    mut ending: process::Ending,
    ground: &Ground,
) -> anyhow::Result<ExitCode> {
    let reason = tokio::select! {
        signal = ending.next() => signal,
        () = sidecar.asked_to_quit() => "quit",
        never = follower.follow(&sidecar) => never,
    };
    tracing::info!(reason, in_flight = ground.tasks.in_flight(), "draining");
    let clean = tokio::select! {
        clean = sidecar.finish() => clean,
        signal = ending.next() => {
            tracing::warn!(signal, "ended at once by a second signal");
            ground.tasks.end();
            false
        }
    };
    tracing::info!(clean, "ended");
    Ok(ExitCode::SUCCESS)
}
