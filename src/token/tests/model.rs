//! Model check of the cell and of rotation: the product's own code, its futures polled by hand in many orders.
//!
//! Every change of the cell happens inside one closure of its `watch` channel, so what can interleave are polls:
//! tools that explore threads (loom, shuttle) would have to replace tokio's channels and find nothing more. The cell
//! is explored exhaustively, the whole refresh task by seeded chance. `BEARERD_SCHEDULES` asks for that many of the
//! latter, and the larger exhaustive run; `.ci/full` sets it.

use std::{
    pin::Pin,
    sync::atomic::AtomicBool,
    task::{Context, Poll, Wake},
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::sync::oneshot;

use super::*;
use crate::{
    clock::Hand,
    credential::Token,
    token::{
        bearer::Maker,
        keys::{Candidate, load},
        project::Project,
        refresh::Subject,
        schedule::GUARD,
        slot::{Installed, Unavailable},
    },
};

fn by(key_id: &str) -> Maker<'_> {
    Maker { key_id: Some(key_id), quota_project: None }
}

fn asked() -> Option<usize> {
    std::env::var("BEARERD_SCHEDULES").ok().map(|count| count.parse().unwrap())
}

/// Time of tokio that never passes by itself; what is polled by hand lives in it.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A future and whether it wants to be polled.
struct Actor<T> {
    future: Option<Pin<Box<dyn Future<Output = T>>>>,
    flag: Arc<Flag>,
}

impl<T> Actor<T> {
    fn new(future: impl Future<Output = T> + 'static) -> Self {
        Self { future: Some(Box::pin(future)), flag: Arc::new(Flag(AtomicBool::new(true))) }
    }

    fn is_woken(&self) -> bool {
        self.future.is_some() && self.flag.0.load(Ordering::SeqCst)
    }

    /// Polls it if it was woken; its output when it has ended.
    fn poll(&mut self) -> Option<T> {
        if !self.flag.0.swap(false, Ordering::SeqCst) {
            return None;
        }
        let waker = self.flag.clone().into();
        let result = self.future.as_mut()?.as_mut().poll(&mut Context::from_waker(&waker));
        match result {
            Poll::Ready(output) => {
                self.future = None;
                Some(output)
            }
            Poll::Pending => None,
        }
    }
}

/// What must hold between any two steps.
struct Watchman {
    clock: Clock,
    handle: Handle,
    last: Option<Arc<Bearer>>,
}

impl Watchman {
    fn look(&mut self) {
        let current = self.handle.current();
        let now = self.clock.now();
        if let Some(current) = &current {
            assert!(now + GUARD < current.expires, "an expired token is given");
        }
        if let Some(last) = &self.last {
            assert!(current.is_some() || now + GUARD >= last.expires, "a valid token was displaced by nothing");
            if let Some(current) = &current {
                assert!(current.generation >= last.generation, "an older token is back");
                let is_same = current.generation == last.generation;
                assert_eq!(is_same, current.bare == last.bare, "one generation, one token");
            }
        }
        self.last = current.or_else(|| self.last.take());
    }
}

// ---- The cell, exhaustively.

type Outcome<T> = Result<T, Unavailable>;

struct Cell {
    clock: Clock,
    hand: &'static Hand,
    slot: Arc<Slot>,
    written: usize,
    first: Actor<Outcome<Arc<Bearer>>>,
    second: Actor<Option<Arc<Bearer>>>,
    watchman: Watchman,
}

impl Cell {
    fn new(clock: Clock, hand: &'static Hand) -> Self {
        let slot = Arc::new(Slot::new(clock));
        let (one, two) = (Handle::new(slot.clone()), Handle::new(slot.clone()));
        let watchman = Watchman { clock, handle: Handle::new(slot.clone()), last: None };
        let first = Actor::new(async move { one.wait(Duration::from_secs(10)).await });
        let second = Actor::new(async move {
            let old = two.newer_than(0).await;
            two.renewed(old.generation, Duration::from_secs(10)).await
        });
        Self { clock, hand, slot, written: 0, first, second, watchman }
    }

