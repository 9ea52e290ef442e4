//! A corporate proxy, as small as one can be.

use std::{net::SocketAddr, sync::Arc};

use bearerd::shutdown::Tasks;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};

use crate::raw;

/// Tunnels whatever is asked for to one address, and remembers what was asked.
pub(crate) struct Parent {
    pub(crate) address: SocketAddr,
    heads: Arc<std::sync::Mutex<Vec<String>>>,
}

impl Parent {
    /// `wants` is the `Proxy-Authorization` without which it answers 407.
    pub(crate) async fn start(tasks: &Tasks, to: SocketAddr, wants: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
        let (own, seen) = (tasks.clone(), heads.clone());
        tasks.spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let seen = seen.clone();
                own.spawn(async move {
                    let head = raw::head(&mut client).await;
                    let may = wants.is_none_or(|wants| head.contains(&format!("\r\nProxy-Authorization: {wants}\r\n")));
                    seen.lock().unwrap().push(head);
                    if !may {
                        let _ = client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await;
                        return;
                    }
                    let _ = client.write_all(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 corp\r\n\r\n").await;
                    let mut upstream = TcpStream::connect(to).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
                });
            }
        });
        Self { address, heads }
    }

    /// The heads of all CONNECTs so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}
