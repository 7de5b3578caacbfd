//! What the glasses are doing: a plain state machine. Events and the time go in, actions come out, a view can be asked.
//!
//! Owns: who is in the session, what was answered, which instruction is shown, which words are offered now.
//! Never: a socket, a clock, a thread, a pixel. Elsewhere: doing the actions (`app`), drawing the view (`hud`).

pub mod instructions;
mod link;
mod log;
pub mod notice;
mod session;
pub mod view;
pub mod word;

use std::collections::HashMap;

use lotse_payload::{
    CaseCard, Instruction, JoinedPayload, Message, Outcome, case_card::OutcomeResult, geometry::PictureCoord,
    pointer::PointerMessage, receipt::PictureOrigin,
};
use lotse_protocol::{
    envelope::AuthorFields,
    id::{CaseId, EventId, FrameId, Pseudonym, SessionId},
    kind,
    session::Sessions,
    signal::Leg,
};
use serde_json::Value;

use self::{
    instructions::Instructions,
    link::{LinkWatch, Measured},
    notice::Notice,
};
pub use self::{view::View, word::Word};
use crate::{config::Language, link::ladder::Pictures};

/// A toast stays this long, ms.
const TOAST_MS: i64 = 8_000;
/// The red frame stays this long after the last sign of a pen, ms (the contract: 1 s).
const DRAWING_MS: i64 = 1_000;
/// Pointers come up to 60 times a second; the display follows this often, ms.
const POINTER_PAUSE_MS: i64 = 80;
/// Pictures are decoded ahead at most this often: an expert steps through earlier ones faster than they are worth it.
const AHEAD_PAUSE_MS: i64 = 200;
/// A lost socket is shown after this, ms: shorter ones heal by themselves.
const LINK_GRACE_MS: i64 = 1_500;

/// What stays the same while the program runs.
#[derive(Debug, Clone)]
pub struct Settings {
    pub language: Language,
    pub on_start: bool,
    /// A case of the last start will be opened first.
    pub remembers: bool,
    pub card: CaseCard,
}

/// One event of the case's log, its payload opened.
#[derive(Debug, Clone)]
pub struct LogEvent {
    pub author: AuthorFields,
    pub payload: Payload,
}

/// What was inside, for the kinds the glasses read.
#[derive(Debug, Clone)]
pub enum Payload {
    /// Nothing, not for us, or not readable: the envelope alone counts.
    None,
    Joined(JoinedPayload),
    Message(Message),
    Instruction(Instruction),
    Receipt(lotse_payload::ReceiptPayload),
    LinkState(lotse_payload::LinkStatePayload),
    RecordingStarted(lotse_payload::recording::RecordingStarted),
}

/// What happens to the glasses.
#[derive(Debug, Clone)]
pub enum Event {
    /// The live socket is there.
    Connected,
    Disconnected,
    /// The glasses are not enrolled, or enrolment failed: the sentence.
    NotPaired(String),
    /// Our place in the case. `fresh`: the case was opened by us just now.
    CaseOpened {
        case: CaseId,
        me: Pseudonym,
        fresh: bool,
    },
    /// The case remembered from the last start cannot be opened.
    CaseGone,
    /// A new case was not opened; the reason came as `Refused`.
    CaseFailed,
    Log(Box<LogEvent>),
    CaughtUp,
    Refused {
        code: String,
        message: String,
    },
    Archivist(bool),
    Pointer {
        from: Pseudonym,
        message: PointerMessage,
    },
    /// The media connection is up (or down).
    Media(bool),
    Legs(Vec<Leg>),
    /// What the way to the server carries, bit/s; `None`: nobody knows, or nothing was too much for it lately.
    Carries {
        bps: Option<f64>,
        pictures: Pictures,
    },
    /// The marked picture was drawn, or what could be had of it.
    PictureReady {
        instruction: EventId,
        origin: PictureOrigin,
    },
    /// The display has shown this.
    Presented {
        instruction: Option<EventId>,
    },
    Trouble(Device, Option<String>),
    /// Time passes.
    Tick,
}

/// The laser pointer on the live picture.
#[derive(Debug, Clone, Copy)]
struct Pointing {
    who: Pseudonym,
    at: PictureCoord,
    seen_ms: i64,
}

/// A device that may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Device {
    Camera,
    Microphone,
    Speaker,
}

/// What the shell has to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Create a case on the server and open it.
    OpenCase,
    /// Bind this start's case key.
    Join,
    Commit {
        kind: &'static str,
        session: Option<SessionId>,
        payload: Option<Value>,
    },
    JoinMedia(SessionId),
    LeaveMedia,
    /// Let pictures and voice out of the glasses, or not.
    Send(bool),
    /// Voice frames of 20 ms instead of 10.
    LongFrames(bool),
    /// Draw the marked picture of this instruction.
    Prepare(EventId),
    /// Somebody draws on this picture: it will be asked for.
    DecodeAhead(FrameId),
    /// Blank camera and microphone.
    Private(bool),
    /// Try the missing devices again.
    Retry,
    /// Keep the case and session for the next start, or forget them.
    Remember(Option<(CaseId, Option<SessionId>)>),
}

