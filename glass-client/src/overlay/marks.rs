//! Draws marks on a picture. Every stroke has a dark casing, so that it stands out on any ground.

use lotse_payload::{
    Annotation, Instruction, Mark,
    annotation::StrokePoint,
    geometry::{PictureCoord, length_to_pixels},
};
use tiny_skia::{Path, PathBuilder};

use crate::{
    capture::yuv::Rgba,
    hud::{
        BLACK, Colour, WHITE,
        canvas::{Canvas, Ink, Style},
    },
};

/// Least stroke width on the display, px.
const THINNEST: f32 = 3.5;
const WIDEST: f32 = 16.0;
/// The casing stands out this far on each side, px.
const CASING: f32 = 2.0;
const CASING_ALPHA: u8 = 165;
/// Texts on the picture, px; the display asks for 20 at least.
const TEXT: f32 = 20.0;
const BADGE: f32 = 17.0;

/// The picture (or black, where there is none) with the marks of `instruction`, `width` x `height` pixels. A picture of
/// another shape is fitted in, and the marks go with it.
pub fn draw(picture: Option<&Rgba>, instruction: &Instruction, width: u32, height: u32) -> Rgba {
    let mut canvas = Canvas::new(width, height);
    draw_on(&mut canvas, picture, instruction, width, height)
}

/// The same on a canvas kept warm (of that size).
pub fn draw_on(
    canvas: &mut Canvas,
    picture: Option<&Rgba>,
    instruction: &Instruction,
    width: u32,
    height: u32,
) -> Rgba {
    canvas.clear();
    let (w, h) = (width as f32, height as f32);
    let (pw, ph) = picture
        .map_or((f32::from(instruction.width), f32::from(instruction.height)), |p| (p.width as f32, p.height as f32));
    let scale = (w / pw.max(1.0)).min(h / ph.max(1.0));
    let frame = Frame { w: pw * scale, h: ph * scale, x: (w - pw * scale) / 2.0, y: (h - ph * scale) / 2.0 };
    if let Some(picture) = picture {
        canvas.picture(picture, frame.x, frame.y, frame.w, frame.h, 0.0);
    }
    for mark in &instruction.marks {
        mark_on(canvas, &frame, mark);
    }
    canvas.take().pixels
}

/// Where the picture lies on the canvas.
struct Frame {
    x: f32,
    y: f32,
    w: f32,
    h: f32,
}

impl Frame {
    fn place(&self, at: PictureCoord) -> (f32, f32) {
        let (x, y) = at.to_pixels(self.w, self.h);
        (self.x + x, self.y + y)
    }
}

fn mark_on(canvas: &mut Canvas, frame: &Frame, mark: &Annotation) {
    let colour = mark.colour.rgb();
    let width = length_to_pixels(mark.width, frame.h).clamp(THINNEST, WIDEST);
    match &mark.mark {
        Mark::Stroke { points } => stroke(canvas, frame, points, width, colour),
        Mark::Arrow { tail, tip } => arrow(canvas, frame.place(*tail), frame.place(*tip), width, colour),
        Mark::Rectangle { a, b } => {
            let ((x0, y0), (x1, y1)) = corners(frame, *a, *b);
            let mut p = PathBuilder::new();
            p.move_to(x0, y0);
            p.line_to(x1, y0);
            p.line_to(x1, y1);
            p.line_to(x0, y1);
            p.close();
            cased(canvas, p.finish(), width, colour);
        }
        Mark::Ellipse { a, b } => {
            let ((x0, y0), (x1, y1)) = corners(frame, *a, *b);
            let oval = tiny_skia::Rect::from_ltrb(x0, y0, x1.max(x0 + 1.0), y1.max(y0 + 1.0));
            cased(canvas, oval.and_then(PathBuilder::from_oval), width, colour);
        }
        Mark::Text { at, text } => label(canvas, frame, frame.place(*at), text, colour),
        Mark::Step { at, n } => badge(canvas, frame.place(*at), *n, colour),
    }
}

fn cased(canvas: &mut Canvas, path: Option<Path>, width: f32, colour: Colour) {
    if let Some(path) = path {
        canvas.stroke_path(&path, width + 2.0 * CASING, BLACK, CASING_ALPHA);
        canvas.stroke_path(&path, width, colour, 255);
    }
}

fn stroke(canvas: &mut Canvas, frame: &Frame, points: &[StrokePoint], width: f32, colour: Colour) {
    let Some((first, rest)) = points.split_first() else { return };
    let at = frame.place(first.at);
    if rest.is_empty() {
        canvas.disc(at.0, at.1, width / 2.0 + CASING, BLACK, CASING_ALPHA);
        return canvas.disc(at.0, at.1, width / 2.0, colour, 255);
    }
    // Through the midpoints: smooth without leaving the points far.
    let mut p = PathBuilder::new();
    p.move_to(at.0, at.1);
    let mut last = at;
    for point in rest {
        let (x, y) = frame.place(point.at);
        p.quad_to(last.0, last.1, (last.0 + x) / 2.0, (last.1 + y) / 2.0);
        last = (x, y);
    }
    p.line_to(last.0, last.1);
    cased(canvas, p.finish(), width, colour);
}

