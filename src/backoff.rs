//! Full-jitter exponential back-off (pure): each wait is uniform between the floor and a doubling ceiling.
//!
//! Full jitter rather than a small percentage: a fleet that failed together must not return together.

use std::time::Duration;

/// The shape of a back-off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The ceiling of the first wait.
    pub first: Duration,
    /// The ceiling that doubling never passes.
    pub most: Duration,
}

impl Backoff {
    /// The wait before attempt `failures + 1`. `random` is uniform in `0.0..1.0`.
    ///
    /// Never less than a tenth of `first`: a full-jitter draw near zero would be a busy loop.
    pub fn wait(&self, failures: u32, random: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        let ceiling = self.first.saturating_mul(1 << doublings).min(self.most);
        ceiling.mul_f64(random.clamp(0.0, 1.0)).max(self.first / 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { first: Duration::from_millis(500), most: Duration::from_secs(30) };

    #[test]
    fn ceilings_double_up_to_the_most() {
        for (failures, seconds) in [(1, 0.5), (2, 1.0), (3, 2.0), (6, 16.0), (7, 30.0), (4_000_000_000, 30.0)] {
            let wait = BACKOFF.wait(failures, 1.0);
            assert_eq!(wait, Duration::from_secs_f64(seconds), "after {failures} failures");
        }
    }

    #[test]
    fn the_lowest_draw_is_not_a_busy_loop() {
        assert_eq!(BACKOFF.wait(9, 0.0), Duration::from_millis(50));
    }
}
