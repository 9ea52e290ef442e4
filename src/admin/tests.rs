use std::{cell::Cell, collections::BTreeMap, time::Duration};

use http::Request;
use http_body_util::BodyExt as _;

use super::{status::*, *};
use crate::{
    clock::{Wall, rfc3339},
    ready::Readiness,
};

async fn body(answer: Answer) -> String {
    String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut builder = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap()
}

fn wall(seconds: u64) -> Wall {
    Wall(Duration::from_secs(seconds))
}

const NOW: u64 = 1_790_000_000;

fn when(seconds: i64) -> When {
    When::new(wall(NOW), wall(NOW.saturating_add_signed(seconds)))
}

fn credential(name: &str, left: Option<i64>, error: Option<&str>) -> Credential {
    let token = left.map(|left| Token { expires: when(left), lifetime_seconds: 3600 });
    Credential {
        name: name.to_owned(),
        kind: "serviceAccountKey".to_owned(),
        email: Some("app@shop-prod.iam.gserviceaccount.com".to_owned()),
        key_id: Some("8c1f".to_owned()),
        state: TokenState::of(token.as_ref().map(|token| &token.expires), error.is_some()),
        token,
        last_refresh: Some(when(-900)),
        last_error: error.map(|message| Problem { message: message.to_owned(), when: when(-12) }),
        next_try: Some(when(4)),
        resting_keys: Vec::new(),
    }
}

fn status(credentials: Vec<Credential>) -> Status {
    Status {
        version: "0.1.0".to_owned(),
        phase: Phase::Running,
        started: when(-90_000),
        waiting_for: Vec::new(),
        config: Config { source: "/etc/bearerd/config.yaml".to_owned(), loaded: Some(when(-90_000)), last_error: None },
        listeners: vec![Listener { door: "proxy".to_owned(), address: "127.0.0.1:14180".to_owned() }],
        credentials,
        routes: vec![Route {
            name: "google-apis".to_owned(),
            hosts: vec!["*.googleapis.com".to_owned()],
            action: "inject".to_owned(),
            credential: Some("default".to_owned()),
            token: Some("access".to_owned()),
            requests: 1234,
        }],
        tokens: vec![Entry {
            name: "driver".to_owned(),
            path: "/token/driver/{vehicleId}".to_owned(),
            parameters: vec!["vehicleId".to_owned()],
            credential: "drivers".to_owned(),
            token: "jwt".to_owned(),
            min_life_seconds: 900,
            handed_out: 4321,
            file: None,
        }],
        ca: Some(Ca { expires: when(315_000_000), permitted: vec!["googleapis.com".to_owned()] }),
        refusals: BTreeMap::from([("foreign_host".to_owned(), 3), ("framing".to_owned(), 0)]),
        passed: BTreeMap::from([("signed_url".to_owned(), 7)]),
        warnings: Vec::new(),
    }
}

fn page(status: Status) -> Answer {
    control::respond(&request("GET", "/", &[("host", "127.0.0.1:14191")]), || status).answer
}

#[tokio::test]
async fn the_health_door_answers_four_paths_and_no_more() {
    let ready = Readiness::new();
    for (method, target, status) in [
        ("GET", "/livez", 200),
        ("GET", "/readyz", 200),
        ("GET", "/startupz", 200),
        ("GET", "/startupz?verbose", 200),
        ("GET", "/metrics", 200),
        ("HEAD", "/livez", 200),
        ("HEAD", "/metrics", 200),
        ("POST", "/livez", 405),
        ("PUT", "/metrics", 405),
        ("OPTIONS", "/readyz", 405),
        ("DELETE", "/startupz", 405),
        ("GET", "/", 404),
        ("GET", "/livez/", 404),
        ("GET", "//livez", 404),
        ("GET", "/LIVEZ", 404),
        ("GET", "/%6civez", 404),
        ("GET", "/healthz", 404),
        ("GET", "/status.json", 404),
        ("GET", "/quit", 404),
        ("POST", "/quit", 404),
        ("POST", "/quitquitquit", 404),
        ("POST", "/shutdown", 404),
        ("GET", "/debug/pprof", 404),
        ("GET", "/config", 404),
        ("GET", "/computeMetadata/v1/instance/service-accounts/default/token", 404),
    ] {
        let request = request(method, target, &[("x-bearerd-quit", "true"), ("metadata-flavor", "Google")]);
        let asked = Cell::new(false);
        let answer = health::respond(&request, &ready, true, || {
            asked.set(true);
            "up 1\n".to_owned()
        });
        assert_eq!(answer.status(), status, "{method} {target}");
        assert_eq!(asked.get(), target == "/metrics" && status == 200, "{method} {target}");
        let length = answer.headers()["content-length"].to_str().unwrap().parse::<usize>().unwrap();
        assert!(length > 0);
        assert_eq!(body(answer).await.len(), if method == "HEAD" { 0 } else { length }, "{method} {target}");
    }
}

