//! One track as its publisher sends it: key frame requests, the publisher's clock, losses on the way up.
//!
//! Owns: `Uplink` and its timing rules. Runs on its room's worker.
//! Never: touches a packet's time. Elsewhere: copying packets (`forward`), what subscribers get (`subscriber`).

use std::time::{Duration, Instant};

use lotse_protocol::signal::TrackInfo;

use crate::{answer::ExtensionIds, history::History, worker::LegId};

/// After a key frame request the next goes up no sooner: an encoder needs about this long to answer one.
pub(crate) const KEY_FRAME_PAUSE: Duration = Duration::from_millis(400);

/// Decides when a key frame request goes up: the first at once, then at most one per pause.
#[derive(Debug, Default)]
pub(crate) struct KeyFrameGate {
    last: Option<Instant>,
    waiting: bool,
}

impl KeyFrameGate {
    /// A subscriber wants a key frame. True: ask the publisher now.
    pub(crate) fn want(&mut self, now: Instant) -> bool {
        if self.last.is_none_or(|last| now >= last + KEY_FRAME_PAUSE) {
            (self.last, self.waiting) = (Some(now), false);
            return true;
        }
        self.waiting = true;
        false
    }

    /// When `poll` has something to say.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.last.filter(|_| self.waiting).map(|last| last + KEY_FRAME_PAUSE)
    }

    /// True: a request held back is due now.
    pub(crate) fn poll(&mut self, now: Instant) -> bool {
        self.deadline().is_some_and(|deadline| now >= deadline) && self.want(now)
    }

    /// A key frame has come: whoever waited has it.
    pub(crate) fn on_key_frame(&mut self) {
        self.waiting = false;
    }
}

/// A point of the publisher's clock: this RTP time was this NTP time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClockPoint {
    pub(crate) ntp: u64,
    pub(crate) rtp: u32,
}

/// Counts what was lost on the way up.
#[derive(Debug, Default)]
pub(crate) struct UpMeter {
    highest: Option<u16>,
    pub(crate) expected: u32,
    pub(crate) lost: u32,
}

impl UpMeter {
    /// `repairable`: a late packet of this track is most likely a retransmission, so it still counts as lost.
    pub(crate) fn on_packet(&mut self, seq: u16, repairable: bool) {
        let Some(highest) = self.highest else {
            self.highest = Some(seq);
            self.expected += 1;
            return;
        };
        match seq.wrapping_sub(highest) {
            0 => {}
            // A leap of more than a second of packets is a new start, not a loss.
            step @ 1..=2_999 => {
                self.highest = Some(seq);
                self.expected += u32::from(step);
                self.lost += u32::from(step) - 1;
            }
            step if step > 0xFFFF - 3_000 => {
                if !repairable {
                    self.lost = self.lost.saturating_sub(1);
                }
            }
            _ => self.highest = Some(seq),
        }
    }
}

/// Who gets a track: a line of a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub(crate) leg: LegId,
    pub(crate) line: usize,
}

/// One published track.
#[derive(Debug)]
pub(crate) struct Uplink {
    pub(crate) info: TrackInfo,
    pub(crate) transceiver: usize,
    /// Known from the answer.
    pub(crate) ssrc: Option<u32>,
    pub(crate) extensions: ExtensionIds,
    pub(crate) subscriptions: Vec<Subscription>,
    /// What `SfuEvent::Watched` last said.
    pub(crate) watched: bool,
    pub(crate) key_frames: KeyFrameGate,
    pub(crate) clock: Option<ClockPoint>,
    /// Its place among the room's voices.
    pub(crate) voice: usize,
    pub(crate) meter: UpMeter,
    /// Pictures only: voices are not asked for again.
    pub(crate) history: History,
}

impl Uplink {
    pub(crate) fn new(info: TrackInfo, transceiver: usize) -> Self {
        Self {
            info,
            transceiver,
            ssrc: None,
            extensions: ExtensionIds::default(),
            subscriptions: Vec::new(),
            watched: false,
            key_frames: KeyFrameGate::default(),
            clock: None,
            voice: usize::MAX,
            meter: UpMeter::default(),
            history: History::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_frames_are_asked_for_at_once_and_then_once_per_pause() {
        let start = Instant::now();
        let ms = |ms| start + Duration::from_millis(ms);
        let mut gate = KeyFrameGate::default();
        assert!(gate.want(ms(0)));
        assert!(!gate.want(ms(10)));
        assert!(!gate.want(ms(399)));
        assert_eq!(gate.deadline(), Some(ms(400)));
        assert!(!gate.poll(ms(399)));
        assert!(gate.poll(ms(400)), "the one held back");
        assert!(!gate.poll(ms(1_000)), "nobody waits any more");
        assert!(gate.want(ms(1_000)));
        assert!(!gate.want(ms(1_100)));
        gate.on_key_frame();
        assert_eq!(gate.deadline(), None, "the key frame came by itself");
    }

    #[test]
    fn losses_are_gaps_and_repairs_do_not_hide_them() {
        let mut meter = UpMeter::default();
        for seq in [65_534, 65_535, 2, 0, 3] {
            meter.on_packet(seq, true);
        }
        assert_eq!((meter.expected, meter.lost), (6, 2));
        let mut meter = UpMeter::default();
        for seq in [10, 12, 11, 13] {
            meter.on_packet(seq, false);
        }
        assert_eq!((meter.expected, meter.lost), (4, 0), "a late voice packet was only reordered");
    }
}
