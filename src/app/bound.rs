//! The listeners: bound before anything is served, their addresses known from then on.

use std::net::SocketAddr;

use anyhow::Context as _;

use super::Listeners;
use crate::{
    mqtt,
    net::listener::{Full, Listener},
};

/// Where a sidecar listens; `None` where it does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// The proxy.
    pub proxy: Option<SocketAddr>,
    /// The metadata server.
    pub metadata: Option<SocketAddr>,
    /// Tokens handed out.
    pub token_api: Option<SocketAddr>,
    /// Probes and metrics.
    pub health: Option<SocketAddr>,
    /// Status and quit.
    pub control: Option<SocketAddr>,
}

/// The listeners, bound and not yet served.
pub(super) struct Bound {
    pub(super) proxy: Option<Listener>,
    pub(super) metadata: Option<Listener>,
    pub(super) token_api: Option<Listener>,
    pub(super) health: Option<Listener>,
    pub(super) control: Option<Listener>,
    /// In the order of their entries.
    pub(super) mqtt: Vec<Listener>,
}

impl Bound {
    pub(super) fn bind(listeners: &Listeners, mqtt: &[mqtt::Settings], most_clients: usize) -> anyhow::Result<Self> {
        let one = |name: &str, address: Option<SocketAddr>, most: usize, full: Full| {
            address
                .map(|address| {
                    Listener::bind(address, most, full)
                        .with_context(|| format!("listeners.{name}: cannot listen on {address}"))
                })
                .transpose()
        };
        let door = |(index, settings): (usize, &mqtt::Settings)| {
            Listener::bind(settings.listen, MOST_LOCAL, Full::EndsIdle)
                .with_context(|| format!("mqtt[{index}].listen: cannot listen on {}", settings.listen))
        };
        Ok(Self {
            mqtt: mqtt.iter().enumerate().map(door).collect::<anyhow::Result<_>>()?,
            proxy: one("proxy", listeners.proxy, most_clients, Full::EndsIdle)?,
            metadata: one("metadata", listeners.metadata, MOST_LOCAL, Full::EndsOldest)?,
            token_api: one("tokenApi", listeners.token_api, MOST_LOCAL, Full::EndsOldest)?,
            health: one("health", listeners.health, MOST_PROBES, Full::EndsOldest)?,
            control: one("control", listeners.control, MOST_PROBES, Full::EndsOldest)?,
        })
    }

    pub(super) fn addresses(&self) -> Addresses {
        let of = |listener: &Option<Listener>| listener.as_ref().map(Listener::address);
        Addresses {
            proxy: of(&self.proxy),
            metadata: of(&self.metadata),
            token_api: of(&self.token_api),
            health: of(&self.health),
            control: of(&self.control),
        }
    }

    pub(super) fn ports(&self) -> Vec<u16> {
        let Addresses { proxy, metadata, token_api, health, control } = self.addresses();
        let listeners = [proxy, metadata, token_api, health, control].into_iter().flatten();
        listeners.chain(self.mqtt()).map(|address| address.port()).collect()
    }

    /// Where the MQTT doors are, in the order of their entries.
    pub(super) fn mqtt(&self) -> Vec<SocketAddr> {
        self.mqtt.iter().map(Listener::address).collect()
    }
}

const MOST_LOCAL: usize = 256;
const MOST_PROBES: usize = 16;
