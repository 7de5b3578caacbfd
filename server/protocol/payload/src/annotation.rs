//! Marks on a picture and the instruction that carries them.

use lotse_protocol::id::{EventId, FrameId};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::geometry::PictureCoord;

/// More marks in one instruction are refused by every reader.
pub const MAX_MARKS: usize = 500;
/// More points in one stroke are refused by every reader.
pub const MAX_POINTS: usize = 4_000;
/// Longer texts are refused by every reader, characters.
pub const MAX_TEXT: usize = 500;

/// One colour of the ink box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
#[ts(export, export_to = "payload.ts")]
pub enum Colour {
    /// #ffd60a
    Yellow,
    /// #ff4d94
    Pink,
    /// #35d6ff
    Blue,
    /// #22b14c
    Green,
    /// #ffffff
    White,
}

impl Colour {
    /// sRGB.
    pub fn rgb(self) -> [u8; 3] {
        match self {
            Colour::Yellow => [0xff, 0xd6, 0x0a],
            Colour::Pink => [0xff, 0x4d, 0x94],
            Colour::Blue => [0x35, 0xd6, 0xff],
            Colour::Green => [0x22, 0xb1, 0x4c],
            Colour::White => [0xff, 0xff, 0xff],
        }
    }
}

/// A point of a stroke with pressure 0..=255 (mouse: 128).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "payload.ts")]
pub struct StrokePoint {
    #[serde(flatten)]
    pub at: PictureCoord,
    pub p: u8,
}

/// What is drawn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "shape", rename_all = "snake_case")]
#[ts(export, export_to = "payload.ts")]
pub enum Mark {
    Stroke {
        points: Vec<StrokePoint>,
    },
    /// Points from `tail` to `tip`.
    Arrow {
        tail: PictureCoord,
        tip: PictureCoord,
    },
    Rectangle {
        a: PictureCoord,
        b: PictureCoord,
    },
    /// The ellipse inscribed in the rectangle of two corners.
    Ellipse {
        a: PictureCoord,
        b: PictureCoord,
    },
    /// `at` is the top left corner of the label.
    Text {
        at: PictureCoord,
        text: String,
    },
    /// A filled number; `n` from 1.
    Step {
        at: PictureCoord,
        n: u16,
    },
}

/// One mark with its style. `width` is relative to picture height (65535 = full height).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "payload.ts")]
pub struct Annotation {
    #[serde(flatten)]
    pub mark: Mark,
    pub colour: Colour,
    pub width: u16,
}

/// How sure the author is that marks and frame belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
#[ts(export, export_to = "payload.ts")]
pub enum FrameConfidence {
    /// Pixels and RTP time came from one object.
    Exact,
    /// The browser could only estimate which frame it showed.
    Approx,
}

/// Marks on one frame, sent to the glasses to be acted upon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "payload.ts")]
pub struct Instruction {
    pub frame: FrameId,
    pub confidence: FrameConfidence,
    /// Pixels of the picture the expert saw.
    pub width: u16,
    pub height: u16,
    /// Exact time of sending, aligned UTC ms.
    #[ts(type = "number")]
    pub at_ms: i64,
    /// What to do, in words; may be empty when the marks say it.
    pub text: String,
    pub marks: Vec<Annotation>,
    /// The instruction this one replaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub replaces: Option<EventId>,
}

/// The picture behind a mark, as the expert saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "payload.ts")]
pub struct SnapshotPayload {
    pub frame: FrameId,
    pub confidence: FrameConfidence,
    pub width: u16,
    pub height: u16,
    /// "image/webp", "image/jpeg" or "image/png".
    pub mime: String,
}

impl Instruction {
    /// Within the limits above?
    pub fn is_sane(&self) -> bool {
        self.width > 0
            && self.height > 0
            && self.marks.len() <= MAX_MARKS
            && self.text.chars().count() <= MAX_TEXT
            && self.marks.iter().all(|m| match &m.mark {
                Mark::Stroke { points } => points.len() <= MAX_POINTS,
                Mark::Text { text, .. } => text.chars().count() <= MAX_TEXT,
                _ => true,
            })
    }
}
