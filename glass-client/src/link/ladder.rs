//! Shares what the way to the server carries between voice and picture: the voice first, the picture what remains.
//!
//! Owns: rate, pace and size of the picture, and how long the voice's frames are. Never: measures, encodes. Elsewhere: the measure is the interceptors'
//! `Estimator`; the picture's rate is set by `capture::encode`.

use lotse_interceptor::Limits;

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

/// What voice and picture get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    pub main: Rate,
    /// Voice frames of 20 ms instead of 10.
    pub long_voice: bool,
}

impl Share {
    pub const FULL: Self = Self { main: Rate::FULL, long_voice: false };
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
}

impl Default for Ladder {
    fn default() -> Self {
        Self { path_bps: START_BPS, share: Share::FULL }
    }
}

impl Ladder {
    /// What the way carried last, bit/s.
    pub fn path_bps(&self) -> f64 {
        self.path_bps
    }

    /// The new share when it is another one.
    pub fn step(&mut self, target_bps: f64) -> Option<Share> {
        self.path_bps = target_bps;
        let long_voice = target_bps < if self.share.long_voice { SHORT_VOICE_ABOVE } else { LONG_VOICE_BELOW };
        let voice = if long_voice { LONG_VOICE_BPS } else { VOICE_BPS };
        let bps = ((target_bps * USED - voice).max(0.0) as u32).clamp(LEAST_BPS, MAIN_BITRATE);
        let whole_from = f64::from(HALF_BELOW) * if self.share.main.half { WHOLE_AGAIN } else { 1.0 };
        let half = f64::from(bps) < whole_from;
        let main = Rate { bps, fps: self.pace(bps, half), half };
        let next = Share { main, long_voice };
        let change = (f64::from(bps) - f64::from(self.share.main.bps)).abs() / f64::from(self.share.main.bps);
        let arrived = bps != self.share.main.bps && (bps == MAIN_BITRATE || bps == LEAST_BPS);
        let other = Share { main: Rate { bps: self.share.main.bps, ..main }, long_voice } != self.share;
        (other || arrived || change > WORTH).then(|| {
            self.share = next;
            next
        })
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

    /// kbit/s, pictures a second, half the size, long frames of the voice.
    fn share(ladder: &mut Ladder, kbit: f64) -> (u32, u32, bool, bool) {
        let _ = ladder.step(kbit * 1e3);
        let Share { main, long_voice } = ladder.share;
        (main.bps / 1000, main.fps, main.half, long_voice)
    }

    #[test]
    fn a_way_that_carries_everything_gets_everything() {
        let mut ladder = Ladder::default();
        assert_eq!(ladder.step(START_BPS), None);
        assert_eq!(ladder.step(limits(START_BPS).max), None);
        assert_eq!(ladder.share, Share::FULL);
    }

    #[test]
    fn the_voice_comes_first_and_the_picture_slows_down_then_shrinks_before_it_blurs() {
        let mut ladder = Ladder::default();
        assert_eq!(share(&mut ladder, 1_000.0), (865, 15, false, false));
        assert_eq!(share(&mut ladder, 300.0), (236, 15, true, true));
        assert_eq!(share(&mut ladder, 200.0), (144, 10, true, true));
        assert_eq!(share(&mut ladder, 100.0), (60, 5, true, true));
        assert_eq!(share(&mut ladder, 650.0).2, true, "not for so little more");
        assert_eq!(share(&mut ladder, 720.0), (607, 15, false, false));
        assert_eq!(share(&mut ladder, 2_000.0), (1_500, 30, false, false));
    }

    #[test]
    fn a_target_that_wavers_changes_nothing() {
        let mut ladder = Ladder::default();
        share(&mut ladder, 600.0);
        let told: Vec<_> = (0..20).filter_map(|n| ladder.step(if n % 2 == 0 { 590e3 } else { 610e3 })).collect();
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
