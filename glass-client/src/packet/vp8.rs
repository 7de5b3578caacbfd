//! VP8 in RTP (RFC 7741): one frame into packets with a 15-bit picture id.

use bytes::{BufMut as _, Bytes, BytesMut};

/// Descriptor: X and I set, 15-bit picture id.
const DESCRIPTOR: usize = 4;

/// Splits a frame; an empty frame gives no packet.
pub fn split(frame: &Bytes, picture_id: u16, max: usize) -> Vec<Bytes> {
    frame
        .chunks(max - DESCRIPTOR)
        .enumerate()
        .map(|(i, part)| {
            let mut out = BytesMut::with_capacity(DESCRIPTOR + part.len());
            // X; S on the first packet of the partition; partition 0.
            out.put_u8(if i == 0 { 0x90 } else { 0x80 });
            // I: a picture id follows, M: it has 15 bits.
            out.put_u8(0x80);
            out.put_u16(0x8000 | (picture_id & 0x7fff));
            out.put_slice(part);
            out.freeze()
        })
        .collect()
}

/// Is this VP8 frame a key frame? (RFC 6386, 9.1: the lowest bit of the first byte is 0.)
pub fn is_key(frame: &[u8]) -> bool {
    frame.first().is_some_and(|b| b & 1 == 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rtc::rtp::{codec::vp8::Vp8Packet, packetizer::Depacketizer as _};

    use super::*;

    proptest! {
        #[test]
        fn another_reader_puts_the_frame_together_again(frame in proptest::collection::vec(any::<u8>(), 1..5_000), id in 0u16..0x8000) {
            let frame = Bytes::from(frame);
            let mut back = BytesMut::new();
            for (i, part) in split(&frame, id, 1_120).iter().enumerate() {
                prop_assert!(part.len() <= 1_120);
                let mut reader = Vp8Packet::default();
                back.put(reader.depacketize(part).expect("valid"));
                prop_assert_eq!(reader.picture_id, id);
                prop_assert_eq!(reader.s, u8::from(i == 0));
            }
            prop_assert_eq!(back.freeze(), frame);
        }
    }
}
