//! One case as the archivist lives it: its log, its commits, its recording.
//!
//! Owns: the checked chain, the fold over sessions, commits not yet acknowledged, and the decision (by the one rule in
//! `lotse_protocol::session`) whether media may be kept. Never: trusts the server's order unchecked.
//! Elsewhere: all cases and the media leg (`archivist`), bytes (`recorder`).

use std::collections::{HashMap, HashSet, VecDeque};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::SigningKey;
use lotse_payload::{
    case_card::{JoinedPayload, binding_text},
    recording::StopWhy,
};
use lotse_protocol::{
    chain::{Chain, Head},
    command::{ClientMessage, ItemRef, SentEvent},
    envelope::{AuthorFields, Joined, VERSION, public_key, sign},
    id::{CaseId, DeviceId, Digest, EventId, ItemKey, Pseudonym, SessionId},
    item, kind,
    policy::Role,
    session::{Answer, Session, Sessions},
};
use serde::Serialize;
use uuid::Uuid;

use crate::{error::Result, fragment::Finished, keys};

/// Commits not acknowledged. 4,096 are half an hour of one picture and two voices without the server.
const MAX_OUTBOX: usize = 4_096;

/// A commit until the server has it.
struct Pending {
    fields: AuthorFields,
    author: String,
    items: Vec<ItemRef>,
}

/// What became of a refused commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    SignedAgain,
    Waits,
    Dropped,
}

/// Refusals that say nothing about the event.
const PASSING: [&str; 5] = ["busy", "storage", "broken", "case_not_open", "too_many_tries"];

pub struct Case {
    pub id: CaseId,
    key: SigningKey,
    device: DeviceId,
    chain: Chain,
    pub sessions: Sessions,
    me: Option<Pseudonym>,
    /// Everything up to the head was received, as a reader.
    pub caught_up: bool,
    /// The server lets us into the log only once we joined the case.
    pub outsider: bool,
    device_seq: u64,
    outbox: VecDeque<Pending>,
    /// Acknowledged, but not yet come back in the log: kind by id.
    acknowledged: HashMap<EventId, String>,
    /// Fragments the log has.
    media: HashSet<Digest>,
    /// Sessions whose recording was started and not stopped, by the log and the outbox: since when, ms.
    pub recording: HashMap<SessionId, i64>,
}

impl Case {
    pub fn new(id: CaseId, keys: &keys::Keys) -> Self {
        Self {
            id,
            key: keys.case_key(id),
            device: keys.case_device(id),
            chain: Chain::new(id),
            sessions: Sessions::default(),
            me: None,
            caught_up: false,
            outsider: false,
            device_seq: 0,
            outbox: VecDeque::new(),
            acknowledged: HashMap::new(),
            media: HashSet::new(),
            recording: HashMap::new(),
        }
    }

    pub fn me(&self) -> Option<Pseudonym> {
        self.me
    }

    /// What to say after a (re)connect.
    pub fn open_message(&mut self) -> ClientMessage {
        self.caught_up = false;
        ClientMessage::OpenCase { case: self.id, after_seq: self.chain.head().seq, lean: false }
    }

    pub fn on_opened(&mut self, me: Pseudonym) {
        self.me = Some(me);
    }

    /// The next event, checked. An error means that this log cannot be trusted.
    pub fn on_event(&mut self, sent: &SentEvent) -> std::result::Result<(), lotse_protocol::chain::ChainError> {
        let (_, author) = self.chain.push(&sent.event)?;
        self.sessions.apply(&author);
        if author.device == self.device {
            self.device_seq = self.device_seq.max(author.device_seq);
            self.outbox.retain(|p| p.fields.id != author.id);
            self.acknowledged.remove(&author.id);
            self.note(&author);
            if author.kind == kind::SEGMENT {
                self.media.extend(author.attachments.first());
            }
        }
        Ok(())
    }

    pub fn on_caught_up(&mut self, head: Head) {
        self.outsider = self.chain.head().seq < head.seq;
        self.caught_up = !self.outsider;
    }

    pub fn server_key(&self) -> Option<lotse_protocol::id::PublicKey> {
        self.chain.server_key()
    }

    pub fn on_committed(&mut self, id: EventId) -> Option<Digest> {
        let at = self.outbox.iter().position(|p| p.fields.id == id)?;
        let done = self.outbox.remove(at)?;
        if !self.chain.has(&id) {
            self.acknowledged.insert(id, done.fields.kind.clone());
        }
        let media = (done.fields.kind == kind::SEGMENT).then(|| done.fields.attachments.first().copied()).flatten();
        self.media.extend(media);
        media
    }

    /// Not accepted. With a number to go above, everything waiting is signed again and to be sent at once; trouble of the
    /// server's own passes, so the event waits; any other event is dropped.
    pub fn on_refused(&mut self, id: EventId, last_device_seq: Option<u64>, code: &str) -> Refused {
        match last_device_seq {
            Some(last) => {
                self.device_seq = self.device_seq.max(last);
                let mut seq = self.device_seq;
                for p in &mut self.outbox {
                    seq += 1;
                    p.fields.device_seq = seq;
                    p.author = p.fields.to_bytes();
                }
                self.device_seq = seq;
                Refused::SignedAgain
            }
            None if PASSING.contains(&code) => Refused::Waits,
            None => {
                self.outbox.retain(|p| p.fields.id != id);
                Refused::Dropped
            }
        }
    }

