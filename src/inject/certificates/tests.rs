//! Steps as a table, two replicas as a model, and the certificates themselves.

use std::collections::{BTreeMap, BTreeSet};

use super::step::{Entry, Kept, Leaf, MOST_PREVIOUS, Step, Stored, View, decide};

mod real;

const SETTLE: std::time::Duration = std::time::Duration::from_secs(600);
const DAY: u64 = 86_400;

fn kept(current: u32) -> Kept<u32> {
    Kept { current, next: None, previous: Vec::new(), until: None, asked: false, due: false }
}

fn trusts(roots: &[u32]) -> Entry<u32> {
    Entry { trusts: roots.to_vec(), is_clean: true }
}

/// All is well: the leaf of 1 is served, two entries trust 1 for ten seconds.
fn well() -> View<u32> {
    View {
        stored: Stored::Kept(kept(1)),
        entries: Some(vec![trusts(&[1]), trusts(&[1])]),
        remembered: Some(1),
        leaf: Some(Leaf { by: 1, due: false }),
        ages: ages(&[(1, 10)]),
        wall: 100 * DAY,
    }
}

fn ages(of: &[(u32, u64)]) -> BTreeMap<u32, std::time::Duration> {
    of.iter().map(|(root, seconds)| (*root, std::time::Duration::from_secs(*seconds))).collect()
}

