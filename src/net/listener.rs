//! Accepting connections: bound early, never ended by an error, bounded in number.

use std::{
    collections::VecDeque,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{net::dial::tune, shutdown::Tasks};

/// A bound listener; its address is known before anything is served.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
    room: Arc<Semaphore>,
    most: usize,
    full: Full,
}

/// What happens when no more connections may be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The one that has been idle for longest ends; where all are busy, the next one waits.
    EndsIdle,
    /// The oldest one ends: where strangers may connect, those who only hold connections must not keep probes out.
    EndsOldest,
}

/// The place of one connection among those that may be open. Whatever carries on with its stream keeps a clone.
#[derive(Clone, Debug)]
pub struct Seat {
    permit: Arc<OwnedSemaphorePermit>,
    sitting: Arc<Sitting>,
}

/// One connection, as its listener sees it.
#[derive(Debug)]
struct Sitting {
    /// Requests and tunnels that it carries.
    busy: AtomicU32,
    /// The listener's count of connections when it was last busy: an order, without reading a clock for each request.
    used: AtomicU64,
    count: Arc<AtomicU64>,
    /// Whether a request has ever come.
    asked: AtomicBool,
    opened: Instant,
    end: CancellationToken,
}

/// Keeps a connection from being ended as an idle one, until dropped.
#[derive(Debug)]
pub struct Busy {
    sitting: Arc<Sitting>,
}

impl Seat {
    /// Its connection carries something.
    pub fn busy(&self) -> Busy {
        self.sitting.busy.fetch_add(1, Ordering::AcqRel);
        if !self.sitting.asked.load(Ordering::Relaxed) {
            self.sitting.asked.store(true, Ordering::Relaxed);
        }
        Busy { sitting: self.sitting.clone() }
    }

