//! Text, lines and boxes on a picture: tiny-skia for shapes, cosmic-text for words.
//!
//! Owns: the fonts (Inter, bundled) and their caches, so that one canvas serves a whole run.
//! Never: knows what is drawn.

use cosmic_text::{Attrs, Buffer, Family, FontSystem, Metrics, Shaping, SwashCache, SwashContent, Weight, fontdb};
use tiny_skia::{
    Color, FillRule, LineCap, LineJoin, Paint, Path, PathBuilder, Pixmap, PixmapPaint, PixmapRef, Rect, Stroke,
    Transform,
};

use super::{Colour, Drawn, HEIGHT, WIDTH};
use crate::capture::yuv::Rgba;

/// Weights bundled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    Medium,
    SemiBold,
    Bold,
}

/// How a text looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Style {
    pub size: f32,
    pub ink: Ink,
    pub colour: Colour,
    /// Line height, px.
    pub line: f32,
}

impl Style {
    pub fn new(size: f32, ink: Ink, colour: Colour) -> Self {
        Self { size, ink, colour, line: (size * 1.3).round() }
    }

    pub fn line(self, line: f32) -> Self {
        Self { line, ..self }
    }
}

/// The picture and the pens.
pub struct Canvas {
    pixmap: Pixmap,
    fonts: FontSystem,
    glyphs: SwashCache,
    texts: Vec<String>,
}

impl Default for Canvas {
    fn default() -> Self {
        Self::new(WIDTH, HEIGHT)
    }
}

impl Canvas {
    pub fn new(width: u32, height: u32) -> Self {
        let mut db = fontdb::Database::new();
        for font in [
            &include_bytes!("../../fonts/Inter-Medium.otf")[..],
            include_bytes!("../../fonts/Inter-SemiBold.otf"),
            include_bytes!("../../fonts/Inter-Bold.otf"),
        ] {
            db.load_font_data(font.to_vec());
        }
        // Sizes come from constants or clamped numbers; one pixel is what is left of a wrong one.
        let pixmap = Pixmap::new(width.max(1), height.max(1)).or_else(|| Pixmap::new(1, 1));
        let Some(pixmap) = pixmap else { unreachable!("a picture of one pixel can be made") };
        Self {
            pixmap,
            fonts: FontSystem::new_with_locale_and_db("de".into(), db),
            glyphs: SwashCache::new(),
            texts: Vec::new(),
        }
    }

    pub fn clear(&mut self) {
        self.pixmap.fill(Color::BLACK);
        self.texts.clear();
    }

    /// The drawing so far.
    pub fn take(&mut self) -> Drawn {
        Drawn {
            pixels: Rgba {
                width: self.pixmap.width(),
                height: self.pixmap.height(),
                pixels: self.pixmap.data().to_vec(),
            },
            texts: std::mem::take(&mut self.texts),
        }
    }

    /// Puts a picture (opaque) under what follows, scaled to the whole canvas.
    pub fn background(&mut self, picture: &Rgba) {
        self.picture(picture, 0.0, 0.0, self.pixmap.width() as f32, self.pixmap.height() as f32, 0.0);
    }

    /// One line of text; `y` is the top of its line box. Returns its width.
    pub fn text(&mut self, x: f32, y: f32, text: &str, style: Style) -> f32 {
        self.texts.push(text.to_owned());
        self.glyphs_at(x, y, text, style, None).0
    }

    /// Text broken at `width`. Returns the height used.
    pub fn paragraph(&mut self, x: f32, y: f32, width: f32, text: &str, style: Style) -> f32 {
        self.texts.push(text.to_owned());
        self.glyphs_at(x, y, text, style, Some(width)).1
    }

    /// Width of one line.
    pub fn measure(&mut self, text: &str, style: Style) -> f32 {
        let buffer = self.layout(text, style, None);
        buffer.layout_runs().map(|r| r.line_w).fold(0.0, f32::max)
    }

    /// Height of a broken text.
    pub fn measure_height(&mut self, text: &str, style: Style, width: f32) -> f32 {
        self.layout(text, style, Some(width)).layout_runs().count() as f32 * style.line
    }

    /// The text, cut with "…" until it fits.
    pub fn fit(&mut self, text: &str, style: Style, width: f32) -> String {
        if self.measure(text, style) <= width {
            return text.to_owned();
        }
        let mut cut: Vec<char> = text.chars().collect();
        while !cut.is_empty() {
            cut.pop();
            let shorter: String = cut.iter().collect::<String>().trim_end().to_owned() + "…";
            if self.measure(&shorter, style) <= width {
                return shorter;
            }
        }
        String::new()
    }

