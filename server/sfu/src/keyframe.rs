//! Says whether an RTP payload begins a key frame, from the few header bytes that stay readable.
//!
//! Owns: nothing; plain functions. Never: looks at picture data.
//! Elsewhere: who waits for a key frame (`subscriber`).

use lotse_protocol::signal::Codec;

/// Whether this payload is the first of a key frame. False for anything it cannot read.
pub(crate) fn begins_key_frame(codec: Codec, payload: &[u8]) -> bool {
    match codec {
        Codec::Vp8 => vp8(payload).unwrap_or(false),
        Codec::H264 => h264(payload).unwrap_or(false),
        Codec::Opus => true,
    }
}

/// RFC 7741: payload descriptor, then the frame's first byte, whose lowest bit is 0 in a key frame.
fn vp8(payload: &[u8]) -> Option<bool> {
    let first = *payload.first()?;
    let begins = first & 0x10 != 0 && first & 0x07 == 0;
    let mut at = 1;
    if first & 0x80 != 0 {
        let flags = *payload.get(1)?;
        at = 2;
        if flags & 0x80 != 0 {
            at += if payload.get(at)? & 0x80 != 0 { 2 } else { 1 };
        }
        at += usize::from(flags & 0x40 != 0) + usize::from(flags & 0x30 != 0);
    }
    Some(begins && payload.get(at)? & 0x01 == 0)
}

/// RFC 6184: a parameter set or an IDR slice, alone, aggregated (STAP-A) or as the start of a fragment (FU-A).
fn h264(payload: &[u8]) -> Option<bool> {
    let opens = |unit: u8| matches!(unit & 0x1F, 5 | 7);
    match payload.first()? & 0x1F {
        24 => {
            let mut rest = payload.get(1..)?;
            while rest.len() > 2 {
                let len = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
                if opens(rest[2]) {
                    return Some(true);
                }
                rest = rest.get(2 + len..)?;
            }
            Some(false)
        }
        28 => {
            let fragment = *payload.get(1)?;
            Some(fragment & 0x80 != 0 && opens(fragment))
        }
        unit => Some(opens(unit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vp8_start_of_key_frame_with_and_without_picture_id() {
        assert!(begins_key_frame(Codec::Vp8, &[0x10, 0x00]));
        assert!(!begins_key_frame(Codec::Vp8, &[0x10, 0x01]), "delta frame");
        assert!(!begins_key_frame(Codec::Vp8, &[0x00, 0x00]), "not the first packet");
        assert!(begins_key_frame(Codec::Vp8, &[0x90, 0x80, 0x81, 0x02, 0x00]), "15-bit picture id");
        assert!(begins_key_frame(Codec::Vp8, &[0x90, 0xF0, 0x01, 0x00, 0x00, 0x00]), "all fields");
        assert!(!begins_key_frame(Codec::Vp8, &[0x90]), "cut short");
    }

    #[test]
    fn h264_parameter_set_idr_and_fragments() {
        assert!(begins_key_frame(Codec::H264, &[0x67]));
        assert!(begins_key_frame(Codec::H264, &[0x65]));
        assert!(!begins_key_frame(Codec::H264, &[0x41]));
        assert!(begins_key_frame(Codec::H264, &[0x78, 0, 1, 0x68, 0, 1, 0x65]));
        assert!(begins_key_frame(Codec::H264, &[0x7C, 0x85]));
        assert!(!begins_key_frame(Codec::H264, &[0x7C, 0x05]), "middle of a fragment");
        assert!(!begins_key_frame(Codec::H264, &[0x78, 0xFF, 0xFF, 0x01]), "broken aggregate");
    }

    #[test]
    fn no_payload_panics() {
        for first in 0..=255u8 {
            for second in [0, 0x7F, 0x80, 0xFF] {
                for len in 0..6 {
                    let payload = [first, second, second, 0xFF, second, first];
                    for codec in [Codec::Vp8, Codec::H264, Codec::Opus] {
                        begins_key_frame(codec, &payload[..len]);
                    }
                }
            }
        }
    }
}
