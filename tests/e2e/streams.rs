//! Streams that an HTTP/2 upstream refuses, or says goodbye to: sent again where nothing was done, and only there.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use http::Request;
use tokio::{net::TcpListener, net::TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    bed::{Bed, World, send_to},
    client::{Body, Client, Door, full, get, post, within},
    frames::{self, *},
    hostile::server_tls,
};

const HOST: &str = "streams.googleapis.com";

/// What the upstream does with the next request that came whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Answer,
    /// RST_STREAM: REFUSED_STREAM.
    Refuse,
    /// RST_STREAM: CANCEL, which says nothing about what was done.
    Cancel,
    /// GOAWAY that names the stream before this one as the last, and the end of the connection.
    GoAwayBefore,
    /// The same without the end.
    GoAwayBeforeAndStay,
    /// GOAWAY that names this stream as the last, and the end without an answer.
    GoAwayAfter,
    /// GOAWAY that names this stream as the last, then its answer.
    GoAwayAndAnswer,
}

use Act::{Answer, Cancel, GoAwayAfter, GoAwayAndAnswer, GoAwayBefore, GoAwayBeforeAndStay, Refuse};

/// An upstream that acts by a list, one entry a request; behind its end it answers.
struct Upstream {
    address: SocketAddr,
    ca: String,
    seen: Arc<AtomicUsize>,
}

impl Upstream {
    async fn start(world: &World, acts: Vec<Act>) -> Self {
        let (mut config, ca) = server_tls(vec![HOST.to_owned()]);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = Self { address: listener.local_addr().unwrap(), ca, seen: Arc::default() };
        let (tasks, seen) = (world.tasks.clone(), upstream.seen.clone());
        let acts = Arc::new(acts);
        world.tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, seen, acts) = (acceptor.clone(), seen.clone(), acts.clone());
                tasks.spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, &seen, &acts).await;
                    }
                });
            }
        });
        upstream
    }

    /// A bed that leads to it, and a client that has had one answer from it.
    async fn bed(acts: Vec<Act>) -> (Bed, Client, Self) {
        let world = World::new().await;
        let upstream = Self::start(&world, [vec![Answer], acts].concat()).await;
        let (address, ca) = (upstream.address, upstream.ca.clone());
        let bed = world.start(|settings| {
            settings.upstream.extra_roots.get_or_insert_default().extend(ca.into_bytes());
            send_to(settings, HOST, 443, address);
        });
        let mut client = bed.client(Door::InterceptH2, HOST).await;
        assert_eq!(client.call(get("/")).await.status(), 200);
        (bed, client, upstream)
    }

    /// Requests that came whole, without the one that all began with.
    fn seen(&self) -> usize {
        self.seen.load(Ordering::Relaxed) - 1
    }
}

async fn serve(mut stream: TlsStream<TcpStream>, seen: &AtomicUsize, acts: &[Act]) {
    let mut preface = [0; PREFACE.len()];
    if tokio::io::AsyncReadExt::read_exact(&mut stream, &mut preface).await.is_err() {
        return;
    }
    // Room for every body: this one never asks for more.
    write(&mut stream, &[settings(&[(INITIAL_WINDOW, 1 << 24)]), window(0, 1 << 24)].concat()).await;
    let mut last = 0;
    while let Some(frame) = next(&mut stream).await {
        if frame.kind == GOAWAY || frame.kind == RST_STREAM || !frame.ends() {
            continue;
        }
        let id = frame.stream;
        let act = acts.get(seen.fetch_add(1, Ordering::Relaxed)).copied().unwrap_or(Answer);
        // 200 stands in HPACK's own table.
        let answer = frames::frame(HEADERS, END_HEADERS | END_STREAM, id, &[0x88]);
        let bytes = match act {
            Answer => answer,
            Refuse => reset(id, REFUSED_STREAM),
            Cancel => reset(id, CANCEL),
            GoAwayBefore | GoAwayBeforeAndStay => goaway(last, NO_ERROR),
            GoAwayAfter => goaway(id, NO_ERROR),
            GoAwayAndAnswer => [goaway(id, NO_ERROR), answer].concat(),
        };
        write(&mut stream, &bytes).await;
        last = id;
        if matches!(act, GoAwayBefore | GoAwayAfter) {
            return;
        }
    }
}

fn request(method: &str, body: usize) -> Request<Body> {
    Request::builder().method(method).uri("/x").body(full(vec![7; body])).unwrap()
}

#[tokio::test]
async fn a_stream_on_which_nothing_was_done_is_sent_again_whatever_its_method() {
    for act in [Refuse, GoAwayBefore, GoAwayBeforeAndStay] {
        for method in ["GET", "POST", "PATCH", "PUT", "DELETE"] {
            for body in [0, 10, 60_000] {
                let (bed, mut client, upstream) = Upstream::bed(vec![act]).await;
                let status = client.call(request(method, body)).await.status();
                assert_eq!((status.as_u16(), upstream.seen()), (200, 2), "{act:?} {method} {body}");
                drop(bed);
            }
        }
    }
}

#[tokio::test]
async fn a_stream_that_may_have_been_served_is_sent_again_only_where_its_method_allows() {
    for act in [Cancel, GoAwayAfter] {
        for (method, status, seen) in [("GET", 200, 2), ("PUT", 200, 2), ("POST", 502, 1), ("PATCH", 502, 1)] {
            let (_bed, mut client, upstream) = Upstream::bed(vec![act]).await;
            let response = client.call(request(method, 10)).await;
            assert_eq!((response.status().as_u16(), upstream.seen()), (status, seen), "{act:?} {method}");
        }
    }
}

#[tokio::test]
async fn a_body_that_is_not_held_is_sent_once() {
    for act in [Refuse, GoAwayBefore] {
        let (_bed, mut client, upstream) = Upstream::bed(vec![act]).await;
        let response = client.call(post("/x", vec![7; 200_000])).await;
        assert_eq!((response.status().as_u16(), upstream.seen()), (502, 1), "{act:?}");
        assert_eq!(client.call(get("/")).await.status(), 200);
    }
}

#[tokio::test]
async fn an_upstream_that_refuses_for_ever_is_asked_a_few_times_only() {
    for act in [Refuse, GoAwayBefore] {
        let (_bed, mut client, upstream) = Upstream::bed(vec![act; 100]).await;
        let response = client.call(post("/x", "small")).await;
        let reason = response.headers()["x-bearerd-error"].to_str().unwrap();
        assert_eq!((response.status().as_u16(), reason, upstream.seen()), (502, "reset", 4), "{act:?}");
    }
}

#[tokio::test]
async fn what_a_goodbye_still_promises_is_waited_for_and_the_next_goes_elsewhere() {
    let (_bed, mut client, upstream) = Upstream::bed(vec![GoAwayAndAnswer]).await;
    for _ in 0..3 {
        assert_eq!(client.call(post("/x", "small")).await.status(), 200);
    }
    assert_eq!(upstream.seen(), 3);
}

#[tokio::test]
async fn of_many_calls_under_a_goodbye_each_is_served_exactly_once() {
    let (_bed, client, upstream) = Upstream::bed([vec![Answer; 20], vec![GoAwayBeforeAndStay]].concat()).await;
    let calls = (0..50).map(|_| {
        let mut sender = client.h2();
        let request = client.place(post("/x", "small"));
        async move { sender.send_request(request).await.unwrap().status().as_u16() }
    });
    let statuses = within("fifty answers", futures_util::future::join_all(calls)).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert!(upstream.seen() >= 51, "{}", upstream.seen());
}
