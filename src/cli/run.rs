//! `run`: the sidecar.

use std::{io::IsTerminal as _, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::sync::Notify;

use super::{RunArgs, arguments::Strictness, process};
use crate::{
    app::{Ground, Sidecar, reload::Follower},
    clock::Clock,
    neighbours,
    telemetry::{self, Logs},
};

/// Runs until a signal or `quit`. A bad configuration is no reason to exit: it is waited for.
pub(super) fn main(args: &RunArgs) -> anyhow::Result<ExitCode> {
    if !args.source.is_given() {
        return Ok(super::usage("nothing to run on: give --config FILE, --annotations FILE or --key PATH"));
    }
    let log = telemetry::start(args.log_format, args.log.log_level.as_deref().unwrap_or("info"));
    process::report_panics();
    process::harden();
    let workers = args.source.origin().load().map_or(1, |loaded| loaded.settings.workers);
    let runtime = process::runtime(workers).context("cannot start the runtime")?;
    let ended = runtime.block_on(run(args, &log));
    log.flush();
    ended.map(|()| ExitCode::SUCCESS)
}

async fn run(args: &RunArgs, log: &Logs) -> anyhow::Result<()> {
    let ground = Ground::new(Clock::system())?;
    log.gather(&ground.tasks);
    let mut ending = Ending::listen()?;
    let level = args.log.log_level.is_none().then(|| log.clone());
    let follower = Follower::new(args.source.origin(), ground.clone(), level, ending.look_again.clone());
    let follower = match args.shared_processes {
        Strictness::Deny => follower.not_while(neighbour),
        Strictness::Warn => follower,
    };
    let (sidecar, follower) = tokio::select! {
        started = follower.start() => started,
        signal = ending.next() => {
            tracing::info!(signal, "ended before there was a usable configuration");
            return Ok(());
        }
    };
    ground.tasks.spawn(tell_of_neighbours(ground.clock));
    serve(sidecar, follower, ending, &ground).await;
    Ok(())
}

/// Why a start would be in vain: whoever is seen here has our user id and another container.
fn neighbour() -> Option<String> {
    let beside = neighbours::look().ok()??;
    Some(format!(
        "process {} of another container has our user id {} and could read the key (shareProcessNamespace): give the \
         sidecar a user id of its own, or set --shared-processes=warn",
        beside.pid, beside.user
    ))
}

/// The application starts after its sidecar, when there is nothing left to refuse.
async fn tell_of_neighbours(clock: Clock) {
    while neighbours::can_be().is_ok_and(|can_be| can_be) {
        if let Some(neighbour) = neighbour() {
            tracing::error!("{neighbour}");
            return;
        }
        clock.sleep(LOOK_AGAIN).await;
    }
}

async fn serve(sidecar: Sidecar, follower: Follower, mut ending: Ending, ground: &Ground) {
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
}

/// The signals, with what SIGHUP means here: look at the configuration now. Files are watched anyway, but whoever
/// sends it from habit must not find the sidecar dead. On a terminal it says that the terminal is gone.
struct Ending {
    signals: process::Ending,
    on_terminal: bool,
    look_again: Arc<Notify>,
}

impl Ending {
    fn listen() -> anyhow::Result<Self> {
        let signals = process::Ending::listen().context("cannot listen for signals")?;
        let on_terminal = std::io::stdin().is_terminal();
        Ok(Self { signals, on_terminal, look_again: Arc::default() })
    }

    async fn next(&mut self) -> &'static str {
        loop {
            let signal = self.signals.next().await;
            if signal != process::HANGUP || self.on_terminal {
                return signal;
            }
            self.look_again.notify_one();
        }
    }
}

const LOOK_AGAIN: Duration = Duration::from_secs(30);
