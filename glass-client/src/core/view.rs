//! What is to be seen now, and which words are offered: asked of the core, drawn by `hud`, listed by the wear page.

use lotse_payload::{
    Instruction, LinkState, LinkTrouble, ReceiptState, geometry::PictureCoord, receipt::PictureOrigin,
};
use lotse_protocol::{id::EventId, session::Answer};

use super::{Core, DRAWING_MS, Device, LINK_GRACE_MS, Word, notice::Notice};
use crate::config::Language;

/// Everything the display shows.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    pub language: Language,
    pub status: Status,
    pub screen: Screen,
    pub commands: Vec<Command>,
    pub toast: Option<String>,
}

/// The line on top.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    pub case: Option<String>,
    pub recording: Recording,
    pub link: Link,
    pub watchers: Vec<String>,
    pub private: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recording {
    Off,
    /// Allowed by everybody; the archivist has not begun.
    Starting,
    On {
        since_ms: i64,
    },
    /// It runs, but nothing of the wearer reaches it.
    Paused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    Connecting,
    Good,
    Poor(LinkState, LinkTrouble),
    Lost,
}

/// The part below.
#[derive(Debug, Clone, PartialEq)]
pub enum Screen {
    Starting,
    NotPaired {
        why: String,
    },
    Home,
    Calling {
        since_ms: Option<i64>,
        connected: bool,
    },
    Consent {
        notice: Notice,
        more: bool,
    },
    /// The technician has said no to all media.
    NoMedia {
        watchers: Vec<String>,
    },
    Live {
        devices: Vec<Device>,
        media: bool,
    },
    Drawing {
        who: String,
    },
    /// The laser pointer: shown on the camera's picture, because a dot on the world would be in the wrong place.
    Pointing {
        who: String,
        at: PictureCoord,
    },
    Instruction(Box<Shown>),
    EndConfirm {
        recording_since_ms: Option<i64>,
        done: usize,
        open: usize,
        in_call: bool,
    },
    Ended(Summary),
    Trouble {
        device: Device,
        why: String,
    },
    LinkLost {
        since_ms: i64,
        in_call: bool,
    },
}

/// The instruction on the display.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    pub id: EventId,
    pub from: String,
    pub at_ms: i64,
    pub instruction: Instruction,
    pub place: (usize, usize),
    pub picture: Option<PictureOrigin>,
    pub state: Option<ReceiptState>,
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Who ended it, unless it was the technician or the server.
    pub by: Option<String>,
    pub done: usize,
    pub refused: usize,
    pub open: usize,
}

/// One thing that can be said now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    pub word: Word,
    /// As spoken and shown.
    pub label: &'static str,
    /// The button would choose this one.
    pub focus: bool,
    /// Shown on the display (the live view keeps free of them).
    pub on_hud: bool,
}

impl Screen {
    pub fn name(&self) -> &'static str {
        match self {
            Screen::Starting => "starting",
            Screen::NotPaired { .. } => "not-paired",
            Screen::Home => "home",
            Screen::Calling { .. } => "calling",
            Screen::Consent { more: false, .. } => "consent",
            Screen::Consent { more: true, .. } => "consent-more",
            Screen::NoMedia { .. } => "no-media",
            Screen::Live { .. } => "live",
            Screen::Drawing { .. } => "drawing",
            Screen::Pointing { .. } => "pointing",
            Screen::Instruction(_) => "instruction",
            Screen::EndConfirm { .. } => "end-confirm",
            Screen::Ended(_) => "ended",
            Screen::Trouble { .. } => "trouble",
            Screen::LinkLost { .. } => "link-lost",
        }
    }
}

impl Language {
    /// One of two.
    pub fn t(self, de: &'static str, en: &'static str) -> &'static str {
        match self {
            Language::De => de,
            Language::En => en,
        }
    }
}

impl Core {
    pub fn view(&self, now_ms: i64) -> View {
        View {
            language: self.settings.language,
            status: self.status(now_ms),
            screen: self.screen(now_ms),
            commands: self.offered(now_ms),
            toast: self.toast.as_ref().filter(|t| now_ms < t.1).map(|t| t.0.clone()),
        }
    }

