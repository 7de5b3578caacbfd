//! Reads the case's log: checks that it holds together, opens what the glasses need, gives it to the core.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use lotse_payload::{
    Instruction, JoinedPayload, LinkStatePayload, Message, ReceiptPayload, recording::RecordingStarted,
};
use lotse_protocol::{
    chain::Chain,
    command::{ItemRef, SentEvent},
    envelope::{AuthorFields, ServerFields},
    id::CaseId,
    item, kind,
};
use serde::de::DeserializeOwned;

use super::App;
use crate::core::{Event, LogEvent, Payload};

/// Pictures of instructions known by digest; the oldest is forgotten.
const SNAPSHOTS: usize = 200;

impl App {
    pub(super) async fn on_log_event(&mut self, case: CaseId, sent: SentEvent) {
        if self.case.is_none_or(|c| c.0 != case) {
            return;
        }
        let chain = self.chain.get_or_insert_with(|| Chain::new(case));
        if chain.head().case != case {
            *chain = Chain::new(case);
        }
        // Sent twice around a reconnect: known already.
        if ServerFields::read(&sent.event.server).is_ok_and(|s| s.case == case && s.seq <= chain.head().seq) {
            return;
        }
        let author = match chain.push(&sent.event) {
            Ok((_, author)) => author,
            Err(e) => {
                tracing::error!("the case's log does not hold together: {e}");
                let message = format!("{e}");
                return self.event(Event::Refused { code: "broken_log".into(), message }).await;
            }
        };
        if let Some(own) = &mut self.author {
            own.settled(author.id);
        }
        let payload = self.payload(case, &author, &sent.items).await;
        if author.kind == kind::INSTRUCTION {
            self.keep_snapshot(&author, &sent.items);
        }
        self.event(Event::Log(Box::new(LogEvent { author, payload }))).await;
    }

    async fn payload(&self, case: CaseId, author: &AuthorFields, items: &[ItemRef]) -> Payload {
        let kind = author.kind.as_str();
        let read_here = matches!(
            kind,
            kind::JOINED
                | kind::MESSAGE
                | kind::INSTRUCTION
                | kind::RECEIPT
                | kind::LINK_STATE
                | kind::RECORDING_STARTED
        );
        if !read_here {
            return Payload::None;
        }
        let Some(plain) = self.open_item(case, author, items).await else { return Payload::None };
        let opened = match kind {
            kind::JOINED => read::<JoinedPayload>(&plain).map(Payload::Joined),
            kind::MESSAGE => read::<Message>(&plain).map(Payload::Message),
            kind::INSTRUCTION => read::<Instruction>(&plain).map(Payload::Instruction),
            kind::RECEIPT => read::<ReceiptPayload>(&plain).map(Payload::Receipt),
            kind::LINK_STATE => read::<LinkStatePayload>(&plain).map(Payload::LinkState),
            _ => read::<RecordingStarted>(&plain).map(Payload::RecordingStarted),
        };
        opened.unwrap_or(Payload::None)
    }

    async fn open_item(&self, case: CaseId, author: &AuthorFields, items: &[ItemRef]) -> Option<Vec<u8>> {
        let digest = author.item?;
        let found = items.iter().find(|i| i.digest == digest)?;
        let key = found.key?;
        let sealed = match &found.bytes {
            Some(text) => STANDARD.decode(text).ok()?,
            None => {
                self.api.item(case, digest, self.clock.aligned_ms()).await.map_err(|e| tracing::warn!("{e}")).ok()?
            }
        };
        item::open_as(&digest, &key, &sealed).map_err(|e| tracing::warn!("{} {}: {e}", author.kind, author.id)).ok()
    }

    fn keep_snapshot(&mut self, author: &AuthorFields, items: &[ItemRef]) {
        let picture = author.attachments.first().and_then(|d| items.iter().find(|i| i.digest == *d));
        if let Some(picture) = picture {
            if self.snapshots.len() >= SNAPSHOTS {
                self.snapshots.clear();
            }
            self.snapshots.insert(author.id, picture.clone());
        }
    }
}

fn read<T: DeserializeOwned>(plain: &[u8]) -> Option<T> {
    serde_json::from_slice(plain).map_err(|e| tracing::warn!("a payload is not readable: {e}")).ok()
}
