//! The display: 854x480, black is transparent. Draws a view of the core; tells the displays.
//!
//! Owns: the look (safe area 25/20/15, text from 20 px, white and three hues). Never: decides what is shown.
//! Elsewhere: the marks on a picture (`overlay`), where pictures go (`display`, devices in `panel`).

pub mod canvas;
pub mod display;
pub mod drm;
pub mod gallery;
pub mod icons;
pub mod panel;
pub mod placing;
pub mod screens;
pub mod status;
pub mod wayland;

use std::sync::Arc;

use lotse_protocol::id::EventId;

use crate::{capture::yuv::Rgba, core::View};

pub const WIDTH: u32 = 854;
pub const HEIGHT: u32 = 480;
/// Left and right.
pub const SAFE_X: f32 = 25.0;
pub const SAFE_TOP: f32 = 20.0;
pub const SAFE_BOTTOM: f32 = 15.0;

/// A colour of the display.
pub type Colour = [u8; 3];
pub const WHITE: Colour = [255, 255, 255];
pub const SOFT: Colour = [0xc9, 0xd4, 0xde];
/// Say or choose.
pub const TEAL: Colour = [0x3f, 0xd9, 0xc4];
/// Marks and warnings.
pub const YELLOW: Colour = [0xff, 0xd6, 0x0a];
/// REC, drawing, lost.
pub const RED: Colour = [0xff, 0x62, 0x58];
pub const BLACK: Colour = [0, 0, 0];

/// Size of the marked picture on the display, its border included.
pub const PICTURE_WIDTH: u32 = 492;
pub const PICTURE_HEIGHT: u32 = 280;

/// Size of the camera's picture under a pointer.
pub const INSET_WIDTH: u32 = 368;
pub const INSET_HEIGHT: u32 = 207;

/// A marked picture, drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Marked {
    pub instruction: EventId,
    pub picture: Arc<Rgba>,
}

/// What one drawing needs.
#[derive(Debug, Clone)]
pub struct Scene {
    pub view: View,
    /// Aligned UTC.
    pub now_ms: i64,
    pub marked: Option<Marked>,
    /// What the camera sees, for the pointer.
    pub camera: Option<Arc<Rgba>>,
}

/// One drawn display.
pub struct Drawn {
    /// RGBA, opaque, 854x480.
    pub pixels: Rgba,
    /// Every text on it, in the order drawn.
    pub texts: Vec<String>,
}

/// Draws a scene.
pub fn draw(canvas: &mut canvas::Canvas, scene: &Scene) -> Drawn {
    canvas.clear();
    status::draw(canvas, scene);
    screens::draw(canvas, scene);
    canvas.take()
}

/// "12:47" or "1:02:03" of a span.
pub(crate) fn span(ms: i64) -> String {
    let s = ms.max(0) / 1_000;
    if s < 3_600 {
        format!("{:02}:{:02}", s / 60, s % 60)
    } else {
        format!("{}:{:02}:{:02}", s / 3_600, s / 60 % 60, s % 60)
    }
}
