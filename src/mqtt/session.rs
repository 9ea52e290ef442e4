//! A session after its CONNECT: packets both ways, and its end before that of its token.
//!
//! Everything runs in one task, so that what is found quiet is still quiet when the end begins.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::watch,
    time::{Instant, timeout},
};

use super::{
    packet::{Malformed, Packet, Scanner, Sender, Version},
    quiet::{Hold, Ledger, Plan},
    standing::Standing,
};
use crate::{
    clock::{Clock, Moment},
    shutdown::Tasks,
    token::Handle,
};

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The client's DISCONNECT was passed on.
    Goodbye,
    /// The client's connection ended without.
    ClientLeft,
    /// The broker's connection ended.
    BrokerLeft,
    /// By us, in order.
    Closed(Why),
    /// The client sent what cannot be relayed.
    ClientBroke(Malformed),
    /// The broker did.
    BrokerBroke(Malformed),
}

/// Why we end a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Its token is about to end.
    Expiry,
    /// The sidecar is.
    Drain,
    /// Its entry is not in the settings any more.
    Removed,
}

/// What decides when a session ends.
pub(super) struct Terms {
    pub(super) clock: Clock,
    pub(super) tasks: Tasks,
    pub(super) standing: Standing,
    pub(super) handle: Handle,
    /// Of the token that the broker was given.
    pub(super) generation: u64,
    pub(super) issued: Moment,
    pub(super) expires: Moment,
    /// Whether the sidecar was ending already when it began. Two readings of a clock cannot tell: the drain is noticed
    /// after the session has begun, whichever came first.
    pub(super) is_late: bool,
}

/// In this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mode {
    Open,
    /// The client begins nothing new: what it tries to is never sent, and its client library repeats it in the next
    /// session.
    Holding,
    /// Nothing more to the client; from the client until it has closed too, or until then.
    Leaving(Instant),
}

pub(super) struct Session {
    version: Version,
    ledger: Mutex<Ledger>,
    quiet: watch::Sender<bool>,
    mode: watch::Sender<Mode>,
}

impl Session {
    pub(super) fn new(version: Version) -> Self {
        Self {
            version,
            ledger: Mutex::default(),
            quiet: watch::Sender::new(false),
            mode: watch::Sender::new(Mode::Open),
        }
    }

