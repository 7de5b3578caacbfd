//! What one leg may ask of the worker in a second.
//!
//! Owns: the allowance. Never: reads a clock. Elsewhere: what happens without it (`forward` counts and leaves out).

use std::time::Instant;

/// An allowance that fills again steadily, up to one second's worth.
#[derive(Debug)]
pub(crate) struct Budget {
    per_second: f64,
    level: f64,
    last: Option<Instant>,
}

impl Budget {
    pub(crate) fn new(per_second: f64) -> Self {
        Self { per_second, level: per_second, last: None }
    }

    /// True: one more may pass.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let since = self.last.map_or(0.0, |last| now.saturating_duration_since(last).as_secs_f64());
        self.last = Some(now);
        self.level = (self.level + since * self.per_second).min(self.per_second);
        let passes = self.level >= 1.0;
        if passes {
            self.level -= 1.0;
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_is_cut_to_the_budget() {
        let (mut budget, start) = (Budget::new(120.0), Instant::now());
        let passed = (0..10_000).filter(|n| budget.take(start + Duration::from_micros(n * 100))).count();
        assert!((230..=240).contains(&passed), "{passed} of one second and the first allowance");
    }
}