    /// One step of the actor with this number.
    fn step(&mut self, actor: usize) {
        match actor {
            0 => self.write(),
            1 => {
                if let Some(result) = self.first.poll() {
                    let bearer = result.expect("the task never gave up for longer than anybody waits");
                    assert!(self.clock.now() + GUARD < bearer.expires);
                }
            }
            2 => {
                if let Some(bearer) = self.second.poll().flatten() {
                    assert!(bearer.generation > 1 && self.clock.now() + GUARD < bearer.expires);
                }
            }
            _ => self.hand.advance(Duration::from_secs(1)),
        }
        self.watchman.look();
    }

    /// What the refresh task does, in its order: a failure, a token, a useless one, a token of another key.
    fn write(&mut self) {
        let now = self.clock.now();
        let token = |text: &str, seconds| Token {
            secret: Secret::new(text),
            sent: now,
            lifetime: Duration::from_secs(seconds),
        };
        match self.written {
            0 => self.slot.fail(Reason::Unavailable, "no luck", Some(now + Duration::from_secs(1))),
            1 => {
                self.slot.begin();
                assert_eq!(self.slot.install(&token("one", 3599), by("A"), true), Installed::Yes);
            }
            2 => self.slot.fail(Reason::Reset, "no luck", Some(now)),
            3 => {
                self.slot.begin();
                assert_eq!(self.slot.install(&token("two", 600), by("B"), true), Installed::Yes);
            }
            4 => self.slot.begin(),
            _ => assert_eq!(self.slot.install(&token("two", 600), by("B"), false), Installed::NotNewer),
        }
        self.written += 1;
    }

    /// After the last step nobody is forgotten: whoever was woken ends, and whoever was not has nothing to wait for.
    fn end(mut self, order: &[usize]) {
        for _ in 0..8 {
            (1..3).for_each(|actor| self.step(actor));
        }
        assert!(self.first.future.is_none(), "the reader was not woken: {order:?}");
        assert_eq!(self.watchman.handle.status().generation, 2);
        // The one who saw a 401 either has its answer or still waits for a refresh that is due.
        assert!(self.second.future.is_none() || self.slot.is_forcing(), "forgotten: {order:?}");
    }
}

/// Runs every order of so many steps of each actor; returns how many orders there were.
fn explore(steps: [usize; 4]) -> usize {
    let runtime = runtime();
    let _inside = runtime.enter();
    let (clock, hand) = Clock::by_hand();
    let mut order = Vec::new();
    let mut count = 0;
    orders(steps, &mut order, &mut |order| {
        let mut cell = Cell::new(clock, hand);
        order.iter().for_each(|actor| cell.step(*actor));
        (cell.written..4).for_each(|_| cell.step(0));
        cell.end(order);
        count += 1;
    });
    count
}

fn orders(left: [usize; 4], order: &mut Vec<usize>, visit: &mut impl FnMut(&[usize])) {
    if left.iter().sum::<usize>() == 0 {
        return visit(order);
    }
    for actor in 0..left.len() {
        if left[actor] > 0 {
            let mut rest = left;
            rest[actor] -= 1;
            order.push(actor);
            orders(rest, order, visit);
            order.pop();
        }
    }
}

#[test]
fn every_order_of_writer_readers_and_time_keeps_the_cell_sound() {
    let (steps, count) = if asked().is_some() { ([6, 3, 3, 2], 1_681_680) } else { ([4, 3, 3, 1], 46_200) };
    assert_eq!(explore(steps), count);
}

// ---- The refresh task with keys, endpoint, readers and time, by chance.

/// An exchange under way: the key that signed it, and where its answer goes.
type Flight = (String, oneshot::Sender<Result<Answer, PostError>>);

/// An endpoint that answers when it is told to.
#[derive(Default)]
struct Waiting(Mutex<Vec<Flight>>);

impl Post for Waiting {
    fn post(&self, request: Request) -> BoxFuture<'_, Result<Answer, PostError>> {
        let (send, answer) = oneshot::channel();
        let mut waiting = self.0.lock().unwrap();
        waiting.retain(|(_, asker)| !asker.is_closed());
        let RequestBody::Form(form) = request.body else { panic!("a form") };
        waiting.push((signer(&form), send));
        assert_eq!(waiting.len(), 1, "two flights at once");
        Box::pin(async move { answer.await.unwrap() })
    }
}

