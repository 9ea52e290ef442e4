//! The stage of `demo --all`: one sidecar that has a credential of every kind, and hosts that want each of their tokens.

use std::fs;

use bytes::Bytes;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

use super::stage::{Pace, Stage, here};
use crate::{
    app,
    authority::Host,
    clock::Clock,
    config,
    demo::{FakeNode, KeyFile, Protocols, RecordingHost},
};

/// Sets it. The sidecar is not started.
pub(super) async fn set() -> anyhow::Result<Stage> {
    let mut stage = Stage::set(Pace::Real).await?;
    stage.mount.swap(&stage.first.json())?;
    files(&stage)?;
    people(&stage);
    hosts(&mut stage).await?;
    let text = configuration(&stage)?;
    let file = config::Source { name: "demo.yaml".to_owned(), text };
    let loaded = config::load(&config::Sources { file: Some(file), ..config::Sources::default() });
    let loaded = loaded.map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
    let more = app::from_config::settings(&loaded.settings)?;
    stage.settings.credentials = more.credentials;
    stage.settings.policy = more.policy;
    stage.settings.tokens = more.tokens;
    stage.settings.listeners.token_api = stage.settings.listeners.proxy;
    Ok(stage)
}

/// What a platform engineer would write; `FOLDER` is where the files lie.
fn configuration(stage: &Stage) -> anyhow::Result<String> {
    // The text of a path may hold anything that YAML could take for something else.
    let path = |name: &str| serde_json::to_string(&stage.folder().join(name));
    let mut text = CONFIGURATION.to_owned();
    for name in ["keys", "device.pem", "identity.json", "person.json"] {
        text = text.replace(&format!("FOLDER/{name}"), &path(name)?);
    }
    Ok(text)
}

const CONFIGURATION: &str = "
credentials:
  - {name: default, serviceAccountKey: {path: FOLDER/keys, signBlob: signedUrl}}
  - {name: drivers, signedJwt: {path: FOLDER/keys, preset: fleetEngineDriver}}
  - {name: device, signedJwt: {path: FOLDER/device.pem, preset: iotDevice, audience: my-iot-project, lifetime: 24h}}
  - {name: pod, externalAccount: {path: FOLDER/identity.json}}
  - {name: reports, impersonation: {source: pod, serviceAccount: reports@demo-project.iam.gserviceaccount.com}}
  - name: photos
    downscoped:
      source: default
      rules:
        - resource: //storage.googleapis.com/projects/_/buckets/photos
          permissions: ['inRole:roles/storage.objectViewer']
  - {name: person, authorizedUser: {path: FOLDER/person.json}}
  - {name: node, metadataServer: {}}
routes:
  - {name: pubsub, hosts: [pubsub.googleapis.com], token: selfSigned}
  - {name: services, hosts: ['*.run.app'], token: id}
  - {name: devices, hosts: [iot.example.com], credential: device, token: jwt, header: clearblade-usertoken}
  - {name: pod, hosts: [bigquery.googleapis.com], credential: pod}
  - {name: reports, hosts: [analyticsdata.googleapis.com], credential: reports}
  - {name: photos, hosts: [storage.googleapis.com], paths: [/storage/v1/b/photos/], credential: photos}
  - {name: mail, hosts: [gmail.googleapis.com], credential: person}
  - {name: machines, hosts: [compute.googleapis.com], credential: node}
  - {name: google-apis, hosts: ['*.googleapis.com']}
allow:
  hosts: ['*.googleapis.com', '*.run.app', iot.example.com]
tokens:
  - {name: driver, credential: drivers, token: jwt, path: '/token/driver/{vehicleId}', json: {jwt: token}}
";

/// What is mounted beside the key.
fn files(stage: &Stage) -> anyhow::Result<()> {
    let write = |name: &str, text: String| fs::write(stage.folder().join(name), text);
    write("device.pem", rcgen::KeyPair::generate()?.serialize_pem())?;
    let cluster = KeyFile::generate("cluster@example.com", "none")?;
    stage.google.allow_cluster(PROVIDER, ISSUER, &cluster);
    write("token", projected(&cluster)?)?;
    let identity = json!({
        "type": "external_account",
        "audience": PROVIDER,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": "https://sts.googleapis.com/v1/token",
        "credential_source": {"file": stage.folder().join("token")},
    });
    write("identity.json", identity.to_string())?;
    let person = json!({
        "type": "authorized_user",
        "client_id": "demo.apps.googleusercontent.com",
        "client_secret": "a program's secret is none",
        "refresh_token": REFRESH_TOKEN,
    });
    write("person.json", person.to_string())?;
    Ok(())
}

/// What the kubelet would put into the volume.
fn projected(cluster: &KeyFile) -> anyhow::Result<String> {
    let now = Clock::system().wall().seconds();
    let claims = json!({
        "iss": ISSUER, "sub": WORKLOAD, "aud": [format!("https:{PROVIDER}")],
        "iat": now, "exp": now + 3600,
    });
    let key = EncodingKey::from_rsa_pem(cluster.pem().as_bytes())?;
    Ok(jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &key)?)
}

/// Whom Google knows besides the mounted key's account.
fn people(stage: &Stage) {
    stage.google.allow_impersonation(PRINCIPAL, REPORTS);
    stage.google.allow_person(REFRESH_TOKEN, PERSON);
}

/// Where else requests go.
async fn hosts(stage: &mut Stage) -> anyhow::Result<()> {
    let node = FakeNode::start(&stage.tasks, &stage.google, NODE).await?;
    let hello = Some(Bytes::from_static(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"));
    let bridge = RecordingHost::start_tls(&stage.tasks, &stage.google, BRIDGE, Protocols::H1, hello).await?;
    let connect_to = &mut stage.settings.upstream.dial.connect_to;
    connect_to.below(Host::parse("run.app")?, 443, here(stage.google.address())?);
    connect_to.exact(Host::parse("metadata.google.internal")?, 80, here(node.address())?);
    connect_to.exact(Host::parse(BRIDGE)?, 443, here(bridge.address())?);
    stage.bridge = Some(bridge);
    Ok(())
}

pub(super) const BRIDGE: &str = "iot.example.com";
pub(super) const IOT_PROJECT: &str = "my-iot-project";
pub(super) const REPORTS: &str = "reports@demo-project.iam.gserviceaccount.com";
pub(super) const NODE: &str = "node@demo-project.iam.gserviceaccount.com";
pub(super) const PERSON: &str = "ada@example.com";
pub(super) const PRINCIPAL: &str = "principal://iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/\
                                    clusters/subject/system:serviceaccount:shop:web";
/// What of it is worth telling.
pub(super) const WORKLOAD: &str = "system:serviceaccount:shop:web";
const PROVIDER: &str = "//iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/clusters/providers/c";
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const REFRESH_TOKEN: &str = "1//demo";
