//! When to ask for the next token (pure).
//!
//! Jitter everywhere: pods of a fleet that start or fail together must not come back together.

use std::time::Duration;

use crate::{
    backoff::Backoff,
    clock::{Moment, Wall},
    credential::{Class, FetchError, Reason},
};

/// What the schedule depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The life to keep in hand of an hour's token, also at the worst instant (`refresh.availability`).
    pub availability: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { availability: Duration::from_secs(40 * 60) }
    }
}

/// A token is not given out in its last seconds: it must still be valid when it arrives.
pub const GUARD: Duration = Duration::from_secs(10);
/// No sleep is longer, so that suspended time and clock jumps are noticed.
pub const TICK: Duration = Duration::from_secs(15);
/// How long a new key may be unknown to Google before that counts as its fault.
pub const PROPAGATION: Duration = Duration::from_secs(10 * 60);
/// Between two refreshes that a 401 asked for.
pub const FORCED_EVERY: Duration = Duration::from_secs(30);
/// Between two fetches whose answers are of no use although they are tokens.
pub const USELESS_PAUSE: Duration = Duration::from_secs(5);

/// The age at which a token is refreshed. `random` is uniform in `0.0..1.0`, here and below.
///
/// An hour's token at 40 min: 15 min ± 20 %, which leaves 41.9 min; at 55 min: 4 min ± 20 %. Shorter
/// tokens keep the same share of their life in hand; never later than a quarter (cheap enough), never
/// earlier than a sixteenth.
pub fn refresh_age(lifetime: Duration, settings: Settings, random: f64) -> Duration {
    let share = lifetime.as_secs_f64().min(HOUR) / HOUR;
    let in_hand = settings.availability.mul_f64(share);
    let spare = lifetime.saturating_sub(in_hand);
    let mean = spare.mul_f64(0.8).min(lifetime / 4).max(lifetime / 16);
    mean.mul_f64(spread(random)).max(USELESS_PAUSE)
}

/// After an answer with a token that does not outlive the one in hand (an endpoint that caches).
pub fn after_no_progress(left: Duration, random: f64) -> Duration {
    (left / 4).mul_f64(spread(random)).max(USELESS_PAUSE)
}

/// After transient failure number `failures`, with `left` usable life in hand (zero: none).
pub fn after_transient(failures: u32, left: Duration, retry_after: Option<Duration>, random: f64) -> Duration {
    let backoff = if left < LAST_MINUTE { WITHOUT_TOKEN } else { WITH_TOKEN };
    let own = backoff.wait(failures, random);
    // The next attempt begins at the token's end at the latest: who asks for one then waits for it, and not in vain.
    let own = if left.is_zero() { own } else { own.min(left) };
    // Never past the last minute of the token in hand. With none in hand, clients are failing meanwhile.
    let most = if left.is_zero() { WITHOUT_TOKEN_RETRY_AFTER } else { left.saturating_sub(LAST_MINUTE) };
    let asked = retry_after.unwrap_or_default().min(MOST_RETRY_AFTER).min(most);
    own.max(asked)
}

/// Without a token, and without having reached the endpoint: nobody there is burdened, and a network that
/// begins to work (a pod's first seconds) should be noticed at once.
pub fn after_unreachable(failures: u32, random: f64) -> Duration {
    UNREACHABLE.wait(failures, random)
}

/// After a failure that may pass by itself: one of the two above.
pub fn after_failure(error: &FetchError, failures: u32, left: Duration, random: f64) -> Duration {
    match (error.class, error.reason) {
        (_, Reason::Dns | Reason::Connect | Reason::Timeout) if left.is_zero() => after_unreachable(failures, random),
        (Class::Transient { retry_after }, _) => after_transient(failures, left, retry_after, random),
        _ => after_transient(failures, left, None, random),
    }
}

/// What is left of a wait after an attempt that took `spent`, so that a silent endpoint does not make the time
/// between two attempts longer than a refusing one.
pub fn shortened(wait: Duration, spent: Duration) -> Duration {
    wait.saturating_sub(spent).max(WITH_TOKEN.first / 10)
}

/// Until a refused key is tried again: `failures` in a row, the key known to us since `age`.
pub fn after_refused_key(failures: u32, age: Duration, random: f64) -> Duration {
    let (first, most) = if age < PROPAGATION { (5, 60) } else { (60, 300) };
    let doublings = failures.saturating_sub(1).min(8);
    Duration::from_secs((first << doublings).min(most)).mul_f64(spread(random))
}

