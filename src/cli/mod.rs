//! The command line: flags in, exit status out, nothing else decided here.
//!
//! Owns the names and help texts of commands and flags. Refuses to know how anything is done. Called by `main`.
//!
//! Exit status: 0 done, 1 failed, 64 wrong usage.

mod check;
mod demo;
mod env;
mod exec;
mod inject;
mod local;
mod process;
mod run;
mod token;
mod webhook;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};

use crate::{app::Origin, config, environment, telemetry};

/// Keeps a pod's Google credentials out of its application.
#[derive(Debug, Parser)]
#[command(name = "bearerd", version, max_term_width = 100, disable_help_subcommand = true, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the sidecar: keeps tokens fresh and puts them on requests
    Run(RunArgs),
    /// Tells the whole story with a fake Google inside; exits 0 only if all of it held
    Demo(DemoArgs),
    /// Runs a sidecar and a command beside it; ends with the command's exit status
    #[command(after_help = AFTER_EXEC)]
    Exec(ExecArgs),
    /// Validates configuration, annotations and keys, and asks Google for one token with each credential
    #[command(after_help = AFTER_CHECK)]
    Check(CheckArgs),
    /// Says what would happen to a request: route, credential and token, or why it gets none
    #[command(after_help = AFTER_EXPLAIN)]
    Explain(ExplainArgs),
    /// Asks Google for a token with the mounted key and prints it, for debugging
    Token(TokenArgs),
    /// Prints the environment that sends a program's traffic through the sidecar
    #[command(after_help = AFTER_ENV)]
    Env(EnvArgs),
    /// Runs the admission server that puts the sidecar into pods
    #[command(after_help = AFTER_WEBHOOK)]
    Webhook(WebhookArgs),
    /// Exits 0 when the local sidecar has started, else says what it waits for
    Ready(ReadyArgs),
    /// Asks the local sidecar to finish what is in flight and exit
    Quit(LocalArgs),
    /// Puts the sidecar into manifests, as the webhook does into pods
    #[command(after_help = AFTER_INJECT)]
    Inject(InjectArgs),
}

const AFTER_HELP: &str = "\
Start here:
  bearerd demo                             needs no key and no Google account
  bearerd check --key key.json             is this key usable?
  bearerd exec --key key.json -- COMMAND   a command that needs Google, on a laptop or a VM
  bearerd run --config config.yaml         the sidecar

Exit status: 0 done, 1 failed, 64 wrong usage.";

const AFTER_EXEC: &str = "\
Example:
  bearerd exec --key key.json -- curl -sS 'https://storage.googleapis.com/storage/v1/b?project=MY_PROJECT'

Exit status: that of the command (128 + signal when a signal ended it, 127 when it is not found, 126 when
it cannot be run); 1 when the sidecar cannot start; 64 wrong usage.";

const AFTER_CHECK: &str = "Exit status: 0 all is well, 1 something is not, 64 wrong usage.";

const AFTER_EXPLAIN: &str = "\
Examples:
  bearerd explain GET https://storage.googleapis.com/storage/v1/b
  bearerd explain POST https://pubsub.googleapis.com/v1/projects/p/topics/t:publish --config config.yaml";

const AFTER_INJECT: &str = "\
Examples:
  bearerd inject -f app.yaml | kubectl apply -f -
  helm template ./chart | bearerd inject -f - | kubectl apply -f -
  bearerd inject -f manifests/ --check

Manifests go to standard output, a line for each object to standard error. When anything is refused, nothing
goes to standard output.

Exit status: 0 done, 1 something was refused or, with --diff, would change, 64 wrong usage.";

const AFTER_ENV: &str = "\
Examples:
  eval \"$(bearerd env)\"
  bearerd env --format dotenv > bearerd.env && docker run --env-file bearerd.env …";

const AFTER_WEBHOOK: &str = "\
Example:
  bearerd webhook --config /etc/bearerd/config.yaml --webhook-configuration bearerd \\
    --ca-secret bearerd/bearerd-webhook-ca --service bearerd-webhook.bearerd.svc

It serves /mutate, /mutate/namespace and /validate over TLS, and /livez, /readyz and /metrics on the health port.";