    fn layout(&mut self, text: &str, style: Style, width: Option<f32>) -> Buffer {
        let mut buffer = Buffer::new(&mut self.fonts, Metrics::new(style.size, style.line));
        buffer.set_size(width, None);
        let weight = match style.ink {
            Ink::Medium => Weight::MEDIUM,
            Ink::SemiBold => Weight::SEMIBOLD,
            Ink::Bold => Weight::BOLD,
        };
        let attrs = Attrs::new().family(Family::Name("Inter")).weight(weight);
        buffer.set_text(text, &attrs, Shaping::Advanced, None);
        buffer.shape_until_scroll(&mut self.fonts, false);
        buffer
    }

    fn glyphs_at(&mut self, x: f32, y: f32, text: &str, style: Style, width: Option<f32>) -> (f32, f32) {
        let buffer = self.layout(text, style, width);
        let (mut wide, mut lines) = (0f32, 0);
        for run in buffer.layout_runs() {
            wide = wide.max(run.line_w);
            lines += 1;
            for glyph in run.glyphs {
                let at = glyph.physical((x, y + run.line_y), 1.0);
                let Some(image) = self.glyphs.get_image(&mut self.fonts, at.cache_key) else { continue };
                if image.content != SwashContent::Mask {
                    continue;
                }
                let (left, top) = (at.x + image.placement.left, at.y - image.placement.top);
                let (w, h) = (image.placement.width as i32, image.placement.height as i32);
                blend(&mut self.pixmap, left, top, w, h, &image.data, style.colour);
            }
        }
        (wide, lines as f32 * style.line)
    }

    pub fn fill_rect(&mut self, x: f32, y: f32, w: f32, h: f32, colour: Colour) {
        if let Some(rect) = Rect::from_xywh(x, y, w, h) {
            self.pixmap.fill_rect(rect, &paint(colour, 255), Transform::identity(), None);
        }
    }

    /// A rounded box (x, y, width, height), the line inside its edges.
    pub fn outline(&mut self, (x, y, w, h): (f32, f32, f32, f32), radius: f32, width: f32, colour: Colour, alpha: u8) {
        let half = width / 2.0;
        if let Some(path) = rounded(x + half, y + half, w - width, h - width, radius - half) {
            self.stroke_path(&path, width, colour, alpha);
        }
    }

    pub fn fill_rounded(&mut self, x: f32, y: f32, w: f32, h: f32, radius: f32, colour: Colour) {
        if let Some(path) = rounded(x, y, w, h, radius) {
            self.fill_path(&path, colour, 255);
        }
    }

    pub fn disc(&mut self, x: f32, y: f32, radius: f32, colour: Colour, alpha: u8) {
        if let Some(path) = PathBuilder::from_circle(x, y, radius) {
            self.fill_path(&path, colour, alpha);
        }
    }

    pub fn circle(&mut self, x: f32, y: f32, radius: f32, width: f32, colour: Colour) {
        if let Some(path) = PathBuilder::from_circle(x, y, radius) {
            self.stroke_path(&path, width, colour, 255);
        }
    }

    pub fn line(&mut self, from: (f32, f32), to: (f32, f32), width: f32, colour: Colour, alpha: u8) {
        let mut path = PathBuilder::new();
        path.move_to(from.0, from.1);
        path.line_to(to.0, to.1);
        if let Some(path) = path.finish() {
            self.stroke_path(&path, width, colour, alpha);
        }
    }

    pub fn stroke_path(&mut self, path: &Path, width: f32, colour: Colour, alpha: u8) {
        let stroke = Stroke { width, line_cap: LineCap::Round, line_join: LineJoin::Round, ..Stroke::default() };
        self.pixmap.stroke_path(path, &paint(colour, alpha), &stroke, Transform::identity(), None);
    }

    pub fn fill_path(&mut self, path: &Path, colour: Colour, alpha: u8) {
        self.pixmap.fill_path(path, &paint(colour, alpha), FillRule::Winding, Transform::identity(), None);
    }

