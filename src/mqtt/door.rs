//! One client's connection: its CONNECT, a broker that proved its name, a token, and the session.

use std::{io::ErrorKind, sync::Arc, time::Duration};

use bytes::BytesMut;
use prometheus::IntGauge;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    Parts,
    connect::{self, Code, Connect, Refused, connack},
    login::log_in,
    packet::Malformed,
    quiet::is_worth_a_session,
    session::{End, FAREWELL, Session, Terms, Why, exhaust},
};
use crate::{
    net::{
        listener::Seat,
        verified::{ConnectError, Verified},
    },
    token::{Bearer, Handle, Unavailable},
};

/// Serves one connection until it ends.
pub(super) async fn serve(parts: &Parts, mut client: TcpStream, seat: Seat) {
    let _active = Active::new(parts);
    let (connect, early) = match first_packet(&mut client).await {
        Ok(Some(first)) => first,
        Ok(None) => return,
        Err(refusal) => return refuse(parts, client, &refusal).await,
    };
    let _held = (parts.tasks.begin(), seat.busy());
    let opened = tokio::select! {
        biased;
        opened = open(parts, &connect) => opened,
        () = gone(&client, &early) => {
            tracing::info!("a client left before its MQTT session began");
            return;
        }
    };
    match opened {
        Ok((broker, terms)) => {
            tracing::info!(upstream = %parts.settings.upstream, generation = terms.generation, "an MQTT session begins");
            let end = Session::new(connect.version).run(&mut client, broker, early, &terms).await;
            ended(parts, end);
            if !matches!(end, End::Closed(_)) {
                part(client).await;
            }
        }
        Err(failure) => {
            let refusal = Refusal {
                label: failure.label,
                message: failure.message,
                answer: Some(connack(connect.version, Code::Unavailable)),
            };
            refuse(parts, client, &refusal).await;
        }
    }
}

/// A connection that gets no session.
struct Refusal {
    label: &'static str,
    message: String,
    answer: Option<Vec<u8>>,
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        Self { label: refused.label(), message: refused.to_string(), answer: refused.answer() }
    }
}

/// Why there is no session for a good CONNECT.
struct Failure {
    label: &'static str,
    message: String,
}

impl From<Unavailable> for Failure {
    fn from(unavailable: Unavailable) -> Self {
        Self { label: unavailable.reason, message: unavailable.message }
    }
}

/// The CONNECT, and what came behind it. `None` = the client went away.
async fn first_packet(client: &mut TcpStream) -> Result<Option<(Connect, BytesMut)>, Refusal> {
    let mut buffer = BytesMut::new();
    let whole = async {
        loop {
            if let Some(length) = connect::length(&buffer)?
                && buffer.len() >= length
            {
                let packet = buffer.split_to(length);
                return Connect::read(&packet).map(Some);
            }
            if client.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return Ok(None);
            }
        }
    };
    match timeout(FIRST, whole).await {
        Ok(Ok(connect)) => Ok(connect.map(|connect| (connect, buffer))),
        Ok(Err(refused)) => Err(refused.into()),
        Err(_) => {
            let message = format!("no CONNECT within {} s", FIRST.as_secs());
            Err(Refusal { label: "mqtt_timeout", message, answer: None })
        }
    }
}

/// Completes when the client has left with no word after its CONNECT. To log it in nevertheless would end the session that
/// it may have begun meanwhile under the same client id, and then publish its will. Who has said more is served to the
/// end: it need not wait for CONNACK (MQTT 3.1.1 §3.1.4).
async fn gone(client: &TcpStream, early: &BytesMut) {
    if !early.is_empty() || client.peek(&mut [0]).await.is_ok_and(|read| read > 0) {
        std::future::pending().await
    }
}

