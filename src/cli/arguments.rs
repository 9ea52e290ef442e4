//! What each command can be told: its flags, their help texts and variables.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use crate::{
    app::Origin,
    config::{self, Written},
    environment, telemetry,
};

/// Where the configuration is written.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct ConfigArgs {
    /// Configuration file (YAML)
    #[arg(long, value_name = "FILE", env = "BEARERD_CONFIG", hide_env_values = true)]
    pub(super) config: Option<PathBuf>,
    /// The configuration itself (YAML) instead of a file; it stays as it is
    #[arg(long, value_name = "YAML", env = "BEARERD_CONFIG_TEXT", hide_env_values = true, conflicts_with = "config")]
    pub(super) config_text: Option<String>,
}

impl ConfigArgs {
    pub(super) fn written(&self) -> Option<Written> {
        let file = self.config.clone().map(Written::InFile);
        file.or_else(|| self.config_text.clone().map(Written::Inline))
    }
}

/// Where the settings come from.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Settings")]
pub(super) struct SourceArgs {
    #[command(flatten)]
    pub(super) config: ConfigArgs,
    /// Service-account key file, or a directory of them; enough by itself, all else has defaults
    #[arg(long, value_name = "PATH")]
    pub(super) key: Option<PathBuf>,
    /// File of pod annotations, written by Kubernetes' downward API
    #[arg(long, value_name = "FILE", env = "BEARERD_ANNOTATIONS", hide_env_values = true)]
    pub(super) annotations: Option<PathBuf>,
    /// The only hosts that annotations may choose from (comma-separated, repeatable)
    #[arg(long, value_name = "HOSTS", value_delimiter = ',')]
    pub(super) allow_hosts: Vec<String>,
    /// The only accounts that annotations may choose from (comma-separated, repeatable)
    #[arg(long, value_name = "ACCOUNTS", value_delimiter = ',')]
    pub(super) allow_accounts: Vec<String>,
    /// Scopes that annotations may choose beside those of the credential (comma-separated, repeatable)
    #[arg(long, value_name = "SCOPES", value_delimiter = ',')]
    pub(super) allow_scopes: Vec<String>,
    /// Annotations may have the metadata server hand out the real token
    #[arg(long)]
    pub(super) allow_metadata_token: bool,
    /// What an annotation of ours that nobody knows leads to: deny (the whole set is refused) or warn
    #[arg(long, value_name = "WORD", value_enum, default_value_t, hide_possible_values = true)]
    pub(super) unknown_annotations: Strictness,
}

/// How much is logged.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct LogArgs {
    /// How much is logged: error, warn, info, debug or trace
    #[arg(
        long,
        value_name = "LEVEL",
        value_parser = telemetry::LEVELS,
        hide_possible_values = true,
        env = "BEARERD_LOG_LEVEL",
        hide_env_values = true
    )]
    pub(super) log_level: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) log: LogArgs,
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
    pub(super) log_format: telemetry::Format,
    /// What is done while a process of another container has our user id and can be seen: deny (nothing starts) or warn
    #[arg(long, value_name = "WORD", value_enum, default_value_t, hide_possible_values = true)]
    pub(super) shared_processes: Strictness,
    #[command(flatten)]
    pub(super) source: SourceArgs,
}

/// What a doubtful thing leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Strictness {
    /// A refusal: nothing is done with it.
    #[default]
    Deny,
    /// A warning.
    Warn,
}

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Tells of the tokens for other uses too: Fleet Engine, devices, Cloud Run, federation, signed URLs
    #[arg(long)]
    pub(super) all: bool,
    /// Leaves everything running and prints curl lines to try
    #[arg(long)]
    pub(super) stay: bool,
}

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Only reads files and asks Google for nothing
    #[arg(long)]
    pub(super) offline: bool,
    #[command(flatten)]
    pub(super) source: SourceArgs,
}

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// The request's method, such as GET
    pub(super) method: String,
    /// The request's URL, such as https://storage.googleapis.com/storage/v1/b
    pub(super) url: String,
    /// A header of the request, as 'name: value' (repeatable)
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    pub(super) headers: Vec<String>,
    #[command(flatten)]
    pub(super) source: SourceArgs,
}

#[derive(Debug, Args)]
pub(super) struct TokenArgs {
    /// The credential's name in the configuration
    #[arg(default_value = "default")]
    pub(super) name: String,
    /// Which kind: access, selfSigned, id or jwt [default: what the credential is for]
    #[arg(long, value_name = "KIND", value_parser = config::token_kind)]
    pub(super) token: Option<crate::policy::TokenKind>,
    /// Whom an ID token is for, such as the URL of a Cloud Run service
    #[arg(long)]
    pub(super) audience: Option<String>,
    /// A parameter of the credential's claims; may be repeated
    #[arg(long = "parameter", value_name = "NAME=VALUE", value_parser = parameter)]
    pub(super) parameters: Vec<(String, String)>,
    /// Prints 'Authorization: Bearer …' instead of the bare token
    #[arg(long)]
    pub(super) header: bool,
    #[command(flatten)]
    pub(super) source: SourceArgs,
}

/// Where the running sidecar is.
#[derive(Debug, Args)]
pub(super) struct LocalArgs {
    #[command(flatten)]
    pub(super) config: ConfigArgs,
}

