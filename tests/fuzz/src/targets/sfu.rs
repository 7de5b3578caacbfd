//! What the SFU takes from the network and from answers.

use std::time::Instant;

use bytes::Bytes;
use lotse_interceptor::{RtcpTap, RtxDecap};
use lotse_sfu::fuzz::{self, Step};
use rtc::{
    interceptor::{AttributedPacket, Interceptor as _, Packet, StreamInfo, TaggedPacket},
    sansio::Protocol as _,
    shared::{TransportContext, marshal::Unmarshal as _},
};

use crate::script::Script;

/// Steps of one run: enough for a join, some pictures and a goodbye.
const STEPS: usize = 64;

pub(crate) fn stun(data: &[u8]) {
    fuzz::stun(data);
}

pub(crate) fn answer(data: &[u8]) {
    fuzz::answer(&String::from_utf8_lossy(data));
}

/// The first byte says whether the foreign client wants to publish or to watch.
pub(crate) fn offer(data: &[u8]) {
    let Some((way, sdp)) = data.split_first() else { return };
    fuzz::foreign_offer(&String::from_utf8_lossy(sdp), way & 1 == 0);
}

pub(crate) fn forward(data: &[u8]) {
    let mut script = Script::new(data);
    let mut texts = Vec::new();
    let mut steps = Vec::new();
    while !script.is_over() && steps.len() < STEPS {
        let (what, leg) = (script.u8(), script.u8());
        steps.push(match what % 10 {
            0 | 1 => {
                let own = script.u8();
                Step::Rtp { leg, own: (own < 0xf0).then_some(own), packet: script.bytes() }
            }
            2 => Step::Rtcp { leg, compound: script.bytes() },
            3 => Step::Datagram { from: leg, data: script.bytes() },
            4 => Step::Bind { leg, from: script.u8() },
            5 => Step::Pointer { leg, message: script.bytes() },
            6 => Step::Gate { leg, open: script.u8() & 1 == 0 },
            7 => {
                let track = script.u8();
                Step::Watch { leg, track, on: track & 0x80 == 0 }
            }
            8 => {
                texts.push(script.bytes());
                Step::Answer { leg, sdp: texts.last().and_then(|t| std::str::from_utf8(t).ok()).unwrap_or_default() }
            }
            _ => Step::Later { ms: script.u16() },
        });
    }
    fuzz::forward(steps);
}

/// Both of ours in a row, as in a leg: each packet that comes out is one that went in, or the one it repairs.
pub(crate) fn interceptors(data: &[u8]) {
    let (mut decap, mut tap) = (RtxDecap::default(), RtcpTap::default());
    let stream =
        StreamInfo { ssrc: 1, payload_type: 96, ssrc_rtx: Some(2), payload_type_rtx: Some(97), ..Default::default() };
    decap.bind_remote_stream(&stream);
    let mut script = Script::new(data);
    let now = Instant::now();
    while !script.is_over() {
        let what = script.u8();
        let mut bytes = Bytes::copy_from_slice(script.bytes());
        let packet = if what & 1 == 0 {
            let Ok(mut packet) = rtc::rtp::Packet::unmarshal(&mut bytes) else { continue };
            if what & 2 == 0 {
                (packet.header.ssrc, packet.header.payload_type) = (2, 97);
            }
            Packet::Rtp(packet)
        } else {
            let Ok(packets) = rtc::rtcp::packet::unmarshal(&mut bytes) else { continue };
            Packet::Rtcp(packets)
        };
        if what & 4 != 0 {
            decap.unbind_remote_stream(&stream);
        }
        let length = if let Packet::Rtp(packet) = &packet { packet.payload.len() } else { 0 };
        let message = AttributedPacket::new(packet);
        let read = decap.handle_read(TaggedPacket { now, transport: TransportContext::default(), message });
        assert!(read.is_ok());
        while let Some(out) = decap.poll_read() {
            if let Packet::Rtp(packet) = &out.message.packet {
                assert!(packet.payload.len() == length || packet.payload.len() + 2 == length);
            }
            assert!(tap.handle_read(out).is_ok());
        }
        while let Some(out) = tap.poll_read() {
            if let Packet::Rtcp(packets) = &out.message.packet {
                assert_eq!(packets.len(), 1, "each report comes out alone");
            }
        }
    }
}