/// The broker's side of a session that has been sent its CONNECT. Nothing is dialled while there is no token.
async fn open(
    parts: &Parts,
    connect: &Connect,
) -> Result<(impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + use<>, Terms), Failure> {
    let settings = &parts.settings;
    let no_credential =
        || Failure { label: "removed", message: "the credential was removed from the configuration".to_owned() };
    if !parts.standing.holds() {
        return Err(removed());
    }
    let handle = parts.tokens.main(&settings.credential).ok_or_else(no_credential)?;
    wait_for_token(parts, &handle).await?;
    let broker = Verified::connect_to_broker(&parts.dialer, &parts.tls, &settings.upstream);
    let broker = broker.await.map_err(|error| unreachable(parts, &error))?;
    // Asked for again: meanwhile a newer one may have come, and the one that was there may have ended.
    let token = long_enough(parts, &handle).ok_or_else(short)?;
    // Behind the token: new settings change the entries first, so that one of a later credential is never sent.
    if !parts.standing.holds() {
        return Err(removed());
    }
    if handle.has_ended() {
        return Err(no_credential());
    }
    let sent = timeout(WAIT, log_in(broker, connect, &settings.username, &token)).await;
    let stream = sent.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())).map_err(|error| Failure {
        label: "closed",
        message: format!("the broker took no CONNECT ({})", error.kind()),
    })?;
    let terms = Terms {
        clock: parts.clock,
        tasks: parts.tasks.clone(),
        standing: parts.standing.clone(),
        handle,
        generation: token.generation,
        issued: token.issued,
        expires: token.expires,
        is_late: parts.tasks.is_draining(),
    };
    Ok((stream, terms))
}

/// Until there is one that lives long enough for a session.
async fn wait_for_token(parts: &Parts, handle: &Handle) -> Result<(), Failure> {
    let token = handle.wait(WAIT).await?;
    if !is_worth_a_session(parts.clock.now(), token.expires) {
        timeout(WAIT, handle.newer_than(token.generation)).await.map_err(|_| short())?;
    }
    Ok(())
}

fn long_enough(parts: &Parts, handle: &Handle) -> Option<Arc<Bearer>> {
    handle.current().filter(|token| is_worth_a_session(parts.clock.now(), token.expires))
}

fn removed() -> Failure {
    let message = "its entry of `mqtt` is not in the configuration any more; what is there opens at the next start";
    Failure { label: "mqtt_removed", message: message.to_owned() }
}

fn short() -> Failure {
    let message = "the token is about to end, and there is no newer one yet".to_owned();
    Failure { label: "mqtt_short_token", message }
}

fn unreachable(parts: &Parts, error: &ConnectError) -> Failure {
    parts.metrics.upstream_connect_errors.with_label_values(&[error.label()]).inc();
    Failure { label: error.label(), message: format!("the broker could not be reached: {error}") }
}

async fn refuse(parts: &Parts, mut client: TcpStream, refusal: &Refusal) {
    parts.metrics.requests_refused.with_label_values(&[refusal.label]).inc();
    tracing::warn!(reason = refusal.label, "refused an MQTT connection: {}", refusal.message);
    if let Some(answer) = &refusal.answer {
        let _ = client.write_all(answer).await;
    }
    part(client).await;
}

/// Closes so that what was sent arrives: a socket that is closed with bytes unread resets the connection.
async fn part(mut client: TcpStream) {
    let _ = client.shutdown().await;
    let _ = timeout(FAREWELL, exhaust(&mut client)).await;
}

fn ended(parts: &Parts, end: End) {
    match end {
        End::Goodbye => tracing::info!("an MQTT session ended by the client's DISCONNECT"),
        End::ClientLeft => tracing::info!("an MQTT session ended: the client left without DISCONNECT"),
        End::BrokerLeft => tracing::info!("an MQTT session ended by the broker"),
        End::Closed(Why::Expiry) => tracing::info!("an MQTT session was closed in order, before its token ends"),
        End::Closed(Why::Drain) => tracing::info!("an MQTT session was closed in order, since this sidecar ends"),
        End::Closed(Why::Removed) => tracing::info!("an MQTT session was closed in order, since its entry is gone"),
        End::ClientBroke(error) => broke(parts, label(error), "client", error),
        End::BrokerBroke(error) => broke(parts, "mqtt_answer", "broker", error),
    }
}

fn broke(parts: &Parts, label: &'static str, side: &'static str, error: Malformed) {
    parts.metrics.requests_refused.with_label_values(&[label]).inc();
    tracing::warn!(reason = label, side, "an MQTT session was ended: {error}");
}

fn label(error: Malformed) -> &'static str {
    match error {
        Malformed::SecondConnect => "mqtt_second_connect",
        Malformed::Auth => "mqtt_auth",
        _ => "mqtt_packet",
    }
}

/// Counts an open connection until dropped.
struct Active(IntGauge);

impl Active {
    fn new(parts: &Parts) -> Self {
        let gauge = parts.metrics.connections_active.with_label_values(&["mqtt"]);
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// From the connection to the end of its CONNECT.
const FIRST: Duration = Duration::from_secs(10);
const WAIT: Duration = Duration::from_secs(10);
