//! The downward API's file of annotations, which whoever may patch a pod can write.
//!
//! Whatever stands there, a credential goes nowhere beyond the ceiling, no path and no listener beyond loopback
//! comes out, and every refusal says why.

#![no_main]

use bearerd::{
    config::{self, Flags, Settings, Source, Sources},
    credential::Spec,
    policy::{Action, HostPattern},
};
use bearerd_fuzz::{seeds, target};

target!(seeds::sections(include_str!("../seeds/annotations.txt")), |data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let without = config::load(&sources(None)).expect("the administrator's settings are good");
    match config::load(&sources(Some(text))) {
        Err(problems) => {
            assert!((1..=200).contains(&problems.len()), "{} problems", problems.len());
            for problem in &problems {
                let lines = text.lines().count();
                assert!(problem.at.is_none_or(|at| (1..=lines).contains(&at.line)), "{problem}: there is no such line");
                assert!(!problem.message.is_empty() && !problem.message.contains('\n'), "{problem:?}");
                assert_eq!(problem.source, "annotations", "{problem}");
            }
        }
        Ok(loaded) => within_the_ceiling(&loaded.settings, &without.settings),
    }
    // A value is the same however the kubelet quotes it.
    if let Some(value) = text.strip_prefix("hosts=").filter(|value| !value.contains('\u{fffd}')) {
        let plain = annotated(value, |character| match character {
            '"' => "\\\"".to_owned(),
            '\\' => "\\\\".to_owned(),
            '\n' => "\\n".to_owned(),
            '\r' => "\\r".to_owned(),
            other => other.to_string(),
        });
        let escaped = annotated(value, |character| match u32::from(character) {
            code @ 0..=0xffff => format!("\\u{code:04x}"),
            code => format!("\\U{code:08x}"),
        });
        let bytes = annotated(value, |character| {
            character.encode_utf8(&mut [0; 4]).bytes().map(|byte| format!("\\x{byte:02x}")).collect()
        });
        assert_eq!(plain, escaped);
        assert_eq!(plain, bytes);
    }
});

fn annotated(value: &str, quote: impl Fn(char) -> String) -> Result<config::Loaded, Vec<config::Problem>> {
    let quoted: String = value.chars().map(quote).collect();
    config::load(&sources(Some(&format!("bearerd.dev/hosts=\"{quoted}\"\n"))))
}

fn sources(annotations: Option<&str>) -> Sources {
    let source = |name: &str, text: &str| Source { name: name.to_owned(), text: text.to_owned() };
    Sources {
        file: Some(source("file", FILE)),
        annotations: annotations.map(|text| source("annotations", text)),
        flags: Flags { allow_hosts: vec![CEILING.to_owned()], ..Flags::default() },
    }
}

fn within_the_ceiling(settings: &Settings, without: &Settings) {
    let ceiling: Vec<HostPattern> = CEILING.split(',').map(|text| HostPattern::parse(text).expect("good")).collect();
    let allows = |pattern: &HostPattern| ceiling.iter().any(|allowed| allowed.covers(pattern));
    assert!(settings.policy.allow.iter().all(allows), "{:?}", settings.policy.allow);
    for route in settings.policy.routes.iter().filter(|route| route.action == Action::Inject) {
        assert!(route.hosts.iter().all(allows), "{route:?}");
    }
    for endpoint in &settings.endpoints {
        assert!(endpoint.listen.ip().is_loopback(), "{endpoint:?}");
        let host = endpoint.upstream.host().expect("a name");
        assert!(allows(&HostPattern::exact(host.clone())), "{endpoint:?}");
    }
    // What annotations may not choose is as it was.
    assert_eq!(settings.listeners, without.listeners);
    assert_eq!(settings.trust, without.trust);
    assert_eq!(settings.upstream, without.upstream);
    assert!(settings.credentials.iter().map(Spec::path).eq(without.credentials.iter().map(Spec::path)));
    // The administrator's refusal comes first, whatever was added.
    let is_denied = |route: &bearerd::policy::Route| route.name == "never" && route.action == Action::Deny;
    let denied = settings.policy.routes.iter().position(is_denied).expect("the administrator's route");
    let covers = HostPattern::parse("storage.googleapis.com").expect("good");
    let injecting = settings
        .policy
        .routes
        .iter()
        .position(|route| route.action != Action::Deny && route.hosts.iter().any(|host| host.covers(&covers)));
    assert!(injecting.is_none_or(|at| denied < at), "{:?}", settings.policy.routes);
}

const CEILING: &str = "*.googleapis.com,*.run.app";
const FILE: &str = r#"
credentials:
  - {name: default, serviceAccountKey: {path: /var/run/secrets/bearerd/default, scopes: [cloud-platform]}}
routes:
  - {name: never, hosts: [storage.googleapis.com], action: deny}
  - {name: google-apis, hosts: ["*.googleapis.com"], action: inject}
"#;