/// The first fetch of each of several credentials: not all in the same instant.
pub fn start_delay(credentials: usize, random: f64) -> Duration {
    if credentials > 1 { Duration::from_secs(2).mul_f64(random) } else { Duration::ZERO }
}

/// How far wall and boot-time clock have moved, in seconds.
pub fn deltas((then, wall_then): (Moment, Wall), (now, wall): (Moment, Wall)) -> (f64, f64) {
    (wall.0.as_secs_f64() - wall_then.0.as_secs_f64(), then.until(now).as_secs_f64())
}

/// Whether wall and boot-time clock have moved so differently that something set the wall clock.
pub fn wall_jumped(wall_delta: f64, boot_delta: f64) -> bool {
    (wall_delta - boot_delta).abs() > JUMP_SECONDS
}

fn spread(random: f64) -> f64 {
    0.8 + 0.4 * random.clamp(0.0, 1.0)
}

const HOUR: f64 = 3600.0;
const JUMP_SECONDS: f64 = 30.0;
/// A recovered endpoint is to be noticed within 30 s, the exchange included.
const WITH_TOKEN: Backoff = Backoff { first: Duration::from_millis(500), most: Duration::from_secs(20) };
const WITHOUT_TOKEN: Backoff = Backoff { first: Duration::from_millis(500), most: Duration::from_secs(5) };
const UNREACHABLE: Backoff = Backoff { first: Duration::from_millis(500), most: Duration::from_secs(2) };
const MOST_RETRY_AFTER: Duration = Duration::from_secs(300);
const WITHOUT_TOKEN_RETRY_AFTER: Duration = Duration::from_secs(30);
const LAST_MINUTE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    fn settings(minutes: u64) -> Settings {
        Settings { availability: Duration::from_secs(minutes * 60) }
    }

    #[test]
    fn refresh_ages_keep_the_availability_in_hand() {
        for (lifetime, minutes, earliest, latest) in [
            (3599, 40, 719, 1080),
            (3600, 40, 720, 1080),
            (3599, 55, 191, 288),
            (3599, 20, 719, 1080),
            (3599, 58, 179, 270),
            (3599, 60, 179, 270),
            (3599, 90, 179, 270),
            (600, 40, 120, 180),
            (600, 55, 32, 48),
            (60, 40, 12, 18),
            (60, 55, 5, 5),
            (43_200, 40, 8640, 12_960),
        ] {
            let age = |random| refresh_age(Duration::from_secs(lifetime), settings(minutes), random).as_secs_f64();
            let (low, high) = (age(0.0), age(1.0));
            assert!((low - f64::from(earliest)).abs() <= 1.0, "{lifetime} s at {minutes} min: {low}");
            assert!((high - f64::from(latest)).abs() <= 1.0, "{lifetime} s at {minutes} min: {high}");
        }
        for minutes in [40, 55] {
            let latest = refresh_age(Duration::from_secs(3599), settings(minutes), 1.0);
            let left = Duration::from_secs(3599) - latest - GUARD;
            assert!(left >= settings(minutes).availability, "{left:?} at {minutes} min");
        }
    }

    #[test]
    fn transient_failures_wait_less_without_a_token() {
        for (failures, left, seconds) in [
            (1, 0, 0.5),
            (4, 0, 4.0),
            (5, 0, 5.0),
            (99, 0, 5.0),
            (1, 900, 0.5),
            (7, 900, 20.0),
            (99, 900, 20.0),
            (99, 59, 5.0),
            (99, 3, 3.0),
        ] {
            let wait = after_transient(failures, Duration::from_secs(left), None, 1.0);
            assert_eq!(wait.as_secs_f64(), seconds, "{failures} failures, {left} s left");
        }
    }

    #[test]
    fn an_endpoint_out_of_reach_is_tried_every_two_seconds() {
        for (failures, seconds) in [(1, 0.5), (3, 2.0), (1000, 2.0)] {
            assert_eq!(after_unreachable(failures, 1.0).as_secs_f64(), seconds);
        }
    }

    #[test]
    fn only_an_endpoint_out_of_reach_is_hurried_and_only_without_a_token() {
        let asked = Class::Transient { retry_after: Some(Duration::from_secs(25)) };
        for (class, reason, left, seconds) in [
            (Class::TRANSIENT, Reason::Connect, 0, 2.0),
            (Class::TRANSIENT, Reason::Dns, 0, 2.0),
            (Class::TRANSIENT, Reason::Timeout, 0, 2.0),
            (Class::TRANSIENT, Reason::Connect, 900, 20.0),
            (Class::TRANSIENT, Reason::Unavailable, 0, 5.0),
            (Class::Clock, Reason::Clock, 0, 5.0),
            (asked, Reason::RateLimited, 0, 25.0),
            (asked, Reason::RateLimited, 900, 25.0),
        ] {
            let error = FetchError::new(class, reason, "no luck");
            let wait = after_failure(&error, 99, Duration::from_secs(left), 1.0);
            assert_eq!(wait.as_secs_f64(), seconds, "{reason:?} with {left} s left");
        }
    }

    #[test]
    fn the_time_an_attempt_took_counts_as_waiting() {
        for (wait, spent, left) in [(20_000, 10_000, 10_000), (5_000, 10_000, 50), (300, 20, 280), (0, 0, 50)] {
            let (wait, spent) = (Duration::from_millis(wait), Duration::from_millis(spent));
            assert_eq!(shortened(wait, spent).as_millis(), left, "{wait:?} {spent:?}");
        }
    }

    #[test]
    fn retry_after_is_honoured_within_bounds() {
        for (asked, left, seconds) in [
            (0, 2000, 0.5),
            (1, 2000, 1.0),
            (120, 2000, 120.0),
            (86_400, 2000, 300.0),
            (u64::MAX, 2000, 300.0),
            (120, 100, 40.0),
            (120, 60, 0.5),
            (120, 1, 0.5),
            (3, 0, 3.0),
            (120, 0, 30.0),
        ] {
            let asked = Some(Duration::from_secs(asked));
            let wait = after_transient(1, Duration::from_secs(left), asked, 1.0);
            assert_eq!(wait.as_secs_f64(), seconds, "asked {asked:?}, {left} s left");
        }
        let own = after_transient(7, Duration::from_secs(2000), Some(Duration::from_secs(1)), 1.0);
        assert_eq!(own.as_secs(), 20, "never less than our own");
    }

    #[test]
    fn refused_keys_are_tried_again_soon_while_they_are_new_and_slowly_later() {
        for (failures, age, seconds) in [
            (1, 0, 5),
            (2, 10, 10),
            (4, 60, 40),
            (5, 120, 60),
            (60, 599, 60),
            (1, 600, 60),
            (2, 700, 120),
            (3, 9000, 240),
            (4, 9000, 300),
            (4_000_000_000, 90_000, 300),
        ] {
            let wait = after_refused_key(failures, Duration::from_secs(age), 0.5);
            assert_eq!(wait.as_secs(), seconds, "{failures} failures at {age} s");
        }
    }

    #[test]
    fn tokens_that_bring_no_progress_do_not_cause_a_rush() {
        for (left, seconds) in [(0, 5), (19, 5), (40, 10), (2400, 600)] {
            assert_eq!(after_no_progress(Duration::from_secs(left), 0.5).as_secs(), seconds);
        }
    }

    #[test]
    fn several_credentials_start_apart() {
        assert_eq!(start_delay(1, 0.9), Duration::ZERO);
        assert_eq!(start_delay(2, 0.5), Duration::from_secs(1));
    }

    #[test]
    fn a_jump_is_told_from_a_suspension() {
        for (wall, boot, jumped) in [
            (15.0, 15.0, false),
            (3600.0, 3600.0, false),
            (15.0, 3600.0, true),
            (3600.0, 15.0, true),
            (-86_400.0, 15.0, true),
            (44.0, 15.0, false),
        ] {
            assert_eq!(wall_jumped(wall, boot), jumped, "{wall} {boot}");
        }
    }

    #[test]
    fn a_fleet_that_starts_together_spreads_out() {
        let mut random = StdRng::seed_from_u64(7);
        let (pods, hours) = (1000, 24);
        let mut minutes = vec![0_u32; hours * 60];
        for _ in 0..pods {
            let mut time = random.random::<f64>() * 2.0;
            while time < hours as f64 * HOUR {
                minutes[(time / 60.0) as usize] += 1;
                time += refresh_age(Duration::from_secs(3599), Settings::default(), random.random()).as_secs_f64();
            }
        }
        let peak_to_mean = |minutes: &[u32]| {
            let mean = f64::from(minutes.iter().sum::<u32>()) / minutes.len() as f64;
            f64::from(minutes.iter().copied().max().unwrap()) / mean
        };
        let from_second_cycle = peak_to_mean(&minutes[1..]);
        assert!(from_second_cycle <= 3.0, "{from_second_cycle}");
        // A day on, only chance is left: four standard deviations of 67 a minute.
        let late = peak_to_mean(&minutes[12 * 60..]);
        assert!(late <= 1.5, "{late}");
    }
}
