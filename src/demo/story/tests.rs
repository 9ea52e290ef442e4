//! The story holds; and on a stage that somebody broke, the step that it concerns does not.

use std::time::Duration;

use super::{
    Color, Ending, Options,
    narration::Narrator,
    stage::{EVIL, Pace, Stage},
    steps::{STEPS, Step, USES},
    tell, uses,
};
use crate::{
    app::Metadata,
    demo::{Outage, Protocols},
    policy::{HostPattern, Policy, Route, Unmatched},
    shutdown::DrainSettings,
};

#[tokio::test]
async fn the_story_holds_and_shows_no_token() {
    let mut out = Vec::new();
    let options = Options { color: Color::Never, ..Options::default() };
    let held = super::run(options, &mut out).await.unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(held, "{text}");
    assert!(text.contains("8 of 8 held in "), "{text}");
    assert!(!text.contains("ya29."), "{text}");
    assert!(!text.contains('\x1b'), "{text}");
    for line in text.lines() {
        assert!(line.chars().count() <= 90, "{line}");
    }
}

/// Breaks a stage, tells the story on it, and returns the number of the step that failed and what it said.
async fn broken(patience: Duration, breaking: impl FnOnce(&mut Stage)) -> (usize, String) {
    let mut stage = Stage::set(Pace::Story).await.unwrap();
    stage.patience = patience;
    breaking(&mut stage);
    told(&STEPS, stage).await
}

async fn told(steps: &'static [Step], mut stage: Stage) -> (usize, String) {
    let mut out = Vec::new();
    let mut narrator = Narrator::new(&mut out, false);
    let mut ending = Ending::of(steps.len());
    tell(steps, &mut stage, &mut narrator, &mut ending).await.unwrap();
    narrator.ending(&ending).unwrap();
    drop(stage);
    let (title, failed) =
        ending.failed.unwrap_or_else(|| panic!("a story on a broken stage fails: {}", String::from_utf8_lossy(&out)));
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains(&format!("{} of {} held", ending.held, steps.len())), "{text}");
    assert!(text.contains(&failed.expected.chars().take(40).collect::<String>()), "{text}");
    assert_eq!(steps[ending.held].title, title);
    assert!(text.contains(title), "{text}");
    assert!(!text.contains("ya29."), "{text}");
    (ending.held + 1, failed.seen)
}

/// For stages on which a step waits in vain; the steps before it must still have the time they need.
const SHORT: Duration = Duration::from_secs(4);
const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn step_1_fails_when_the_token_endpoint_is_down() {
    let (step, seen) = broken(Duration::from_millis(500), |stage| stage.google.outage(Outage::Status(503))).await;
    assert_eq!(step, 1);
    assert!(seen.contains("token default"), "{seen}");
}

#[tokio::test]
async fn step_1_fails_when_google_does_not_know_the_key() {
    let break_key = |stage: &mut Stage| assert!(stage.google.remove_key(&stage.first.key_id));
    assert_eq!(broken(Duration::from_millis(500), break_key).await.0, 1);
}

#[tokio::test]
async fn step_2_fails_when_the_metadata_server_gives_the_real_token() {
    let (step, seen) = broken(LONG, |stage| stage.settings.metadata = Metadata::Token).await;
    assert_eq!((step, seen.as_str()), (2, "a real token: 200 OK"));
}

#[tokio::test]
async fn step_3_fails_when_no_route_injects() {
    let unrouted = |stage: &mut Stage| {
        stage.settings.policy = Policy::new(Vec::new(), Unmatched::Pass, stage.settings.policy.allow().to_vec());
    };
    let (step, seen) = broken(LONG, unrouted).await;
    assert_eq!((step, seen.as_str()), (3, "a token that it never issued"));
}

#[tokio::test]
async fn step_4_fails_when_google_speaks_no_h2() {
    assert_eq!(broken(LONG, |stage| stage.google.protocols(Protocols::H1)).await.0, 4);
}

