//! The command line: flags in, exit status out, nothing else decided here.
//!
//! Owns the names and help texts of commands and flags. Refuses to know how anything is done. Called by `main`.
//!
//! Exit status: 0 done, 1 failed, 64 wrong usage.

mod check;
mod demo;
mod env;
mod exec;
mod local;
mod process;
mod run;
mod token;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};

use crate::{app::Origin, config, environment, telemetry};

/// Keeps a pod's Google credentials out of its application.
#[derive(Debug, Parser)]
#[command(name = "bearerd", version, max_term_width = 100, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The sidecar: keeps tokens fresh and puts them on requests
    Run(RunArgs),
    /// The whole story with a fake Google inside; exits 0 only if all of it held
    Demo(DemoArgs),
    /// Validates configuration, annotations and keys; tries one exchange per credential
    Check(CheckArgs),
    /// What would happen to this request: route, credential, token, or why refused
    Explain(ExplainArgs),
    /// Mints a token from the mounted credential and prints it, for debugging
    Token(TokenArgs),
    /// Exits 0 when the local sidecar has started
    Ready(ReadyArgs),
    /// Asks the local sidecar to drain and exit
    Quit(SourceArgs),
    /// Prints the environment that sends a program's traffic through the sidecar
    Env(EnvArgs),
    /// Runs a sidecar and a command beside it; ends with the command's exit status
    Exec(ExecArgs),
}

/// Where the settings come from.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct SourceArgs {
    /// Configuration file (YAML)
    #[arg(long, value_name = "FILE", env = "BEARERD_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Pod annotations as the downward API writes them
    #[arg(long, value_name = "FILE", env = "BEARERD_ANNOTATIONS")]
    pub(crate) annotations: Option<PathBuf>,
    /// A service-account key file, or a directory of them; with only this, everything else is as by default
    #[arg(long, value_name = "PATH")]
    pub(crate) key: Option<PathBuf>,
    /// Hosts that annotations may choose from (comma-separated, repeatable)
    #[arg(long, value_name = "HOSTS", value_delimiter = ',')]
    pub(crate) allow_hosts: Vec<String>,
    /// Accounts that annotations may choose from (comma-separated, repeatable)
    #[arg(long, value_name = "ACCOUNTS", value_delimiter = ',')]
    pub(crate) allow_accounts: Vec<String>,
    /// error, warn, info, debug or trace; wins over file and annotations
    #[arg(long, value_name = "LEVEL", env = "BEARERD_LOG_LEVEL")]
    pub(crate) log_level: Option<String>,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// How log lines look
    #[arg(long, value_enum, default_value_t, env = "BEARERD_LOG_FORMAT")]
    log_format: telemetry::Format,
}

#[derive(Debug, Args)]
struct DemoArgs {
    /// Leaves everything running and prints curl lines to try
    #[arg(long)]
    stay: bool,
}

#[derive(Debug, Args)]
struct CheckArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Reads files only: no exchange with the token endpoint
    #[arg(long)]
    offline: bool,
}

#[derive(Debug, Args)]
struct ExplainArgs {
    /// The request's method
    method: String,
    /// The request's URL
    url: String,
    /// A header of the request, as `name: value` (repeatable)
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    #[command(flatten)]
    source: SourceArgs,
}

#[derive(Debug, Args)]
struct TokenArgs {
    /// The credential's name
    #[arg(default_value = "default")]
    name: String,
    /// Prints `Authorization: Bearer …` instead of the bare token
    #[arg(long)]
    header: bool,
    #[command(flatten)]
    source: SourceArgs,
}

#[derive(Debug, Args)]
struct ReadyArgs {
    /// Waits this long for the sidecar to start (10s, 1m)
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "0s")]
    wait: Duration,
    #[command(flatten)]
    source: SourceArgs,
}

#[derive(Debug, Args)]
struct EnvArgs {
    /// How it is printed
    #[arg(long, value_enum, default_value_t = EnvFormat::Shell)]
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
    /// `export NAME='value'`
    Shell,
    /// `NAME="value"`
    Dotenv,
    /// One JSON object
    Json,
    /// An `env:` list for a container
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
    #[command(flatten)]
    source: SourceArgs,
    /// Also sends plain http:// through the sidecar
    #[arg(long)]
    http_proxy: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl SourceArgs {
    fn origin(&self) -> Origin {
        Origin {
            config: self.config.clone(),
            annotations: self.annotations.clone(),
            flags: config::Flags {
                key: self.key.clone(),
                allow_hosts: self.allow_hosts.clone(),
                allow_accounts: self.allow_accounts.clone(),
                log_level: self.log_level.clone(),
                wait_for: None,
            },
        }
    }

    /// The settings; the error holds every problem, a line each.
    fn load(&self) -> anyhow::Result<config::Loaded> {
        self.origin().load().map_err(|problems| {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            anyhow::anyhow!("{}", lines.join("\nbearerd: "))
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
        Command::Ready(args) => local::ready(&args),
        Command::Quit(args) => local::quit(&args),
        Command::Env(args) => env::main(&args),
        Command::Exec(args) => exec::main(args),
    };
    done.unwrap_or_else(|error| {
        complain(&format!("{error:#}"));
        ExitCode::FAILURE
    })
}

/// The flags say what `bearerd` cannot do.
fn usage(message: &str) -> ExitCode {
    complain(message);
    ExitCode::from(WRONG_USAGE)
}

#[expect(clippy::print_stderr, reason = "this is where errors reach the user")]
fn complain(message: &str) {
    eprintln!("bearerd: {message}");
}

#[expect(clippy::print_stdout, reason = "this is where results reach the user")]
fn print(text: &str) {
    print!("{text}");
}

fn duration(text: &str) -> Result<Duration, String> {
    config::duration(text)
}

/// `EX_USAGE` of sysexits.h.
const WRONG_USAGE: u8 = 64;
