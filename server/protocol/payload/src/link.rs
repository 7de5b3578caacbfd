//! How good a participant's link to the server is.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// What the link lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
#[ts(export, export_to = "payload.ts")]
pub enum LinkState {
    /// Everything.
    Good,
    /// Less than the whole picture, or late, or with holes.
    Poor,
    /// The voice, and a still picture every second.
    StillMode,
    /// The voice.
    AudioOnly,
    /// Nothing.
    Offline,
}

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
#[ts(export, export_to = "payload.ts")]
pub enum LinkTrouble {
    /// It carries less than 1.5 Mbit/s.
    Slow,
    /// A round trip takes more than a second.
    Late,
    /// More than a tenth of the packets is lost.
    Lossy,
    /// The server is not heard.
    Silent,
}

/// Payload of `link.state`, by whose link it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "payload.ts")]
pub struct LinkStatePayload {
    /// Server UTC at which it became so; the event itself may come much later.
    #[ts(type = "number")]
    pub at_ms: i64,
    pub state: LinkState,
    /// Absent when it is good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub why: Option<LinkTrouble>,
    /// What it carried then, as far as that was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub kbit: Option<u32>,
}
