//! What a session is right now: a fold over its events, the same on server, glasses, archivist and page.
//!
//! Owns: who is present, who answered what, and the two questions that follow from it: may media flow, may it be kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::{
    envelope::{AuthorFields, GatewayJoined, GatewayWay, Left},
    id::{Pseudonym, SessionId},
    kind,
    policy::Role,
};

/// A participant's logged answer about recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
#[ts(export, export_to = "session.ts")]
pub enum Answer {
    Record,
    CallOnly,
    Refused,
}

/// One participant of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "session.ts")]
pub struct Participant {
    pub role: Role,
    pub present: bool,
    /// Kept when somebody is lost and comes back to the same session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub answer: Option<Answer>,
    /// Of a gateway: which way its media flow, and its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub way: Option<GatewayWay>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub name: Option<String>,
    /// A gateway that watches came after this person's answer, and no notice has been shown since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[ts(optional, as = "Option<bool>")]
    pub unaware: bool,
}

impl Participant {
    fn new(role: Role) -> Self {
        Self { role, present: true, answer: None, way: None, name: None, unaware: false }
    }

    /// Somebody who is asked, and whose answer counts. The archivist and gateways are programs.
    pub fn is_person(&self) -> bool {
        !matches!(self.role, Role::Archivist | Role::Gateway)
    }
}

/// One session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "session.ts")]
pub struct Session {
    pub id: SessionId,
    pub caller: Pseudonym,
    #[ts(type = "number")]
    pub called_at_ms: i64,
    #[ts(type = "Record<string, Participant>")]
    pub participants: BTreeMap<Pseudonym, Participant>,
    /// When it ended, author's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub ended_at_ms: Option<i64>,
}

/// All sessions of a case, in the order they were called, and everybody's role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "session.ts")]
pub struct Sessions {
    pub list: Vec<Session>,
    #[ts(type = "Record<string, Role>")]
    pub roles: BTreeMap<Pseudonym, Role>,
}

impl Sessions {
    /// Takes the next event of the log. Events that concern no session change nothing.
    pub fn apply(&mut self, e: &AuthorFields) {
        if e.kind == kind::JOINED
            && let Ok(joined) = e.clear::<crate::envelope::Joined>()
        {
            self.roles.insert(e.author, joined.role);
        }
        let Some(id) = e.session else { return };
        let role = self.roles.get(&e.author).copied();
        if e.kind == kind::SESSION_CALLED && self.get(id).is_none() {
            let mut participants = BTreeMap::new();
            if let Some(role) = role {
                participants.insert(e.author, Participant::new(role));
            }
            self.list.push(Session {
                id,
                caller: e.author,
                called_at_ms: e.captured_at_ms,
                participants,
                ended_at_ms: None,
            });
            return;
        }
        let Some(session) = self.list.iter_mut().find(|s| s.id == id) else {
            return;
        };
        if session.ended_at_ms.is_some() {
            return;
        }
        match e.kind.as_str() {
            // The caller coming back calls again with the same session id.
            kind::SESSION_CALLED | kind::SESSION_JOINED => {
                if let Some(role) = role {
                    let p = session.participants.entry(e.author).or_insert(Participant::new(role));
                    p.present = true;
                }
            }
            kind::GATEWAY_JOINED => {
                if let Ok(joined) = e.clear::<GatewayJoined>() {
                    session.gateway(joined);
                }
            }
            kind::NOTICE_SHOWN => {
                if let Some(p) = session.participants.get_mut(&e.author) {
                    p.unaware = false;
                }
            }
            kind::SESSION_LEFT => {
                if let Ok(left) = e.clear::<Left>()
                    && let Some(p) = session.participants.get_mut(&left.who)
                {
                    p.present = false;
                }
            }
            kind::SESSION_ENDED => session.ended_at_ms = Some(e.captured_at_ms),
            kind::CONSENT_RECORD => session.answer(e.author, Answer::Record),
            kind::CONSENT_CALL_ONLY => session.answer(e.author, Answer::CallOnly),
            kind::CONSENT_REFUSED => session.answer(e.author, Answer::Refused),
            _ => {}
        }
    }

    pub fn get(&self, id: SessionId) -> Option<&Session> {
        self.list.iter().find(|s| s.id == id)
    }

    /// The session that is called or running, if any. A case has at most one.
    pub fn open(&self) -> Option<&Session> {
        self.list.iter().rev().find(|s| s.ended_at_ms.is_none())
    }
}

impl Session {
    fn answer(&mut self, who: Pseudonym, answer: Answer) {
        if let Some(p) = self.participants.get_mut(&who) {
            p.answer = Some(answer);
        }
    }

    fn gateway(&mut self, joined: GatewayJoined) {
        if joined.way == GatewayWay::Watch {
            let answered = self.participants.values_mut().filter(|p| p.is_person() && p.answer.is_some());
            answered.for_each(|p| p.unaware = true);
        }
        let p = self.participants.entry(joined.who).or_insert(Participant::new(Role::Gateway));
        // The pseudonym of a person stays a person's.
        if p.role == Role::Gateway {
            (p.present, p.way, p.name) = (true, Some(joined.way), Some(joined.name));
        }
    }

    /// Called and nobody has come yet.
    pub fn is_waiting(&self) -> bool {
        self.ended_at_ms.is_none()
            && self.participants.get(&self.caller).is_some_and(|p| p.present)
            && !self.participants.values().any(|p| p.role == Role::Expert && p.present)
    }

    /// May media flow from and to this participant? Only after an answer other than a refusal. A gateway answers nothing: it takes
    /// part once a person does, and it watches once everybody who does has been shown that it is there.
    pub fn may_call(&self, who: Pseudonym) -> bool {
        let in_call = |p: &&Participant| {
            p.is_person() && p.present && matches!(p.answer, Some(Answer::Record | Answer::CallOnly))
        };
        let mut callers = self.participants.values().filter(in_call).peekable();
        self.ended_at_ms.is_none()
            && self.participants.get(&who).is_some_and(|p| match p.role {
                Role::Archivist => p.present && self.may_record(),
                Role::Gateway => {
                    let watches = p.way == Some(GatewayWay::Watch);
                    p.present && callers.peek().is_some() && !(watches && callers.any(|p| p.unaware))
                }
                _ => in_call(&p),
            })
    }

    /// May media be kept? Only while an archivist is present, at least one person is, and every person present said yes.
    pub fn may_record(&self) -> bool {
        let present = || self.participants.values().filter(|p| p.present);
        let mut people = present().filter(|p| p.is_person()).peekable();
        self.ended_at_ms.is_none()
            && present().any(|p| p.role == Role::Archivist)
            && people.peek().is_some()
            && people.all(|p| p.answer == Some(Answer::Record))
    }
}
