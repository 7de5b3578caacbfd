//! When a frame was captured: RTP times unwrapped, and mapped to UTC aligned to the server's clock.
//!
//! Owns: per track the samples (RTP, publisher NTP, arrival) and the robust line through them. Never: reads a clock.
//! A publisher with its own clock announces the line; a browser's is found from its sender reports, which jitter by
//! milliseconds and whose sound card runs up to 100 ppm beside UTC. Times given out for segments flow: a better line
//! moves them by at most 2 ms a second, so a picture and a voice never jump against each other. A browser counts the
//! samples its microphone gave: what was lost there moves everything after it, and the line follows three reports that agree.

use lotse_protocol::signal::TrackInfo;

use crate::depacketize::unwrap_near;

/// Samples the line is fitted through: the newest ones. 150 at one a second are two and a half minutes.
const MAX_SAMPLES: usize = 150;
/// Without this much time between samples a slope says nothing; the nominal rate holds, µs.
const MIN_SPAN_US: f64 = 60e6;
/// No quartz is off by more, ppm.
const MAX_PPM: f64 = 300.0;
/// A line that moved by more than this is another clock (a machine set its time), not a better fit, µs.
const STEP_US: f64 = 250_000.0;
/// How fast given-out times follow a better line: µs per µs.
const SLEW: f64 = 0.002;
/// The same in the first minute, where a single bad report may have set the line.
const YOUNG_SLEW: f64 = 0.02;
/// Further from the line than any jitter, µs: reports that agree on that tell of another line.
const BESIDE_US: f64 = 30_000.0;
/// How many have to agree, and how closely, µs.
const AGREE: usize = 3;
const AGREE_US: f64 = 15_000.0;
/// At most one sample in this time is kept, µs.
const SAMPLE_EVERY_US: i64 = 900_000;

/// No publisher's UTC or offset is further from 1970 than this, µs (285 years): with it, sums of times stay numbers.
const FAR_US: i64 = 1 << 53;

/// One measurement: RTP time, the publisher's UTC as its sender report says, and server UTC when it arrived, µs.
pub type Sample = (u64, i64, i64);

/// The clock of one track.
#[derive(Debug, Clone)]
pub struct TrackClock {
    rate: f64,
    offset_us: i64,
    announced: Option<(u64, i64)>,
    samples: Vec<Sample>,
    /// Samples not yet written into a segment.
    fresh: Vec<Sample>,
    last_sample_us: i64,
    /// Last unwrapped RTP time and when it arrived.
    last: Option<(u64, i64)>,
    /// Least (arrival − RTP time) seen, µs: stands in until the first report.
    arrival_base: Option<f64>,
    /// What was given out last: RTP and UTC.
    given: Option<(u64, f64)>,
    line: Option<Line>,
    /// Enough samples for more than an offset.
    has_slope: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Line {
    rtp: u64,
    us: f64,
    /// µs of UTC per µs of RTP time, minus one.
    skew: f64,
}

impl TrackClock {
    pub fn new(info: &TrackInfo) -> Self {
        let near = |us: i64| us.clamp(-FAR_US, FAR_US);
        let announced = info.rtp_base.zip(info.start_us).map(|(base, start)| (u64::from(base), near(start)));
        let mut clock = Self {
            rate: f64::from(info.codec.clock_rate()),
            offset_us: near(info.clock_offset_us),
            announced,
            samples: Vec::new(),
            fresh: Vec::new(),
            last_sample_us: i64::MIN / 2,
            last: None,
            arrival_base: None,
            given: None,
            line: None,
            has_slope: false,
        };
        clock.fit();
        clock
    }

    /// Goes on where an earlier run of this program stopped.
    pub fn resume(&mut self, last_rtp: u64, arrival_us: i64) {
        self.last = Some((last_rtp, arrival_us));
    }

    /// Is the map known better than by arrival?
    pub fn is_known(&self) -> bool {
        self.announced.is_some() || !self.samples.is_empty()
    }

    /// The 64-bit RTP time nearest to where the track should be by now.
    pub fn unwrap(&mut self, timestamp: u32, arrival_us: i64) -> u64 {
        let expected = match (self.last, self.announced) {
            (Some((rtp, at)), _) => rtp as f64 + (arrival_us - at) as f64 * self.rate / 1e6,
            (None, Some((base, start))) => base as f64 + (arrival_us - start - self.offset_us) as f64 * self.rate / 1e6,
            (None, None) => f64::from(timestamp),
        };
        let rtp = unwrap_near(i64::from(timestamp), expected as i64, 1 << 32).max(0) as u64;
        self.last = Some((rtp, arrival_us));
        let base = arrival_us as f64 - self.rtp_us(rtp);
        self.arrival_base = Some(self.arrival_base.map_or(base, |b| b.min(base)));
        rtp
    }

