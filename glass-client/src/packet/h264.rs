//! H.264 in RTP (RFC 6184, packetization mode 1): single NAL units and FU-A.

use bytes::{BufMut as _, Bytes, BytesMut};

const FU_A: u8 = 28;
const IDR: u8 = 5;
const DELIMITER: u8 = 9;

/// Splits an access unit in Annex B form; access unit delimiters are left out.
pub fn split(unit: &Bytes, max: usize) -> Vec<Bytes> {
    let mut out = Vec::new();
    for nal in nals(unit).filter(|n| n.first().is_some_and(|b| b & 0x1f != DELIMITER)) {
        if nal.len() <= max {
            out.push(unit.slice_ref(nal));
            continue;
        }
        let (first, rest) = (nal[0], &nal[1..]);
        let parts = rest.len().div_ceil(max - 2);
        for (i, part) in rest.chunks(max - 2).enumerate() {
            let mut packet = BytesMut::with_capacity(2 + part.len());
            packet.put_u8(first & 0xe0 | FU_A);
            let start = if i == 0 { 0x80 } else { 0 };
            let end = if i + 1 == parts { 0x40 } else { 0 };
            packet.put_u8(start | end | first & 0x1f);
            packet.put_slice(part);
            out.push(packet.freeze());
        }
    }
    out
}

/// Does the access unit hold an IDR slice?
pub fn is_key(unit: &[u8]) -> bool {
    nals(unit).any(|n| n.first().is_some_and(|b| b & 0x1f == IDR))
}

/// The NAL units between start codes.
fn nals(unit: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = after_start(unit).unwrap_or(&[]);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.windows(3).position(|w| w == [0, 0, 1]);
        let (nal, next) = match end {
            Some(at) => (&rest[..at], &rest[at + 3..]),
            None => (rest, &rest[rest.len()..]),
        };
        rest = next;
        // A four-byte start code, or trailing zeros, leave zeros behind the unit.
        let len = nal.iter().rposition(|&b| b != 0).map_or(0, |p| p + 1);
        Some(&nal[..len])
    })
    .filter(|n| !n.is_empty())
}

fn after_start(unit: &[u8]) -> Option<&[u8]> {
    unit.windows(3).position(|w| w == [0, 0, 1]).map(|at| &unit[at + 3..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rtc::rtp::{codec::h264::H264Packet, packetizer::Depacketizer as _};

    use super::*;

    proptest! {
        // From two bytes of body: the other reader refuses packets of two bytes and less, and a slice is never so short.
        #[test]
        fn another_reader_puts_the_unit_together_again(sizes in proptest::collection::vec(2usize..4_000, 1..5)) {
            let mut unit = BytesMut::new();
            for (i, size) in sizes.iter().enumerate() {
                unit.put_slice(if i % 2 == 0 { &[0, 0, 0, 1] } else { &[0, 0, 1] });
                unit.put_u8(if i == 0 { 0x65 } else { 0x41 });
                unit.put_bytes(0xab, *size);
            }
            let unit = unit.freeze();
            prop_assert!(is_key(&unit));
            let mut reader = H264Packet::default();
            let mut back = Vec::new();
            for part in split(&unit, 1_120) {
                prop_assert!(part.len() <= 1_120);
                back.extend_from_slice(&reader.depacketize(&part).expect("valid"));
            }
            let expect: Vec<&[u8]> = nals(&unit).collect();
            prop_assert_eq!(nals(&back).collect::<Vec<_>>(), expect);
        }

        #[test]
        fn any_bytes_are_split_without_a_panic(bytes in proptest::collection::vec(0u8..3, 0..300)) {
            let bytes = Bytes::from(bytes);
            let _ = (split(&bytes, 50), is_key(&bytes));
        }
    }

    #[test]
    fn delimiters_are_left_out() {
        let unit = Bytes::from_static(&[0, 0, 0, 1, 9, 0x10, 0, 0, 0, 1, 0x65, 1, 2]);
        assert_eq!(split(&unit, 100), [Bytes::from_static(&[0x65, 1, 2])]);
    }
}
