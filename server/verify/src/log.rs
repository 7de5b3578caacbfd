//! Reads `log.jsonl` piece by piece: the chain, and what later checks need of it.
//!
//! Owns: one line at a time; of each event only its hash, the items it names and, of `joined`, who must be vouched for.
//! Never: goes on with the chain after it broke; it still reads names then, so that items find their event.

use std::collections::{BTreeMap, BTreeSet};

use lotse_payload::case_card::{JoinedPayload, binding_text};
use lotse_protocol::{
    chain::{Chain, ChainError},
    envelope::{self, AuthorFields, Joined, Opened, StoredEvent},
    id::{CaseId, Digest, PublicKey},
    kind, policy,
};

use crate::{
    report::EventNote,
    trouble::{Trouble, seq_of},
};

/// A line above this is not an event, bytes: author bytes are 16 KiB, escaped at most six times as long.
const MAX_LINE: usize = 256 * 1024;

/// The log as far as it was read.
pub(crate) struct LogReader {
    pub(crate) chain: Chain,
    /// Of each event, up to the first trouble.
    pub(crate) hashes: Vec<Digest>,
    /// Which event named an item first.
    pub(crate) items: BTreeMap<Digest, EventNote>,
    /// By payload of `joined`.
    pub(crate) vouchers: BTreeMap<Digest, Vouched>,
    /// Payloads that declare media missing.
    pub(crate) gaps: BTreeSet<Digest>,
    pub(crate) troubles: Vec<(Option<EventNote>, Trouble)>,
    pub(crate) number: Option<String>,
    pub(crate) from_ms: Option<i64>,
    pub(crate) to_ms: Option<i64>,
    case: CaseId,
    line: Vec<u8>,
    lines: u64,
    broken: bool,
}

/// What a `joined` binds; its payload must vouch for it.
pub(crate) struct Vouched {
    pub(crate) event: EventNote,
    author: lotse_protocol::id::Pseudonym,
    case: CaseId,
    joined: Joined,
}

impl Vouched {
    /// The device key that vouches, if it does.
    pub(crate) fn vouched_by(&self, payload: &[u8]) -> Option<PublicKey> {
        let payload: JoinedPayload = serde_json::from_slice(payload).ok()?;
        let text = binding_text(self.case, self.author, &self.joined.case_key);
        envelope::verify(&payload.device_key, &text, &payload.device_sig).ok()?;
        Some(payload.device_key)
    }

    pub(crate) fn is_archivist(&self) -> bool {
        self.joined.role == policy::Role::Archivist
    }
}

impl LogReader {
    pub(crate) fn new(case: CaseId) -> Self {
        Self {
            chain: Chain::new(case),
            hashes: Vec::new(),
            items: BTreeMap::new(),
            vouchers: BTreeMap::new(),
            gaps: BTreeSet::new(),
            troubles: Vec::new(),
            number: None,
            from_ms: None,
            to_ms: None,
            case,
            line: Vec::new(),
            lines: 0,
            broken: false,
        }
    }

    /// Did the chain break, so that nothing after it is known?
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    pub(crate) fn take(&mut self, piece: &[u8]) {
        for part in piece.split_inclusive(|b| *b == b'\n') {
            if self.line.len() + part.len() <= MAX_LINE {
                self.line.extend_from_slice(part);
            } else {
                // Too long to be an event; keep one byte more than a line may have, so that it is refused below.
                self.line.resize(MAX_LINE + 1, b' ');
            }
            if part.ends_with(b"\n") {
                self.end_of_line();
            }
        }
    }

    /// The log ends here.
    pub(crate) fn finish(&mut self) {
        if !self.line.is_empty() {
            self.lines += 1;
            self.line.clear();
            self.unreadable("it does not end with a line feed".into());
        }
    }

    fn end_of_line(&mut self) {
        self.lines += 1;
        let line = std::mem::take(&mut self.line);
        if line.len() > MAX_LINE {
            return self.unreadable(format!("it is longer than {MAX_LINE} bytes"));
        }
        match serde_json::from_slice::<StoredEvent>(&line) {
            Ok(event) => self.event(&event),
            Err(e) => self.unreadable(e.to_string()),
        }
    }

    fn unreadable(&mut self, why: String) {
        self.troubles.push((None, Trouble::LogLine { line: self.lines, why }));
        self.broken = true;
    }

    fn event(&mut self, event: &StoredEvent) {
        let author = AuthorFields::read(&event.author).ok();
        if !self.broken {
            match self.chain.push(event) {
                Ok((_, author)) => {
                    self.hashes.push(event.hash());
                    self.check_policy(&author);
                }
                Err(e) => self.broke(e, author.as_ref()),
            }
        }
        if let Some(author) = author {
            self.remember(&author);
        }
    }

    fn broke(&mut self, e: ChainError, author: Option<&AuthorFields>) {
        let seq = seq_of(&e);
        let note = author.map_or(EventNote { seq, kind: String::new(), captured_at_ms: 0 }, |a| note(seq, a));
        self.troubles.push((Some(note), Trouble::Chain(e)));
        self.broken = true;
    }

    fn check_policy(&mut self, author: &AuthorFields) {
        let Some(role) = self.chain.binding(&author.device).map(|b| b.role) else {
            return;
        };
        let allowed = match policy::verb_of(&author.kind) {
            None => role == policy::Role::Server,
            Some(_) if role == policy::Role::Server => author.kind == kind::SESSION_ENDED,
            Some(verb) => policy::allowed(role, verb, policy::Relation::Member),
        };
        if !allowed {
            self.troubles.push((Some(note(self.lines, author)), Trouble::NotAllowed { role }));
        }
    }

    fn remember(&mut self, author: &AuthorFields) {
        let event = note(self.lines, author);
        for digest in author.items() {
            self.items.entry(*digest).or_insert_with(|| event.clone());
        }
        self.from_ms.get_or_insert(author.captured_at_ms);
        self.to_ms = Some(author.captured_at_ms);
        if author.kind == kind::OPENED && self.number.is_none() {
            self.number = author.clear::<Opened>().ok().map(|o| o.number);
        }
        if author.kind == kind::GAP {
            self.gaps.extend(author.item);
        }
        if author.kind == kind::JOINED
            && let (Some(digest), Ok(joined)) = (author.item, author.clear::<Joined>())
        {
            self.vouchers.insert(digest, Vouched { event, author: author.author, case: self.case, joined });
        }
    }
}

fn note(seq: u64, author: &AuthorFields) -> EventNote {
    EventNote { seq, kind: author.kind.clone(), captured_at_ms: author.captured_at_ms }
}
