//! Shares what the way to the server carries between voice and picture: the voice first, the picture what remains.
//!
//! Owns: rate, pace and size of the picture, when it rests, and how long the voice's frames are. Never: measures, encodes. Elsewhere: the measure is the interceptors'
//! `Estimator`; the picture's rate is set by `capture::encode`.

use std::time::{Duration, Instant};

use lotse_interceptor::{Limits, PathNow};

use crate::capture::encode::{MAIN_BITRATE, Rate};

/// Bit/s of the voice with its packets' headers: frames of 10 ms, and of 20.
const VOICE_BPS: f64 = 55_000.0;
const LONG_VOICE_BPS: f64 = 40_000.0;
/// Part of the target that is used: repairs and reports need the rest.
const USED: f64 = 0.92;
/// Bit/s of a picture that still shows something.
const LEAST_BPS: u32 = 60_000;
/// Pictures a second from so many bit/s on: few good ones say more than many bad ones.
const PACES: [(u32, u32); 2] = [(900_000, 30), (0, 15)];
/// Of pictures of half the size: a quarter of the pixels.
const HALF_PACES: [(u32, u32); 3] = [(220_000, 15), (110_000, 10), (0, 5)];
/// Bit/s of the picture below which it is of half the size: its key frames would fill a narrow link for a second.
const HALF_BELOW: u32 = 450_000;
/// And so much more before it is whole again, as a part: each change costs a key frame.
const WHOLE_AGAIN: f64 = 1.3;
/// Upwards only when there is so much more than the step needs: no going to and fro.
const MORE: f64 = 1.15;
/// Frames of 20 ms below the first target, of 10 ms again above the second, bit/s.
const LONG_VOICE_BELOW: f64 = 400_000.0;
const SHORT_VOICE_ABOVE: f64 = 600_000.0;
/// Changes of the rate smaller than this part are not worth telling the encoder.
const WORTH: f64 = 0.05;
/// What a way is taken to carry before it has said anything: everything that is sent then.
const START_BPS: f64 = 1_750_000.0;

/// While more than this stands in the queue no picture is added: it would come late and hold up the voice. Until it is so short.
const JAMMED: Duration = Duration::from_millis(300);
const CLEARED: Duration = Duration::from_millis(80);
/// No longer than this, and not again for as long: what does not go away is no queue.
const REST: Duration = Duration::from_millis(1_500);

/// What voice and picture get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    pub main: Rate,
    /// No pictures for now: the queue has to empty.
    pub rests: bool,
    /// Voice frames of 20 ms instead of 10.
    pub long_voice: bool,
}

impl Share {
    pub const FULL: Self = Self { main: Rate::FULL, rests: false, long_voice: false };
}

/// Bounds of the estimate of a way that is taken to carry `start` bit/s.
pub fn limits(start: f64) -> Limits {
    // Twice as much as is ever sent proves nothing more.
    Limits { min: 100_000.0, start, max: 2.0 * START_BPS }
}

#[derive(Debug)]
pub struct Ladder {
    path_bps: f64,
    share: Share,
    /// When the last rest began.
    rest: Option<Instant>,
}

impl Default for Ladder {
    fn default() -> Self {
        Self { path_bps: START_BPS, share: Share::FULL, rest: None }
    }
}

impl Ladder {
    /// What the way carried last, bit/s.
    pub fn path_bps(&self) -> f64 {
        self.path_bps
    }

    /// The new share when it is another one.
    pub fn step(&mut self, now: Instant, path: &PathNow) -> Option<Share> {
        let target_bps = path.target_bps;
        self.path_bps = target_bps;
        let rests = self.rests(now, path.queue);
        let long_voice = target_bps < if self.share.long_voice { SHORT_VOICE_ABOVE } else { LONG_VOICE_BELOW };
        let voice = if long_voice { LONG_VOICE_BPS } else { VOICE_BPS };
        let bps = ((target_bps * USED - voice).max(0.0) as u32).clamp(LEAST_BPS, MAIN_BITRATE);
        let whole_from = f64::from(HALF_BELOW) * if self.share.main.half { WHOLE_AGAIN } else { 1.0 };
        let half = f64::from(bps) < whole_from;
        let main = Rate { bps, fps: self.pace(bps, half), half };
        let next = Share { main, rests, long_voice };
        let change = (f64::from(bps) - f64::from(self.share.main.bps)).abs() / f64::from(self.share.main.bps);
        let arrived = bps != self.share.main.bps && (bps == MAIN_BITRATE || bps == LEAST_BPS);
        let other = Share { main: Rate { bps: self.share.main.bps, ..main }, ..next } != self.share;
        (other || arrived || change > WORTH).then(|| {
            self.share = next;
            next
        })
    }