    /// A sender report: the publisher's UTC (µs) at this RTP time.
    pub fn report(&mut self, timestamp: u32, ntp_us: i64, arrival_us: i64) {
        // Before any packet there is nothing to unwrap a browser's time against.
        if self.last.is_none() && self.announced.is_none() {
            return;
        }
        if arrival_us - self.last_sample_us < SAMPLE_EVERY_US {
            return;
        }
        self.last_sample_us = arrival_us;
        let keep = self.last;
        let rtp = self.unwrap(timestamp, arrival_us);
        // A report's time is not a frame's: it does not move the track.
        self.last = keep.or(self.last);
        let sample = (rtp, ntp_us, arrival_us);
        self.fresh.push(sample);
        self.samples.push(sample);
        if self.samples.len() > MAX_SAMPLES {
            self.samples.remove(0);
        }
        self.forget_another_line();
        self.fit();
    }

    /// The newest reports agree that the time of the track is another by now: a microphone lost sound or was replaced.
    fn forget_another_line(&mut self) {
        let Some(old) = self.samples.len().checked_sub(AGREE).filter(|old| *old > 0) else { return };
        let beside = |&(rtp, ntp_us, _): &Sample| (ntp_us + self.offset_us) as f64 - self.raw(rtp);
        let (mut least, mut most) = (f64::MAX, f64::MIN);
        for us in self.samples[old..].iter().map(beside) {
            (least, most) = (least.min(us), most.max(us));
        }
        if (least > BESIDE_US || most < -BESIDE_US) && most - least < AGREE_US {
            self.samples.drain(..old);
        }
    }

    /// The samples since the last call.
    pub fn take_samples(&mut self) -> Vec<Sample> {
        std::mem::take(&mut self.fresh)
    }

    /// Best knowledge of when `rtp` was captured, server UTC in µs.
    pub fn at(&self, rtp: u64) -> i64 {
        self.raw(rtp).round() as i64
    }

    /// The same for what is written into the archive, in rising order of `rtp`: continuous from the first report on.
    /// What was given before it stands by arrival, and is corrected as a whole.
    pub fn give(&mut self, rtp: u64) -> i64 {
        let raw = self.raw(rtp);
        if self.line.is_none() {
            return raw.round() as i64;
        }
        let us = match self.given {
            Some((last, us)) if rtp >= last => {
                let elapsed = (rtp - last) as f64 * 1e6 / self.rate;
                let flowing = us + elapsed * (1.0 + self.line.map_or(0.0, |l| l.skew));
                let error = raw - flowing;
                let limit = if self.has_slope { SLEW } else { YOUNG_SLEW } * elapsed;
                if error.abs() > STEP_US { raw } else { flowing + error.clamp(-limit, limit) }
            }
            _ => raw,
        };
        self.given = Some((rtp, us));
        us.round() as i64
    }

    fn rtp_us(&self, rtp: u64) -> f64 {
        rtp as f64 * 1e6 / self.rate
    }

    fn raw(&self, rtp: u64) -> f64 {
        match self.line {
            Some(l) => {
                let x = (rtp as f64 - l.rtp as f64) * 1e6 / self.rate;
                l.us + x * (1.0 + l.skew)
            }
            None => self.arrival_base.unwrap_or(0.0) + self.rtp_us(rtp),
        }
    }

