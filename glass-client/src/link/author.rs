//! Writes events of one case: signs, seals, numbers, and keeps what the server has not committed yet.
//!
//! Owns: the case key of this start, the device number, the outbox. Never: forgets an event before it is in the log.

use std::collections::VecDeque;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::SigningKey;
use lotse_payload::case_card::{JoinedPayload, binding_text};
use lotse_protocol::{
    command::{ClientMessage, ItemRef},
    envelope::{self, AuthorFields, Joined},
    id::{CaseId, DeviceId, EventId, ItemKey, Pseudonym, SessionId},
    item, kind,
    policy::Role,
};
use serde_json::Value;
use uuid::Uuid;

/// Events not yet committed. A technician makes a few a minute: this lasts for hours without a network.
const OUTBOX: usize = 512;

/// The author of these glasses in one case.
pub struct Author {
    case: CaseId,
    me: Pseudonym,
    device: DeviceId,
    key: SigningKey,
    seq: u64,
    outbox: VecDeque<Pending>,
}

struct Pending {
    fields: AuthorFields,
    items: Vec<ItemRef>,
}

impl Author {
    /// A fresh case key and device number: one per start.
    pub fn new(case: CaseId, me: Pseudonym) -> Self {
        let key = SigningKey::from_bytes(&rand::random());
        Self { case, me, device: DeviceId(Uuid::now_v7()), key, seq: 0, outbox: VecDeque::new() }
    }

    pub fn case(&self) -> CaseId {
        self.case
    }

    /// Binds the case key; the device's long-term key vouches for it.
    pub fn join(
        &mut self,
        role: Role,
        name: &str,
        device: &str,
        device_key: &SigningKey,
        now_ms: i64,
    ) -> Option<ClientMessage> {
        let case_key = envelope::public_key(&self.key);
        let payload = JoinedPayload {
            name: name.into(),
            device: device.into(),
            device_key: envelope::public_key(device_key),
            device_sig: envelope::sign(device_key, &binding_text(self.case, self.me, &case_key)),
        };
        let clear = serde_json::to_value(Joined { role, case_key }).ok();
        let payload = serde_json::to_value(payload).ok();
        self.write(kind::JOINED, None, payload, clear, now_ms)
    }

    /// A new event. `None` if the outbox is full.
    pub fn write(
        &mut self,
        kind: &str,
        session: Option<SessionId>,
        payload: Option<Value>,
        clear: Option<Value>,
        now_ms: i64,
    ) -> Option<ClientMessage> {
        if self.outbox.len() >= OUTBOX {
            tracing::error!("{OUTBOX} events wait for the server; {kind} is lost");
            return None;
        }
        let sealed = payload.map(|p| item::seal(ItemKey(rand::random()), p.to_string().as_bytes()));
        let coarse = kind::has_coarse_time(kind);
        let fields = AuthorFields {
            v: envelope::VERSION,
            case: self.case,
            // A time-ordered id would carry the time that coarse kinds hide.
            id: EventId(if coarse { Uuid::new_v4() } else { Uuid::now_v7() }),
            kind: kind.into(),
            session,
            author: self.me,
            device: self.device,
            device_seq: 0,
            captured_at_ms: if coarse { envelope::coarse(now_ms) } else { now_ms },
            item: sealed.as_ref().map(|s| s.digest),
            attachments: Vec::new(),
            clear,
        };
        let items = sealed.into_iter().map(|s| ItemRef {
            digest: s.digest,
            key: Some(s.key),
            bytes: Some(STANDARD.encode(&s.bytes)),
        });
        let mut pending = Pending { fields, items: items.collect() };
        self.seq += 1;
        pending.fields.device_seq = self.seq;
        let message = self.message(&pending);
        self.outbox.push_back(pending);
        Some(message)
    }

    /// The event is in the log (or will never be): forget it.
    pub fn settled(&mut self, id: EventId) {
        self.outbox.retain(|p| p.fields.id != id);
    }

    /// Everything not yet committed, unchanged, in order: after a reconnect.
    pub fn again(&self) -> Vec<ClientMessage> {
        self.outbox.iter().map(|p| self.message(p)).collect()
    }

    /// The server has higher numbers of this device: number and sign the outbox again above them.
    pub fn renumber(&mut self, last: u64) -> Vec<ClientMessage> {
        self.seq = self.seq.max(last);
        for pending in &mut self.outbox {
            self.seq += 1;
            pending.fields.device_seq = self.seq;
        }
        self.again()
    }

    pub fn waiting(&self) -> usize {
        self.outbox.len()
    }

    fn message(&self, pending: &Pending) -> ClientMessage {
        let author = pending.fields.to_bytes();
        let sig = envelope::sign(&self.key, &author);
        ClientMessage::Commit { case: self.case, author, sig, items: pending.items.clone() }
    }
}

#[cfg(test)]
mod tests {
    use lotse_protocol::id::Signature;

    use super::*;

    fn author() -> Author {
        Author::new(CaseId(Uuid::now_v7()), Pseudonym(Uuid::now_v7()))
    }

    fn parts(m: &ClientMessage) -> (AuthorFields, String, Signature) {
        match m {
            ClientMessage::Commit { author, sig, .. } => {
                (AuthorFields::read(author).expect("readable"), author.clone(), *sig)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_joined_event_is_signed_by_the_key_it_binds() {
        let mut author = author();
        let device = SigningKey::from_bytes(&[3; 32]);
        let message = author.join(Role::Technician, "Mara", "helmet-1", &device, 1_000).expect("written");
        let (fields, text, sig) = parts(&message);
        let joined: Joined = fields.clear().expect("clear");
        envelope::verify(&joined.case_key, &text, &sig).expect("signed");
        assert_eq!((fields.device_seq, joined.role), (1, Role::Technician));
    }

    #[test]
    fn what_is_not_committed_is_sent_again_unchanged() {
        let mut author = author();
        let first = author.write(kind::SESSION_CALLED, None, None, None, 5).expect("written");
        let second = author.write(kind::CONSENT_RECORD, None, None, None, 6).expect("written");
        assert_eq!(author.again(), [first.clone(), second.clone()]);
        author.settled(parts(&first).0.id);
        assert_eq!(author.again(), [second]);
    }

    #[test]
    fn a_lost_counter_is_made_good() {
        let mut author = author();
        author.write("message", None, None, None, 5);
        author.write("message", None, None, None, 6);
        let seqs: Vec<u64> = author.renumber(40).iter().map(|m| parts(m).0.device_seq).collect();
        assert_eq!(seqs, [41, 42]);
    }

    #[test]
    fn receipts_hide_the_exact_time() {
        let mut author = author();
        let message = author.write(kind::RECEIPT, None, Some(Value::Null), None, 61_234).expect("written");
        let (fields, ..) = parts(&message);
        assert_eq!((fields.captured_at_ms, fields.id.0.get_version_num()), (60_000, 4));
    }

    #[test]
    fn the_outbox_is_bounded() {
        let mut author = author();
        let written =
            (0..OUTBOX + 5).filter(|i| author.write("message", None, None, None, *i as i64).is_some()).count();
        assert_eq!(written, OUTBOX);
    }
}
