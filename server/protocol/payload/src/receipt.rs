//! The answer of the glasses to an instruction.

use lotse_protocol::id::EventId;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// How far an instruction has come. `sent` is the commit of the instruction itself and needs no receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
#[ts(export, export_to = "payload.ts")]
pub enum ReceiptState {
    /// On the display.
    Shown,
    /// The technician reacted to it (any input while it was shown, or 3 s on display with the head still).
    Seen,
    Done,
    Refused,
}

/// Payload of `receipt`. The envelope's clear times are whole minutes; this is the exact one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "payload.ts")]
pub struct ReceiptPayload {
    pub instruction: EventId,
    pub state: ReceiptState,
    #[ts(type = "number")]
    pub at_ms: i64,
    /// Where the marked picture came from, with `shown`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub picture: Option<PictureOrigin>,
}

/// Where the glasses took the marked picture from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
#[ts(export, export_to = "payload.ts")]
pub enum PictureOrigin {
    /// Decoded from the ring: the very frame.
    Ring,
    /// The expert's Snapshot: the frame had left the ring.
    Snapshot,
    /// Neither: the marks were shown on black.
    None,
}
