//! From RTP packets of one track to whole frames, in order.
//!
//! Owns: the reorder window (late retransmissions still find their place) and the payload formats of VP8 (RFC 7741),
//! H.264 (RFC 6184) and Opus (RFC 7587). Never: waits, sleeps or trusts a length it has not checked.
//! Elsewhere: what becomes of a frame (`track`), who asks for key frames (`recorder`).

use std::collections::BTreeMap;

use bytes::Bytes;
use lotse_protocol::signal::Codec;

/// Packets held for order. Above it the oldest hole is given up: 1,024 packets are 4 s of 2 Mbit/s.
const MAX_HELD: usize = 1_024;
/// A jump of sequence numbers above this is a new beginning, not a loss.
const MAX_JUMP: i64 = 3_000;
/// A frame above this is not a picture of ours; its packets are dropped.
const MAX_FRAME_BYTES: usize = 8 * 1024 * 1024;

/// One RTP packet as the leg hands it over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    pub seq: u16,
    pub timestamp: u32,
    pub marker: bool,
    pub payload: Bytes,
    /// Server UTC, µs.
    pub arrival_us: i64,
}

/// One whole frame (video) or packet (voice).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub timestamp: u32,
    pub key: bool,
    /// VP8 frame, H.264 access unit with 4-byte lengths, or Opus packet.
    pub data: Vec<u8>,
    pub arrival_us: i64,
}

/// What comes out, in the order of the publisher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    Frame(Frame),
    /// This many packets are lost beyond repair here.
    Lost {
        packets: u64,
    },
}

/// Puts packets in order. Holds what came early until the hole before it is filled or given up.
#[derive(Debug)]
struct Reorder {
    next: Option<i64>,
    held: BTreeMap<i64, Packet>,
    patience_us: i64,
}

impl Reorder {
    fn push(&mut self, packet: Packet, out: &mut Vec<Ordered>) {
        let reference = self.next.unwrap_or(i64::from(packet.seq));
        let mut seq = unwrap_near(i64::from(packet.seq), reference, 1 << 16);
        if (seq - reference).abs() > MAX_JUMP {
            // Another numbering: everything held belongs to the old one.
            self.flush(out);
            out.push(Ordered::Lost(1));
            seq = i64::from(packet.seq);
            self.next = Some(seq);
        }
        let next = *self.next.get_or_insert(seq);
        // Older than what was given out: too late, or a duplicate.
        if seq >= next {
            self.held.entry(seq).or_insert(packet);
        }
        self.release(out);
        while self.held.len() > MAX_HELD {
            self.skip(out);
        }
    }

    /// Gives up holes whose next packet has waited longer than the patience.
    fn tick(&mut self, now_us: i64, out: &mut Vec<Ordered>) {
        while let Some(first) = self.held.values().next()
            && now_us - first.arrival_us > self.patience_us
        {
            self.skip(out);
        }
    }

    fn flush(&mut self, out: &mut Vec<Ordered>) {
        while !self.held.is_empty() {
            self.skip(out);
        }
    }

    fn skip(&mut self, out: &mut Vec<Ordered>) {
        if let (Some(next), Some(&first)) = (self.next, self.held.keys().next()) {
            if first > next {
                out.push(Ordered::Lost((first - next) as u64));
            }
            self.next = Some(first);
            self.release(out);
        }
    }

    fn release(&mut self, out: &mut Vec<Ordered>) {
        while let Some(next) = self.next
            && let Some(packet) = self.held.remove(&next)
        {
            out.push(Ordered::Packet(packet));
            self.next = Some(next + 1);
        }
    }
}

enum Ordered {
    Packet(Packet),
    Lost(u64),
}

/// The value congruent to `value` modulo `modulus` that lies nearest to `reference`.
pub fn unwrap_near(value: i64, reference: i64, modulus: i64) -> i64 {
    let delta = (value - reference).rem_euclid(modulus);
    if delta > modulus / 2 { reference + delta - modulus } else { reference + delta }
}

/// Makes frames of one track from its packets.
#[derive(Debug)]
pub struct Depacketizer {
    codec: Codec,
    reorder: Reorder,
    /// The frame being put together, its time, and whether all of it is there so far.
    open: Option<Building>,
    parameters: ParameterSets,
}

#[derive(Debug)]
struct Building {
    timestamp: u32,
    key: bool,
    data: Vec<u8>,
    /// H.264: a fragmented unit under way.
    unit: Vec<u8>,
    arrival_us: i64,
}

/// The newest H.264 parameter sets seen in the stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParameterSets {
    pub sps: Vec<u8>,
    pub pps: Vec<u8>,
}