struct World {
    hand: &'static Hand,
    random: StdRng,
    endpoint: Arc<Waiting>,
    keys: watch::Sender<KeySet>,
    /// A, B, C.
    all: Vec<Candidate>,
    published: usize,
    task: Actor<()>,
    /// Readers, and whether each must end as soon as there is a token.
    readers: Vec<(Actor<()>, bool)>,
    watchman: Watchman,
    issued: u64,
    newest_seen: usize,
    _settings: watch::Sender<Settings>,
}

impl World {
    fn new(seed: u64, clock: Clock, hand: &'static Hand, all: &[Candidate]) -> Self {
        let endpoint = Arc::new(Waiting::default());
        let slot = Arc::new(Slot::new(clock));
        let setup = Setup { random: || 0.5, ..Setup::new(endpoint.clone(), clock, Tasks::new()) };
        let (keys, seen) = watch::channel(KeySet::default());
        let (settings, seen_settings) = watch::channel(Settings::default());
        let subject = Subject {
            credential: "default".into(),
            want: Want::Access,
            slot: slot.clone(),
            project: Project::default(),
        };
        let task = Actor::new(Refresher::new(subject, seen, seen_settings, &setup, Duration::ZERO).run());
        Self {
            hand,
            random: StdRng::seed_from_u64(seed),
            endpoint,
            keys,
            all: all.to_vec(),
            published: 0,
            task,
            readers: Vec::new(),
            watchman: Watchman { clock, handle: Handle::new(slot), last: None },
            issued: 0,
            newest_seen: 0,
            _settings: settings,
        }
    }

    fn step(&mut self) {
        match self.random.random_range(0..14) {
            0..4 => self.poll_task(),
            4..6 => self.poll_reader(),
            6..8 => self.answer(false),
            8 => self.read(),
            9 => self.publish(),
            10 => self.hand.advance(Duration::from_secs([1, 5, 15, 60][self.random.random_range(0..4)])),
            11 => self.hand.advance(Duration::from_secs([300, 900, 1800, 4000][self.random.random_range(0..4)])),
            12 => self.hand.suspend(Duration::from_secs([1, 60, 4000][self.random.random_range(0..3)])),
            _ => {
                if !self.readers.is_empty() {
                    // A client leaves.
                    let at = self.random.random_range(0..self.readers.len());
                    drop(self.readers.swap_remove(at));
                }
            }
        }
        self.look();
    }

    fn poll_task(&mut self) {
        assert!(self.task.poll().is_none(), "the task ended");
    }

    fn poll_reader(&mut self) {
        if self.readers.is_empty() {
            return;
        }
        let at = self.random.random_range(0..self.readers.len());
        if self.readers[at].0.poll().is_some() {
            drop(self.readers.swap_remove(at));
        }
    }

