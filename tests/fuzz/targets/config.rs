//! The configuration file: good settings that hold what the contract says, or problems with their places.

#![no_main]

use std::collections::HashSet;

use bearerd::{
    config::{self, Flags, Settings, Source, Sources},
    policy::Action,
};
use bearerd_fuzz::{seeds, target};

target!(seeds::sections(include_str!("../seeds/config.txt")), |data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let file = Source { name: "file".to_owned(), text: text.to_owned() };
    let sources = Sources { file: Some(file), annotations: None, flags: Flags::default() };
    let loaded = config::load(&sources);
    assert_eq!(loaded, config::load(&sources), "read twice, it says two things");
    match loaded {
        Err(problems) => {
            assert!((1..=200).contains(&problems.len()), "{} problems", problems.len());
            let lines = text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count();
            for problem in &problems {
                assert!(problem.at.is_none_or(|at| at.line <= lines + 1 && at.column >= 1), "{problem}: no such place");
                assert!(!problem.message.is_empty() && problem.message.len() < 4096, "{problem:?}");
            }
        }
        Ok(loaded) => {
            assert_eq!(config::listeners(&sources), loaded.settings.listeners);
            holds(&loaded.settings);
        }
    }
});

fn holds(settings: &Settings) {
    let names: HashSet<&str> = settings.credentials.iter().map(|credential| credential.name.as_str()).collect();
    assert_eq!(names.len(), settings.credentials.len(), "two credentials of one name");
    assert!(!settings.policy.allow.is_empty());
    for route in settings.policy.routes.iter().filter(|route| route.action == Action::Inject) {
        assert!(names.contains(route.credential.as_str()), "{route:?}");
    }
    let doors = &settings.listeners;
    for door in [doors.proxy, doors.metadata, doors.transparent, doors.token_api, doors.control].into_iter().flatten() {
        assert!(door.ip().is_loopback(), "{door}");
    }
    assert!(settings.endpoints.iter().all(|endpoint| endpoint.listen.ip().is_loopback()));
    assert!(settings.workers >= 1);
    assert!(settings.drain.linger <= settings.drain.deadline);
    let _ = settings.policy.build();
}