#[tokio::test]
async fn metrics_are_in_the_format_that_prometheus_reads() {
    let answer = health::respond(&request("GET", "/metrics", &[]), &Readiness::new(), false, || "up 1\n".to_owned());
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(body(answer).await, "up 1\n");
}

#[tokio::test]
async fn startup_says_what_it_waits_for_and_readiness_is_apart_from_it() {
    let ready = Readiness::new();
    ready.wait_for("token default", "no answer from the token endpoint");
    ready.wait_for("config", "routes[2].hosts[0]: an IP address is not accepted");
    let ask = |target: &str, serving: bool| health::respond(&request("GET", target, &[]), &ready, serving, String::new);
    let startup = ask("/startupz", true);
    assert_eq!(startup.status(), 503);
    assert_eq!(
        body(startup).await,
        "config: routes[2].hosts[0]: an IP address is not accepted\ntoken default: no answer from the token endpoint\n"
    );
    assert_eq!(ask("/readyz", true).status(), 200);
    assert_eq!(ask("/readyz", false).status(), 503);
    assert_eq!(ask("/livez", false).status(), 200);
    ready.met("config");
    ready.met("token default");
    assert_eq!(ask("/startupz", false).status(), 200);
}

type Sent<'a> = &'a [(&'a str, &'a str)];

