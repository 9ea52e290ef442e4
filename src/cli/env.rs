//! `env`: the environment that sends a program's traffic through the running sidecar.

use std::{collections::BTreeMap, net::SocketAddr, process::ExitCode};

use super::EnvArgs;
use crate::{
    app::Metadata,
    config,
    environment::{self, Existing, Proxy, Trust, Wanted},
    watch,
};

/// Prints it; warnings about variables of the calling environment go to standard error.
pub(super) fn main(args: &EnvArgs) -> anyhow::Result<ExitCode> {
    let loaded = args.source.load()?;
    let settings = &loaded.settings;
    let proxy = fixed("proxy", settings.listeners.proxy)?;
    let metadata = match settings.metadata {
        config::MetadataMode::Off => None,
        _ => fixed("metadata", settings.listeners.metadata)?,
    };
    let wanted = Wanted {
        proxy: proxy.map(|address| Proxy { address, user_info: None }),
        metadata,
        // Where nothing is intercepted, nobody meets the pod's CA.
        trust: proxy.map(|_| Trust::under(&settings.trust.public.display().to_string())),
        project: args.project.clone().or_else(|| project(settings)),
        http_proxy: args.http_proxy,
        kubernetes: matches!(args.format, super::arguments::EnvFormat::K8s),
        ..Wanted::default()
    };
    // For a container nothing of this shell counts; for a shell, what the user has set is kept or merged.
    let existing = if wanted.kubernetes { BTreeMap::new() } else { existing() };
    let variables = environment::environment(&wanted, &existing);
    super::print(&environment::print(&variables, args.format.into()));
    for warning in environment::warnings(&variables) {
        super::complain(&warning);
    }
    Ok(ExitCode::SUCCESS)
}

/// A port that another process can know.
fn fixed(name: &str, address: Option<SocketAddr>) -> anyhow::Result<Option<SocketAddr>> {
    match address {
        Some(address) if address.port() == 0 => {
            anyhow::bail!(
                "listeners.{name}: port 0 is another one at every start; give a fixed port (the running sidecar shows its own in /status.json)"
            )
        }
        address => Ok(address),
    }
}

/// The variables of this process.
pub(super) fn existing() -> BTreeMap<String, Existing> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, Existing::Literal(value.into_string().ok()?))))
        .collect()
}

/// The project of the first key that can be read.
pub(super) fn project(settings: &config::Settings) -> Option<String> {
    settings.credentials.iter().find_map(|spec| {
        let found = watch::look(spec.path()?);
        found.files.iter().find_map(|file| {
            let source = spec.load(file.content.as_ref().ok()?).ok()?;
            source.project().map(str::to_owned)
        })
    })
}

/// Whether the metadata door gives anything.
pub(super) fn metadata_is_on(mode: Metadata) -> bool {
    mode != Metadata::Off
}
