//! Serves every case of the verifier matrix on a port of its own until standard input ends.
//!
//! Prints one line of JSON: where the trust files are, and each case with its port.
//! `run` beside it starts this and sends real clients to it.

#[path = "../../verifiers/forge.rs"]
mod forge;

use std::{
    env,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    sync::Arc,
    thread,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

fn main() -> anyhow::Result<()> {
    let place =
        env::args_os().nth(1).map(PathBuf::from).ok_or_else(|| anyhow::anyhow!("usage: verifiers DIRECTORY"))?;
    let (trust, cases) = forge::cases(&place);
    let mut listed = Vec::new();
    for case in cases {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listed.push(serde_json::json!({
            "name": case.name, "host": case.host, "accept": case.accept,
            "port": listener.local_addr()?.port(),
        }));
        thread::spawn(move || serve(&listener, &case.config));
    }
    let plan = serde_json::json!({ "bundle": trust.bundle, "truststore": trust.truststore, "cases": listed });
    writeln!(io::stdout(), "{plan}")?;
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn serve(listener: &TcpListener, config: &Arc<ServerConfig>) {
    for stream in listener.incoming().flatten() {
        // A refusal by the client ends here as an error, which is what most cases are about.
        let _ = answer(stream, config);
    }
}

fn answer(stream: TcpStream, config: &Arc<ServerConfig>) -> io::Result<()> {
    let connection = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    let mut tls = StreamOwned::new(connection, stream);
    tls.read_exact(&mut [0; 16])?;
    tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n")?;
    tls.conn.send_close_notify();
    tls.flush()
}
