//! Hands the reports, key frame requests and requests for lost packets of a leg to the forwarding code.
//!
//! The core ends inbound RTCP inside its own chain and routes a compound by its first block, so this takes compounds
//! apart: one packet per report block, each marked for delivery.
//!
//! Owns: nothing lasting. Never: answers anything.
//! Elsewhere: what they mean (`forward`, `publisher`, `subscriber` of the SFU).

use std::{collections::VecDeque, time::Instant};

use rtc::interceptor::{Attribute, AttributedPacket, Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp;
use rtc::rtcp::payload_feedbacks::{
    full_intra_request::FullIntraRequest, picture_loss_indication::PictureLossIndication,
};
use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use rtc::rtcp::{receiver_report::ReceiverReport, sender_report::SenderReport};
use rtc::sansio::Protocol;
use rtc::shared::error::Error;

/// See the module.
#[derive(Default)]
pub struct RtcpTap {
    reads: VecDeque<TaggedPacket>,
    writes: VecDeque<TaggedPacket>,
}

impl RtcpTap {
    fn deliver(&mut self, like: &TaggedPacket, packet: Box<dyn rtcp::Packet>) {
        let message = AttributedPacket::new(Packet::Rtcp(vec![packet])).with(Attribute::DeliverToApplication);
        self.reads.push_back(TaggedPacket { now: like.now, transport: like.transport, message });
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for RtcpTap {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, msg: TaggedPacket) -> Result<(), Error> {
        let Packet::Rtcp(packets) = &msg.message.packet else {
            self.reads.push_back(msg);
            return Ok(());
        };
        for packet in packets {
            let any = packet.as_any();
            if let Some(report) = any.downcast_ref::<SenderReport>() {
                let alone = SenderReport { reports: Vec::new(), ..report.clone() };
                self.deliver(&msg, Box::new(alone));
                for block in &report.reports {
                    let one = ReceiverReport { ssrc: report.ssrc, reports: vec![block.clone()], ..Default::default() };
                    self.deliver(&msg, Box::new(one));
                }
            } else if let Some(report) = any.downcast_ref::<ReceiverReport>() {
                for block in &report.reports {
                    let one = ReceiverReport { ssrc: report.ssrc, reports: vec![block.clone()], ..Default::default() };
                    self.deliver(&msg, Box::new(one));
                }
            } else if any.is::<PictureLossIndication>()
                || any.is::<FullIntraRequest>()
                || any.is::<TransportLayerNack>()
            {
                self.deliver(&msg, packet.clone());
            }
        }
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

impl Interceptor for RtcpTap {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}

#[cfg(test)]
mod tests {
    use rtc::rtcp::reception_report::ReceptionReport;
    use rtc::shared::TransportContext;

    use super::*;

    #[test]
    fn each_block_of_a_compound_comes_out_alone_and_marked() {
        let block = |ssrc| ReceptionReport { ssrc, ..Default::default() };
        let compound: Vec<Box<dyn rtcp::Packet>> = vec![
            Box::new(SenderReport {
                ssrc: 1,
                ntp_time: 5,
                rtp_time: 6,
                reports: vec![block(10)],
                ..Default::default()
            }),
            Box::new(ReceiverReport { ssrc: 1, reports: vec![block(11), block(12)], ..Default::default() }),
            Box::new(ReceiverReport::default()),
            Box::new(PictureLossIndication { sender_ssrc: 1, media_ssrc: 13 }),
        ];
        let mut tap = RtcpTap::default();
        tap.handle_read(TaggedPacket {
            now: Instant::now(),
            transport: TransportContext::default(),
            message: AttributedPacket::new(Packet::Rtcp(compound)),
        })
        .expect("read");
        let mut about = Vec::new();
        while let Some(msg) = tap.poll_read() {
            assert!(msg.message.has(&Attribute::DeliverToApplication));
            let Packet::Rtcp(packets) = msg.message.packet else { panic!("not RTCP") };
            assert_eq!(packets.len(), 1);
            about.push(packets[0].destination_ssrc());
        }
        assert_eq!(about, [vec![1], vec![10], vec![11], vec![12], vec![13]]);
    }
}
