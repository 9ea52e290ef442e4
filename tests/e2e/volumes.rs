//! Key volumes as Kubernetes and CSI drivers lay them out, from a changed file to the token on a request.

use std::{os::unix::fs::symlink, time::Duration};

use bearerd::demo::KeyFile;
use http::StatusCode;

use crate::{
    bed::{ACCOUNT, Bed, STORAGE, World, credential},
    client::{Client, Door, eventually, get, within},
};

/// Sends requests, each of which must succeed, until one carries a token of `key`.
async fn until_used(bed: &Bed, client: &mut Client, key: &KeyFile) {
    within("the use of the new key", async {
        loop {
            assert_eq!(client.call(get("/echo")).await.status(), StatusCode::OK);
            if bed.last().token.unwrap().key_id == key.key_id {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn six_swaps_of_a_secret_volume_in_a_row_each_bring_their_key_into_use() {
    let bed = Bed::start().await;
    let mut client = bed.client(Door::InterceptH1, STORAGE).await;
    until_used(&bed, &mut client, &bed.key).await;
    let mut old = (bed.keys().join("..first"), bed.key.key_id.clone());
    for number in 0..6 {
        let next = bed.google.add_key(ACCOUNT).unwrap();
        let version = format!("..2026_{number}");
        bed.publish(&version, &[("key.json", next.json())]);
        // As the kubelet does after the swap.
        std::fs::remove_dir_all(&old.0).unwrap();
        until_used(&bed, &mut client, &next).await;
        assert!(bed.google.remove_key(&old.1));
        old = (bed.keys().join(version), next.key_id.clone());
        let info = format!("key_info{{credential=\"default\",key_id=\"{}\"}}", next.key_id);
        eventually("the metric", || bed.metric(&info) == 1).await;
    }
    assert_eq!(bed.google.exchange_count(), 7, "one exchange by each key");
}

#[tokio::test]
async fn a_secret_volume_behind_links_of_a_csi_driver_is_followed() {
    let world = World::new().await;
    let root = world.dir.path().to_owned();
    for folder in ["driver/v1", "driver/v2", "app"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    let second = world.google.add_key(ACCOUNT).unwrap();
    let third = world.google.add_key(ACCOUNT).unwrap();
    symlink(root.join("keys/key.json"), root.join("driver/v1/key.json")).unwrap();
    std::fs::write(root.join("driver/v2/key.json"), third.json()).unwrap();
    symlink("v1", root.join("driver/current")).unwrap();
    symlink("../driver/current/key.json", root.join("app/key.json")).unwrap();
    let bed = world.start(|settings| settings.credentials = vec![credential("default", root.join("app"))]);
    let mut client = bed.client(Door::InterceptH1, STORAGE).await;
    until_used(&bed, &mut client, &bed.key).await;
    bed.publish("..second", &[("key.json", second.json())]);
    until_used(&bed, &mut client, &second).await;
    symlink("v2", root.join("driver/next")).unwrap();
    std::fs::rename(root.join("driver/next"), root.join("driver/current")).unwrap();
    until_used(&bed, &mut client, &third).await;
}

#[tokio::test]
async fn a_plain_file_on_a_laptop_is_followed_through_writes_renames_and_deletion() {
    let world = World::new().await;
    let file = world.dir.path().join("laptop.json");
    std::fs::write(&file, world.key.json()).unwrap();
    let bed = world.start(|settings| settings.credentials = vec![credential("default", file.clone())]);
    let mut client = bed.client(Door::InterceptH1, STORAGE).await;
    until_used(&bed, &mut client, &bed.key).await;
    let second = bed.google.add_key(ACCOUNT).unwrap();
    std::fs::write(&file, second.json()).unwrap();
    until_used(&bed, &mut client, &second).await;
    // As editors save.
    let third = bed.google.add_key(ACCOUNT).unwrap();
    std::fs::write(file.with_extension("tmp"), third.json()).unwrap();
    std::fs::rename(file.with_extension("tmp"), &file).unwrap();
    until_used(&bed, &mut client, &third).await;
    std::fs::remove_file(&file).unwrap();
    let gone = "key_load_failures_total{credential=\"default\",reason=\"unreadable\"}";
    eventually("the deletion", || bed.metric(gone) == 1).await;
    assert_eq!(client.call(get("/echo")).await.status(), StatusCode::OK, "the last good key stays");
    let shown = bed.sidecar().status().credentials[0].last_error.clone().unwrap().message;
    assert!(shown.contains("no such file"), "{shown}");
    let fourth = bed.google.add_key(ACCOUNT).unwrap();
    std::fs::write(&file, fourth.json()).unwrap();
    until_used(&bed, &mut client, &fourth).await;
}
