//! One line on which a subscriber gets a track: numbering, waiting for a key frame, reports.
//!
//! Owns: `Downlink`. Runs on its room's worker.
//! Never: changes a timestamp. Elsewhere: who may have which track (`room`), the copying (`forward`).

use std::time::Instant;

use lotse_protocol::{
    id::Pseudonym,
    signal::{Codec, TrackInfo},
};
use rtc::rtcp::reception_report::ReceptionReport;
use rtc::rtcp::sender_report::SenderReport;

use crate::{answer::ExtensionIds, publisher::ClockPoint, srtp::Rollover};

/// Sender reports remembered to measure the round trip: 8 s at one a second.
const REPORTS: usize = 8;

/// Gives each subscriber one unbroken numbering, whatever the publisher's numbers do.
#[derive(Debug, Default)]
pub(crate) struct Numbering {
    started: bool,
    resync: bool,
    offset: u16,
    /// First publisher number since the last start; older ones belong to what was left out.
    floor: u16,
    highest_in: u16,
    highest_out: u16,
}

impl Numbering {
    /// The next packet follows the last one sent without a gap.
    pub(crate) fn restart(&mut self) {
        self.resync = true;
    }

    /// The number for the subscriber, or `None` for a packet from before the last start.
    pub(crate) fn map(&mut self, seq: u16) -> Option<u16> {
        if !self.started {
            // Below 2^15, so that a receiver that misses the first packets does not miscount the rollovers (RFC 3711, 3.3.1).
            let first = seq & 0x7FFF;
            (self.started, self.resync, self.floor, self.highest_in, self.highest_out) = (true, false, seq, seq, first);
            self.offset = first.wrapping_sub(seq);
            return Some(first);
        }
        if self.resync {
            self.resync = false;
            self.highest_out = self.highest_out.wrapping_add(1);
            self.offset = self.highest_out.wrapping_sub(seq);
            (self.floor, self.highest_in) = (seq, seq);
        }
        if ahead(self.floor, seq) {
            return None;
        }
        let out = seq.wrapping_add(self.offset);
        if ahead(seq, self.highest_in) {
            (self.highest_in, self.highest_out) = (seq, out);
            // Keep the floor within half the number space of what comes next.
            if seq.wrapping_sub(self.floor) > 0x2000 {
                self.floor = seq.wrapping_sub(0x1000);
            }
        }
        Some(out)
    }

    /// The publisher's number behind one that was sent, if it belongs to the stream as it runs now.
    pub(crate) fn unmap(&self, out: u16) -> Option<u16> {
        let seq = out.wrapping_sub(self.offset);
        let sent = self.started && !self.resync && !ahead(self.floor, seq) && !ahead(seq, self.highest_in);
        sent.then_some(seq)
    }
}

/// Whether `a` comes after `b` on the circle of 16-bit numbers.
fn ahead(a: u16, b: u16) -> bool {
    a != b && a.wrapping_sub(b) < 0x8000
}

/// What a line carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) owner: Pseudonym,
    pub(crate) info: TrackInfo,
}

/// A codec of a gateway's line, with the payload types agreed for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) codec: Codec,
    pub(crate) payload_type: u8,
    pub(crate) repair_type: Option<u8>,
}

/// One line towards a subscriber.
#[derive(Debug)]
pub(crate) struct Downlink {
    pub(crate) transceiver: usize,
    pub(crate) codec: Codec,
    /// What a gateway agreed to once and for all; empty for lines that are negotiated anew for each track.
    pub(crate) choices: Vec<Choice>,
    pub(crate) ssrc: u32,
    pub(crate) repair: Option<u32>,
    pub(crate) assigned: Option<Assignment>,
    /// Last track the line carried: it may come back without waiting for the line to fall idle.
    pub(crate) last: Option<Assignment>,
    /// Whether the open or last offer had it flow.
    pub(crate) offered: bool,
    /// When its track was first offered: nothing older is sent.
    pub(crate) offered_at: Option<Instant>,
    /// The client has agreed that nothing flows: another track may take the line.
    pub(crate) idle: bool,
    /// The client has agreed to receive: packets flow.
    pub(crate) live: bool,
    pub(crate) payload_type: u8,
    /// Payload type of repeated packets; `None`: they are sent again as they were.
    pub(crate) repair_type: Option<u8>,
    pub(crate) extensions: ExtensionIds,
    pub(crate) numbering: Numbering,
    pub(crate) rollover: Rollover,
    /// Packets sent on the repair stream so far: their numbers and rollovers in one.
    pub(crate) repairs: u64,
    /// Pictures begin with a key frame.
    pub(crate) needs_key_frame: bool,
    /// Packets came that could not be passed on for want of a key frame: it has to be asked for again.
    pub(crate) withheld: bool,
    pub(crate) packets: u32,
    pub(crate) octets: u32,
    /// The publisher leg it comes from, by serial.
    pub(crate) source: Option<u64>,
    /// The clock point last told.
    told: Option<ClockPoint>,
    reports: [(u32, Option<Instant>); REPORTS],
    next_report: usize,
    /// Share lost, 0 to 255, as last reported.
    pub(crate) fraction_lost: u8,
}