impl Depacketizer {
    /// `patience_us`: how long a hole may wait for a retransmission.
    pub fn new(codec: Codec, patience_us: i64) -> Self {
        Self {
            codec,
            reorder: Reorder { next: None, held: BTreeMap::new(), patience_us },
            open: None,
            parameters: ParameterSets::default(),
        }
    }

    pub fn parameters(&self) -> &ParameterSets {
        &self.parameters
    }

    pub fn push(&mut self, packet: Packet) -> Vec<Output> {
        let mut ordered = Vec::new();
        self.reorder.push(packet, &mut ordered);
        self.assemble(ordered)
    }

    /// Call every 50 ms or so: gives up what will not come any more.
    pub fn tick(&mut self, now_us: i64) -> Vec<Output> {
        let mut ordered = Vec::new();
        self.reorder.tick(now_us, &mut ordered);
        self.assemble(ordered)
    }

    /// Gives out everything held: the track ends here.
    pub fn finish(&mut self) -> Vec<Output> {
        let mut ordered = Vec::new();
        self.reorder.flush(&mut ordered);
        let mut out = self.assemble(ordered);
        self.open = None;
        // What comes after a pause is a new beginning, not a loss.
        self.reorder.next = None;
        out.retain(|o| matches!(o, Output::Frame(_)));
        out
    }

    fn assemble(&mut self, ordered: Vec<Ordered>) -> Vec<Output> {
        let mut out = Vec::new();
        for item in ordered {
            match item {
                Ordered::Lost(packets) => {
                    self.open = None;
                    out.push(Output::Lost { packets });
                }
                Ordered::Packet(packet) => self.take(packet, &mut out),
            }
        }
        out
    }

    fn take(&mut self, packet: Packet, out: &mut Vec<Output>) {
        // Padding to probe the link carries nothing.
        if packet.payload.is_empty() {
            return;
        }
        let whole = match self.codec {
            Codec::Opus => {
                out.push(Output::Frame(Frame {
                    timestamp: packet.timestamp,
                    key: true,
                    data: packet.payload.to_vec(),
                    arrival_us: packet.arrival_us,
                }));
                return;
            }
            Codec::Vp8 => self.take_vp8(&packet),
            Codec::H264 => self.take_h264(&packet),
        };
        match whole {
            Some(()) if packet.marker => {
                if let Some(b) = self.open.take()
                    && !b.data.is_empty()
                {
                    out.push(Output::Frame(Frame {
                        timestamp: b.timestamp,
                        key: b.key,
                        data: b.data,
                        arrival_us: packet.arrival_us,
                    }));
                }
            }
            Some(()) => {
                if self.open.as_ref().is_some_and(|b| b.data.len() + b.unit.len() > MAX_FRAME_BYTES) {
                    self.open = None;
                    out.push(Output::Lost { packets: 1 });
                }
            }
            // Not a packet of this format, or the middle of a frame whose start is missing.
            None => {
                if self.open.take().is_some() || packet.marker {
                    out.push(Output::Lost { packets: 1 });
                }
            }
        }
    }

    fn building(&mut self, packet: &Packet) -> &mut Building {
        let fresh = |p: &Packet| Building {
            timestamp: p.timestamp,
            key: false,
            data: Vec::new(),
            unit: Vec::new(),
            arrival_us: p.arrival_us,
        };
        if self.open.as_ref().is_some_and(|b| b.timestamp != packet.timestamp) {
            self.open = None;
        }
        let b = self.open.get_or_insert_with(|| fresh(packet));
        b.arrival_us = b.arrival_us.max(packet.arrival_us);
        b
    }

    fn take_vp8(&mut self, packet: &Packet) -> Option<()> {
        let (start, payload) = vp8_payload(&packet.payload)?;
        if start {
            self.open = None;
            // The first bit of a VP8 frame is 0 for key frames (RFC 6386, 9.1).
            let key = payload.first()? & 1 == 0;
            self.building(packet).key = key;
        } else if self.open.as_ref().is_none_or(|b| b.timestamp != packet.timestamp) {
            return None;
        }
        self.building(packet).data.extend_from_slice(payload);
        Some(())
    }

