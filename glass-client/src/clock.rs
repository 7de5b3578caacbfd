//! Time on the glasses: one monotonic clock for everything captured, and its place in UTC.
//!
//! Owns: monotonic nanoseconds (the clock GStreamer pipelines with base time 0 run on), publisher UTC that never steps,
//! the offset to the server measured by pings, RTP times.
//! Never: sets a clock. Elsewhere: who sends the pings (`link`).

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

/// Pings remembered; the offset is that of the quickest one.
const PINGS: usize = 10;

/// Nanoseconds of CLOCK_MONOTONIC: the running time of every pipeline here.
pub fn monotonic_ns() -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a valid place for the result, and this clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// The publisher's UTC: the wall clock as it was at start, carried on by the monotonic clock, so that it never steps.
#[derive(Debug, Clone)]
pub struct Clock {
    start_ns: u64,
    start_utc_us: i64,
    /// Server UTC minus ours, µs.
    offset_us: Arc<AtomicI64>,
}

impl Clock {
    pub fn start() -> Self {
        let start_ns = monotonic_ns();
        let utc = SystemTime::now().duration_since(UNIX_EPOCH).map(|d| d.as_micros() as i64).unwrap_or(0);
        Self { start_ns, start_utc_us: utc, offset_us: Arc::default() }
    }

    /// Publisher UTC of a monotonic time, µs since 1970.
    pub fn utc_us(&self, at_ns: u64) -> i64 {
        self.start_utc_us + (at_ns as i64 - self.start_ns as i64) / 1_000
    }

    /// Publisher UTC now, µs.
    pub fn now_us(&self) -> i64 {
        self.utc_us(monotonic_ns())
    }

    /// Aligned to the server, ms: what goes into events.
    pub fn aligned_ms(&self) -> i64 {
        (self.now_us() + self.offset_us()).div_euclid(1_000)
    }

    /// Server UTC minus ours, µs; 0 until measured.
    pub fn offset_us(&self) -> i64 {
        self.offset_us.load(Ordering::Relaxed)
    }

    pub fn set_offset_us(&self, offset: i64) {
        self.offset_us.store(offset, Ordering::Relaxed);
    }
}

/// The last pings; gives the offset at the smallest round trip.
#[derive(Debug, Default)]
pub struct Pings(VecDeque<(i64, i64)>);

impl Pings {
    /// A reply: sent at `t0`, arrived at `t1` (ours), answered at `server` (theirs). Returns (offset, round trip), µs.
    pub fn reply(&mut self, t0: i64, server: i64, t1: i64) -> (i64, i64) {
        // The numbers come from the network: saturate instead of overflow.
        let trip = t1.saturating_sub(t0).max(0);
        let offset = server.saturating_sub(t0.saturating_add(trip / 2));
        if self.0.len() == PINGS {
            self.0.pop_front();
        }
        self.0.push_back((trip, offset));
        self.0.iter().min().map(|&(trip, offset)| (offset, trip)).unwrap_or((offset, trip))
    }
}

/// Turns capture times into RTP times: `base + round(running time × rate)`, from one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpClock {
    pub base: u32,
    pub epoch_ns: u64,
    pub rate: u32,
}

impl RtpClock {
    /// Unwrapped RTP time; before the epoch it is the base.
    pub fn unwrapped(&self, capture_ns: u64) -> u64 {
        let elapsed = u128::from(capture_ns.saturating_sub(self.epoch_ns));
        let ticks = (elapsed * u128::from(self.rate) + 500_000_000) / 1_000_000_000;
        u64::from(self.base) + ticks as u64
    }

    /// As it stands in a packet.
    pub fn wrapped(&self, capture_ns: u64) -> u32 {
        self.unwrapped(capture_ns) as u32
    }
}

/// NTP time (RFC 5905: seconds since 1900, 32.32) of UTC µs.
pub fn ntp(utc_us: i64) -> u64 {
    let us = utc_us.max(0) as u64;
    let seconds = us / 1_000_000 + 2_208_988_800;
    let fraction = ((us % 1_000_000) << 32) / 1_000_000;
    seconds << 32 | fraction
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rtp_time_never_drifts(base in 0u32..1 << 31, frame in 0u64..1_000_000_000, fps in 1u64..120) {
            let clock = RtpClock { base, epoch_ns: 77, rate: 90_000 };
            let at = 77 + frame * 1_000_000_000 / fps;
            let exact = f64::from(base) + frame as f64 * 90_000.0 / fps as f64;
            prop_assert!((clock.unwrapped(at) as f64 - exact).abs() <= 1.0);
        }

        #[test]
        fn ping_replies_never_panic(t0: i64, server: i64, t1: i64) {
            let (_, trip) = Pings::default().reply(t0, server, t1);
            prop_assert!(trip >= 0);
        }
    }

    #[test]
    fn offset_is_taken_from_the_quickest_ping() {
        let mut pings = Pings::default();
        pings.reply(0, 1_000_500, 1_000);
        let (offset, trip) = pings.reply(10_000, 1_030_000, 40_000);
        assert_eq!((offset, trip), (1_000_000, 1_000));
    }

    #[test]
    fn ntp_counts_from_1900() {
        assert_eq!(ntp(0) >> 32, 2_208_988_800);
        assert_eq!(ntp(500_000) as u32, 1 << 31);
    }

    #[test]
    fn publisher_utc_follows_the_monotonic_clock() {
        let clock = Clock::start();
        assert_eq!(clock.utc_us(clock.start_ns + 2_000_000) - clock.utc_us(clock.start_ns), 2_000);
    }
}
