//! A host that writes down every byte: the proof that nothing reached it.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};
use tokio_rustls::TlsAcceptor;

use super::{
    google::FakeGoogle,
    script::{Certificate, Protocols},
    state::lock,
};
use crate::shutdown::Tasks;

/// A listener on loopback that records, and answers only what it was given.
#[derive(Clone, Debug)]
pub struct RecordingHost {
    address: SocketAddr,
    seen: Arc<Seen>,
}

/// One connection it had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordedConnection {
    /// Whether TLS was completed; false on a plain host.
    pub handshaken: bool,
    /// What came, after TLS where there is TLS; at most the first 256 KiB.
    pub bytes: Vec<u8>,
    /// How much came in all.
    pub length: u64,
    /// Whether the other side has ended.
    pub closed: bool,
}

#[derive(Debug, Default)]
struct Seen {
    connections: Mutex<Vec<RecordedConnection>>,
    total: watch::Sender<u64>,
    /// Bumped at every change of the record.
    changes: watch::Sender<u64>,
}

impl RecordingHost {
    /// Plain TCP. The answer, if any, is written once after the first bytes have come.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(tasks: &Tasks, answer: Option<Bytes>) -> io::Result<Self> {
        Self::bind(tasks, None, answer).await
    }

    /// TLS with a good certificate of `google`'s CA for `name`: a host that looks right to a client
    /// which trusts that CA.
    ///
    /// # Errors
    /// When no port can be bound or no certificate be made.
    pub async fn start_tls(
        tasks: &Tasks,
        google: &FakeGoogle,
        name: &str,
        protocols: Protocols,
        answer: Option<Bytes>,
    ) -> io::Result<Self> {
        let config = google.state().certificates.server(name, Certificate::Right, protocols)?;
        Self::bind(tasks, Some(TlsAcceptor::from(config)), answer).await
    }

    async fn bind(tasks: &Tasks, tls: Option<TlsAcceptor>, answer: Option<Bytes>) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let host = Self { address: listener.local_addr()?, seen: Arc::default() };
        tasks.spawn(accept(listener, host.seen.clone(), tls, answer, tasks.clone()));
        Ok(host)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections so far, the first 1024 of them.
    pub fn connections(&self) -> Vec<RecordedConnection> {
        lock(&self.seen.connections).clone()
    }

    /// How many connections there were.
    pub fn connection_count(&self) -> u64 {
        *self.seen.total.borrow()
    }

    /// How many bytes came on all recorded connections together.
    pub fn byte_count(&self) -> u64 {
        lock(&self.seen.connections).iter().map(|connection| connection.length).sum()
    }

    /// Whether any connection brought these bytes.
    pub fn saw(&self, needle: &[u8]) -> bool {
        let connections = lock(&self.seen.connections);
        connections.iter().any(|connection| connection.bytes.windows(needle.len().max(1)).any(|at| at == needle))
    }

    /// Completes when the record looks like this.
    pub async fn until(&self, wanted: impl Fn(&[RecordedConnection]) -> bool) {
        let mut changes = self.seen.changes.subscribe();
        while !wanted(&lock(&self.seen.connections)) {
            // The sender lives in `self`, so this never errs.
            let _ = changes.changed().await;
        }
    }
}

impl Seen {
    fn change(&self, index: usize, change: impl FnOnce(&mut RecordedConnection)) {
        if let Some(connection) = lock(&self.connections).get_mut(index) {
            change(connection);
        }
        self.changes.send_modify(|count| *count += 1);
    }

    fn open(&self) -> usize {
        let mut connections = lock(&self.connections);
        let index = connections.len();
        if index < MAX_RECORDED {
            connections.push(RecordedConnection::default());
        }
        drop(connections);
        self.total.send_modify(|count| *count += 1);
        self.changes.send_modify(|count| *count += 1);
        index
    }
}

async fn accept(listener: TcpListener, seen: Arc<Seen>, tls: Option<TlsAcceptor>, answer: Option<Bytes>, tasks: Tasks) {
    let places = Arc::new(Semaphore::new(MAX_RECORDED));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        // Counted before a byte is read: a connection alone can be too much.
        let index = seen.open();
        let (seen, tls, answer) = (seen.clone(), tls.clone(), answer.clone());
        tasks.spawn(async move {
            serve(stream, &seen, index, tls, answer).await;
            seen.change(index, |connection| connection.closed = true);
            drop(place);
        });
    }
}

async fn serve(stream: TcpStream, seen: &Seen, index: usize, tls: Option<TlsAcceptor>, answer: Option<Bytes>) {
    let Some(tls) = tls else {
        let _ = record(stream, seen, index, answer).await;
        return;
    };
    if let Ok(stream) = tls.accept(stream).await {
        seen.change(index, |connection| connection.handshaken = true);
        let _ = record(stream, seen, index, answer).await;
    }
}

async fn record(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    seen: &Seen,
    index: usize,
    mut answer: Option<Bytes>,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        seen.change(index, |connection| {
            connection.length += read as u64;
            let room = MAX_BYTES.saturating_sub(connection.bytes.len()).min(read);
            connection.bytes.extend_from_slice(&buffer[..room]);
        });
        if let Some(answer) = answer.take() {
            stream.write_all(&answer).await?;
            stream.flush().await?;
        }
    }
}

const MAX_RECORDED: usize = 1024;

const MAX_BYTES: usize = 256 << 10;