    /// Everything not acknowledged, in order, to be sent (again).
    pub fn resend(&self) -> impl Iterator<Item = ClientMessage> + '_ {
        self.outbox.iter().map(|p| self.message(p))
    }

    pub fn is_settled(&self) -> bool {
        self.outbox.is_empty()
    }

    /// Is this fragment's event in the log or on its way?
    pub fn has_media(&self, media: &Digest) -> bool {
        self.media.contains(media) || self.outbox.iter().any(|p| p.fields.attachments.contains(media))
    }

    pub fn media(&self) -> &HashSet<Digest> {
        &self.media
    }

    fn waits(&self, kind: &str) -> bool {
        self.outbox.iter().any(|p| p.fields.kind == kind) || self.acknowledged.values().any(|k| k == kind)
    }

    /// Joins the case, and the session if there is one, where that is still to be done.
    pub fn join(
        &mut self,
        session: Option<SessionId>,
        name: &str,
        device_key: &SigningKey,
        now_ms: i64,
    ) -> Result<Vec<ClientMessage>> {
        let Some(me) = self.me else { return Ok(Vec::new()) };
        let mut out = Vec::new();
        if self.chain.binding(&self.device).is_none() && !self.waits(kind::JOINED) {
            let case_key = public_key(&self.key);
            let payload = JoinedPayload {
                name: name.to_owned(),
                device: "lotse-archivist".to_owned(),
                device_key: public_key(device_key),
                device_sig: sign(device_key, &binding_text(self.id, me, &case_key)),
            };
            let clear = serde_json::to_value(Joined { role: Role::Archivist, case_key }).ok();
            out.extend(self.commit(kind::JOINED, None, Some(&payload), &[], clear, now_ms)?);
        }
        let Some(session) = session else { return Ok(out) };
        let present = self.sessions.get(session).and_then(|s| s.participants.get(&me)).is_some_and(|p| p.present);
        if !present && !self.waits(kind::SESSION_JOINED) {
            out.extend(self.commit(kind::SESSION_JOINED, Some(session), None::<&()>, &[], None, now_ms)?);
        }
        Ok(out)
    }

    pub fn is_present(&self, session: &Session) -> bool {
        self.me.and_then(|me| session.participants.get(&me)).is_some_and(|p| p.present)
    }

    /// Why a session's media may not be kept now.
    pub fn why_not(&self, session: SessionId) -> StopWhy {
        match self.sessions.get(session) {
            Some(s) if s.ended_at_ms.is_none() && !self.is_present(s) => StopWhy::ArchivistRestarted,
            Some(s) if s.ended_at_ms.is_none() => StopWhy::NotAllowed,
            _ => StopWhy::SessionEnded,
        }
    }

    /// Whose yes a recording rests on.
    pub fn consented(&self, session: SessionId) -> Vec<Pseudonym> {
        let Some(s) = self.sessions.get(session) else { return Vec::new() };
        s.participants
            .iter()
            .filter(|(_, p)| p.present && p.role != Role::Archivist && p.answer == Some(Answer::Record))
            .map(|(who, _)| *who)
            .collect()
    }

    /// Commits that the server has not acknowledged.
    pub fn waiting(&self) -> usize {
        self.outbox.len()
    }

    /// The event of a finished fragment.
    pub fn segment(&mut self, finished: &Finished, now_ms: i64) -> Result<Option<ClientMessage>> {
        let media = [(finished.payload.media, finished.key)];
        self.commit(kind::SEGMENT, Some(finished.session), Some(&finished.payload), &media, None, now_ms)
    }

    /// Signs an event and keeps it until the server has it. `None` when too much waits already.
    pub fn commit<T: Serialize>(
        &mut self,
        kind: &str,
        session: Option<SessionId>,
        payload: Option<&T>,
        attachments: &[(Digest, ItemKey)],
        clear: Option<serde_json::Value>,
        now_ms: i64,
    ) -> Result<Option<ClientMessage>> {
        let Some(me) = self.me else { return Ok(None) };
        if self.outbox.len() >= MAX_OUTBOX {
            tracing::error!(case = %self.id, kind, "too much waits for the server: this event is made again after a restart");
            return Ok(None);
        }
        let mut items = Vec::new();
        let mut digest = None;
        if let Some(payload) = payload {
            // Plain structs with string keys: serialising them cannot fail.
            let sealed = item::seal(keys::item_key(), &serde_json::to_vec(payload).unwrap_or_default());
            digest = Some(sealed.digest);
            items.push(ItemRef {
                digest: sealed.digest,
                key: Some(sealed.key),
                bytes: Some(STANDARD.encode(&sealed.bytes)),
            });
        }
        items.extend(attachments.iter().map(|(d, k)| ItemRef { digest: *d, key: Some(*k), bytes: None }));
        self.device_seq += 1;
        let fields = AuthorFields {
            v: VERSION,
            case: self.id,
            id: EventId(Uuid::now_v7()),
            kind: kind.to_owned(),
            session,
            author: me,
            device: self.device,
            device_seq: self.device_seq,
            captured_at_ms: now_ms,
            item: digest,
            attachments: attachments.iter().map(|(d, _)| *d).collect(),
            clear,
        };
        self.note(&fields);
        let pending = Pending { author: fields.to_bytes(), fields, items };
        let message = self.message(&pending);
        self.outbox.push_back(pending);
        Ok(Some(message))
    }

    fn message(&self, p: &Pending) -> ClientMessage {
        ClientMessage::Commit {
            case: self.id,
            author: p.author.clone(),
            sig: sign(&self.key, &p.author),
            items: p.items.clone(),
        }
    }

    /// Remembers what an event of our own says about recordings.
    fn note(&mut self, own: &AuthorFields) {
        match (own.kind.as_str(), own.session) {
            (kind::RECORDING_STARTED, Some(s)) => {
                self.recording.insert(s, own.captured_at_ms);
            }
            (kind::RECORDING_STOPPED, Some(s)) => {
                self.recording.remove(&s);
            }
            _ => {}
        }
    }
}