    /// Completes when the connection must end.
    pub async fn ended(&self) {
        self.sitting.end.cancelled().await;
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.sitting.used.store(self.sitting.count.load(Ordering::Relaxed), Ordering::Relaxed);
        self.sitting.busy.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Sitting {
    /// Its place among those that may have to go, the first one first; `None` = it stays. Who has never asked anything
    /// goes before who has, and then whose last use is longest ago: a crowd that only connects must not push out a
    /// client that works, whose connection is idle for a moment.
    fn rank(&self, hurry: Hurry, most: usize) -> Option<(bool, u64)> {
        let (asked, used) = (self.asked.load(Ordering::Relaxed), self.used.load(Ordering::Relaxed));
        let since = self.count.load(Ordering::Relaxed).saturating_sub(used);
        let may_go = match (hurry, asked) {
            (Hurry::NoDescriptors, _) | (Hurry::NoSeats, true) => true,
            (_, false) => self.opened.elapsed() >= GRACE,
            (Hurry::FewSeats, true) => since >= most as u64,
        };
        let is_idle = self.busy.load(Ordering::Acquire) == 0 && !self.end.is_cancelled();
        (is_idle && may_go).then_some((asked, used))
    }
}

/// What is short.
#[derive(Clone, Copy, Debug)]
enum Hurry {
    /// Seats, just now: who was in use lately stays.
    FewSeats,
    /// Seats, for a while.
    NoSeats,
    NoDescriptors,
}

/// The open connections of a listener, in the order in which they came.
#[derive(Debug, Default)]
struct Open {
    sittings: VecDeque<Arc<Sitting>>,
    count: Arc<AtomicU64>,
}

impl Open {
    fn sit(&mut self, permit: OwnedSemaphorePermit) -> Seat {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let sitting = Arc::new(Sitting {
            busy: AtomicU32::new(0),
            used: AtomicU64::new(number),
            count: self.count.clone(),
            asked: AtomicBool::new(false),
            opened: Instant::now(),
            end: CancellationToken::new(),
        });
        // Those that have gone are dropped when the list has no more room, so that it grows with what is open only.
        if self.sittings.len() >= self.sittings.capacity() {
            self.sittings.retain(|sitting| !sitting.end.is_cancelled());
        }
        self.sittings.push_back(sitting.clone());
        Seat { permit: Arc::new(permit), sitting }
    }

    fn end_oldest(&mut self) {
        while let Some(oldest) = self.sittings.pop_front() {
            if !oldest.end.is_cancelled() {
                return oldest.end.cancel();
            }
        }
    }

    /// Ends the idle connection that can best be spared, of a listener with `most` seats.
    fn end_idle(&self, hurry: Hurry, most: usize) {
        let ranked = self.sittings.iter().filter_map(|sitting| Some((sitting.rank(hurry, most)?, sitting)));
        if let Some((_, first)) = ranked.min_by_key(|(rank, _)| *rank) {
            first.end.cancel();
        }
    }
}

impl Listener {
    /// Binds `address`; at most `most` connections will be open at once, and `full` says what happens then.
    ///
    /// # Errors
    /// When the address is in use or not ours.
    pub fn bind(address: SocketAddr, most: usize, full: Full) -> io::Result<Self> {
        let (socket, address) = socket(address, TcpSocket::new_v6)?;
        // A restarted sidecar must get its ports back while old connections linger in TIME_WAIT.
        socket.set_reuseaddr(true)?;
        if address.is_ipv6() {
            socket2::SockRef::from(&socket).set_only_v6(false)?;
        }
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, room: Arc::new(Semaphore::new(most)), most, full })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves every connection with `serve` until the tasks are ended. A drain does not stop it: an application
    /// that is still working opens new connections until it ends.
    pub async fn run<F, C>(self, tasks: Tasks, serve: F)
    where
        F: Fn(TcpStream, Seat) -> C,
        C: Future<Output = ()> + Send + 'static,
    {
        let mut open = Open::default();
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let Some(permit) = self.permit(&mut open).await else { return };
                    if tune(&stream).is_err() {
                        continue;
                    }
                    let seat = open.sit(permit);
                    tasks.spawn(until(serve(stream, seat.clone()), seat));
                }
                Err(error) => {
                    // EMFILE, ENOMEM, a connection reset in the queue: none of them ends the loop.
                    tracing::warn!(%error, address = %self.address, "cannot accept a connection");
                    // Without descriptors nobody gets in unless somebody goes.
                    for _ in 0..AT_ONCE {
                        open.end_idle(Hurry::NoDescriptors, self.most);
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn permit(&self, open: &mut Open) -> Option<OwnedSemaphorePermit> {
        let (mut hurry, mut wait) = (Hurry::FewSeats, SOON);
        loop {
            if self.room.available_permits() == 0 {
                match self.full {
                    Full::EndsOldest => open.end_oldest(),
                    Full::EndsIdle => open.end_idle(hurry, self.most),
                }
            }
            if let Ok(permit) = tokio::time::timeout(wait, self.room.clone().acquire_owned()).await {
                return permit.ok();
            }
            (hurry, wait) = (Hurry::NoSeats, AGAIN);
        }
    }
}

/// A socket of the address's family. Where the kernel has no IPv6 at all, "every address" is every one of IPv4.
fn socket(address: SocketAddr, six: impl FnOnce() -> io::Result<TcpSocket>) -> io::Result<(TcpSocket, SocketAddr)> {
    if address.is_ipv4() {
        return Ok((TcpSocket::new_v4()?, address));
    }
    match six() {
        Err(error) if error.raw_os_error() == Some(NO_FAMILY) && address.ip().is_unspecified() => {
            Ok((TcpSocket::new_v4()?, (Ipv4Addr::UNSPECIFIED, address.port()).into()))
        }
        made => Ok((made?, address)),
    }
}

async fn until<C: Future<Output = ()>>(connection: C, seat: Seat) {
    tokio::select! {
        () = connection => {}
        () = seat.ended() => {}
    }
}

/// What has ended is neither the oldest nor idle any more. A tunnel is no end: it keeps the seat.
impl Drop for Seat {
    fn drop(&mut self) {
        if Arc::strong_count(&self.permit) == 1 {
            self.sitting.end.cancel();
        }
    }
}

const BACKLOG: u32 = 1024;
const NO_FAMILY: i32 = rustix::io::Errno::AFNOSUPPORT.raw_os_error();
const PAUSE: Duration = Duration::from_millis(50);
/// How many idle connections are ended when there are no descriptors.
const AT_ONCE: usize = 16;
/// How long a new connection may take to ask something before another may have its place.
const GRACE: Duration = Duration::from_millis(250);
/// How long one waits for a place until those who are idle are looked at again: the first time, and then.
const SOON: Duration = Duration::from_millis(5);
const AGAIN: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        sync::mpsc,
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_only_connects_goes_before_who_works() {
        const MOST: usize = 4;
        let room = Arc::new(Semaphore::new(100));
        let mut open = Open::default();
        let sit = |open: &mut Open| open.sit(room.clone().try_acquire_owned().unwrap());
        let gone = |seat: &Seat| seat.sitting.end.is_cancelled();
        let (worker, silent) = (sit(&mut open), sit(&mut open));
        drop(worker.busy());
        tokio::time::advance(GRACE).await;
        let young = sit(&mut open);
        open.end_idle(Hurry::FewSeats, MOST);
        assert!(gone(&silent) && !gone(&worker) && !gone(&young), "it has had its time to ask");
        open.end_idle(Hurry::FewSeats, MOST);
        assert!(!gone(&worker) && !gone(&young), "one was in use lately, the other is new");
        let at_work = worker.busy();
        open.end_idle(Hurry::NoSeats, MOST);
        assert!(!gone(&worker), "never in the middle of something");
        drop(at_work);
        let crowd: Vec<Seat> = (0..MOST).map(|_| sit(&mut open)).collect();
        open.end_idle(Hurry::FewSeats, MOST);
        assert!(gone(&worker) && !crowd.iter().any(gone), "as many have come since as there are seats");
        drop(crowd[0].busy());
        open.end_idle(Hurry::NoSeats, MOST);
        assert!(gone(&crowd[0]), "where nobody else can be spared");
        open.end_idle(Hurry::NoDescriptors, MOST);
        assert!(gone(&young), "without descriptors there is no grace");
    }

    #[test]
    fn without_ipv6_every_address_is_every_one_of_ipv4_and_nothing_else_changes() {
        let none = || Err(io::Error::from_raw_os_error(NO_FAMILY));
        let of = |address: &str| socket(address.parse().unwrap(), none).map(|(_, address)| address.to_string()).ok();
        assert_eq!(of("[::]:14190").as_deref(), Some("0.0.0.0:14190"));
        assert_eq!(of("[::1]:14190"), None);
        assert_eq!(of("127.0.0.1:1").as_deref(), Some("127.0.0.1:1"));
        let full = || Err(io::Error::from(io::ErrorKind::OutOfMemory));
        assert!(socket("[::]:1".parse().unwrap(), full).is_err());
    }

    async fn start(full: Full) -> (SocketAddr, mpsc::Receiver<(TcpStream, Seat)>, Tasks) {
        let (serve, served) = mpsc::channel(16);
        let (tasks, loopback) = (Tasks::new(), SocketAddr::from(([127, 0, 0, 1], 0)));
        let listener = Listener::bind(loopback, 1, full).unwrap();
        let address = listener.address();
        tasks.spawn(listener.run(tasks.clone(), move |stream, seat| {
            let serve = serve.clone();
            async move {
                // A connection whose stream goes on elsewhere, as after CONNECT.
                let _ = serve.send((stream, seat)).await;
            }
        }));
        (address, served, tasks)
    }

    #[tokio::test]
    async fn a_seat_is_taken_until_the_last_of_the_connection_has_gone() {
        let (address, mut served, tasks) = start(Full::EndsIdle).await;
        let (_one, _two) = (TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap());
        let (stream, seat) = served.recv().await.unwrap();
        drop(stream);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(served.try_recv().is_err(), "the first one's seat was given away");
        drop(seat);
        assert!(served.recv().await.is_some());
        tasks.end();
    }

    #[tokio::test]
    async fn a_client_may_look_at_what_it_has_for_as_long_as_it_likes() {
        let (address, mut served, tasks) = start(Full::EndsIdle).await;
        let _client = TcpStream::connect(address).await.unwrap();
        let (stream, _seat) = served.recv().await.unwrap();
        let socket = socket2::SockRef::from(&stream);
        assert_eq!(socket.tcp_user_timeout().unwrap(), None, "the kernel would end a client whose window is shut");
        assert!(socket.keepalive().unwrap(), "one that is dead must still be noticed");
        tasks.end();
    }

    #[tokio::test]
    async fn where_the_oldest_ends_a_newcomer_is_served() {
        let tasks = Tasks::new();
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)), 2, Full::EndsOldest).unwrap();
        let address = listener.address();
        tasks.spawn(listener.run(tasks.clone(), |mut stream, _seat| async move {
            let mut asked = [0];
            if stream.read_exact(&mut asked).await.is_ok() {
                let _ = stream.write_all(&asked).await;
            }
        }));
        let mut silent = Vec::new();
        for _ in 0..8 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let mut probe = TcpStream::connect(address).await.unwrap();
        probe.write_all(b"?").await.unwrap();
        let mut answer = [0];
        probe.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"?");
        assert_eq!(silent[0].read(&mut answer).await.unwrap(), 0, "the oldest was not ended");
        tasks.end();
    }
}
