//! The doors that answer by themselves, put on their listeners.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use prometheus::IntGauge;

use super::{Ground, Shared, identity::Source};
use crate::{
    admin::{control, health},
    metadata_server::Server,
    net::{http as server, listener::Listener},
    token_api::Door,
};

/// The metadata server.
pub(super) fn serve_metadata(ground: &Ground, listener: Listener, door: Arc<Server<Source>>) {
    serve(ground, listener, "metadata", move |request| {
        let door = door.clone();
        async move { door.handle(request).await }
    });
}

/// Tokens handed out.
pub(super) fn serve_token_api(ground: &Ground, listener: Listener, door: Arc<Door>) {
    serve(ground, listener, "token_api", move |request| {
        let door = door.clone();
        async move { door.handle(request).await }
    });
}

/// Probes and metrics. `serving` says whether the other doors are open, `freshen` brings the reasons of what is waited
/// for up to date.
pub(super) fn serve_health(
    ground: &Ground,
    listener: Listener,
    serving: bool,
    freshen: impl Fn() + Send + Sync + 'static,
) {
    let held = ground.clone();
    serve(ground, listener, "health", move |request| {
        freshen();
        let answer = health::respond(&request, &held.ready, serving, || held.metrics.render());
        async move { answer }
    });
}

/// The status page, its JSON, and `quit`.
pub(super) fn serve_control(shared: &Arc<Shared>, listener: Listener) {
    let held = shared.clone();
    serve(&shared.ground, listener, "control", move |request| {
        let reply = control::respond(&request, || held.status());
        if reply.quit {
            tracing::info!("asked to quit");
            held.ground.tasks.drain();
        }
        async move { reply.answer }
    });
}

fn serve<H, F>(ground: &Ground, listener: Listener, door: &'static str, answer: H)
where
    H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let (tasks, clock, answer) = (ground.tasks.clone(), ground.clock, Arc::new(answer));
    let active = ground.metrics.connections_active.with_label_values(&[door]);
    ground.tasks.spawn(listener.run(ground.tasks.clone(), move |stream, _| {
        let (tasks, answer, active) = (tasks.clone(), answer.clone(), active.clone());
        async move {
            let _counted = Counted::new(active);
            server::serve(stream, clock, &tasks, answer).await;
        }
    }));
}

/// One open connection on the metrics page, however it ends.
struct Counted(IntGauge);

impl Counted {
    fn new(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
