//! Where a drawn picture lies on a display of another size, and its bytes there.
//!
//! Owns: plain functions. XRGB8888, as every compositor and every dumb buffer takes it: blue first in memory. Never: a device.

use crate::capture::yuv::Rgba;

/// Where the picture lies; the rest stays black, which see-through glasses show as nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placing {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

/// The largest place of the same shape in the middle of the display.
pub fn place(picture: (u32, u32), display: (u32, u32)) -> Placing {
    let (pw, ph, dw, dh) =
        (u64::from(picture.0.max(1)), u64::from(picture.1.max(1)), u64::from(display.0), u64::from(display.1));
    let (width, height) = if dw * ph <= dh * pw { (dw, dw * ph / pw) } else { (dh * pw / ph, dh) };
    // Both are at most those of the display, which are u32.
    let (width, height) = (width as u32, height as u32);
    Placing { x: (display.0 - width) / 2, y: (display.1 - height) / 2, width, height }
}

/// Draws the picture, scaled and in its place, into `out`: rows of `stride` bytes, 4 bytes a pixel. Rows that do not fit are left out.
pub fn fill(picture: &Rgba, display: (u32, u32), stride: usize, out: &mut [u8]) {
    let at = place((picture.width, picture.height), display);
    // Opaque, also where the display calls that byte unused: some take it for how much shows through.
    for row in out.chunks_mut(stride.max(1)) {
        row.chunks_exact_mut(4).for_each(|pixel| pixel.copy_from_slice(&[0, 0, 0, 0xff]));
    }
    if at.width == 0 || at.height == 0 {
        return;
    }
    let scaled;
    let pixels = if (at.width, at.height) == (picture.width, picture.height) {
        &picture.pixels
    } else {
        let Some(whole) = image::RgbaImage::from_raw(picture.width, picture.height, picture.pixels.clone()) else {
            return;
        };
        scaled = image::imageops::resize(&whole, at.width, at.height, image::imageops::FilterType::Triangle).into_raw();
        &scaled
    };
    let (left, wide) = (at.x as usize * 4, at.width as usize * 4);
    let rows = out.chunks_mut(stride.max(1)).skip(at.y as usize);
    for (row, source) in rows.zip(pixels.chunks_exact(wide)) {
        let Some(row) = row.get_mut(left..left + wide) else { return };
        for (to, from) in row.chunks_exact_mut(4).zip(source.chunks_exact(4)) {
            to.copy_from_slice(&[from[2], from[1], from[0], 0xff]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_picture_keeps_its_shape_and_lies_in_the_middle() {
        let at = |w, h| place((854, 480), (w, h));
        assert_eq!(at(854, 480), Placing { x: 0, y: 0, width: 854, height: 480 });
        assert_eq!(at(1708, 960), Placing { x: 0, y: 0, width: 1708, height: 960 });
        assert_eq!(at(1280, 800), Placing { x: 0, y: 40, width: 1280, height: 719 });
        assert_eq!(at(640, 400), Placing { x: 0, y: 20, width: 640, height: 359 });
        assert_eq!(at(2000, 480), Placing { x: 573, y: 0, width: 854, height: 480 });
        assert_eq!(at(0, 0), Placing { x: 0, y: 0, width: 0, height: 0 });
    }

    #[test]
    fn colours_and_bars_are_where_they_belong() {
        let picture = Rgba { width: 2, height: 1, pixels: vec![1, 2, 3, 255, 4, 5, 6, 255] };
        // A display of 2x3 with two bytes of padding a row.
        let mut out = vec![9; 10 * 3];
        fill(&picture, (2, 3), 10, &mut out);
        let bar = [0, 0, 0, 255, 0, 0, 0, 255, 9, 9];
        assert_eq!(out[..10], bar);
        assert_eq!(out[10..18], [3, 2, 1, 255, 6, 5, 4, 255]);
        assert_eq!(out[20..], bar);
    }

    proptest! {
        #[test]
        fn a_picture_never_leaves_its_display(pw in 1u32..4096, ph in 1u32..4096, dw in 0u32..8192, dh in 0u32..8192) {
            let at = place((pw, ph), (dw, dh));
            prop_assert!(at.x + at.width <= dw && at.y + at.height <= dh);
            prop_assert!(at.width == dw || at.height == dh);
        }

        #[test]
        fn buffers_of_any_size_are_filled_without_a_panic(dw in 0u32..40, dh in 0u32..40, stride in 0usize..200, length in 0usize..4000) {
            let picture = Rgba { width: 8, height: 5, pixels: vec![7; 160] };
            fill(&picture, (dw, dh), stride, &mut vec![1; length]);
        }
    }
}
