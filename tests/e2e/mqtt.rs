//! The MQTT door: clients that know no credential, a broker that verifies one, and sessions that end before it does.

use std::{net::SocketAddr, time::Duration};

use bearerd::{
    app::Settings,
    authority::Authority,
    clock::{Clock, Hand},
    credential::{CredentialName, Kind, Spec, Template},
    mqtt,
    net::{dial, parent::ParentProxy},
    shutdown::DrainSettings,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    bed::{Bed, World, credential, send_to},
    broker::{Broker, Met, NAME, PROJECT, Packet, packet},
    capture,
    client::{eventually, within},
    parent::Parent,
};

const HOUR: Duration = Duration::from_secs(3600);
/// What an hour's token has to live when it is made: its beginning is set back.
const LIFE: u64 = 3590;

/// A sidecar with one door to one broker.
struct House {
    bed: Bed,
    broker: Broker,
}

impl House {
    async fn new() -> Self {
        Self::at(Clock::system(), HOUR, NAME).await
    }

    /// Whose tokens live so long, and whose broker has a certificate for this name.
    async fn at(clock: Clock, lifetime: Duration, certified: &str) -> Self {
        let world = World::at(clock).await;
        let broker = Broker::start(&world.tasks, clock, certified).await;
        std::fs::write(world.dir.path().join("device.pem"), include_str!("../data/p256-sec1.pem")).unwrap();
        let key = world.dir.path().join("device.pem");
        let bed = world.start(|settings| with_door(settings, &broker, key, lifetime));
        Self { bed, broker }
    }

    /// With settings that no longer have the credential, so that nobody signs another token.
    async fn whose_key_can_go(clock: Clock) -> (Self, Settings) {
        let world = World::at(clock).await;
        let broker = Broker::start(&world.tasks, clock, NAME).await;
        std::fs::write(world.dir.path().join("device.pem"), include_str!("../data/p256-sec1.pem")).unwrap();
        let (key, mut without) = (world.dir.path().join("device.pem"), None);
        let bed = world.start(|settings| {
            with_door(settings, &broker, key, HOUR);
            let mut settings = settings.clone();
            settings.credentials.retain(|spec| spec.name.as_str() != "device");
            without = Some(settings);
        });
        (Self { bed, broker }, without.unwrap())
    }

    fn door(&self) -> SocketAddr {
        self.bed.sidecar().mqtt_addresses()[0]
    }

    async fn open(&self) -> Device {
        Device { stream: TcpStream::connect(self.door()).await.unwrap() }
    }

    /// A device in a session.
    async fn device(&self, connect: &[u8]) -> Device {
        let mut device = self.open().await;
        device.send(connect).await;
        let (first, body) = device.packet().await.unwrap();
        assert_eq!((first, body[1]), (0x20, 0), "CONNACK");
        device
    }

    fn active(&self) -> u64 {
        self.bed.metric("connections_active{door=\"mqtt\"}")
    }

    /// Waits until the device's token has been signed so often.
    async fn signed(&self, count: u64) {
        eventually("a newer token", || self.bed.metric("token_refreshes_total{credential=\"device\"}") >= count).await;
    }
}

/// What no log may hold.
impl Drop for House {
    fn drop(&mut self) {
        let log = capture::log();
        for met in self.broker.met().iter().filter(|met| !met.password.is_empty()) {
            assert!(!log.contains(&met.password), "a token was logged");
        }
        assert!(!log.contains("the-clients-own"), "a password was logged");
    }
}

fn with_door(settings: &mut Settings, broker: &Broker, path: std::path::PathBuf, lifetime: Duration) {
    let mut template = Template::new(PROJECT);
    template.lifetime = lifetime;
    let credential = CredentialName::new("device");
    settings.credentials.push(Spec { name: credential.clone(), kind: Kind::SignedJwt { path, template } });
    settings.mqtt.push(mqtt::Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        upstream: Authority::parse(&format!("{NAME}:8883"), None).unwrap(),
        credential,
        username: "unused".to_owned(),
    });
    settings.drain = DrainSettings { linger: Duration::from_millis(50), deadline: Duration::from_secs(20) };
    settings.upstream.extra_roots.as_mut().unwrap().extend_from_slice(broker.ca_pem.as_bytes());
    send_to(settings, NAME, 8883, broker.address);
}

/// The client's side of a connection.
struct Device {
    stream: TcpStream,
}

