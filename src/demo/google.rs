//! The handle on one fake Google.

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc};

use tokio::{net::TcpListener, sync::watch};

use super::{
    accounts::{AccountState, Grant, KeyState},
    certificates::Certificates,
    identities::Cluster,
    keys::KeyFile,
    record::{Exchange, Recorded},
    script::{Certificate, Outage, Protocols, Script},
    server,
    state::{State, lock},
    tokens::{TokenRecord, Wish},
};
use crate::{clock::Clock, shutdown::Tasks};

/// A running fake Google, on one loopback port for all its names. Cheap to clone.
#[derive(Clone)]
pub struct FakeGoogle {
    address: SocketAddr,
    state: Arc<State>,
}

impl FakeGoogle {
    /// Binds a free port and serves on it until `tasks` are ended.
    ///
    /// # Errors
    /// When no port can be bound or no CA be made.
    pub async fn start(tasks: &Tasks, clock: Clock) -> io::Result<Self> {
        let state = Arc::new(State::new(clock, Certificates::generate()?));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        tasks.spawn(server::accept(listener, state.clone(), tasks.clone()));
        Ok(Self { address, state })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its CA, PEM.
    pub fn ca_pem(&self) -> String {
        self.state.certificates.ca_pem()
    }

    /// `connectTo` of a sidecar's settings: every Google name, here.
    pub fn connect_to(&self) -> BTreeMap<String, String> {
        let names = ["*.googleapis.com:443", "accounts.google.com:443"];
        names.into_iter().map(|name| (name.to_owned(), self.address.to_string())).collect()
    }

    /// Opens an account and gives its first key.
    ///
    /// # Errors
    /// When there are a thousand accounts, or no key can be made.
    pub fn add_account(&self, email: &str, project: &str) -> io::Result<KeyFile> {
        let key = KeyFile::generate(email, project)?;
        if lock(&self.state.accounts).add_key(&key, project) {
            return Ok(key);
        }
        Err(io::Error::other("the fake takes a thousand accounts of ten keys each"))
    }

    /// Another key of an account; the old ones stay.
    ///
    /// # Errors
    /// When the account is unknown, has ten keys, or no key can be made.
    pub fn add_key(&self, email: &str) -> io::Result<KeyFile> {
        let project = lock(&self.state.accounts).project(email).map(str::to_owned);
        let project = project.ok_or_else(|| io::Error::other("no such account"))?;
        self.add_account(email, &project)
    }

    /// Deletes a key. Tokens made with it live on, as at Google. Returns whether it was there.
    pub fn remove_key(&self, key_id: &str) -> bool {
        lock(&self.state.accounts).remove_key(key_id)
    }

    /// Switches a key off or on, or sets when it becomes known.
    pub fn set_key(&self, key_id: &str, state: KeyState) -> bool {
        lock(&self.state.accounts).set_key(key_id, state)
    }

    /// Switches an account off or on, or deletes it.
    pub fn set_account(&self, email: &str, state: AccountState) -> bool {
        lock(&self.state.accounts).set_account(email, state)
    }

    /// Lets an account act for users (`sub`).
    pub fn allow_delegation(&self, email: &str) -> bool {
        lock(&self.state.accounts).allow_delegation(email)
    }

    /// STS takes this subject token for `audience`, as that of `identity`.
    pub fn allow_subject(&self, token: &str, audience: &str, identity: &str) {
        let known = (audience.to_owned(), identity.to_owned());
        lock(&self.state.identities).subjects.insert(token.to_owned(), known);
    }

    /// STS takes the tokens that a cluster signs with `key` for this provider: `principal:…/subject/SUB` they are.
    pub fn allow_cluster(&self, provider: &str, issuer: &str, key: &KeyFile) {
        let cluster = Cluster { issuer: issuer.to_owned(), public: key.public().to_vec() };
        lock(&self.state.identities).clusters.insert(provider.to_owned(), cluster);
    }

    /// Lets `who` (an account or identity) impersonate `account`.
    pub fn allow_impersonation(&self, who: &str, account: &str) {
        lock(&self.state.identities).impersonations.insert((who.to_owned(), account.to_owned()));
    }

    /// Takes this refresh token as that of `person`.
    pub fn allow_person(&self, refresh_token: &str, person: &str) {
        lock(&self.state.identities).people.insert(refresh_token.to_owned(), person.to_owned());
    }

    /// Takes that back.
    pub fn forbid_impersonation(&self, who: &str, account: &str) {
        lock(&self.state.identities).impersonations.remove(&(who.to_owned(), account.to_owned()));
    }

    /// The next refresh of this person's token is refused.
    pub fn forbid_person(&self, refresh_token: &str) {
        lock(&self.state.identities).people.remove(refresh_token);
    }

    /// What STS or `iamcredentials` answers from now on in place of the truth; the truth again with `None`.
    pub fn answer_at(&self, host: &str, answer: Option<(u16, &str)>) {
        self.script(|script| match answer {
            Some((status, body)) => drop(script.answers.insert(host.to_owned(), (status, body.to_owned()))),
            None => drop(script.answers.remove(host)),
        });
    }

    /// Changes how the fake behaves from now on.
    pub fn script(&self, change: impl FnOnce(&mut Script)) {
        self.state.change_script(change);
    }

    /// Trouble at the token endpoint until told otherwise.
    pub fn outage(&self, outage: Outage) {
        self.script(|script| (script.outage, script.outage_times) = (outage, None));
    }

    /// Trouble for the next `times` connections or requests that meet it.
    pub fn outage_times(&self, outage: Outage, times: u32) {
        self.script(|script| (script.outage, script.outage_times) = (outage, Some(times)));
    }

    /// What ALPN offers to new connections.
    pub fn protocols(&self, protocols: Protocols) {
        self.script(|script| script.protocols = protocols);
    }

    /// The certificate that new connections to `name` are shown.
    pub fn certificate(&self, name: &str, certificate: Certificate) {
        self.script(|script| {
            script.certificates.insert(name.to_owned(), certificate);
        });
    }

    /// Issues a token without an exchange.
    pub fn mint(&self, email: &str) -> String {
        self.mint_for(email, None)
    }

    /// The same; an ID token where there is an audience.
    pub(super) fn mint_for(&self, email: &str, audience: Option<&str>) -> String {
        let script = self.state.script();
        let wish = Wish {
            lifetime: script.lifetime,
            wall: self.state.wall().seconds(),
            length: script.token_length,
            same: false,
        };
        let grant = Grant {
            account: email.to_owned(),
            key_id: String::new(),
            scopes: vec!["https://www.googleapis.com/auth/cloud-platform".to_owned()],
            subject: None,
            audience: audience.map(str::to_owned),
        };
        lock(&self.state.tokens).issue(grant, self.state.clock.now(), &wish).0
    }

    /// Every token issued that is still remembered, oldest first.
    pub fn tokens(&self) -> Vec<(String, TokenRecord)> {
        lock(&self.state.tokens).all()
    }

    /// From now on the APIs refuse this token.
    pub fn revoke(&self, token: &str) -> bool {
        lock(&self.state.tokens).revoke(token)
    }

    /// From now on the APIs refuse every token issued so far.
    pub fn revoke_all(&self) {
        lock(&self.state.tokens).revoke_all();
    }

    /// The last requests to the APIs, oldest first.
    pub fn requests(&self) -> Vec<Recorded> {
        self.state.record.requests()
    }

    /// How many requests the APIs had.
    pub fn request_count(&self) -> u64 {
        *self.state.record.request_count().borrow()
    }

    /// The last requests to the token endpoint, oldest first.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.state.record.exchanges()
    }