/// Where the settings come from.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Settings")]
pub(crate) struct SourceArgs {
    /// Configuration file (YAML)
    #[arg(long, value_name = "FILE", env = "BEARERD_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,
    /// Service-account key file, or a directory of them; enough by itself, all else has defaults
    #[arg(long, value_name = "PATH")]
    pub(crate) key: Option<PathBuf>,
    /// File of pod annotations, written by Kubernetes' downward API
    #[arg(long, value_name = "FILE", env = "BEARERD_ANNOTATIONS", hide_env_values = true)]
    pub(crate) annotations: Option<PathBuf>,
    /// The only hosts that annotations may choose from (comma-separated, repeatable)
    #[arg(long, value_name = "HOSTS", value_delimiter = ',')]
    pub(crate) allow_hosts: Vec<String>,
    /// The only accounts that annotations may choose from (comma-separated, repeatable)
    #[arg(long, value_name = "ACCOUNTS", value_delimiter = ',')]
    pub(crate) allow_accounts: Vec<String>,
}

/// How much is logged.
#[derive(Clone, Debug, Default, Args)]
struct LogArgs {
    /// How much is logged: error, warn, info, debug or trace
    #[arg(
        long,
        value_name = "LEVEL",
        value_parser = telemetry::LEVELS,
        hide_possible_values = true,
        env = "BEARERD_LOG_LEVEL",
        hide_env_values = true
    )]
    log_level: Option<String>,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    log: LogArgs,
    /// How log lines look: text or json
    #[arg(
        long,
        value_name = "FORMAT",
        value_enum,
        default_value_t,
        hide_possible_values = true,
        env = "BEARERD_LOG_FORMAT",
        hide_env_values = true
    )]
    log_format: telemetry::Format,
    #[command(flatten)]
    source: SourceArgs,
}

#[derive(Debug, Args)]
struct DemoArgs {
    /// Leaves everything running and prints curl lines to try
    #[arg(long)]
    stay: bool,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// Only reads files and asks Google for nothing
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    source: SourceArgs,
}

#[derive(Debug, Args)]
struct ExplainArgs {
    /// The request's method, such as GET
    method: String,
    /// The request's URL, such as https://storage.googleapis.com/storage/v1/b
    url: String,
    /// A header of the request, as 'name: value' (repeatable)
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    #[command(flatten)]
    source: SourceArgs,
}

#[derive(Debug, Args)]
struct TokenArgs {
    /// The credential's name in the configuration
    #[arg(default_value = "default")]
    name: String,
    /// Prints 'Authorization: Bearer …' instead of the bare token
    #[arg(long)]
    header: bool,
    #[command(flatten)]
    source: SourceArgs,
}

/// Where the running sidecar is.
#[derive(Debug, Args)]
struct LocalArgs {
    /// The sidecar's configuration file, which says on which port it is asked
    #[arg(long, value_name = "FILE", env = "BEARERD_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ReadyArgs {
    /// Waits this long for the sidecar to start (10s, 1m)
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "0s")]
    wait: Duration,
    #[command(flatten)]
    local: LocalArgs,
}

