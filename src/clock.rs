//! The only reader of time.
//!
//! Expiries are kept on the boot-time clock, which counts suspended time: a laptop or VM that slept
//! an hour must not believe in an hour-old token (`std::time::Instant` would). Wall time is read only
//! to write `iat` and `exp` and to show times to people.

use std::{
    fmt,
    ops::{Add, Sub},
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

    /// Now, on the clock that counts suspended time.
    pub fn now(&self) -> Moment {
        Moment(match self.kind {
            Kind::System => boottime(),
            Kind::Virtual { origin, .. } => origin.elapsed(),
            Kind::Fast { factor, boot, .. } => boot + boottime().saturating_sub(boot) * factor,
        })
    }

    /// Now, as people and JWTs count it. May jump either way.
    pub fn wall(&self) -> Wall {
        Wall(match self.kind {
            Kind::System => realtime(),
            Kind::Virtual { origin, wall } => wall + origin.elapsed(),
            Kind::Fast { factor, boot, wall } => wall + boottime().saturating_sub(boot) * factor,
        })
    }

    /// Waits. One sleep never spans a suspended period correctly, so long waits are cut into ticks by
    /// those who make them.
    pub async fn sleep(&self, wait: Duration) {
        let real = match self.kind {
            Kind::Fast { factor, .. } => wait / factor,
            Kind::System | Kind::Virtual { .. } => wait,
        };
        tokio::time::sleep(real).await;
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::System => "Clock(system)",
            Kind::Virtual { .. } => "Clock(virtual)",
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
