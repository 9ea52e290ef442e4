//! An API server with one Secret, two registrations and a list of Events. Writes on an old version are refused.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bearerd::{
    net::listener::{Full, Listener},
    shutdown::Tasks,
};
use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::BodyExt;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

pub(crate) struct Cluster {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    tasks: Tasks,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) secret: Option<Value>,
    pub(crate) mutating: Value,
    pub(crate) validating: Option<Value>,
    pub(crate) events: Vec<Value>,
    pub(crate) creations: usize,
    pub(crate) conflicts: usize,
    /// Answers nothing but 503.
    pub(crate) is_down: bool,
    versions: u64,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let hook = |name: &str| json!({"name": name, "clientConfig": {"service": {"name": "bearerd"}}, "sideEffects": "None", "admissionReviewVersions": ["v1"]});
        let registration = |hooks: &[&str]| {
            let hooks: Vec<Value> = hooks.iter().map(|name| hook(name)).collect();
            json!({"metadata": {"name": "bearerd", "resourceVersion": "1"}, "webhooks": hooks})
        };
        let state = Arc::new(Mutex::new(State {
            mutating: registration(&["pod.inject.bearerd.dev", "namespace.inject.bearerd.dev"]),
            validating: Some(registration(&["template.inject.bearerd.dev"])),
            versions: 1,
            ..State::default()
        }));
        let tasks = Tasks::new();
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)), 64, Full::EndsIdle).unwrap();
        let address = listener.address();
        let held = state.clone();
        tasks.spawn(listener.run(tasks.clone(), move |stream, _| {
            let held = held.clone();
            async move {
                let service = service_fn(move |request| answer(held.clone(), request));
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            }
        }));
        Self { address, state, tasks }
    }

    pub(crate) fn client(&self) -> kube::Client {
        let mut config = kube::Config::new(format!("http://{}", self.address).parse().unwrap());
        config.default_retry = false;
        kube::Client::try_from(config).unwrap()
    }

    pub(crate) fn state<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap())
    }

    /// The bundle of the first entry, as PEM.
    pub(crate) fn bundle(&self) -> Vec<u8> {
        self.state(|state| bundle(&state.mutating, 0))
    }

    /// Every bundle, as PEM.
    pub(crate) fn bundles(&self) -> Vec<Vec<u8>> {
        self.state(|state| {
            let mut bundles = vec![bundle(&state.mutating, 0), bundle(&state.mutating, 1)];
            bundles.extend(state.validating.as_ref().map(|found| bundle(found, 0)));
            bundles
        })
    }

    /// One part of the Secret, as text.
    pub(crate) fn part(&self, key: &str) -> Option<String> {
        self.state(|state| {
            let text = state.secret.as_ref()?.pointer(&format!("/data/{key}"))?.as_str()?.to_owned();
            String::from_utf8(STANDARD.decode(text).unwrap()).ok()
        })
    }

    /// As `kubectl annotate`.
    pub(crate) fn annotate(&self, key: &str, value: &str) {
        self.state(|state| {
            let version = state.version();
            let secret = state.secret.as_mut().unwrap();
            secret["metadata"]["annotations"][key] = json!(value);
            secret["metadata"]["resourceVersion"] = json!(version);
        });
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.tasks.end();
    }
}

impl State {
    pub(crate) fn version(&mut self) -> String {
        self.versions += 1;
        self.versions.to_string()
    }
}

fn bundle(registration: &Value, at: usize) -> Vec<u8> {
    let text = registration["webhooks"][at]["clientConfig"]["caBundle"].as_str().unwrap_or_default();
    STANDARD.decode(text).unwrap()
}

type Answer = Response<http_body_util::Full<Bytes>>;

async fn answer(state: Arc<Mutex<State>>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let kind = head.headers.get(header::CONTENT_TYPE).map(|kind| kind.to_str().unwrap().to_owned());
    let mut state = state.lock().unwrap();
    let (code, body) = if state.is_down {
        failure(503, "ServiceUnavailable")
    } else {
        respond(&mut state, &head.method, head.uri.path(), kind.as_deref(), body)
    };
    let answer = Response::builder().status(code).header(header::CONTENT_TYPE, "application/json");
    Ok(answer.body(Bytes::from(body.to_string()).into()).unwrap())
}

fn respond(state: &mut State, method: &Method, path: &str, kind: Option<&str>, body: Value) -> (u16, Value) {
    const SECRETS: &str = "/api/v1/namespaces/bearerd/secrets";
    const HOOKS: &str = "/apis/admissionregistration.k8s.io/v1";
    let secret = format!("{SECRETS}/bearerd-webhook-ca");
    let mutating = format!("{HOOKS}/mutatingwebhookconfigurations/bearerd");
    let validating = format!("{HOOKS}/validatingwebhookconfigurations/bearerd");
    match (method.as_str(), path) {
        ("GET", path) if path == secret => found(state.secret.as_ref()),
        ("POST", SECRETS) if state.secret.is_some() => {
            state.conflicts += 1;
            failure(409, "AlreadyExists")
        }
        ("POST", SECRETS) => {
            state.creations += 1;
            keep(state, body)
        }
        ("PUT", path) if path == secret => {
            let held = state.secret.as_ref().map(|held| held["metadata"]["resourceVersion"].clone());
            match held {
                None => failure(404, "NotFound"),
                Some(version) if version == body["metadata"]["resourceVersion"] => keep(state, body),
                Some(_) => {
                    state.conflicts += 1;
                    failure(409, "Conflict")
                }
            }
        }
        ("GET", path) if path == mutating => found(Some(&state.mutating)),
        ("GET", path) if path == validating => found(state.validating.as_ref()),
        ("PATCH", path) if path == mutating || path == validating => {
            assert_eq!(kind, Some("application/strategic-merge-patch+json"));
            let version = state.version();
            let held = if path == mutating { Some(&mut state.mutating) } else { state.validating.as_mut() };
            let Some(held) = held else { return failure(404, "NotFound") };
            if held["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"] {
                state.conflicts += 1;
                return failure(409, "Conflict");
            }
            merge(held, &body);
            held["metadata"]["resourceVersion"] = json!(version);
            found(Some(held))
        }
        ("POST", path) if path.ends_with("/events") => {
            assert_eq!(
                path,
                format!("/api/v1/namespaces/{}/events", body["involvedObject"]["namespace"].as_str().unwrap())
            );
            state.events.push(body.clone());
            (201, body)
        }
        _ => failure(404, "NotFound"),
    }
}

fn keep(state: &mut State, mut secret: Value) -> (u16, Value) {
    secret["metadata"]["resourceVersion"] = json!(state.version());
    state.secret = Some(secret.clone());
    (200, secret)
}

/// Entries are merged by name, as the API server's strategic merge does.
fn merge(held: &mut Value, patch: &Value) {
    for entry in patch["webhooks"].as_array().unwrap() {
        let hooks = held["webhooks"].as_array_mut().unwrap();
        let hook = hooks.iter_mut().find(|hook| hook["name"] == entry["name"]).unwrap();
        assert_eq!(entry.as_object().unwrap().len(), 2, "only the bundle is ours: {entry}");
        hook["clientConfig"]["caBundle"] = entry["clientConfig"]["caBundle"].clone();
    }
}

fn found(object: Option<&Value>) -> (u16, Value) {
    object.map_or_else(|| failure(404, "NotFound"), |object| (200, object.clone()))
}

fn failure(code: u16, reason: &str) -> (u16, Value) {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": reason, "reason": reason, "code": code});
    (code, status)
}
