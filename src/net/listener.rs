//! Accepting connections: bound early, never ended by an error, bounded in number.

use std::{collections::VecDeque, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;

use crate::{net::dial::tune, shutdown::Tasks};

/// A bound listener; its address is known before anything is served.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
    room: Arc<Semaphore>,
    full: Full,
}

/// What happens when no more connections may be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The next one waits until one ends.
    Waits,
    /// The oldest one ends: where strangers may connect, those who only hold connections must not keep probes out.
    EndsOldest,
}

/// The place of one connection among those that may be open. Whatever carries on with its stream keeps a clone.
#[derive(Clone, Debug)]
pub struct Seat {
    _permit: Arc<OwnedSemaphorePermit>,
}

impl Listener {
    /// Binds `address`; at most `most` connections will be open at once, and `full` says what happens then.
    ///
    /// # Errors
    /// When the address is in use or not ours.
    pub fn bind(address: SocketAddr, most: usize, full: Full) -> io::Result<Self> {
        let socket = match address {
            SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
            SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
        };
        // A restarted sidecar must get its ports back while old connections linger in TIME_WAIT.
        socket.set_reuseaddr(true)?;
        if address.is_ipv6() {
            socket2::SockRef::from(&socket).set_only_v6(false)?;
        }
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, room: Arc::new(Semaphore::new(most)), full })
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
        let mut open = VecDeque::new();
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let Some(permit) = self.permit(&mut open).await else { return };
                    if tune(&stream).is_err() {
                        continue;
                    }
                    let end = CancellationToken::new();
                    if self.full == Full::EndsOldest {
                        open.push_back(end.clone());
                    }
                    let seat = Seat { _permit: Arc::new(permit) };
                    tasks.spawn(until(end, serve(stream, seat.clone()), seat));
                }
                Err(error) => {
                    // EMFILE, ENOMEM, a connection reset in the queue: none of them ends the loop.
                    tracing::warn!(%error, address = %self.address, "cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn permit(&self, open: &mut VecDeque<CancellationToken>) -> Option<OwnedSemaphorePermit> {
        open.retain(|end| !end.is_cancelled());
        if self.full == Full::EndsOldest
            && self.room.available_permits() == 0
            && let Some(oldest) = open.pop_front()
        {
            oldest.cancel();
        }
        self.room.clone().acquire_owned().await.ok()
    }
}

async fn until<C: Future<Output = ()>>(end: CancellationToken, connection: C, seat: Seat) {
    tokio::select! {
        () = connection => {}
        () = end.cancelled() => {}
    }
    // What has ended is not the oldest any more.
    end.cancel();
    drop(seat);
}

const BACKLOG: u32 = 1024;
const PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        sync::mpsc,
    };

    use super::*;

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
        let (address, mut served, tasks) = start(Full::Waits).await;
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