fn arrow(canvas: &mut Canvas, tail: (f32, f32), tip: (f32, f32), width: f32, colour: Colour) {
    let (dx, dy) = (tip.0 - tail.0, tip.1 - tail.1);
    let length = dx.hypot(dy).max(1.0);
    let head = (width * 4.5).clamp(16.0, 34.0).min(length * 0.8);
    let (ux, uy) = (dx / length, dy / length);
    let wing = |side: f32| {
        let (c, s) = (0.82, 0.57 * side);
        (tip.0 - head * (ux * c - uy * s), tip.1 - head * (uy * c + ux * s))
    };
    let mut p = PathBuilder::new();
    p.move_to(tail.0, tail.1);
    p.line_to(tip.0, tip.1);
    for side in [-1.0, 1.0] {
        let (x, y) = wing(side);
        p.move_to(tip.0, tip.1);
        p.line_to(x, y);
    }
    cased(canvas, p.finish(), width, colour);
}

fn label(canvas: &mut Canvas, frame: &Frame, at: (f32, f32), text: &str, colour: Colour) {
    let style = Style::new(TEXT, Ink::SemiBold, WHITE).line(26.0);
    let text = canvas.fit(text, style, frame.w - 28.0);
    let width = canvas.measure(&text, style) + 24.0;
    // A label drawn near the edge moves in: it must be readable.
    let x = at.0.clamp(frame.x + 2.0, (frame.x + frame.w - width - 2.0).max(frame.x + 2.0));
    let y = at.1.clamp(frame.y + 2.0, (frame.y + frame.h - 40.0).max(frame.y + 2.0));
    canvas.fill_rounded(x, y, width, 38.0, 9.0, BLACK);
    canvas.outline((x, y, width, 38.0), 9.0, 2.5, colour, 255);
    canvas.text(x + 12.0, y + 6.0, &text, style);
}

fn badge(canvas: &mut Canvas, at: (f32, f32), n: u16, colour: Colour) {
    let style = Style::new(20.0, Ink::Bold, BLACK).line(24.0);
    let text = n.to_string();
    let width = canvas.measure(&text, style);
    let radius = BADGE.max(width / 2.0 + 7.0);
    canvas.disc(at.0, at.1, radius + 3.5, BLACK, CASING_ALPHA);
    canvas.disc(at.0, at.1, radius, colour, 255);
    canvas.text(at.0 - width / 2.0, at.1 - 12.0, &text, style);
}

fn corners(frame: &Frame, a: PictureCoord, b: PictureCoord) -> ((f32, f32), (f32, f32)) {
    let (a, b) = (frame.place(a), frame.place(b));
    ((a.0.min(b.0), a.1.min(b.1)), (a.0.max(b.0), a.1.max(b.1)))
}

#[cfg(test)]
mod tests {
    use lotse_payload::annotation::{Colour as Pen, FrameConfidence};
    use lotse_protocol::id::{FrameId, TrackId};

    use super::*;

    fn instruction(marks: Vec<Annotation>) -> Instruction {
        let track = TrackId(uuid::Uuid::nil());
        Instruction {
            frame: FrameId { track, rtp: 0 },
            confidence: FrameConfidence::Exact,
            width: 1280,
            height: 720,
            at_ms: 0,
            text: String::new(),
            marks,
            replaces: None,
        }
    }

    fn mark(mark: Mark) -> Annotation {
        Annotation { mark, colour: Pen::Yellow, width: 900 }
    }

    fn at(x: u16, y: u16) -> PictureCoord {
        PictureCoord { x, y }
    }

    fn pixel(p: &Rgba, x: u32, y: u32) -> [u8; 3] {
        let i = ((y * p.width + x) * 4) as usize;
        [p.pixels[i], p.pixels[i + 1], p.pixels[i + 2]]
    }

    #[test]
    fn a_mark_lands_where_it_was_drawn_and_has_a_dark_casing() {
        let white = Rgba { width: 64, height: 36, pixels: vec![255; 64 * 36 * 4] };
        let tip = at(32_768, 32_768);
        let drawn = draw(Some(&white), &instruction(vec![mark(Mark::Arrow { tail: at(0, 32_768), tip })]), 492, 277);
        assert_eq!(pixel(&drawn, 150, 138), [0xff, 0xd6, 0x0a]);
        let casing = pixel(&drawn, 150, 135);
        assert!(casing[0] < 150, "{casing:?}");
        assert_eq!(pixel(&drawn, 400, 138), [255, 255, 255]);
    }

    #[test]
    fn a_picture_of_another_shape_keeps_its_marks_in_place() {
        // 4:3 in a 16:9 box: bars left and right, the middle stays the middle.
        let white = Rgba { width: 40, height: 30, pixels: vec![255; 40 * 30 * 4] };
        let drawn = draw(Some(&white), &instruction(vec![mark(Mark::Step { at: at(32_768, 32_768), n: 1 })]), 480, 270);
        assert_eq!(pixel(&drawn, 10, 135), [0, 0, 0]);
        assert_eq!(pixel(&drawn, 228, 135), [0xff, 0xd6, 0x0a]);
    }

    #[test]
    fn marks_at_the_edges_and_empty_ones_do_no_harm() {
        let (near, far) = (at(0, 0), at(u16::MAX, u16::MAX));
        let all = vec![
            mark(Mark::Stroke { points: vec![] }),
            mark(Mark::Stroke { points: vec![StrokePoint { at: far, p: 128 }] }),
            mark(Mark::Arrow { tail: near, tip: near }),
            mark(Mark::Rectangle { a: far, b: far }),
            mark(Mark::Ellipse { a: near, b: near }),
            mark(Mark::Text { at: far, text: "Ventil ".repeat(60) }),
            mark(Mark::Text { at: near, text: String::new() }),
            mark(Mark::Step { at: far, n: u16::MAX }),
        ];
        let drawn = draw(None, &instruction(all), 492, 277);
        assert_eq!(drawn.pixels.len(), 492 * 277 * 4);
    }
}