impl Device {
    async fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// The next packet; none at the end of the connection.
    async fn packet(&mut self) -> Option<Packet> {
        within("a packet", packet(&mut self.stream)).await
    }

    /// What is left to the end of the connection, which must be an orderly one.
    async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        within("the end", self.stream.read_to_end(&mut rest)).await.unwrap();
        rest
    }
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
}

fn framed(first: u8, body: &[u8]) -> Vec<u8> {
    let (low, high) = ((body.len() % 128) as u8, (body.len() / 128) as u8);
    let length = if high == 0 { vec![low] } else { vec![low | 0x80, high] };
    assert!(body.len() < 16_384);
    [&[first][..], &length, body].concat()
}

/// A CONNECT that knows nothing.
fn v3() -> Vec<u8> {
    framed(0x10, &[&text("MQTT")[..], &[4, 0x02, 0, 60], &text("device-1")].concat())
}

fn v5() -> Vec<u8> {
    framed(0x10, &[&text("MQTT")[..], &[5, 0x02, 0, 60, 5, 0x11, 0, 0, 0, 9], &text("device-1")].concat())
}

fn publish(qos: u8, id: u16, payload: &[u8]) -> Vec<u8> {
    let id = if qos == 0 { Vec::new() } else { id.to_be_bytes().to_vec() };
    framed(0x30 | qos << 1, &[&text("t")[..], &id, payload].concat())
}

#[tokio::test]
async fn a_device_that_knows_nothing_is_logged_in_in_both_versions() {
    let house = House::new().await;
    for (number, (level, connect)) in [(4, v3()), (5, v5())].into_iter().enumerate() {
        let mut device = house.device(&connect).await;
        assert_eq!(house.active(), 1);
        let met = &house.broker.met()[number];
        let claims = met.claims.as_ref().unwrap();
        assert_eq!((claims["aud"].as_str(), met.username.as_str(), met.connect[6]), (Some(PROJECT), "unused", level));
        device.send(&framed(0x82, &[&[0, 1][..], &text("#"), &[1]].concat())).await;
        assert_eq!(device.packet().await.unwrap().0, 0x90);
        device.send(&publish(1, 2, b"one")).await;
        assert_eq!(device.packet().await, Some((0x40, vec![0, 2])));
        device.send(&publish(2, 3, b"two")).await;
        assert_eq!(device.packet().await, Some((0x50, vec![0, 3])));
        device.send(&[0x62, 2, 0, 3]).await;
        assert_eq!(device.packet().await, Some((0x70, vec![0, 3])));
        house.broker.send(number, &publish(1, 9, b"for you")).await;
        assert_eq!(device.packet().await.unwrap().0, 0x32);
        device.send(&[0x40, 2, 0, 9, 0xc0, 0]).await;
        assert_eq!(device.packet().await.unwrap().0, 0xd0);
        device.send(&[0xe0, 0]).await;
        assert_eq!(device.packet().await, None);
        let met = house.broker.until("the goodbye", |met| met[number].is_over).await;
        assert_eq!(met[number].packets.last(), Some(&(0xe0, Vec::new())));
        assert_eq!(met[number].count(3), 2);
    }
    eventually("no session", || house.active() == 0).await;
}

#[tokio::test]
async fn what_the_client_says_it_is_goes_no_further_and_the_rest_stays() {
    let house = House::new().await;
    let id_and_will = [text("id"), text("last"), text("words")].concat();
    let given = [&text("MQTT")[..], &[4, 0xee, 0, 9], &id_and_will, &text("me"), &text("the-clients-own")].concat();
    let _device = house.device(&framed(0x10, &given)).await;
    let met = house.broker.met();
    let token = &met[0].password;
    let expected = [&text("MQTT")[..], &[4, 0xee, 0, 9], &id_and_will, &text("unused"), &text(token)].concat();
    assert_eq!(met[0].connect, expected);
}

#[tokio::test]
async fn a_big_publish_streams_through_and_what_came_behind_connect_is_not_lost() {
    let house = House::new().await;
    let mut device = house.open().await;
    // Everything at once, before CONNACK.
    device.send(&[v3(), publish(1, 1, b"early")].concat()).await;
    assert_eq!(device.packet().await.unwrap().0, 0x20);
    assert_eq!(device.packet().await, Some((0x40, vec![0, 1])));
    let size = 3_000_000;
    let mut body = [&text("t")[..], &[0, 2]].concat();
    body.resize(size, 7);
    device.send(&[&[0x32, 0xc0, 0x8d, 0xb7, 0x01][..], &body].concat()).await;
    assert_eq!(device.packet().await, Some((0x40, vec![0, 2])));
    assert_eq!(house.broker.met()[0].packets[1], (0x32, body));
}

