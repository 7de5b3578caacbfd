//! Who is in the session, what was answered, and what follows: the notice, the media connection, whether anything may leave.
//!
//! Never: an event or a word; those change the state, and this looks at it afterwards.

use lotse_protocol::{
    envelope::GatewayWay,
    id::Pseudonym,
    kind,
    policy::Role,
    session::{Answer, Participant, Session},
};

use super::{Action, Core, TOAST_MS, notice::Notice};
use crate::config::Language;

impl Core {
    /// What follows from the state: the notice, the media connection, whether anything may leave the glasses.
    pub(super) fn settle(&mut self, now_ms: i64, todo: &mut Vec<Action>) {
        // Many foreign clients take no frames but the usual ones, aiortc among them.
        let long = self.watching_gateways().next().is_some();
        if long != self.long_frames {
            self.long_frames = long;
            todo.push(Action::LongFrames(long));
        }
        if self.needs_answer() && self.caught_up {
            let notice = self.make_notice();
            if self.notice.as_ref() != Some(&notice) {
                let payload = serde_json::to_value(notice.payload(self.settings.language)).ok();
                todo.push(Action::Commit { kind: kind::NOTICE_SHOWN, session: self.session, payload });
                self.notice = Some(notice);
                self.focus = 0;
            }
        } else {
            self.notice = None;
            self.notice_page = 0;
            self.tell_of_newcomer(now_ms, todo);
        }
        if let Some(id) = self.session
            && self.connected
            && self.caught_up
            && !self.joined_media
            && self.participant().is_some_and(|p| p.1)
        {
            self.joined_media = true;
            todo.push(Action::JoinMedia(id));
        }
        let may = self.may_send();
        if may != self.sending {
            self.sending = may;
            todo.push(Action::Send(may));
        }
    }

    /// A foreign client came to watch after the answer: the wearer reads so at once, in the status line and below it, and the
    /// log learns that they could. Until then nothing reaches it.
    fn tell_of_newcomer(&mut self, now_ms: i64, todo: &mut Vec<Action>) {
        let unaware = |p: &Participant| p.unaware && p.present;
        let me = self.me.and_then(|me| self.open_session()?.participants.get(&me));
        if !self.caught_up || !me.is_some_and(unaware) {
            self.told_of.clear();
            return;
        }
        let watchers: Vec<Pseudonym> = self.watching_gateways().collect();
        if self.told_of != watchers {
            let language = self.settings.language;
            let names: Vec<String> = watchers.iter().map(|who| self.name(*who)).collect();
            let text = match language {
                Language::De => format!("Sieht jetzt auch zu: {}", names.join(", ")),
                Language::En => format!("Now watching too: {}", names.join(", ")),
            };
            self.toast = Some((text, now_ms + TOAST_MS));
            let payload = serde_json::to_value(self.make_notice().payload(language)).ok();
            todo.push(Action::Commit { kind: kind::NOTICE_SHOWN, session: self.session, payload });
            self.told_of = watchers;
        }
    }

    /// Foreign clients that are here to see and hear.
    pub(super) fn watching_gateways(&self) -> impl Iterator<Item = Pseudonym> + '_ {
        let watches = |p: &Participant| p.present && p.way == Some(GatewayWay::Watch);
        self.open_session()
            .into_iter()
            .flat_map(|s| &s.participants)
            .filter(move |(_, p)| watches(p))
            .map(|(who, _)| *who)
    }

    /// May picture and voice leave? Only after an answer, while an expert is there.
    pub(super) fn may_send(&self) -> bool {
        let (Some(session), Some(me)) = (self.open_session(), self.me) else { return false };
        // While the log is read for the first time it tells of the past.
        self.joined && session.may_call(me) && self.experts().next().is_some()
    }

    pub(super) fn open_session(&self) -> Option<&Session> {
        self.session.and_then(|id| self.sessions.get(id)).filter(|s| s.ended_at_ms.is_none())
    }

    /// Our answer and whether the log has us present.
    pub(super) fn participant(&self) -> Option<(Option<Answer>, bool)> {
        let me = self.me?;
        self.open_session()?.participants.get(&me).map(|p| (p.answer, p.present))
    }

    pub(super) fn answer(&self) -> Option<Answer> {
        self.participant().and_then(|p| p.0)
    }

    pub(super) fn experts(&self) -> impl Iterator<Item = Pseudonym> + '_ {
        self.present(Role::Expert)
    }

    pub(super) fn present(&self, role: Role) -> impl Iterator<Item = Pseudonym> + '_ {
        self.open_session()
            .into_iter()
            .flat_map(|s| &s.participants)
            .filter(move |(_, p)| p.present && p.role == role)
            .map(|(who, _)| *who)
    }

    /// An expert is there and the technician has not answered yet.
    pub(super) fn needs_answer(&self) -> bool {
        self.participant().is_some_and(|p| p.0.is_none()) && self.experts().next().is_some()
    }

    pub(super) fn make_notice(&self) -> Notice {
        let named = |who: Pseudonym| (who, self.name(who));
        Notice {
            watchers: self.experts().chain(self.watching_gateways()).map(named).collect(),
            archivist: self.present(Role::Archivist).next().map(named),
        }
    }

    pub(super) fn name(&self, who: Pseudonym) -> String {
        self.names.get(&who).cloned().unwrap_or_else(|| match self.settings.language {
            Language::De => "Jemand ohne Namen".into(),
            Language::En => "Somebody unnamed".into(),
        })
    }
}
