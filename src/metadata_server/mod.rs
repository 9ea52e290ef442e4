//! Owns what SDKs ask of a GCE metadata server, on a loopback door: paths, headers, waits and refusals.
//! Refuses to know how tokens are made, which routes exist, and who listens: it gets a source of tokens and a description of the pod.
//! Called by `app`, for its own door and for metadata names that arrive at the proxy door in absolute form.

mod answer;
mod guard;
mod identity;
mod query;
mod routes;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, future::Future, net::SocketAddr, sync::Arc, time::Duration};

use http::{HeaderValue, Request, StatusCode};
use tokio::sync::{Semaphore, watch};

pub use self::{
    answer::{Answer, Refusal},
    guard::check,
    identity::Audience,
};
use self::{
    query::Query,
    routes::{Found, Node},
};
use crate::{clock::Clock, net::guard::Head, shutdown::Tasks};

/// What the door gives when asked for a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Nothing: SDKs find no metadata server.
    #[default]
    Off,
    /// This pod's placeholder, which is worth nothing outside; the proxy replaces it.
    Placeholder(HeaderValue),
    /// The real token.
    Token,
}

/// How the door behaves for its whole life.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What a token is here.
    pub mode: Mode,
    /// The address it is bound to, one of the names it answers to.
    pub listen: SocketAddr,
}

/// What this pod claims to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// The project, as a name.
    pub project_id: Option<String>,
    /// The service account's address.
    pub email: String,
    /// The service account's number (`client_id` of a key file).
    pub unique_id: Option<String>,
    /// The credential's scopes, as full URLs.
    pub scopes: Vec<String>,
    /// `googleapis.com` but in sovereign clouds.
    pub universe_domain: String,
    /// The pod's name, which stands in for the VM's.
    pub name: String,
    /// `projects/NUMBER/zones/ZONE`, where it is known.
    pub zone: Option<String>,
    /// `instance/attributes/`, such as `cluster-name`.
    pub attributes: BTreeMap<String, String>,
    /// The audiences that may be asked of `identity`.
    pub audiences: Vec<Audience>,
}

impl Pod {
    /// gcloud believes in a metadata server only if this is there and all digits. It is in no key file, only in the
    /// address of a project's default accounts; else we say 0, which names nobody's project, where an
    /// invented number could name a stranger's.
    fn project_number(&self) -> u64 {
        let digits = self.email.split(['-', '@']).next().unwrap_or_default();
        let domain = self.email.split_once('@').map(|(_, domain)| domain);
        let default = matches!(domain, Some("developer.gserviceaccount.com" | "cloudservices.gserviceaccount.com"));
        if default { digits.parse().unwrap_or(0) } else { 0 }
    }

    /// Whether the credential has at least one of the scopes that an SDK asks for. SDKs ask for whole lists, of which
    /// any one will do, and the answer is the credential's own token whatever they ask: it is never wider than configured.
    fn grants<'a>(&self, mut asked: impl Iterator<Item = &'a str>) -> bool {
        let all_of_cloud = self.scopes.iter().any(|scope| scope == CLOUD_PLATFORM);
        let one = |scope: &str| {
            let name = scope.strip_prefix(SCOPES).unwrap_or(scope);
            let cloud =
                all_of_cloud && !NOT_CLOUD.iter().any(|prefix| name.starts_with(prefix)) && name.len() < scope.len();
            cloud || self.scopes.iter().any(|own| own == scope)
        };
        // None asked for is all that there are.
        asked.next().is_none_or(|first| one(first) || asked.any(one))
    }
}

/// A token to give to an SDK.
#[derive(Clone)]
pub struct Handout {
    /// The token alone, without `Bearer`.
    pub token: HeaderValue,
    /// Seconds of life left, never more than the truth. With less than 5 minutes SDKs ask before every call.
    pub expires_in: u64,
}

/// No token now, but perhaps later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    /// When asking again makes sense.
    pub retry_after: Duration,
    /// Why, without anything secret.
    pub message: String,
}

/// Where tokens come from in `token` mode. It bounds its own waits and makes one flight of equal questions.
pub trait TokenSource: Send + Sync {
    /// The access token.
    fn access(&self) -> impl Future<Output = Result<Handout, Unavailable>> + Send;

    /// An ID token for an audience, which has been checked.
    fn id(&self, audience: &str) -> impl Future<Output = Result<Handout, Unavailable>> + Send;
}

