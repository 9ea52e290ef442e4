//! Configuration as written → what the sidecar is built from: files read, names put together.

use std::fs;

use anyhow::Context as _;

use super::{Listeners, Metadata, Settings, Upstream, WaitFor, limits, trust};
use crate::{
    config::{self, MetadataMode},
    credential::CredentialName,
    mqtt,
    net::{dial, parent::ParentProxy},
    policy::Policy,
    tls, token,
};

/// Turns checked configuration into settings.
///
/// # Errors
/// When `upstream.extraRoots` cannot be read or holds no certificate.
pub fn settings(config: &config::Settings) -> anyhow::Result<Settings> {
    let extra_roots = config
        .upstream
        .extra_roots
        .as_ref()
        .map(|path| {
            let pem = fs::read(path).with_context(|| format!("upstream.extraRoots: cannot read {}", path.display()))?;
            tls::client_roots(Some(&pem)).with_context(|| format!("upstream.extraRoots: {}", path.display()))?;
            anyhow::Ok(pem)
        })
        .transpose()?;
    let parent = parent(config, extra_roots.as_deref())?;
    Ok(Settings {
        credentials: config.credentials.clone(),
        refresh: token::Settings { availability: config.availability },
        policy: policy(config),
        upstream: Upstream { dial: dial::Settings { connect_to: connect_to(config), parent }, extra_roots },
        trust: trust::Settings { public: config.trust.public.clone(), private: config.trust.private.clone() },
        listeners: Listeners {
            proxy: config.listeners.proxy,
            metadata: config.listeners.metadata,
            token_api: config.listeners.token_api.filter(|_| !config.tokens.is_empty()),
            health: config.listeners.health,
            control: config.listeners.control,
        },
        mqtt: mqtt(config),
        most_clients: limits::most_clients(),
        metadata: match config.metadata {
            MetadataMode::Off => Metadata::Off,
            MetadataMode::Placeholder => Metadata::Placeholder,
            MetadataMode::Token => Metadata::Token,
        },
        tokens: config.tokens.clone(),
        password: None,
        wait_for: match config.wait_for {
            config::WaitFor::Listening => WaitFor::Listening,
            config::WaitFor::Credentials => WaitFor::Credentials,
            config::WaitFor::Token => WaitFor::Token,
        },
        drain: config.drain,
        log_level: Some(config.log_level.as_str().to_owned()),
    })
}

fn mqtt(config: &config::Settings) -> Vec<mqtt::Settings> {
    let door = |entry: &config::MqttSettings| mqtt::Settings {
        listen: entry.listen,
        upstream: entry.upstream.clone(),
        credential: CredentialName::new(&entry.credential),
        username: entry.username.clone(),
    };
    config.mqtt.iter().map(door).collect()
}

/// The policy.
pub fn policy(config: &config::Settings) -> Policy {
    config.policy.build()
}

fn connect_to(config: &config::Settings) -> dial::ConnectTo {
    let mut connect_to = dial::ConnectTo::default();
    for entry in &config.upstream.connect_to {
        let host = entry.host.zone().clone();
        if entry.host.is_exact() {
            connect_to.exact(host, entry.port, entry.to.clone());
        } else {
            connect_to.below(host, entry.port, entry.to.clone());
        }
    }
    connect_to
}

fn parent(config: &config::Settings, extra_roots: Option<&[u8]>) -> anyhow::Result<Option<ParentProxy>> {
    let Some(parent) = &config.upstream.parent_proxy else { return Ok(None) };
    let tls = if parent.tls {
        let roots = tls::client_roots(extra_roots).context("upstream.extraRoots")?;
        Some(tls::client_config(roots, &[tls::HTTP11])?)
    } else {
        None
    };
    let user_info = parent.user_info.clone();
    Ok(Some(ParentProxy { authority: parent.authority.clone(), tls, user_info }))
}
