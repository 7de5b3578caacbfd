//! What a bad link does to what passes it: losses alone or in bursts, delay, jitter, doubles, a rate with a queue before it.
//!
//! Owns: the faults and, per direction, their chance and their queue. Never: a socket, a clock.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::Instant;

/// What comes to a queue as long as this is lost.
const QUEUE: Duration = Duration::from_millis(600);

/// What the link does to datagrams; streams are only late and slow. Each direction has it by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Faults {
    /// Lost datagrams, percent.
    pub loss_pct: f64,
    /// Losses in a row, in the mean (Gilbert's model: a state that loses all, and one that loses nothing). Up to 1: each by itself.
    pub burst: f64,
    pub delay: Duration,
    /// Up to this much more, by chance: reorders.
    pub jitter: Duration,
    /// Datagrams that arrive twice, percent.
    pub double_pct: f64,
    /// Bit/s; None: everything.
    pub rate_bps: Option<f64>,
}

/// One direction.
pub struct Way {
    chance: StdRng,
    /// In a burst of losses.
    loses: bool,
    /// When its queue is empty again.
    free: Instant,
}

impl Way {
    pub fn new(seed: u64, now: Instant) -> Self {
        Self { chance: StdRng::seed_from_u64(seed), loses: false, free: now }
    }

    /// How late each copy of a datagram arrives. None: it is lost.
    pub fn datagram(&mut self, faults: &Faults, bytes: usize, now: Instant) -> Vec<Duration> {
        if self.is_lost(faults) {
            return Vec::new();
        }
        if self.free.saturating_duration_since(now) >= QUEUE {
            return Vec::new();
        }
        let queued = self.queue(faults, bytes, now);
        let copies = 1 + usize::from(self.percent(faults.double_pct));
        (0..copies).map(|_| queued + faults.delay + faults.jitter.mul_f64(self.chance.random_range(0.0..1.0))).collect()
    }

    /// When a piece of a stream arrives, and how long the next one has to wait until the queue has room.
    pub fn piece(&mut self, faults: &Faults, bytes: usize, now: Instant) -> (Instant, Duration) {
        let queued = self.queue(faults, bytes, now);
        (now + queued + faults.delay, queued.saturating_sub(QUEUE))
    }

    fn queue(&mut self, faults: &Faults, bytes: usize, now: Instant) -> Duration {
        let Some(bps) = faults.rate_bps else { return Duration::ZERO };
        self.free = self.free.max(now) + Duration::from_secs_f64(bytes as f64 * 8.0 / bps);
        self.free - now
    }

    fn is_lost(&mut self, faults: &Faults) -> bool {
        if faults.burst <= 1.0 || faults.loss_pct >= 100.0 {
            return self.percent(faults.loss_pct);
        }
        let ends = 100.0 / faults.burst;
        let begins = ends * faults.loss_pct / (100.0 - faults.loss_pct);
        self.loses = if self.loses { !self.percent(ends) } else { self.percent(begins) };
        self.loses
    }

    fn percent(&mut self, percent: f64) -> bool {
        self.chance.random_range(0.0..100.0) < percent
    }
}
