//! The only reader of time.
//!
//! Expiries are kept on the boot-time clock, which counts suspended time: a laptop or VM that slept
//! an hour must not believe in an hour-old token (`std::time::Instant` would). Wall time is read only
//! to write `iat` and `exp` and to show times to people.

use std::{
    fmt,
    ops::{Add, Sub},
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::Duration,
};

/// A point on the boot-time clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(Duration);

impl Moment {
    /// Time since boot (or since the virtual clock began).
    pub fn since_start(self) -> Duration {
        self.0
    }

    /// How long until `later`; zero when it has passed.
    pub fn until(self, later: Self) -> Duration {
        later.0.saturating_sub(self.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by))
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;

    fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(by))
    }
}

/// Wall time in seconds since 1970, with its fraction.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Wall(pub Duration);

impl Wall {
    /// Whole seconds since 1970.
    pub fn seconds(self) -> u64 {
        self.0.as_secs()
    }
}

/// `2026-02-28T23:59:59Z`.
pub fn rfc3339(wall: Wall) -> String {
    let (days, second) = (wall.seconds() / 86_400, wall.seconds() % 86_400);
    // Days to a date by eras of 400 years, whose years begin in March, so that a leap day is the last.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// A source of time, cheap to copy. Tests choose a virtual or a fast one.
#[derive(Clone, Copy)]
pub struct Clock {
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    System,
    /// Follows `tokio::time`, so that `tokio::time::pause` controls it.
    Virtual {
        origin: tokio::time::Instant,
        wall: Duration,
    },
    /// The same, and a hand that moves it beside `tokio::time`.
    Shifted {
        origin: tokio::time::Instant,
        wall: Duration,
        hand: &'static Hand,
    },
    /// Stands still until its hand moves it.
    Manual {
        wall: Duration,
        hand: &'static Hand,
    },
    /// Runs `factor` times faster than the system, counted from `boot` and `wall`.
    Fast {
        factor: u32,
        boot: Duration,
        wall: Duration,
    },
}

impl Clock {
    /// The machine's clocks.
    pub fn system() -> Self {
        Self { kind: Kind::System }
    }

    /// A clock that `tokio::time::pause` and `advance` control; starts at the machine's wall time.
    pub fn virtual_time() -> Self {
        Self { kind: Kind::Virtual { origin: tokio::time::Instant::now(), wall: realtime() } }
    }

    /// A clock on which an hour lasts `1/factor` hours, waiting included.
    pub fn fast(factor: u32) -> Self {
        Self { kind: Kind::Fast { factor: factor.max(1), boot: boottime(), wall: realtime() } }
    }

    /// A clock with a hand, for tests of what suspension and people do to clocks: both jump while no timer notices.
    ///
    /// The hand lives as long as the process, so that the clock can be copied.
    pub fn with_hand() -> (Self, &'static Hand) {
        let hand: &'static Hand = Box::leak(Box::default());
        (Self { kind: Kind::Shifted { origin: tokio::time::Instant::now(), wall: realtime(), hand } }, hand)
    }

    /// A clock that stands still until [`Hand::advance`]: an hour takes as long as what happens in it, and exchanges
    /// over real sockets take no time.
    pub fn by_hand() -> (Self, &'static Hand) {
        let hand: &'static Hand = Box::leak(Box::default());
        (Self { kind: Kind::Manual { wall: realtime(), hand } }, hand)
    }

    /// Now, on the clock that counts suspended time.
    pub fn now(&self) -> Moment {
        Moment(match self.kind {
            Kind::System => boottime(),
            Kind::Virtual { origin, .. } => origin.elapsed(),
            Kind::Shifted { origin, hand, .. } => origin.elapsed() + hand.suspended(),
            Kind::Manual { hand, .. } => hand.advanced() + hand.suspended(),
            Kind::Fast { factor, boot, .. } => boot + boottime().saturating_sub(boot) * factor,
        })
    }

    /// Now, as people and JWTs count it. May jump either way.
    pub fn wall(&self) -> Wall {
        Wall(match self.kind {
            Kind::System => realtime(),
            Kind::Virtual { origin, wall } => wall + origin.elapsed(),
            Kind::Shifted { origin, wall, hand } => hand.set(wall + origin.elapsed() + hand.suspended()),
            Kind::Manual { wall, hand } => hand.set(wall + hand.advanced() + hand.suspended()),
            Kind::Fast { factor, boot, wall } => wall + boottime().saturating_sub(boot) * factor,
        })
    }

    /// Waits. One sleep never spans a suspended period correctly, so long waits are cut into ticks by
    /// those who make them.
    pub async fn sleep(&self, wait: Duration) {
        let real = match self.kind {
            Kind::Fast { factor, .. } => wait / factor,
            Kind::System | Kind::Virtual { .. } | Kind::Shifted { .. } => wait,
            Kind::Manual { hand, .. } => return hand.reach(hand.advanced().saturating_add(wait)).await,
        };
        tokio::time::sleep(real).await;
    }
}

/// Moves a clock that was made by [`Clock::with_hand`] or [`Clock::by_hand`].
#[derive(Debug, Default)]
pub struct Hand {
    advanced: tokio::sync::watch::Sender<Duration>,
    suspended_millis: AtomicU64,
    wall_seconds: AtomicI64,
}

impl Hand {
    /// Time passes on a clock that stands still otherwise, and its timers notice.
    pub fn advance(&self, by: Duration) {
        self.advanced.send_modify(|advanced| *advanced = advanced.saturating_add(by));
    }

    /// The machine sleeps so long: boot-time and wall clock go on, timers do not.
    pub fn suspend(&self, slept: Duration) {
        let millis = u64::try_from(slept.as_millis()).unwrap_or(u64::MAX);
        self.suspended_millis.fetch_add(millis, Ordering::SeqCst);
    }

    /// Somebody sets the wall clock forward or back.
    pub fn step_wall(&self, seconds: i64) {
        self.wall_seconds.fetch_add(seconds, Ordering::SeqCst);
    }

    fn advanced(&self) -> Duration {
        *self.advanced.borrow()
    }

    async fn reach(&self, time: Duration) {
        // Cannot fail: a hand lives for ever.
        let _ = self.advanced.subscribe().wait_for(|advanced| *advanced >= time).await;
    }

    fn suspended(&self) -> Duration {
        Duration::from_millis(self.suspended_millis.load(Ordering::SeqCst))
    }

    fn set(&self, wall: Duration) -> Duration {
        let seconds = self.wall_seconds.load(Ordering::SeqCst);
        let step = Duration::from_secs(seconds.unsigned_abs());
        if seconds < 0 { wall.saturating_sub(step) } else { wall.saturating_add(step) }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::System => "Clock(system)",
            Kind::Virtual { .. } => "Clock(virtual)",
            Kind::Shifted { .. } => "Clock(shifted)",
            Kind::Manual { .. } => "Clock(manual)",
            Kind::Fast { .. } => "Clock(fast)",
        })
    }
}

