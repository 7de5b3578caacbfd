//! What the archivist writes into the log.

use lotse_protocol::{
    id::{Digest, Pseudonym},
    signal::TrackInfo,
};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// Payload of `recording.started`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "payload.ts")]
pub struct RecordingStarted {
    #[ts(type = "number")]
    pub at_ms: i64,
    /// Whose yes it rests on.
    pub consented: Vec<Pseudonym>,
}

/// Payload of `recording.stopped`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "payload.ts")]
pub struct RecordingStopped {
    #[ts(type = "number")]
    pub at_ms: i64,
    pub why: StopWhy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
#[ts(export, export_to = "payload.ts")]
pub enum StopWhy {
    SessionEnded,
    /// Somebody withdrew, or a newcomer has not answered yes.
    NotAllowed,
    NoMedia,
    ArchivistRestarted,
    /// The archivist's disk refuses; it begins again by itself.
    Disk,
}

/// Payload of `segment`: one fragment of one track, ≤ 2 s (video on a poor line ≤ 10 s), starting with a key frame (video).
///
/// The attachment is the sealed fragment. Opened, it is a whole piece of the format in `mime`: the initialisation part
/// (`init_len` bytes) and then clusters, so each fragment plays alone and appends to MSE after the one before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "payload.ts")]
pub struct SegmentPayload {
    pub owner: Pseudonym,
    pub info: TrackInfo,
    /// Digest of the sealed fragment, as in the attachments.
    pub media: Digest,
    /// `video/webm; codecs="vp8"`, `audio/webm; codecs="opus"`, `video/mp4; codecs="avc1.…"`
    pub mime: String,
    pub init_len: u32,
    /// Sealed bytes.
    #[ts(type = "number")]
    pub size: u64,
    /// Plain length of each sealed chunk.
    pub chunks: Vec<u32>,
    /// Unwrapped RTP time of the first and of the end of the last frame.
    #[ts(type = "number")]
    pub rtp_start: u64,
    #[ts(type = "number")]
    pub rtp_end: u64,
    /// Aligned UTC (server clock) of `rtp_start` and `rtp_end`, µs since 1970, by the fit over the track so far.
    #[ts(type = "number")]
    pub start_us: i64,
    #[ts(type = "number")]
    pub end_us: i64,
    /// Timestamp written into the container for `rtp_start`, ms; media time minus this plus `start_us` is UTC.
    #[ts(type = "number")]
    pub media_start_ms: u64,
    /// Frames (video) or packets (voice), and those known to be missing inside.
    pub frames: u32,
    pub missing: u32,
    /// RTP time of each video frame relative to `rtp_start`: frame steps and marks find their picture. Empty for voices.
    pub frame_ticks: Vec<u32>,
    /// The raw clock samples: (RTP, publisher NTP in µs UTC, arrival in µs server UTC), at most one a second.
    #[ts(type = "Array<[number, number, number]>")]
    pub clock: Vec<(u64, i64, i64)>,
    /// Loudness of voices, 0 (silence) to 127 (loudest), one value per 250 ms, for the timeline. Empty for video.
    pub levels: Vec<u8>,
}

/// Payload of `gap`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "payload.ts")]
pub struct GapPayload {
    pub owner: Pseudonym,
    /// Absent when the whole participant is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub track: Option<lotse_protocol::id::TrackId>,
    #[ts(type = "number")]
    pub from_us: i64,
    #[ts(type = "number")]
    pub to_us: i64,
    pub why: GapWhy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
#[ts(export, export_to = "payload.ts")]
pub enum GapWhy {
    /// The participant's link was down.
    LinkLost,
    /// The archivist was not running.
    ArchivistDown,
    /// Packets lost beyond repair.
    PacketsLost,
    /// The disk did not keep up or was full.
    Disk,
}
