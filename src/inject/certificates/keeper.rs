//! Keeps the webhook's own certificates: looks, takes one step, looks again.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::Secret;

use super::{
    authority::{Authority, Leaf, LeafError, Root},
    cluster::{Cluster, ClusterError, Registrations},
    serving::Serving,
    shelf::{Read, Shelf},
    step::{self, Step, Stored, View, decide},
};
use crate::{
    app::Ground,
    backoff::Backoff,
    clock::{Clock, Moment},
};

/// What a keeper works on.
pub(super) struct Keeper {
    pub(super) cluster: Cluster,
    /// The service's names, which the leaf is for.
    pub(super) names: Vec<String>,
    /// How long an authority must have been trusted before it signs.
    pub(super) settle: Duration,
    pub(super) serving: Serving,
    pub(super) ground: Ground,
    /// The last usable Secret.
    pub(super) shelf: Option<Shelf>,
    pub(super) leaf: Option<Leaf>,
    /// Since when every entry trusts an authority.
    pub(super) since: BTreeMap<Root, Moment>,
    /// What was complained about last, so that a look every few seconds does not fill the log.
    pub(super) complaint: Option<String>,
}

/// What one look found.
struct Look {
    registrations: Option<Registrations>,
    secret: Option<Secret>,
    stored: Stored<Root>,
    /// What is wrong, for the log and `/startupz`.
    complaint: Option<String>,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("cannot make an authority: {0}")]
    Authority(#[from] rcgen::Error),
    #[error(transparent)]
    Leaf(#[from] LeafError),
}

impl Keeper {
    /// Until everything is ended.
    pub(super) async fn run(mut self) {
        let mut failures = 0;
        loop {
            let is_well = self.keep().await;
            failures = if is_well { 0 } else { failures + 1_u32 };
            let pause = if is_well { self.pause() } else { BACKOFF.wait(failures, rand::random()) };
            self.clock().sleep(pause).await;
        }
    }

    fn clock(&self) -> Clock {
        self.ground.clock
    }

    /// Shorter while somebody waits for it.
    fn pause(&self) -> Duration {
        let most = if self.ground.ready.is_ready() { LOOK } else { READY_AFTER / 2 };
        most.min(self.settle / 4).max(Duration::from_millis(20))
    }

    /// Looks and takes steps until there is nothing to do. Whether all went well.
    async fn keep(&mut self) -> bool {
        for _ in 0..MOST_STEPS {
            let look = self.look().await;
            let view = self.view(&look);
            let step = decide(&view, self.settle);
            self.report(look.complaint.clone());
            if step == Step::Wait {
                self.judge(&view, look.complaint.as_deref());
                return look.complaint.is_none();
            }
            match self.take(step, &look).await {
                Ok(()) => {}
                Err(StepError::Cluster(ClusterError::Overtaken)) => {
                    let some = Duration::from_millis(200).mul_f64(rand::random());
                    self.clock().sleep(some).await;
                }
                Err(error) => {
                    self.report(Some(error.to_string()));
                    self.ground.ready.because(CONDITION, error.to_string());
                    return false;
                }
            }
        }
        true
    }

    /// The registrations first: what is written to them later is then decided on a Secret that is younger.
    async fn look(&mut self) -> Look {
        let wall = self.clock().wall();
        let (registrations, mut complaint) = match self.cluster.registrations().await {
            Ok(found) => (Some(found), None),
            Err(error) => (None, Some(format!("the registrations cannot be read: {error}"))),
        };
        let secret = self.cluster.secret().await;
        let (secret, stored) = match secret {
            Err(error) => {
                complaint = Some(format!("the CA Secret cannot be read: {error}"));
                (None, Stored::Unknown)
            }
            Ok(None) => (None, Stored::Missing),
            Ok(Some(secret)) => {
                let stored = match Shelf::read(&secret, wall) {
                    Read::Usable(shelf, why_no_next) => {
                        if let Some(reason) = why_no_next {
                            complaint = Some(format!("the next CA in the CA Secret cannot be used: {reason}"));
                        }
                        let kept = shelf.kept(wall);
                        self.shelf = Some(*shelf);
                        Stored::Kept(kept)
                    }
                    Read::Empty => Stored::Missing,
                    Read::Broken(reason) => {
                        complaint = Some(format!("the CA Secret cannot be used and is written anew: {reason}"));
                        Stored::Broken
                    }
                    Read::Foreign => {
                        let text = "the CA Secret holds other things and is left alone: delete it, or name another";
                        complaint = Some(text.to_owned());
                        Stored::Unknown
                    }
                };
                (Some(secret), stored)
            }
        };
        Look { registrations, secret, stored, complaint }
    }

    fn view(&mut self, look: &Look) -> View<Root> {
        let (wall, now) = (self.clock().wall(), self.clock().now());
        let entries = look.registrations.as_ref().map(|found| found.entries(wall));
        let everywhere = |root: &Root| {
            entries.as_ref().is_some_and(|all| !all.is_empty() && all.iter().all(|entry| entry.trusts.contains(root)))
        };
        // What could not be looked at is not known to have been trusted all the time.
        self.since.retain(|root, _| everywhere(root));
        for root in entries.iter().flatten().flat_map(|entry| &entry.trusts) {
            if everywhere(root) && !self.since.contains_key(root) {
                self.since.insert(root.clone(), now);
            }
        }
        let ages = self.since.iter().map(|(root, since)| (root.clone(), since.until(now))).collect();
        let leaf = self.leaf.as_ref();
        let leaf = leaf.map(|leaf| step::Leaf { by: leaf.by.clone(), due: leaf.life.is_due(wall.seconds()) });
        let remembered = self.shelf.as_ref().map(|shelf| shelf.current.root());
        View { stored: look.stored.clone(), entries, remembered, leaf, ages, wall: wall.seconds() }
    }

    async fn take(&mut self, step: Step<Root>, look: &Look) -> Result<(), StepError> {
        let wall = self.clock().wall();
        match step {
            Step::Wait => Ok(()),
            Step::Create => {
                let shelf = Shelf::new(Authority::generate(wall)?);
                self.cluster.write(look.secret.as_ref(), &shelf).await?;
                tracing::info!("made a CA for the webhook");
                Ok(())
            }
            Step::Restore => {
                if let Some(shelf) = &self.shelf {
                    self.cluster.write(look.secret.as_ref(), shelf).await?;
                    tracing::warn!("the CA Secret was gone or broken and is written back");
                }
                Ok(())
            }
            Step::Publish(roots) => {
                if let Some(seen) = &look.registrations {
                    self.cluster.publish(seen, &roots).await?;
                    tracing::info!(authorities = roots.len(), "the registrations trust the webhook's CA");
                }
                Ok(())
            }
            Step::Sign => self.sign(),
            Step::Adopt(roots) => self.change(look, |shelf| shelf.adopt(roots, wall)).await,
            Step::Begin => {
                let next = Authority::generate(wall)?;
                self.change(look, |shelf| shelf.begin(next)).await?;
                tracing::info!("made the next CA for the webhook: it signs once it has been trusted for a while");
                Ok(())
            }
            Step::Promote => {
                self.change(look, |shelf| shelf.promote(wall)).await?;
                tracing::info!("the next CA signs the webhook's certificates from now on");
                Ok(())
            }
            Step::Forget => self.change(look, Shelf::forget).await,
        }
    }

    /// Changes what was read and writes it back. A failed write leaves a shelf that the next look replaces.
    async fn change(&self, look: &Look, change: impl FnOnce(&mut Shelf)) -> Result<(), StepError> {
        let wall = self.clock().wall();
        if let Some(secret) = &look.secret
            && let Read::Usable(mut shelf, _) = Shelf::read(secret, wall)
        {
            change(&mut shelf);
            self.cluster.write(Some(secret), &shelf).await?;
        }
        Ok(())
    }

    fn sign(&mut self) -> Result<(), StepError> {
        let Some(shelf) = &self.shelf else { return Ok(()) };
        let leaf = shelf.current.sign(&self.names, self.clock().wall())?;
        self.serving.put(leaf.key.clone());
        super::publish_expiry(&self.ground.metrics, leaf.life.until);
        tracing::info!(until = leaf.life.until, "serving a new certificate");
        self.leaf = Some(leaf);
        Ok(())
    }

    /// Ready when what is served has been trusted for a moment: the API server learns of its own change a little later.
    fn judge(&self, view: &View<Root>, complaint: Option<&str>) {
        let is_trusted =
            |leaf: &Leaf| view.ages.get(&leaf.by).is_some_and(|age| *age >= READY_AFTER.min(self.settle / 2));
        if self.leaf.as_ref().is_some_and(is_trusted) {
            if self.ground.ready.met(CONDITION) {
                tracing::info!("the API server trusts what is served");
            }
        } else {
            self.ground.ready.because(CONDITION, complaint.unwrap_or("the registrations do not trust it yet"));
        }
    }

    fn report(&mut self, complaint: Option<String>) {
        if let Some(error) = complaint.as_ref().filter(|_| self.complaint != complaint) {
            tracing::error!(error, "certificates: tried again; what is served stays");
        }
        self.complaint = complaint;
    }
}

/// What `/startupz` waits for.
pub(super) const CONDITION: &str = "certificate";

/// Between looks when all is well.
const LOOK: Duration = Duration::from_secs(5);
/// From being trusted to being ready.
const READY_AFTER: Duration = Duration::from_secs(1);
/// In one go.
const MOST_STEPS: usize = 8;
const BACKOFF: Backoff = Backoff { first: Duration::from_secs(2), most: Duration::from_secs(30) };
