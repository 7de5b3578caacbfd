//! What waits to be heard of one voice: packets in order of their RTP time, and how late they tend to come.
//!
//! Owns: unwrapping of sequence numbers and times, duplicates, the measured jitter and the delay that follows from it.
//! Never: decodes, reads a clock. Elsewhere: which packet is heard when (`stream`).

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use bytes::Bytes;

use super::{VoicePacket, per_ms};

/// Delay is kept between these, ms: below, one 20 ms packet and one block do not fit; above, people interrupt each other.
const MIN_DELAY_MS: f64 = 40.0;
const MAX_DELAY_MS: f64 = 200.0;
/// On top of the measured jitter, ms: one 20 ms packet is needed whole before its first sample is heard.
const MARGIN_MS: f64 = 20.0;
/// Packets the jitter is measured over: 5 s of 20 ms.
const MEASURED: usize = 250;
/// The worst of them that may come too late: 2 %.
const ALLOWED_LATE: usize = 50;
/// Packets that wait at most: 1.3 s of 20 ms. The oldest goes when it is full.
const WAITING: usize = 64;
/// A packet this far from its expected time, ms, does not belong to this stream of time.
const ODD_MS: f64 = 2_000.0;
/// After so long of nothing else, ms, the sender has begun a new one.
const ODD_FOR_MS: f64 = 1_000.0;

/// A packet that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) seq: i64,
    pub(super) payload: Bytes,
}

/// What became of a pushed packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    Kept,
    Duplicate,
    /// Its time is over.
    Late,
    /// Kept, but the oldest one had to go.
    Full,
    /// Far from its expected time; not kept.
    Odd,
    /// The sender began anew: everything before is forgotten, this one is kept.
    Restart,
}

/// Packets of one voice. All times in samples (48 kHz), on the unwrapped RTP time line.
#[derive(Debug)]
pub(super) struct Buffer {
    epoch: Instant,
    packets: BTreeMap<i64, Waiting>,
    newest: Option<(i64, i64)>,
    /// Bit n: the packet `newest.seq - n` was seen.
    seen: u64,
    /// Arrival minus RTP time of the last packets.
    transits: VecDeque<f64>,
    earliest: f64,
    delay: f64,
    odd_since: Option<Instant>,
}

impl Buffer {
    pub(super) fn new(epoch: Instant) -> Self {
        Self {
            epoch,
            packets: BTreeMap::new(),
            newest: None,
            seen: 0,
            transits: VecDeque::with_capacity(MEASURED + 1),
            earliest: 0.0,
            delay: per_ms(MIN_DELAY_MS),
            odd_since: None,
        }
    }

    /// Takes a packet; `heard`: everything before this time is over.
    pub(super) fn push(&mut self, packet: VoicePacket, heard: Option<i64>) -> Pushed {
        let (time, seq) = match self.newest {
            None => (i64::from(packet.rtp_time), i64::from(packet.seq)),
            Some((time, seq)) => (
                time + i64::from(packet.rtp_time.wrapping_sub(time as u32) as i32),
                seq + i64::from(packet.seq.wrapping_sub(seq as u16) as i16),
            ),
        };
        let transit = self.samples_until(packet.arrived) - time as f64;
        let mut result = Pushed::Kept;
        if self.newest.is_some() && (transit - self.earliest).abs() > per_ms(ODD_MS) {
            let since = *self.odd_since.get_or_insert(packet.arrived);
            if packet.arrived.saturating_duration_since(since).as_secs_f64() * 1_000.0 < ODD_FOR_MS {
                return Pushed::Odd;
            }
            *self = Self::new(self.epoch);
            result = Pushed::Restart;
        }
        self.odd_since = None;
        if self.seen_before(seq) {
            return Pushed::Duplicate;
        }
        self.mark_seen(time, seq);
        self.measure(transit);
        if result != Pushed::Restart && heard.is_some_and(|h| time < h) {
            return Pushed::Late;
        }
        self.packets.insert(time, Waiting { seq, payload: packet.payload });
        if self.packets.len() > WAITING {
            self.packets.pop_first();
            result = Pushed::Full;
        }
        result
    }

    /// Time and number of the packet that comes first.
    pub(super) fn first(&self) -> Option<(i64, i64)> {
        self.packets.first_key_value().map(|(time, p)| (*time, p.seq))
    }

    /// The payload of the packet that comes first.
    pub(super) fn first_payload(&self) -> Option<Bytes> {
        self.packets.first_key_value().map(|(_, p)| p.payload.clone())
    }

    pub(super) fn take_first(&mut self) -> Option<(i64, Waiting)> {
        self.packets.pop_first()
    }

    /// The RTP time that should be heard now.
    pub(super) fn due(&self, now: Instant) -> f64 {
        self.samples_until(now) - self.earliest - self.delay
    }

    #[cfg(test)]
    fn delay_ms(&self) -> f64 {
        self.delay / per_ms(1.0)
    }

