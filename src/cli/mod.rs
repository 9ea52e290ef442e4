//! The command line: flags in, exit status out, nothing else decided here.
//!
//! Owns the names and help texts of commands and, in `arguments`, of flags. Refuses to know how anything is done. Called by `main`.
//!
//! Exit status: 0 done, 1 failed, 64 wrong usage.

mod arguments;
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

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use arguments::{
    CheckArgs, DemoArgs, EnvArgs, ExecArgs, ExplainArgs, InjectArgs, LocalArgs, ReadyArgs, RunArgs, TokenArgs,
    WebhookArgs,
};

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

/// `EX_USAGE` of sysexits.h.
const WRONG_USAGE: u8 = 64;
