//! Reads the frame number that the workshop clip carries in its corner, from pictures as they were received or stored.
//!
//! Owns: the bar code (tests/footage/barcode.json), putting VP8 packets together. Decoding is ffmpeg's.

use std::{collections::BTreeMap, path::Path, process::Command, time::Duration};

use bytes::Bytes;

use crate::media::Got;

/// Of the clip; numbers begin again at 0 when it loops.
pub const FRAMES: u32 = 750;
/// RTP ticks from one picture of the clip to the next: 25 pictures a second.
pub const TICKS: u64 = 3_600;
/// The first picture of each clap's flash (tests/footage/barcode.json); at its time the click begins.
pub const FLASHES: [u32; 3] = [125, 375, 625];
const WIDTH: usize = 1280;
const HEIGHT: usize = 720;

/// The number in the corner of a grey 1280x720 picture. `None` where the code does not check.
pub fn number(grey: &[u8]) -> Option<u32> {
    let cell = |n: usize| {
        let (x, y) = (16 + (n % 10) * 16 + 4, 672 + (n / 10) * 16 + 4);
        let sum: u32 = (0..8)
            .flat_map(|dy| (0..8).map(move |dx| (dx, dy)))
            .map(|(dx, dy)| u32::from(*grey.get((y + dy) * WIDTH + x + dx).unwrap_or(&0)))
            .sum();
        u32::from(sum / 64 > 128)
    };
    let bits: Vec<u32> = (0..20).map(cell).collect();
    let value = |bits: &[u32]| bits.iter().fold(0, |v, b| v << 1 | b);
    let fits = bits[..2] == [1, 0] && bits[18..] == [0, 1] && value(&bits[14..18]) == check(&bits[2..14]);
    fits.then(|| value(&bits[2..14]))
}

/// Where the clip began, in ticks of its pictures modulo its length, from a picture's RTP time and number: the same for every picture of
/// one clock, or times lie.
pub fn offset(rtp: u64, number: u64) -> u64 {
    let length = u64::from(FRAMES) * TICKS;
    // Half a frame is added so that rounding of running time to ticks cannot cross a border.
    let start = (rtp + length * 8 - number * TICKS + TICKS / 2) % length;
    start / TICKS
}

/// CRC-4, x^4 + x + 1, first value 0b1111.
fn check(data: &[u32]) -> u32 {
    data.iter().fold(0b1111, |crc, bit| {
        let carry = (crc >> 3) ^ bit;
        ((crc << 1) & 0b1111) ^ (carry * 0b0011)
    })
}

/// Pictures of one VP8 track: RTP time and bytes, whole ones only, from a key frame on and without a hole.
pub fn pictures(packets: &[Got]) -> Vec<(u32, Vec<u8>)> {
    let mut sorted: Vec<&Got> = packets.iter().collect();
    let Some(first) = sorted.first().map(|p| p.seq) else {
        return vec![];
    };
    sorted.sort_by_key(|p| p.seq.wrapping_sub(first) as i16);
    let mut out: Vec<(u32, Vec<u8>)> = Vec::new();
    let mut last_seq = None;
    let mut open: Option<(u32, Vec<u8>)> = None;
    for p in sorted {
        let hole = last_seq.is_some_and(|s: u16| s.wrapping_add(1) != p.seq);
        last_seq = Some(p.seq);
        if hole {
            open = None;
            out.clear();
        }
        let Some((begins, body)) = vp8(&p.payload) else {
            continue;
        };
        if begins {
            let key = body.first().is_some_and(|b| b & 1 == 0);
            open = (key || !out.is_empty()).then(|| (p.timestamp, Vec::new()));
        }
        if let Some((_, bytes)) = &mut open {
            bytes.extend_from_slice(body);
        }
        if p.marker
            && let Some(picture) = open.take()
        {
            out.push(picture);
        }
    }
    out
}

/// RFC 7741: does a picture begin here, and the bytes after the descriptor.
fn vp8(payload: &[u8]) -> Option<(bool, &[u8])> {
    let first = *payload.first()?;
    let mut at = 1;
    if first & 0x80 != 0 {
        let extended = *payload.get(1)?;
        at = 2;
        if extended & 0x80 != 0 {
            at += if payload.get(2)? & 0x80 != 0 { 2 } else { 1 };
        }
        at += usize::from(extended & 0x40 != 0) + usize::from(extended & 0x30 != 0);
    }
    Some((first & 0x10 != 0 && first & 0x07 == 0, payload.get(at..)?))
}

/// A part of a track as packets, from a key frame to the last picture before another, so that it can go round.
pub struct Film {
    /// Time since the first picture, and the payloads of its packets.
    pictures: Vec<(Duration, Vec<Bytes>)>,
    length: Duration,
}

