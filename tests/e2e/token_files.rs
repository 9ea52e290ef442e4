//! Tokens kept in files: whole and good whenever somebody reads them, and nothing ends where they cannot be written.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use bearerd::{
    app::Settings,
    clock::Clock,
    credential::{CredentialName, Kind, Parameters, Spec, Template, Want},
    demo::Outage,
    token_api::{Entry, Field, FileFormat, FileSettings, Mapping},
};
use serde_json::Value;

use crate::{
    bed::{Bed, World},
    client::eventually,
    handouts::entry,
};

/// A device that signs for ten minutes by ES256, and the file of its token.
fn device(settings: &mut Settings, dir: &Path, file: PathBuf, format: FileFormat) {
    let key = dir.join("device.pem");
    fs::write(&key, include_str!("../data/p256-sec1.pem")).unwrap();
    let mut template = Template::new("my-project");
    template.lifetime = Duration::from_secs(600);
    let kind = Kind::SignedJwt { path: key, template };
    settings.credentials.push(Spec { name: CredentialName::new("device"), kind });
    settings.tokens = vec![Entry {
        min_life: Duration::from_secs(150),
        json: Mapping(vec![("jwt".to_owned(), Field::Token), ("until".to_owned(), Field::ExpiresAtSeconds)]),
        file: Some(FileSettings { path: file, mode: 0o440, format }),
        ..entry("device", "device", Want::Jwt(Parameters::none()))
    }];
}

/// The end of a token of the device, which must be whole and its own.
fn end(token: &str) -> u64 {
    let key = rcgen::KeyPair::from_pem(include_str!("../data/p256-pkcs8.pem")).unwrap();
    let key = jsonwebtoken::DecodingKey::from_ec_der(rcgen::PublicKeyData::der_bytes(&key));
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
    validation.set_audience(&["my-project"]);
    validation.validate_exp = false;
    let decoded =
        jsonwebtoken::decode::<Value>(token, &key, &validation).unwrap_or_else(|error| panic!("{error}: {token:?}"));
    decoded.claims["exp"].as_u64().unwrap()
}

fn status(bed: &Bed) -> Value {
    serde_json::to_value(bed.sidecar().status()).unwrap()
}

/// An hour in which the token changes twenty times, with somebody who reads without pause, and somebody who looks every
/// ten seconds: MQTT clients keep the password of their first connection, and read the file again before the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_always_finds_a_whole_token_with_most_of_its_life() {
    let (clock, hand) = Clock::by_hand();
    let world = World::at(clock).await;
    let (dir, file) = (world.dir.path().to_owned(), world.dir.path().join("token"));
    let bed = world.start(|settings| device(settings, &dir, file.clone(), FileFormat::Raw));
    // Several credentials do not begin in the same instant.
    hand.advance(Duration::from_secs(2));
    eventually("the file", || file.exists()).await;
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o440);
    let (over, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut tokens = std::collections::BTreeSet::new();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut last = String::new();
            while !over.load(Ordering::Relaxed) {
                let found = fs::read_to_string(&file).unwrap();
                if found != last {
                    end(&found);
                    last = found;
                }
                reads.fetch_add(1, Ordering::Relaxed);
            }
        });
        let passing = async {
            for _ in 0..360 {
                hand.advance(Duration::from_secs(10));
                let left = || end(&fs::read_to_string(&file).unwrap()).saturating_sub(clock.wall().seconds());
                eventually("a fresh token in the file", || left() >= 400).await;
                tokens.insert(fs::read_to_string(&file).unwrap());
            }
        };
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(passing));
        over.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
    assert!((18..=32).contains(&tokens.len()), "{} tokens in an hour", tokens.len());
    assert!(reads.load(Ordering::Relaxed) > 100, "{reads:?} reads");
    let left: Vec<_> = fs::read_dir(bed.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".new")), "{left:?}");
    assert!(status(&bed)["tokens"][0]["file"]["written"]["at"].is_string());
}