    /// Nothing is known of the way any more: who rested has no reason to.
    pub fn wake(&mut self) -> Option<Share> {
        self.share.rests.then(|| {
            self.share.rests = false;
            self.share
        })
    }

    fn rests(&mut self, now: Instant, queue: Duration) -> bool {
        let since = self.rest.map(|began| now.saturating_duration_since(began));
        if self.share.rests {
            return queue > CLEARED && since.is_some_and(|since| since < REST);
        }
        let rests = queue > JAMMED && since.is_none_or(|since| since > 2 * REST);
        if rests {
            self.rest = Some(now);
        }
        rests
    }

    fn pace(&self, bps: u32, half: bool) -> u32 {
        let paces = if half { &HALF_PACES[..] } else { &PACES[..] };
        let at = |bps: u32| paces.iter().find(|(from, _)| bps >= *from).map_or(0, |(_, fps)| *fps);
        let sure = at((f64::from(bps) / MORE) as u32);
        // Down at once, up when it is sure.
        if at(bps) > self.share.main.fps { sure.max(self.share.main.fps) } else { at(bps) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(target_bps: f64, queue_ms: u64) -> PathNow {
        let queue = Duration::from_millis(queue_ms);
        PathNow { target_bps, queue, limits: true, delivered_bps: 0.0, loss: 0.0, round_trip: None, heard: None }
    }

    #[test]
    fn no_picture_is_added_to_a_jam_for_a_while() {
        let (mut ladder, began) = (Ladder::default(), Instant::now());
        let mut rests = |ms: u64, queue_ms: u64| {
            let _ = ladder.step(began + Duration::from_millis(ms), &path(300e3, queue_ms));
            ladder.share.rests
        };
        assert!(!rests(0, 250));
        assert!(rests(200, 400));
        assert!(rests(600, 200), "until it is empty");
        assert!(!rests(900, 60));
        assert!(!rests(1_500, 400), "not again so soon");
        assert!(rests(4_000, 400));
        assert!(rests(5_000, 400));
        assert!(!rests(5_600, 400), "it is as long as before: no queue");
    }

    /// kbit/s, pictures a second, half the size, long frames of the voice.
    fn share(ladder: &mut Ladder, kbit: f64) -> (u32, u32, bool, bool) {
        let _ = ladder.step(Instant::now(), &path(kbit * 1e3, 0));
        let Share { main, long_voice, .. } = ladder.share;
        (main.bps / 1000, main.fps, main.half, long_voice)
    }

    #[test]
    fn a_way_that_carries_everything_gets_everything() {
        let mut ladder = Ladder::default();
        assert_eq!(ladder.step(Instant::now(), &path(START_BPS, 0)), None);
        assert_eq!(ladder.step(Instant::now(), &path(limits(START_BPS).max, 0)), None);
        assert_eq!(ladder.share, Share::FULL);
    }

    #[test]
    fn the_voice_comes_first_and_the_picture_slows_down_then_shrinks_before_it_blurs() {
        let mut ladder = Ladder::default();
        assert_eq!(share(&mut ladder, 1_000.0), (865, 15, false, false));
        assert_eq!(share(&mut ladder, 300.0), (236, 15, true, true));
        assert_eq!(share(&mut ladder, 200.0), (144, 10, true, true));
        assert_eq!(share(&mut ladder, 100.0), (60, 5, true, true));
        assert!(share(&mut ladder, 650.0).2, "not for so little more");
        assert_eq!(share(&mut ladder, 720.0), (607, 15, false, false));
        assert_eq!(share(&mut ladder, 2_000.0), (1_500, 30, false, false));
    }

    #[test]
    fn a_target_that_wavers_changes_nothing() {
        let mut ladder = Ladder::default();
        share(&mut ladder, 600.0);
        let told: Vec<_> = (0..20)
            .filter_map(|n| ladder.step(Instant::now(), &path(if n % 2 == 0 { 590e3 } else { 610e3 }, 0)))
            .collect();
        assert_eq!(told, []);
        // Around the size's own step: down once, and not up again for so little.
        share(&mut ladder, 530.0);
        assert!(ladder.share.main.half);
        share(&mut ladder, 670.0);
        assert!(ladder.share.main.half);
        share(&mut ladder, 720.0);
        assert!(!ladder.share.main.half);
    }
}
