//! Shares what the way to the server carries between voice and picture: the voice first, the picture what remains.
//!
//! Owns: rate, pace and size of the picture, when it rests, and how long the voice's frames are. Never: measures, encodes. Elsewhere: the measure is the interceptors'
//! `Estimator`; the picture's rate is set by `capture::encode`.

use std::time::{Duration, Instant};

use lotse_interceptor::{Limits, PathNow};

use crate::capture::encode::{MAIN_BITRATE, Rate};

/// Part of the target that is used: repairs and reports need the rest.
const USED: f64 = 0.92;
/// Bit/s of a picture that still shows something.
const LEAST_BPS: u32 = 12_000;
/// Pictures a second from so many bit/s on: few good ones say more than many bad ones.
const PACES: [(u32, u32); 2] = [(900_000, 30), (0, 15)];
/// Of pictures of half the size: a quarter of the pixels.
const HALF_PACES: [(u32, u32); 5] = [(220_000, 15), (110_000, 10), (60_000, 5), (LEAST_BPS, STILLS), (0, 0)];
/// Stills: each has a second's bits, and the next one makes it sharper.
const STILLS: u32 = 1;
/// Bit/s of the picture below which it is of half the size: its key frames would fill a narrow link for a second.
const HALF_BELOW: u32 = 450_000;
/// And so much more before it is whole again, as a part: each change costs a key frame.
const WHOLE_AGAIN: f64 = 1.3;
/// Packets leave so much faster than pictures are made: those must not pile up.
const AHEAD: f64 = 1.2;
/// Upwards only when there is so much more than the step needs: no going to and fro.
const MORE: f64 = 1.15;
/// Changes of the rate smaller than this part are not worth telling the encoder.
const WORTH: f64 = 0.05;
/// What a way is taken to carry before it has said anything: everything that is sent then.
const START_BPS: f64 = 1_750_000.0;

/// While more than this stands in the queue no picture is added: it would come late and hold up the voice. Until it is so short.
const JAMMED: Duration = Duration::from_millis(300);
const CLEARED: Duration = Duration::from_millis(80);
/// No longer than this, and not again for as long: what does not go away is no queue.
const REST: Duration = Duration::from_millis(1_500);

/// How much sound goes into a packet: the shorter the sooner it is heard, the longer the fewer headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum VoiceFrames {
    Ms10,
    Ms20,
    Ms60,
}

impl VoiceFrames {
    /// Bit/s of the voice with its packets' headers.
    fn bps(self) -> f64 {
        match self {
            Self::Ms10 => 55_000.0,
            Self::Ms20 => 40_000.0,
            Self::Ms60 => 26_000.0,
        }
    }

    /// Up to so many bit/s of the way, and while the present ones are these up to so many.
    fn until(self) -> (f64, f64) {
        match self {
            Self::Ms10 => (f64::MAX, f64::MAX),
            Self::Ms20 => (400_000.0, 600_000.0),
            Self::Ms60 => (100_000.0, 130_000.0),
        }
    }

    fn of(target_bps: f64, now: Self) -> Self {
        let fits = |frames: &Self| {
            let (from_above, from_below) = frames.until();
            target_bps < if now >= *frames { from_below } else { from_above }
        };
        [Self::Ms60, Self::Ms20].into_iter().find(fits).unwrap_or(Self::Ms10)
    }
}

/// What is seen of the glasses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pictures {
    #[default]
    Moving,
    Stills,
    None,
}

/// What voice and picture get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    pub main: Rate,
    /// No pictures for now: the queue has to empty.
    pub rests: bool,
    pub voice: VoiceFrames,
}

impl Share {
    pub const FULL: Self = Self { main: Rate::FULL, rests: false, voice: VoiceFrames::Ms10 };
}

/// Bounds of the estimate of a way that is taken to carry `start` bit/s.
pub fn limits(start: f64) -> Limits {
    // Twice as much as is ever sent proves nothing more.
    Limits { min: 36_000.0, start, max: 2.0 * START_BPS }
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
    /// Bit/s at which the packets of pictures are to leave: where a picture at once would stand in the way of the voice.
    pub fn pace_bps(&self) -> Option<u32> {
        let wanted = (self.path_bps * USED - self.share.voice.bps()).max(LEAST_BPS.into());
        self.share.main.half.then_some((wanted * AHEAD) as u32)
    }

    pub fn pictures(&self) -> Pictures {
        match self.share.main.fps {
            0 => Pictures::None,
            STILLS => Pictures::Stills,
            _ => Pictures::Moving,
        }
    }

    /// What the way carried last, bit/s.
    pub fn path_bps(&self) -> f64 {
        self.path_bps
    }

    /// The new share when it is another one.
    pub fn step(&mut self, now: Instant, path: &PathNow) -> Option<Share> {
        let target_bps = path.target_bps;
        self.path_bps = target_bps;
        let rests = self.rests(now, path.queue);
        let voice = VoiceFrames::of(target_bps, self.share.voice);
        let bps = ((target_bps * USED - voice.bps()).max(0.0) as u32).clamp(LEAST_BPS / 2, MAIN_BITRATE);
        let whole_from = f64::from(HALF_BELOW) * if self.share.main.half { WHOLE_AGAIN } else { 1.0 };
        let half = f64::from(bps) < whole_from;
        let main = Rate { bps, fps: self.pace(bps, half), half };
        let next = Share { main, rests, voice };
        let change = (f64::from(bps) - f64::from(self.share.main.bps)).abs() / f64::from(self.share.main.bps);
        let arrived = bps != self.share.main.bps && (bps == MAIN_BITRATE || bps == LEAST_BPS / 2);
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

    /// kbit/s, pictures a second, half the size, frames of the voice.
    fn share(ladder: &mut Ladder, kbit: f64) -> (u32, u32, bool, VoiceFrames) {
        let _ = ladder.step(Instant::now(), &path(kbit * 1e3, 0));
        let Share { main, voice, .. } = ladder.share;
        (main.bps / 1000, main.fps, main.half, voice)
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
        use VoiceFrames::{Ms10, Ms20, Ms60};
        assert_eq!(share(&mut ladder, 1_000.0), (865, 15, false, Ms10));
        assert_eq!(share(&mut ladder, 300.0), (236, 15, true, Ms20));
        assert_eq!(share(&mut ladder, 200.0), (144, 10, true, Ms20));
        assert_eq!(share(&mut ladder, 120.0), (70, 5, true, Ms20));
        assert_eq!(ladder.pictures(), Pictures::Moving);
        assert_eq!(share(&mut ladder, 64.0), (32, 1, true, Ms60));
        assert_eq!(ladder.pictures(), Pictures::Stills);
        assert_eq!(share(&mut ladder, 38.0), (8, 0, true, Ms60));
        assert_eq!(ladder.pictures(), Pictures::None);
        assert_eq!(share(&mut ladder, 64.0), (32, 1, true, Ms60));
        assert_eq!(share(&mut ladder, 120.0).3, Ms60, "not for so little more");
        assert_eq!(share(&mut ladder, 140.0), (88, 5, true, Ms20));
        assert!(share(&mut ladder, 650.0).2, "not for so little more");
        assert_eq!(share(&mut ladder, 720.0), (607, 15, false, Ms10));
        assert_eq!(share(&mut ladder, 2_000.0), (1_500, 30, false, Ms10));
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
