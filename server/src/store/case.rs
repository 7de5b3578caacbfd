//! One case as the log keeps it in memory: its chain, its sessions, its members, and what lists show of it.
//!
//! Owns: who stands how to the case, and which session an event may belong to. Plain functions over a fold.
//! Never: touches the database after loading. Elsewhere: writing (`log`), items (`intake`).

use std::collections::{HashMap, HashSet};

use lotse_protocol::{
    chain::Chain,
    command::{CaseSummary, SentEvent},
    envelope::{AuthorFields, Joined, StoredEvent},
    id::{CaseId, DeviceId, Pseudonym, SessionId, Signature},
    kind,
    policy::{self, Relation, Role},
    session::{Session, Sessions},
};
use sqlx::{Row as _, SqliteConnection};

use super::{registers::Place, stored};
use crate::{error::Error, refusal::Code};

/// The fold of one case's log.
pub struct CaseState {
    pub id: CaseId,
    pub number: String,
    pub place: Place,
    pub language: String,
    pub open: bool,
    pub opened_by: Pseudonym,
    pub opened_at_ms: i64,
    pub last_at_ms: i64,
    pub recorded: bool,
    pub card: Option<SentEvent>,
    pub card_seq: Option<u64>,
    pub chain: Chain,
    pub sessions: Sessions,
    /// Where each one's newest `joined` stands.
    joined: HashMap<Pseudonym, u64>,
    members: HashSet<Pseudonym>,
    server: Option<(Pseudonym, DeviceId)>,
}

impl CaseState {
    /// A case with an empty log.
    pub fn new(id: CaseId, number: String, place: Place, language: String, opened_by: Pseudonym, now_ms: i64) -> Self {
        Self {
            id,
            number,
            place,
            language,
            open: true,
            opened_by,
            opened_at_ms: now_ms,
            last_at_ms: now_ms,
            recorded: false,
            card: None,
            card_seq: None,
            chain: Chain::new(id),
            sessions: Sessions::default(),
            joined: HashMap::new(),
            members: HashSet::new(),
            server: None,
        }
    }

    /// Reads and checks the whole log. `None`: no such case. The card is left for the caller to fill in.
    pub async fn load(db: &mut SqliteConnection, id: CaseId) -> Result<Option<Self>, Error> {
        let row = sqlx::query("select * from cases where id = ?").bind(id.to_string()).fetch_optional(&mut *db).await?;
        let Some(row) = row else { return Ok(None) };
        let place =
            Place { asset: row.try_get("asset")?, customer: row.try_get("customer")?, site: row.try_get("site")? };
        let opened_by = stored("pseudonym", row.try_get::<String, _>("opened_by")?.parse())?;
        let mut case = Self::new(
            id,
            row.try_get("number")?,
            place,
            row.try_get("language")?,
            opened_by,
            row.try_get("opened_at_ms")?,
        );
        case.open = row.try_get("open")?;
        let events = sqlx::query("select server, author, sig from events where case_id = ? order by seq")
            .bind(id.to_string())
            .fetch_all(db)
            .await?;
        for row in events {
            let sig = stored("signature", Signature::from_slice(&row.try_get::<Vec<u8>, _>(2)?))?;
            let event = StoredEvent { server: row.try_get(0)?, author: row.try_get(1)?, sig };
            case.take(&event).map_err(|e| Error::Us(format!("case {id}: its stored log does not verify: {e}")))?;
        }
        Ok(Some(case))
    }

    /// Takes a checked event as the newest.
    pub fn take(&mut self, event: &StoredEvent) -> Result<AuthorFields, Error> {
        let (server, fields) = self.chain.push(event)?;
        self.sessions.apply(&fields);
        if policy::makes_member(&fields.kind) {
            self.members.insert(fields.author);
        }
        match fields.kind.as_str() {
            kind::OPENED => self.server = Some((fields.author, fields.device)),
            kind::CARD => self.card_seq = Some(server.seq),
            kind::JOINED => _ = self.joined.insert(fields.author, server.seq),
            kind::RECORDING_STARTED | kind::SEGMENT => self.recorded = true,
            _ => {}
        }
        self.last_at_ms = server.received_at_ms.max(self.last_at_ms);
        Ok(fields)
    }

    /// The pseudonym and device the server writes under in this case.
    pub fn server(&self) -> Option<(Pseudonym, DeviceId)> {
        self.server
    }

    /// Where the words of this one's name stand.
    pub fn joined(&self, who: Pseudonym) -> Option<u64> {
        self.joined.get(&who).copied()
    }