impl Downlink {
    pub(crate) fn new(transceiver: usize, codec: Codec, ssrc: u32, repair: Option<u32>) -> Self {
        Self {
            transceiver,
            codec,
            choices: Vec::new(),
            ssrc,
            repair,
            assigned: None,
            last: None,
            offered: false,
            offered_at: None,
            idle: false,
            live: false,
            payload_type: 0,
            repair_type: None,
            extensions: ExtensionIds::default(),
            numbering: Numbering::default(),
            rollover: Rollover::default(),
            repairs: 0,
            needs_key_frame: codec.is_video(),
            withheld: false,
            packets: 0,
            octets: 0,
            source: None,
            told: None,
            reports: [(0, None); REPORTS],
            next_report: 0,
            fraction_lost: 0,
        }
    }

    /// Begins anew after a pause or with another source: numbers go on, pictures wait for a key frame.
    pub(crate) fn restart(&mut self) {
        self.numbering.restart();
        self.needs_key_frame = self.codec.is_video();
        self.told = None;
    }

    /// Stops the flow at once; the line stays until the next offer.
    pub(crate) fn unassign(&mut self) {
        self.last = self.assigned.take();
        self.live = false;
        self.offered_at = None;
        self.restart();
    }

    /// The publisher's clock in our numbers, if the subscriber has not been told this point yet.
    pub(crate) fn report(&mut self, now: Instant, clock: ClockPoint) -> Option<SenderReport> {
        if self.told == Some(clock) || self.packets == 0 {
            return None;
        }
        self.told = Some(clock);
        self.reports[self.next_report] = (middle(clock.ntp), Some(now));
        self.next_report = (self.next_report + 1) % REPORTS;
        Some(SenderReport {
            ssrc: self.ssrc,
            ntp_time: clock.ntp,
            rtp_time: clock.rtp,
            packet_count: self.packets,
            octet_count: self.octets,
            ..Default::default()
        })
    }

    /// Takes a receiver's report; the round trip in ms if it answers one of our reports (RFC 3550, 6.4.1).
    pub(crate) fn on_report(&mut self, now: Instant, block: &ReceptionReport) -> Option<f32> {
        self.fraction_lost = block.fraction_lost;
        if block.last_sender_report == 0 {
            return None;
        }
        // The newest match: the same clock point may have been told twice.
        let sent =
            self.reports.iter().filter(|(lsr, _)| *lsr == block.last_sender_report).filter_map(|(_, at)| *at).max()?;
        let held = f64::from(block.delay) / 65_536.0;
        let round_trip = now.duration_since(sent).as_secs_f64() - held;
        Some((round_trip.max(0.0) * 1_000.0) as f32)
    }
}

fn middle(ntp: u64) -> u32 {
    (ntp >> 16) as u32
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_pass_and_go_on_after_a_restart() {
        let mut numbering = Numbering::default();
        assert_eq!([65_534, 65_535, 0, 1].map(|n| numbering.map(n)), [32_766, 32_767, 32_768, 32_769].map(Some));
        assert_eq!(numbering.map(65_535), Some(32_767), "a late packet keeps its number");
        assert_eq!(numbering.unmap(32_767), Some(65_535));
        assert_eq!(numbering.unmap(32_765), None, "never sent");
        assert_eq!(numbering.unmap(32_770), None, "not sent yet");
        numbering.restart();
        assert_eq!(numbering.unmap(32_769), None, "the stream begins anew");
        assert_eq!(numbering.map(40_000), Some(32_770));
        assert_eq!(numbering.map(39_999), None, "from before the restart");
        assert_eq!(numbering.map(40_002), Some(32_772), "a hole stays a hole");
        assert_eq!(numbering.map(40_001), Some(32_771));
        assert_eq!(numbering.unmap(32_771), Some(40_001));
    }

    proptest! {
        #[test]
        fn no_number_is_given_twice(starts in proptest::collection::vec((any::<u16>(), 1u16..300), 1..20)) {
            let mut numbering = Numbering::default();
            let mut expected: Option<u16> = None;
            for (start, count) in starts {
                numbering.restart();
                for n in 0..count {
                    let out = numbering.map(start.wrapping_add(n)).expect("in order");
                    if let Some(expected) = expected {
                        prop_assert_eq!(out, expected);
                    }
                    expected = Some(out.wrapping_add(1));
                }
            }
        }
    }

    #[test]
    fn long_streams_do_not_run_into_their_own_floor() {
        let mut numbering = Numbering::default();
        for n in 0..300_000u32 {
            assert_eq!(numbering.map(n as u16), Some(n as u16));
        }
    }

    #[test]
    fn reports_carry_the_publishers_clock_and_measure_the_round_trip() {
        let mut line = Downlink::new(0, Codec::Opus, 77, None);
        let start = Instant::now();
        let clock = ClockPoint { ntp: 0x1122_3344_5566_7788, rtp: 99 };
        assert!(line.report(start, clock).is_none(), "nothing sent yet");
        (line.packets, line.octets) = (3, 300);
        let report = line.report(start, clock).expect("a report");
        assert_eq!((report.ssrc, report.ntp_time, report.rtp_time), (77, clock.ntp, clock.rtp));
        assert_eq!((report.packet_count, report.octet_count), (3, 300));
        assert!(line.report(start, clock).is_none(), "told once");
        let block = ReceptionReport {
            ssrc: 77,
            last_sender_report: 0x3344_5566,
            delay: 65_536 / 2,
            fraction_lost: 64,
            ..Default::default()
        };
        let rtt = line.on_report(start + Duration::from_millis(540), &block).expect("a round trip");
        assert!((rtt - 40.0).abs() < 0.1, "{rtt}");
        assert_eq!(line.fraction_lost, 64);
        let unknown = ReceptionReport { ssrc: 77, last_sender_report: 5, ..Default::default() };
        assert_eq!(line.on_report(start, &unknown), None);
    }
}