#[tokio::test]
async fn what_is_no_connect_never_reaches_the_broker() {
    let house = House::new().await;
    let method = [&text("MQTT")[..], &[5, 2, 0, 60, 8, 0x15], &text("SCRAM"), &text("d")].concat();
    let old = [&text("MQIsdp")[..], &[3, 2, 0, 60], &text("d")].concat();
    let new = [&text("MQTT")[..], &[6, 2, 0, 60, 0], &text("d")].concat();
    let short = [&text("MQTT")[..], &[5, 2, 0, 60, 9], &text("d")].concat();
    for (first, answer, reason) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), &[][..], "mqtt_not_connect"),
        (publish(0, 0, b"x"), &[], "mqtt_not_connect"),
        (vec![0x16, 3, 1, 0, 5, 1, 0, 0, 1, 3], &[], "mqtt_tls"),
        (vec![0x10, 0xff, 0xff, 0x7f], &[], "mqtt_too_long"),
        (framed(0x10, &[&text("MQTT")[..], &[4, 3, 0, 60], &text("d")].concat()), &[], "mqtt_malformed"),
        (framed(0x10, &short), &[0x20, 3, 0, 0x81, 0], "mqtt_malformed"),
        (framed(0x10, &old), &[0x20, 2, 0, 0x01], "mqtt_version"),
        (framed(0x10, &new), &[0x20, 3, 0, 0x84, 0], "mqtt_version"),
        (framed(0x10, &method), &[0x20, 3, 0, 0x8c, 0], "mqtt_authentication"),
    ] {
        let before = house.bed.refused(reason);
        let mut device = house.open().await;
        device.send(&first).await;
        assert_eq!(device.rest().await, answer, "{reason}");
        assert_eq!(house.bed.refused(reason), before + 1, "{reason}");
    }
    assert!(house.broker.met().is_empty(), "the broker was dialled");
}

#[tokio::test]
async fn a_packet_that_may_not_be_sent_ends_the_session_and_goes_no_further() {
    let house = House::new().await;
    for (number, (connect, bad, reason)) in [
        (v3(), v3(), "mqtt_second_connect"),
        (v5(), v5(), "mqtt_second_connect"),
        (v5(), vec![0xf0, 0], "mqtt_auth"),
        (v3(), vec![0xf0, 0], "mqtt_packet"),
        (v3(), vec![0x36, 5, 0, 1, b't', 0, 1], "mqtt_packet"),
        (v3(), vec![0xc0, 1, 0], "mqtt_packet"),
        (v3(), vec![0x20, 2, 0, 0], "mqtt_packet"),
    ]
    .into_iter()
    .enumerate()
    {
        let before = house.bed.refused(reason);
        let mut device = house.device(&connect).await;
        device.send(&[vec![0xc0, 0], bad].concat()).await;
        let answer = device.rest().await;
        assert!(answer.is_empty() || answer == [0xd0, 0], "{reason}");
        let met = house.broker.until("its end", |met| met[number].is_over).await;
        assert_eq!(met[number].packets, [(0xc0, Vec::new())], "{reason}");
        assert_eq!(house.bed.refused(reason), before + 1, "{reason}");
    }
}

#[tokio::test]
async fn a_broker_that_breaks_the_rules_ends_the_session() {
    let house = House::new().await;
    let mut device = house.device(&v3()).await;
    house.broker.send(0, &[0x36, 5, 0, 1, b't', 0, 1]).await;
    assert_eq!(device.rest().await, b"");
    assert_eq!(house.bed.refused("mqtt_answer"), 1);
}

#[tokio::test]
async fn a_broker_that_cannot_prove_its_name_gets_nothing() {
    let house = House::at(Clock::system(), HOUR, "other.example.com").await;
    for (connect, answer) in [(v3(), &[0x20, 2, 0, 0x03][..]), (v5(), &[0x20, 3, 0, 0x88, 0])] {
        let mut device = house.open().await;
        device.send(&connect).await;
        assert_eq!(device.rest().await, answer);
    }
    let met = house.broker.until("both ends", |met| met.len() == 2 && met.iter().all(|met| met.is_over)).await;
    assert!(met.iter().all(|met| met.connect.is_empty()));
    assert_eq!(house.bed.refused("certificate"), 2);
    assert_eq!(house.bed.metric("upstream_connect_errors_total{reason=\"certificate\"}"), 2);
}

