//! Events on the owner of a pod: best effort, few, and never in the way of a review.

use std::{
    collections::{HashMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    time::Duration,
};

use kube::Client;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    app::Ground,
    clock::{Clock, Moment},
    inject::{
        certificates::{MANAGER, chain},
        review::{Owner, Result as Outcome, Reviewed},
    },
};

/// Where reviews leave what their owners should hear.
#[derive(Clone, Debug)]
pub(super) struct Events {
    queue: Option<mpsc::Sender<Note>>,
}

/// One thing to tell.
#[derive(Clone, Debug)]
struct Note {
    namespace: String,
    owner: Owner,
    reason: &'static str,
    kind: &'static str,
    message: String,
}

impl Events {
    /// Without a client nothing is told.
    pub(super) fn start(client: Option<Client>, ground: &Ground) -> Self {
        let Some(client) = client else { return Self { queue: None } };
        let (queue, notes) = mpsc::channel(MOST_WAITING);
        ground.tasks.spawn(tell(client, notes, ground.clock));
        Self { queue: Some(queue) }
    }

    /// Drops it when too much is waiting.
    pub(super) fn note(&self, reviewed: &Reviewed) {
        if let (Some(queue), Some(note)) = (&self.queue, Note::of(reviewed)) {
            let _ = queue.try_send(note);
        }
    }
}

impl Note {
    fn of(reviewed: &Reviewed) -> Option<Self> {
        let (reason, kind, message) = match reviewed.result {
            Outcome::Injected => ("Injected", "Normal", "the pod gets the bearerd sidecar".to_owned()),
            Outcome::Denied => ("InjectionRefused", "Warning", reviewed.message.clone()),
            _ => return None,
        };
        // Nothing happened, or there is no object yet that an Event could be about.
        if reviewed.dry_run || reviewed.namespace.is_empty() || !reviewed.owner.is_named {
            return None;
        }
        Some(Self { namespace: reviewed.namespace.clone(), owner: reviewed.owner.clone(), reason, kind, message })
    }

    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let owner = &self.owner;
        (&self.namespace, &owner.kind, &owner.name, &owner.uid, self.reason, &self.message).hash(&mut hasher);
        hasher.finish()
    }

    fn event(&self, clock: Clock) -> Value {
        let wall = clock.wall();
        let time = jiff::Timestamp::from_second(i64::try_from(wall.seconds()).unwrap_or(0));
        let time = time.map(|time| time.to_string()).unwrap_or_default();
        let stem: String = self.owner.name.trim_end_matches(['.', '-']).chars().take(MOST_STEM).collect();
        json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": format!("{stem}.{:x}", wall.0.as_nanos()), "namespace": self.namespace},
            "involvedObject": {
                "apiVersion": self.owner.api_version,
                "kind": self.owner.kind,
                "name": self.owner.name,
                "namespace": self.namespace,
                "uid": self.owner.uid,
            },
            "type": self.kind,
            "reason": self.reason,
            "message": self.message,
            "source": {"component": MANAGER},
            "reportingComponent": MANAGER,
            "reportingInstance": "",
            "firstTimestamp": time,
            "lastTimestamp": time,
            "count": 1,
        })
    }
}

async fn tell(client: Client, mut notes: mpsc::Receiver<Note>, clock: Clock) {
    let mut told: HashMap<u64, Moment> = HashMap::new();
    while let Some(note) = notes.recv().await {
        let now = clock.now();
        told.retain(|_, at| at.until(now) < AGAIN);
        let digest = note.digest();
        if told.contains_key(&digest) || told.len() >= MOST_TOLD {
            continue;
        }
        told.insert(digest, now);
        if let Err(error) = post(&client, &note, clock).await {
            tracing::debug!(error, "an Event was not taken");
        }
        clock.sleep(PAUSE).await;
    }
}

async fn post(client: &Client, note: &Note, clock: Clock) -> Result<(), String> {
    let request = http::Request::post(format!("/api/v1/namespaces/{}/events", note.namespace))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(note.event(clock).to_string().into_bytes())
        .map_err(|error| error.to_string())?;
    let answer = tokio::time::timeout(ANSWER, client.request_text(request)).await;
    answer.map_err(|_| "no answer".to_owned())?.map(drop).map_err(|error| chain(&error))
}

/// Reviews wait for nobody: what is above this is dropped.
const MOST_WAITING: usize = 64;
/// Ten a second at most.
const PAUSE: Duration = Duration::from_millis(100);
/// The same thing about the same owner.
const AGAIN: Duration = Duration::from_secs(300);
const MOST_TOLD: usize = 1024;
const ANSWER: Duration = Duration::from_secs(5);
/// A name has at most 253 characters, and the time is added.
const MOST_STEM: usize = 220;

#[cfg(test)]
mod tests {
    use super::*;

    fn reviewed(result: Outcome, change: impl FnOnce(&mut Reviewed)) -> Reviewed {
        let named = |text: &str| text.to_owned();
        let mut reviewed = Reviewed {
            body: Vec::new(),
            result,
            namespace: named("shop"),
            owner: Owner {
                api_version: named("apps/v1"),
                kind: named("ReplicaSet"),
                name: named("app-6f7"),
                uid: named("u-1"),
                is_named: true,
            },
            dry_run: false,
            message: named("bearerd.dev/hosts: want hosts"),
        };
        change(&mut reviewed);
        reviewed
    }

    #[test]
    fn only_what_was_stored_or_refused_is_told_and_only_about_what_exists() {
        let told = |reviewed: &Reviewed| Note::of(reviewed).map(|note| note.reason);
        assert_eq!(told(&reviewed(Outcome::Injected, |_| {})), Some("Injected"));
        assert_eq!(told(&reviewed(Outcome::Denied, |_| {})), Some("InjectionRefused"));
        for result in Outcome::ALL.into_iter().filter(|one| !matches!(one, Outcome::Injected | Outcome::Denied)) {
            assert_eq!(told(&reviewed(result, |_| {})), None, "{result:?}");
        }
        assert_eq!(told(&reviewed(Outcome::Denied, |reviewed| reviewed.dry_run = true)), None);
        assert_eq!(told(&reviewed(Outcome::Denied, |reviewed| reviewed.owner.is_named = false)), None);
        assert_eq!(told(&reviewed(Outcome::Denied, |reviewed| reviewed.namespace.clear())), None);
    }

    #[test]
    fn an_event_is_about_the_owner_and_its_name_fits() {
        let long = "a".repeat(253);
        let note = Note::of(&reviewed(Outcome::Denied, |reviewed| reviewed.owner.name = long.clone())).unwrap();
        let event = note.event(Clock::system());
        assert_eq!(event["involvedObject"]["name"], long.as_str());
        assert_eq!(event["involvedObject"]["uid"], "u-1");
        assert_eq!(event["metadata"]["namespace"], "shop");
        assert_eq!((&event["type"], &event["reason"]), (&json!("Warning"), &json!("InjectionRefused")));
        assert_eq!(event["message"], "bearerd.dev/hosts: want hosts");
        let name = event["metadata"]["name"].as_str().unwrap();
        assert!(name.len() <= 253 && name.starts_with("aaa"), "{name}");
        let time = event["lastTimestamp"].as_str().unwrap();
        assert!(time.len() == 20 && time.starts_with("20") && time.ends_with('Z'), "{time}");
        // The API server reads it as one.
        let read: k8s_openapi::api::core::v1::Event = serde_json::from_value(event).unwrap();
        assert!(read.last_timestamp.is_some());
    }
}
