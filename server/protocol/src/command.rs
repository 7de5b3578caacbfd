//! The messages of the live socket: commands up, events down. One JSON object per WebSocket text message.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::{
    chain::{Head, SignedHead},
    envelope::StoredEvent,
    error::ApiError,
    id::{CaseId, Digest, EventId, ItemKey, Pseudonym, SessionId, Signature, TrackId},
    policy::Role,
    session::Session,
    signal::{Leg, Offer, RtcAnswer, TrackInfo},
};

/// A live message above this closes the socket with `too_large`, bytes.
pub const MAX_MESSAGE_BYTES: usize = 256 * 1024;
/// A sealed item up to this travels inside the message; a larger one is uploaded first, bytes.
pub const MAX_INLINE_ITEM_BYTES: usize = 64 * 1024;
/// A sealed item above this is refused, bytes.
pub const MAX_ITEM_BYTES: usize = 64 * 1024 * 1024;

/// An item beside an event: which one, what opens it, and its sealed bytes where they are small.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "command.ts")]
pub struct ItemRef {
    pub digest: Digest,
    /// Absent when the receiver may not open it or its wrap was destroyed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub key: Option<ItemKey>,
    /// Sealed bytes, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub bytes: Option<String>,
}

/// An event on its way to a reader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "command.ts")]
pub struct SentEvent {
    pub event: StoredEvent,
    pub items: Vec<ItemRef>,
}

/// What a client says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "type", rename_all = "snake_case")]
#[ts(export, export_to = "command.ts")]
pub enum ClientMessage {
    /// First message, and again when the language was switched. `language`: "de" or "en", for error sentences.
    Hello {
        language: String,
    },
    /// Clock measurement; answered at once.
    Ping {
        #[ts(type = "number")]
        t0_us: i64,
    },
    /// Subscribe to a case's log after `after_seq`. Answered by `CaseOpened`, then `SessionNow`, `Event`s, then `CaughtUp`.
    /// `lean`: the items of `segment` events are left out, for who does not replay: an hour of recording is some thousand of them.
    OpenCase {
        case: CaseId,
        #[ts(type = "number")]
        after_seq: u64,
        #[serde(default)]
        lean: bool,
    },
    CloseCase {
        case: CaseId,
    },
    /// Append an event. Answered by `Committed` once durable, or `Refused`. Sending the same again is harmless.
    Commit {
        case: CaseId,
        author: String,
        sig: Signature,
        items: Vec<ItemRef>,
    },
    /// Passed on to one or all participants of the session and never stored: a Snapshot of a call without recording.
    Relay {
        case: CaseId,
        session: SessionId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        to: Option<Pseudonym>,
        item: ItemRef,
    },
    /// Connect media of a session one is present in; counts when one's own commits before it are answered. Answered by `RtcOffer`. Again: starts afresh.
    RtcJoin {
        case: CaseId,
        session: SessionId,
        publish: Vec<TrackInfo>,
    },
    RtcAnswer {
        session: SessionId,
        answer: RtcAnswer,
    },
    /// Watch or stop watching a track of the session (default: every `main` and `voice`, no `preview`).
    RtcWatch {
        session: SessionId,
        track: TrackId,
        on: bool,
    },
    RtcLeave {
        session: SessionId,
    },
}

/// What the server says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "type", rename_all = "snake_case")]
#[ts(export, export_to = "command.ts")]
pub enum ServerMessage {
    Pong {
        #[ts(type = "number")]
        t0_us: i64,
        #[ts(type = "number")]
        server_us: i64,
    },
    /// The receiver's place in a case. `head` is signed; keep the newest one seen.
    CaseOpened {
        case: CaseId,
        me: Pseudonym,
        role: Role,
        head: SignedHead,
    },
    Event {
        case: CaseId,
        event: SentEvent,
    },
    /// To who reads a case and has not been sent all of its log yet: the session that runs, as it is now. It holds until `CaughtUp`;
    /// from then on the log says it.
    SessionNow {
        case: CaseId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        session: Option<Session>,
    },
    /// Everything up to `head.seq` was sent; what follows is live.
    CaughtUp {
        case: CaseId,
        head: Head,
    },
    Committed {
        case: CaseId,
        id: EventId,
        #[ts(type = "number")]
        seq: u64,
        hash: Digest,
    },
    /// Something asked for was not done. `id`: the event's, where it was a commit.
    /// Code `stale_device_seq` carries the number to go above in `last_device_seq`.
    Refused {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        id: Option<EventId>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        case: Option<CaseId>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        session: Option<SessionId>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional, type = "number")]
        last_device_seq: Option<u64>,
        error: ApiError,
    },
    Relayed {
        case: CaseId,
        session: SessionId,
        from: Pseudonym,
        item: ItemRef,
    },
    RtcOffer {
        session: SessionId,
        offer: Offer,
    },
    /// Once a second to people while connected: every leg of the session.
    RtcLegs {
        session: SessionId,
        legs: Vec<Leg>,
    },
    /// The publisher's track is (not) watched by anybody now; `preview` is encoded only while it is.
    RtcWatched {
        session: SessionId,
        track: TrackId,
        on: bool,
    },
    /// Send a key frame of this track now.
    RtcKeyFrame {
        session: SessionId,
        track: TrackId,
    },
    /// This leg is gone (`reason`: a code); join again.
    RtcClosed {
        session: SessionId,
        reason: String,
    },
    /// To experts: the whole queue, on every change. To the archivist: every open session.
    Queue {
        calls: Vec<Call>,
    },
    /// To everybody: is an archivist connected?
    Archivist {
        present: bool,
    },
    /// To everybody who may list it: this case is new or changed.
    CaseChanged {
        summary: CaseSummary,
    },
}

/// A waiting call (for the archivist: any open session).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "command.ts")]
pub struct Call {
    pub session: SessionId,
    #[ts(type = "number")]
    pub since_ms: i64,
    /// No expert has come yet.
    pub waiting: bool,
    pub summary: CaseSummary,
    /// Who calls: the newest `joined` event of this person, whose item has the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub caller: Option<SentEvent>,
}

/// A case in a list. Words are sealed: open `card` (a `card` event) for them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "command.ts")]
pub struct CaseSummary {
    pub case: CaseId,
    pub number: String,
    pub open: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub asset: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub customer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub site: Option<String>,
    pub language: String,
    #[ts(type = "number")]
    pub opened_at_ms: i64,
    #[ts(type = "number")]
    pub last_at_ms: i64,
    #[ts(type = "number")]
    pub seq: u64,
    /// A session is called or running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub session: Option<SessionId>,
    /// It is called, and no expert has come yet.
    #[serde(default)]
    pub waiting: bool,
    /// The newest case card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub card: Option<SentEvent>,
    /// Was anything ever recorded?
    pub recorded: bool,
}