    /// An opaque picture, scaled into a box with rounded corners.
    pub fn picture(&mut self, picture: &Rgba, x: f32, y: f32, w: f32, h: f32, radius: f32) {
        let Some(source) = PixmapRef::from_bytes(&picture.pixels, picture.width, picture.height) else { return };
        let scale = Transform::from_scale(w / picture.width as f32, h / picture.height as f32).post_translate(x, y);
        let quality = tiny_skia::FilterQuality::Bilinear;
        if radius <= 0.0 {
            let how = PixmapPaint { quality, ..PixmapPaint::default() };
            self.pixmap.draw_pixmap(0, 0, source, &how, scale, None);
            return;
        }
        let shader = tiny_skia::Pattern::new(source, tiny_skia::SpreadMode::Pad, quality, 1.0, scale);
        let paint = Paint { shader, anti_alias: true, ..Paint::default() };
        if let Some(path) = rounded(x, y, w, h, radius) {
            self.pixmap.fill_path(&path, &paint, FillRule::Winding, Transform::identity(), None);
        }
    }
}

fn paint(colour: Colour, alpha: u8) -> Paint<'static> {
    let mut paint = Paint { anti_alias: true, ..Paint::default() };
    paint.set_color_rgba8(colour[0], colour[1], colour[2], alpha);
    paint
}

fn rounded(x: f32, y: f32, w: f32, h: f32, radius: f32) -> Option<Path> {
    let r = radius.min(w / 2.0).min(h / 2.0).max(0.0);
    // Control points of a quarter circle.
    let k = r * 0.5523;
    let mut p = PathBuilder::new();
    p.move_to(x + r, y);
    p.line_to(x + w - r, y);
    p.cubic_to(x + w - r + k, y, x + w, y + r - k, x + w, y + r);
    p.line_to(x + w, y + h - r);
    p.cubic_to(x + w, y + h - r + k, x + w - r + k, y + h, x + w - r, y + h);
    p.line_to(x + r, y + h);
    p.cubic_to(x + r - k, y + h, x, y + h - r + k, x, y + h - r);
    p.line_to(x, y + r);
    p.cubic_to(x, y + r - k, x + r - k, y, x + r, y);
    p.close();
    p.finish()
}

fn blend(pixmap: &mut Pixmap, left: i32, top: i32, w: i32, h: i32, mask: &[u8], colour: Colour) {
    let (width, height) = (pixmap.width() as i32, pixmap.height() as i32);
    let data = pixmap.data_mut();
    for row in 0..h {
        let y = top + row;
        if y < 0 || y >= height {
            continue;
        }
        for column in 0..w {
            let x = left + column;
            let Some(&cover) = mask.get((row * w + column) as usize) else { return };
            if x < 0 || x >= width || cover == 0 {
                continue;
            }
            let at = ((y * width + x) * 4) as usize;
            for (channel, ink) in colour.iter().enumerate() {
                let under = u32::from(data[at + channel]);
                let over = u32::from(*ink);
                let c = u32::from(cover);
                data[at + channel] = ((over * c + under * (255 - c) + 127) / 255) as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_leave_white_pixels_and_are_listed() {
        let mut canvas = Canvas::default();
        canvas.clear();
        let width = canvas.text(25.0, 20.0, "Größe", Style::new(22.0, Ink::Bold, [255, 255, 255]));
        let drawn = canvas.take();
        assert!((50.0..120.0).contains(&width), "{width}");
        assert_eq!(drawn.texts, ["Größe"]);
        assert!(drawn.pixels.pixels.chunks(4).any(|p| p[0] == 255));
    }

    #[test]
    fn a_long_text_is_cut_to_its_box() {
        let mut canvas = Canvas::default();
        let style = Style::new(20.0, Ink::Medium, [255, 255, 255]);
        let cut = canvas.fit("a very long name of a very long machine", style, 120.0);
        assert!(cut.ends_with('…') && canvas.measure(&cut, style) <= 120.0, "{cut}");
        assert_eq!(canvas.fit("short", style, 120.0), "short");
    }

    #[test]
    fn every_letter_of_both_languages_is_in_the_font() {
        let mut canvas = Canvas::default();
        let style = Style::new(22.0, Ink::Medium, [255, 255, 255]);
        for c in "ABCXYZÄÖÜabcxyzäöüß0123456789.,:;!?·…–—„“”‚‘’€%°/+×()-".chars() {
            let buffer = canvas.layout(&c.to_string(), style, None);
            assert!(buffer.layout_runs().all(|r| r.glyphs.iter().all(|g| g.glyph_id != 0)), "{c}");
        }
    }
}