#[tokio::test]
async fn json_files_hold_the_entrys_shape() {
    let world = World::new().await;
    let (dir, file) = (world.dir.path().to_owned(), world.dir.path().join("token.json"));
    let bed = world.start(|settings| device(settings, &dir, file.clone(), FileFormat::Json));
    eventually("the file", || file.exists()).await;
    let written: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(written["until"].as_u64(), Some(end(written["jwt"].as_str().unwrap())));
    drop(bed);
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_told_and_tried_until_it_can() {
    let (clock, hand) = Clock::by_hand();
    let world = World::at(clock).await;
    let (dir, folder) = (world.dir.path().to_owned(), world.dir.path().join("mounted-late"));
    let bed = world.start(|settings| device(settings, &dir, folder.join("token"), FileFormat::Raw));
    hand.advance(Duration::from_secs(2));
    let failures = || bed.metric("token_file_write_failures_total{entry=\"device\"}");
    eventually("a failure", || failures() >= 1).await;
    for _ in 0..20 {
        let before = failures();
        hand.advance(Duration::from_secs(31));
        eventually("another try", || failures() > before).await;
    }
    let told = status(&bed);
    let problem = told["tokens"][0]["file"]["problem"].as_str().unwrap();
    assert!(problem.contains("mounted-late/token") && problem.contains("want a directory that exists"), "{problem}");
    assert!(told["warnings"].to_string().contains("token file of device: cannot write"), "{told}");
    let lines = crate::capture::log().matches("token file not written").count();
    assert!(lines <= 2, "{lines} lines for one problem");
    fs::create_dir(&folder).unwrap();
    hand.advance(Duration::from_secs(31));
    eventually("the file", || folder.join("token").exists()).await;
    eventually("the status", || status(&bed)["tokens"][0]["file"]["problem"].is_null()).await;
    assert!(!status(&bed)["warnings"].to_string().contains("token file"));
    // Somebody takes the directory away, and puts it back.
    fs::remove_dir_all(&folder).unwrap();
    hand.advance(Duration::from_secs(181));
    eventually("the next failure", || !status(&bed)["tokens"][0]["file"]["problem"].is_null()).await;
    fs::create_dir(&folder).unwrap();
    hand.advance(Duration::from_secs(31));
    eventually("the file again", || folder.join("token").exists()).await;
}

/// An exchanged token stays in its file through an outage, and the next one takes its place.
#[tokio::test]
async fn a_file_follows_its_token_and_stays_when_its_entry_goes() {
    let (clock, hand) = Clock::by_hand();
    let world = World::at(clock).await;
    let file = world.dir.path().join("access");
    let mut settings = None;
    let bed = world.start(|own| {
        own.tokens = vec![Entry {
            file: Some(FileSettings { path: file.clone(), mode: 0o600, format: FileFormat::Raw }),
            ..entry("access", "default", Want::Access)
        }];
        settings = Some(own.clone());
    });
    let read = || fs::read_to_string(&file).unwrap_or_default();
    eventually("the first token", || !read().is_empty()).await;
    assert_eq!(read(), bed.only_token());
    bed.google.outage(Outage::Status(503));
    hand.advance(Duration::from_secs(1100));
    eventually("a failed refresh", || bed.google.exchange_count() >= 2).await;
    assert_eq!(read(), bed.google.tokens()[0].0, "the good one stays");
    bed.google.outage(Outage::None);
    eventually("the next token", || {
        hand.advance(Duration::from_secs(1));
        bed.google.tokens().len() == 2
    })
    .await;
    eventually("the next token in the file", || read() == bed.google.tokens()[1].0).await;
    let mut settings = settings.unwrap();
    settings.tokens.clear();
    bed.sidecar().apply(settings);
    assert!(file.exists(), "whoever reads it would take its absence for an error");
    assert!(status(&bed)["tokens"].as_array().unwrap().is_empty());
}
