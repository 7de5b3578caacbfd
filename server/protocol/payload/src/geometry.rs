//! Where something is on a picture: integers of the encoded picture, after rotation, before letterbox and zoom.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// The far edge of a picture. 0 is the near one.
pub const FULL: u16 = u16::MAX;

/// A point on the source picture: 0..=65535 from left to right and from top to bottom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, TS)]
#[ts(export, export_to = "payload.ts")]
pub struct PictureCoord {
    pub x: u16,
    pub y: u16,
}

impl PictureCoord {
    /// To pixels of a picture of this size; the centre of the first pixel is 0.5.
    pub fn to_pixels(self, width: f32, height: f32) -> (f32, f32) {
        (f32::from(self.x) / f32::from(FULL) * width, f32::from(self.y) / f32::from(FULL) * height)
    }

    /// From pixels; outside points land on the edge, NaN on 0.
    pub fn from_pixels(x: f32, y: f32, width: f32, height: f32) -> Self {
        // `as` saturates and takes NaN to 0: exactly the rule above.
        let part = |v: f32, full: f32| (v / full * f32::from(FULL)).round() as u16;
        Self { x: part(x, width), y: part(y, height) }
    }
}

/// A length relative to the picture's height: 65535 is the full height. Used for stroke widths and text sizes.
pub fn length_to_pixels(length: u16, height: f32) -> f32 {
    f32::from(length) / f32::from(FULL) * height
}
