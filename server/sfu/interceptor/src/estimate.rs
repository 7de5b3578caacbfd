//! How much a path carries, from transport feedback: delay speaks first, loss second, growth where neither does.
//!
//! Owns: the standing queue, the delivered rate, the loss that is the path's own, and the target made of them.
//! Never: a clock, a packet, a pacer. Elsewhere: what is done with the target.
//!
//! The core's own `Gcc` grows by 8 % a second, takes every loss above 10 % for congestion and knows no other base delay than its first: 300 kbit/s to
//! 2 Mbit/s would take it 25 s, and a path that loses 15 % by itself would starve.

#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rtc::interceptor::{BandwidthEstimator, PacketReport};

/// Over so much of the receiver's time a rate is measured.
const RATE_WINDOW: Duration = Duration::from_millis(500);
/// The least delay of so much of the receiver's time is what stands in the queue: jitter goes below it, a queue does not.
const STANDING_WINDOW: Duration = Duration::from_millis(250);
/// Over so much of our time losses are counted, and at least over so many packets.
const LOSS_WINDOW: Duration = Duration::from_millis(1_500);
const LOSS_PACKETS: usize = 60;
/// So long the shortest delay is remembered, in parts of [`BASE_PART`].
const BASE_PARTS: usize = 15;
const BASE_PART: Duration = Duration::from_secs(1);
/// A queue that is too long, and one that is short enough to ask for more.
const FULL: Duration = Duration::from_millis(60);
const SHORT: Duration = Duration::from_millis(30);
/// Loss above the path's own that counts as congestion.
const LOSSY: f64 = 0.08;
/// Fewer packets say nothing about loss.
const ENOUGH: usize = 40;
/// And fewer than these about a rate of late.
const FEW: usize = 5;
/// Between two cuts, at least: the first has to be seen.
const SETTLES: Duration = Duration::from_millis(250);
/// So long a lower rate is tried before a loss counts as the path's own.
const TRIAL: Duration = Duration::from_millis(2_500);
/// So much of the loss is left then; what was congestion is gone at what arrived.
const STAYED: f64 = 0.5;
/// So long a loss counts as the path's own; then it is tried again.
const OWN_LOSS_KEPT: Duration = Duration::from_secs(20);
/// Growth a second: far from what was too much lately, and near it, which is between these parts of it.
const FAST: f64 = 1.45;
const SLOW: f64 = 1.15;
const NEAR: std::ops::Range<f64> = 0.85..1.4;
/// At a round trip up to this; on a longer one as much less.
const NEARBY: Duration = Duration::from_millis(300);
/// What was too much is forgotten after this.
const CEILING_KEPT: Duration = Duration::from_secs(20);
/// So much more than what arrives may be asked for: a source that sends little proves little.
const AHEAD: f64 = 1.5;
const AHEAD_BPS: f64 = 100_000.0;
/// The receiver's clock runs on; one that jumps is another one, or its 24 bits began anew.
const JUMP: Duration = Duration::from_secs(60);
/// Silence after which the path may be another one.
const SILENT: Duration = Duration::from_millis(1_500);
/// A queue has to stand so long before it counts: a path, or a machine, that stops for a moment and then delivers everything has none.
const STANDS: Duration = Duration::from_millis(150);
/// At least this part is left by one cut: what arrives just after such a stop says little. Not before a queue that is beyond doubt.
const LEAST_LEFT: f64 = 0.4;
const BEYOND_DOUBT: Duration = Duration::from_millis(200);
/// Cuts in vain for so long, and what looks like a queue is the way itself.
const IN_VAIN: Duration = Duration::from_millis(1_500);

/// Bit/s between which the target stays, and where it begins.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub min: f64,
    pub start: f64,
    pub max: f64,
}

/// What is known of a path now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PathNow {
    /// Bit/s that may be sent, everything counted.
    pub target_bps: f64,
    /// That is because more was too much not long ago; else nobody has sent enough to know.
    pub limits: bool,
    /// Bit/s that arrive.
    pub delivered_bps: f64,
    /// Part of the packets that was lost, 0 to 1.
    pub loss: f64,
    /// How long packets stand in queues.
    pub queue: Duration,
    /// From sending to the feedback about it, the shortest of the last batch; with the receiver's wait for it.
    pub round_trip: Option<Duration>,
    /// Of the last feedback.
    pub heard: Option<Instant>,
}

