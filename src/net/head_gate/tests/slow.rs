//! How long a head may take, on a clock that only the tests move.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::{Instant, sleep},
};

use super::super::*;

const HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

fn gate() -> (DuplexStream, HeadGate<DuplexStream>, Refusals) {
    let (client, server) = duplex(1024);
    let (gate, refusals) = HeadGate::http1_only(server, Clock::virtual_time());
    (client, gate, refusals)
}

/// Reads up to the end of a head; why it is a refusal, if it is one.
async fn next(gate: &mut HeadGate<DuplexStream>, refusals: &Refusals) -> Option<Reason> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(gate.read_u8().await.unwrap());
    }
    let target = String::from_utf8(head).unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    refusals.refusal(&target).map(|refusal| refusal.reason)
}

#[tokio::test(start_paused = true)]
async fn a_head_that_comes_byte_by_byte_is_refused_after_ten_seconds() {
    for pause in [1, 3, 60] {
        let (mut client, mut gate, refusals) = gate();
        // Idle first: that is another limit's business.
        let begin = Instant::now() + Duration::from_secs(60);
        let send = async {
            sleep(Duration::from_secs(60)).await;
            for byte in &HEAD[..HEAD.len() - 1] {
                client.write_all(&[*byte]).await.unwrap();
                sleep(Duration::from_secs(pause)).await;
            }
        };
        let refused = tokio::select! {
            refused = next(&mut gate, &refusals) => refused,
            () = send => panic!("still waited for after {:?}", begin.elapsed()),
        };
        assert_eq!(refused, Some(Reason::SlowHead));
        assert_eq!(begin.elapsed().as_secs(), 10, "a byte every {pause} s");
    }
}

#[tokio::test(start_paused = true)]
async fn every_head_has_ten_seconds_of_its_own_and_an_empty_line_begins_none() {
    let (mut client, mut gate, refusals) = gate();
    let send = async {
        for _ in 0..3 {
            // As an old client ends a body: not the begin of a head.
            client.write_all(b"\r\n").await.unwrap();
            sleep(Duration::from_secs(60)).await;
            let (first, second) = HEAD.split_at(9);
            client.write_all(first).await.unwrap();
            sleep(Duration::from_secs(9)).await;
            // The begin of the next head comes with the end of this one.
            client.write_all(&[second, first].concat()).await.unwrap();
            sleep(Duration::from_secs(9)).await;
            client.write_all(second).await.unwrap();
        }
    };
    let read = async {
        for _ in 0..6 {
            assert_eq!(next(&mut gate, &refusals).await, None);
        }
    };
    tokio::join!(send, read);
}
