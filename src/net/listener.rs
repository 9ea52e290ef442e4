//! Accepting connections: bound early, never ended by an error, bounded in number.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use crate::{net::dial::tune, shutdown::Tasks};

/// A bound listener; its address is known before anything is served.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
    room: Arc<Semaphore>,
}

impl Listener {
    /// Binds `address`; at most `most` connections will be open at once.
    ///
    /// # Errors
    /// When the address is in use or not ours.
    pub fn bind(address: SocketAddr, most: usize) -> io::Result<Self> {
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
        Ok(Self { listener, address, room: Arc::new(Semaphore::new(most)) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves every connection with `serve` until the tasks are ended. A drain does not stop it: an application
    /// that is still working opens new connections until it ends.
    pub async fn run<F, C>(self, tasks: Tasks, serve: F)
    where
        F: Fn(TcpStream, SocketAddr) -> C,
        C: Future<Output = ()> + Send + 'static,
    {
        loop {
            let Ok(permit) = self.room.clone().acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, client)) => {
                    if tune(&stream).is_err() {
                        continue;
                    }
                    tasks.spawn(holding(permit, serve(stream, client)));
                }
                Err(error) => {
                    // EMFILE, ENOMEM, a connection reset in the queue: none of them ends the loop.
                    tracing::warn!(%error, address = %self.address, "cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

async fn holding<C: Future<Output = ()>>(permit: OwnedSemaphorePermit, connection: C) {
    connection.await;
    drop(permit);
}

const BACKLOG: u32 = 1024;
const PAUSE: Duration = Duration::from_millis(50);
