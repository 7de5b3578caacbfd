//! Encoded frames to RTP packets, with our own times.
//!
//! Owns: payload formats (VP8 RFC 7741, H.264 RFC 6184, Opus RFC 7587), sequence numbers, header extensions.
//! Never: a socket. Elsewhere: which payload type, SSRC and extension ids were negotiated (`link`).

pub mod h264;
pub mod vp8;

use bytes::Bytes;
use lotse_protocol::signal::Codec;
use rtc::rtp::{Packet, header::Header};

use crate::clock::ntp;

/// Largest payload of one packet, bytes: with headers, extensions and SRTP it fits a 1,280-byte path.
pub const MAX_PAYLOAD: usize = 1_120;

pub const ABS_CAPTURE_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";
pub const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
pub const PLAYOUT_DELAY: &str = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";
pub const TRANSPORT_CC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
pub const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";

/// Least and longest playout delay, 12 bits each, in 10 ms: 40 ms and 40 ms. Shown as soon as decoded, a picture would come 70
/// ms before its sound, and unevenly; held longer, an expert would point at what is no longer there.
const PLAYOUT: [u8; 3] = [0x00, 0x40, 0x04];
/// 40 to 400 ms, where packets get lost: one that is asked for again comes a round trip or more later.
const PATIENT_PLAYOUT: [u8; 3] = [0x00, 0x40, 0x28];

/// What was negotiated for one track.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Negotiated {
    pub ssrc: u32,
    pub payload_type: u8,
    pub mid: String,
    pub mid_id: Option<u8>,
    pub abs_capture_time_id: Option<u8>,
    pub audio_level_id: Option<u8>,
    pub playout_delay_id: Option<u8>,
}

/// One outgoing stream: numbers its packets.
#[derive(Debug)]
pub struct Packetizer {
    codec: Codec,
    seq: u16,
    picture_id: u16,
    packets: u32,
    octets: u32,
}

/// What to send of one frame or block.
#[derive(Debug, Clone)]
pub struct Unit<'a> {
    pub data: &'a Bytes,
    /// As in the packet (wrapped).
    pub rtp: u32,
    /// Publisher UTC of capture, µs.
    pub utc_us: i64,
    /// RFC 6464 level, 0 (loudest) to 127 (silence), for voices.
    pub level: Option<u8>,
    /// A picture may wait for its repairs where it is shown.
    pub patient: bool,
}

impl Packetizer {
    /// `seq` and `picture_id` start anywhere.
    pub fn new(codec: Codec, seq: u16, picture_id: u16) -> Self {
        Self { codec, seq, picture_id: picture_id & 0x7fff, packets: 0, octets: 0 }
    }

    /// The packets of one unit, in order.
    pub fn packetize(&mut self, unit: &Unit<'_>, to: &Negotiated) -> Vec<Packet> {
        let payloads = match self.codec {
            Codec::Vp8 => {
                self.picture_id = (self.picture_id + 1) & 0x7fff;
                vp8::split(unit.data, self.picture_id, MAX_PAYLOAD)
            }
            Codec::H264 => h264::split(unit.data, MAX_PAYLOAD),
            Codec::Opus => vec![unit.data.clone()],
        };
        let last = payloads.len().saturating_sub(1);
        payloads
            .into_iter()
            .enumerate()
            .map(|(i, payload)| {
                self.seq = self.seq.wrapping_add(1);
                self.packets = self.packets.wrapping_add(1);
                self.octets = self.octets.wrapping_add(payload.len() as u32);
                let mut header = Header {
                    version: 2,
                    marker: self.codec.is_video() && i == last,
                    payload_type: to.payload_type,
                    sequence_number: self.seq,
                    timestamp: unit.rtp,
                    ssrc: to.ssrc,
                    ..Header::default()
                };
                extend(&mut header, unit, to, i == last);
                if let (0, true, Some(id)) = (i, self.codec.is_video(), to.playout_delay_id) {
                    let delay = if unit.patient { &PATIENT_PLAYOUT } else { &PLAYOUT };
                    let _ = header.set_extension(id, Bytes::from_static(delay));
                }
                Packet { header, payload }
            })
            .collect()
    }

    /// Packets and payload bytes so far, for sender reports (both wrap).
    pub fn sent(&self) -> (u32, u32) {
        (self.packets, self.octets)
    }
}

fn extend(header: &mut Header, unit: &Unit<'_>, to: &Negotiated, last: bool) {
    // An id the header cannot take is an id we then go without: extensions help, they do not carry.
    if let Some(id) = to.mid_id {
        let _ = header.set_extension(id, Bytes::copy_from_slice(to.mid.as_bytes()));
    }
    if let Some(id) = to.audio_level_id
        && let Some(level) = unit.level
    {
        let voice = if level < 60 { 0x80 } else { 0 };
        let _ = header.set_extension(id, Bytes::copy_from_slice(&[voice | level.min(127)]));
    }
    if let Some(id) = to.abs_capture_time_id
        && last
    {
        let _ = header.set_extension(id, Bytes::copy_from_slice(&ntp(unit.utc_us).to_be_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to() -> Negotiated {
        Negotiated {
            ssrc: 7,
            payload_type: 96,
            mid: "1".into(),
            mid_id: Some(1),
            abs_capture_time_id: Some(2),
            audio_level_id: Some(3),
            playout_delay_id: Some(4),
        }
    }

    #[test]
    fn all_packets_of_a_picture_carry_its_time_and_only_the_last_the_marker() {
        let mut p = Packetizer::new(Codec::Vp8, u16::MAX, 0x7fff);
        let data = Bytes::from(vec![0u8; 3_000]);
        let packets = p.packetize(&Unit { data: &data, rtp: 90, utc_us: 0, level: None, patient: false }, &to());
        assert_eq!(packets.len(), 3);
        assert!(packets.iter().all(|p| p.header.timestamp == 90 && p.header.ssrc == 7));
        assert_eq!(packets.iter().map(|p| p.header.marker).collect::<Vec<_>>(), [false, false, true]);
        assert_eq!(packets.iter().map(|p| p.header.sequence_number).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(packets[2].header.get_extension(2).is_some());
        assert_eq!(
            packets.iter().map(|p| p.header.get_extension(4).is_some()).collect::<Vec<_>>(),
            [true, false, false]
        );
        assert_eq!(p.sent().0, 3);
    }

    #[test]
    fn a_picture_is_held_40_ms_and_may_be_held_400_where_packets_get_lost() {
        let mut p = Packetizer::new(Codec::Vp8, 0, 0);
        let data = Bytes::from(vec![0u8; 100]);
        let mut held = |patient| {
            let packets = p.packetize(&Unit { data: &data, rtp: 90, utc_us: 0, level: None, patient }, &to());
            let bytes = packets[0].header.get_extension(4).expect("the delay");
            let both = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
            ((both >> 12) * 10, (both & 0xfff) * 10)
        };
        assert_eq!((held(false), held(true)), ((40, 40), (40, 400)));
    }

    #[test]
    fn a_voice_packet_carries_its_level() {
        let mut p = Packetizer::new(Codec::Opus, 0, 0);
        let data = Bytes::from_static(b"opus");
        let packets = p.packetize(&Unit { data: &data, rtp: 1, utc_us: 0, level: Some(30), patient: false }, &to());
        assert_eq!(packets.len(), 1);
        assert!(!packets[0].header.marker);
        assert_eq!(packets[0].header.get_extension(3).as_deref(), Some(&[0x80 | 30][..]));
    }
}