/// Where the estimator, which the interceptors own, leaves its figures for the application.
#[derive(Debug, Clone)]
pub struct Path(Arc<Mutex<PathNow>>);

impl Path {
    pub fn now(&self) -> PathNow {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Arrived {
    at: Duration,
    /// Arrival less departure: the clocks' difference is in it, only changes mean anything.
    delay_us: i64,
    bytes: usize,
}

struct Trial {
    until: Instant,
    loss: f64,
    target: f64,
}

pub struct Estimator {
    limits: Limits,
    target: f64,
    epoch: Option<Instant>,
    arrived: VecDeque<Arrived>,
    sent: VecDeque<(Instant, bool)>,
    /// What left before was too much, and its losses are accounted for.
    losses_from: Option<Instant>,
    /// Least delay of each part, the newest last.
    bases: VecDeque<(Instant, i64)>,
    /// Since when the queue is too long.
    full_since: Option<Instant>,
    hold_until: Option<Instant>,
    grown: Option<Instant>,
    ceiling: Option<(Instant, f64)>,
    trial: Option<Trial>,
    own_loss: Option<(Instant, f64)>,
    /// The first of the cuts for the queue that stands now: when, and what stood in it.
    first_cut: Option<(Instant, i64)>,
    heard: Option<Instant>,
    path: Path,
}

impl Estimator {
    pub fn new(limits: Limits) -> Self {
        let target = limits.start.clamp(limits.min, limits.max);
        let now = PathNow {
            target_bps: target,
            limits: false,
            delivered_bps: 0.0,
            loss: 0.0,
            queue: Duration::ZERO,
            round_trip: None,
            heard: None,
        };
        Self {
            limits,
            target,
            epoch: None,
            arrived: VecDeque::new(),
            sent: VecDeque::new(),
            losses_from: None,
            bases: VecDeque::new(),
            full_since: None,
            hold_until: None,
            grown: None,
            ceiling: None,
            trial: None,
            own_loss: None,
            first_cut: None,
            heard: None,
            path: Path(Arc::new(Mutex::new(now))),
        }
    }

    /// To be read by the application while the interceptors drive the estimator.
    pub fn path(&self) -> Path {
        self.path.clone()
    }

    fn take_in(&mut self, now: Instant, reports: &[PacketReport]) {
        if self.heard.is_some_and(|heard| now.saturating_duration_since(heard) > SILENT) {
            // What was learnt is of a path that may be gone.
            self.arrived.clear();
            self.sent.clear();
            self.bases.clear();
            self.trial = None;
            self.own_loss = None;
            self.hold_until = Some(now + SETTLES);
        }
        self.heard = Some(now);
        for report in reports {
            if self.losses_from.is_none_or(|from| report.departure >= from) {
                self.sent.push_back((report.departure, report.arrived));
            }
            let Some(at) = report.arrival.filter(|_| report.arrived) else { continue };
            let epoch = *self.epoch.get_or_insert(report.departure);
            let left = report.departure.saturating_duration_since(epoch);
            if self.arrived.back().is_some_and(|last| last.at.abs_diff(at) > JUMP) {
                self.arrived.clear();
                self.bases.clear();
            }
            self.arrived.push_back(Arrived {
                at,
                delay_us: micros(at).saturating_sub(micros(left)),
                bytes: report.size,
            });
        }
        let newest = self.arrived.iter().map(|a| a.at).max().unwrap_or_default();
        self.arrived.retain(|a| a.at > newest.saturating_sub(RATE_WINDOW) || a.at == newest);
        let oldest = self.sent.back().map(|(at, _)| *at);
        while self.sent.len() > LOSS_PACKETS
            && self.sent.front().is_some_and(|(at, _)| oldest.is_some_and(|o| *at + LOSS_WINDOW < o))
        {
            self.sent.pop_front();
        }
    }

    /// What arrives while the queue grows; a measure over longer holds what arrived before.
    fn delivered_of_late(&self, delivered: f64) -> f64 {
        let newest = self.arrived.iter().map(|a| a.at).max().unwrap_or_default();
        let late = || self.arrived.iter().filter(|a| a.at >= newest.saturating_sub(STANDING_WINDOW));
        let Some(first) = late().map(|a| a.at).min() else { return delivered };
        let (span, count) = ((newest - first).as_secs_f64(), late().count());
        let bytes: usize = late().filter(|a| a.at > first).map(|a| a.bytes).sum();
        if span < 0.1 || count < FEW { delivered } else { delivered.min(bytes as f64 * 8.0 / span) }
    }

    fn delivered(&self) -> Option<f64> {
        let first = self.arrived.iter().map(|a| a.at).min()?;
        let last = self.arrived.iter().map(|a| a.at).max()?;
        let span = (last - first).as_secs_f64();
        // The first packet stands for the time before it.
        let bytes: usize = self.arrived.iter().filter(|a| a.at > first).map(|a| a.bytes).sum();
        (span > 0.1).then(|| bytes as f64 * 8.0 / span)
    }

    fn loss(&self) -> Option<f64> {
        let lost = self.sent.iter().filter(|(_, arrived)| !arrived).count();
        (self.sent.len() >= ENOUGH).then(|| lost as f64 / self.sent.len() as f64)
    }

    /// What stands in the queue: the least delay of late against the least that is remembered.
    fn standing_us(&mut self, now: Instant) -> i64 {
        let newest = self.arrived.iter().map(|a| a.at).max().unwrap_or_default();
        let late =
            self.arrived.iter().filter(|a| a.at >= newest.saturating_sub(STANDING_WINDOW)).map(|a| a.delay_us).min();
        let Some(late) = late else { return 0 };
        match self.bases.back_mut() {
            Some((since, least)) if now.saturating_duration_since(*since) < BASE_PART => *least = late.min(*least),
            _ => self.bases.push_back((now, late)),
        }
        while self.bases.len() > BASE_PARTS {
            self.bases.pop_front();
        }
        late.saturating_sub(self.bases.iter().map(|(_, least)| *least).min().unwrap_or(late))
    }

    fn decide(&mut self, now: Instant, standing_us: i64, loss: Option<f64>, delivered: f64, round_trip: Duration) {
        let own_loss = self
            .own_loss
            .filter(|(since, _)| now.saturating_duration_since(*since) < OWN_LOSS_KEPT)
            .map_or(0.0, |(_, own)| own);
        // Twice the deviation that chance alone makes of so few packets.
        let chance = 2.0 * (own_loss.max(LOSSY) / self.sent.len().max(1) as f64).sqrt();
        let lossy = loss.filter(|loss| *loss > own_loss + LOSSY.max(chance));
        if self.ceiling.is_some_and(|(since, _)| now.saturating_duration_since(since) > CEILING_KEPT) {
            self.ceiling = None;
        }
        self.judge_trial(now, loss);
        let full = standing_us > micros(FULL);
        let since = self.full_since.take_if(|_| full).unwrap_or(now);
        self.full_since = full.then_some(since);
        if full {
            // What a full queue loses is its own doing.
            self.forget_losses(now);
        }
        if self.hold_until.is_some_and(|until| now < until) {
            self.grown = Some(now);
            return;
        }
        if full && now.saturating_duration_since(since) < STANDS {
            self.grown = Some(now);
        } else if full {
            self.cut(now, standing_us, delivered, round_trip);
        } else if let Some(loss) = lossy {
            self.first_cut = None;
            if self.trial.is_none() {
                tracing::debug!(target = self.target, delivered, loss, own_loss, "losses");
                self.trial = Some(Trial { until: now + TRIAL, loss, target: self.target });
                self.lower_to(now, delivered, self.target * LEAST_LEFT);
                self.ceiling = Some((now, delivered));
                self.hold_until = Some(now + SETTLES.max(round_trip));
            }
            self.grown = Some(now);
        } else if standing_us < micros(SHORT) && self.trial.is_none() {
            self.first_cut = None;
            self.grow(now, delivered, round_trip);
        } else {
            self.grown = Some(now);
        }
    }

    fn cut(&mut self, now: Instant, standing_us: i64, delivered: f64, round_trip: Duration) {
        let (since, first_us) = *self.first_cut.get_or_insert((now, standing_us));
        let as_sent = (0.8..1.3).contains(&(delivered / self.target));
        // A queue grows or shrinks with what is sent.
        let as_before = standing_us.abs_diff(first_us) * 5 < first_us.unsigned_abs();
        if now.saturating_duration_since(since) >= IN_VAIN && as_before && as_sent {
            // Everything that is sent arrives, as late as before: this is how long the way is now.
            self.bases.clear();
            self.first_cut = None;
            self.ceiling = None;
            return;
        }
        tracing::debug!(target = self.target, delivered, standing_us, "a queue");
        // Empty the queue within about a second, besides what goes on arriving.
        let part = (0.9 - standing_us as f64 / 1e6).clamp(0.5, 0.85);
        // The first step of several need not wait for the sight of itself.
        let delivered = self.delivered_of_late(delivered);
        let least = if standing_us > micros(BEYOND_DOUBT) { 0.0 } else { self.target * LEAST_LEFT };
        let enough = self.lower_to(now, delivered * part, least);
        self.ceiling = Some((now, delivered));
        self.hold_until = Some(now + if enough { SETTLES.max(round_trip) } else { SETTLES });
        self.grown = Some(now);
    }

    /// Of what has left by now.
    fn forget_losses(&mut self, now: Instant) {
        self.losses_from = Some(now);
        self.sent.clear();
    }

    /// False: there is more to cut.
    fn lower_to(&mut self, now: Instant, bps: f64, least: f64) -> bool {
        self.forget_losses(now);
        self.target = self.target.min(bps.max(least));
        bps >= least
    }

    /// A lower rate that loses as much as the higher one did: the loss is the path's own.
    fn judge_trial(&mut self, now: Instant, loss: Option<f64>) {
        // Until enough was sent to judge by.
        let Some(loss) = loss.filter(|_| self.trial.as_ref().is_some_and(|t| now >= t.until)) else { return };
        if let Some(trial) = self.trial.take()
            && loss > STAYED * trial.loss
        {
            self.own_loss = Some((now, loss.max(trial.loss)));
            self.target = self.target.max(trial.target);
            self.ceiling = None;
        }
    }

    fn grow(&mut self, now: Instant, delivered: f64, round_trip: Duration) {
        let passed = self.grown.map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64()).min(0.5);
        // What was too much is seen a round trip later: a far path is tried more slowly.
        let passed = passed * (NEARBY.as_secs_f64() / round_trip.as_secs_f64()).min(1.0);
        self.grown = Some(now);
        let near = self.ceiling.is_some_and(|(_, ceiling)| NEAR.contains(&(self.target / ceiling)));
        // What came through a full queue is what the path carries: once that is empty, most of it is used again.
        let sure = self.ceiling.map_or(0.0, |(_, ceiling)| ceiling * NEAR.start);
        let grown = (self.target * (if near { SLOW } else { FAST }).powf(passed)).max(sure);
        // One that sends less than it may does not learn that more would pass.
        self.target = grown.min(self.target.max(delivered * AHEAD + AHEAD_BPS));
    }
}

impl BandwidthEstimator for Estimator {
    fn on_reports(&mut self, now: Instant, reports: &[PacketReport]) {
        if reports.is_empty() {
            return;
        }
        self.take_in(now, reports);
        let standing_us = self.standing_us(now);
        let loss = self.loss();
        let round_trip = reports.iter().filter(|r| r.arrived).map(|r| now.saturating_duration_since(r.departure)).min();
        let delivered = self.delivered();
        if let Some(delivered) = delivered {
            self.decide(now, standing_us, loss, delivered, round_trip.unwrap_or(SETTLES));
        }
        self.target = self.target.clamp(self.limits.min, self.limits.max);
        *self.path.0.lock().unwrap_or_else(PoisonError::into_inner) = PathNow {
            target_bps: self.target,
            limits: self.ceiling.is_some(),
            delivered_bps: delivered.unwrap_or(0.0),
            loss: loss.unwrap_or(0.0),
            queue: Duration::from_micros(u64::try_from(standing_us).unwrap_or(0)),
            round_trip,
            heard: Some(now),
        };
    }

    fn target_bitrate(&self) -> f64 {
        self.target
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}
