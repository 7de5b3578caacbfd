//! Who may do what: one table of role × verb × relation to the case. Everything not listed is refused.
//!
//! The server asks here before it acts; a test walks the whole table against the running server.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::kind;

/// The part somebody plays. An account or device has one; in a case it is bound by `joined`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
#[ts(export, export_to = "policy.ts")]
pub enum Role {
    Technician,
    Expert,
    Manager,
    Administrator,
    Archivist,
    /// A foreign client with a token (WHIP, WHEP); never an account, and signs nothing.
    Gateway,
    /// The server's own events; never an account.
    Server,
}

/// Something one may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
#[ts(export, export_to = "policy.ts")]
pub enum Verb {
    ListCases,
    OpenCase,
    /// Bind oneself to a case (`joined`).
    Join,
    /// Read log and items of a case.
    Read,
    /// Messages, files, the case card.
    Write,
    /// Start a session.
    Call,
    /// See the queue.
    SeeQueue,
    /// Enter a session.
    Attend,
    /// Answer about recording, or withdraw.
    Consent,
    /// Snapshots and instructions.
    Mark,
    /// Receipts.
    Acknowledge,
    EndSession,
    /// Recording events and media fragments.
    Record,
    /// State a reason and get a replay grant.
    Replay,
    /// State a reason and get a bundle.
    Export,
    ManageAccounts,
    EnrolDevices,
}

/// How somebody stands to the case in question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
#[ts(export, export_to = "policy.ts")]
pub enum Relation {
    /// No case is concerned, or one they are not in.
    Outsider,
    /// `joined`, and nothing else yet.
    Joined,
    /// Took part in a session, opened the case, or gave a reason to view it.
    Member,
}

pub const ROLES: [Role; 7] =
    [Role::Technician, Role::Expert, Role::Manager, Role::Administrator, Role::Archivist, Role::Gateway, Role::Server];

pub const VERBS: [Verb; 17] = [
    Verb::ListCases,
    Verb::OpenCase,
    Verb::Join,
    Verb::Read,
    Verb::Write,
    Verb::Call,
    Verb::SeeQueue,
    Verb::Attend,
    Verb::Consent,
    Verb::Mark,
    Verb::Acknowledge,
    Verb::EndSession,
    Verb::Record,
    Verb::Replay,
    Verb::Export,
    Verb::ManageAccounts,
    Verb::EnrolDevices,
];

pub const RELATIONS: [Relation; 3] = [Relation::Outsider, Relation::Joined, Relation::Member];

/// The table. `Relation` is ordered: what an outsider may, a member may too.
pub fn allowed(role: Role, verb: Verb, relation: Relation) -> bool {
    use {Relation::*, Role::*, Verb::*};
    let least = match (role, verb) {
        (Server | Gateway, _) => return false,
        (Technician | Expert | Manager, ListCases) => Outsider,
        (Administrator, ListCases | ManageAccounts | EnrolDevices) => Outsider,
        (Technician | Expert | Manager, OpenCase) => Outsider,
        (Technician | Expert | Manager | Archivist, Join) => Outsider,
        (Expert, SeeQueue) => Outsider,
        (Technician, Call) => Joined,
        (Technician | Expert | Archivist, Attend) => Joined,
        // A case without a session is bundled too; nobody reads it before everybody can see them in it.
        (Archivist, Read) => Joined,
        (Technician | Expert | Manager, Read) => Member,
        (Technician | Expert | Manager, Write) => Member,
        (Technician | Expert, Consent) => Member,
        (Expert, Mark) => Member,
        (Technician, Acknowledge) => Member,
        (Technician | Expert, EndSession) => Member,
        (Archivist, Record) => Member,
        (Expert | Manager, Replay | Export) => Joined,
        _ => return false,
    };
    relation >= least
}

/// The verb that committing an event of this kind needs. `None`: only the server may write it.
pub fn verb_of(event_kind: &str) -> Option<Verb> {
    Some(match event_kind {
        kind::OPENED | kind::SESSION_LEFT | kind::GATEWAY_JOINED => return None,
        kind::JOINED => Verb::Join,
        kind::SESSION_CALLED => Verb::Call,
        kind::SESSION_JOINED => Verb::Attend,
        kind::SESSION_ENDED => Verb::EndSession,
        kind::NOTICE_SHOWN | kind::CONSENT_RECORD | kind::CONSENT_CALL_ONLY | kind::CONSENT_REFUSED => Verb::Consent,
        kind::SNAPSHOT | kind::INSTRUCTION => Verb::Mark,
        kind::RECEIPT | kind::LINK_STATE => Verb::Acknowledge,
        kind::RECORDING_STARTED | kind::SEGMENT | kind::GAP | kind::RECORDING_STOPPED => Verb::Record,
        kind::VIEWED => Verb::Replay,
        kind::EXPORTED => Verb::Export,
        // Messages, the card, and kinds of newer programs: content of a member.
        _ => Verb::Write,
    })
}

/// Does committing this kind make its author a member?
pub fn makes_member(event_kind: &str) -> bool {
    matches!(event_kind, kind::SESSION_CALLED | kind::SESSION_JOINED | kind::VIEWED | kind::EXPORTED)
}
