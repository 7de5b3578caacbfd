//! Chat and files.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// Payload of `message`. With a file, the event has one attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "payload.ts")]
pub struct Message {
    pub text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub file: Option<FileInfo>,
}

/// The attached file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "payload.ts")]
pub struct FileInfo {
    pub name: String,
    pub mime: String,
    /// Plain bytes.
    #[ts(type = "number")]
    pub size: u64,
}