#[tokio::test]
async fn without_a_token_the_client_is_told_to_come_later_and_nobody_is_dialled() {
    let world = World::new().await;
    let broker = Broker::start(&world.tasks, Clock::system(), NAME).await;
    let key = world.dir.path().join("missing.pem");
    let bed = world.start(|settings| with_door(settings, &broker, key, HOUR));
    let house = House { bed, broker };
    eventually("the key is known to be missing", || {
        house.bed.sidecar().status().credentials.iter().any(|credential| credential.last_error.is_some())
    })
    .await;
    let mut device = house.open().await;
    device.send(&v3()).await;
    assert_eq!(device.rest().await, [0x20, 2, 0, 0x03]);
    assert!(house.broker.met().is_empty());
    assert_eq!(house.bed.refused("no_key"), 1);
}

#[tokio::test]
async fn a_brokers_refusal_is_the_clients_to_read() {
    let house = House::new().await;
    house.broker.accept_with(5);
    let mut device = house.open().await;
    device.send(&v3()).await;
    assert_eq!(device.rest().await, [0x20, 2, 0, 5]);
}

#[tokio::test]
async fn a_client_that_vanishes_leaves_without_disconnect_so_that_its_will_is_published() {
    let house = House::new().await;
    drop(house.device(&v3()).await);
    let met = house.broker.until("its end", |met| met[0].is_over).await;
    assert_eq!(met[0].packets, []);
}

/// A house whose clock stands still until it is moved.
async fn by_hand() -> (House, &'static Hand) {
    let (clock, hand) = Clock::by_hand();
    (House::at(clock, HOUR, NAME).await, hand)
}

/// Moves to so many seconds before the end of the session's token, with a newer one at hand.
async fn before_the_end(house: &House, hand: &Hand, seconds: u64) {
    hand.advance(Duration::from_secs(1200));
    house.signed(2).await;
    hand.advance(Duration::from_secs(LIFE - 1200 - seconds));
}

#[tokio::test]
async fn a_quiet_session_is_closed_in_the_last_tenth_and_the_next_one_has_the_next_token() {
    let (house, hand) = by_hand().await;
    let mut device = house.device(&v3()).await;
    before_the_end(&house, hand, LIFE / 10 + 1).await;
    // Not yet: it still answers.
    device.send(&publish(1, 1, b"x")).await;
    assert_eq!(device.packet().await, Some((0x40, vec![0, 1])));
    hand.advance(Duration::from_secs(1));
    assert_eq!(device.rest().await, b"");
    drop(device);
    let met = house.broker.until("the goodbye", |met| met[0].is_over).await;
    assert_eq!(met[0].packets.last(), Some(&(0xe0, Vec::new())));
    let _next = house.device(&v3()).await;
    let met = house.broker.met();
    let end = |met: &Met| met.claims.as_ref().unwrap()["exp"].as_u64().unwrap();
    assert!(end(&met[1]) >= end(&met[0]) + 1000);
}

#[tokio::test]
async fn an_open_exchange_is_finished_first_and_nothing_new_begins_meanwhile() {
    let (house, hand) = by_hand().await;
    let mut device = house.device(&v3()).await;
    house.broker.mute(true);
    device.send(&publish(2, 1, b"open")).await;
    house.broker.until("the open one", |met| met[0].count(3) == 1).await;
    before_the_end(&house, hand, 14).await;
    eventually("the hold", || capture::log().contains("takes nothing new")).await;
    // Held; what is no new exchange goes on.
    device.send(&[publish(1, 2, b"held"), publish(0, 0, b"passes"), vec![0xc0, 0]].concat()).await;
    house.broker.until("QoS 0 and the ping", |met| met[0].count(12) == 1).await;
    house.broker.send(0, &[0x50, 2, 0, 1]).await;
    assert_eq!(device.packet().await, Some((0x50, vec![0, 1])));
    device.send(&[0x62, 2, 0, 1]).await;
    house.broker.until("PUBREL", |met| met[0].count(6) == 1).await;
    house.broker.send(0, &[0x70, 2, 0, 1]).await;
    assert_eq!(device.packet().await, Some((0x70, vec![0, 1])), "the last whole packet");
    assert_eq!(device.packet().await, None, "and then the end");
    drop(device);
    let met = house.broker.until("the goodbye", |met| met[0].is_over).await;
    let firsts: Vec<u8> = met[0].packets.iter().map(|(first, _)| *first).collect();
    assert_eq!(firsts, [0x34, 0x30, 0xc0, 0x62, 0xe0]);
    assert!(!met[0].has_expired);
}

