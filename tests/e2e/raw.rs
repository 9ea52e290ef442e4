//! Bytes as a client that is no library sends them.

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

use crate::{bed::Bed, client::within};

/// One answer, read by hand.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Its status; 0 when there was no answer.
    pub(crate) fn status(&self) -> u16 {
        self.head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// A field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

/// The proxy port.
pub(crate) async fn proxy(bed: &Bed) -> TcpStream {
    let stream = TcpStream::connect(bed.addresses.proxy.unwrap()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Writes; a peer that has gone already shows when we read.
pub(crate) async fn write(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    let _ = stream.write_all(bytes).await;
    let _ = stream.flush().await;
}

/// Reads one answer: its head, and a body if `Content-Length` says so.
pub(crate) async fn answer(stream: &mut (impl AsyncRead + Unpin)) -> Answer {
    within("an answer", async {
        let head = head(stream).await;
        let mut answer = Answer { head, body: Vec::new() };
        let length: usize = answer.field("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        answer.body.resize(length, 0);
        if stream.read_exact(&mut answer.body).await.is_err() {
            answer.body.clear();
        }
        answer
    })
    .await
}

/// Reads up to the end of a head, or of the stream.
pub(crate) async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { break };
        head.push(byte);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// Reads to the end, however it comes.
pub(crate) async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut rest = Vec::new();
    within("the end of a connection", async {
        let _ = stream.read_to_end(&mut rest).await;
    })
    .await;
    rest
}