/// The state machine.
pub struct Core {
    settings: Settings,
    connected: bool,
    connection_lost_ms: Option<i64>,
    not_paired: Option<String>,
    case: Option<CaseId>,
    number: Option<String>,
    me: Option<Pseudonym>,
    /// This start has committed its `joined`.
    joined: bool,
    fresh: bool,
    caught_up: bool,
    /// What to remember after an end that was read while catching up, unless a call comes after it.
    ended_before: Option<Option<(CaseId, Option<SessionId>)>>,
    wants_call: bool,
    sessions: Sessions,
    names: HashMap<Pseudonym, String>,
    /// The session these glasses called.
    session: Option<SessionId>,
    /// This start has called it (again).
    called: bool,
    media: bool,
    joined_media: bool,
    sending: bool,
    long_frames: bool,
    archivist: bool,
    recording_since_ms: Option<i64>,
    legs: Vec<Leg>,
    carries_bps: Option<f64>,
    pictures: Pictures,
    link: LinkWatch,
    notice: Option<Notice>,
    notice_page: usize,
    /// Foreign clients the wearer was told of after the answer.
    told_of: Vec<Pseudonym>,
    instructions: Instructions,
    drawing: Option<(Pseudonym, i64)>,
    /// The picture decoded ahead last, and when.
    ahead: Option<(FrameId, i64)>,
    pointing: Option<Pointing>,
    ending: bool,
    private: bool,
    focus: usize,
    toast: Option<(String, i64)>,
    trouble: Vec<(Device, String, bool)>,
    ended: Option<view::Summary>,
}

impl Core {
    pub fn new(settings: Settings) -> Self {
        Self {
            wants_call: settings.on_start,
            settings,
            connected: false,
            connection_lost_ms: None,
            not_paired: None,
            case: None,
            number: None,
            me: None,
            joined: false,
            fresh: false,
            caught_up: false,
            ended_before: None,
            sessions: Sessions::default(),
            names: HashMap::new(),
            session: None,
            called: false,
            media: false,
            joined_media: false,
            sending: false,
            long_frames: false,
            archivist: false,
            recording_since_ms: None,
            legs: Vec::new(),
            carries_bps: None,
            pictures: Pictures::Moving,
            link: LinkWatch::default(),
            notice: None,
            notice_page: 0,
            told_of: Vec::new(),
            instructions: Instructions::default(),
            drawing: None,
            ahead: None,
            pointing: None,
            ending: false,
            private: false,
            focus: 0,
            toast: None,
            trouble: Vec::new(),
            ended: None,
        }
    }

    /// Takes an event; gives what is to be done, in order.
    pub fn event(&mut self, now_ms: i64, event: Event) -> Vec<Action> {
        let mut todo = Vec::new();
        match event {
            Event::Connected => self.on_connected(&mut todo),
            Event::Disconnected => {
                if std::mem::take(&mut self.connected) {
                    self.connection_lost_ms = Some(now_ms);
                }
                self.caught_up = false;
                // What asked for media may be lost with the link.
                self.joined_media &= self.media;
            }
            Event::NotPaired(why) => self.not_paired = Some(why),
            Event::CaseOpened { case, me, fresh } => {
                self.case = Some(case);
                self.me = Some(me);
                self.fresh |= fresh;
            }
            Event::CaseFailed => self.wants_call = false,
            Event::CaseGone => {
                self.forget_case();
                self.settings.remembers = false;
                todo.push(Action::Remember(None));
                if self.wants_call {
                    todo.push(Action::OpenCase);
                }
            }
            Event::Log(event) => self.on_log(now_ms, &event, &mut todo),
            Event::CaughtUp => self.on_caught_up(&mut todo),
            Event::Refused { code, message } => {
                tracing::warn!("refused: {code}: {message}");
                self.toast = Some((message, now_ms + TOAST_MS));
            }
            Event::Archivist(present) => self.archivist = present,
            Event::Pointer { from, message } => self.on_pointer(now_ms, from, &message, &mut todo),
            Event::Media(up) => {
                self.media = up;
                self.joined_media &= up;
            }
            Event::Legs(legs) => self.legs = legs,
            Event::Carries { bps, pictures } => (self.carries_bps, self.pictures) = (bps, pictures),
            Event::PictureReady { instruction, origin } => self.instructions.ready(instruction, origin),
            Event::Presented { instruction } => {
                if let Some(id) = instruction {
                    let receipt = self.instructions.presented(id, now_ms);
                    self.commit_receipts(receipt, &mut todo);
                }
            }
            Event::Trouble(device, why) => {
                self.trouble.retain(|t| t.0 != device);
                if let Some(why) = why {
                    self.trouble.push((device, why, false));
                    self.trouble.sort_by_key(|t| t.0);
                }
            }
            Event::Tick => {
                self.watch_link(now_ms, &mut todo);
                if matches!(self.screen_name(now_ms), "instruction") {
                    let receipt = self.instructions.tick(now_ms);
                    self.commit_receipts(receipt, &mut todo);
                }
            }
        }
        self.settle(now_ms, &mut todo);
        todo
    }

