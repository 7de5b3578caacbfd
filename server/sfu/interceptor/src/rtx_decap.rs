//! Turns a retransmission (RFC 4588) back into the packet it repairs, before the loss detector sees it.
//!
//! The core unwraps retransmissions only after its loss detector, which would ask for a repaired packet again and again.
//!
//! Owns: the pairs of repair and primary stream. Never: keeps a packet.
//! Elsewhere: asking for what is missing (the core's NACK generator, one slot further in).

use std::{
    collections::{HashMap, VecDeque},
    time::Instant,
};

use rtc::interceptor::{Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::sansio::Protocol;
use rtc::shared::error::Error;

struct Primary {
    ssrc: u32,
    payload_type: u8,
    repair_payload_type: u8,
}

/// See the module.
#[derive(Default)]
pub struct RtxDecap {
    primaries: HashMap<u32, Primary>,
    reads: VecDeque<TaggedPacket>,
    writes: VecDeque<TaggedPacket>,
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for RtxDecap {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, mut msg: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtp(packet) = &mut msg.message.packet
            && let Some(primary) = self.primaries.get(&packet.header.ssrc)
            && packet.header.payload_type == primary.repair_payload_type
        {
            // A repair packet without an original sequence number is a bandwidth probe: nothing to repair.
            if packet.payload.len() < 2 {
                return Ok(());
            }
            packet.header.sequence_number = u16::from_be_bytes([packet.payload[0], packet.payload[1]]);
            packet.header.ssrc = primary.ssrc;
            packet.header.payload_type = primary.payload_type;
            packet.header.padding = false;
            packet.payload = packet.payload.slice(2..);
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

impl Interceptor for RtxDecap {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}

    fn bind_remote_stream(&mut self, info: &StreamInfo) {
        if let (Some(repair), Some(repair_payload_type)) = (info.ssrc_rtx, info.payload_type_rtx) {
            let primary = Primary { ssrc: info.ssrc, payload_type: info.payload_type, repair_payload_type };
            self.primaries.insert(repair, primary);
        }
    }

    fn unbind_remote_stream(&mut self, info: &StreamInfo) {
        if let Some(repair) = info.ssrc_rtx {
            self.primaries.remove(&repair);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rtc::interceptor::AttributedPacket;
    use rtc::rtp;
    use rtc::shared::TransportContext;

    use super::*;

    fn packet(ssrc: u32, payload_type: u8, seq: u16, payload: &'static [u8]) -> TaggedPacket {
        let header =
            rtp::Header { version: 2, ssrc, payload_type, sequence_number: seq, timestamp: 9, ..Default::default() };
        let packet = rtp::Packet { header, payload: Bytes::from_static(payload) };
        TaggedPacket {
            now: Instant::now(),
            transport: TransportContext::default(),
            message: AttributedPacket::new(Packet::Rtp(packet)),
        }
    }

    fn bound() -> RtxDecap {
        let mut decap = RtxDecap::default();
        decap.bind_remote_stream(&StreamInfo {
            ssrc: 1,
            payload_type: 96,
            ssrc_rtx: Some(2),
            payload_type_rtx: Some(97),
            ..Default::default()
        });
        decap
    }

    #[test]
    fn repair_becomes_the_packet_it_repairs() {
        let mut decap = bound();
        decap.handle_read(packet(2, 97, 500, &[0x12, 0x34, 7, 8])).expect("read");
        let Some(TaggedPacket { message, .. }) = decap.poll_read() else { panic!("nothing came out") };
        let Packet::Rtp(rtp) = message.packet else { panic!("not RTP") };
        assert_eq!((rtp.header.ssrc, rtp.header.payload_type, rtp.header.sequence_number), (1, 96, 0x1234));
        assert_eq!((rtp.header.timestamp, &rtp.payload[..]), (9, &[7u8, 8][..]));
    }

    #[test]
    fn probes_vanish_and_other_packets_pass_unchanged() {
        let mut decap = bound();
        decap.handle_read(packet(2, 97, 500, &[1])).expect("read");
        assert!(decap.poll_read().is_none());
        decap.handle_read(packet(1, 96, 7, &[])).expect("read");
        let Some(TaggedPacket { message, .. }) = decap.poll_read() else { panic!("nothing came out") };
        let Packet::Rtp(rtp) = message.packet else { panic!("not RTP") };
        assert_eq!((rtp.header.ssrc, rtp.header.sequence_number), (1, 7));
    }
}