    fn take_h264(&mut self, packet: &Packet) -> Option<()> {
        let (&head, rest) = packet.payload.split_first()?;
        match head & 0x1f {
            1..=23 => self.add_unit(packet, &packet.payload),
            // STAP-A: units with 16-bit lengths.
            24 => {
                let mut rest = rest;
                while let Some((len, tail)) = rest.split_first_chunk::<2>() {
                    let (unit, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
                    self.add_unit(packet, unit)?;
                    rest = tail;
                }
                Some(())
            }
            // FU-A: one unit over several packets.
            28 => {
                let (&fu, body) = rest.split_first()?;
                let (start, end) = (fu & 0x80 != 0, fu & 0x40 != 0);
                let b = self.building(packet);
                if start {
                    b.unit = vec![head & 0xe0 | fu & 0x1f];
                } else if b.unit.is_empty() {
                    return None;
                }
                b.unit.extend_from_slice(body);
                if end {
                    let unit = std::mem::take(&mut b.unit);
                    self.add_unit(packet, &unit)?;
                }
                Some(())
            }
            _ => None,
        }
    }

    fn add_unit(&mut self, packet: &Packet, unit: &[u8]) -> Option<()> {
        match unit.first()? & 0x1f {
            7 => self.parameters.sps = unit.to_vec(),
            8 => self.parameters.pps = unit.to_vec(),
            // Delimiters and filler say nothing.
            9 | 12 => {
                self.building(packet);
            }
            kind => {
                let b = self.building(packet);
                b.key |= kind == 5;
                b.data.extend_from_slice(&(unit.len() as u32).to_be_bytes());
                b.data.extend_from_slice(unit);
                return Some(());
            }
        }
        self.building(packet);
        Some(())
    }
}

/// Does a frame start here, and the payload behind the descriptor (RFC 7741, 4.2).
fn vp8_payload(packet: &[u8]) -> Option<(bool, &[u8])> {
    let (&first, mut rest) = packet.split_first()?;
    if first & 0x80 != 0 {
        let (&extension, tail) = rest.split_first()?;
        rest = tail;
        if extension & 0x80 != 0 {
            let (&id, _) = rest.split_first()?;
            rest = rest.get(if id & 0x80 != 0 { 2 } else { 1 }..)?;
        }
        if extension & 0x40 != 0 {
            rest = rest.get(1..)?;
        }
        if extension & 0x30 != 0 {
            rest = rest.get(1..)?;
        }
    }
    let start = first & 0x10 != 0 && first & 0x07 == 0;
    (!rest.is_empty()).then_some((start, rest))
}

/// Picture size in a VP8 key frame (RFC 6386, 9.1).
pub fn vp8_size(frame: &[u8]) -> Option<(u16, u16)> {
    let head = frame.get(..10)?;
    if head[0] & 1 != 0 || head[3..6] != [0x9d, 0x01, 0x2a] {
        return None;
    }
    let at = |i: usize| u16::from_le_bytes([head[i], head[i + 1]]) & 0x3fff;
    Some((at(6), at(8)))
}

/// Samples (48 kHz) in an Opus packet (RFC 6716, 3.1); `None` for a malformed one.
pub fn opus_duration(packet: &[u8]) -> Option<u32> {
    let (&toc, rest) = packet.split_first()?;
    let config = toc >> 3;
    let frame = match config {
        0..=11 => [480, 960, 1920, 2880][usize::from(config & 3)],
        12..=15 => [480, 960][usize::from(config & 1)],
        _ => [120, 240, 480, 960][usize::from(config & 3)],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(rest.first()? & 0x3f),
    };
    let samples = frame * frames;
    (1..=5760).contains(&samples).then_some(samples)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Packets of `frames` VP8 frames, each of `parts` packets; every tenth frame is a key frame.
    fn vp8_packets(frames: u32, parts: u8, first_seq: u16) -> Vec<Packet> {
        let mut seq = first_seq;
        let mut out = Vec::new();
        for f in 0..frames {
            for p in 0..parts {
                let descriptor = if p == 0 { 0x10 } else { 0x00 };
                let head = if f % 10 == 0 { 0 } else { 1 };
                out.push(Packet {
                    seq,
                    timestamp: f * 3000,
                    marker: p + 1 == parts,
                    payload: vec![descriptor, head, f as u8, p].into(),
                    arrival_us: i64::from(f) * 33_000,
                });
                seq = seq.wrapping_add(1);
            }
        }
        out
    }

    fn run(packets: Vec<Packet>) -> (Vec<Frame>, u64) {
        let mut d = Depacketizer::new(Codec::Vp8, 400_000);
        let mut out = Vec::new();
        for p in packets {
            let now = p.arrival_us;
            out.extend(d.push(p));
            out.extend(d.tick(now));
        }
        out.extend(d.tick(i64::MAX));
        let lost = out.iter().map(|o| if let Output::Lost { packets } = o { *packets } else { 0 }).sum();
        (out.into_iter().filter_map(|o| if let Output::Frame(f) = o { Some(f) } else { None }).collect(), lost)
    }

    #[test]
    fn frames_come_whole_and_in_order_over_the_wrap_of_sequence_numbers() {
        let (frames, lost) = run(vp8_packets(40, 3, 65_500));
        assert_eq!(lost, 0);
        assert_eq!(frames.len(), 40);
        assert!(frames.iter().enumerate().all(|(i, f)| f.timestamp == i as u32 * 3000 && f.data.len() == 9));
        assert_eq!(frames.iter().filter(|f| f.key).count(), 4);
    }

    proptest! {
        /// Near neighbours swapped, some doubled: nothing is lost, nothing comes twice.
        #[test]
        fn reordered_and_doubled_packets_change_nothing(
            swaps in prop::collection::vec((0usize..117, 1usize..8), 0..60),
            doubles in prop::collection::vec(0usize..120, 0..20), first in any::<u16>(),
        ) {
            let mut packets = vp8_packets(40, 3, first);
            for d in doubles { let p = packets[d].clone(); packets.insert(d + 1, p); }
            // The first packet stays first: before it there is no order to restore.
            for (i, by) in swaps { let j = (i + by).min(packets.len() - 1); if i > 0 { packets.swap(i, j); } }
            let now = packets.iter().map(|p| p.arrival_us).max().unwrap_or(0);
            for p in &mut packets { p.arrival_us = now; }
            let (frames, lost) = run(packets);
            prop_assert_eq!(lost, 0);
            prop_assert_eq!(frames.len(), 40);
            prop_assert!(frames.windows(2).all(|w| w[0].timestamp < w[1].timestamp));
        }

        /// Each frame with all its packets comes out, each without does not, and every loss is told.
        #[test]
        fn lost_packets_cost_exactly_their_frames(drops in prop::collection::btree_set(3usize..117, 0..30)) {
            let packets = vp8_packets(40, 3, 7);
            let kept = packets.iter().enumerate().filter(|(i, _)| !drops.contains(i)).map(|(_, p)| p.clone()).collect();
            let (frames, lost) = run(kept);
            let whole: Vec<u32> = (0..40).filter(|f| (0..3).all(|p| !drops.contains(&(f * 3 + p)))).map(|f| f as u32 * 3000).collect();
            prop_assert_eq!(frames.iter().map(|f| f.timestamp).collect::<Vec<_>>(), whole);
            prop_assert!(lost >= drops.len() as u64);
        }

        /// Garbage of any length is neither a frame out of order nor a panic.
        #[test]
        fn garbage_does_not_panic(packets in prop::collection::vec((any::<u16>(), any::<u32>(), any::<bool>(), prop::collection::vec(any::<u8>(), 0..40)), 0..60), codec in 0..3) {
            let codec = [Codec::Vp8, Codec::H264, Codec::Opus][codec as usize];
            let mut d = Depacketizer::new(codec, 100_000);
            for (i, (seq, timestamp, marker, payload)) in packets.into_iter().enumerate() {
                let p = Packet { seq, timestamp, marker, payload: payload.into(), arrival_us: i as i64 };
                for o in d.push(p) { if let Output::Frame(f) = o { vp8_size(&f.data); opus_duration(&f.data); } }
            }
            d.finish();
        }
    }

    #[test]
    fn h264_units_of_every_packing_make_one_access_unit() {
        let packet = |seq, marker, payload: Vec<u8>| Packet {
            seq,
            timestamp: 9,
            marker,
            payload: payload.into(),
            arrival_us: 0,
        };
        let mut d = Depacketizer::new(Codec::H264, 0);
        // STAP-A with SPS and PPS, then an IDR in two FU-A packets.
        assert!(d.push(packet(1, false, vec![24, 0, 3, 0x67, 1, 2, 0, 2, 0x68, 3])).is_empty());
        assert!(d.push(packet(2, false, vec![0x7c, 0x85, 10, 11])).is_empty());
        let out = d.push(packet(3, true, vec![0x7c, 0x45, 12]));
        assert_eq!(d.parameters(), &ParameterSets { sps: vec![0x67, 1, 2], pps: vec![0x68, 3] });
        let Some(Output::Frame(frame)) = out.first() else { panic!("no frame: {out:?}") };
        assert!(frame.key);
        assert_eq!(frame.data, [0, 0, 0, 4, 0x65, 10, 11, 12]);
    }

    #[test]
    fn opus_durations_follow_the_table() {
        assert_eq!(opus_duration(&[0x78, 1]), Some(960)); // hybrid 20 ms, one frame
        assert_eq!(opus_duration(&[0x08, 1]), Some(960)); // SILK 20 ms
        assert_eq!(opus_duration(&[0x19, 1]), Some(5760)); // SILK 60 ms, two frames
        assert_eq!(opus_duration(&[0x7b, 0x07]), None); // 7 x 20 ms is above 120 ms
        assert_eq!(opus_duration(&[]), None);
    }
}