#[tokio::test]
async fn step_5_fails_when_the_look_alike_gets_a_token() {
    let careless = |stage: &mut Stage| {
        let hosts: Vec<_> =
            ["*.googleapis.com", EVIL].into_iter().map(|host| HostPattern::parse(host).unwrap()).collect();
        stage.settings.policy = Policy::new(vec![Route::google_apis(hosts.clone())], Unmatched::Pass, hosts);
    };
    let (step, seen) = broken(LONG, careless).await;
    assert_eq!((step, seen.as_str()), (5, "a real token there"));
}

#[tokio::test]
async fn step_6_fails_when_google_does_not_know_the_new_key() {
    let (step, seen) = broken(SHORT, |stage| assert!(stage.google.remove_key(&stage.second.key_id))).await;
    assert_eq!(step, 6);
    assert!(seen.starts_with("0 exchanges"), "{seen}");
}

#[tokio::test]
async fn step_7_fails_when_no_refresh_falls_into_the_outage() {
    let (step, seen) = broken(SHORT, |stage| stage.life = Duration::from_secs(3599)).await;
    assert_eq!(step, 7);
    assert!(seen.starts_with("0 that failed"), "{seen}");
}

#[tokio::test]
async fn step_8_fails_when_the_end_does_not_wait() {
    let impatient = DrainSettings { linger: Duration::ZERO, deadline: Duration::from_millis(100) };
    assert_eq!(broken(LONG, |stage| stage.settings.drain = impatient).await.0, 8);
}

#[tokio::test]
async fn what_the_client_was_sent_is_searched_for_tokens() {
    for (mode, seen) in [(Metadata::Token, true), (Metadata::Placeholder, false)] {
        let mut stage = Stage::set(Pace::Story).await.unwrap();
        stage.settings.metadata = mode;
        stage.mount.swap(&stage.first.json()).unwrap();
        stage.start().await.unwrap();
        let client = stage.client().unwrap();
        assert!(!client.has_seen(&stage.tokens()));
        client.ask_metadata("/computeMetadata/v1/instance/service-accounts/default/token").await.unwrap();
        assert_eq!(client.has_seen(&stage.tokens()), seen);
    }
}

#[tokio::test]
async fn the_other_uses_hold() {
    let mut out = Vec::new();
    let options = Options { all: true, color: Color::Never, ..Options::default() };
    let held = super::run(options, &mut out).await.unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(held, "{text}");
    assert!(text.contains("17 of 17 held in "), "{text}");
    assert!(!text.contains("ya29.") && !text.contains("eyJ"), "{text}");
    for line in text.lines() {
        assert!(line.chars().count() <= 90, "{line}");
    }
}

#[tokio::test]
async fn each_other_use_fails_on_a_stage_that_lacks_what_it_needs() {
    let unrouted = |name: &'static str| -> Breaking {
        Box::new(move |stage| routes(stage, |route| (route.name != name).then_some(route)))
    };
    let unsigned = |route| Some(Route { signs_urls: false, ..route });
    let breakings: [(usize, Breaking); 9] = [
        (1, Box::new(|stage| stage.google.forbid_impersonation(uses::PRINCIPAL, uses::REPORTS))),
        (2, unrouted("pubsub")),
        (3, unrouted("services")),
        (4, Box::new(|stage| stage.settings.tokens.clear())),
        (5, unrouted("devices")),
        (6, unrouted("reports")),
        (7, unrouted("photos")),
        (8, Box::new(move |stage| routes(stage, unsigned))),
        (9, unrouted("mail")),
    ];
    for (step, breaking) in breakings {
        let mut stage = uses::set().await.unwrap();
        stage.patience = Duration::from_secs(2);
        breaking(&mut stage);
        let (failed, seen) = told(&USES, stage).await;
        assert_eq!(failed, step, "{seen}");
    }
}

type Breaking = Box<dyn FnOnce(&mut Stage)>;

fn routes(stage: &mut Stage, change: impl Fn(Route) -> Option<Route>) {
    let policy = &stage.settings.policy;
    let routes = policy.routes().iter().filter_map(|route| change(Route::clone(route))).collect();
    stage.settings.policy = Policy::new(routes, Unmatched::Pass, policy.allow().to_vec());
}