    /// Theil–Sen: the median of slopes, then the median of offsets. A few wild samples change neither.
    fn fit(&mut self) {
        let Some(&(origin, first_ntp, _)) = self.samples.first() else {
            self.line = self.announced.map(|(rtp, start)| Line { rtp, us: (start + self.offset_us) as f64, skew: 0.0 });
            return;
        };
        let points: Vec<(f64, f64)> = self
            .samples
            .iter()
            .map(|&(rtp, ntp, _)| {
                let x = (rtp as f64 - origin as f64) * 1e6 / self.rate;
                (x, (ntp - first_ntp) as f64 - x)
            })
            .collect();
        let span = points.last().map_or(0.0, |p| p.0) - points[0].0;
        let mut skew = 0.0;
        self.has_slope = span >= MIN_SPAN_US;
        if self.has_slope {
            let mut slopes = Vec::new();
            for (i, a) in points.iter().enumerate() {
                for b in &points[i + 1..] {
                    // Short bases measure jitter only.
                    if b.0 - a.0 >= span / 4.0 {
                        slopes.push((b.1 - a.1) / (b.0 - a.0));
                    }
                }
            }
            skew = median(&mut slopes).unwrap_or(0.0).clamp(-MAX_PPM * 1e-6, MAX_PPM * 1e-6);
        }
        let mut offsets: Vec<f64> = points.iter().map(|p| p.1 - skew * p.0).collect();
        let base = median(&mut offsets).unwrap_or(0.0);
        self.line = Some(Line { rtp: origin, us: (first_ntp + self.offset_us) as f64 + base, skew });
    }
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// NTP's 64-bit time (seconds since 1900, 32-bit fraction) as µs since 1970.
pub fn ntp_to_us(ntp: u64) -> i64 {
    const SECONDS_1900_TO_1970: i64 = 2_208_988_800;
    let seconds = (ntp >> 32) as i64 - SECONDS_1900_TO_1970;
    let micros = ((ntp & 0xffff_ffff) * 1_000_000) >> 32;
    seconds * 1_000_000 + micros as i64
}

#[cfg(test)]
mod tests {
    use lotse_protocol::{
        id::TrackId,
        signal::{Codec, TrackSource},
    };
    use proptest::prelude::*;

    use super::*;

    const START: i64 = 1_700_000_000_000_000;

    fn info(codec: Codec, announced: Option<(u32, i64)>) -> TrackInfo {
        TrackInfo {
            track: TrackId(uuid::Uuid::nil()),
            source: TrackSource::Voice,
            codec,
            rtp_base: announced.map(|a| a.0),
            start_us: announced.map(|a| a.1),
            clock_offset_us: 0,
            width: 0,
            height: 0,
        }
    }

    #[test]
    fn an_announcement_no_clock_can_make_is_counted_with_and_breaks_nothing() {
        for (start, offset) in [(i64::MIN, i64::MIN), (i64::MAX, i64::MAX), (i64::MIN, i64::MAX), (i64::MAX, 0)] {
            let absurd = TrackInfo { clock_offset_us: offset, ..info(Codec::Vp8, Some((u32::MAX, start))) };
            let mut clock = TrackClock::new(&absurd);
            for second in 0..3i64 {
                let arrival = START + second * 1_000_000;
                let rtp = clock.unwrap(second as u32 * 90_000, arrival);
                clock.report(second as u32 * 90_000, ntp_to_us(u64::MAX), arrival);
                clock.give(rtp);
            }
        }
    }

    /// Cheap repeatable noise in −1..1.
    fn noise(i: i64) -> f64 {
        let mut x = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d;
        x ^= x >> 29;
        x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x ^= x >> 32;
        (x % 20_001) as f64 / 10_000.0 - 1.0
    }

    /// One hour of a browser voice: a sound card off by `ppm`, report jitter, delay, every 40th report wild.
    /// Returns the worst error of what was given out after the first 30 s, and the worst step between packets, µs.
    fn hour(ppm: f64, jitter_us: f64) -> (f64, f64) {
        let mut clock = TrackClock::new(&info(Codec::Opus, None));
        let (mut worst, mut step, mut before) = (0f64, 0f64, None::<(i64, f64)>);
        let first = 4_294_000_000u64; // Wraps after 20 s.
        for second in 0..3600i64 {
            let truth = START + second * 1_000_000;
            let rtp = first + (second as f64 * 48_000.0 * (1.0 + ppm * 1e-6)) as u64;
            let arrival = truth + 30_000 + (noise(second).abs() * 20_000.0) as i64;
            let unwrapped = clock.unwrap(rtp as u32, arrival);
            assert_eq!(unwrapped, rtp);
            if second % 5 == 2 {
                let wild = if second % 200 == 2 { 60_000.0 } else { 0.0 };
                let ntp = truth + (noise(second + 7) * jitter_us + wild) as i64;
                clock.report(rtp as u32, ntp, arrival);
            }
            if second >= 3 {
                let given = clock.give(unwrapped);
                if second > 30 {
                    worst = worst.max((given - truth) as f64).max((truth - given) as f64);
                }
                // In the first minute a wild report is mended faster than it could be heard or seen.
                if let Some((g, t)) = before
                    && second > 70
                {
                    step = step.max(((given - g) as f64 - (truth as f64 - t)).abs());
                }
                before = Some((given, truth as f64));
            }
        }
        (worst, step)
    }