/// The door. One per sidecar, shared by its connections.
#[derive(Debug)]
pub struct Server<T> {
    settings: Settings,
    pods: watch::Receiver<Option<Arc<Pod>>>,
    tokens: T,
    clock: Clock,
    tasks: Tasks,
    waits: Semaphore,
    audiences: identity::Recent,
}

impl<T: TokenSource> Server<T> {
    /// A door that describes the newest of `pods`; `None` there means that no credential has been read yet.
    pub fn new(
        mut settings: Settings,
        pods: watch::Receiver<Option<Arc<Pod>>>,
        tokens: T,
        clock: Clock,
        tasks: Tasks,
    ) -> Self {
        if let Mode::Placeholder(placeholder) = &mut settings.mode {
            placeholder.set_sensitive(true);
        }
        let (waits, audiences) = (Semaphore::new(MAX_WAITS), identity::Recent::default());
        Self { settings, pods, tokens, clock, tasks, waits, audiences }
    }

    /// Answers one request. The body is never read.
    pub async fn handle<B>(&self, request: Request<B>) -> Answer {
        let (parts, _) = request.into_parts();
        let answer = if self.settings.mode == Mode::Off { Err(Refusal::Off) } else { self.answer(&parts).await };
        answer.unwrap_or_else(Answer::from)
    }

    async fn answer(&self, parts: &http::request::Parts) -> Result<Answer, Refusal> {
        let head = Head { method: &parts.method, uri: &parts.uri, version: parts.version, headers: &parts.headers };
        check(head, self.settings.listen)?;
        let text = parts.uri.query().unwrap_or_default();
        let path = match parts.uri.path() {
            "/" => return Ok(answer::with(StatusCode::OK, answer::TEXT, "computeMetadata/\n")),
            "/computeMetadata/" => return Ok(answer::with(StatusCode::OK, answer::TEXT, "v1/\n")),
            "/computeMetadata" => return Ok(answer::moved("/computeMetadata", text)),
            path => path.strip_prefix("/computeMetadata/v1").ok_or(Refusal::Unknown)?,
        };
        // "/computeMetadata/v1beta1" is not below "/computeMetadata/v1".
        if !path.is_empty() && !path.starts_with('/') {
            return Err(Refusal::Unknown);
        }
        let query = Query::parse(text)?;
        let pod = self.pod_for(path, &query).await?;
        let tree = routes::tree(&pod);
        match routes::find(&tree, path) {
            Found::Nothing => Err(Refusal::Unknown),
            Found::Moved => Ok(answer::moved(parts.uri.path(), text)),
            Found::Token => self.token(&pod, &query).await,
            Found::Identity => self.identity(&pod, &query).await,
            Found::Node(node) if query.wait_for_change => self.wait_for_change(node, path, &query).await,
            Found::Node(node) => Ok(routes::write(node, &query).0),
        }
    }

    /// The pod as known now. Detection and the placeholder need none, and must be answered at once even before a key is
    /// read (an SDK that finds no server remembers it); the rest waits a little.
    async fn pod_for(&self, path: &str, query: &Query<'_>) -> Result<Arc<Pod>, Refusal> {
        if let Some(pod) = self.pods.borrow().clone() {
            return Ok(pod);
        }
        let nobody = Arc::new(Pod::default());
        let tree = routes::tree(&nobody);
        let known = match routes::find(&tree, path) {
            Found::Moved => true,
            Found::Node(_) => matches!(path, "/" | "/instance/") && !query.recursive,
            Found::Token => matches!(self.settings.mode, Mode::Placeholder(_)),
            Found::Identity | Found::Nothing => false,
        };
        if known { Ok(nobody) } else { self.pod_soon().await }
    }

    async fn pod_soon(&self) -> Result<Arc<Pod>, Refusal> {
        let mut pods = self.pods.clone();
        tokio::select! {
            pod = pods.wait_for(Option::is_some) => pod.ok().and_then(|pod| pod.clone()).ok_or(Refusal::NotReady),
            () = self.clock.sleep(POD_WAIT) => Err(Refusal::NotReady),
            () = self.tasks.draining() => Err(Refusal::NotReady),
        }
    }

