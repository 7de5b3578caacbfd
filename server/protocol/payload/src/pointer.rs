//! What travels over the unordered, unreliable data channel and is never logged: the pointer and the pen in motion.
//!
//! One JSON object per data channel message. The server relays it as bytes to the others in the room, prefixed by the
//! sender: `{"from":"<pseudonym>","data":<the object>}` is built by the SFU without reading `data`.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::geometry::PictureCoord;

/// One message of the pointer channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "t", rename_all = "snake_case")]
#[ts(export, export_to = "payload.ts")]
pub enum PointerMessage {
    /// The laser pointer is here now, on the live picture.
    Pointer { at: PictureCoord },
    /// The pen is moving on a frozen picture: the glasses show that somebody draws. Sent at most 5 times a second.
    Drawing,
    /// Pointer gone or pen up. Receivers also forget both after 1 s of silence.
    Off,
}
