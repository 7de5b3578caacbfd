//! The `test` camera and microphone: a drawn picture with its number in a bar code, and a beep every second.
//!
//! Owns: a source that needs no file and no device. The bar code is that of `tests/footage/README.md`.

use std::{
    sync::{Arc, atomic::AtomicBool},
    thread,
};

use super::{
    BLOCK, BLOCK_NS, Outlets, RawFrame, Running, SAMPLE_RATE, SoundBlock, Source,
    encode::{MAIN_HEIGHT, MAIN_WIDTH},
    sleep_until,
    yuv::{self, Layout},
};
use crate::{clock::monotonic_ns, error::GlassError};

/// Pictures a second.
const FPS: u64 = 30;
/// Numbers run from 0 to this minus one, as in the workshop clip.
const NUMBERS: u64 = 750;
/// Side of one bar code cell, pixels.
const CELL: usize = 16;
/// Where the two rows of ten cells begin.
const ROWS: [(usize, usize); 2] = [(16, 672), (16, 688)];

/// The drawn picture.
pub struct Picture;

impl Source for Picture {
    fn start(self: Box<Self>, outlets: Outlets) -> Result<Running, GlassError> {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let thread = thread::spawn(move || {
            let start = monotonic_ns();
            for n in 0u64.. {
                let at = start + n * 1_000_000_000 / FPS;
                if !sleep_until(at, &flag) {
                    return;
                }
                let picture = gstreamer::Buffer::from_mut_slice(draw(n));
                (outlets.picture)(RawFrame { picture, capture_ns: at });
            }
        });
        Ok(Running::new(stop, vec![thread], None))
    }
}

/// A beep of 100 ms at the start of every second.
pub struct Beeps;

impl Source for Beeps {
    fn start(self: Box<Self>, outlets: Outlets) -> Result<Running, GlassError> {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let thread = thread::spawn(move || {
            let start = monotonic_ns();
            for n in 0u64.. {
                let at = start + n * BLOCK_NS;
                if !sleep_until(at + BLOCK_NS, &flag) {
                    return;
                }
                (outlets.sound)(SoundBlock { samples: Box::new(beep(n)), capture_ns: at });
            }
        });
        Ok(Running::new(stop, vec![thread], None))
    }
}

fn beep(block: u64) -> [i16; BLOCK] {
    let mut out = [0; BLOCK];
    if block % 50 < 5 {
        for (i, s) in out.iter_mut().enumerate() {
            let t = (block % 50 * BLOCK as u64 + i as u64) as f32 / SAMPLE_RATE as f32;
            *s = ((t * 880.0 * std::f32::consts::TAU).sin() * 8_000.0) as i16;
        }
    }
    out
}

/// Picture `n`: grey steps, a bar that wanders once in four seconds, and the number.
fn draw(n: u64) -> Vec<u8> {
    let (w, h) = (usize::from(MAIN_WIDTH), usize::from(MAIN_HEIGHT));
    let layout = Layout::of(w, h);
    let mut out = yuv::black(w, h);
    let bar = (n as usize * w / 120) % w;
    for y in 0..h {
        let row = &mut out[y * layout.stride..][..w];
        for (x, p) in row.iter_mut().enumerate() {
            *p = if x.abs_diff(bar) < 12 { 235 } else { (40 + (x / 80) * 8 + (y / 90) * 4) as u8 };
        }
    }
    for y in 0..h / 2 {
        for x in 0..w / 2 {
            out[layout.u + y * layout.chroma_stride + x] = (100 + y / 8) as u8;
            out[layout.v + y * layout.chroma_stride + x] = (110 + x / 20) as u8;
        }
    }
    fill(&mut out, layout, (0, 656), (240, 64), 16);
    let bits = bits((n % NUMBERS) as u16);
    for (i, bit) in bits.iter().enumerate() {
        let (x, y) = ROWS[i / 10];
        fill(&mut out, layout, (x + i % 10 * CELL, y), (CELL, CELL), if *bit { 235 } else { 16 });
    }
    out
}

fn fill(out: &mut [u8], layout: Layout, at: (usize, usize), size: (usize, usize), luma: u8) {
    for y in at.1..at.1 + size.1 {
        out[y * layout.stride + at.0..][..size.0].fill(luma);
        let chroma = y / 2 * layout.chroma_stride + at.0 / 2;
        out[layout.u + chroma..][..size.0 / 2].fill(128);
        out[layout.v + chroma..][..size.0 / 2].fill(128);
    }
}

/// The twenty cells of a number.
fn bits(number: u16) -> [bool; 20] {
    let word = 0b10 << 18 | u32::from(number & 0xfff) << 6 | u32::from(crc4(number)) << 2 | 0b01;
    std::array::from_fn(|i| word >> (19 - i) & 1 == 1)
}

fn crc4(number: u16) -> u8 {
    let mut crc = 0b1111u8;
    for i in (0..12).rev() {
        let top = (crc >> 3 & 1) ^ (number >> i & 1) as u8;
        crc = crc << 1 & 0b1111;
        if top == 1 {
            crc ^= 0b0011;
        }
    }
    crc
}

/// Reads the number from a picture's luma (any size with the same shape); `None` if it is not readable.
pub fn read_number(luma: &[u8], stride: usize, width: usize) -> Option<u16> {
    let scale = width as f32 / f32::from(MAIN_WIDTH);
    let value = |i: usize| {
        let (x, y) = ROWS[i / 10];
        let from = |v: usize| ((v + CELL / 4) as f32 * scale) as usize;
        let side = ((CELL / 2) as f32 * scale).max(1.0) as usize;
        let (x, y) = (from(x + i % 10 * CELL), from(y));
        let mut sum = 0u32;
        for row in y..y + side {
            sum += luma.get(row * stride + x..row * stride + x + side)?.iter().map(|&b| u32::from(b)).sum::<u32>();
        }
        Some(sum / (side * side) as u32)
    };
    let cells: Option<Vec<u32>> = (0..20).map(value).collect();
    let cells = cells?;
    let (white, black) = ((cells[0] + cells[19]) / 2, (cells[1] + cells[18]) / 2);
    if white < black + 64 {
        return None;
    }
    let number = cells[2..14].iter().fold(0u16, |n, &c| n << 1 | u16::from(c > (white + black) / 2));
    let read: Vec<bool> = cells.iter().map(|&c| c > (white + black) / 2).collect();
    (read == bits(number) && u64::from(number) < NUMBERS).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bar_code_is_that_of_the_footage() {
        let text = |n| bits(n).iter().map(|&b| if b { '1' } else { '0' }).collect::<String>();
        assert_eq!(text(0), "10000000000000101001");
        assert_eq!(text(1), "10000000000001100101");
        assert_eq!(text(749), "10001011101101000001");
    }

    #[test]
    fn every_number_is_read_back_from_its_picture() {
        for n in [0u64, 1, 63, 311, 749, 750] {
            let picture = draw(n);
            assert_eq!(read_number(&picture, 1280, 1280), Some((n % NUMBERS) as u16));
        }
        assert_eq!(read_number(&yuv::black(1280, 720), 1280, 1280), None);
    }

    #[test]
    fn it_beeps_for_a_tenth_of_each_second() {
        let loud = (0..100).filter(|&b| beep(b).iter().any(|&s| s > 1_000)).count();
        assert_eq!(loud, 10);
    }
}
