//! The claims of a JWT that is itself the token: what stands in the configuration, with places for parameters.
//!
//! Pure: no key, no clock. The presets are those of Fleet Engine
//! (<https://developers.google.com/maps/documentation/mobility/fleet-engine/essentials/set-up-fleet/jwt>) and of
//! IoT devices as Cloud IoT Core had them and ClearBlade carries them on.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Parameters, jwt};

/// What a JWT says, whoever signs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// The header's `kid`. `None`: the key's own id where it has one. Empty: none.
    pub key_id: Option<String>,
    /// `iss`. `None`: the account's address where the key has one. Empty: none.
    pub issuer: Option<String>,
    /// `sub`, likewise.
    pub subject: Option<String>,
    /// `aud`.
    pub audience: String,
    /// From `iat` to `exp`.
    pub lifetime: Duration,
    /// All other claims; `{name}` in a text is a parameter.
    pub claims: Map<String, Value>,
    /// Whether whoever verifies it looks the key up by `kid`, so that one without is of no use.
    pub needs_key_id: bool,
}

/// A template that has a name.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// As written in configuration.
    pub name: &'static str,
    /// `aud`; none where the configuration must give it.
    pub audience: Option<&'static str>,
    claims: fn() -> Value,
    is_device: bool,
}

impl Preset {
    /// The one called `name`.
    pub fn named(name: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|preset| preset.name == name)
    }

    /// The names of all.
    pub fn names() -> impl Iterator<Item = &'static str> {
        PRESETS.iter().map(|preset| preset.name)
    }

    /// Its template, with an empty audience where the configuration must give one.
    pub fn template(&self) -> Template {
        let nothing = self.is_device.then(String::new);
        let Value::Object(claims) = (self.claims)() else { unreachable!("presets are objects: tested") };
        Template {
            key_id: nothing.clone(),
            issuer: nothing.clone(),
            subject: nothing,
            audience: self.audience.unwrap_or_default().to_owned(),
            lifetime: HOUR,
            claims,
            needs_key_id: !self.is_device,
        }
    }
}

impl Template {
    /// A template without claims of its own.
    pub fn new(audience: &str) -> Self {
        Self {
            key_id: None,
            issuer: None,
            subject: None,
            audience: audience.to_owned(),
            lifetime: HOUR,
            claims: Map::new(),
            needs_key_id: false,
        }
    }

    /// The longest life that whoever reads it accepts.
    pub fn longest(&self) -> Duration {
        if is_fleet_engine(&self.audience) { HOUR } else { DAY }
    }

    /// The names of its parameters, each once, sorted.
    pub fn parameters(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.claims.values().for_each(|claim| collect(claim, &mut names));
        names.sort();
        names.dedup();
        names
    }

    /// The claims, with `parameters` in their places, for a JWT signed at `now` (seconds since 1970, corrected) with a
    /// key of `account`.
    pub(super) fn claims(&self, parameters: &Parameters, account: Option<&str>, now: u64) -> Map<String, Value> {
        let mut claims: Map<String, Value> =
            self.claims.iter().map(|(name, claim)| (name.clone(), filled(claim, parameters))).collect();
        let iat = now.saturating_sub(jwt::BACKDATE_SECONDS);
        let named = |name: &Option<String>| match name {
            Some(name) => Some(name.clone()).filter(|name| !name.is_empty()),
            None => account.map(ToOwned::to_owned),
        };
        for (claim, value) in [("iss", named(&self.issuer)), ("sub", named(&self.subject))] {
            if let Some(value) = value {
                claims.insert(claim.to_owned(), value.into());
            }
        }
        claims.insert("aud".to_owned(), self.audience.clone().into());
        claims.insert("iat".to_owned(), iat.into());
        claims.insert("exp".to_owned(), (iat + self.lifetime.as_secs()).into());
        claims
    }
}

