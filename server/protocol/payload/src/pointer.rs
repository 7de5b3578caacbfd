//! What travels over the unordered, unreliable data channel and is never logged: the pointer and the pen in motion.
//!
//! One JSON object per data channel message. The server relays it as bytes to the others in the room, prefixed by the
//! sender: `{"from":"<pseudonym>","data":<the object>}` is built by the SFU without reading `data`.

use lotse_protocol::id::{FrameId, TrackId};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::{annotation::Annotation, geometry::PictureCoord};

/// One message of the pointer channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "t", rename_all = "snake_case")]
#[ts(export, export_to = "payload.ts")]
pub enum PointerMessage {
    /// The laser pointer is here now, on the live picture of this track. Whoever shows another picture shows no pointer.
    Pointer {
        at: PictureCoord,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        track: Option<TrackId>,
    },
    /// The pen is moving on a frozen picture: the glasses show that somebody draws. Sent at most 5 times a second.
    Drawing,
    /// A mark on a picture its author has frozen, for the other experts. Messages may come in any order, twice or never:
    /// of two sheets of one author the higher number counts, of two forms of a mark the higher version. Every mark is
    /// repeated in turn while the sheet is open. Without `mark` the sheet was put away. Glasses show nothing of it.
    Marking {
        /// Rises with each picture its author freezes.
        sheet: u32,
        frame: FrameId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        mark: Option<MovingMark>,
    },
    /// Pointer gone or pen up. Receivers also forget both after 1 s of silence.
    Off,
}

/// A mark of an open sheet, small enough for one message: long strokes come thinned, the sent instruction has all points.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "payload.ts")]
pub struct MovingMark {
    /// UUID made by the author.
    pub id: String,
    /// Rises with each change of this mark; the highest counts.
    pub version: u32,
    /// Absent: taken away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub annotation: Option<Annotation>,
}