    pub fn is_waiting(&self) -> bool {
        self.sessions.open().is_some_and(Session::is_waiting)
    }

    pub fn relation(&self, who: Pseudonym) -> Relation {
        if !self.sessions.roles.contains_key(&who) {
            Relation::Outsider
        } else if self.members.contains(&who) || self.opened_by == who {
            Relation::Member
        } else {
            Relation::Joined
        }
    }

    /// What lists show.
    pub fn summary(&self) -> CaseSummary {
        CaseSummary {
            case: self.id,
            number: self.number.clone(),
            open: self.open,
            asset: self.place.asset.clone(),
            customer: self.place.customer.clone(),
            site: self.place.site.clone(),
            language: self.language.clone(),
            opened_at_ms: self.opened_at_ms,
            last_at_ms: self.last_at_ms,
            seq: self.chain.head().seq,
            session: self.sessions.open().map(|s| s.id),
            waiting: self.is_waiting(),
            card: self.card.clone(),
            recorded: self.recorded,
        }
    }

    /// May `me`, in `role`, commit this? Role, relation, and the session it names.
    pub fn check(&self, fields: &AuthorFields, me: Pseudonym, role: Role) -> Result<(), Error> {
        let verb = policy::verb_of(&fields.kind).ok_or(Code::Forbidden)?;
        if fields.author != me || !policy::allowed(role, verb, self.relation(me)) {
            return Err(Code::Forbidden.into());
        }
        // Nobody binds a key under another role than their own.
        if fields.kind == kind::JOINED && fields.clear::<Joined>()?.role != role {
            return Err(Code::Forbidden.into());
        }
        if kind::has_coarse_time(&fields.kind) && fields.captured_at_ms % lotse_protocol::envelope::COARSE_MS != 0 {
            return Err(Code::CoarseTime.into());
        }
        self.check_session(fields, me)
    }

    fn check_session(&self, fields: &AuthorFields, me: Pseudonym) -> Result<(), Error> {
        let named = fields.session.and_then(|id| self.sessions.get(id));
        let open = || match named {
            None => Err(Error::from(Code::NoSuchSession)),
            Some(s) if s.ended_at_ms.is_some() => Err(Code::SessionEnded.into()),
            Some(s) => Ok(s),
        };
        let present = || {
            let session = open()?;
            let here = session.participants.get(&me).is_some_and(|p| p.present);
            if here { Ok(session) } else { Err(Error::from(Code::NotPresent)) }
        };
        match fields.kind.as_str() {
            kind::SESSION_CALLED => match (fields.session, named) {
                (None, _) => Err(Code::NoSuchSession.into()),
                (_, Some(s)) if s.ended_at_ms.is_some() => Err(Code::SessionEnded.into()),
                (_, Some(s)) if s.caller != me => Err(Code::SessionOpen.into()),
                (_, None) if self.sessions.open().is_some() => Err(Code::SessionOpen.into()),
                _ => Ok(()),
            },
            kind::SESSION_JOINED => open().map(drop),
            kind::SESSION_ENDED
            | kind::NOTICE_SHOWN
            | kind::CONSENT_RECORD
            | kind::CONSENT_CALL_ONLY
            | kind::CONSENT_REFUSED => present().map(drop),
            kind::SNAPSHOT | kind::INSTRUCTION => {
                let session = present()?;
                let keeps_picture = fields.kind == kind::SNAPSHOT || !fields.attachments.is_empty();
                if keeps_picture && !session.may_record() { Err(Code::NotRecording.into()) } else { Ok(()) }
            }
            kind::RECORDING_STARTED => {
                if present()?.may_record() {
                    Ok(())
                } else {
                    Err(Code::NotRecording.into())
                }
            }
            // What follows a session may still arrive after its end: fragments, gaps, receipts, states of links, messages.
            kind::SEGMENT | kind::GAP | kind::RECORDING_STOPPED if named.is_none() => Err(Code::NoSuchSession.into()),
            _ if fields.session.is_some() && named.is_none() => Err(Code::NoSuchSession.into()),
            _ => Ok(()),
        }
    }

    /// The session an event belongs to, as it is after it.
    pub fn session(&self, id: Option<SessionId>) -> Option<&Session> {
        id.and_then(|id| self.sessions.get(id))
    }
}

/// Is nobody left but programs?
pub fn is_deserted(session: &Session) -> bool {
    !session.participants.values().any(|p| p.present && p.is_person())
}
