//! The six places that can name a host, each with each: a token goes out where all that speak name the same one, and
//! else not one byte.

use std::sync::Arc;

use bearerd::{demo::RecordingHost, policy::Unmatched};
use http::StatusCode;

use crate::{
    bed::{Bed, STORAGE, World, default_policy, handshake, send_below, send_to},
    client::within,
    frames::*,
    full, raw,
};

/// What one place says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    Good,
    Evil,
    Absent,
    Malformed,
}

use Claim::{Absent, Evil, Good, Malformed};

const CLAIMS: [Claim; 4] = [Good, Evil, Absent, Malformed];

impl Claim {
    fn text(self) -> &'static str {
        match self {
            Good => STORAGE,
            Evil => "evil.test",
            Absent => "",
            Malformed => "storage.googleapis.com@evil.test",
        }
    }
}

/// One combination. Without CONNECT the request is a forward request; with `:authority` it is HTTP/2, in which an
/// absolute URL can only stand in `:path`.
#[derive(Clone, Copy, Debug)]
struct Said {
    connect: Claim,
    connect_host: Claim,
    sni: Claim,
    absolute: Claim,
    host: Claim,
    authority: Claim,
}

impl Said {
    fn all() -> impl Iterator<Item = Self> {
        (0..4096_usize).map(|number| {
            let claim = |place: u32| CLAIMS[number / 4_usize.pow(place) % 4];
            let (connect, connect_host, sni) = (claim(0), claim(1), claim(2));
            Self { connect, connect_host, sni, absolute: claim(3), host: claim(4), authority: claim(5) }
        })
    }

    /// Whether CONNECT is let in: it names a host that a route names, and so does its `Host`, which HTTP/1.1 wants.
    fn opens(self) -> bool {
        self.connect == Good && self.connect_host == Good
    }

    /// Whether the token may go out.
    fn is_right(self) -> bool {
        if self.connect == Absent {
            // Nothing of a tunnel can be there, and `Host` must.
            return self.absolute == Good && self.host == Good;
        }
        let inside = match self.authority {
            // HTTP/1.1: `Host` must be there, the absolute form may.
            Absent => self.host == Good && matches!(self.absolute, Good | Absent),
            Good => matches!(self.host, Good | Absent) && self.absolute == Absent,
            _ => false,
        };
        self.opens() && matches!(self.sni, Good | Absent) && inside
    }

    fn forward_head(self) -> String {
        let target = if self.absolute == Absent { String::new() } else { format!("http://{}", self.absolute.text()) };
        format!("GET {target}/echo HTTP/1.1\r\n{}\r\n", field(self.host))
    }

    fn inner_head(self) -> String {
        let target = if self.absolute == Absent { String::new() } else { format!("https://{}", self.absolute.text()) };
        format!("GET {target}/echo HTTP/1.1\r\n{}\r\n", field(self.host))
    }

    fn stream(self) -> Vec<u8> {
        let path = if self.absolute == Absent { String::new() } else { format!("https://{}", self.absolute.text()) };
        let path = format!("{path}/echo");
        let mut fields =
            vec![(":method", "GET"), (":scheme", "https"), (":authority", self.authority.text()), (":path", &path)];
        if self.host != Absent {
            fields.push(("host", self.host.text()));
        }
        let head = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&fields));
        [PREFACE, &settings(&[]), &head].concat()
    }
}

fn field(host: Claim) -> String {
    if host == Absent { String::new() } else { format!("Host: {}\r\n", host.text()) }
}

