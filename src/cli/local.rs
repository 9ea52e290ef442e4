//! `ready` and `quit`: what a probe, an entrypoint or a script asks of the running sidecar.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    process::ExitCode,
    time::Duration,
};

use super::{LocalArgs, ReadyArgs};
use crate::{
    app::Origin,
    config::{self, ListenerSettings},
};

/// Exit 0 when the sidecar has started, within `--wait`.
pub(super) fn ready(args: &ReadyArgs) -> anyhow::Result<ExitCode> {
    let address = address(&args.local, "health", |listeners| listeners.health)?;
    let attempts = args.wait.as_millis() / PAUSE.as_millis() + 1;
    let mut last = String::new();
    for attempt in 0..attempts {
        if attempt > 0 {
            std::thread::sleep(PAUSE);
        }
        match ask(address, "GET /startupz HTTP/1.1") {
            Ok((200, _)) => return Ok(ExitCode::SUCCESS),
            Ok((503, body)) => last = format!("the sidecar has not started yet\n{}", body.trim()),
            Ok((status, _)) => last = format!("what answers on {address} is no sidecar (status {status})"),
            Err(error) => last = nobody(address, &error),
        }
    }
    anyhow::bail!(last)
}

/// Asks for the end.
pub(super) fn quit(args: &LocalArgs) -> anyhow::Result<ExitCode> {
    let address = address(args, "control", |listeners| listeners.control)?;
    match ask(address, "POST /quit HTTP/1.1\r\nX-Bearerd-Quit: true\r\nContent-Length: 0") {
        Ok((202, _)) => Ok(ExitCode::SUCCESS),
        Ok((status, body)) => anyhow::bail!("the sidecar did not accept (status {status}): {}", body.trim()),
        Err(error) => anyhow::bail!(nobody(address, &error)),
    }
}

fn nobody(address: SocketAddr, error: &io::Error) -> String {
    format!(
        "no sidecar answers on {address} ({error}); --config FILE says where it listens, if not on the default port"
    )
}

fn address(
    args: &LocalArgs,
    name: &str,
    of: impl Fn(&ListenerSettings) -> Option<SocketAddr>,
) -> anyhow::Result<SocketAddr> {
    let origin = Origin { config: args.config.written(), ..Origin::default() };
    // A configuration that is bad elsewhere still says where the sidecar answers.
    let listeners = origin.read().map_or_else(|_| ListenerSettings::default(), |sources| config::listeners(&sources));
    let Some(address) = of(&listeners) else {
        anyhow::bail!("listeners.{name} is off, so nobody can be asked");
    };
    anyhow::ensure!(address.port() != 0, "listeners.{name}: port 0 is another one at every start; give a fixed port");
    Ok(match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, address.port()).into(),
        IpAddr::V6(ip) if ip.is_unspecified() => (Ipv6Addr::LOCALHOST, address.port()).into(),
        _ => address,
    })
}

/// One small request. Where `::1` does not exist, `127.0.0.1` does.
fn ask(address: SocketAddr, head: &str) -> io::Result<(u16, String)> {
    let fallback = SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()));
    let mut stream = match TcpStream::connect_timeout(&address, TIMEOUT) {
        Err(_) if address.ip() == Ipv6Addr::LOCALHOST => TcpStream::connect_timeout(&fallback, TIMEOUT)?,
        connected => connected?,
    };
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream
        .write_all(format!("{head}\r\nHost: localhost:{}\r\nConnection: close\r\n\r\n", address.port()).as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MOST_ANSWER).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.get(9..12).and_then(|digits| digits.parse().ok());
    let status = status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"))?;
    Ok((status, answer.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned())))
}

const PAUSE: Duration = Duration::from_millis(50);
const TIMEOUT: Duration = Duration::from_secs(2);
const MOST_ANSWER: u64 = 64 * 1024;
