//! Lets no more repairs out than the path can bear: one of a packet in a round trip, and a part of the rate for all of them.
//!
//! Who misses a packet asks again every few milliseconds, because on a short path that closes a hole within a frame. Answered each time, a path that
//! became narrow would carry the same packets over and over, and nothing else.
//!
//! Owns: what was asked lately, and the budget. Never: a packet. Elsewhere: the answers are the core's `NackResponder`.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use rtc::interceptor::{Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers};
use rtc::sansio::Protocol;
use rtc::shared::error::Error;

use crate::Path;

/// Part of the target that repairs may take.
const SHARE: f64 = 0.3;
/// Budget that may be saved, s.
const SAVED_S: f64 = 0.5;
/// What a repair is taken to cost, bit.
const REPAIR_BITS: f64 = 9_600.0;
/// Between two repairs of a packet: a round trip, as far as it is known, within these.
const AGAIN_AFTER: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(1)];
/// Requests remembered.
const REMEMBERED: usize = 2_048;

/// See the module.
pub struct RepairGate {
    path: Path,
    asked: HashMap<(u32, u16), Instant>,
    /// Bits that repairs may take now, and as of when.
    budget: Option<(f64, Instant)>,
    reads: VecDeque<TaggedPacket>,
    writes: VecDeque<TaggedPacket>,
}

impl RepairGate {
    pub fn new(path: Path) -> Self {
        Self { path, asked: HashMap::new(), budget: None, reads: VecDeque::new(), writes: VecDeque::new() }
    }

    /// Those of the numbers that are to be sent again now.
    fn pass(&mut self, now: Instant, lost: &TransportLayerNack) -> Vec<u16> {
        let path = self.path.now();
        let again = path.round_trip.unwrap_or(AGAIN_AFTER[0]).clamp(AGAIN_AFTER[0], AGAIN_AFTER[1]);
        let rate = path.target_bps * SHARE;
        let full = (rate * SAVED_S).max(4.0 * REPAIR_BITS);
        let mut left = match self.budget {
            Some((left, at)) => (left + rate * now.saturating_duration_since(at).as_secs_f64()).min(full),
            None => full,
        };
        if self.asked.len() > REMEMBERED {
            self.asked.retain(|_, at| now.saturating_duration_since(*at) < AGAIN_AFTER[1]);
        }
        let mut numbers = Vec::new();
        for number in lost.nacks.iter().flat_map(|pair| pair.into_iter()) {
            let key = (lost.media_ssrc, number);
            let lately = self.asked.get(&key).is_some_and(|at| now.saturating_duration_since(*at) < again);
            if lately || left < REPAIR_BITS || self.asked.len() > 2 * REMEMBERED {
                continue;
            }
            left -= REPAIR_BITS;
            self.asked.insert(key, now);
            numbers.push(number);
        }
        self.budget = Some((left, now));
        numbers
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for RepairGate {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, mut msg: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtcp(packets) = &mut msg.message.packet
            && packets.iter().any(|packet| packet.as_any().is::<TransportLayerNack>())
        {
            let mut kept: Vec<Box<dyn rtcp::Packet>> = Vec::with_capacity(packets.len());
            for packet in packets.drain(..) {
                let Some(lost) = packet.as_any().downcast_ref::<TransportLayerNack>() else {
                    kept.push(packet);
                    continue;
                };
                let numbers = self.pass(msg.now, lost);
                if !numbers.is_empty() {
                    let nacks = nack_pairs_from_sequence_numbers(&numbers);
                    kept.push(Box::new(TransportLayerNack { nacks, ..lost.clone() }));
                }
            }
            if kept.is_empty() {
                return Ok(());
            }
            *packets = kept;
        }
        self.reads.push_back(msg);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.reads.pop_front()
    }

    fn handle_write(&mut self, msg: TaggedPacket) -> Result<(), Error> {
        self.writes.push_back(msg);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.writes.pop_front()
    }
}

impl Interceptor for RepairGate {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Estimator, Limits};

    fn lost(numbers: &[u16]) -> TransportLayerNack {
        TransportLayerNack { sender_ssrc: 1, media_ssrc: 7, nacks: nack_pairs_from_sequence_numbers(numbers) }
    }

    #[test]
    fn a_packet_is_repaired_once_in_a_round_trip_and_all_within_their_part_of_the_rate() {
        let estimator = Estimator::new(Limits { min: 1e5, start: 3e5, max: 3e6 });
        let mut gate = RepairGate::new(estimator.path());
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(gate.pass(at(0), &lost(&[1, 2])), [1, 2]);
        assert_eq!(gate.pass(at(10), &lost(&[1, 2, 3])), [3], "asked for again too soon");
        assert_eq!(gate.pass(at(30), &lost(&[1])), [1], "a round trip later");
        // 90 kbit/s are nine repairs a second, and some saved.
        let mut sent = 0;
        for n in 0..100u16 {
            let numbers: Vec<u16> = (0..20).map(|k| 1_000 + 20 * n + k).collect();
            sent += gate.pass(at(100 + 20 * u64::from(n)), &lost(&numbers)).len();
        }
        assert!((15..=25).contains(&sent), "{sent} repairs in 2 s");
    }
}
