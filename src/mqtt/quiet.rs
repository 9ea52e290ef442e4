//! When a session may end (pure): what is open between client and broker, and the times that the token's life sets.

use std::{collections::BTreeSet, time::Duration};

use super::packet::{Packet, Sender, Version};
use crate::clock::Moment;

/// What is open in a session. Numbers are 16 bits, so that it cannot grow beyond them.
#[derive(Debug, Default)]
pub struct Ledger {
    is_connected: bool,
    /// A packet of this side has begun and is not yet with the other as a whole.
    client_is_sending: bool,
    broker_is_sending: bool,
    /// Exchanges that the client began: QoS 1 and 2, SUBSCRIBE, UNSUBSCRIBE. All share its numbers.
    by_client: BTreeSet<u16>,
    /// Those of the broker, which has numbers of its own.
    by_broker: BTreeSet<u16>,
}

impl Ledger {
    /// A packet of `sender` begins.
    pub fn begin(&mut self, sender: Sender, packet: Packet) {
        *self.sending(sender) = true;
        let (own, others) = match sender {
            Sender::Client => (&mut self.by_client, &mut self.by_broker),
            Sender::Broker => (&mut self.by_broker, &mut self.by_client),
        };
        match packet {
            // PUBREL alone too: of an exchange that began in an earlier session.
            Packet::Publish(Some(id)) | Packet::Subscribe(id) | Packet::PubRel(id) => {
                own.insert(id);
            }
            Packet::PubAck(id) | Packet::PubComp(id) | Packet::SubAck(id) | Packet::PubRec(id, true) => {
                others.remove(&id);
            }
            Packet::ConnAck(code) => self.is_connected = code == 0,
            Packet::Publish(None) | Packet::PubRec(_, false) | Packet::Ping | Packet::Disconnect => {}
        }
    }

    /// Every packet of `sender` that has begun is with the other side.
    pub fn settle(&mut self, sender: Sender) {
        *self.sending(sender) = false;
    }

    /// Whether the session can end here and nothing is in doubt.
    pub fn is_quiet(&self) -> bool {
        self.is_connected
            && !self.client_is_sending
            && !self.broker_is_sending
            && self.by_client.is_empty()
            && self.by_broker.is_empty()
    }

    fn sending(&mut self, sender: Sender) -> &mut bool {
        match sender {
            Sender::Client => &mut self.client_is_sending,
            Sender::Broker => &mut self.broker_is_sending,
        }
    }
}

/// What of a client is not passed on any more while an end is looked for.
#[derive(Debug)]
pub struct Hold {
    version: Version,
    has_held_publish: bool,
}

impl Hold {
    /// Nothing has been held back yet.
    pub fn new(version: Version) -> Self {
        Self { version, has_held_publish: false }
    }

    /// Whether `packet`, the next one, is held back: what begins an exchange; and in MQTT 5 every PUBLISH behind one that
    /// was. That one may have given a topic alias its topic (§3.3.2.3.4), and the broker would take a later one, which
    /// names the alias alone, for one under the topic that the alias had before.
    pub fn holds(&mut self, packet: Packet) -> bool {
        let is_publish = matches!(packet, Packet::Publish(_));
        let is_held = packet.begins_exchange() || (is_publish && self.has_held_publish);
        self.has_held_publish |= is_held && is_publish && self.version == Version::V5;
        is_held
    }
}

/// When a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// From here on at the first quiet moment.
    pub look: Moment,
    /// From here on the client begins nothing new, so that there is one.
    pub hold: Moment,
    /// Here at the latest.
    pub cut: Moment,
}

impl Plan {
    /// For a token that lives from `issued` to `expires`.
    pub fn of_token(issued: Moment, expires: Moment) -> Self {
        let window = (issued.until(expires) / 10).max(LEAST_WINDOW);
        Self { look: expires - window, hold: expires - window.min(HOLD), cut: expires - CUT }
    }

    /// For a session that is open `now`, in a drain. `is_late`: that began in it.
    pub fn of_drain(now: Moment, is_late: bool) -> Self {
        let look = if is_late { now + BESIDE_A_DRAIN } else { now };
        Self { look, hold: look + HOLD / 3, cut: look + HOLD * 2 / 3 }
    }
}

/// Whether a session can begin with a token that ends at `expires`.
pub fn is_worth_a_session(now: Moment, expires: Moment) -> bool {
    now + LEAST_SESSION <= expires
}

const LEAST_WINDOW: Duration = Duration::from_secs(10);
/// Before the token's end; a client that waits longer for an answer counts the connection as dead.
const HOLD: Duration = Duration::from_secs(15);
const CUT: Duration = Duration::from_secs(5);
/// With less it would be over before it began.
const LEAST_SESSION: Duration = Duration::from_secs(20);
/// What a session has at least that begins in a drain: its program is still at work.
const BESIDE_A_DRAIN: Duration = Duration::from_secs(5);