#[tokio::test]
async fn a_publish_that_leans_on_one_held_back_is_held_back_too() {
    // In MQTT 5: an alias with its topic, and one alone.
    let aliased = |first: u8, topic: &str, id: &[u8], payload: &[u8]| {
        framed(first, &[&text(topic)[..], id, &[3, 0x23, 0, 1], payload].concat())
    };
    let (house, hand) = by_hand().await;
    let mut device = house.device(&v5()).await;
    house.broker.mute(true);
    device.send(&publish(2, 1, b"open")).await;
    device.send(&aliased(0x30, "old", &[], b"with its topic")).await;
    house.broker.until("both", |met| met[0].count(3) == 2).await;
    before_the_end(&house, hand, 14).await;
    eventually("the hold", || capture::log().contains("takes nothing new")).await;
    device.send(&aliased(0x30, "", &[], b"under the old topic")).await;
    device.send(&aliased(0x32, "new", &[0, 2], b"gives it a new topic")).await;
    device.send(&aliased(0x30, "", &[], b"under the new topic")).await;
    device.send(&[0xc0, 0]).await;
    let met = house.broker.until("the ping", |met| met[0].count(12) == 1).await;
    let aliases: Vec<&[u8]> = met[0].packets.iter().skip(1).map(|(_, body)| body.as_slice()).collect();
    assert!(aliases[1].ends_with(b"under the old topic"), "{aliases:?}");
    assert_eq!(met[0].count(3), 3, "a PUBLISH went out under another topic than its own: {aliases:?}");
}

#[tokio::test]
async fn five_seconds_before_the_end_nothing_is_waited_for() {
    let (house, hand) = by_hand().await;
    let mut device = house.device(&v5()).await;
    house.broker.mute(true);
    device.send(&publish(1, 1, b"never answered")).await;
    house.broker.until("it", |met| met[0].count(3) == 1).await;
    before_the_end(&house, hand, 6).await;
    eventually("the hold", || capture::log().contains("takes nothing new")).await;
    device.send(&[0xc0, 0]).await;
    house.broker.until("still there", |met| met[0].count(12) == 1).await;
    hand.advance(Duration::from_secs(1));
    assert_eq!(device.rest().await, b"");
    drop(device);
    let met = house.broker.until("the goodbye", |met| met[0].is_over).await;
    assert_eq!(met[0].packets.last(), Some(&(0xe0, Vec::new())));
    assert!(!met[0].has_expired);
}

#[tokio::test]
async fn without_a_newer_token_a_session_stays_until_the_last_seconds_of_its_own() {
    let (clock, hand) = Clock::by_hand();
    let (house, without) = House::whose_key_can_go(clock).await;
    let mut device = house.device(&v3()).await;
    house.bed.sidecar().apply(without);
    hand.advance(Duration::from_secs(LIFE - 16));
    device.send(&publish(1, 1, b"x")).await;
    assert_eq!(device.packet().await, Some((0x40, vec![0, 1])));
    hand.advance(Duration::from_secs(1));
    assert_eq!(device.rest().await, b"");
    drop(device);
    house.broker.until("the goodbye", |met| met[0].count(14) == 1).await;
    let mut late = house.open().await;
    late.send(&v3()).await;
    assert_eq!(late.rest().await, [0x20, 2, 0, 3]);
    assert_eq!(house.bed.refused("removed"), 1);
}

