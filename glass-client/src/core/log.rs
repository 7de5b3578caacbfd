//! What the core learns from the case's log and from the pointer channel.

use lotse_payload::pointer::PointerMessage;
use lotse_protocol::{
    envelope::{AuthorFields, GatewayJoined, Opened},
    id::Pseudonym,
    kind,
};

use super::{
    AHEAD_PAUSE_MS, Action, Core, DRAWING_MS, LogEvent, POINTER_PAUSE_MS, Payload, Pointing, TOAST_MS,
    instructions::Instructions, view,
};

impl Core {
    pub(super) fn on_log(&mut self, now_ms: i64, event: &LogEvent, todo: &mut Vec<Action>) {
        let e = &event.author;
        self.sessions.apply(e);
        let ours = e.session.is_some() && e.session == self.session;
        match (e.kind.as_str(), &event.payload) {
            (kind::OPENED, _) => self.number = e.clear::<Opened>().ok().map(|o| o.number),
            (kind::JOINED, Payload::Joined(p)) => {
                self.names.insert(e.author, p.name.clone());
            }
            (kind::GATEWAY_JOINED, _) => {
                if let Ok(joined) = e.clear::<GatewayJoined>() {
                    self.names.insert(joined.who, joined.name);
                }
            }
            (kind::MESSAGE, Payload::Message(m)) if Some(e.author) != self.me && self.caught_up => {
                let text = m.file.as_ref().map_or_else(|| m.text.clone(), |f| format!("{} {}", f.name, m.text));
                self.toast = Some((format!("{}: {}", self.name(e.author), text.trim()), now_ms + TOAST_MS));
            }
            (kind::RECORDING_STARTED, Payload::RecordingStarted(p)) => self.recording_since_ms = Some(p.at_ms),
            (kind::RECORDING_STARTED, _) => self.recording_since_ms = Some(e.captured_at_ms),
            (kind::RECORDING_STOPPED, _) => self.recording_since_ms = None,
            (kind::INSTRUCTION, Payload::Instruction(i)) if e.session.is_some() && i.is_sane() => {
                let from = e.author;
                self.instructions.add(e.id, from, e.captured_at_ms, i.clone(), self.caught_up);
                if self.caught_up && ours {
                    self.drawing = None;
                    todo.push(Action::Prepare(e.id));
                }
            }
            (kind::RECEIPT, Payload::Receipt(r)) if Some(e.author) == self.me => self.instructions.restore(r),
            (kind::LINK_STATE, Payload::LinkState(s)) if Some(e.author) == self.me && !self.caught_up => {
                self.link.restore(Some(s));
            }
            (kind::SESSION_CALLED, _) if Some(e.author) == self.me && !self.caught_up => {
                // A new session clears the steps of the one before.
                if self.session != e.session {
                    self.instructions = Instructions::default();
                    self.link.restore(None);
                }
                self.session = e.session;
                self.ended = None;
            }
            (kind::SESSION_ENDED, _) if ours => self.on_ended(e, todo),
            _ => {}
        }
    }

    fn on_ended(&mut self, e: &AuthorFields, todo: &mut Vec<Action>) {
        let by_person = self.sessions.roles.contains_key(&e.author);
        let (done, refused, open) = self.instructions.tally();
        self.ended = Some(view::Summary {
            by: (by_person && Some(e.author) != self.me).then(|| self.name(e.author)),
            done,
            refused,
            open,
        });
        self.session = None;
        self.called = false;
        self.ending = false;
        self.recording_since_ms = None;
        self.drawing = None;
        self.pointing = None;
        self.notice = None;
        self.joined_media = false;
        self.media = false;
        if let Some(case) = self.case {
            // Ended by a person: the next start begins a new case. Ended by the server: it goes on in this one.
            let next = (!by_person).then_some((case, None));
            // While the log is read again this may be an end of long ago, and the call in hand comes after it.
            if self.caught_up {
                todo.push(Action::Remember(next));
            } else {
                self.ended_before = Some(next);
            }
        }
        todo.push(Action::LeaveMedia);
        if self.caught_up {
            self.wants_call = false;
        } else if !by_person {
            // Given up by the server while the link was lost: nobody wanted the end, so the call goes on.
            self.wants_call = true;
        }
    }

    pub(super) fn on_pointer(
        &mut self,
        now_ms: i64,
        from: Pseudonym,
        message: &PointerMessage,
        todo: &mut Vec<Action>,
    ) {
        match message {
            PointerMessage::Drawing => {
                self.drawing = Some((from, now_ms + DRAWING_MS));
            }
            // The marks are for the other experts; the wearer sees them once they are sent, and then at once.
            PointerMessage::Marking { frame, mark: Some(_), .. } => {
                let again = self.ahead.is_some_and(|(known, at)| known == *frame || now_ms - at < AHEAD_PAUSE_MS);
                if self.sending && !again {
                    self.ahead = Some((*frame, now_ms));
                    todo.push(Action::DecodeAhead(*frame));
                }
            }
            PointerMessage::Marking { mark: None, .. } => {}
            PointerMessage::Off => {
                self.drawing = None;
                self.pointing = None;
            }
            PointerMessage::Pointer { at, .. } => {
                if self.pointing.is_none_or(|p| now_ms - p.seen_ms >= POINTER_PAUSE_MS) {
                    self.pointing = Some(Pointing { who: from, at: *at, seen_ms: now_ms });
                }
            }
        }
    }
}
