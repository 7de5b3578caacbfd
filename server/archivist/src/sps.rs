//! Reads the size of the picture from an H.264 sequence parameter set (ITU-T H.264, 7.3.2.1.1).
//!
//! Owns: nothing; plain functions. Never: panics, whatever the bytes. A foreign camera announces no size, and players
//! refuse an MP4 without one. Elsewhere: VP8's (`depacketize::vp8_size`).

/// Profiles whose sets say more about colours (7.3.2.1.1).
const WITH_CHROMA: [u32; 13] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];

/// Width and height after cropping, pixels.
pub fn size(sps: &[u8]) -> Option<(u16, u16)> {
    let bytes = without_escapes(sps.get(1..)?);
    let mut bits = Bits { bytes: &bytes, at: 0 };
    let profile = bits.take(8)?;
    // Constraints and level.
    bits.take(16)?;
    bits.number()?;
    let (mut chroma, mut planes_apart) = (1, false);
    if WITH_CHROMA.contains(&profile) {
        chroma = bits.number()?;
        planes_apart = chroma == 3 && bits.flag()?;
        // Depths of luma and chroma, lossless mode.
        bits.number()?;
        bits.number()?;
        bits.flag()?;
        if bits.flag()? {
            for list in 0..if chroma == 3 { 12 } else { 8 } {
                if bits.flag()? {
                    bits.skip_scaling_list(if list < 6 { 16 } else { 64 })?;
                }
            }
        }
    }
    // Length of frame numbers.
    bits.number()?;
    match bits.number()? {
        0 => _ = bits.number()?,
        1 => {
            bits.flag()?;
            bits.number()?;
            bits.number()?;
            // At most 255 (7.4.2.1.1).
            for _ in 0..bits.number().filter(|cycle| *cycle <= 255)? {
                bits.number()?;
            }
        }
        _ => {}
    }
    // Reference frames, gaps allowed.
    bits.number()?;
    bits.flag()?;
    let (width, height) = (bits.number()?.checked_add(1)?, bits.number()?.checked_add(1)?);
    let fields = u32::from(!bits.flag()?);
    if fields == 1 {
        bits.flag()?;
    }
    bits.flag()?;
    let (mut left, mut right, mut top, mut bottom) = (0, 0, 0, 0);
    if bits.flag()? {
        (left, right, top, bottom) = (bits.number()?, bits.number()?, bits.number()?, bits.number()?);
    }
    let (across, down) = match chroma {
        _ if planes_apart => (1, 1),
        1 => (2, 2),
        2 => (2, 1),
        _ => (1, 1),
    };
    let cut = |blocks: u32, times: u32, first: u32, last: u32, unit: u32| {
        let cropped = first.checked_add(last)?.checked_mul(unit)?;
        let whole = blocks.checked_mul(16)?.checked_mul(times)?;
        u16::try_from(whole.checked_sub(cropped)?).ok().filter(|size| *size > 0)
    };
    let frame = 1 + fields;
    Some((cut(width, 1, left, right, across)?, cut(height, frame, top, bottom, down * frame)?))
}

/// The bytes without the third of each 0 0 3, which only keeps start codes out (7.4.1).
fn without_escapes(unit: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(unit.len());
    let mut zeros = 0;
    for byte in unit {
        if zeros >= 2 && *byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
        out.push(*byte);
    }
    out
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn flag(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    fn take(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            value = value << 1 | u32::from(self.flag()?);
        }
        Some(value)
    }

    /// Exp-Golomb (9.1), as a number from 0; as far as lengths go, signed ones are read alike.
    fn number(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some((1u32 << zeros) - 1 + self.take(zeros)?)
    }

    /// 7.3.2.1.1.1
    fn skip_scaling_list(&mut self, length: usize) -> Option<()> {
        let (mut last, mut next) = (8i64, 8i64);
        for _ in 0..length {
            if next != 0 {
                let coded = i64::from(self.number()?);
                let delta = if coded % 2 == 1 { (coded + 1) / 2 } else { -(coded / 2) };
                next = (last + delta).rem_euclid(256);
            }
            last = if next == 0 { last } else { next };
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
    }

    #[test]
    fn sizes_of_sets_that_encoders_wrote() {
        for (set, known) in [
            ("6742c01fd9005005bb011000000300100000030140f1832480", (1280, 720)),
            ("6742c01f8c8d402802dd00f08846a0", (1280, 720)),
            ("67640028acd940780227e5c044000003000400000300503c60c658", (1920, 1080)),
            ("674d4016eca06c1ef3780880000003008000000a078b16cb", (854, 480)),
            ("677a000cbcd9415087888fc044000003000400000300503c50a658", (322, 242)),
            ("67f4000c919b282a10f1f1f80880000003008000000a078a14cb", (322, 242)),
            // Interlaced.
            ("674d401eeca05a107e23011000000300100000030321f1429960", (720, 484)),
            // Written by hand after 7.3.2.1.1: three scaling lists, order type 1.
            ("6764001fadffffc221ffffffffffffffff5769a0280be4", (640, 368)),
        ] {
            assert_eq!(size(&hex(set)), Some(known), "{set}");
        }
    }

    proptest! {
        #[test]
        fn made_up_bytes_are_harmless(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = size(&bytes);
        }
    }
}
