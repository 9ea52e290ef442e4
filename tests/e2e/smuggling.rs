//! Requests that two readers would end in different places, each followed by somebody else's request: whose answer
//! comes to whom, and whether one client's bytes ever become part of another's.

use bearerd::demo::Protocols;

use crate::{
    bed::{Bed, STORAGE},
    cases::cases,
    client::{Door, get, post},
    full, raw,
};

/// What an attacker hopes that the upstream reads the next client's request into.
const CAPTURE: &str = "POST /upload/storage/v1/b/b/o?uploadType=media&name=captured HTTP/1.1\r\n\
                       Host: storage.googleapis.com\r\nContent-Length: 2000\r\n\r\n";

#[tokio::test]
async fn no_bad_request_gets_hold_of_anybody_elses() {
    let all = cases(include_str!("../data/http1/must-reject"));
    assert!(all.len() >= 290);
    let step = if full() { 1 } else { 5 };
    let mut tried = 0;
    for protocols in [Protocols::H1, Protocols::H2] {
        let bed = Bed::start().await;
        bed.exchanges_reach(1).await;
        bed.google.protocols(protocols);
        let mut victim = bed.client(Door::InterceptH1, STORAGE).await;
        for (number, case) in all.iter().enumerate().step_by(step) {
            for forward in [false, true] {
                let title = format!("{} to {protocols:?}, forward: {forward}", case.title);
                let Some(bad) = placed(&case.bytes, forward) else { continue };
                let before = bed.google.request_count();
                let bytes = [&bad[..], CAPTURE.as_bytes()].concat();
                // Whatever comes back is the attacker's own affair; that it comes to an end is ours.
                if forward {
                    let mut stream = raw::proxy(&bed).await;
                    raw::write(&mut stream, &bytes).await;
                    finish(&mut stream).await;
                } else {
                    let mut stream = bed.connect(STORAGE, &[b"http/1.1"]).await;
                    raw::write(&mut stream, &bytes).await;
                    finish(&mut stream).await;
                }
                let content = format!("content {number} {forward}");
                let name = format!("/upload/storage/v1/b/b/o?uploadType=media&name=object-{number}-{forward}");
                let stored = victim.call(post(&name, content.clone())).await;
                assert_eq!(stored.status(), 200, "{title}: {:?}", stored.body());
                let read = victim.call(get(&format!("/storage/v1/b/b/o/object-{number}-{forward}?alt=media"))).await;
                assert_eq!((read.status().as_u16(), read.body()), (200, &content.into()), "{title}");
                for seen in bed.google.requests().iter().skip(usize::try_from(before).unwrap()) {
                    assert!(!seen.target.contains("captured"), "{title}: {seen:?}");
                    let is_victims = seen.target.contains(&format!("object-{number}-{forward}"));
                    // Only what hyper had the head of before the fault came gets there, and never as a whole.
                    let is_broken = case.title.starts_with("break") && !seen.body.complete;
                    assert!(is_victims || is_broken, "{title}: {seen:?}");
                }
                tried += 1;
            }
        }
        let captured = victim.call(get("/storage/v1/b/b/o/captured?alt=media")).await;
        assert_eq!(captured.status(), 404);
    }
    println!("{tried} bad requests, each before a good one");
    assert!(tried >= 700 / step, "{tried}");
}

/// The case as it stands, or with an absolute URL where its first line is an ordinary one.
fn placed(bytes: &[u8], forward: bool) -> Option<Vec<u8>> {
    if !forward {
        return Some(bytes.to_vec());
    }
    let rest =
        ["GET / ", "POST / ", "PUT / "].iter().find_map(|start| Some((start, bytes.strip_prefix(start.as_bytes())?)));
    let (start, rest) = rest?;
    Some([start.replace(" / ", &format!(" http://{STORAGE}/ ")).as_bytes(), rest].concat())
}

/// Says that nothing more comes, and waits for the end.
async fn finish<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(stream: &mut S) {
    let _ = tokio::io::AsyncWriteExt::shutdown(stream).await;
    raw::rest(stream).await;
}
