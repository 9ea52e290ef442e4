//! Error reasons, group by group: closed sets where the program has a list, else the literals of its text.

use std::collections::BTreeSet;

use bearerd::{
    credential::{KeyReason, Reason},
    metadata_server::Refusal,
    mqtt,
    net::verified::CONNECT_LABELS,
    policy::{DenyReason, PassReason},
    token_api,
};

use super::{
    assert_same, code,
    page::{codes, page},
    set,
};

const PAGE: &str = "docs/configuration.md";

fn documented(heading: &str) -> BTreeSet<String> {
    let codes = page(PAGE).first_codes(heading);
    let distinct = set(codes.iter().cloned());
    assert_eq!(codes.len(), distinct.len(), "{heading}: a reason twice");
    distinct
}

#[test]
fn reasons_of_policy_are_documented() {
    let denied = set(DenyReason::ALL.iter().map(|reason| reason.label()));
    assert_same("deny reasons", &documented("### Denied by policy"), &denied);
    let passed = set(PassReason::ALL.iter().map(|reason| reason.label()));
    assert_same("pass reasons", &documented("### Passed without a credential"), &passed);
}

#[test]
fn reasons_of_the_proxy_are_documented() {
    let real = set(code::literals(&code::product("src/proxy"), "Failure::new(", 1));
    assert_same("proxy reasons", &documented("### Refused at the proxy"), &real);
}

#[test]
fn reasons_of_the_mqtt_door_are_documented_and_begin_at_0() {
    let listed = set(mqtt::REFUSAL_LABELS);
    assert_same("MQTT reasons", &documented("### The MQTT door"), &listed);
    let source = code::product("src/mqtt").replace("\"mqtt\"", "");
    let said = source.split('"').filter(|text| text.starts_with("mqtt_") && !text.contains(' '));
    assert_same("MQTT reasons of the code", &listed, &set(said.map(str::to_owned)));
}

#[test]
fn reasons_of_the_clients_tls_are_documented() {
    let accept = code::product("src/tls/accept.rs");
    let mut real = set(code::strings_between(&accept, "fn label(", "\n    }\n"));
    real.extend(code::literals(&code::product("src/proxy"), "refused(", 1));
    assert_same("TLS reasons", &documented("### TLS with the client"), &real);
}

#[test]
fn reasons_of_upstream_connections_are_documented() {
    assert_same("connect reasons", &documented("### No connection to the upstream"), &set(CONNECT_LABELS));
}

#[test]
fn reasons_for_no_token_are_documented() {
    let mut real = set(Reason::ALL.iter().map(|reason| reason.label()));
    real.extend(code::literals(&code::product("src/token"), "unavailable(", 1));
    real.extend(code::literals(&code::product("src/proxy"), "Failure::no_token(", 0));
    assert_same("token reasons", &documented("### No token"), &real);
}

#[test]
fn reasons_of_key_files_are_documented() {
    assert_same("key reasons", &documented("### Key files"), &set(KeyReason::ALL.map(KeyReason::label)));
}

#[test]
fn reasons_of_the_head_gate_are_documented() {
    let source = code::product("src/net/head_gate/reason.rs");
    let texts = code::strings_between(&source, "fn texts(", "\n    }\n");
    let real = set(texts.into_iter().step_by(2));
    assert_same("gate reasons", &documented("### Refused by the head gate"), &real);
}

#[test]
fn reasons_of_the_token_api_are_documented_with_their_status() {
    let refusals = token_api::Refusal::ALL.map(|refusal| format!("{} {}", refusal.label(), refusal.status().as_u16()));
    let real = set(refusals.into_iter().chain([format!("{} 503", token_api::SHORT_LIVED)]));
    let row = |row: &Vec<String>| format!("{} {}", codes(&row[0])[0], row[1]);
    let documented = page(PAGE).table("### Refused at the token API").iter().map(row).collect();
    assert_same("reasons of the token API", &documented, &real);
}

#[test]
fn reasons_of_the_metadata_door_are_documented_with_their_status() {
    let mut real = set(Refusal::ALL.map(|refusal| format!("{} {}", refusal.label(), refusal.status().as_u16())));
    real.insert("no_token 503".to_owned());
    assert!(code::product("src/metadata_server/answer.rs").contains("\"no_token\""));
    let row = |row: &Vec<String>| format!("{} {}", codes(&row[0])[0], row[1]);
    let documented = page(PAGE).table("### Refused at the metadata door").iter().map(row).collect();
    assert_same("metadata reasons", &documented, &real);
}