/// A state, its name and its step.
type Row = (&'static str, View<u32>, Step<u32>);

fn assert_steps(table: Vec<Row>) {
    for (name, view, step) in table {
        assert_eq!(decide(&view, SETTLE), step, "{name}");
    }
}

#[test]
fn beginnings_and_accidents_have_their_steps() {
    let (due, none) = (Some(Leaf { by: 1, due: true }), View { remembered: None, leaf: None, ..well() });
    let entries = |bundles: &[&[u32]]| Some(bundles.iter().map(|roots| trusts(roots)).collect());
    let rubbish = Some(vec![Entry { trusts: vec![1], is_clean: false }]);
    assert_steps(vec![
        ("all is well", well(), Step::Wait),
        ("first of all", View { stored: Stored::Missing, ..none.clone() }, Step::Create),
        ("deleted", View { stored: Stored::Missing, ..well() }, Step::Restore),
        ("broken", View { stored: Stored::Broken, ..well() }, Step::Restore),
        ("broken at the start", View { stored: Stored::Broken, ..none.clone() }, Step::Create),
        ("nothing known at the start", View { stored: Stored::Unknown, entries: None, ..none }, Step::Wait),
        ("no API server", View { stored: Stored::Unknown, entries: None, ..well() }, Step::Wait),
        ("none, and an old leaf", View { stored: Stored::Unknown, leaf: due.clone(), ..well() }, Step::Sign),
        ("no leaf yet", View { leaf: None, ..well() }, Step::Sign),
        ("an old leaf", View { leaf: due, ..well() }, Step::Sign),
        ("an empty bundle", View { entries: entries(&[&[1], &[]]), ..well() }, Step::Publish(vec![1])),
        ("rubbish in a bundle", View { entries: rubbish, ..well() }, Step::Publish(vec![1])),
        ("somebody else's root", View { entries: entries(&[&[1, 9]]), ..well() }, Step::Adopt(vec![9])),
        ("another CA than served", View { stored: Stored::Kept(kept(2)), ..well() }, Step::Adopt(vec![1])),
    ]);
}

#[test]
fn a_rotation_has_its_steps() {
    let new = |leaf| View { leaf: Some(Leaf { by: leaf, due: false }), ..well() };
    let rotating = Stored::Kept(Kept { next: Some(2), ..kept(1) });
    let rotated = |until| Stored::Kept(Kept { previous: vec![1], until: Some(until), ..kept(2) });
    let asked =
        |previous: Vec<u32>| Stored::Kept(Kept { asked: true, previous, until: Some(100 * DAY + 10), ..kept(1) });
    let (both, second) = (Some(vec![trusts(&[1, 2]), trusts(&[2, 1])]), Some(vec![trusts(&[2])]));
    let (early, settled) = (ages(&[(1, 900), (2, 599)]), ages(&[(1, 900), (2, 600)]));
    let many: Vec<u32> = (10..10 + MOST_PREVIOUS as u32).collect();
    let crowd = Some(vec![trusts(&[&[1], many.as_slice()].concat())]);
    let seen = |ages: &BTreeMap<u32, std::time::Duration>| View { entries: both.clone(), ages: ages.clone(), ..new(1) };
    assert_steps(vec![
        ("a CA grows old", View { stored: Stored::Kept(Kept { due: true, ..kept(1) }), ..well() }, Step::Begin),
        ("asked", View { stored: asked(Vec::new()), ..well() }, Step::Begin),
        ("asked too often", View { stored: asked(many), entries: crowd, ..well() }, Step::Wait),
        ("not trusted", View { stored: rotating.clone(), ..well() }, Step::Publish(vec![1, 2])),
        ("trusted too briefly", View { stored: rotating.clone(), ..seen(&early) }, Step::Wait),
        ("settled", View { stored: rotating.clone(), ..seen(&settled) }, Step::Promote),
        ("nobody knows", View { stored: rotating, entries: None, ages: ages(&[]), ..well() }, Step::Wait),
        ("promoted by another", View { stored: rotated(101 * DAY), ..seen(&early) }, Step::Wait),
        ("promoted and settled", View { stored: rotated(101 * DAY), ..seen(&settled) }, Step::Sign),
        ("a slow clock", View { stored: rotated(100 * DAY + 60), entries: second.clone(), ..new(2) }, Step::Wait),
        ("has ended", View { stored: rotated(100 * DAY), entries: both.clone(), ..new(2) }, Step::Publish(vec![2])),
        ("trusted by nobody", View { stored: rotated(100 * DAY), entries: second, ..new(2) }, Step::Forget),
    ]);
}

/// A small generator: the same seed, the same story.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// The API server: one Secret and one bundle with versions, and what it trusted and when.
#[derive(Default)]
struct Api {
    secret: Option<(u64, Kept<u32>)>,
    bundle: (u64, Vec<u32>),
    /// Since when each bundle has held.
    history: Vec<(u64, Vec<u32>)>,
    versions: u64,
    authorities: u32,
}

impl Api {
    fn version(&mut self) -> u64 {
        self.versions += 1;
        self.versions
    }
}

/// A replica between its reads and its write.
#[derive(Default)]
struct Replica {
    bundle: Option<(u64, Vec<u32>)>,
    secret: Option<Option<(u64, Kept<u32>)>>,
    remembered: Option<Kept<u32>>,
    leaf: Option<(u32, u64)>,
    since: BTreeMap<u32, u64>,
    ready: bool,
    /// It gets no processor until then.
    stalled: u64,
}

const SETTLE_TICKS: u64 = 40;
const READY_TICKS: u64 = 31;
const LAG_TICKS: u64 = 30;
/// A leaf's life, and how long an authority is kept after its last leaf.
const LEAF_TICKS: u64 = 400;

impl Replica {
    /// One part of a look: what lies between may be anything that others do.
    fn advance(&mut self, api: &mut Api, now: u64) {
        if self.bundle.is_none() {
            self.bundle = Some(api.bundle.clone());
        } else if self.secret.is_none() {
            self.secret = Some(api.secret.clone());
        } else {
            self.act(api, now);
            (self.bundle, self.secret) = (None, None);
        }
    }

    fn act(&mut self, api: &mut Api, now: u64) {
        let (seen, bundle) = self.bundle.clone().unwrap();
        let stored = match self.secret.clone().unwrap() {
            None => Stored::Missing,
            Some((_, kept)) => {
                self.remembered = Some(kept.clone());
                Stored::Kept(kept)
            }
        };
        self.since.retain(|root, _| bundle.contains(root));
        for root in &bundle {
            self.since.entry(*root).or_insert(now);
        }
        // One tick is an hour here, so that the hour by which clocks may differ is one tick.
        let view = View {
            stored,
            entries: Some(vec![trusts(&bundle)]),
            remembered: self.remembered.as_ref().map(|kept| kept.current),
            leaf: self.leaf.map(|(by, end)| Leaf { by, due: now + LEAF_TICKS / 3 >= end }),
            ages: self.since.iter().map(|(root, at)| (*root, std::time::Duration::from_secs(now - at))).collect(),
            wall: now * 3600,
        };
        let step = decide(&view, std::time::Duration::from_secs(SETTLE_TICKS));
        self.take(step, api, now, seen);
        self.ready |= self.leaf.is_some_and(|(by, _)| self.since.get(&by).is_some_and(|at| now - at >= READY_TICKS));
    }

    fn take(&mut self, step: Step<u32>, api: &mut Api, now: u64, seen: u64) {
        let read = self.secret.clone().unwrap();
        let until = (now + LEAF_TICKS + 24) * 3600;
        let mut change = read.clone().map(|(_, kept)| kept);
        match (&step, &mut change) {
            (Step::Wait, _) => return,
            (Step::Sign, _) => {
                self.leaf = self.remembered.as_ref().map(|kept| (kept.current, now + LEAF_TICKS));
                return;
            }
            (Step::Publish(roots), _) => {
                if api.bundle.0 == seen {
                    api.bundle = (api.version(), roots.clone());
                    api.history.push((now, roots.clone()));
                }
                return;
            }
            (Step::Restore, change) => *change = self.remembered.clone(),
            (Step::Create, change) => {
                api.authorities += 1;
                *change = Some(kept(api.authorities));
            }
            (Step::Adopt(roots), Some(kept)) => {
                kept.previous.splice(0..0, roots.iter().copied());
                kept.until = Some(until);
            }
            (Step::Begin, Some(kept)) => {
                api.authorities += 1;
                (kept.next, kept.asked) = (Some(api.authorities), false);
            }
            (Step::Promote, Some(kept)) => {
                let old = std::mem::replace(&mut kept.current, kept.next.take().unwrap());
                kept.previous.insert(0, old);
                (kept.until, kept.asked) = (Some(until), false);
            }
            (Step::Forget, Some(kept)) => (kept.previous, kept.until) = (Vec::new(), None),
            (step, None) => panic!("{step:?} without a Secret"),
        }
        // Written only if nobody came between.
        if api.secret.as_ref().map(|(version, _)| *version) == read.map(|(version, _)| version) {
            api.secret = Some((api.version(), change.unwrap()));
        }
    }
}

/// Every API server that may be behind by `LAG_TICKS` trusts what is served.
fn assert_trusted(replica: &Replica, api: &Api, now: u64, story: &str) {
    let Some((by, end)) = replica.leaf.filter(|_| replica.ready) else { return };
    assert!(now < end, "{story}: the leaf has ended");
    for (at, (_, bundle)) in api.history.iter().enumerate() {
        let replaced = api.history.get(at + 1).map_or(u64::MAX, |(since, _)| *since);
        if replaced.saturating_add(LAG_TICKS) > now {
            assert!(bundle.contains(&by), "{story}: leaf of {by}, an API server trusts {bundle:?}");
        }
    }
}

#[test]
fn whatever_two_replicas_do_what_they_serve_is_trusted() {
    let (mut rotations, mut deletions, mut restarts, mut forgotten) = (0, 0_u32, 0_u32, BTreeSet::new());
    for seed in 0..60 {
        let mut chance = Chance(seed);
        let mut api = Api::default();
        api.history.push((0, Vec::new()));
        let mut replicas = [Replica::default(), Replica::default()];
        for now in 1..4000 {
            let story = format!("seed {seed}, tick {now}");
            // What people do, rarely, and never both replicas at once.
            match chance.below(1500) {
                // Long enough before the end for everybody to come round.
                _ if now > 3500 => {}
                0..=3 => {
                    if let Some((version, kept)) = &mut api.secret {
                        (kept.asked, *version) = (true, 1_000_000 + now);
                    }
                }
                4 if replicas.iter().all(|replica| replica.ready) => {
                    api.secret = None;
                    deletions += 1;
                }
                5 if replicas.iter().all(|replica| replica.ready) => {
                    replicas[usize::from(chance.below(2) == 0)] = Replica::default();
                    restarts += 1;
                }
                _ => {}
            }
            for replica in &mut replicas {
                if chance.below(300) == 0 {
                    replica.stalled = now + chance.below(2 * SETTLE_TICKS);
                }
                if now >= replica.stalled && chance.below(3) > 0 {
                    replica.advance(&mut api, now);
                }
                assert_trusted(replica, &api, now, &story);
            }
        }
        let known = api.secret.as_ref().map(|(_, kept)| kept.trusted(0)).unwrap_or_default();
        forgotten.extend((1..=api.authorities).filter(|one| !known.contains(one)).map(|one| (seed, one)));
        assert!(replicas.iter().all(|replica| replica.ready), "seed {seed}: not ready");
        rotations += api.authorities;
    }
    // The story was one: authorities came and went.
    let counts = [rotations, deletions, restarts, forgotten.len() as u32];
    assert!(counts.iter().zip([200, 60, 60, 60]).all(|(count, least)| *count > least), "{counts:?}");
}
