//! The interceptors of a receiving leg: repair of lost packets, and the publisher's sender reports.
//!
//! The core keeps inbound RTCP to itself and unwraps retransmissions (RFC 4588) only behind its loss detector, which then
//! asks for the same packet again and again. One interceptor before the detector mends both.
//!
//! Owns: the pairs of repair and primary streams, reports not yet taken. Never: drops media.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rtc::{
    interceptor::{
        Interceptor, NackGeneratorBuilder, Packet, ReceiverReportBuilder, Registry, Slot, StreamInfo, TaggedPacket,
    },
    rtcp::sender_report::SenderReport,
    sansio::Protocol,
    shared::error::Error,
};

/// Below the time of a frame, so that most holes close within one.
const NACK_EVERY: Duration = Duration::from_millis(20);
/// After this many requests a packet is gone; `track` gives up its hole a little later.
const NACK_TRIES: u16 = 10;
/// Between the core's FEC slots and its loss detector.
const BEFORE_NACK: usize = 6_500;
/// Reports nobody took: one a second and track, so this is a broken reader.
const MAX_REPORTS: usize = 256;

/// One sender report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    pub ssrc: u32,
    /// 64-bit NTP time.
    pub ntp: u64,
    pub rtp: u32,
}

/// Reports on their way out of the core.
#[derive(Debug, Clone, Default)]
pub struct Reports(Arc<Mutex<VecDeque<Report>>>);

impl Reports {
    pub fn take(&self) -> VecDeque<Report> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, report: Report) {
        let mut reports = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if reports.len() < MAX_REPORTS {
            reports.push_back(report);
        }
    }
}

/// The chain of a leg that only receives.
pub fn registry() -> (Registry, Reports) {
    let reports = Reports::default();
    let intake = Intake { reports: reports.clone(), ..Intake::default() };
    let nack = NackGeneratorBuilder::new().with_interval(NACK_EVERY).with_max_nacks_per_packet(NACK_TRIES).build();
    let registry = Registry::new()
        .with(Slot::from(BEFORE_NACK), intake)
        .with(Slot::NackGenerator, nack)
        .with(Slot::ReceiverReport, ReceiverReportBuilder::new().build());
    (registry, reports)
}

#[derive(Default)]
struct Intake {
    /// Repair stream → its payload type, and the stream and payload type it repairs.
    repairs: HashMap<u32, (u8, u32, u8)>,
    reports: Reports,
    inbound: VecDeque<TaggedPacket>,
    outbound: VecDeque<TaggedPacket>,
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Intake {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, mut tagged: TaggedPacket) -> Result<(), Error> {
        match &mut tagged.message.packet {
            Packet::Rtp(p) => {
                if let Some(&(repair_type, ssrc, payload_type)) = self.repairs.get(&p.header.ssrc)
                    && p.header.payload_type == repair_type
                {
                    // The original number stands first; without one it is only a probe.
                    let Some(original) = p.payload.first_chunk::<2>() else { return Ok(()) };
                    p.header.sequence_number = u16::from_be_bytes(*original);
                    (p.header.ssrc, p.header.payload_type, p.header.padding) = (ssrc, payload_type, false);
                    p.payload = p.payload.slice(2..);
                }
            }
            Packet::Rtcp(packets) => {
                for report in packets.iter().filter_map(|p| p.as_any().downcast_ref::<SenderReport>()) {
                    self.reports.put(Report { ssrc: report.ssrc, ntp: report.ntp_time, rtp: report.rtp_time });
                }
            }
            _ => {}
        }
        self.inbound.push_back(tagged);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.inbound.pop_front()
    }

    fn handle_write(&mut self, tagged: TaggedPacket) -> Result<(), Error> {
        self.outbound.push_back(tagged);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.outbound.pop_front()
    }
}

impl Interceptor for Intake {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}

    fn bind_remote_stream(&mut self, stream: &StreamInfo) {
        if let Some((ssrc, payload_type)) = stream.ssrc_rtx.zip(stream.payload_type_rtx) {
            self.repairs.insert(ssrc, (payload_type, stream.ssrc, stream.payload_type));
        }
    }

    fn unbind_remote_stream(&mut self, stream: &StreamInfo) {
        if let Some(ssrc) = stream.ssrc_rtx {
            self.repairs.remove(&ssrc);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rtc::{interceptor::AttributedPacket, rtp, shared::TransportContext};

    use super::*;

    #[test]
    fn a_repair_is_the_lost_packet_again_and_reports_come_out() {
        let (_, reports) = registry();
        let mut intake = Intake { reports: reports.clone(), ..Intake::default() };
        intake.bind_remote_stream(&StreamInfo {
            ssrc: 70,
            payload_type: 96,
            ssrc_rtx: Some(71),
            payload_type_rtx: Some(97),
            ..StreamInfo::default()
        });
        let tagged = |packet| TaggedPacket {
            now: Instant::now(),
            transport: TransportContext::default(),
            message: AttributedPacket::new(packet),
        };
        let header = rtp::Header { ssrc: 71, payload_type: 97, sequence_number: 9, ..Default::default() };
        for payload in [&b"\x01\x02rest"[..], b"\x01"] {
            let packet = rtp::Packet { header: header.clone(), payload: Bytes::from_static(payload) };
            intake.handle_read(tagged(Packet::Rtp(packet))).unwrap();
        }
        let Some(Packet::Rtp(p)) = intake.poll_read().map(|t| t.message.packet) else { panic!("no packet") };
        assert_eq!((p.header.ssrc, p.header.payload_type, p.header.sequence_number), (70, 96, 0x0102));
        assert_eq!(&p.payload[..], b"rest");
        assert!(intake.poll_read().is_none(), "a probe repairs nothing");

        let report = SenderReport { ssrc: 70, ntp_time: 5, rtp_time: 6, ..Default::default() };
        intake.handle_read(tagged(Packet::Rtcp(vec![Box::new(report)]))).unwrap();
        assert_eq!(reports.take(), [Report { ssrc: 70, ntp: 5, rtp: 6 }]);
        assert!(reports.take().is_empty());
    }
}