    /// Somebody said, pressed or sent a word. `Err`: why it does nothing now, in the display's language.
    pub fn word(&mut self, now_ms: i64, word: Word) -> Result<Vec<Action>, &'static str> {
        if word == Word::Tap || word == Word::Hold {
            return self.button(now_ms, word);
        }
        if !self.offered(now_ms).iter().any(|c| c.word == word) {
            return Err(self.why_not(word));
        }
        let mut todo = Vec::new();
        // Any input while an instruction is shown is a sign that it was seen.
        if self.screen_name(now_ms) == "instruction" {
            let receipt = self.instructions.seen(now_ms);
            self.commit_receipts(receipt, &mut todo);
        }
        self.focus = 0;
        let session = self.session;
        let commit = |kind| Action::Commit { kind, session, payload: None };
        match word {
            Word::Call => {
                self.wants_call = true;
                self.ended = None;
                match self.case {
                    Some(_) if self.caught_up => self.call(&mut todo),
                    _ => todo.push(Action::OpenCase),
                }
            }
            Word::YesRecord => todo.push(commit(kind::CONSENT_RECORD)),
            Word::CallOnly | Word::StopRecording => todo.push(commit(kind::CONSENT_CALL_ONLY)),
            Word::RefuseCall => todo.push(commit(kind::CONSENT_REFUSED)),
            Word::Done | Word::Refuse => {
                let receipt = self.instructions.answer(word == Word::Done, now_ms);
                self.commit_receipts(receipt, &mut todo);
                if let Some(next) = self.instructions.current_id()
                    && !self.instructions.is_ready(next)
                {
                    todo.push(Action::Prepare(next));
                }
            }
            Word::Repeat => match self.instructions.current_id() {
                Some(id) if self.screen_name(now_ms) == "instruction" => todo.push(Action::Prepare(id)),
                _ => {
                    self.trouble.clear();
                    todo.push(Action::Retry);
                }
            },
            Word::Next | Word::Back => {
                if self.notice.is_some() && self.needs_answer() {
                    self.notice_page = usize::from(word == Word::Next);
                } else if let Some(id) = self.instructions.turn(word == Word::Next) {
                    todo.push(Action::Prepare(id));
                }
            }
            Word::EndCall => {
                if self.ending {
                    self.end(&mut todo);
                } else {
                    self.ending = true;
                }
            }
            Word::Confirm => {
                if self.ending {
                    self.end(&mut todo);
                } else if let Some(t) = self.trouble.iter_mut().find(|t| !t.2) {
                    t.2 = true;
                }
            }
            Word::Cancel => {
                if self.ending {
                    self.ending = false;
                } else {
                    self.end(&mut todo);
                }
            }
            Word::Privacy => {
                self.private = !self.private;
                todo.push(Action::Private(self.private));
            }
            Word::Tap | Word::Hold => {}
        }
        self.settle(now_ms, &mut todo);
        Ok(todo)
    }

    /// The words for a case about to be opened.
    pub fn set_card(&mut self, card: CaseCard) {
        self.settings.card = card;
    }

    /// Is the media connection up?
    pub fn has_media(&self) -> bool {
        self.media
    }

    pub fn language(&self) -> Language {
        self.settings.language
    }

    pub fn session_id(&self) -> Option<SessionId> {
        self.session
    }

    pub fn instruction(&self, id: EventId) -> Option<&Instruction> {
        self.instructions.get(id)
    }

    /// One button: short moves the focus, long chooses.
    fn button(&mut self, now_ms: i64, word: Word) -> Result<Vec<Action>, &'static str> {
        let l = self.settings.language;
        let nothing = l.t("jetzt gibt es nichts zu wählen", "nothing can be chosen now");
        let commands: Vec<Word> = self.offered(now_ms).iter().map(|c| c.word).collect();
        if commands.is_empty() {
            return Err(nothing);
        }
        if word == Word::Tap {
            // Where nothing is preselected, 0 means none.
            self.focus =
                if self.needs_answer() { self.focus % commands.len() + 1 } else { (self.focus + 1) % commands.len() };
            return Ok(Vec::new());
        }
        if self.needs_answer() && self.focus == 0 {
            // No preselected answer: the first tap chooses one.
            return Err(l.t("erst antippen: keine Antwort ist vorgewählt", "tap first: no answer is preselected"));
        }
        let index = if self.needs_answer() { self.focus - 1 } else { self.focus };
        let chosen = commands.get(index).copied().ok_or(nothing)?;
        self.word(now_ms, chosen)
    }

    fn on_connected(&mut self, todo: &mut Vec<Action>) {
        self.connected = true;
        self.connection_lost_ms = None;
        self.not_paired = None;
        // A media connection outlives a short loss of the socket.
        self.joined_media = self.media;
        // The shell opens a case it remembers by itself, and then says so or says `CaseGone`.
        if self.case.is_none() && self.wants_call && !self.settings.remembers {
            todo.push(Action::OpenCase);
        }
    }

    fn on_caught_up(&mut self, todo: &mut Vec<Action>) {
        self.caught_up = true;
        let ended_before = self.ended_before.take();
        if !std::mem::replace(&mut self.joined, true) {
            todo.push(Action::Join);
            if std::mem::take(&mut self.fresh) {
                let payload = serde_json::to_value(&self.settings.card).ok();
                todo.push(Action::Commit { kind: kind::CARD, session: None, payload });
            }
        }
        self.instructions.caught_up();
        let open = self.sessions.open().filter(|s| Some(s.caller) == self.me).map(|s| s.id);
        match open {
            Some(id) => {
                self.session = Some(id);
                let present = self.participant().is_some_and(|p| p.1);
                if !self.called || !present {
                    self.called = true;
                    todo.push(Action::Commit { kind: kind::SESSION_CALLED, session: Some(id), payload: None });
                }
                if let Some(case) = self.case {
                    todo.push(Action::Remember(Some((case, Some(id)))));
                }
                if let Some(id) = self.instructions.current_id().filter(|&id| !self.instructions.is_ready(id)) {
                    todo.push(Action::Prepare(id));
                }
            }
            None if self.session.is_some() && self.called && self.ended.is_none() => {
                // Called, but the log does not have it yet: the shell sends it again.
            }
            None if self.wants_call => self.call(todo),
            None => todo.extend(ended_before.map(Action::Remember)),
        }
    }

    /// A new session in the case at hand.
    fn call(&mut self, todo: &mut Vec<Action>) {
        let id = SessionId(uuid::Uuid::now_v7());
        self.session = Some(id);
        self.called = true;
        self.wants_call = false;
        self.ended = None;
        self.instructions = Instructions::default();
        self.link.restore(None);
        todo.push(Action::Commit { kind: kind::SESSION_CALLED, session: Some(id), payload: None });
        if let Some(case) = self.case {
            todo.push(Action::Remember(Some((case, Some(id)))));
        }
    }

    fn end(&mut self, todo: &mut Vec<Action>) {
        self.ending = false;
        let outcome = Outcome { result: OutcomeResult::Open, note: String::new() };
        let payload = serde_json::to_value(outcome).ok();
        todo.push(Action::Commit { kind: kind::SESSION_ENDED, session: self.session, payload });
    }

    fn commit_receipts(&self, receipts: Vec<lotse_payload::ReceiptPayload>, todo: &mut Vec<Action>) {
        for receipt in receipts {
            let payload = serde_json::to_value(&receipt).ok();
            todo.push(Action::Commit { kind: kind::RECEIPT, session: self.session, payload });
        }
    }

    /// Says how good the link is; while an expert is there, the case keeps it.
    fn watch_link(&mut self, now_ms: i64, todo: &mut Vec<Action>) {
        let mine = self.legs.iter().find(|l| Some(l.who) == self.me).filter(|_| self.media);
        let measured = Measured {
            lost_since_ms: self.link_lost(now_ms),
            bps: self.carries_bps,
            pictures: self.pictures,
            rtt_ms: mine.and_then(|l| l.rtt_ms),
            loss_pct: mine.map_or(0.0, |l| l.loss_up_pct.max(l.loss_down_pct)),
        };
        self.link.step(now_ms, &measured);
        if self.may_send()
            && let Some(state) = self.link.unfiled(now_ms, &measured)
        {
            let payload = serde_json::to_value(state).ok();
            todo.push(Action::Commit { kind: kind::LINK_STATE, session: self.session, payload });
        }
    }

    fn forget_case(&mut self) {
        self.case = None;
        self.number = None;
        self.me = None;
        self.joined = false;
        self.session = None;
        self.called = false;
        self.caught_up = false;
        self.ended_before = None;
        self.sessions = Sessions::default();
        self.instructions = Instructions::default();
    }
}

#[cfg(test)]
mod tests;
