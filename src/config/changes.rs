//! Which changes have to wait for a restart (pure).

use std::collections::BTreeSet;

use super::Settings;

/// What of `new` cannot take effect in a sidecar that was started with `old`, a line each.
pub fn needs_restart(old: &Settings, new: &Settings) -> Vec<String> {
    let waits = [
        ("listeners", old.listeners != new.listeners),
        ("mqtt", old.mqtt != new.mqtt),
        ("metadata.mode", old.metadata != new.metadata),
        ("trust", old.trust != new.trust),
        ("upstream", old.upstream != new.upstream),
        ("workers", old.workers != new.workers),
        ("listeners.tokenApi", is_first_entry(old, new)),
    ];
    let waits = waits.into_iter().filter(|(_, changed)| *changed);
    let waits = waits.map(|(name, _)| format!("{name}: the change takes effect at the next start"));
    waits.chain(closed_doors(old, new)).chain(needs_new_pod(old, new)).collect()
}

/// Doors that are open and have no entry any more: what their credential is called may be another one by now.
fn closed_doors(old: &Settings, new: &Settings) -> impl Iterator<Item = String> {
    let closed = old.mqtt.iter().filter(|door| !new.mqtt.contains(door));
    closed.map(|door| {
        format!("mqtt: {} serves nobody until the next start, since its entry is gone or changed", door.listen)
    })
}

/// Without entries the door is not opened at the start.
fn is_first_entry(old: &Settings, new: &Settings) -> bool {
    old.tokens.is_empty() && !new.tokens.is_empty() && old.listeners.token_api.is_some()
}

/// Annotations that a pod was made by: what they chose stands in the pod, which nobody can change.
fn needs_new_pod(old: &Settings, new: &Settings) -> Vec<String> {
    let (Some(old), Some(new)) = (&old.shape, &new.shape) else { return Vec::new() };
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let changed = names.into_iter().filter(|name| old.get(*name) != new.get(*name));
    changed.map(|name| format!("{name}: the change takes effect in the next pod, not in this one")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_bound_or_read_once_waits_and_the_rest_does_not() {
        type Change = (&'static str, fn(&mut Settings));
        let old = Settings::default();
        let changes: [Change; 9] = [
            ("listeners", |new| new.listeners.proxy = None),
            ("mqtt", |new| {
                let upstream = crate::authority::Authority::parse("mqtt.example.com:8883", None).unwrap();
                let listen = "127.0.0.1:1883".parse().unwrap();
                let (credential, username) = ("device".to_owned(), "unused".to_owned());
                new.mqtt.push(super::super::MqttSettings { listen, upstream, credential, username });
            }),
            ("metadata.mode", |new| new.metadata = super::super::MetadataMode::Off),
            ("trust", |new| new.trust.public = "/elsewhere".into()),
            ("upstream", |new| new.upstream.extra_roots = Some("/roots.pem".into())),
            ("workers", |new| new.workers = 2),
            ("", |new| new.credentials.clear()),
            ("", |new| new.policy.routes.clear()),
            ("", |new| new.availability = std::time::Duration::from_secs(600)),
        ];
        for (name, change) in changes {
            let mut new = old.clone();
            change(&mut new);
            let waits = needs_restart(&old, &new);
            assert_eq!(waits.len(), usize::from(!name.is_empty()), "{waits:?}");
            assert!(waits.iter().all(|wait| wait.starts_with(name)), "{waits:?}");
        }
    }

    #[test]
    fn doors_without_an_entry_of_theirs_are_told() {
        let door = |upstream: &str| super::super::MqttSettings {
            listen: "127.0.0.1:1883".parse().unwrap(),
            upstream: crate::authority::Authority::parse(upstream, None).unwrap(),
            credential: "device".to_owned(),
            username: "unused".to_owned(),
        };
        let with = |upstreams: &[&str]| Settings {
            mqtt: upstreams.iter().map(|upstream| door(upstream)).collect(),
            ..Settings::default()
        };
        for (old, new, closed) in [
            (&["a.test:1"][..], &["a.test:1"][..], 0),
            (&["a.test:1"], &["b.test:1", "a.test:1"], 0),
            (&["a.test:1"], &["b.test:1"], 1),
            (&["a.test:1", "b.test:1"], &[], 2),
            (&[], &["a.test:1"], 0),
        ] {
            let waits = needs_restart(&with(old), &with(new));
            let told = waits.iter().filter(|line| line.starts_with("mqtt: 127.0.0.1:1883 serves nobody")).count();
            assert_eq!(told, closed, "{waits:?}");
        }
    }

    #[test]
    fn the_first_entry_of_tokens_waits_since_its_door_is_not_open_and_later_ones_do_not() {
        let with = |text: &str| {
            let file = Some(super::super::Source { name: "f".to_owned(), text: text.to_owned() });
            super::super::load(&super::super::Sources { file, ..Default::default() }).unwrap().settings
        };
        let entries = |names: &[&str], rest: &str| {
            let entry =
                |name: &&str| format!("{{name: {name}, credential: default, token: access, file: {{path: /{name}}}}}");
            with(&format!("tokens: [{}]\n{rest}", names.iter().map(entry).collect::<Vec<_>>().join(", ")))
        };
        let off = "listeners: {tokenApi: off}";
        for (old, new, waits) in [
            (entries(&[], ""), entries(&["a"], ""), 1),
            (entries(&["a"], ""), entries(&["a", "b"], ""), 0),
            (entries(&["a"], ""), entries(&[], ""), 0),
            (entries(&[], off), entries(&["a"], off), 0),
        ] {
            let told = needs_restart(&old, &new);
            assert_eq!(told.len(), waits, "{told:?}");
            assert!(told.iter().all(|line| line.starts_with("listeners.tokenApi: ")), "{told:?}");
        }
    }

    #[test]
    fn what_the_injector_acted_on_waits_for_the_next_pod() {
        let shaped = |pairs: Option<&[(&str, &str)]>| {
            let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            Settings { shape: pairs.map(map), ..Settings::default() }
        };
        let old = [("bearerd.dev/secret-name", "a"), ("bearerd.dev/containers", "app")];
        for (old, new, told) in [
            (Some(&old[..]), Some(&old[..]), &[][..]),
            (Some(&old[..]), Some(&[("bearerd.dev/secret-name", "b"), old[1]][..]), &["bearerd.dev/secret-name: "][..]),
            (Some(&old[..]), Some(&[][..]), &["bearerd.dev/containers: ", "bearerd.dev/secret-name: "][..]),
            (None, Some(&old[..]), &[][..]),
        ] {
            let waits = needs_restart(&shaped(old), &shaped(new));
            assert_eq!(waits.len(), told.len(), "{waits:?}");
            assert!(waits.iter().zip(told).all(|(wait, told)| wait.starts_with(told)), "{waits:?}");
        }
    }
}
