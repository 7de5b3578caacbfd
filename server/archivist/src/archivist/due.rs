//! What is due in a case, seen from where it stands now: join it, tell what a crash left, record, end, forget.
//!
//! Every step may be taken again at any time. Never: waits for an answer; what the log says next brings it here once more.
//! Elsewhere: who calls (`archivist`), what a start finds on the disk (`journal`), the recording itself (`recorder`).

use std::time::Instant;

use lotse_payload::recording::{GapPayload, GapWhy, RecordingStopped, StopWhy};
use lotse_protocol::{
    command::ClientMessage,
    id::{CaseId, Digest, SessionId},
    kind,
};

use super::{Active, Archivist, send};
use crate::{error::Result, journal::Journal, link::Steady, recorder::Recorder, recording::Recording};

/// Gaps shorter than this are not worth an event, µs.
const SMALL_US: i64 = 500_000;

impl Archivist {
    /// Looks at a case and does what is due. Safe to call at any time.
    pub(super) fn evaluate(&mut self, id: CaseId) -> Result<()> {
        let now_ms = self.clock.now_ms();
        let Some(live) = self.cases.get_mut(&id) else { return Ok(()) };
        if live.broken {
            return Ok(());
        }
        let was_wanted = !live.wanted.is_empty();
        live.wanted.retain(|done| !done.is_closed());
        let session = self.calls.get(&id).copied();
        if live.case.outsider {
            if session.is_some() || !live.wanted.is_empty() {
                for message in live.case.join(session, &self.name, &self.keys.device_key(), now_ms)? {
                    send(&self.say, message);
                }
            } else if was_wanted {
                // Nobody waits for it any more.
                send(&self.say, ClientMessage::CloseCase { case: id });
                self.cases.remove(&id);
            }
            return Ok(());
        }
        if !live.case.caught_up {
            return Ok(());
        }
        for done in live.wanted.drain(..) {
            // Gone: it waited too long.
            let _ = done.send(());
        }
        self.recover(id)?;
        let Some(live) = self.cases.get_mut(&id) else { return Ok(()) };
        let open = live.case.sessions.open().cloned();
        if let Some(active) = &mut live.active
            && open.as_ref().is_none_or(|s| s.id != active.session)
        {
            if !active.closing {
                active.closing = true;
                active.leg = None;
                active.recording.allow(false, StopWhy::SessionEnded);
                active.recording.close();
            }
            return Ok(());
        }
        let Some(session) = open else {
            self.settle(id);
            return Ok(());
        };
        for message in live.case.join(Some(session.id), &self.name, &self.keys.device_key(), now_ms)? {
            send(&self.say, message);
        }
        if !live.case.is_present(&session) {
            return Ok(());
        }
        if live.active.is_none() {
            self.start(id, session.id)?;
        }
        if let Some(active) = self.cases.get(&id).and_then(|l| l.active.as_ref()) {
            active.recording.allow(session.may_record(), StopWhy::NotAllowed);
        }
        Ok(())
    }

    /// Tells the log what a crash left on the disk.
    fn recover(&mut self, id: CaseId) -> Result<()> {
        if self.cases.get(&id).is_none_or(|live| live.active.is_some() || live.recovered.is_some()) {
            return Ok(());
        }
        let mut found = match tokio::task::block_in_place(|| Journal::open(&self.data, id, &self.keys)) {
            Ok(found) => {
                self.set_trouble("");
                found
            }
            Err(e) => {
                // Tried again with every tick; the call goes on without a recording, and healthz says so.
                self.set_trouble(&e.to_string());
                return Ok(());
            }
        };
        let Some(live) = self.cases.get_mut(&id) else { return Ok(()) };
        let now_ms = self.clock.now_ms();
        for finished in std::mem::take(&mut found.waiting) {
            if !live.case.has_media(&finished.payload.media) {
                tracing::info!(case = %id, media = %finished.payload.media, "a fragment saved from the journal");
                if let Some(message) = live.case.segment(&finished, now_ms)? {
                    send(&self.say, message);
                }
            }
        }
        let interrupted: Vec<(SessionId, i64)> = live.case.recording.iter().map(|(s, ms)| (*s, *ms)).collect();
        for (session, since_ms) in interrupted {
            let at_ms = found.ends.values().map(|us| us / 1000).max().unwrap_or(since_ms).max(since_ms);
            let stopped = RecordingStopped { at_ms, why: StopWhy::ArchivistRestarted };
            let message =
                live.case.commit(kind::RECORDING_STOPPED, Some(session), Some(&stopped), &[], None, now_ms)?;
            message.into_iter().for_each(|m| send(&self.say, m));
            // Over by now: the missing end is a gap. Still open: the gap ends when media comes again.
            let ended = live.case.sessions.get(session).and_then(|s| s.ended_at_ms);
            if let Some(ended_ms) = ended {
                for (owner, from_us) in std::mem::take(&mut found.ends) {
                    let to_us = ended_ms * 1000;
                    if to_us - from_us > SMALL_US {
                        let gap = GapPayload { owner, track: None, from_us, to_us, why: GapWhy::ArchivistDown };
                        let message = live.case.commit(kind::GAP, Some(session), Some(&gap), &[], None, now_ms)?;
                        message.into_iter().for_each(|m| send(&self.say, m));
                    }
                }
            } else {
                found.down = std::mem::take(&mut found.ends);
            }
        }
        live.recovered = Some(found);
        Ok(())
    }

    fn start(&mut self, id: CaseId, session: SessionId) -> Result<()> {
        let Some(live) = self.cases.get_mut(&id) else { return Ok(()) };
        let Some(found) = live.recovered.take() else { return Ok(()) };
        self.set_trouble("");
        let Some(live) = self.cases.get_mut(&id) else { return Ok(()) };
        let recorder = Recorder::new(session, self.keys.clone(), found.journal, found.resume, found.down);
        let recording = Recording::start(id, recorder, Steady::new(self.clock.clone()), self.recordings_told.clone())
            .map_err(crate::error::ArchivistError::disk("a thread for", &self.data))?;
        tracing::info!(case = %id, %session, "joined a session");
        send(&self.say, ClientMessage::RtcJoin { case: id, session, publish: Vec::new() });
        live.active = Some(Active { session, recording, leg: None, asked: Instant::now(), closing: false });
        Ok(())
    }

    /// No session is open: forgets keys that are in the log, and the case once nothing is left to say.
    fn settle(&mut self, id: CaseId) {
        let Some(live) = self.cases.get_mut(&id) else { return };
        if !live.case.is_settled() || live.active.is_some() {
            return;
        }
        if let Some(found) = live.recovered.take() {
            let media: Vec<Digest> = live.case.media().iter().copied().collect();
            let mut journal = found.journal;
            if let Err(e) = tokio::task::block_in_place(|| journal.forget(&media)) {
                tracing::warn!(case = %id, "the index could not be shortened: {e}");
            }
        }
        if !self.calls.contains_key(&id) {
            send(&self.say, ClientMessage::CloseCase { case: id });
            self.cases.remove(&id);
        }
    }
}