/// Sends it, as far as it gets; whether the last answer was a 200 with a token behind it.
async fn send(bed: &Bed, said: Said) -> bool {
    if said.connect == Absent {
        let mut stream = raw::proxy(bed).await;
        raw::write(&mut stream, said.forward_head().as_bytes()).await;
        return raw::answer(&mut stream).await.status() == StatusCode::OK;
    }
    let mut stream = raw::proxy(bed).await;
    let head = format!("CONNECT {}:443 HTTP/1.1\r\n{}\r\n", said.connect.text(), field(said.connect_host));
    let head = head.replace("\r\nHost: storage.googleapis.com\r\n", "\r\nHost: storage.googleapis.com:443\r\n");
    raw::write(&mut stream, head.as_bytes()).await;
    let answer = raw::answer(&mut stream).await;
    assert_eq!(answer.status() == StatusCode::OK, said.opens(), "{said:?}: {}", answer.head);
    if !said.opens() {
        assert_eq!(raw::rest(&mut stream).await, b"", "{said:?}");
        return false;
    }
    let alpn: &[u8] = if said.authority == Absent { b"http/1.1" } else { b"h2" };
    let mut config = bed.client_tls(&[alpn]);
    config.enable_sni = said.sni != Absent;
    let name = match said.sni {
        Evil => "evil.test",
        // No library sends what is no name: another name of Google's takes its place.
        Malformed => "pubsub.googleapis.com",
        Good | Absent => STORAGE,
    };
    let Ok(mut tls) = within("a handshake", handshake(stream, config, name)).await else {
        assert!(matches!(said.sni, Evil | Malformed), "{said:?}");
        return false;
    };
    assert!(matches!(said.sni, Good | Absent), "{said:?}");
    if said.authority == Absent {
        raw::write(&mut tls, said.inner_head().as_bytes()).await;
        return raw::answer(&mut tls).await.status() == StatusCode::OK;
    }
    write(&mut tls, &said.stream()).await;
    within("an answer", async {
        while let Some(frame) = next(&mut tls).await {
            if frame.kind == HEADERS {
                return frame.payload.first() == Some(&0x88);
            }
            if matches!(frame.kind, RST_STREAM | GOAWAY) {
                return false;
            }
        }
        false
    })
    .await
}

#[test]
fn a_token_needs_every_claim_there_is_to_be_good() {
    let right: Vec<Said> = Said::all().filter(|said| said.is_right()).collect();
    for said in &right {
        let all = match (said.connect, said.authority) {
            (Absent, _) => vec![said.absolute, said.host],
            (_, Absent) => vec![said.connect, said.connect_host, said.sni, said.absolute, said.host],
            _ => vec![said.connect, said.connect_host, said.sni, said.absolute, said.host, said.authority],
        };
        assert!(all.iter().all(|claim| matches!(claim, Good | Absent)), "{said:?}");
    }
    // Forward: two claims, whatever the three of a tunnel and `:authority` would have said.
    let forward = right.iter().filter(|said| said.connect == Absent).count();
    assert_eq!((forward, right.len() - forward), (64, 8));
}

/// Every combination at full size; else each that gets as far as a tunnel, and every ninth of the others.
#[tokio::test]
async fn every_combination_of_six_claims_gets_a_token_or_not_one_byte_upstream() {
    let world = World::new().await;
    let evil = RecordingHost::start(&world.tasks, None).await.unwrap();
    let bed = world.start(|settings| {
        // Where nothing is carried unseen, no byte at all may leave.
        settings.policy = default_policy(Unmatched::Deny);
        for port in [80, 443] {
            send_to(settings, "evil.test", port, evil.address());
        }
        send_below(settings, "evil.test", evil.address());
    });
    bed.exchanges_reach(1).await;
    let bed = Arc::new(bed);
    let (mut right, mut wrong) = (0, 0);
    for (number, said) in Said::all().enumerate() {
        if !full() && !said.opens() && number % 9 != 0 {
            continue;
        }
        let before = bed.google.request_count();
        let served = send(&bed, said).await;
        assert_eq!(served, said.is_right(), "{said:?}");
        assert_eq!(bed.google.request_count() - before, u64::from(served), "{said:?}");
        if served {
            let seen = bed.last();
            assert!(seen.admission.is_good(), "{said:?}");
            assert_eq!((seen.authority.as_str(), seen.sni.as_deref()), (STORAGE, Some(STORAGE)), "{said:?}");
            right += 1;
        } else {
            wrong += 1;
        }
    }
    println!("{right} combinations served, {wrong} refused, {} connections to the other host", evil.connection_count());
    assert!(right >= 15 && wrong > 600);
    assert_eq!(evil.connection_count(), 0);
}
