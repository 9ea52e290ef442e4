//! How far the wall clock is from the endpoint's, judged by the `Date` of TLS-verified answers.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::clock::Wall;

/// Samples of the difference, shared by everything that signs. Server minus ours, in seconds.
#[derive(Debug, Default)]
pub struct Skew {
    samples: Mutex<VecDeque<i64>>,
}

impl Skew {
    /// A clock believed to be right.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a sample from an answer that came after `round_trip`, which bounds the sample's error.
    pub fn observe(&self, ours: Wall, date: u64, round_trip: Duration) {
        let Some(sample) = plausible(ours, date) else { return };
        if round_trip < SLOWEST {
            let mut samples = self.lock();
            if samples.len() == KEPT {
                samples.pop_front();
            }
            samples.push_back(sample);
        }
    }

    /// Believes one answer alone: the endpoint has just refused our time, so older samples are wrong.
    /// Whether that changes anything.
    pub fn correct(&self, ours: Wall, date: u64) -> bool {
        let before = self.offset_seconds();
        let Some(sample) = plausible(ours, date) else { return false };
        let mut samples = self.lock();
        samples.clear();
        samples.push_back(sample);
        applied(sample) != before
    }

    /// Forgets everything: the wall clock has jumped.
    pub fn forget(&self) {
        self.lock().clear();
    }

    /// What is added to the wall clock: zero while the difference is too small to matter.
    pub fn offset_seconds(&self) -> i64 {
        let mut sorted: Vec<i64> = self.lock().iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).map_or(0, |median| applied(*median))
    }

    /// The endpoint's time, in whole seconds since 1970.
    pub fn server_seconds(&self, ours: Wall) -> u64 {
        ours.seconds().saturating_add_signed(self.offset_seconds())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<i64>> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a `Date` is one to go by.
pub(super) fn is_plausible(ours: Wall, date: u64) -> bool {
    plausible(ours, date).is_some()
}

/// A `Date` more than a day away is a broken server, not a clock to follow.
fn plausible(ours: Wall, date: u64) -> Option<i64> {
    let difference = i64::try_from(i128::from(date) - i128::from(ours.seconds())).ok()?;
    (difference.unsigned_abs() <= FARTHEST_SECONDS).then_some(difference)
}

/// `Date` has whole seconds and answers take time: smaller differences are noise.
fn applied(difference: i64) -> i64 {
    if difference.abs() > NOISE_SECONDS { difference } else { 0 }
}

const KEPT: usize = 5;
const SLOWEST: Duration = Duration::from_secs(2);
const NOISE_SECONDS: i64 = 5;
const FARTHEST_SECONDS: u64 = 24 * 3600;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Wall = Wall(Duration::from_secs(1_700_000_000));
    const QUICK: Duration = Duration::from_millis(50);

    fn seen(differences: &[i64]) -> i64 {
        let skew = Skew::new();
        for difference in differences {
            skew.observe(NOW, NOW.seconds().saturating_add_signed(*difference), QUICK);
        }
        skew.offset_seconds()
    }

    #[test]
    fn the_median_of_the_last_five_samples_counts_when_it_exceeds_five_seconds() {
        for (differences, offset) in [
            (&[][..], 0),
            (&[5], 0),
            (&[6], 6),
            (&[-90], -90),
            (&[0, 0, 3000, 1, 0], 0),
            (&[100, 101, 99, 3000, -3000], 100),
            (&[0, 0, 0, 40, 40, 40, 40, 40], 40),
            (&[86_400], 86_400),
            (&[86_401], 0),
            (&[-1_700_000_000], 0),
        ] {
            assert_eq!(seen(differences), offset, "{differences:?}");
        }
    }

    #[test]
    fn slow_answers_are_no_samples() {
        let skew = Skew::new();
        skew.observe(NOW, NOW.seconds() + 100, Duration::from_secs(2));
        assert_eq!(skew.offset_seconds(), 0);
    }

    #[test]
    fn a_refused_time_is_corrected_from_one_answer() {
        let skew = Skew::new();
        for _ in 0..5 {
            skew.observe(NOW, NOW.seconds(), QUICK);
        }
        assert!(skew.correct(NOW, NOW.seconds() + 3600));
        assert_eq!(skew.server_seconds(NOW), NOW.seconds() + 3600);
        assert!(!skew.correct(NOW, NOW.seconds() + 3600), "the same correction twice changes nothing");
        assert!(!skew.correct(NOW, 0), "an absurd date changes nothing");
        skew.forget();
        assert_eq!(skew.offset_seconds(), 0);
    }
}