    async fn token(&self, pod: &Pod, query: &Query<'_>) -> Result<Answer, Refusal> {
        if query.bound {
            return Err(Refusal::Bound);
        }
        let handout = match &self.settings.mode {
            // Worth the same whatever scopes an SDK asks for: the route decides.
            Mode::Placeholder(placeholder) => Ok(Handout { token: placeholder.clone(), expires_in: PLACEHOLDER_LIFE }),
            Mode::Token if !pod.grants(query.scopes()) => return Err(Refusal::Scopes),
            Mode::Token => self.tokens.access().await,
            Mode::Off => return Err(Refusal::Off),
        };
        Ok(match handout {
            // Go refuses a token with no life left, without trying again.
            Ok(Handout { token, expires_in }) if expires_in > 0 => {
                let body = serde_json::json!({
                    "access_token": token.to_str().unwrap_or_default(),
                    "expires_in": expires_in,
                    "token_type": "Bearer",
                });
                answer::with(StatusCode::OK, answer::JSON, body.to_string())
            }
            Ok(_) => answer::unavailable("the token has just expired", Duration::from_secs(1)),
            Err(Unavailable { retry_after, message }) => answer::unavailable(&message, retry_after),
        })
    }

    async fn identity(&self, pod: &Pod, query: &Query<'_>) -> Result<Answer, Refusal> {
        if query.bound {
            return Err(Refusal::Bound);
        }
        let audience = query.audience.as_deref().filter(|audience| !audience.is_empty()).ok_or(Refusal::Query)?;
        if !pod.audiences.iter().any(|allowed| allowed.covers(audience)) {
            // gcloud goes on without an ID token after 404, and ends with a stack trace after 403.
            return Err(if audience == GCLOUD { Refusal::GcloudAudience } else { Refusal::Audience });
        }
        if !self.audiences.admit(audience, self.clock.now()) {
            return Err(Refusal::ManyAudiences);
        }
        let token = match &self.settings.mode {
            Mode::Off => return Err(Refusal::Off),
            Mode::Placeholder(placeholder) => {
                identity::unsigned(pod, placeholder, audience, query.full, self.clock.wall()).into_bytes()
            }
            Mode::Token => match self.tokens.id(audience).await {
                Ok(handout) => handout.token.as_bytes().to_vec(),
                Err(Unavailable { retry_after, message }) => return Ok(answer::unavailable(&message, retry_after)),
            },
        };
        Ok(answer::with(StatusCode::OK, answer::TEXT, token))
    }

    /// Hangs until the value differs from the version that the client knows, or from the one it had when it asked.
    async fn wait_for_change(&self, node: &Node, path: &str, query: &Query<'_>) -> Result<Answer, Refusal> {
        // A clone of a receiver that has seen nothing: a change since the tree was built is not missed.
        let mut pods = self.pods.clone();
        let (now, etag) = routes::write(node, query);
        let known = query.last_etag.as_deref().unwrap_or(&etag);
        if known != etag {
            return Ok(now);
        }
        let _permit = self.waits.try_acquire().map_err(|_| Refusal::ManyWaits)?;
        let limit = query.timeout.unwrap_or(MAX_WAIT).min(MAX_WAIT);
        let ended = async {
            tokio::select! {
                () = self.clock.sleep(limit) => {}
                () = self.tasks.draining() => {}
            }
        };
        tokio::pin!(ended);
        let mut latest = now;
        loop {
            tokio::select! {
                changed = pods.changed() => if changed.is_err() { return Ok(latest) },
                () = &mut ended => return Ok(latest),
            }
            let Some(pod) = pods.borrow_and_update().clone() else { continue };
            let tree = routes::tree(&pod);
            let Found::Node(node) = routes::find(&tree, path) else { return Err(Refusal::Unknown) };
            let (answer, etag) = routes::write(node, query);
            if etag != known {
                return Ok(answer);
            }
            latest = answer;
        }
    }
}

const SCOPES: &str = "https://www.googleapis.com/auth/";
const CLOUD_PLATFORM: &str = "https://www.googleapis.com/auth/cloud-platform";

/// What `cloud-platform` does not stand for: people's documents, mail and directories.
const NOT_CLOUD: [&str; 16] = [
    "admin.",
    "apps.",
    "calendar",
    "chat.",
    "classroom.",
    "contacts",
    "directory.",
    "documents",
    "drive",
    "forms",
    "gmail.",
    "groups",
    "meetings.",
    "presentations",
    "spreadsheets",
    "tasks",
];

/// gcloud's own OAuth client.
const GCLOUD: &str = "32555940559.apps.googleusercontent.com";

/// The usual life of a token. It does not shrink: the placeholder stays good as long as the pod.
const PLACEHOLDER_LIFE: u64 = 3599;

/// Less than the 3 s after which Python gives up one try.
const POD_WAIT: Duration = Duration::from_secs(2);

/// Hanging requests hold memory; a guest agent needs one.
const MAX_WAITS: usize = 64;

/// A client that named no timeout asks again after this.
const MAX_WAIT: Duration = Duration::from_secs(3600);