fn boottime() -> Duration {
    reading(rustix::time::ClockId::Boottime)
}

fn realtime() -> Duration {
    reading(rustix::time::ClockId::Realtime)
}

fn reading(id: rustix::time::ClockId) -> Duration {
    let time = rustix::time::clock_gettime(id);
    // Negative only before 1970 or before boot.
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn virtual_clock_follows_paused_time() {
        let clock = Clock::virtual_time();
        let before = clock.now();
        clock.sleep(Duration::from_secs(3600)).await;
        assert_eq!(before.until(clock.now()), Duration::from_secs(3600));
    }

    #[tokio::test(start_paused = true)]
    async fn a_hand_moves_both_clocks_beside_the_timers() {
        let (clock, hand) = Clock::with_hand();
        let (boot, wall, timers) = (clock.now(), clock.wall(), tokio::time::Instant::now());
        hand.suspend(Duration::from_secs(3600));
        assert_eq!(boot.until(clock.now()).as_secs(), 3600);
        assert_eq!(clock.wall().seconds() - wall.seconds(), 3600);
        hand.step_wall(-86_400);
        assert_eq!(boot.until(clock.now()).as_secs(), 3600);
        assert_eq!(wall.seconds() - clock.wall().seconds(), 86_400 - 3600);
        clock.sleep(Duration::from_secs(15)).await;
        assert_eq!(timers.elapsed().as_secs(), 15);
        assert_eq!(boot.until(clock.now()).as_secs(), 3615);
    }

    #[tokio::test]
    async fn a_clock_by_hand_stands_still_until_it_is_moved() {
        let (clock, hand) = Clock::by_hand();
        let begin = clock.now();
        clock.sleep(Duration::ZERO).await;
        let mut minute = std::pin::pin!(clock.sleep(Duration::from_secs(60)));
        assert!(tokio::time::timeout(Duration::ZERO, &mut minute).await.is_err());
        hand.suspend(Duration::from_secs(600));
        hand.advance(Duration::from_secs(59));
        assert!(tokio::time::timeout(Duration::ZERO, &mut minute).await.is_err());
        hand.advance(Duration::from_secs(1));
        minute.await;
        assert_eq!(begin.until(clock.now()).as_secs(), 660);
    }

    #[test]
    fn a_moment_never_goes_below_zero() {
        let start = Moment(Duration::ZERO);
        assert_eq!(start - Duration::from_secs(1), start);
        assert_eq!((start + Duration::from_secs(1)).until(start), Duration::ZERO);
    }

    #[tokio::test]
    async fn fast_clock_makes_an_hour_short() {
        let clock = Clock::fast(36_000);
        let before = clock.now();
        clock.sleep(Duration::from_secs(3600)).await;
        assert!(before.until(clock.now()) >= Duration::from_secs(3500));
    }
}