    fn samples_until(&self, at: Instant) -> f64 {
        let seconds = match at.checked_duration_since(self.epoch) {
            Some(after) => after.as_secs_f64(),
            None => -self.epoch.duration_since(at).as_secs_f64(),
        };
        seconds * per_ms(1_000.0)
    }

    fn seen_before(&self, seq: i64) -> bool {
        match self.newest {
            // Too old to remember counts as new: it is late anyway.
            Some((_, newest)) if seq <= newest => newest - seq < 64 && self.seen >> (newest - seq) & 1 == 1,
            _ => false,
        }
    }

    fn mark_seen(&mut self, time: i64, seq: i64) {
        match self.newest {
            Some((_, newest)) if seq <= newest => {
                if newest - seq < 64 {
                    self.seen |= 1 << (newest - seq);
                }
            }
            Some((_, newest)) => {
                self.seen = if seq - newest < 64 { self.seen << (seq - newest) | 1 } else { 1 };
                self.newest = Some((time, seq));
            }
            None => {
                self.seen = 1;
                self.newest = Some((time, seq));
            }
        }
    }

    fn measure(&mut self, transit: f64) {
        self.transits.push_back(transit);
        if self.transits.len() > MEASURED {
            self.transits.pop_front();
        }
        let mut sorted: Vec<f64> = self.transits.iter().copied().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let usual = sorted[sorted.len() - 1 - sorted.len() / ALLOWED_LATE];
        self.earliest = sorted[0];
        let needed = usual - self.earliest + per_ms(MARGIN_MS);
        self.delay = needed.clamp(per_ms(MIN_DELAY_MS), per_ms(MAX_DELAY_MS));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn packet(epoch: Instant, seq: u16, rtp_time: u32, at_ms: u64) -> VoicePacket {
        VoicePacket { rtp_time, seq, payload: Bytes::from_static(&[1]), arrived: epoch + Duration::from_millis(at_ms) }
    }

    #[test]
    fn numbers_and_times_wrap_and_come_in_any_order() {
        let epoch = Instant::now();
        let mut b = Buffer::new(epoch);
        let start = u32::MAX - 1_000;
        for (n, at) in [(0u32, 0), (2, 40), (1, 41), (3, 60)] {
            let seq = (65_534 + n) as u16;
            assert_eq!(b.push(packet(epoch, seq, start.wrapping_add(n * 960), at), None), Pushed::Kept);
        }
        let times: Vec<i64> = std::iter::from_fn(|| b.take_first()).map(|(t, _)| t - i64::from(start)).collect();
        assert_eq!(times, [0, 960, 1_920, 2_880]);
    }

    #[test]
    fn the_same_packet_twice_is_heard_once_and_a_late_one_not_at_all() {
        let epoch = Instant::now();
        let mut b = Buffer::new(epoch);
        assert_eq!(b.push(packet(epoch, 5, 4_800, 0), None), Pushed::Kept);
        assert_eq!(b.push(packet(epoch, 5, 4_800, 1), None), Pushed::Duplicate);
        assert_eq!(b.push(packet(epoch, 4, 3_840, 2), Some(4_800)), Pushed::Late);
        assert_eq!(b.push(packet(epoch, 4, 3_840, 3), Some(4_800)), Pushed::Duplicate);
    }

    #[test]
    fn delay_follows_the_jitter_within_its_bounds() {
        let epoch = Instant::now();
        for (jitter_ms, expected) in [(0, 40.0), (60, 80.0), (1_000, 200.0)] {
            let mut b = Buffer::new(epoch);
            for n in 0..250u32 {
                let late = if n % 5 == 1 { jitter_ms } else { 0 };
                b.push(packet(epoch, n as u16, n * 960, u64::from(n) * 20 + late), None);
            }
            assert!((b.delay_ms() - expected).abs() < 1.0, "{jitter_ms}: {}", b.delay_ms());
        }
    }

    #[test]
    fn a_sender_that_begins_anew_is_followed_and_a_single_wild_packet_is_not() {
        let epoch = Instant::now();
        let mut b = Buffer::new(epoch);
        b.push(packet(epoch, 1, 960, 20), None);
        assert_eq!(b.push(packet(epoch, 2, 9_000_000, 40), None), Pushed::Odd);
        assert_eq!(b.push(packet(epoch, 2, 1_920, 41), None), Pushed::Kept);
        let results: Vec<Pushed> = (0..60)
            .map(|n| b.push(packet(epoch, 900 + n, 50_000_000 + u32::from(n) * 960, 60 + u64::from(n) * 20), None))
            .collect();
        assert_eq!(results.iter().filter(|r| **r == Pushed::Restart).count(), 1);
        assert_eq!(results.last(), Some(&Pushed::Kept));
    }

    #[test]
    fn a_flood_stays_bounded() {
        let epoch = Instant::now();
        let mut b = Buffer::new(epoch);
        for n in 0..1_000u32 {
            b.push(packet(epoch, n as u16, n * 960, u64::from(n) / 10), None);
        }
        assert!(b.packets.len() <= WAITING);
    }
}