    pub(super) fn screen_name(&self, now_ms: i64) -> &'static str {
        self.screen(now_ms).name()
    }

    pub(super) fn link_lost(&self, now_ms: i64) -> Option<i64> {
        self.connection_lost_ms.filter(|&since| now_ms - since >= LINK_GRACE_MS)
    }

    fn status(&self, now_ms: i64) -> Status {
        let link = match (self.connected, self.connection_lost_ms) {
            (true, _) => self.link.trouble().map_or(Link::Good, |(state, why)| Link::Poor(state, why)),
            (false, Some(_)) if self.link_lost(now_ms).is_some() => Link::Lost,
            (false, _) => Link::Connecting,
        };
        // Without a link and without media nothing reaches the archivist or anybody.
        let reached = self.link_lost(now_ms).is_none() || self.media;
        let allowed = reached && self.open_session().is_some_and(|s| s.may_record());
        let recording = match self.recording_since_ms {
            // A lost archivist cannot say that it stopped; without it nothing is kept.
            Some(since_ms) if allowed && self.media => Recording::On { since_ms },
            Some(_) if allowed => Recording::Paused,
            _ if allowed => Recording::Starting,
            _ => Recording::Off,
        };
        let watching = reached && self.may_send();
        let watchers = self
            .open_session()
            .filter(|_| watching)
            .map(|s| {
                let watching = self.experts().chain(self.watching_gateways());
                watching.filter(|who| s.may_call(*who)).map(|who| self.name(who)).collect()
            })
            .unwrap_or_default();
        Status { case: self.number.clone(), recording, link, watchers, private: self.private }
    }

    fn screen(&self, now_ms: i64) -> Screen {
        let session = self.open_session();
        let in_call = session.is_some();
        if let Some(why) = &self.not_paired {
            return Screen::NotPaired { why: why.clone() };
        }
        if self.ending {
            let (done, refused, open) = self.instructions.tally();
            return Screen::EndConfirm {
                recording_since_ms: self.recording_since_ms,
                done,
                open: open + refused,
                in_call: self.experts().next().is_some(),
            };
        }
        if let Some(since_ms) = self.link_lost(now_ms) {
            return Screen::LinkLost { since_ms, in_call };
        }
        if let Some(notice) = &self.notice {
            return Screen::Consent { notice: notice.clone(), more: self.notice_page > 0 };
        }
        if in_call && let Some(item) = self.instructions.shown() {
            return Screen::Instruction(Box::new(Shown {
                id: item.id,
                from: self.name(item.from),
                at_ms: item.at_ms,
                instruction: item.instruction.clone(),
                place: self.instructions.place(item.id),
                picture: item.picture,
                state: item.state,
            }));
        }
        if let Some((device, why, _)) = self.trouble.iter().find(|t| !t.2) {
            return Screen::Trouble { device: *device, why: why.clone() };
        }
        match (session, self.session) {
            (Some(s), _) => match self.answer() {
                Some(Answer::Refused) => Screen::NoMedia { watchers: self.experts().map(|e| self.name(e)).collect() },
                Some(_) if self.experts().next().is_some() => match self.drawing {
                    Some((who, until)) if now_ms < until => Screen::Drawing { who: self.name(who) },
                    _ => match self.pointing.filter(|p| now_ms - p.seen_ms < DRAWING_MS) {
                        Some(p) => Screen::Pointing { who: self.name(p.who), at: p.at },
                        None => Screen::Live { devices: self.trouble.iter().map(|t| t.0).collect(), media: self.media },
                    },
                },
                _ => Screen::Calling { since_ms: Some(s.called_at_ms), connected: self.connected },
            },
            (None, Some(_)) => Screen::Calling { since_ms: None, connected: self.connected },
            (None, None) => match &self.ended {
                Some(summary) => Screen::Ended(summary.clone()),
                None if self.connected && !self.wants_call => Screen::Home,
                None => Screen::Starting,
            },
        }
    }

    /// What can be said now.
    pub fn offered(&self, now_ms: i64) -> Vec<Command> {
        use Word::*;
        let l = self.settings.language;
        let mut list: Vec<(Word, &'static str, bool)> = Vec::new();
        let recording = self.answer() == Some(Answer::Record);
        let screen = self.screen(now_ms);
        match &screen {
            Screen::Home | Screen::Ended(_) => list.push((Call, l.t("EXPERTEN RUFEN", "CALL EXPERT"), true)),
            Screen::Calling { .. } => list.push((Cancel, l.t("ANRUF ABBRECHEN", "CANCEL CALL"), true)),
            Screen::Consent { notice, more } => {
                if notice.archivist.is_some() {
                    list.push((YesRecord, l.t("JA AUFNEHMEN", "YES RECORD"), true));
                }
                list.push((CallOnly, l.t("OHNE AUFNAHME ANRUFEN", "CALL WITHOUT RECORDING"), true));
                list.push((RefuseCall, l.t("NEIN DANKE", "NO THANK YOU"), true));
                list.push(match more {
                    false => (Next, l.t("MEHR ZEIGEN", "SHOW MORE"), true),
                    true => (Back, l.t("ZURÜCK GEHEN", "GO BACK"), true),
                });
            }
            Screen::NoMedia { .. } => {
                list.push((CallOnly, l.t("OHNE AUFNAHME ANRUFEN", "CALL WITHOUT RECORDING"), true));
            }
            Screen::Instruction(_) => {
                list.push((Done, l.t("ERLEDIGT", "STEP DONE"), true));
                list.push((Repeat, l.t("WIEDERHOLEN", "REPEAT"), true));
                list.push((Refuse, l.t("ABLEHNEN", "REFUSE"), true));
                if self.instructions.open_count() > 1 {
                    list.push((Next, l.t("NÄCHSTER SCHRITT", "NEXT STEP"), true));
                    list.push((Back, l.t("SCHRITT ZURÜCK", "STEP BACK"), false));
                }
            }
            Screen::EndConfirm { .. } => {
                list.push((Cancel, l.t("WEITER SPRECHEN", "KEEP TALKING"), true));
                list.push((Confirm, l.t("GESPRÄCH BEENDEN", "END CALL"), true));
            }
            Screen::Trouble { device, .. } => {
                list.push((Repeat, l.t("NOCHMAL SUCHEN", "SEARCH AGAIN"), true));
                let without = match device {
                    Device::Camera => l.t("OHNE BILD WEITER", "GO ON BY VOICE"),
                    _ => l.t("TROTZDEM WEITER", "GO ON ANYWAY"),
                };
                list.push((Confirm, without, true));
            }
            Screen::Live { .. } | Screen::Drawing { .. } | Screen::Pointing { .. } | Screen::LinkLost { .. } => {}
            Screen::Starting | Screen::NotPaired { .. } => {}
        }
        let confirming = matches!(screen, Screen::EndConfirm { .. });
        if self.open_session().is_some() && !matches!(screen, Screen::Consent { .. }) {
            if recording {
                list.push((StopRecording, l.t("AUFNAHME STOPPEN", "STOP RECORDING"), false));
            }
            let label = if self.private {
                l.t("KAMERA FREIGEBEN", "SHOW CAMERA")
            } else {
                l.t("KAMERA VERDECKEN", "COVER CAMERA")
            };
            list.push((Privacy, label, matches!(screen, Screen::Live { .. }) && self.private));
        }
        if self.open_session().is_some() && !confirming {
            list.push((EndCall, l.t("GESPRÄCH BEENDEN", "END CALL"), matches!(screen, Screen::NoMedia { .. })));
        }
        if confirming {
            list.push((EndCall, l.t("GESPRÄCH BEENDEN", "END CALL"), false));
        }
        // No answer about recording is preselected.
        let focus = if matches!(screen, Screen::Consent { .. }) { self.focus.checked_sub(1) } else { Some(self.focus) };
        list.into_iter()
            .enumerate()
            .map(|(i, (word, label, on_hud))| Command { word, label, focus: Some(i) == focus, on_hud })
            .collect()
    }

    /// Why a word does nothing now.
    pub(super) fn why_not(&self, word: Word) -> &'static str {
        let l = self.settings.language;
        match word {
            Word::YesRecord if self.needs_answer() => l.t(
                "kein Archivar ist verbunden, nichts kann aufgenommen werden",
                "no archivist is connected, nothing can be recorded",
            ),
            Word::YesRecord | Word::CallOnly | Word::RefuseCall => {
                l.t("jetzt wird nichts gefragt", "nothing is asked now")
            }
            Word::StopRecording => l.t("es läuft keine Aufnahme", "nothing is recorded"),
            Word::Done | Word::Refuse | Word::Repeat => {
                l.t("es wird keine Anweisung gezeigt", "no instruction is shown")
            }
            Word::Call if self.session.is_some() => l.t("es wird schon gerufen", "already calling"),
            Word::EndCall | Word::Privacy if self.session.is_none() => l.t("es gibt kein Gespräch", "there is no call"),
            _ => l.t("geht jetzt nicht", "not offered now"),
        }
    }
}