    fn answer(&mut self, is_good: bool) {
        let Some((key_id, asker)) = self.endpoint.0.lock().unwrap().pop() else { return };
        let draw = if is_good { 0 } else { self.random.random_range(0..10) };
        let answer = |status, body: String| Answer {
            status,
            date: None,
            retry_after: None,
            is_of_metadata_server: false,
            body: Secret::from(body),
        };
        let result = match draw {
            0..6 => {
                self.issued += 1;
                let lifetime = if is_good { 3599 } else { [60, 600, 3599, 43_200][self.random.random_range(0..4)] };
                let number = self.issued;
                Ok(answer(200, format!(r#"{{"access_token":"{key_id}.{number}","expires_in":{lifetime}}}"#)))
            }
            6 => Ok(answer(500, String::new())),
            7 => Ok(answer(200, String::new())),
            8 => Err(PostError::new(PostFailure::Connect, "no luck")),
            _ => {
                let refusal = r#"{"error":"invalid_grant","error_description":"Invalid JWT Signature."}"#;
                Ok(answer(400, refusal.to_owned()))
            }
        };
        // Fails when the task gave up waiting.
        let _ = asker.send(result);
    }

    fn read(&mut self) {
        let handle = self.watchman.handle.clone();
        let generation = handle.status().generation;
        self.readers.push(match self.random.random_range(0..3) {
            0 => (Actor::new(async move { drop(handle.wait(Duration::from_secs(10)).await) }), true),
            1 => (Actor::new(async move { drop(handle.newer_than(generation).await) }), false),
            _ => (Actor::new(async move { drop(handle.renewed(generation, Duration::from_secs(10)).await) }), false),
        });
    }

    fn publish(&mut self) {
        if self.published < self.all.len() {
            self.published += 1;
            let newest = self.all[self.published - 1].clone();
            self.keys.send_modify(|keys| {
                keys.candidates = vec![newest];
                keys.version += 1;
            });
        }
    }

    fn look(&mut self) {
        self.watchman.look();
        let Some(bearer) = &self.watchman.last else { return };
        let text = bearer.bare.to_str().unwrap();
        assert_eq!(text.split('.').next(), bearer.key_id.as_deref(), "a token under another key's name");
        let of_key = self.all.iter().position(|key| key.source.key_id() == bearer.key_id.as_deref()).unwrap();
        assert!(of_key >= self.newest_seen, "an older key after a newer one, whose file is gone");
        self.newest_seen = of_key;
    }

    /// Polls whoever was woken until nobody is; whoever keeps waking itself burns a core.
    fn settle(&mut self) {
        for _ in 0..1000 {
            let mut was_idle = !self.task.is_woken();
            self.poll_task();
            for (reader, _) in &mut self.readers {
                was_idle &= !reader.is_woken();
                reader.poll();
            }
            self.readers.retain(|(reader, _)| reader.future.is_some());
            self.look();
            if was_idle {
                return;
            }
        }
        panic!("a busy loop: {:?}", self.watchman.handle.status());
    }

    /// The endpoint is well again: the newest key comes into use, and nobody waits for what is there.
    fn end(mut self, seed: u64) {
        self.publish();
        let newest = self.all[self.published - 1].source.key_id().map(ToOwned::to_owned);
        for _ in 0..400 {
            self.settle();
            if self.watchman.handle.current().is_some() {
                let forgotten = self.readers.iter().filter(|(_, must_end)| *must_end).count();
                assert_eq!(forgotten, 0, "seed {seed}: readers wait although there is a token");
                if self.watchman.handle.status().key_id == newest {
                    return;
                }
            }
            self.answer(true);
            self.settle();
            self.hand.advance(Duration::from_secs(1));
        }
        panic!("seed {seed}: the newest key is not in use after 400 s: {:?}", self.watchman.handle.status());
    }
}

/// The three keys, through the real loader.
fn candidates() -> Vec<Candidate> {
    runtime().block_on(async {
        let files = ["A", "B", "C"].iter().enumerate().map(|(number, id)| File {
            name: (*id).to_owned(),
            content: Ok(Secret::new(samples::key_file(number, id, "robot", "demo"))),
            modified: Duration::ZERO,
        });
        let snapshot = Snapshot { files: files.collect(), version: 1, ..Snapshot::default() };
        let (_files, snapshots) = watch::channel(snapshot);
        let (publish, mut keys) = watch::channel(KeySet::default());
        let load =
            load(samples::spec("default"), Default::default(), snapshots, Clock::virtual_time(), Arc::new(()), publish);
        tokio::select! {
            () = load => unreachable!(),
            changed = keys.changed() => changed.unwrap(),
        }
        let mut candidates = keys.borrow().candidates.clone();
        candidates.sort_by(|one, two| one.file.cmp(&two.file));
        candidates
    })
}

#[test]
fn rotations_failures_suspensions_and_readers_in_any_order_keep_the_promises() {
    let all = candidates();
    let runtime = runtime();
    let _inside = runtime.enter();
    let (clock, hand) = Clock::by_hand();
    for seed in 0..asked().unwrap_or(150) as u64 {
        let mut world = World::new(seed, clock, hand, &all);
        for _ in 0..60 {
            world.step();
        }
        world.end(seed);
    }
}
