//! How often a key frame is worth its bytes: every 2 s on a line above 1 Mbit/s, every 10 s on a poor one.
//!
//! Owns: the rate of the pictures between key frames, counted over their RTP times. Never: reads a clock, asks by itself.
//! Key frames are not counted: those asked for here would keep the rate up that asks for them.
//! Elsewhere: fragments, which begin at key frames (`track`).

/// Bit/s above which a fragment ends within 2 s.
const DENSE_ABOVE: u64 = 1_000_000;
/// Asked for a little before the time is up, because an encoder needs a moment, ms.
const DENSE_MS: u64 = 1_750;
const SPARSE_MS: u64 = 9_750;
/// The rate is taken over this long, s.
const WINDOW: u64 = 2;
/// Pictures further apart are a hole and no low rate, s.
const HOLE: u64 = 3 * WINDOW;

/// The pace of one picture track.
#[derive(Debug, Clone)]
pub struct Pace {
    clock_rate: u64,
    /// RTP time at which the counting began.
    begun: Option<u64>,
    bytes: u64,
    /// Bit/s of the last full window.
    rate: Option<u64>,
}

impl Pace {
    pub fn new(clock_rate: u32) -> Self {
        Self { clock_rate: u64::from(clock_rate), begun: None, bytes: 0, rate: None }
    }

    /// A picture of so many bytes, in the order of their times.
    pub fn picture(&mut self, rtp: u64, bytes: usize, key: bool) {
        let ticks = rtp.saturating_sub(*self.begun.get_or_insert(rtp));
        if ticks >= WINDOW * self.clock_rate {
            if ticks <= HOLE * self.clock_rate {
                self.rate = Some(self.bytes * 8 * self.clock_rate / ticks);
            }
            (self.begun, self.bytes) = (Some(rtp), 0);
        }
        if !key {
            self.bytes += bytes as u64;
        }
    }

    /// Age of a fragment at which the next key frame is asked for, ms. Until the rate is known: as on a good line.
    pub fn ask_after_ms(&self) -> u64 {
        if self.rate.is_none_or(|rate| rate > DENSE_ABOVE) { DENSE_MS } else { SPARSE_MS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 25 pictures a second for so long at this rate; every fiftieth is a key frame of 100 kB.
    fn run(pace: &mut Pace, from: u64, seconds: u64, kbit: u64) -> u64 {
        for n in 0..seconds * 25 {
            let key = n % 50 == 0;
            let bytes = if key { 100_000 } else { kbit as usize * 1000 / 8 / 25 };
            pace.picture(from + n * 3_600, bytes, key);
        }
        from + seconds * 90_000
    }

    #[test]
    fn the_rate_between_key_frames_decides() {
        let mut pace = Pace::new(90_000);
        assert_eq!(pace.ask_after_ms(), DENSE_MS, "nothing is known yet");
        // 900 kbit/s and a key frame every 2 s are 1.3 Mbit/s together; the key frames are ours.
        let at = run(&mut pace, 7_000_000_000, 5, 900);
        assert_eq!(pace.ask_after_ms(), SPARSE_MS);
        let at = run(&mut pace, at, 5, 1_100);
        assert_eq!(pace.ask_after_ms(), DENSE_MS);
        run(&mut pace, at, 5, 300);
        assert_eq!(pace.ask_after_ms(), SPARSE_MS);
    }

    #[test]
    fn a_hole_is_no_low_rate() {
        let mut pace = Pace::new(90_000);
        let at = run(&mut pace, 0, 5, 2_000);
        let at = run(&mut pace, at + 60 * 90_000, 1, 2_000);
        assert_eq!(pace.ask_after_ms(), DENSE_MS);
        // Time that runs backwards is somebody's broken clock, and no panic.
        pace.picture(at - 1_000_000, 10, false);
        assert_eq!(pace.ask_after_ms(), DENSE_MS);
    }
}
