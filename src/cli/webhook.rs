//! `webhook`: the admission server.

use std::process::ExitCode;

use anyhow::Context as _;

use super::{WebhookArgs, arguments::TlsKind, process};
use crate::{
    app::Ground,
    clock::Clock,
    inject::{
        certificates::{SelfManaged, Source},
        webhook::{LAME_DUCK, Options, Webhook, in_cluster},
    },
    telemetry::{self, Logs},
};

/// Runs until a signal. Unlike the sidecar it exits when its settings cannot be used at the start: an administrator
/// watches the rollout, and the replicas of the last good one go on.
pub(super) fn main(args: &WebhookArgs) -> anyhow::Result<ExitCode> {
    let certificate = match source(args) {
        Ok(certificate) => certificate,
        Err(message) => return Ok(super::usage(&message)),
    };
    let log = telemetry::start(args.log_format, args.log.log_level.as_deref().unwrap_or("info"));
    process::report_panics();
    process::harden();
    let runtime = process::runtime(1).context("cannot start the runtime")?;
    let ended = runtime.block_on(run(args, certificate, &log));
    log.flush();
    ended.map(|()| ExitCode::SUCCESS)
}

async fn run(args: &WebhookArgs, certificate: Source, log: &Logs) -> anyhow::Result<()> {
    let ground = Ground::new(Clock::system())?;
    let mut signals = process::Ending::listen().context("cannot listen for signals")?;
    let client = match (in_cluster(), &certificate) {
        (Ok(client), _) => Some(client),
        (Err(error), Source::SelfManaged(_)) => return Err(error),
        (Err(error), Source::Files(_)) => {
            tracing::warn!(error = format!("{error:#}"), "no API server: nobody is told by Events");
            None
        }
    };
    let options = Options {
        config: args.config.clone(),
        listen: args.listen,
        health: args.health,
        certificate,
        lame_duck: args.lame_duck.max(LAME_DUCK),
    };
    let webhook = Webhook::start(options, client, ground.clone())?;
    log.gather(&ground.tasks);
    let signal = ending(&mut signals).await;
    tracing::info!(reason = signal, in_flight = ground.tasks.in_flight(), "draining");
    let clean = tokio::select! {
        clean = webhook.finish() => clean,
        signal = ending(&mut signals) => {
            tracing::warn!(signal, "ended at once by a second signal");
            ground.tasks.end();
            false
        }
    };
    tracing::info!(clean, "ended");
    Ok(())
}

/// SIGHUP is no end: files are watched anyway.
async fn ending(signals: &mut process::Ending) -> &'static str {
    loop {
        let signal = signals.next().await;
        if signal != process::HANGUP {
            return signal;
        }
    }
}

/// Who keeps the certificate, or what is missing to say so.
fn source(args: &WebhookArgs) -> Result<Source, String> {
    match args.tls {
        TlsKind::Files => {
            let directory = args.tls_dir.clone().ok_or("--tls=files needs --tls-dir DIR with tls.crt and tls.key")?;
            Ok(Source::Files(directory))
        }
        TlsKind::SelfManaged => {
            let missing = |flag: &str| format!("--tls=selfManaged needs {flag}");
            let registration =
                args.webhook_configuration.clone().ok_or_else(|| missing("--webhook-configuration NAME"))?;
            let secret = args.ca_secret.as_deref().ok_or_else(|| missing("--ca-secret NAMESPACE/NAME"))?;
            let (namespace, secret) = secret
                .split_once('/')
                .filter(|(namespace, name)| is_name(namespace) && is_name(name))
                .ok_or("--ca-secret: want NAMESPACE/NAME, such as bearerd/bearerd-webhook-ca")?;
            if args.service.is_empty() {
                return Err(missing("--service NAME.NAMESPACE.svc"));
            }
            if !args.service.iter().all(|name| is_name(name)) {
                return Err("--service: want NAME.NAMESPACE.svc, such as bearerd-webhook.bearerd.svc".to_owned());
            }
            if !is_name(&registration) {
                return Err("--webhook-configuration: want the name of a MutatingWebhookConfiguration".to_owned());
            }
            Ok(Source::SelfManaged(SelfManaged {
                namespace: namespace.to_owned(),
                secret: secret.to_owned(),
                registration,
                services: args.service.clone(),
                settle: args.ca_settle,
            }))
        }
    }
}

/// What Kubernetes takes as a name.
fn is_name(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    !text.is_empty() && text.len() <= 253 && text.bytes().all(is_letter)
}
