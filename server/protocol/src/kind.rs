//! The kinds of events. A kind not listed here is kept, verified and shown as unknown.

/// By the server: the case exists. Clear: [`crate::envelope::Opened`].
pub const OPENED: &str = "opened";
/// By the newcomer: binds pseudonym, role and case key. Clear: [`crate::envelope::Joined`]. Payload: `JoinedPayload` (name).
pub const JOINED: &str = "joined";
/// Payload: `CaseCard` (title, asset and customer in words). The newest one counts.
pub const CARD: &str = "card";
/// Payload: `Message`; attachments: at most one file.
pub const MESSAGE: &str = "message";

/// By the technician: calls for an expert; starts a session. `session` names it.
pub const SESSION_CALLED: &str = "session.called";
/// By everybody who enters the session after the caller: experts (the first one takes the call), the archivist, later guests.
pub const SESSION_JOINED: &str = "session.joined";
/// By the server: a participant left or was lost (20 s). Clear: [`crate::envelope::Left`].
pub const SESSION_LEFT: &str = "session.left";
/// By the server: a foreign client came in with a token (WHIP, WHEP). Clear: [`crate::envelope::GatewayJoined`]. It goes by
/// `session.left`.
pub const GATEWAY_JOINED: &str = "gateway.joined";
/// By a participant (payload: `Outcome`) or by the server: the session is over.
pub const SESSION_ENDED: &str = "session.ended";

/// The information about recording was displayed to the author (payload: `NoticeShown`).
pub const NOTICE_SHOWN: &str = "notice.shown";
/// The author's answer: record.
pub const CONSENT_RECORD: &str = "consent.record";
/// The author's answer: take part without recording. Also the withdrawal of an earlier yes.
pub const CONSENT_CALL_ONLY: &str = "consent.call_only";
/// The author's answer: no media from or to me.
pub const CONSENT_REFUSED: &str = "consent.refused";

/// Payload: `SnapshotPayload`; attachment: the picture. Only while recording is allowed.
pub const SNAPSHOT: &str = "snapshot";
/// Payload: `Instruction` (marks on a frame); attachment: the Snapshot, only while recording is allowed.
pub const INSTRUCTION: &str = "instruction";
/// Payload: `ReceiptPayload`. Clear times are whole minutes.
pub const RECEIPT: &str = "receipt";

/// By the technician: how good the link to the server is, when that changes. Payload: `LinkStatePayload`.
pub const LINK_STATE: &str = "link.state";

/// By the archivist: recording began. Payload: `RecordingStarted`.
pub const RECORDING_STARTED: &str = "recording.started";
/// By the archivist: one media fragment. Payload: `SegmentPayload`; attachment: the fragment's sealed bytes.
pub const SEGMENT: &str = "segment";
/// By the archivist: media that should be there and is not. Payload: `GapPayload`.
pub const GAP: &str = "gap";
/// By the archivist: recording ended. Payload: `RecordingStopped`.
pub const RECORDING_STOPPED: &str = "recording.stopped";

/// By the viewer, before replay. Payload: `ViewedPayload` (reason).
pub const VIEWED: &str = "viewed";
/// By the viewer, before a bundle. Payload: `ViewedPayload` (reason).
pub const EXPORTED: &str = "exported";

/// Kinds whose clear times are cut to whole minutes; the exact time stands in the payload.
pub fn has_coarse_time(kind: &str) -> bool {
    kind == RECEIPT
}

/// Kinds whose attachments are media fragments held by the archivist, not blobs held by the server.
pub fn attachments_are_media(kind: &str) -> bool {
    kind == SEGMENT
}
