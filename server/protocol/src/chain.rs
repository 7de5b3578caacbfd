//! The hash chain of one case: appending to it, and checking all of it.
//!
//! Owns: the rule that every event names the hash before it, is signed by a key bound in an earlier (or the same)
//! `joined`, and keeps its device's numbers rising; that a case opens once and nobody but the server speaks as the server.
//! Never: opens an item. Elsewhere: who may do what (`policy`), the last event's hash (a signed head proves it).

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::{
    ProtocolError,
    envelope::{self, AuthorFields, Joined, Opened, ServerFields, StoredEvent, genesis},
    id::{CaseId, DeviceId, Digest, EventId, Pseudonym, PublicKey, Signature},
    kind,
    policy::{self, Role},
};

/// Where a case's log stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "envelope.ts")]
pub struct Head {
    pub case: CaseId,
    /// 0 for an empty log.
    #[ts(type = "number")]
    pub seq: u64,
    pub hash: Digest,
}

/// A head signed by the server: whoever keeps it can later show that the log was longer than claimed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "envelope.ts")]
pub struct SignedHead {
    /// [`HeadFields`] as JSON text.
    pub head: String,
    pub sig: Signature,
}

/// What a signed head says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "envelope.ts")]
pub struct HeadFields {
    #[ts(type = "number")]
    pub v: u64,
    #[serde(flatten)]
    pub head: Head,
    #[ts(type = "number")]
    pub at_ms: i64,
}

/// What is wrong with a log, and at which event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    #[error("event {seq}: {source}")]
    Event { seq: u64, source: ProtocolError },
    #[error("event {seq}: it carries the number {found}: an event was dropped, added or moved")]
    Seq { seq: u64, found: u64 },
    #[error("event {seq}: it does not follow the event before it: one of the two was changed")]
    Prev { seq: u64 },
    #[error("event {seq}: it belongs to case {found}")]
    OtherCase { seq: u64, found: CaseId },
    #[error("event {seq}: author and device were never bound by `joined`")]
    UnknownAuthor { seq: u64 },
    #[error("event {seq}: a case is opened by its first event and by no other")]
    Opening { seq: u64 },
    #[error("event {seq}: only the server may write `{kind}`")]
    ServerOnly { seq: u64, kind: String },
    #[error("event {seq}: {author} joined before with another role")]
    OtherRole { seq: u64, author: Pseudonym },
    #[error("event {seq}: device number {found} is not above {last}: a replay")]
    Replayed { seq: u64, found: u64, last: u64 },
    #[error("event {seq}: id {id} was used before")]
    IdReused { seq: u64, id: EventId },
    #[error("the signed head names event {seq} with another hash: the log was cut or changed")]
    Head { seq: u64 },
    #[error("the log ends at event {found} but a signed head proves {seq}: it was cut")]
    Cut { seq: u64, found: u64 },
}

/// A key bound by `opened` or `joined`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    pub author: Pseudonym,
    pub role: Role,
    pub key: PublicKey,
    /// Highest device number seen.
    pub device_seq: u64,
}

/// Follows one case's log event by event and remembers what the next one must satisfy.
#[derive(Debug, Clone)]
pub struct Chain {
    head: Head,
    devices: HashMap<DeviceId, Binding>,
    /// The device numbers already above; ids are remembered to refuse a second use.
    ids: std::collections::HashSet<EventId>,
    server_key: Option<PublicKey>,
}

impl Chain {
    pub fn new(case: CaseId) -> Self {
        Self {
            head: Head { case, seq: 0, hash: genesis(case) },
            devices: HashMap::new(),
            ids: Default::default(),
            server_key: None,
        }
    }

    pub fn head(&self) -> Head {
        self.head
    }

    /// The server's key, once `opened` was seen.
    pub fn server_key(&self) -> Option<PublicKey> {
        self.server_key
    }

    pub fn binding(&self, device: &DeviceId) -> Option<&Binding> {
        self.devices.get(device)
    }

    /// Was this id accepted before?
    pub fn has(&self, id: &EventId) -> bool {
        self.ids.contains(id)
    }

    /// Checks author bytes against the log so far: case, binding, signature, device number, id. Changes nothing.
    pub fn check_author(&self, author: &str, sig: &Signature) -> Result<AuthorFields, ChainError> {
        let seq = self.head.seq + 1;
        let at = |source| ChainError::Event { seq, source };
        let fields = AuthorFields::read(author).map_err(at)?;
        if fields.case != self.head.case {
            return Err(ChainError::OtherCase { seq, found: fields.case });
        }
        if (seq == 1) != (fields.kind == kind::OPENED) {
            return Err(ChainError::Opening { seq });
        }
        check_coarse(&fields).map_err(at)?;
        let key = match fields.kind.as_str() {
            kind::OPENED => fields.clear::<Opened>().map_err(at)?.server_key,
            kind::JOINED => {
                let joined: Joined = fields.clear().map_err(at)?;
                if matches!(joined.role, Role::Server | Role::Gateway) {
                    return Err(ChainError::ServerOnly { seq, kind: fields.kind });
                }
                if self.devices.values().any(|b| b.author == fields.author && b.role != joined.role) {
                    return Err(ChainError::OtherRole { seq, author: fields.author });
                }
                // A device may repeat `joined` (it lost its state) only for itself and with its own key.
                match self.devices.get(&fields.device) {
                    Some(b) if b.author != fields.author || b.key != joined.case_key || b.role != joined.role => {
                        return Err(ChainError::UnknownAuthor { seq });
                    }
                    _ => joined.case_key,
                }
            }
            _ => match self.devices.get(&fields.device) {
                Some(b) if b.author == fields.author => {
                    if b.role != Role::Server && policy::verb_of(&fields.kind).is_none() {
                        return Err(ChainError::ServerOnly { seq, kind: fields.kind });
                    }
                    b.key
                }
                _ => return Err(ChainError::UnknownAuthor { seq }),
            },
        };
        envelope::verify(&key, author, sig).map_err(at)?;
        if self.ids.contains(&fields.id) {
            return Err(ChainError::IdReused { seq, id: fields.id });
        }
        if let Some(b) = self.devices.get(&fields.device)
            && fields.device_seq <= b.device_seq
        {
            return Err(ChainError::Replayed { seq, found: fields.device_seq, last: b.device_seq });
        }
        Ok(fields)
    }