/// Whether `{` and `}` in `text` surround names of parameters and nothing else.
///
/// # Errors
///
/// What is accepted.
pub fn check_text(text: &str) -> Result<(), &'static str> {
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let name = rest[at..].strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let Some((name, after)) = name.filter(|(name, _)| is_name(name)) else {
            return Err("braces surround the name of a parameter, want {name} with 1 to 63 letters, digits and '_'");
        };
        let _ = name;
        rest = after;
    }
    Ok(())
}

/// Claims that have a field of their own, or that only the signer knows.
pub const RESERVED: [&str; 5] = ["iss", "sub", "aud", "iat", "exp"];

/// Whether `audience` is Fleet Engine's, which refuses more than an hour.
pub fn is_fleet_engine(audience: &str) -> bool {
    audience.trim_end_matches('/') == FLEET_ENGINE.trim_end_matches('/')
}

fn is_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=63).contains(&name.len()) && name.bytes().all(legal)
}

/// The pieces of a text: what stands outside braces, and names inside them. Checked when it was read.
fn pieces(text: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest.take().filter(|text| !text.is_empty())?;
        match text.split_once('{').and_then(|(before, after)| Some((before, after.split_once('}')?))) {
            Some((before, (name, after))) => {
                rest = Some(after);
                Some((before, Some(name)))
            }
            None => Some((text, None)),
        }
    })
}

fn collect(claim: &Value, names: &mut Vec<String>) {
    match claim {
        Value::String(text) => names.extend(pieces(text).filter_map(|(_, name)| name.map(ToOwned::to_owned))),
        Value::Array(items) => items.iter().for_each(|item| collect(item, names)),
        Value::Object(fields) => fields.values().for_each(|field| collect(field, names)),
        _ => {}
    }
}

fn filled(claim: &Value, parameters: &Parameters) -> Value {
    match claim {
        Value::String(text) => {
            let fill = |(text, name): (&str, Option<&str>)| {
                let value = name.and_then(|name| parameters.get(name)).unwrap_or_default();
                [text, value].concat()
            };
            Value::String(pieces(text).map(fill).collect())
        }
        Value::Array(items) => items.iter().map(|item| filled(item, parameters)).collect(),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(name, field)| (name.clone(), filled(field, parameters))).collect())
        }
        other => other.clone(),
    }
}

const fn fleet(name: &'static str, claims: fn() -> Value) -> Preset {
    Preset { name, audience: Some(FLEET_ENGINE), claims, is_device: false }
}

/// All presets. Keys are lower case, without separators; `*` stands for every one and is only for servers.
const PRESETS: &[Preset] = &[
    fleet("fleetEngineDriver", || json!({"authorization": {"vehicleid": "{vehicleId}"}})),
    fleet("fleetEngineConsumer", || json!({"authorization": {"tripid": "{tripId}"}})),
    fleet("fleetEngineServer", || json!({"authorization": {"tripid": "*", "vehicleid": "*"}})),
    fleet("fleetEngineReader", || {
        json!({"authorization": {
            "tripid": "*", "vehicleid": "*", "taskid": "*", "trackingid": "*", "deliveryvehicleid": "*"
        }})
    }),
    fleet("fleetEngineDeliveryDriver", || json!({"authorization": {"deliveryvehicleid": "{deliveryVehicleId}"}})),
    fleet("fleetEngineDeliveryConsumer", || json!({"authorization": {"trackingid": "{trackingId}"}})),
    fleet(
        "fleetEngineDeliveryServer",
        || json!({"authorization": {"taskid": "*", "trackingid": "*", "deliveryvehicleid": "*"}}),
    ),
    Preset { name: "iotDevice", audience: None, claims: || json!({}), is_device: true },
];

/// With the slash, for all of its services.
const FLEET_ENGINE: &str = "https://fleetengine.googleapis.com/";
const HOUR: Duration = Duration::from_secs(3600);
/// What Cloud IoT Core took at most.
const DAY: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests;
