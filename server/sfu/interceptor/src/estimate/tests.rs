//! The estimator over paths whose rate, delay and loss are known.

use std::time::{Duration, Instant};

use rtc::interceptor::{BandwidthEstimator as _, PacketReport};

use super::{Estimator, Limits};

const BYTES: usize = 1_200;
const FEEDBACK: Duration = Duration::from_millis(100);
const LIMITS: Limits = Limits { min: 50e3, start: 600e3, max: 4e6 };

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A path and a sender on it that sends what it is told, in step.
struct Road {
    estimator: Estimator,
    began: Instant,
    now: Duration,
    bps: f64,
    /// Longest queue; what comes later is lost.
    buffer: Duration,
    way: Duration,
    jitter: Duration,
    loss: f64,
    /// At most this is sent, whatever may be.
    source_bps: f64,
    /// What is sent now; an encoder takes so long to follow.
    sends_bps: f64,
    lag: Duration,
    /// The queue is empty again at this time.
    free: Duration,
    next: Duration,
    /// Sent, not reported yet.
    underway: Vec<PacketReport>,
    told: Duration,
    chance: u64,
    id: u64,
}

impl Road {
    fn new(bps: f64) -> Self {
        Self {
            estimator: Estimator::new(LIMITS),
            began: Instant::now(),
            now: Duration::ZERO,
            bps,
            buffer: ms(600),
            way: ms(25),
            jitter: Duration::ZERO,
            loss: 0.0,
            source_bps: f64::MAX,
            sends_bps: LIMITS.start,
            lag: Duration::ZERO,
            free: Duration::ZERO,
            next: Duration::ZERO,
            underway: Vec::new(),
            told: Duration::ZERO,
            chance: 7,
            id: 0,
        }
    }

