//! The few signs of the display, drawn with lines on a 24-unit square. None stands without its word.

use tiny_skia::{PathBuilder, Transform};

use super::{Colour, canvas::Canvas};

/// A sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Icon {
    Eye,
    EyeOff,
    Button,
    Check,
    Phone,
    Pen,
    CameraOff,
    MicOff,
    SoundOff,
    NoNetwork,
    Message,
    Warning,
}

/// Draws a sign with its top left corner at (x, y).
pub fn draw(canvas: &mut Canvas, icon: Icon, x: f32, y: f32, size: f32, colour: Colour) {
    let scale = size / 24.0;
    let place = Transform::from_scale(scale, scale).post_translate(x, y);
    let mut p = PathBuilder::new();
    match icon {
        Icon::Eye | Icon::EyeOff => {
            p.move_to(2.0, 12.0);
            p.quad_to(12.0, 0.5, 22.0, 12.0);
            p.quad_to(12.0, 23.5, 2.0, 12.0);
            p.close();
            p.push_circle(12.0, 12.0, 3.2);
            if icon == Icon::EyeOff {
                line(&mut p, 3.0, 3.0, 21.0, 21.0);
            }
        }
        Icon::Button => {
            p.push_circle(12.0, 12.0, 10.0);
            p.push_circle(12.0, 12.0, 1.2);
        }
        Icon::Check => {
            p.move_to(4.0, 12.5);
            p.line_to(9.5, 18.0);
            p.line_to(20.0, 6.5);
        }
        Icon::Phone => {
            p.move_to(5.0, 3.0);
            p.line_to(8.5, 3.0);
            p.line_to(10.0, 8.0);
            p.line_to(7.8, 10.0);
            p.quad_to(9.8, 14.2, 14.0, 16.2);
            p.line_to(16.0, 14.0);
            p.line_to(21.0, 15.5);
            p.line_to(21.0, 19.0);
            p.quad_to(21.0, 21.0, 19.0, 21.0);
            p.quad_to(3.0, 20.0, 3.0, 5.0);
            p.quad_to(3.0, 3.0, 5.0, 3.0);
            line(&mut p, 15.0, 9.0, 21.0, 3.0);
            line(&mut p, 16.5, 3.0, 21.0, 3.0);
            line(&mut p, 21.0, 3.0, 21.0, 7.5);
        }
        Icon::Pen => {
            p.move_to(4.0, 20.0);
            p.line_to(5.5, 14.5);
            p.line_to(17.0, 3.0);
            p.line_to(21.0, 7.0);
            p.line_to(9.5, 18.5);
            p.close();
            line(&mut p, 13.5, 21.0, 21.0, 21.0);
        }
        Icon::CameraOff => {
            p.move_to(3.0, 7.0);
            p.line_to(8.0, 7.0);
            p.line_to(10.0, 4.0);
            p.line_to(14.0, 4.0);
            p.line_to(16.0, 7.0);
            p.line_to(21.0, 7.0);
            p.line_to(21.0, 19.0);
            p.line_to(3.0, 19.0);
            p.close();
            p.push_circle(12.0, 13.0, 3.2);
            line(&mut p, 2.0, 2.0, 22.0, 22.0);
        }
        Icon::MicOff => {
            p.move_to(9.0, 6.0);
            p.quad_to(9.0, 2.5, 12.0, 2.5);
            p.quad_to(15.0, 2.5, 15.0, 6.0);
            p.line_to(15.0, 11.0);
            p.quad_to(15.0, 14.5, 12.0, 14.5);
            p.quad_to(9.0, 14.5, 9.0, 11.0);
            p.close();
            p.move_to(5.0, 11.0);
            p.quad_to(5.0, 18.5, 12.0, 18.5);
            p.quad_to(19.0, 18.5, 19.0, 11.0);
            line(&mut p, 12.0, 18.5, 12.0, 22.0);
            line(&mut p, 3.0, 3.0, 21.0, 21.0);
        }
        Icon::SoundOff => {
            p.move_to(3.0, 9.0);
            p.line_to(7.0, 9.0);
            p.line_to(12.0, 4.5);
            p.line_to(12.0, 19.5);
            p.line_to(7.0, 15.0);
            p.line_to(3.0, 15.0);
            p.close();
            line(&mut p, 16.0, 9.0, 22.0, 15.0);
            line(&mut p, 22.0, 9.0, 16.0, 15.0);
        }
        Icon::NoNetwork => {
            p.move_to(2.0, 9.0);
            p.quad_to(12.0, 0.0, 22.0, 9.0);
            p.move_to(6.0, 13.5);
            p.quad_to(12.0, 8.5, 18.0, 13.5);
            p.push_circle(12.0, 18.5, 1.2);
            line(&mut p, 3.0, 3.0, 21.0, 21.0);
        }
        Icon::Message => {
            p.move_to(3.0, 4.0);
            p.line_to(21.0, 4.0);
            p.line_to(21.0, 16.0);
            p.line_to(10.0, 16.0);
            p.line_to(5.0, 21.0);
            p.line_to(5.0, 16.0);
            p.line_to(3.0, 16.0);
            p.close();
        }
        Icon::Warning => {
            p.move_to(12.0, 3.0);
            p.line_to(22.0, 21.0);
            p.line_to(2.0, 21.0);
            p.close();
            line(&mut p, 12.0, 10.0, 12.0, 15.0);
            p.push_circle(12.0, 18.0, 0.5);
        }
    }
    if let Some(path) = p.finish().and_then(|p| p.transform(place)) {
        canvas.stroke_path(&path, 2.2 * scale, colour, 255);
    }
}

/// Four bars, `filled` of them full.
pub fn bars(canvas: &mut Canvas, x: f32, y: f32, filled: usize, colour: Colour) {
    for (i, height) in [6.0, 10.0, 14.0, 18.0].into_iter().enumerate() {
        let left = x + 1.0 + i as f32 * 6.0;
        if i < filled {
            canvas.fill_rounded(left, y + 20.0 - height, 4.6, height, 1.4, colour);
        } else {
            canvas.outline((left, y + 20.0 - height, 4.6, height), 1.4, 1.4, colour, 255);
        }
    }
}

fn line(p: &mut PathBuilder, x0: f32, y0: f32, x1: f32, y1: f32) {
    p.move_to(x0, y0);
    p.line_to(x1, y1);
}
