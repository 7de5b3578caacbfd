//! What was displayed before somebody answered about recording.

use lotse_protocol::id::Pseudonym;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// Payload of `notice.shown`: the words on the display, as they were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "payload.ts")]
pub struct NoticeShown {
    /// "de" or "en".
    pub language: String,
    /// Version of the text, e.g. "recording-1".
    pub text_version: String,
    pub text: String,
    /// Who will see and keep what, at that moment.
    pub watchers: Vec<Pseudonym>,
    pub archivist: Option<Pseudonym>,
}
