//! Which changes have to wait for a restart (pure).

use super::Settings;

/// What of `new` cannot take effect in a sidecar that was started with `old`, a line each.
pub fn needs_restart(old: &Settings, new: &Settings) -> Vec<String> {
    let waits = [
        ("listeners", old.listeners != new.listeners),
        ("metadata.mode", old.metadata != new.metadata),
        ("trust", old.trust != new.trust),
        ("upstream", old.upstream != new.upstream),
        ("workers", old.workers != new.workers),
    ];
    let waits = waits.into_iter().filter(|(_, changed)| *changed);
    waits.map(|(name, _)| format!("{name}: the change takes effect at the next start")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_bound_or_read_once_waits_and_the_rest_does_not() {
        type Change = (&'static str, fn(&mut Settings));
        let old = Settings::default();
        let changes: [Change; 8] = [
            ("listeners", |new| new.listeners.proxy = None),
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
}