    /// Relays until the end. `early` is what the client sent behind its CONNECT.
    pub(super) async fn run<C, B>(&self, client: C, broker: B, early: BytesMut, terms: &Terms) -> End
    where
        C: AsyncRead + AsyncWrite + Unpin,
        B: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut broker_read, broker_write) = tokio::io::split(broker);
        let end = self.relay(client, &mut broker_read, broker_write, early, terms).await;
        if matches!(end, End::Goodbye | End::Closed(_)) {
            // A socket that is closed with bytes unread resets the connection, and on its way through proxies a reset may
            // overtake DISCONNECT.
            let _ = timeout(CLOSING, exhaust(&mut broker_read)).await;
        }
        end
    }

    async fn relay<C, R, W>(&self, client: C, broker_read: R, broker_write: W, early: BytesMut, terms: &Terms) -> End
    where
        C: AsyncRead + AsyncWrite + Unpin,
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let (client_read, client_write) = tokio::io::split(client);
        let mut up = std::pin::pin!(self.upward(client_read, broker_write, early));
        let mut down = std::pin::pin!(self.downward(broker_read, client_write));
        tokio::select! {
            end = &mut up => {
                if end == End::BrokerLeft {
                    // What the broker said last, an MQTT 5 DISCONNECT with its reason as a rule, is still to come.
                    let _ = timeout(CLOSING, down).await;
                }
                end
            }
            end = &mut down => match end {
                // What the client said last, its DISCONNECT as a rule, may still be unread: without it the broker would
                // publish the will of a client that said goodbye.
                End::ClientLeft => timeout(CLOSING, up).await.unwrap_or(end),
                _ => end,
            },
            why = self.keep(terms) => {
                let _ = timeout(FAREWELL + CLOSING, async { tokio::join!(up, down) }).await;
                End::Closed(why)
            }
        }
    }

    async fn upward<R, W>(&self, mut from: R, mut to: W, mut buffer: BytesMut) -> End
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut scanner = Scanner::new(self.version, Sender::Client);
        let (mut hold, mut is_held, mut is_last) = (Hold::new(self.version), false, false);
        let end = 'session: loop {
            loop {
                let piece = match scanner.next(&buffer) {
                    Ok(Some(piece)) => piece,
                    Ok(None) => break,
                    Err(error) => break 'session End::ClientBroke(error),
                };
                if let Some(packet) = piece.begins {
                    is_held = *self.mode.borrow() >= Mode::Holding && hold.holds(packet);
                    is_last = packet == Packet::Disconnect;
                    if !is_held {
                        self.begin(Sender::Client, packet);
                    }
                }
                let bytes = buffer.split_to(piece.size);
                if !is_held && to.write_all(&bytes).await.is_err() {
                    return End::BrokerLeft;
                }
                if is_last && piece.ends {
                    let _ = to.flush().await;
                    break 'session End::Goodbye;
                }
            }
            if to.flush().await.is_err() {
                return End::BrokerLeft;
            }
            if is_held || scanner.is_between_packets() {
                self.settle(Sender::Client);
            }
            let read = tokio::select! {
                read = read(&mut from, &mut buffer) => read,
                () = self.left_for_good() => 0,
            };
            if read == 0 {
                break End::ClientLeft;
            }
        };
        let is_leaving = matches!(*self.mode.borrow(), Mode::Leaving(_));
        if is_leaving && end == End::ClientLeft && (is_held || scanner.is_between_packets()) {
            // Without it the broker would publish the will of a client that is well.
            let _ = to.write_all(&DISCONNECT).await;
        }
        let _ = timeout(CLOSING, to.shutdown()).await;
        end
    }

    async fn downward<R, W>(&self, mut from: R, mut to: W) -> End
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut scanner = Scanner::new(self.version, Sender::Broker);
        let mut buffer = BytesMut::new();
        let end = 'session: loop {
            loop {
                if scanner.is_between_packets() && matches!(*self.mode.borrow(), Mode::Leaving(_)) {
                    break 'session End::BrokerLeft;
                }
                let piece = match scanner.next(&buffer) {
                    Ok(Some(piece)) => piece,
                    Ok(None) => break,
                    Err(error) => break 'session End::BrokerBroke(error),
                };
                if let Some(packet) = piece.begins {
                    self.begin(Sender::Broker, packet);
                }
                let bytes = buffer.split_to(piece.size);
                if to.write_all(&bytes).await.is_err() {
                    return End::ClientLeft;
                }
            }
            if scanner.is_between_packets() {
                self.settle(Sender::Broker);
            }
            let read = tokio::select! {
                biased;
                () = self.leaving(), if scanner.is_between_packets() => 0,
                read = read(&mut from, &mut buffer) => read,
            };
            if read == 0 {
                break End::BrokerLeft;
            }
        };
        let _ = to.shutdown().await;
        end
    }

    /// Completes when the end has begun.
    async fn keep(&self, terms: &Terms) -> Why {
        let clock = terms.clock;
        let expiring = async {
            let plan = Plan::of_token(terms.issued, terms.expires);
            until(clock, plan.look).await;
            tokio::select! {
                // Without a newer one the client would come back with the token that is about to end.
                _ = terms.handle.newer_than(terms.generation) => {}
                () = until(clock, plan.hold) => {}
            }
            self.find_an_end(clock, plan).await;
        };
        let draining = async {
            terms.tasks.draining().await;
            let plan = Plan::of_drain(clock.now(), terms.is_late);
            until(clock, plan.look).await;
            self.find_an_end(clock, plan).await;
        };
        let removed = async {
            terms.standing.lost().await;
            self.find_an_end(clock, Plan::of_drain(clock.now(), false)).await;
        };
        let why = tokio::select! {
            () = expiring => Why::Expiry,
            () = draining => Why::Drain,
            () = removed => Why::Removed,
        };
        self.mode.send_replace(Mode::Leaving(Instant::now() + FAREWELL));
        why
    }

    async fn find_an_end(&self, clock: Clock, plan: Plan) {
        tokio::select! {
            () = self.is_quiet() => return,
            () = until(clock, plan.hold) => {}
        }
        tracing::debug!("an MQTT session takes nothing new from its client");
        self.mode.send_replace(Mode::Holding);
        tokio::select! {
            () = self.is_quiet() => {}
            () = until(clock, plan.cut) => {}
        }
    }

    fn begin(&self, sender: Sender, packet: Packet) {
        if let Packet::ConnAck(code @ 1..) = packet {
            tracing::warn!(code, "the broker refused an MQTT session");
        }
        self.note(|ledger| ledger.begin(sender, packet));
    }

    fn settle(&self, sender: Sender) {
        self.note(|ledger| ledger.settle(sender));
    }

    fn note(&self, change: impl FnOnce(&mut Ledger)) {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut ledger);
        self.quiet.send_if_modified(|quiet| std::mem::replace(quiet, ledger.is_quiet()) != ledger.is_quiet());
    }

    async fn is_quiet(&self) {
        // Cannot fail, as none of those below can: the sender is ours.
        let _ = self.quiet.subscribe().wait_for(|quiet| *quiet).await;
    }

    async fn leaving(&self) {
        let _ = self.mode.subscribe().wait_for(|mode| matches!(mode, Mode::Leaving(_))).await;
    }

    /// Completes when the client has had its time to close too.
    async fn left_for_good(&self) {
        self.leaving().await;
        let mode = *self.mode.borrow();
        if let Mode::Leaving(until) = mode {
            tokio::time::sleep_until(until).await;
        }
    }
}

/// Takes what still comes, to the end.
pub(super) async fn exhaust<R: AsyncRead + Unpin>(from: &mut R) {
    let mut rest = [0; 4096];
    while from.read(&mut rest).await.is_ok_and(|read| read > 0) {}
}

/// 0 at the end, whichever way it came.
async fn read<R: AsyncRead + Unpin>(from: &mut R, buffer: &mut BytesMut) -> usize {
    buffer.reserve(BUFFER);
    from.read_buf(buffer).await.unwrap_or(0)
}

async fn until(clock: Clock, moment: Moment) {
    loop {
        let left = clock.now().until(moment);
        if left.is_zero() {
            return;
        }
        // In ticks: a machine may sleep meanwhile, and the token ages all the same.
        clock.sleep(left.min(TICK)).await;
    }
}

/// The same in both versions: a normal end (MQTT 3.1.1 §3.14, MQTT 5 §3.14.2.1).
const DISCONNECT: [u8; 2] = [0xe0, 0];
const BUFFER: usize = 16 * 1024;
const TICK: Duration = Duration::from_secs(15);
/// How long a client may take to close its side after we have closed ours.
pub(super) const FAREWELL: Duration = Duration::from_secs(2);
const CLOSING: Duration = Duration::from_secs(1);