impl Film {
    /// The longest such part of what a leg has received of one VP8 track. `None`: no two key frames, or a hole between.
    pub fn of(packets: &[Got]) -> Option<Self> {
        let mut pictures: Vec<(u32, bool, Vec<Bytes>)> = Vec::new();
        let mut last = None;
        for p in packets {
            if last.replace(p.seq).is_some_and(|l: u16| l.wrapping_add(1) != p.seq) {
                pictures.clear();
            }
            let (begins, body) = vp8(&p.payload)?;
            if begins {
                pictures.push((p.timestamp, body.first().is_some_and(|b| b & 1 == 0), vec![]));
            }
            if let Some((_, _, payloads)) = pictures.last_mut() {
                payloads.push(p.payload.clone());
            }
        }
        let first = pictures.iter().position(|p| p.1)?;
        let end = pictures.iter().rposition(|p| p.1).filter(|end| *end > first)?;
        let base = pictures[first].0;
        let after = |time: u32| Duration::from_micros(u64::from(time.wrapping_sub(base)) * 100 / 9);
        let length = after(pictures[end].0);
        let pictures = pictures.drain(first..end).map(|(time, _, payloads)| (after(time), payloads)).collect();
        Some(Self { pictures, length })
    }

    /// The n-th picture since the beginning, going round: when, and its payloads.
    pub fn picture(&self, n: u32) -> (Duration, &[Bytes]) {
        let (round, n) = (n / self.pictures.len() as u32, n as usize % self.pictures.len());
        let (after, payloads) = &self.pictures[n];
        (self.length * round + *after, payloads)
    }

    /// Pictures, length, bit/s of payloads.
    pub fn measure(&self) -> (usize, Duration, f64) {
        let bytes: usize = self.pictures.iter().flat_map(|(_, payloads)| payloads.iter().map(Bytes::len)).sum();
        (self.pictures.len(), self.length, bytes as f64 * 8.0 / self.length.as_secs_f64())
    }
}

/// Decodes pictures; the number read from each, by RTP time.
pub fn numbers(pictures: &[(u32, Vec<u8>)], folder: &Path) -> BTreeMap<u32, Option<u32>> {
    let mut ivf = b"DKIF\0\0\x20\0VP80".to_vec();
    ivf.extend_from_slice(&(WIDTH as u16).to_le_bytes());
    ivf.extend_from_slice(&(HEIGHT as u16).to_le_bytes());
    ivf.extend_from_slice(&[25, 0, 0, 0, 1, 0, 0, 0]);
    ivf.extend_from_slice(&(pictures.len() as u32).to_le_bytes());
    ivf.extend_from_slice(&[0; 4]);
    for (n, (_, bytes)) in pictures.iter().enumerate() {
        ivf.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        ivf.extend_from_slice(&(n as u64).to_le_bytes());
        ivf.extend_from_slice(bytes);
    }
    let file = folder.join("received.ivf");
    std::fs::write(&file, ivf).unwrap();
    let found = numbers_of_file(&file);
    assert_eq!(found.len(), pictures.len(), "every picture decodes");
    pictures.iter().map(|(t, _)| *t).zip(found).collect()
}

/// The numbers of all pictures of a media file, in order.
pub fn numbers_of_file(file: &Path) -> Vec<Option<u32>> {
    let out = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(file)
        .args(["-map", "0:v", "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "gray", "-s", "1280x720", "-"])
        .output()
        .expect("ffmpeg is installed by tests/setup.sh");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    out.stdout.chunks_exact(WIDTH * HEIGHT).map(number).collect()
}

/// The sound of a media file: mono, 48 kHz, -1 to 1.
pub fn sound_of_file(file: &Path) -> Vec<f32> {
    let out = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(file)
        .args(["-map", "0:a", "-f", "f32le", "-ac", "1", "-ar", "48000", "-"])
        .output()
        .expect("ffmpeg is installed by tests/setup.sh");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    out.stdout.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_bits_are_those_of_the_examples() {
        for (frame, bits) in
            [(0u32, "10000000000000101001"), (1, "10000000000001100101"), (749, "10001011101101000001")]
        {
            let bits: Vec<u32> = bits.bytes().map(|b| u32::from(b - b'0')).collect();
            assert_eq!(bits[2..14].iter().fold(0, |v, b| v << 1 | b), frame);
            assert_eq!(bits[14..18].iter().fold(0, |v, b| v << 1 | b), check(&bits[2..14]));
        }
    }

    #[test]
    fn every_picture_of_the_clip_tells_its_number() {
        let clip = crate::program::root().join("tests/footage/workshop.mp4");
        let found = numbers_of_file(&clip);
        assert_eq!(found.len(), FRAMES as usize);
        assert!(found.iter().enumerate().all(|(n, f)| *f == Some(n as u32)));
    }
}