#[derive(Debug, Args)]
pub(super) struct ReadyArgs {
    /// Waits this long for the sidecar to start (10s, 1m)
    #[arg(long, value_name = "DURATION", value_parser = config::duration, default_value = "0s")]
    pub(super) wait: Duration,
    #[command(flatten)]
    pub(super) local: LocalArgs,
}

#[derive(Debug, Args)]
pub(super) struct EnvArgs {
    /// How it is printed: shell (for eval), dotenv (for --env-file), json, or k8s (a container's env list)
    #[arg(long, value_enum, default_value_t = EnvFormat::Shell, hide_possible_values = true)]
    pub(super) format: EnvFormat,
    /// Also sends plain http:// through the sidecar
    #[arg(long)]
    pub(super) http_proxy: bool,
    /// Project id; by default that of the key file
    #[arg(long, value_name = "ID")]
    pub(super) project: Option<String>,
    #[command(flatten)]
    pub(super) source: SourceArgs,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum EnvFormat {
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
pub(super) struct ExecArgs {
    /// Also sends plain http:// through the sidecar
    #[arg(long)]
    pub(super) http_proxy: bool,
    #[command(flatten)]
    pub(super) log: LogArgs,
    #[command(flatten)]
    pub(super) source: SourceArgs,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(super) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct WebhookArgs {
    /// The injector's settings file (YAML), read again when it changes
    #[arg(long, value_name = "FILE")]
    pub(super) config: PathBuf,
    /// Where reviews come, over TLS
    #[arg(long, value_name = "ADDR", default_value = "[::]:10250")]
    pub(super) listen: SocketAddr,
    /// Where probes and scrapes come
    #[arg(long, value_name = "ADDR", default_value = "[::]:14190")]
    pub(super) health: SocketAddr,
    /// Who keeps the certificate: selfManaged (the webhooks, in a Secret of theirs) or files
    #[arg(long, value_name = "KIND", value_enum, default_value_t = TlsKind::SelfManaged, hide_possible_values = true)]
    pub(super) tls: TlsKind,
    /// Directory of tls.crt and tls.key, for --tls=files; read again when they change
    #[arg(long, value_name = "DIR")]
    pub(super) tls_dir: Option<PathBuf>,
    /// Name of the MutatingWebhookConfiguration, and of the ValidatingWebhookConfiguration, whose caBundle is written
    #[arg(long, value_name = "NAME")]
    pub(super) webhook_configuration: Option<String>,
    /// The Secret that the webhooks share, as NAMESPACE/NAME; made if there is none
    #[arg(long, value_name = "SECRET")]
    pub(super) ca_secret: Option<String>,
    /// The service's name as the API server calls it, NAME.NAMESPACE.svc (comma-separated, repeatable)
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(super) service: Vec<String>,
    /// How long a new CA is trusted before it signs
    #[arg(long, value_name = "DURATION", value_parser = config::duration, default_value = "10m")]
    pub(super) ca_settle: Duration,
    /// How long it serves on after it has said that it will end; at least 5s
    #[arg(long, value_name = "DURATION", value_parser = config::duration, default_value = "5s")]
    pub(super) lame_duck: Duration,
    #[command(flatten)]
    pub(super) log: LogArgs,
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
    pub(super) log_format: telemetry::Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum TlsKind {
    #[value(name = "selfManaged")]
    SelfManaged,
    Files,
}

#[derive(Debug, Args)]
pub(super) struct InjectArgs {
    /// Manifest file, a directory of them (*.yaml, *.yml, *.json), or - for standard input (repeatable)
    #[arg(short = 'f', long = "filename", value_name = "PATH", required = true)]
    pub(super) files: Vec<PathBuf>,
    /// The injector's settings file (YAML), as the webhook has it
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Injects every pod that does not opt out, not only those that opt in
    #[arg(long)]
    pub(super) all: bool,
    /// Only says what would happen
    #[arg(long, conflicts_with = "diff")]
    pub(super) check: bool,
    /// Prints what would change as a unified diff; exits 1 if anything would
    #[arg(long)]
    pub(super) diff: bool,
}

impl SourceArgs {
    /// Whether anything says what to run on.
    pub(super) fn is_given(&self) -> bool {
        self.config.written().is_some() || self.key.is_some() || self.annotations.is_some()
    }

    pub(super) fn origin(&self) -> Origin {
        Origin {
            config: self.config.written(),
            annotations: self.annotations.clone(),
            flags: config::Flags {
                key: self.key.clone(),
                allow_hosts: self.allow_hosts.clone(),
                allow_accounts: self.allow_accounts.clone(),
                allow_scopes: self.allow_scopes.clone(),
                allow_metadata_token: self.allow_metadata_token,
                warns_of_unknown: self.unknown_annotations == Strictness::Warn,
                log_level: None,
                wait_for: None,
            },
        }
    }

    /// The settings; the error holds every problem, a line each.
    pub(super) fn load(&self) -> anyhow::Result<config::Loaded> {
        self.origin().load().map_err(|problems| {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            anyhow::anyhow!("{}", lines.join("\n"))
        })
    }
}

fn parameter(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("want NAME=VALUE, such as vehicleId=v1")?;
    Ok((name.to_owned(), value.to_owned()))
}