    /// Makes the server half for checked author bytes.
    pub fn extend(&self, fields: &AuthorFields, now_ms: i64) -> ServerFields {
        let received_at_ms = if kind::has_coarse_time(&fields.kind) { envelope::coarse(now_ms) } else { now_ms };
        ServerFields {
            v: envelope::VERSION,
            case: self.head.case,
            seq: self.head.seq + 1,
            prev: self.head.hash,
            received_at_ms,
        }
    }

    /// Checks a whole event and takes it as the new head.
    pub fn push(&mut self, event: &StoredEvent) -> Result<(ServerFields, AuthorFields), ChainError> {
        let seq = self.head.seq + 1;
        let server = ServerFields::read(&event.server).map_err(|source| ChainError::Event { seq, source })?;
        if server.case != self.head.case {
            return Err(ChainError::OtherCase { seq, found: server.case });
        }
        if server.seq != seq {
            return Err(ChainError::Seq { seq, found: server.seq });
        }
        if server.prev != self.head.hash {
            return Err(ChainError::Prev { seq });
        }
        let author = self.check_author(&event.author, &event.sig)?;
        self.learn(&author).map_err(|source| ChainError::Event { seq, source })?;
        self.head = Head { case: self.head.case, seq, hash: event.hash() };
        Ok((server, author))
    }

    fn learn(&mut self, author: &AuthorFields) -> Result<(), ProtocolError> {
        let bound = match author.kind.as_str() {
            kind::OPENED => {
                let key = author.clear::<Opened>()?.server_key;
                self.server_key = Some(key);
                Some((Role::Server, key))
            }
            kind::JOINED => author.clear::<Joined>().map(|j| Some((j.role, j.case_key)))?,
            _ => None,
        };
        if let Some((role, key)) = bound {
            self.devices
                .insert(author.device, Binding { author: author.author, role, key, device_seq: author.device_seq });
        } else if let Some(b) = self.devices.get_mut(&author.device) {
            b.device_seq = author.device_seq;
        }
        self.ids.insert(author.id);
        Ok(())
    }
}

/// Checks a whole log. Returns the chain at its end.
pub fn verify_log<'a>(case: CaseId, events: impl IntoIterator<Item = &'a StoredEvent>) -> Result<Chain, ChainError> {
    let mut chain = Chain::new(case);
    for event in events {
        chain.push(event)?;
    }
    Ok(chain)
}

/// Reads a signed head and checks its signature.
pub fn read_head(signed: &SignedHead, key: &PublicKey) -> Result<HeadFields, ProtocolError> {
    envelope::verify(key, &signed.head, &signed.sig)?;
    let fields: HeadFields = serde_json::from_str(&signed.head)
        .map_err(|e| ProtocolError::Malformed { what: "head", why: e.to_string() })?;
    envelope::check_version(fields.v)?;
    Ok(fields)
}

/// Does a log with these event hashes (the first event's first) contain what a head says? A head may be older than the log.
pub fn check_head(case: CaseId, hashes: &[Digest], head: &Head) -> Result<(), ChainError> {
    let (seq, found) = (head.seq, hashes.len() as u64);
    if head.case != case {
        return Err(ChainError::OtherCase { seq, found: head.case });
    }
    let expected = match seq.checked_sub(1) {
        None => Some(genesis(case)),
        Some(before) => usize::try_from(before).ok().and_then(|i| hashes.get(i)).copied(),
    };
    match expected {
        None => Err(ChainError::Cut { seq, found }),
        Some(hash) if hash == head.hash => Ok(()),
        Some(_) => Err(ChainError::Head { seq }),
    }
}

/// Kinds with coarse times must not carry the exact one in `captured_at_ms` nor in a time-ordered id.
fn check_coarse(fields: &AuthorFields) -> Result<(), ProtocolError> {
    if !kind::has_coarse_time(&fields.kind) {
        return Ok(());
    }
    let wrong = |what, why: &str| Err(ProtocolError::Malformed { what, why: why.into() });
    if envelope::coarse(fields.captured_at_ms) != fields.captured_at_ms {
        return wrong("captured_at_ms", "of a receipt it is whole minutes; the exact time stands in the payload");
    }
    if fields.id.0.get_version_num() != 4 {
        return wrong("id", "of a receipt it is a random UUID (version 4), because version 7 carries the exact time");
    }
    Ok(())
}

/// Signs where a log stands.
pub fn sign_head(key: &ed25519_dalek::SigningKey, head: Head, at_ms: i64) -> SignedHead {
    // A plain struct: serialising it cannot fail.
    let text = serde_json::to_string(&HeadFields { v: envelope::VERSION, head, at_ms }).unwrap_or_default();
    SignedHead { sig: envelope::sign(key, &text), head: text }
}
