//! When to try again: an object of its own, so that it can be tested without a network.

use std::time::Duration;

/// First pause, ms.
const FIRST_MS: u64 = 250;
/// Longest pause, ms: a technician should not wait longer for a network that is back.
const LONGEST_MS: u64 = 5_000;

/// Pauses that double up to a limit, each shortened by chance so that many glasses do not come at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retry {
    failures: u32,
}

impl Retry {
    /// The pause before the next try. `chance` is 0.0 to 1.0.
    pub fn next(&mut self, chance: f64) -> Duration {
        let full = FIRST_MS.saturating_mul(1 << self.failures.min(16)).min(LONGEST_MS);
        self.failures = self.failures.saturating_add(1);
        Duration::from_millis((full as f64 * (0.5 + 0.5 * chance.clamp(0.0, 1.0))) as u64)
    }

    /// It worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pauses_grow_to_a_limit_and_never_vanish(chances in proptest::collection::vec(0.0f64..=1.0, 1..200)) {
            let mut retry = Retry::default();
            for chance in chances {
                let pause = retry.next(chance).as_millis() as u64;
                prop_assert!((FIRST_MS / 2..=LONGEST_MS).contains(&pause));
            }
        }
    }

    #[test]
    fn a_success_begins_anew() {
        let mut retry = Retry::default();
        let first = retry.next(1.0);
        (0..9).for_each(|_| {
            retry.next(1.0);
        });
        assert_eq!(retry.next(1.0).as_millis() as u64, LONGEST_MS);
        retry.reset();
        assert_eq!(retry.next(1.0), first);
    }
}
