//! Good answers, as many as there is room for (pure): a new one takes the place of the one that was used longest ago.

use std::collections::HashMap;

use super::Answer;
use crate::authority::Host;

/// The good answers about names of one kind.
#[derive(Default)]
pub(super) struct Memory {
    kept: HashMap<Host, Kept>,
    /// Counts up with every use.
    uses: u64,
    /// Names whose answers no other takes the place of.
    always: Vec<Host>,
}

struct Kept {
    answer: Answer,
    last_use: u64,
}

impl Memory {
    /// One that never gives up what it knows about these names.
    pub(super) fn keeping(always: Vec<Host>) -> Self {
        Self { always, ..Self::default() }
    }

    /// The last answer about `host`.
    pub(super) fn answer(&mut self, host: &Host) -> Option<Answer> {
        let kept = self.kept.get_mut(host)?;
        self.uses += 1;
        kept.last_use = self.uses;
        Some(kept.answer.clone())
    }

    /// Keeps `answer` in place of the last one.
    pub(super) fn keep(&mut self, host: &Host, answer: Answer) {
        if self.kept.len() >= MOST_NAMES && !self.kept.contains_key(host) {
            let others = self.kept.iter().filter(|(host, _)| !self.always.contains(host));
            let oldest = others.min_by_key(|(_, kept)| kept.last_use).map(|(host, _)| host.clone());
            oldest.and_then(|host| self.kept.remove(&host));
        }
        self.uses += 1;
        self.kept.insert(host.clone(), Kept { answer, last_use: self.uses });
    }
}

/// Names of either kind.
pub(super) const MOST_NAMES: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn host(text: &str) -> Host {
        Host::parse(text).unwrap()
    }

    fn answer(last: u8) -> Answer {
        let now = Clock::by_hand().0.now();
        Answer { addresses: [[198, 18, 0, last].into()].into(), fresh_until: now, ask_again: now }
    }

    #[test]
    fn a_full_memory_forgets_the_answer_that_was_used_longest_ago_and_no_other() {
        let mut memory = Memory::default();
        let name = |number: usize| host(&format!("n{number}.example"));
        for number in 0..MOST_NAMES {
            memory.keep(&name(number), answer(1));
        }
        // The first is used again, and the second has a newer answer.
        assert!(memory.answer(&name(0)).is_some());
        memory.keep(&name(1), answer(2));
        memory.keep(&host("new.example"), answer(1));
        assert!(memory.answer(&name(2)).is_none(), "it was used longest ago");
        assert_eq!(memory.kept.len(), MOST_NAMES);
        for number in (0..MOST_NAMES).filter(|number| *number != 2) {
            let found = memory.answer(&name(number)).unwrap_or_else(|| panic!("{number} is forgotten"));
            assert_eq!(found.addresses[..], answer(if number == 1 { 2 } else { 1 }).addresses[..]);
        }
    }

    #[test]
    fn some_names_are_never_forgotten() {
        let mut memory = Memory::keeping(vec![host("oauth2.googleapis.com"), host("sts.googleapis.com")]);
        memory.keep(&host("oauth2.googleapis.com"), answer(1));
        for number in 0..2 * MOST_NAMES {
            memory.keep(&host(&format!("b{number}.storage.googleapis.com")), answer(1));
        }
        assert!(memory.answer(&host("oauth2.googleapis.com")).is_some());
        assert!(memory.answer(&host("sts.googleapis.com")).is_none(), "it was never known");
        assert_eq!(memory.kept.len(), MOST_NAMES);
    }
}
