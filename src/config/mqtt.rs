//! The section `mqtt`: its shape, and what it needs of the rest.

use super::{
    Flags, MqttSettings,
    cursor::{Cursor, Fields},
    file::File,
    merge,
    problem::{Place, Report, unknown},
    tokens, value,
};
use crate::{
    credential::{Spec, Want},
    policy::{HostPattern, TokenKind},
};

/// An entry with the places of what is checked against the rest.
#[derive(Clone, Debug)]
pub(super) struct PlacedDoor {
    pub(super) settings: MqttSettings,
    pub(super) listen: Place,
    upstream: Place,
    credential: Place,
}

pub(super) fn read(cursor: &Cursor<'_>, report: &mut Report) -> Option<PlacedDoor> {
    let fields: Fields<'_> = cursor.fields(DOOR, report);
    let listen = fields.required("listen", report);
    let upstream = fields.required("upstream", report);
    let credential = fields.required("credential", report);
    let username = fields.parse_or("username", UNUSED.to_owned(), report, value::username);
    let place = |field: Option<&Cursor<'_>>| field.map_or_else(|| cursor.place(), Cursor::place);
    let (listen_place, upstream_place, credential_place) = (place(listen), place(upstream), place(credential));
    let listen = listen.and_then(|field| field.parse(report, value::endpoint_listen));
    let upstream = upstream.and_then(|field| field.parse(report, value::broker));
    let credential = credential.and_then(|field| field.parse(report, value::name));
    Some(PlacedDoor {
        settings: MqttSettings { listen: listen?, upstream: upstream?, credential: credential?, username },
        listen: listen_place,
        upstream: upstream_place,
        credential: credential_place,
    })
}

/// The credential must be there and give a token without being asked for one in particular, and the broker lie below a
/// ceiling that somebody set. The ceiling that nobody set has the file's own hosts, and this is one.
pub(super) fn check(file: &File, flags: &Flags, credentials: &[Spec], allow: &[HostPattern], report: &mut Report) {
    let is_set = merge::is_ceiling_set(file, flags);
    for door in &file.mqtt {
        let settings = &door.settings;
        let spec = credentials.iter().find(|spec| spec.name.as_str() == settings.credential);
        match spec {
            None => {
                let names = credentials.iter().map(|spec| spec.name.as_str());
                report.problem(&door.credential, unknown("credential", &settings.credential, names));
            }
            Some(spec) if spec.first_want().is_none() => {
                let names = spec.parameters().join(", ");
                let message =
                    format!("the credential has parameters ({names}), which no client gives, want one without");
                report.problem(&door.credential, message);
            }
            Some(_) => {}
        }
        let Some(host) = settings.upstream.host().map(|host| HostPattern::exact(host.clone())) else { continue };
        if is_set {
            merge::check_ceiling(&host, &door.upstream, allow, report);
        }
        let is_access = spec.is_some_and(|spec| spec.first_want() == Some(Want::Access));
        if let Err(message) = tokens::sent(&host, if is_access { TokenKind::Access } else { TokenKind::Jwt }) {
            report.problem(&door.upstream, message);
        }
    }
}

const DOOR: &[&str] = &["listen", "upstream", "credential", "username"];

/// What the samples of IoT devices send, whose brokers read only the password.
const UNUSED: &str = "unused";