#[derive(Debug, Args)]
struct EnvArgs {
    /// How it is printed: shell (for eval), dotenv (for --env-file), json, or k8s (a container's env list)
    #[arg(long, value_enum, default_value_t = EnvFormat::Shell, hide_possible_values = true)]
    format: EnvFormat,
    /// Also sends plain http:// through the sidecar
    #[arg(long)]
    http_proxy: bool,
    /// Project id; by default that of the key file
    #[arg(long, value_name = "ID")]
    project: Option<String>,
    #[command(flatten)]
    source: SourceArgs,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum EnvFormat {
    Shell,
    Dotenv,
    Json,
    K8s,
}

impl From<EnvFormat> for environment::Format {
    fn from(format: EnvFormat) -> Self {
        match format {
            EnvFormat::Shell => Self::Shell,
            EnvFormat::Dotenv => Self::Dotenv,
            EnvFormat::Json => Self::Json,
            EnvFormat::K8s => Self::K8s,
        }
    }
}

#[derive(Debug, Args)]
struct ExecArgs {
    /// Also sends plain http:// through the sidecar
    #[arg(long)]
    http_proxy: bool,
    #[command(flatten)]
    log: LogArgs,
    #[command(flatten)]
    source: SourceArgs,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

#[derive(Debug, Args)]
struct WebhookArgs {
    /// The injector's settings file (YAML), read again when it changes
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Where reviews come, over TLS
    #[arg(long, value_name = "ADDR", default_value = "[::]:10250")]
    listen: SocketAddr,
    /// Where probes and scrapes come
    #[arg(long, value_name = "ADDR", default_value = "[::]:14190")]
    health: SocketAddr,
    /// Who keeps the certificate: selfManaged (the webhooks, in a Secret of theirs) or files
    #[arg(long, value_name = "KIND", value_enum, default_value_t = TlsKind::SelfManaged, hide_possible_values = true)]
    tls: TlsKind,
    /// Directory of tls.crt and tls.key, for --tls=files; read again when they change
    #[arg(long, value_name = "DIR")]
    tls_dir: Option<PathBuf>,
    /// Name of the MutatingWebhookConfiguration, and of the ValidatingWebhookConfiguration, whose caBundle is written
    #[arg(long, value_name = "NAME")]
    webhook_configuration: Option<String>,
    /// The Secret that the webhooks share, as NAMESPACE/NAME; made if there is none
    #[arg(long, value_name = "SECRET")]
    ca_secret: Option<String>,
    /// The service's name as the API server calls it, NAME.NAMESPACE.svc (comma-separated, repeatable)
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    service: Vec<String>,
    /// How long a new CA is trusted before it signs
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10m")]
    ca_settle: Duration,
    /// How long it serves on after it has said that it will end; at least 5s
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5s")]
    lame_duck: Duration,
    #[command(flatten)]
    log: LogArgs,
    /// How log lines look: text or json
    #[arg(
        long,
        value_name = "FORMAT",
        value_enum,
        default_value_t,
        hide_possible_values = true,
        env = "BEARERD_LOG_FORMAT",
        hide_env_values = true
    )]
    log_format: telemetry::Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum TlsKind {
    #[value(name = "selfManaged")]
    SelfManaged,
    Files,
}

#[derive(Debug, Args)]
struct InjectArgs {
    /// Manifest file, a directory of them (*.yaml, *.yml, *.json), or - for standard input (repeatable)
    #[arg(short = 'f', long = "filename", value_name = "PATH", required = true)]
    files: Vec<PathBuf>,
    /// The injector's settings file (YAML), as the webhook has it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Injects every pod that does not opt out, not only those that opt in
    #[arg(long)]
    all: bool,
    /// Only says what would happen
    #[arg(long, conflicts_with = "diff")]
    check: bool,
    /// Prints what would change as a unified diff; exits 1 if anything would
    #[arg(long)]
    diff: bool,
}

impl SourceArgs {
    /// Whether anything says what to run on.
    fn is_given(&self) -> bool {
        self.config.is_some() || self.key.is_some() || self.annotations.is_some()
    }

    fn origin(&self) -> Origin {
        Origin {
            config: self.config.clone(),
            annotations: self.annotations.clone(),
            flags: config::Flags {
                key: self.key.clone(),
                allow_hosts: self.allow_hosts.clone(),
                allow_accounts: self.allow_accounts.clone(),
                log_level: None,
                wait_for: None,
            },
        }
    }

    /// The settings; the error holds every problem, a line each.
    fn load(&self) -> anyhow::Result<config::Loaded> {
        self.origin().load().map_err(|problems| {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            anyhow::anyhow!("{}", lines.join("\n"))
        })
    }
}

/// Parses the arguments and runs the command.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let status = if error.use_stderr() { WRONG_USAGE } else { 0 };
            // Nothing is left to do when standard error is closed.
            let _ = error.print();
            return ExitCode::from(status);
        }
    };
    let done = match cli.command {
        Command::Run(args) => run::main(&args),
        Command::Demo(args) => demo::main(&args),
        Command::Check(args) => check::check(&args),
        Command::Explain(args) => check::explain(&args),
        Command::Token(args) => token::main(&args),
        Command::Webhook(args) => webhook::main(&args),
        Command::Ready(args) => local::ready(&args),
        Command::Quit(args) => local::quit(&args),
        Command::Env(args) => env::main(&args),
        Command::Exec(args) => exec::main(&args),
        Command::Inject(args) => inject::main(&args),
    };
    done.unwrap_or_else(|error| {
        // Several problems are a line each.
        format!("{error:#}").lines().for_each(complain);
        ExitCode::FAILURE
    })
}

/// What to give when nothing was given and the default place holds no key.
const GIVE_A_KEY: &str = "give --key PATH or --config FILE to look elsewhere";

/// The flags say what `bearerd` cannot do.
fn usage(message: &str) -> ExitCode {
    complain(message);
    ExitCode::from(WRONG_USAGE)
}

#[expect(clippy::print_stderr, reason = "this is where errors reach the user")]
fn complain(message: &str) {
    eprintln!("bearerd: {message}");
}

/// A reader that has seen enough (`| head`) is no failure.
fn print(text: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stdout().lock(), text.as_bytes());
}

fn duration(text: &str) -> Result<Duration, String> {
    config::duration(text)
}

/// `EX_USAGE` of sysexits.h.
const WRONG_USAGE: u8 = 64;