    #[test]
    fn an_hour_of_a_drifting_voice_stays_within_ten_milliseconds_and_never_jumps() {
        for ppm in [-100.0, -20.0, 0.0, 35.0, 100.0] {
            let (worst, step) = hour(ppm, 6_000.0);
            assert!(worst < 10_000.0, "{ppm} ppm: {worst} µs off");
            assert!(step < 2_500.0, "{ppm} ppm: a step of {step} µs");
        }
    }

    /// A browser's times go on without what its microphone lost: every report after it says so.
    #[test]
    fn sound_that_a_microphone_lost_is_made_up_for_after_three_reports() {
        let mut clock = TrackClock::new(&info(Codec::Opus, None));
        // Ten minutes, then 150 ms lost, then 1.2 s (another microphone was chosen).
        let lost = |second: i64| {
            if second < 600 {
                0
            } else if second < 660 {
                150_000
            } else {
                1_350_000
            }
        };
        let (mut before, mut jump) = (None::<i64>, 0);
        for second in 0..720i64 {
            let truth = START + second * 1_000_000;
            let arrival = truth + 30_000;
            let rtp = clock.unwrap(((second * 1_000_000 - lost(second)) * 48 / 1_000) as u32, arrival);
            if second % 5 == 2 {
                let ntp = truth + (noise(second) * 6_000.0) as i64;
                clock.report(rtp as u32, ntp, arrival);
            }
            if second >= 3 {
                let given = clock.give(rtp);
                // Three reports take 15 s; then 150 ms at 20 ms a second.
                if (60..600).contains(&second) || (625..660).contains(&second) || second >= 675 {
                    assert!((given - truth).abs() < 10_000, "{} µs off after {second} s", given - truth);
                }
                if let Some(g) = before
                    && (615..660).contains(&second)
                {
                    jump = jump.max((given - g - 1_000_000).abs());
                }
                before = Some(given);
            }
        }
        assert!(jump <= 20_000, "a jump of {jump} µs");
    }

    #[test]
    fn times_by_arrival_do_not_hold_back_the_line() {
        let mut clock = TrackClock::new(&info(Codec::Opus, None));
        for second in 0..3i64 {
            let rtp = clock.unwrap(second as u32 * 48_000, START + second * 1_000_000 + 200_000);
            clock.give(rtp);
        }
        clock.report(96_000, START + 2_000_000, START + 2_200_000);
        assert_eq!(
            clock.give(144_000),
            START + 3_000_000,
            "one line from here on, as fragments held until now are given"
        );
        assert_eq!(clock.at(0), START);
    }

    #[test]
    fn an_announced_clock_is_exact_from_the_first_frame() {
        let mut clock =
            TrackClock::new(&TrackInfo { clock_offset_us: -5_000, ..info(Codec::Vp8, Some((2_000_000_000, START))) });
        // 40 s in: the 32-bit time has not wrapped; 8 h later it has, twice.
        for elapsed in [40i64, 8 * 3600] {
            let full = 2_000_000_000u64 + elapsed as u64 * 90_000;
            let rtp = clock.unwrap(full as u32, START + elapsed * 1_000_000 + 20_000);
            assert_eq!(rtp, full);
            assert_eq!(clock.at(rtp), START + elapsed * 1_000_000 - 5_000);
        }
        assert!(clock.is_known());
    }

    #[test]
    fn until_the_first_report_arrival_stands_in() {
        let mut clock = TrackClock::new(&info(Codec::Opus, None));
        for i in 0..100i64 {
            clock.unwrap(1_000 + i as u32 * 960, START + i * 20_000 + (noise(i).abs() * 9_000.0) as i64);
        }
        assert!(!clock.is_known());
        assert!((clock.at(1_000 + 960 * 50) - START - 1_000_000).abs() < 1_000);
    }

    #[test]
    fn ntp_counts_from_1900() {
        assert_eq!(ntp_to_us(2_208_988_800 << 32), 0);
        assert_eq!(ntp_to_us((2_208_988_801 << 32) | 0x8000_0000), 1_500_000);
    }

    proptest! {
        #[test]
        fn nothing_a_sender_reports_breaks_the_clock(reports in prop::collection::vec((any::<u32>(), any::<u64>()), 0..40)) {
            let mut clock = TrackClock::new(&info(Codec::Opus, None));
            for (i, (ts, ntp)) in reports.into_iter().enumerate() {
                let rtp = clock.unwrap(ts, START + i as i64 * 1_000_000);
                clock.report(ts, ntp_to_us(ntp), START + i as i64 * 1_000_000);
                clock.give(rtp);
                clock.at(rtp);
            }
        }
    }
}