#[test]
fn quit_wants_post_a_loopback_host_and_its_header_and_no_browser_or_relay() {
    let good: Sent<'_> = &[("host", "127.0.0.1:14191"), ("x-bearerd-quit", "true")];
    let rows: &[(&str, &str, Sent<'_>, u16)] = &[
        ("POST", "/quit", good, 202),
        ("POST", "/quit", &[("host", "localhost:9"), ("x-bearerd-quit", "true")], 202),
        ("POST", "/quit", &[("host", "[::1]:14191"), ("x-bearerd-quit", "true")], 202),
        ("POST", "http://127.0.0.1:14191/quit", good, 202),
        ("POST", "http://evil.test/quit", good, 403),
        ("GET", "/quit", good, 405),
        ("HEAD", "/quit", good, 405),
        ("PUT", "/quit", good, 405),
        ("OPTIONS", "/quit", good, 405),
        ("POST", "/quit/", good, 405),
        ("POST", "//quit", good, 405),
        ("POST", "/QUIT", good, 405),
        ("POST", "/quitquitquit", good, 405),
        ("POST", "/", good, 405),
        ("POST", "/quit", &[("host", "127.0.0.1:14191")], 403),
        ("POST", "/quit", &[("host", "127.0.0.1:14191"), ("x-bearerd-quit", "True")], 403),
        ("POST", "/quit", &[("host", "127.0.0.1:14191"), ("x-bearerd-quit", "")], 403),
        ("POST", "/quit", &[("host", "127.0.0.1"), ("x-bearerd-quit", "true"), ("x-bearerd-quit", "true")], 403),
        ("POST", "/quit?x-bearerd-quit=true", &[("host", "127.0.0.1:14191")], 403),
        ("POST", "/quit", &[("x-bearerd-quit", "true")], 403),
        ("POST", "/quit", &[("host", "127.0.0.1"), ("host", "127.0.0.1"), ("x-bearerd-quit", "true")], 403),
        ("POST", "/quit", &[("host", "evil.test:14191"), ("x-bearerd-quit", "true")], 403),
        ("POST", "/quit", &[("host", "127.0.0.1.nip.io"), ("x-bearerd-quit", "true")], 403),
        ("POST", "/quit", &[("host", "localhost.evil.test"), ("x-bearerd-quit", "true")], 403),
        ("POST", "/quit", &[("host", "127.0.0.1@evil.test"), ("x-bearerd-quit", "true")], 403),
        ("POST", "/quit", &[("host", "127.0.0.1:+80"), ("x-bearerd-quit", "true")], 403),
        ("POST", "/quit", &[("host", "[::1].evil.test"), ("x-bearerd-quit", "true")], 403),
        ("POST", "/quit", &[("host", "10.0.0.7:14191"), ("x-bearerd-quit", "true")], 403),
        ("POST", "/quit", &[("host", "0.0.0.0:14191"), ("x-bearerd-quit", "true")], 403),
        ("POST", "/quit", &[("host", "[::1]"), ("x-bearerd-quit", "true"), ("origin", "null")], 403),
        ("POST", "/quit", &[("host", "[::1]"), ("x-bearerd-quit", "true"), ("sec-fetch-site", "none")], 403),
        ("POST", "/quit", &[("host", "[::1]"), ("x-bearerd-quit", "true"), ("sec-fetch-site", "same-origin")], 403),
        ("POST", "/quit", &[("host", "[::1]"), ("x-bearerd-quit", "true"), ("x-forwarded-for", "1.2.3.4")], 403),
        ("POST", "/quit", &[("host", "[::1]"), ("x-bearerd-quit", "true"), ("via", "1.1 a")], 403),
        ("POST", "/quit", &[("host", "[::1]"), ("x-bearerd-quit", "true"), ("forwarded", "for=a")], 403),
    ];
    for (method, target, headers, expected) in rows {
        let reply = control::respond(&request(method, target, headers), || status(Vec::new()));
        assert_eq!(reply.answer.status(), *expected, "{method} {target} {headers:?}");
        assert_eq!(reply.quit, *expected == 202, "{method} {target} {headers:?}");
        assert!(!reply.answer.headers().contains_key("access-control-allow-origin"));
    }
}

#[test]
fn the_status_is_for_people_and_tools_on_this_machine() {
    let host = ("host", "localhost:14191");
    let opened: Sent<'_> =
        &[host, ("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
    let refreshed: Sent<'_> =
        &[host, ("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
    let rows: &[(&str, &str, Sent<'_>, u16)] = &[
        ("GET", "/", &[host], 200),
        ("HEAD", "/", &[host], 200),
        ("GET", "/", opened, 200),
        ("GET", "/", refreshed, 200),
        ("GET", "/status.json", &[host], 200),
        ("GET", "/status.json", refreshed, 200),
        ("POST", "/status.json", &[host], 405),
        ("GET", "/nothing", &[host], 404),
        ("GET", "/index.html", &[host], 404),
        ("GET", "/", &[], 403),
        ("GET", "/", &[("host", "evil.test")], 403),
        ("GET", "/", &[host, ("origin", "http://localhost:14191")], 403),
        ("GET", "/status.json", &[host, ("origin", "http://evil.test")], 403),
        ("GET", "/status.json", &[host, ("sec-fetch-site", "cross-site")], 403),
        ("GET", "/status.json", &[host, ("sec-fetch-site", "same-site")], 403),
        ("GET", "/status.json", &[host, ("sec-fetch-mode", "cors")], 403),
        ("GET", "/", &[host, ("sec-fetch-site", "none"), ("sec-fetch-dest", "iframe")], 403),
        ("GET", "/", &[host, ("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")], 403),
        ("GET", "/", &[host, ("x-forwarded-for", "1.2.3.4")], 403),
    ];
    for (method, target, headers, expected) in rows {
        let asked = Cell::new(false);
        let reply = control::respond(&request(method, target, headers), || {
            asked.set(true);
            status(Vec::new())
        });
        assert_eq!(reply.answer.status(), *expected, "{method} {target} {headers:?}");
        assert_eq!(asked.get(), *expected == 200);
        assert!(!reply.quit);
    }
}

#[tokio::test]
async fn the_json_tells_expiry_both_ways_and_keeps_it_after_the_end() {
    let state = status(vec![
        credential("fresh", Some(2400), None),
        credential("stale", Some(600), Some("connection refused")),
        credential("late", Some(-120), Some("connection refused")),
        credential("new", None, None),
    ]);
    let reply = control::respond(&request("GET", "/status.json", &[("host", "127.0.0.1")]), || state);
    assert_eq!(reply.answer.headers()["content-type"], "application/json");
    let json: serde_json::Value = serde_json::from_str(&body(reply.answer).await).unwrap();
    let states: Vec<_> = json["credentials"].as_array().unwrap().iter().map(|one| one["state"].clone()).collect();
    assert_eq!(states, ["valid", "stale", "expired", "none"]);
    let late = &json["credentials"][2];
    assert_eq!(late["token"]["expires"]["inSeconds"], -120);
    assert_eq!(late["token"]["expires"]["at"], "2026-09-21T14:11:20Z");
    assert_eq!(late["lastError"]["message"], "connection refused");
    assert_eq!(late["nextTry"]["inSeconds"], 4);
    assert_eq!(json["credentials"][3]["token"], serde_json::Value::Null);
    assert_eq!(json["phase"], "running");
    assert_eq!(json["refusals"]["framing"], 0);
    assert_eq!(json["ca"]["permitted"][0], "googleapis.com");
}

#[tokio::test]
async fn the_page_says_at_a_glance_how_things_stand() {
    let mut warned = status(vec![credential("a", Some(2400), None)]);
    warned.warnings.push("pubsub.example is not intercepted until the pod restarts".to_owned());
    let first = Status { phase: Phase::Starting, ..status(vec![credential("a", None, None)]) };
    let mut starting = status(vec![credential("a", Some(2400), None)]);
    starting.phase = Phase::Starting;
    starting.waiting_for.push(Unmet { name: "config".to_owned(), reason: "no file".to_owned() });
    let mut kept = status(vec![credential("a", Some(2400), None)]);
    kept.config.last_error = Some(Problem { message: "line 3".to_owned(), when: when(-3) });
    for (status, class, texts) in [
        (status(vec![]), "good", &["no credential configured"][..]),
        (status(vec![credential("a", Some(2400), None)]), "good", &["Every credential has a fresh token", "in 40 min"]),
        (status(vec![credential("a", Some(900), Some("refused"))]), "attention", &["refresh failing", "12 s ago"]),
        (
            status(vec![credential("a", Some(900), None), credential("b", Some(-70), Some("refused"))]),
            "trouble",
            &["1 of 2 credentials has no token", "1 min 10 s ago"],
        ),
        (status(vec![credential("a", None, None)]), "trouble", &["1 of 1 credential has no token", "no token yet"]),
        (first, "attention", &["Starting", "no token yet"]),
        (warned, "attention", &["pubsub.example is not intercepted"]),
        (starting, "attention", &["Waiting for config: no file"]),
        (kept, "attention", &["was not taken", "line 3"]),
    ] {
        let page = body(page(status)).await;
        assert!(page.contains(&format!("<section class=\"banner {class}\"")), "{class}");
        for text in texts {
            assert!(page.contains(text), "{text}");
        }
    }
}

#[tokio::test]
async fn the_page_needs_nothing_from_elsewhere_and_runs_nothing() {
    let answer = page(status(vec![credential("a", Some(2400), None)]));
    let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; ") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    let page = body(answer).await;
    for word in ["<script", "http://", "https://", "src=", "@import", "url(", "onload", "javascript:"] {
        assert!(!page.contains(word), "{word}");
    }
    assert!(page.contains("foreign_host") && page.contains("signed_url") && !page.contains("framing"));
    assert!(page.contains("<td class=\"number\">1,234</td>"));
    assert!(page.contains("/token/driver/{vehicleId}") && page.contains("<td class=\"number\">4,321</td>"));
    assert!(page.contains("prefers-color-scheme:dark") && page.contains("http-equiv=\"refresh\""));
}

/// Every text of the status is replaced by markup; none of it may come out as markup.
#[tokio::test]
async fn the_page_escapes_every_text() {
    let evil = "<b a='1' c=\"2\">&";
    let problem = || Some(Problem { message: evil.to_owned(), when: When { at: evil.to_owned(), in_seconds: -1 } });
    let own = |_: &str| evil.to_owned();
    let hostile = Status {
        version: own("version"),
        phase: Phase::Starting,
        started: When { at: own("at"), in_seconds: 0 },
        waiting_for: vec![Unmet { name: own("name"), reason: own("reason") }],
        config: Config { source: own("source"), loaded: None, last_error: problem() },
        listeners: vec![Listener { door: own("door"), address: own("address") }],
        credentials: vec![Credential {
            name: own("name"),
            kind: own("kind"),
            email: Some(own("email")),
            key_id: Some(own("key")),
            last_error: problem(),
            resting_keys: vec![RestingKey { file: own("file"), key_id: None, message: own("message"), next_try: None }],
            ..credential("", Some(1), None)
        }],
        routes: vec![Route {
            name: own("name"),
            hosts: vec![own("host")],
            action: own("action"),
            credential: Some(own("credential")),
            token: Some(own("token")),
            requests: 0,
        }],
        tokens: vec![Entry {
            name: own("name"),
            path: own("path"),
            parameters: vec![own("parameter")],
            credential: own("credential"),
            token: own("token"),
            min_life_seconds: 1,
            handed_out: 1,
            file: Some(TokenFile { path: own("path"), written: None, problem: Some(own("problem")) }),
        }],
        ca: Some(Ca { expires: when(1), permitted: vec![own("zone")] }),
        refusals: BTreeMap::from([(own("reason"), 1)]),
        passed: BTreeMap::from([(own("reason"), 1)]),
        warnings: vec![own("warning")],
    };
    let page = body(page(hostile)).await;
    assert_eq!(page.matches("&lt;b a=&#39;1&#39; c=&quot;2&quot;&gt;&amp;").count(), 34, "{page}");
    assert!(!page.contains("<b a"));
}

#[test]
fn dates_are_written_as_people_and_programs_read_them() {
    for (seconds, date) in [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_399, "2000-02-28T23:59:59Z"),
        (951_782_400, "2000-02-29T00:00:00Z"),
        (951_868_800, "2000-03-01T00:00:00Z"),
        (1_709_164_800, "2024-02-29T00:00:00Z"),
        (1_735_689_599, "2024-12-31T23:59:59Z"),
        (1_735_689_600, "2025-01-01T00:00:00Z"),
        (4_107_542_400, "2100-03-01T00:00:00Z"),
        (253_402_300_799, "9999-12-31T23:59:59Z"),
    ] {
        assert_eq!(rfc3339(wall(seconds)), date);
    }
}