    /// 0 to 1, the same in every run.
    fn chance(&mut self) -> f64 {
        self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.chance >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn target(&self) -> f64 {
        self.estimator.target_bitrate()
    }

    fn queue(&self) -> Duration {
        self.free.saturating_sub(self.now)
    }

    fn send(&mut self) {
        self.free = self.free.max(self.now);
        let fits = self.queue() < self.buffer;
        let lost = self.chance() < self.loss || !fits;
        if fits {
            self.free += Duration::from_secs_f64(BYTES as f64 * 8.0 / self.bps);
        }
        let late = self.jitter.mul_f64(self.chance());
        self.underway.push(PacketReport {
            ssrc: 1,
            id: self.id,
            rtp_sequence_number: self.id as u16,
            is_twcc: true,
            twcc_sequence_number: self.id as u16,
            size: BYTES,
            arrived: !lost,
            departure: self.began + self.now,
            arrival: (!lost).then(|| self.free + self.way + late),
            ecn: rtc::rtcp::transport_feedbacks::cc_feedback_report::Ecn::NotEct,
        });
        self.id += 1;
    }

    /// Everything that came in until half a round trip ago is reported now.
    fn tell(&mut self) {
        let seen = self.now.saturating_sub(self.way);
        let known = self.underway.iter().rposition(|p| p.arrival.is_some_and(|at| at <= seen));
        let reports: Vec<_> = known.map(|n| self.underway.drain(..=n).collect()).unwrap_or_default();
        self.estimator.on_reports(self.began + self.now, &reports);
    }

    /// Targets, a sample every 100 ms.
    fn drive(&mut self, time: Duration) -> Vec<f64> {
        let end = self.now + time;
        let mut targets = Vec::new();
        while self.now < end {
            if self.now >= self.next {
                self.send();
                let wanted = self.target().min(self.source_bps);
                let period = BYTES as f64 * 8.0 / self.sends_bps;
                let follows = (period / self.lag.as_secs_f64().max(1e-9)).min(1.0);
                self.sends_bps += (wanted - self.sends_bps) * follows;
                self.next = self.now + Duration::from_secs_f64(BYTES as f64 * 8.0 / self.sends_bps);
            }
            if self.now >= self.told {
                self.told = self.now + FEEDBACK;
                self.tell();
                targets.push(self.target());
            }
            self.now += Duration::from_micros(500);
        }
        targets
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn it_finds_what_the_path_carries_and_keeps_the_queue_short() {
    for bps in [300e3, 1e6, 2e6] {
        let mut road = Road::new(bps);
        road.drive(ms(20_000));
        let used = mean(&road.drive(ms(20_000))) / bps;
        assert!((0.75..1.1).contains(&used), "{used:.2} of {bps}");
        let mut longest = Duration::ZERO;
        for _ in 0..200 {
            road.drive(ms(100));
            longest = longest.max(road.queue());
        }
        assert!(longest < ms(350), "{longest:?} at {bps}");
    }
}

#[test]
fn a_path_that_narrows_is_followed_within_two_seconds_and_one_that_widens_within_ten() {
    let mut road = Road::new(2e6);
    road.drive(ms(20_000));
    road.bps = 300e3;
    road.drive(ms(1_200));
    assert!(road.target() < 300e3, "{}", road.target());
    road.drive(ms(800));
    assert!(road.queue() < ms(300), "{:?}", road.queue());
    let used = mean(&road.drive(ms(10_000))) / 300e3;
    assert!((0.6..1.1).contains(&used), "{used:.2}");
    road.bps = 2e6;
    let up = road.drive(ms(10_000));
    assert!(up.iter().any(|t| *t > 1.6e6), "{:?}", up.last());
}

#[test]
fn a_narrow_path_is_used_well_soon_although_what_jammed_it_was_lost_and_the_encoder_follows_late() {
    let mut road = Road { lag: ms(400), ..Road::new(2e6) };
    road.drive(ms(20_000));
    road.bps = 300e3;
    road.drive(ms(2_500));
    let soon = mean(&road.drive(ms(2_000))) / 300e3;
    let (mut used, mut queues) = (0.0, Vec::new());
    for _ in 0..150 {
        used += mean(&road.drive(ms(100))) / 300e3 / 150.0;
        queues.push(road.queue());
    }
    queues.sort();
    assert!(soon > 0.6 && (0.75..1.15).contains(&used), "{soon:.2} at first, {used:.2} later");
    assert!(queues[142] < ms(250), "a queue of {:?}", queues[142]);
    road.bps = 2e6;
    let up = road.drive(ms(10_000));
    assert!(up.iter().any(|t| *t > 1.6e6), "{:?}", up.last());
}

#[test]
fn what_the_path_loses_by_itself_costs_no_rate() {
    for loss in [0.05, 0.15, 0.30] {
        let mut road = Road { loss, ..Road::new(20e6) };
        let before = road.drive(ms(15_000));
        let after = mean(&road.drive(ms(20_000)));
        assert!(after > 1.5e6, "{after:.0} at a loss of {loss}, from {:?}", before.last());
    }
}

#[test]
fn a_path_with_hardly_a_buffer_is_known_by_its_losses() {
    let mut road = Road { buffer: ms(20), ..Road::new(800e3) };
    road.drive(ms(20_000));
    let used = mean(&road.drive(ms(30_000))) / 800e3;
    assert!((0.7..1.4).contains(&used), "{used:.2}");
}

#[test]
fn a_longer_way_is_not_a_queue_for_long() {
    let mut road = Road { source_bps: 1.5e6, ..Road::new(20e6) };
    road.drive(ms(20_000));
    let before = road.target();
    road.way += ms(120);
    let lowest = road.drive(ms(8_000)).into_iter().fold(f64::MAX, f64::min);
    let after = mean(&road.drive(ms(4_000)));
    assert!(after > 0.8 * before.min(1.5e6), "{before:.0} before, {lowest:.0} at worst, {after:.0} after");
}

#[test]
fn jitter_is_not_a_queue() {
    let mut road = Road { jitter: ms(80), ..Road::new(20e6) };
    road.drive(ms(15_000));
    let after = mean(&road.drive(ms(10_000)));
    assert!(after > 3e6, "{after:.0}");
}

#[test]
fn a_path_that_stops_for_a_moment_is_not_a_narrow_one() {
    let mut road = Road::new(10e6);
    road.source_bps = 1.6e6;
    road.drive(ms(10_000));
    let mut targets = Vec::new();
    for _ in 0..6 {
        // Everything waits, then comes at once.
        road.free = road.now + ms(400);
        targets.extend(road.drive(ms(3_000)));
    }
    let (least, mean) = (targets.iter().copied().fold(f64::MAX, f64::min), mean(&targets));
    assert!(least > 0.7e6 && mean > 1.5e6, "at least {least:.0}, {mean:.0} on average");
}

#[test]
fn who_sends_little_learns_little() {
    let mut road = Road { source_bps: 300e3, ..Road::new(20e6) };
    road.drive(ms(60_000));
    assert!(road.target() < 650e3, "{}", road.target());
}

#[test]
fn a_path_that_was_narrow_no_longer_limits_when_nothing_was_too_much_for_a_while() {
    let mut road = Road { source_bps: 500e3, ..Road::new(300e3) };
    let mut seen = Vec::new();
    for bps in [300e3, 20e6, 300e3] {
        road.bps = bps;
        road.drive(ms(30_000));
        seen.push(road.estimator.path().now().limits);
    }
    assert_eq!(seen, [true, false, true], "although hardly more was sent");
}

#[test]
fn after_silence_the_path_is_learnt_anew() {
    let mut road = Road::new(2e6);
    road.drive(ms(20_000));
    let before = road.target();
    road.now += ms(20_000);
    (road.next, road.told) = (road.now, road.now);
    road.underway.clear();
    road.way = ms(300);
    let lowest = road.drive(ms(5_000)).into_iter().fold(f64::MAX, f64::min);
    assert!(lowest > 0.5 * before, "{before:.0}, then {lowest:.0}");
}

#[test]
fn it_stays_within_its_limits() {
    let mut road = Road::new(20e3);
    road.drive(ms(30_000));
    assert_eq!(road.target(), LIMITS.min);
    road.bps = 50e6;
    road.drive(ms(60_000));
    assert_eq!(road.target(), LIMITS.max);
}

#[test]
fn feedback_that_makes_no_sense_changes_nothing_and_breaks_nothing() {
    let mut road = Road::new(2e6);
    road.send();
    let mut odd = road.underway.clone();
    odd[0].arrived = true;
    odd[0].arrival = Some(Duration::MAX);
    let at = road.began + Duration::from_secs(1);
    for reports in [vec![], odd.clone(), [odd.clone(), odd.clone()].concat()] {
        road.estimator.on_reports(at, &reports);
    }
    odd[0].arrival = Some(Duration::ZERO);
    odd[0].departure = at + Duration::from_secs(3_600);
    road.estimator.on_reports(at, &odd);
    assert_eq!(road.target(), LIMITS.start);
}
