//! Whether a token that was fetched takes the place of the one in hand (pure).

use std::time::Duration;

use super::schedule::USELESS_PAUSE;
use crate::clock::Moment;

/// A token that was fetched, beside the one in hand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer {
    /// The end of its life.
    pub(super) expires: Moment,
    /// The very same text: an endpoint that caches.
    pub(super) is_same: bool,
    /// Another key made it than the one in use.
    pub(super) is_by_another_key: bool,
}

/// Whether `offer` replaces a token that ends at `in_hand`, which upstream may have refused (`is_suspect`).
///
/// A longer life does. So does a switch of keys: from then on nothing may depend on the old key, whose account
/// may be about to go, so its token gives way even to one that ends earlier.
pub(super) fn replaces(now: Moment, in_hand: Option<Moment>, is_suspect: bool, offer: Offer) -> bool {
    let Some(end) = in_hand else { return true };
    if offer.is_same {
        // It lives no longer than before; a few seconds are only rounding.
        return offer.expires > end + USELESS_PAUSE;
    }
    let is_of_use = now.until(offer.expires) >= SENSIBLE;
    offer.expires > end || (is_of_use && (is_suspect || offer.is_by_another_key))
}

/// What is left at least of the minute that a fetched token must have, after the slowest exchange.
pub(super) const SENSIBLE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[tokio::test(start_paused = true)]
    async fn a_longer_life_another_key_or_a_suspicion_replaces_the_token_in_hand() {
        let now = Clock::virtual_time().now();
        let at = |seconds| now + Duration::from_secs(seconds);
        for (what, in_hand, offered, is_same, is_by_another_key, is_suspect, replaces_it) in [
            ("the first", None, 3599, false, true, false, true),
            ("the first, by no new key", None, 60, false, false, false, true),
            ("a longer life", Some(3000), 3599, false, false, false, true),
            ("an equal life", Some(3599), 3599, false, false, false, false),
            ("a shorter life", Some(3599), 1800, false, false, false, false),
            ("a new key, longer", Some(3000), 3599, false, true, false, true),
            ("a new key, equal", Some(3599), 3599, false, true, false, true),
            ("a new key, shorter", Some(43_200), 3599, false, true, false, true),
            ("a new key, a minute", Some(3599), 60, false, true, false, true),
            ("a new key, nothing left", Some(3599), 29, false, true, false, false),
            ("a new key, nothing left, yet more than in hand", Some(5), 29, false, true, false, true),
            ("the same token by a new key", Some(3599), 3599, true, true, false, false),
            ("the same token, rounded", Some(3599), 3603, true, false, false, false),
            ("the same token, prolonged", Some(3599), 3700, true, false, false, true),
            ("a suspect, shorter", Some(3599), 1800, false, false, true, true),
            ("a suspect, nothing left after a suspension", Some(3599), 0, false, false, true, false),
            ("a suspect again", Some(3599), 3599, true, false, true, false),
        ] {
            let offer = Offer { expires: at(offered), is_same, is_by_another_key };
            assert_eq!(replaces(now, in_hand.map(at), is_suspect, offer), replaces_it, "{what}");
        }
    }
}
