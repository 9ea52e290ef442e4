//! What `/status.json` says, gathered from the parts.

use std::sync::PoisonError;

use super::{
    Shared,
    observer::{key_condition, token_condition},
};
use crate::{
    admin::status::{
        Ca, Config, Credential, Entry, Listener, Phase, Problem, RestingKey, Route, Status, Token, TokenFile,
        TokenState, Unmet, When,
    },
    clock::{Moment, Wall},
    policy::Action,
    token::{Condition, CredentialStatus, Refused, SlotStatus},
    token_api::{self, FileStatus},
};

impl Shared {
    /// How everything stands now.
    pub(super) fn status(&self) -> Status {
        self.say_why();
        let now = self.ground.clock.wall();
        let notes = self.config_notes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let unmet = self.ground.ready.unmet();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            phase: self.phase(unmet.is_empty()),
            started: When::new(now, self.started),
            waiting_for: unmet.into_iter().map(|(name, reason)| Unmet { name, reason }).collect(),
            config: Config {
                source: notes.source,
                loaded: Some(When::new(now, notes.loaded.unwrap_or(self.started))),
                last_error: notes
                    .refused
                    .map(|at| Problem { message: notes.problems.join("; "), when: When::new(now, at) }),
            },
            listeners: self.listeners(),
            credentials: self.tokens.status().iter().map(|status| self.credential(now, status)).collect(),
            routes: self.routes(),
            tokens: self.entries(now),
            ca: self.trust.as_ref().map(|trust| Ca {
                expires: When::new(now, trust.leaves.ca().expires()),
                permitted: trust.leaves.ca().permitted().to_vec(),
            }),
            refusals: self.ground.metrics.refusals(),
            passed: self.ground.metrics.passed(),
            warnings: notes.warnings.into_iter().chain(self.mount_warnings()).chain(self.file_warnings()).collect(),
        }
    }

    /// Gives what is waited for the reason of this moment: not that there is no token, but what came instead.
    pub(super) fn say_why(&self) {
        let ready = &self.ground.ready;
        if ready.is_ready() {
            return;
        }
        for status in self.tokens.status() {
            let name = status.name.as_str();
            if status.keys.is_empty() {
                if let Some(refused) = status.refused.first() {
                    ready.because(&key_condition(name), refused_text(refused));
                }
                ready.because(&token_condition(name), "there is no key to ask for one with");
            }
            if let Some(trouble) = status.tokens.first().and_then(|(_, slot)| slot.trouble.as_ref()) {
                ready.because(&token_condition(name), &trouble.message);
            }
        }
    }

    fn phase(&self, started: bool) -> Phase {
        match (self.ground.tasks.is_draining(), started) {
            (true, _) => Phase::Draining,
            (false, true) => Phase::Running,
            (false, false) => Phase::Starting,
        }
    }

    fn listeners(&self) -> Vec<Listener> {
        let addresses = &self.addresses;
        let doors = [
            ("proxy", addresses.proxy),
            ("metadata", addresses.metadata),
            ("tokenApi", addresses.token_api),
            ("health", addresses.health),
            ("control", addresses.control),
        ];
        let mqtt = self.mqtt.iter().map(|address| ("mqtt", *address));
        let open = doors.into_iter().filter_map(|(door, address)| Some((door, address?))).chain(mqtt);
        open.map(|(door, address)| Listener { door: door.to_owned(), address: address.to_string() }).collect()
    }

    fn routes(&self) -> Vec<Route> {
        let live = self.live.borrow().clone();
        let requests = self.ground.metrics.requests();
        let route = |route: &std::sync::Arc<crate::policy::Route>| {
            let injects = route.action == Action::Inject;
            Route {
                name: route.name.clone(),
                hosts: route.hosts.iter().map(ToString::to_string).collect(),
                action: route.action.to_string(),
                credential: injects.then(|| route.credential.clone()),
                token: injects.then(|| route.token.to_string()),
                requests: requests.get(&route.name).copied().unwrap_or_default(),
            }
        };
        live.policy.routes().iter().map(route).collect()
    }

    fn entries(&self, now: Wall) -> Vec<Entry> {
        let handed_out = self.ground.metrics.handed_out();
        let entry = |(entry, status): &(token_api::Entry, Option<FileStatus>)| Entry {
            name: entry.name.clone(),
            path: entry.path.to_string(),
            parameters: entry.parameters.clone(),
            credential: entry.credential.as_str().to_owned(),
            token: entry.kind().to_string(),
            min_life_seconds: entry.min_life.as_secs(),
            handed_out: handed_out.get(&entry.name).copied().unwrap_or_default(),
            file: entry.file.as_ref().map(|file| TokenFile {
                path: file.path.display().to_string(),
                written: status.as_ref().and_then(|status| status.written).map(|at| When::new(now, at)),
                problem: status.as_ref().and_then(|status| status.problem.clone()),
            }),
        };
        self.handouts.status().iter().map(entry).collect()
    }

    fn file_warnings(&self) -> Vec<String> {
        let problem = |(entry, status): (token_api::Entry, Option<FileStatus>)| {
            Some(format!("token file of {}: {}", entry.name, status?.problem?))
        };
        self.handouts.status().into_iter().filter_map(problem).collect()
    }

    fn credential(&self, now: Wall, status: &CredentialStatus) -> Credential {
        let slot = status.tokens.first().map(|(_, slot)| slot);
        let key = status.in_use.as_ref();
        Credential {
            name: status.name.as_str().to_owned(),
            kind: status.kind.to_owned(),
            email: key.and_then(|key| key.account.clone()),
            key_id: slot.and_then(|slot| slot.key_id.clone()).or_else(|| key.and_then(|key| key.key_id.clone())),
            state: slot.map_or(TokenState::None, state),
            token: slot.and_then(|slot| self.token(now, slot)),
            last_refresh: slot.and_then(|slot| slot.issued).map(|at| self.when(now, at)),
            last_error: self.last_error(now, status, slot),
            next_try: slot.and_then(|slot| slot.trouble.as_ref()?.next_try).map(|at| self.when(now, at)),
            resting_keys: slot.map_or_else(Vec::new, |slot| self.resting_keys(now, slot)),
        }
    }

    /// Without the one whose failure is the last error already.
    fn resting_keys(&self, now: Wall, slot: &SlotStatus) -> Vec<RestingKey> {
        let told = slot.trouble.as_ref().map(|trouble| &trouble.message);
        let others = slot.resting.iter().filter(|key| Some(&key.message) != told);
        others
            .map(|key| RestingKey {
                file: key.file.clone(),
                key_id: key.key_id.clone(),
                message: format!("{} ({})", key.message, key.reason),
                next_try: key.next_try.map(|at| self.when(now, at)),
            })
            .collect()
    }

    fn token(&self, now: Wall, slot: &SlotStatus) -> Option<Token> {
        let (issued, expires) = (slot.issued?, slot.expires?);
        Some(Token { expires: self.when(now, expires), lifetime_seconds: issued.until(expires).as_secs() })
    }

    /// What the last fetch failed with; else which key file is refused.
    fn last_error(&self, now: Wall, status: &CredentialStatus, slot: Option<&SlotStatus>) -> Option<Problem> {
        if let Some(trouble) = slot.and_then(|slot| slot.trouble.as_ref()) {
            let message = format!("{} ({})", trouble.message, trouble.reason.label());
            return Some(Problem { message, when: self.when(now, trouble.since) });
        }
        let refused = status.refused.first()?;
        Some(Problem { message: refused_text(refused), when: When::new(now, now) })
    }

    fn mount_warnings(&self) -> Vec<String> {
        let stuck = self.tokens.status().into_iter().filter(|status| status.is_stuck);
        stuck
            .map(|status| {
                let name = status.name.as_str();
                format!("credential {name}: mounted with subPath or its directory is gone: cannot see rotation")
            })
            .collect()
    }

    /// A moment of the boot-time clock in wall time.
    fn when(&self, now: Wall, at: Moment) -> When {
        let moment = self.ground.clock.now();
        let wall = Wall((now.0 + moment.until(at)).saturating_sub(at.until(moment)));
        When::new(now, wall)
    }
}

fn refused_text(refused: &Refused) -> String {
    if refused.file.is_empty() { refused.error.to_string() } else { format!("{}: {}", refused.file, refused.error) }
}

fn state(slot: &SlotStatus) -> TokenState {
    match slot.condition {
        Condition::Empty => TokenState::None,
        Condition::Fresh => TokenState::Valid,
        Condition::Stale => TokenState::Stale,
        Condition::Expired => TokenState::Expired,
    }
}