    /// How many requests the token endpoint had, whatever came of them.
    pub fn exchange_count(&self) -> u64 {
        *self.state.record.exchange_count().borrow()
    }

    /// How many exchanges succeeded with this key.
    pub fn exchanges_of(&self, key_id: &str) -> u64 {
        self.state.record.exchanges_of(key_id)
    }

    /// Completes when the APIs have had `count` requests.
    pub async fn requests_reach(&self, count: u64) {
        reach(self.state.record.request_count(), count).await;
    }

    /// Completes when the token endpoint has had `count` requests.
    pub async fn exchanges_reach(&self, count: u64) {
        reach(self.state.record.exchange_count(), count).await;
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.state.record.connections()
    }

    /// Connections that never got through their handshake, by script or otherwise.
    pub fn failed_handshakes(&self) -> u64 {
        self.state.record.failed_handshakes()
    }

    /// Ends every open connection in order: `GOAWAY`, `Connection: close`.
    pub fn drain_connections(&self) {
        self.state.draining.send_modify(|epoch| *epoch += 1);
    }

    /// Drops every open connection where it stands.
    pub fn abort_connections(&self) {
        self.state.aborting.send_modify(|epoch| *epoch += 1);
    }

    pub(super) fn state(&self) -> &Arc<State> {
        &self.state
    }
}

impl std::fmt::Debug for FakeGoogle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FakeGoogle").field("address", &self.address).finish_non_exhaustive()
    }
}

async fn reach(mut counter: watch::Receiver<u64>, count: u64) {
    // The sender lives in the state that our caller holds, so this never errs.
    let _ = counter.wait_for(|&seen| seen >= count).await;
}