#[tokio::test]
async fn token_after_token_ends_and_no_publish_is_lost() {
    // Two minutes in two seconds and a half.
    let house = House::at(Clock::fast(50), Duration::from_secs(120), NAME).await;
    let wanted = if crate::full() { 11 } else { 3 };
    let mut next = 1_u32;
    for _ in 0..wanted {
        let mut device = house.device(&v3()).await;
        loop {
            let id = (next % 60_000 + 1) as u16;
            device.send(&publish(1, id, &next.to_be_bytes())).await;
            match device.packet().await {
                Some(answer) => assert_eq!(answer, (0x40, id.to_be_bytes().to_vec())),
                None => break,
            }
            next += 1;
        }
    }
    let met = house.broker.until("the goodbyes", |met| met.iter().all(|met| met.is_over)).await;
    let mut tokens: Vec<&str> = met.iter().map(|met| met.password.as_str()).collect();
    tokens.dedup();
    assert_eq!(tokens.len(), wanted, "a session with the token of the last one");
    for met in &met {
        assert_eq!(met.packets.last(), Some(&(0xe0, Vec::new())));
        assert!(!met.has_expired);
    }
    // Each arrived, and none in two sessions: whatever was passed on was answered too.
    let published = met.iter().flat_map(|met| &met.packets).filter(|(first, _)| *first == 0x32);
    let arrived: Vec<u32> = published.map(|(_, body)| u32::from_be_bytes(*body.last_chunk().unwrap())).collect();
    assert!(arrived.len() > 100 && arrived == (1..next).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_drain_ends_sessions_in_order() {
    let mut house = House::new().await;
    let mut device = house.device(&v3()).await;
    house.broker.mute(true);
    device.send(&publish(1, 1, b"open")).await;
    house.broker.until("it", |met| met[0].count(3) == 1).await;
    let finish = house.bed.take_sidecar().finish();
    let work = async {
        house.bed.ground.tasks.draining().await;
        house.broker.send(0, &[0x40, 2, 0, 1]).await;
        assert_eq!(device.packet().await, Some((0x40, vec![0, 1])));
        assert_eq!(device.packet().await, None);
        drop(device);
    };
    let (clean, ()) = tokio::join!(finish, work);
    assert!(clean);
    let met = house.broker.until("the goodbye", |met| met[0].is_over).await;
    assert_eq!(met[0].packets.last(), Some(&(0xe0, Vec::new())));
}

#[tokio::test]
async fn a_session_that_begins_in_a_drain_has_its_time() {
    let (mut house, hand) = by_hand().await;
    let (door, tasks) = (house.door(), house.bed.ground.tasks.clone());
    let finish = house.bed.take_sidecar().finish();
    let work = async {
        tasks.draining().await;
        let mut device = Device { stream: TcpStream::connect(door).await.unwrap() };
        device.send(&v3()).await;
        assert_eq!(device.packet().await, Some((0x20, vec![0, 0])));
        for id in 1..=20 {
            device.send(&publish(1, id, b"last words")).await;
            assert_eq!(device.packet().await, Some((0x40, id.to_be_bytes().to_vec())));
        }
        hand.advance(Duration::from_secs(5));
        assert_eq!(device.packet().await, None);
        drop(device);
        eventually("nothing in flight", || tasks.in_flight() == 0).await;
        hand.advance(Duration::from_secs(1));
    };
    let (clean, ()) = tokio::join!(finish, work);
    assert!(clean);
    let met = house.broker.until("the goodbye", |met| met[0].is_over).await;
    assert_eq!(met[0].packets.last(), Some(&(0xe0, Vec::new())));
}

#[tokio::test]
async fn a_goodbye_arrives_although_nobody_reads_what_the_broker_sends() {
    let house = House::new().await;
    // More than once: which of two that are ready goes first is left to chance.
    for number in 0..16 {
        let mut device = house.device(&v3()).await;
        house.broker.send(number, &publish(0, 0, b"never read")).await;
        within("it", device.stream.readable()).await.unwrap();
        device.send(&[0xe0, 0]).await;
        // With something unread, so that whoever writes to it from here on fails.
        drop(device);
        house.broker.send(number, &publish(0, 0, b"for nobody")).await;
        let met = house.broker.until("its end", |met| met[number].is_over).await;
        assert_eq!(met[number].packets, [(0xe0, Vec::new())], "session {number}");
    }
}

#[tokio::test]
async fn a_client_that_has_gone_before_the_broker_answered_is_not_logged_in() {
    let house = House::new().await;
    house.broker.open(false);
    let mut impatient = house.open().await;
    impatient.send(&v3()).await;
    house.broker.until("a connection", |met| met.len() == 1).await;
    drop(impatient);
    eventually("its end", || capture::log().contains("left before its MQTT session began")).await;
    // One that has said all it wants to say is served.
    let mut brief = house.open().await;
    brief.send(&[v3(), publish(0, 0, b"all of it"), vec![0xe0, 0]].concat()).await;
    brief.stream.shutdown().await.unwrap();
    house.broker.until("another", |met| met.len() == 2).await;
    house.broker.open(true);
    let met = house.broker.until("both ends", |met| met.iter().all(|met| met.is_over)).await;
    assert!(met[0].connect.is_empty(), "somebody was logged in who was not there");
    let firsts: Vec<u8> = met[1].packets.iter().map(|(first, _)| *first).collect();
    assert_eq!(firsts, [0x30, 0xe0]);
}

#[tokio::test]
async fn a_disconnect_is_followed_by_an_orderly_end_whatever_the_broker_still_sends() {
    let (house, hand) = by_hand().await;
    let mut device = house.device(&v3()).await;
    before_the_end(&house, hand, LIFE / 10).await;
    assert_eq!(device.rest().await, b"");
    // The device still has its side open; what comes for it now can go nowhere.
    house.broker.send(0, &publish(0, 0, &[7; 9000])).await;
    drop(device);
    let mut device = house.device(&v3()).await;
    house.broker.send(1, &publish(0, 0, &[7; 9000])).await;
    device.send(&[0xe0, 0]).await;
    drop(device);
    let met = house.broker.until("both ends", |met| met.iter().all(|met| met.is_over)).await;
    for met in met {
        assert_eq!(met.packets, [(0xe0, Vec::new())]);
        assert!(!met.was_reset);
    }
}

#[tokio::test]
async fn a_token_that_ended_while_the_broker_was_dialled_is_not_sent() {
    let (clock, hand) = Clock::by_hand();
    let (house, without) = House::whose_key_can_go(clock).await;
    house.broker.open(false);
    let mut device = house.open().await;
    device.send(&v5()).await;
    house.broker.until("a connection", |met| met.len() == 1).await;
    house.bed.sidecar().apply(without);
    hand.advance(Duration::from_secs(LIFE - 9));
    house.broker.open(true);
    assert_eq!(device.rest().await, [0x20, 3, 0, 0x88, 0]);
    let met = house.broker.until("its end", |met| met[0].is_over).await;
    assert!(met[0].connect.is_empty(), "a token was sent in the last seconds of its life");
    assert_eq!(house.bed.refused("mqtt_short_token"), 1);
}

#[tokio::test]
async fn a_credential_of_another_kind_is_used_from_the_next_session_on() {
    let world = World::new().await;
    let broker = Broker::start(&world.tasks, Clock::system(), NAME).await;
    let (key, keys) = (world.dir.path().join("device.pem"), world.keys());
    std::fs::write(&key, include_str!("../data/p256-sec1.pem")).unwrap();
    let mut changed = None;
    let bed = world.start(|settings| {
        with_door(settings, &broker, key, HOUR);
        let mut other = settings.clone();
        other.credentials.retain(|spec| spec.name.as_str() != "device");
        other.credentials.push(credential("device", keys));
        changed = Some(other);
    });
    let house = House { bed, broker };
    drop(house.device(&v3()).await);
    house.bed.sidecar().apply(changed.unwrap());
    let mut device = house.open().await;
    device.send(&v3()).await;
    // This broker knows JWTs only.
    assert_eq!(device.rest().await, [0x20, 2, 0, 5]);
    let met = house.broker.met();
    assert!(house.bed.google.tokens().iter().any(|(token, _)| *token == met[1].password));
}

/// A house, and settings that send the door's credential to another broker, where it is another one.
async fn whose_entry_can_change() -> (House, Settings, Settings) {
    let world = World::new().await;
    let broker = Broker::start(&world.tasks, Clock::system(), NAME).await;
    let (key, keys) = (world.dir.path().join("device.pem"), world.keys());
    std::fs::write(&key, include_str!("../data/p256-sec1.pem")).unwrap();
    let (mut first, mut changed) = (None, None);
    let bed = world.start(|settings| {
        with_door(settings, &broker, key, HOUR);
        let mut other = settings.clone();
        other.credentials.retain(|spec| spec.name.as_str() != "device");
        other.credentials.push(credential("device", keys));
        other.mqtt[0].upstream = Authority::parse("other.example.com:8883", None).unwrap();
        (first, changed) = (Some(settings.clone()), Some(other));
    });
    (House { bed, broker }, first.unwrap(), changed.unwrap())
}

#[tokio::test]
async fn a_door_whose_entry_is_gone_logs_nobody_in_and_ends_its_sessions_in_order() {
    let (house, first, changed) = whose_entry_can_change().await;
    let mut device = house.device(&v3()).await;
    house.broker.mute(true);
    device.send(&publish(1, 1, b"open")).await;
    house.broker.until("it", |met| met[0].count(3) == 1).await;
    house.bed.sidecar().apply(changed);
    // Its old broker would be shown what the credential of that name has become.
    for (number, (connect, answer)) in
        [(v3(), &[0x20, 2, 0, 0x03][..]), (v5(), &[0x20, 3, 0, 0x88, 0])].into_iter().enumerate()
    {
        let mut late = house.open().await;
        late.send(&connect).await;
        assert_eq!(late.rest().await, answer);
        assert_eq!(house.bed.refused("mqtt_removed"), number as u64 + 1);
    }
    assert_eq!(house.broker.met().len(), 1, "the broker was dialled");
    house.broker.send(0, &[0x40, 2, 0, 1]).await;
    assert_eq!(device.packet().await, Some((0x40, vec![0, 1])));
    assert_eq!(device.packet().await, None);
    drop(device);
    let met = house.broker.until("the goodbye", |met| met[0].is_over).await;
    assert_eq!(met[0].packets.last(), Some(&(0xe0, Vec::new())));
    // It is back.
    house.bed.sidecar().apply(first);
    drop(house.device(&v3()).await);
}

#[tokio::test]
async fn a_door_whose_entry_goes_while_its_broker_is_dialled_shows_it_no_token() {
    let (house, _, changed) = whose_entry_can_change().await;
    house.broker.open(false);
    let mut device = house.open().await;
    device.send(&v3()).await;
    house.broker.until("a connection", |met| met.len() == 1).await;
    house.bed.sidecar().apply(changed);
    house.broker.open(true);
    assert_eq!(device.rest().await, [0x20, 2, 0, 0x03]);
    let met = house.broker.until("its end", |met| met[0].is_over).await;
    assert!(met[0].connect.is_empty(), "a token was sent");
    assert_eq!(house.bed.refused("mqtt_removed"), 1);
}

#[tokio::test]
async fn a_broker_is_reached_through_a_parent_proxy_which_sees_nothing() {
    let world = World::new().await;
    let broker = Broker::start(&world.tasks, Clock::system(), NAME).await;
    let parent = Parent::start(&world.tasks, broker.address, None).await;
    let key = world.dir.path().join("device.pem");
    std::fs::write(&key, include_str!("../data/p256-sec1.pem")).unwrap();
    let bed = world.start(|settings| {
        with_door(settings, &broker, key, HOUR);
        // Nobody but the device goes anywhere.
        settings.credentials.retain(|spec| spec.name.as_str() == "device");
        settings.upstream.dial = dial::Settings {
            parent: Some(ParentProxy {
                authority: Authority::parse(&parent.address.to_string(), None).unwrap(),
                tls: None,
                user_info: None,
            }),
            ..dial::Settings::default()
        };
    });
    let house = House { bed, broker };
    drop(house.device(&v3()).await);
    let heads = parent.heads();
    assert_eq!(heads.len(), 1);
    assert!(heads[0].starts_with(&format!("CONNECT {NAME}:8883 HTTP/1.1\r\n")), "{}", heads[0]);
    assert!(!heads[0].contains(&house.broker.met()[0].password));
}

#[tokio::test]
async fn a_broker_on_this_pod_is_a_loop_and_not_dialled() {
    let world = World::new().await;
    let broker = Broker::start(&world.tasks, Clock::system(), NAME).await;
    let key = world.dir.path().join("device.pem");
    std::fs::write(&key, include_str!("../data/p256-sec1.pem")).unwrap();
    let bed = world.start(|settings| {
        with_door(settings, &broker, key, HOUR);
        let here = format!("localhost:{}", broker.address.port());
        settings.mqtt[0].upstream = Authority::parse(&here, None).unwrap();
    });
    let house = House { bed, broker };
    let mut device = house.open().await;
    device.send(&v3()).await;
    assert_eq!(device.rest().await, [0x20, 2, 0, 3]);
    assert_eq!(house.bed.refused("forbidden_address"), 1);
    assert!(house.broker.met().is_empty());
}
