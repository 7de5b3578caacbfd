//! The last 20 s of encoded pictures, so that a mark can be shown on the very frame the expert drew on.
//!
//! Owns: encoded frames in memory from the last key frame before now − 20 s. Never: a disk, a decoder.
//! Elsewhere: decoding (`capture::decode`).

use std::collections::VecDeque;

use bytes::Bytes;
use lotse_protocol::signal::Codec;

/// How far back, ns.
pub const SPAN_NS: u64 = 20_000_000_000;
/// Frames older than this many bytes of newer ones are dropped even inside the span: 20 s at 12 Mbit/s.
pub const MAX_BYTES: usize = 32 * 1024 * 1024;
/// How far apart two times of one frame may lie, ticks of 90 kHz: another program may have rounded.
const SAME_FRAME: u64 = 2;
/// A frame of the preview lies at most this far from its main frame, ticks: 0.2 s.
const NEAREST: u64 = 18_000;

/// One encoded picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedFrame {
    pub codec: Codec,
    pub capture_ns: u64,
    /// Unwrapped.
    pub rtp: u64,
    pub key: bool,
    pub data: Bytes,
}

/// How a frame is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// The very frame.
    Exact,
    /// The one nearest in time, for times of the preview.
    Nearest,
}

/// The ring.
#[derive(Debug, Default)]
pub struct Ring {
    frames: VecDeque<EncodedFrame>,
    bytes: usize,
}

impl Ring {
    /// Takes the newest frame and forgets what is too old. A frame not newer than the last, or one before the first
    /// key frame, is not kept: it could not be found or decoded.
    pub fn push(&mut self, frame: EncodedFrame) {
        let newer = self.frames.back().is_none_or(|last| frame.rtp > last.rtp && frame.codec == last.codec);
        if !newer {
            if self.frames.back().is_some_and(|last| last.codec == frame.codec) {
                return;
            }
            self.clear();
        }
        if self.frames.is_empty() && !frame.key {
            return;
        }
        self.bytes += frame.data.len();
        let now = frame.capture_ns;
        self.frames.push_back(frame);
        let limit = now.saturating_sub(SPAN_NS);
        let keep = self.frames.iter().rposition(|f| f.key && f.capture_ns <= limit).unwrap_or(0);
        self.drop_first(keep);
        while self.bytes > MAX_BYTES {
            match self.frames.iter().skip(1).position(|f| f.key) {
                Some(at) => self.drop_first(at + 1),
                None => return self.clear(),
            }
        }
    }

    /// The frames to decode, first a key frame, last the one asked for; `None` if it has left the ring.
    pub fn find(&self, rtp: u64, how: Match) -> Option<Vec<EncodedFrame>> {
        let after = self.frames.partition_point(|f| f.rtp < rtp);
        let (at, distance) = [after.checked_sub(1), Some(after)]
            .into_iter()
            .flatten()
            .filter_map(|i| self.frames.get(i).map(|f| (i, f.rtp.abs_diff(rtp))))
            .min_by_key(|&(_, d)| d)?;
        let allowed = match how {
            Match::Exact => SAME_FRAME,
            Match::Nearest => NEAREST,
        };
        if distance > allowed {
            return None;
        }
        let key = self.frames.iter().take(at + 1).rposition(|f| f.key)?;
        Some(self.frames.range(key..=at).cloned().collect())
    }

    pub fn clear(&mut self) {
        self.frames.clear();
        self.bytes = 0;
    }

    /// Number of frames and bytes held.
    pub fn size(&self) -> (usize, usize) {
        (self.frames.len(), self.bytes)
    }

    fn drop_first(&mut self, n: usize) {
        for frame in self.frames.drain(..n) {
            self.bytes -= frame.data.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(i: u64, key: bool) -> EncodedFrame {
        EncodedFrame {
            codec: Codec::Vp8,
            capture_ns: i * 40_000_000,
            rtp: 500 + i * 3_600,
            key,
            data: Bytes::from(vec![0; 10]),
        }
    }

    proptest! {
        #[test]
        fn every_frame_of_the_last_20_s_can_be_decoded(keys in proptest::collection::vec(1u64..250, 1..20)) {
            let mut ring = Ring::default();
            let mut i = 0;
            for run in keys {
                for k in 0..run {
                    ring.push(frame(i, k == 0));
                    i += 1;
                }
            }
            let first = (i - 1).saturating_sub(500);
            for wanted in first..i {
                let found = ring.find(500 + wanted * 3_600 + 1, Match::Exact).expect("in the ring");
                prop_assert!(found[0].key);
                prop_assert!(found[1..].iter().all(|f| !f.key));
                prop_assert_eq!(found.last().map(|f| f.rtp), Some(500 + wanted * 3_600));
            }
            prop_assert_eq!(ring.size().1, ring.size().0 * 10);
        }
    }

    #[test]
    fn what_left_the_ring_is_not_found() {
        let mut ring = Ring::default();
        (0..2_000).for_each(|i| ring.push(frame(i, i % 100 == 0)));
        assert_eq!(ring.find(500, Match::Exact), None);
        assert!(ring.size().0 <= 601, "{:?}", ring.size());
    }

    #[test]
    fn a_preview_time_finds_the_nearest_main_frame() {
        let mut ring = Ring::default();
        (0..10).for_each(|i| ring.push(frame(i, i == 0)));
        let between = 500 + 3 * 3_600 + 1_700;
        assert_eq!(ring.find(between, Match::Exact), None);
        assert_eq!(ring.find(between, Match::Nearest).and_then(|f| f.last().map(|f| f.rtp)), Some(500 + 3 * 3_600));
        assert_eq!(ring.find(500 + 900_000, Match::Nearest), None);
    }

    #[test]
    fn a_frame_that_goes_back_in_time_is_not_kept() {
        let mut ring = Ring::default();
        ring.push(frame(5, true));
        ring.push(frame(4, true));
        assert_eq!(ring.size().0, 1);
    }

    #[test]
    fn memory_stays_bounded() {
        let mut ring = Ring::default();
        for i in 0..400 {
            let mut f = frame(i, i % 50 == 0);
            f.data = Bytes::from(vec![0; 200_000]);
            ring.push(f);
        }
        assert!(ring.size().1 <= MAX_BYTES);
        assert!(ring.size().0 > 0);
    }
}
