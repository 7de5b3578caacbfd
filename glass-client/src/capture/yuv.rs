//! I420 pictures: layout, black, and conversion to RGB at another size.
//!
//! Owns: the one place that knows where the planes lie. Never: a display.

/// Bytes of an I420 picture as GStreamer lays it out (strides rounded up to 4).
pub fn size(width: usize, height: usize) -> usize {
    let layout = Layout::of(width, height);
    layout.v + layout.chroma_stride * height.div_ceil(2)
}

/// Where the planes of a GStreamer I420 picture lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    pub stride: usize,
    pub chroma_stride: usize,
    pub u: usize,
    pub v: usize,
}

impl Layout {
    pub fn of(width: usize, height: usize) -> Self {
        let stride = width.next_multiple_of(4);
        let chroma_stride = width.div_ceil(2).next_multiple_of(4);
        let u = stride * height.next_multiple_of(2);
        Self { stride, chroma_stride, u, v: u + chroma_stride * height.div_ceil(2) }
    }
}

/// A black picture.
pub fn black(width: usize, height: usize) -> Vec<u8> {
    let layout = Layout::of(width, height);
    let mut out = vec![128; size(width, height)];
    out[..layout.u].fill(16);
    out
}

/// A picture in RGBA, opaque.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rgba {
    pub width: u32,
    pub height: u32,
    pub pixels: Vec<u8>,
}

/// Converts BT.601 video range to RGBA, averaging where the target is smaller. `None` if `data` is too short.
pub fn to_rgba(data: &[u8], width: usize, height: usize, out_width: usize, out_height: usize) -> Option<Rgba> {
    if width == 0 || height == 0 || data.len() < size(width, height) {
        return None;
    }
    let l = Layout::of(width, height);
    let columns = spans(width, out_width);
    let rows = spans(height, out_height);
    let mut pixels = Vec::with_capacity(out_width * out_height * 4);
    for &(y0, y1) in &rows {
        let chroma_row = (y0 + y1) / 2 / 2;
        let (u, v) = (&data[l.u + chroma_row * l.chroma_stride..], &data[l.v + chroma_row * l.chroma_stride..]);
        for &(x0, x1) in &columns {
            let mut sum = 0u32;
            for y in y0..y1 {
                sum += data[y * l.stride + x0..y * l.stride + x1].iter().map(|&b| u32::from(b)).sum::<u32>();
            }
            let luma = (sum / ((y1 - y0) * (x1 - x0)) as u32) as i32;
            let chroma = (x0 + x1) / 2 / 2;
            pixels.extend_from_slice(&rgb(luma, i32::from(u[chroma]), i32::from(v[chroma])));
        }
    }
    Some(Rgba { width: out_width as u32, height: out_height as u32, pixels })
}

/// Source pixels of each target pixel: at least one, all inside.
fn spans(from: usize, to: usize) -> Vec<(usize, usize)> {
    (0..to)
        .map(|i| {
            let start = (i * from / to).min(from - 1);
            (start, ((i + 1) * from / to).clamp(start + 1, from))
        })
        .collect()
}

fn rgb(y: i32, u: i32, v: i32) -> [u8; 4] {
    let c = 298 * (y - 16) + 128;
    let (d, e) = (u - 128, v - 128);
    let clip = |x: i32| (x >> 8).clamp(0, 255) as u8;
    [clip(c + 409 * e), clip(c - 100 * d - 208 * e), clip(c + 516 * d), 255]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn black_is_black_at_any_size() {
        for (w, h) in [(1280, 720), (640, 272), (6, 3), (1, 1)] {
            let small = to_rgba(&black(w, h), w, h, 5, 4).expect("whole");
            assert!(small.pixels.chunks(4).all(|p| p == [0, 0, 0, 255]), "{w}x{h}");
        }
    }

    #[test]
    fn white_and_red_are_themselves() {
        assert_eq!(rgb(235, 128, 128), [255, 255, 255, 255]);
        let [r, g, b, _] = rgb(82, 90, 240);
        assert!(r > 250 && g < 5 && b < 5, "{r} {g} {b}");
    }

    #[test]
    fn a_short_buffer_is_refused() {
        assert_eq!(to_rgba(&[0; 10], 1280, 720, 4, 4), None);
    }
}
