//! After `kill -9`: applications read trust files and placeholder once, and must not notice.

use crate::{
    bed::{Bed, STORAGE, handshake},
    client::{DOORS, Door, get, get_with, within},
    raw,
};

#[tokio::test]
async fn a_killed_sidecar_comes_back_as_the_same_to_its_clients() {
    let bed = Bed::start().await;
    let placeholder = bed.placeholder();
    let trusting = bed.client_tls(&[b"http/1.1"]);
    assert_eq!(bed.client(Door::InterceptH1, STORAGE).await.call(get("/echo")).await.status(), 200);
    let bed = bed.kill().start(|settings| {
        crate::bed::routed(settings, |route| {
            route.client_authorization = bearerd::policy::ClientAuthorization::Require;
        });
    });
    assert_eq!(bed.placeholder(), placeholder);
    // Trust as it was read before the restart, and the placeholder that an SDK still holds.
    let stream = bed.tunnel("storage.googleapis.com:443").await.unwrap();
    let mut stream = within("a handshake", handshake(stream, trusting, STORAGE)).await.unwrap();
    let head = format!("GET /echo HTTP/1.1\r\nHost: {STORAGE}\r\nAuthorization: Bearer {placeholder}\r\n\r\n");
    raw::write(&mut stream, head.as_bytes()).await;
    assert_eq!(raw::answer(&mut stream).await.status(), 200);
    let fields = [("authorization", format!("Bearer {placeholder}"))];
    let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    for door in DOORS {
        assert_eq!(bed.client(door, STORAGE).await.call(get_with("/echo", &fields)).await.status(), 200, "{door:?}");
    }
    assert_eq!(bed.google.exchange_count(), 2, "a token dies with its process");
}

#[tokio::test]
async fn lost_trust_files_are_written_again_for_the_same_ca() {
    let bed = Bed::start().await;
    let before = std::fs::read(bed.dir.path().join("trust/ca.pem")).unwrap();
    let world = bed.kill();
    std::fs::remove_dir_all(world.dir.path().join("trust")).unwrap();
    let bed = world.start(|_| {});
    assert_eq!(std::fs::read(bed.dir.path().join("trust/ca.pem")).unwrap(), before);
    for file in ["bundle.pem", "truststore.p12"] {
        assert!(bed.dir.path().join("trust").join(file).exists(), "{file}");
    }
    assert_eq!(bed.client(Door::InterceptH2, STORAGE).await.call(get("/echo")).await.status(), 200);
}
