//! Where the picture of an instruction comes from: the ring, else the expert's Snapshot, else nothing (and says so).

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use lotse_protocol::{command::ItemRef, id::EventId, item};
use serde::Deserialize;

use super::{App, Own};
use crate::{
    core::Event,
    overlay::prepare::{From, Job, Made},
};

/// A relayed picture may come a little after its instruction.
const RELAY_WAIT: Duration = Duration::from_millis(1_500);
/// Relayed pictures and drawn ones kept; a session has few at a time.
const KEPT: usize = 24;

#[derive(Deserialize)]
struct RelayHead {
    instruction: EventId,
}

impl App {
    pub(super) fn prepare(&mut self, id: EventId) {
        let Some(frame) = self.core.instruction(id).map(|i| i.frame) else { return };
        match self.feed.lock().ok().and_then(|f| f.find(frame)) {
            Some(frames) => self.ask(id, From::Ring(frames)),
            None => self.fall_back(id),
        }
    }

    pub(super) async fn on_made(&mut self, made: Made) {
        if made.ring_failed {
            return self.fall_back(made.id);
        }
        tracing::info!("marked picture {:?} after {} frames in {} µs", made.origin, made.frames, made.took_us);
        self.timing.made(&made);
        if self.marked.len() >= KEPT {
            self.marked.clear();
        }
        self.marked.insert(made.id, made.marked);
        self.event(Event::PictureReady { instruction: made.id, origin: made.origin }).await;
    }

    pub(super) fn on_snapshot(&mut self, id: EventId, bytes: Option<Vec<u8>>) {
        self.ask(id, bytes.map_or(From::Nothing, From::Snapshot));
    }

    pub(super) fn on_late(&mut self, id: EventId) {
        let bytes = self.relayed.get(&id).cloned();
        self.on_snapshot(id, bytes);
    }

    /// A picture of a call without recording: kept in memory until it is drawn.
    pub(super) async fn on_relayed(&mut self, item: ItemRef) {
        let opened = item
            .bytes
            .and_then(|text| STANDARD.decode(text).ok())
            .zip(item.key)
            .and_then(|(sealed, key)| item::open_as(&item.digest, &key, &sealed).ok())
            .and_then(|plain| split(&plain));
        match opened {
            Some((id, picture)) => {
                if self.relayed.len() >= KEPT {
                    self.relayed.clear();
                }
                self.relayed.insert(id, picture);
            }
            None => tracing::warn!("a relayed picture is not readable"),
        }
    }

    fn fall_back(&mut self, id: EventId) {
        if let Some(picture) = self.relayed.get(&id) {
            return self.ask(id, From::Snapshot(picture.clone()));
        }
        let own = self.own.clone();
        match self.snapshots.get(&id).and_then(|s| Some((s.clone(), s.key?))).zip(self.case) {
            Some(((snapshot, key), (case, _))) => {
                let (api, now) = (self.api.clone(), self.clock.aligned_ms());
                tokio::spawn(async move {
                    let sealed = match snapshot.bytes.and_then(|t| STANDARD.decode(t).ok()) {
                        Some(sealed) => Some(sealed),
                        None => api.item(case, snapshot.digest, now).await.map_err(|e| tracing::warn!("{e}")).ok(),
                    };
                    let plain = sealed.and_then(|s| item::open_as(&snapshot.digest, &key, &s).ok());
                    let _ = own.send(Own::Snapshot(id, plain)).await;
                });
            }
            None => {
                tokio::spawn(async move {
                    tokio::time::sleep(RELAY_WAIT).await;
                    let _ = own.send(Own::Late(id)).await;
                });
            }
        }
    }

    fn ask(&mut self, id: EventId, from: From) {
        let Some(instruction) = self.core.instruction(id).cloned() else { return };
        if !self.preparer.ask(Job { id, instruction, from }) {
            tracing::warn!("too many marked pictures at once; say REPEAT for this one");
        }
    }
}

/// `u32 BE length | JSON | picture`.
fn split(plain: &[u8]) -> Option<(EventId, Vec<u8>)> {
    let (length, rest) = plain.split_first_chunk::<4>()?;
    let (head, picture) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    let head: RelayHead = serde_json::from_slice(head).ok()?;
    Some((head.instruction, picture.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relayed_picture_names_its_instruction_and_rubbish_is_refused() {
        let id = EventId(uuid::Uuid::now_v7());
        let head = format!(r#"{{"instruction":"{id}","mime":"image/webp"}}"#);
        let mut plain = (head.len() as u32).to_be_bytes().to_vec();
        plain.extend_from_slice(head.as_bytes());
        plain.extend_from_slice(b"webp");
        assert_eq!(split(&plain), Some((id, b"webp".to_vec())));
        for cut in 0..4 + head.len() {
            assert_eq!(split(&plain[..cut]), None, "{cut}");
        }
        assert_eq!(split(&[255; 40]), None);
    }
}
