//! What one request does inside the transaction: checks it, writes its rows, moves its case forward.
//!
//! Never: commits, answers, or tells anybody; what it did counts only with the whole batch. Elsewhere: the queue and the transaction
//! (`log`), what makes an event good (`case`, `intake`).

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use lotse_protocol::{
    chain::Head,
    command::{CaseSummary, ItemRef, SentEvent},
    envelope::{self, AuthorFields, GatewayJoined, Left, LeftWhy, Opened, StoredEvent},
    id::{CaseId, DeviceId, EventId, Pseudonym, SessionId, Signature},
    kind,
    policy::{self, Relation, Role, Verb},
    session::Session,
};
use serde_json::Value;
use sqlx::{Row as _, SqliteConnection};
use uuid::Uuid;

use super::{LogEvent, News, One, Standing};
use crate::{
    error::Error,
    refusal::Code,
    store::{
        accounts::AccountId,
        case::{CaseState, is_deserted},
        intake,
        keys::ServerKeys,
        now_ms, reader,
        registers::{self, Place},
        stored,
    },
};

impl One<'_> {
    pub(super) async fn new_case(
        &mut self,
        db: &mut SqliteConnection,
        account: AccountId,
        place: Place,
        language: String,
    ) -> Result<CaseSummary, Error> {
        let place = registers::settle(db, place).await?;
        let now = now_ms();
        let id = CaseId(Uuid::now_v7());
        let me = Pseudonym(Uuid::new_v4());
        let year = jiff::Timestamp::from_millisecond(now)
            .map_err(|e| Error::Us(format!("the clock is out of range: {e}")))?
            .to_zoned(jiff::tz::TimeZone::UTC)
            .year();
        let number: i64 = sqlx::query(
            "insert into case_numbers (year, last) values (?, 1) on conflict (year) do update set last = last + 1 returning last",
        )
        .bind(i64::from(year))
        .fetch_one(&mut *db)
        .await?
        .try_get(0)?;
        let case = CaseState::new(id, format!("{year}-{number:04}"), place, language, me, now);
        sqlx::query(
            "insert into cases (id, number, opened_by, asset, customer, site, language, opened_at_ms, last_at_ms, seq)
             values (?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
        )
        .bind(id.to_string())
        .bind(&case.number)
        .bind(me.to_string())
        .bind(&case.place.asset)
        .bind(&case.place.customer)
        .bind(&case.place.site)
        .bind(&case.language)
        .bind(now)
        .bind(now)
        .execute(&mut *db)
        .await?;
        bind_pseudonym(db, id, account, me).await?;
        self.keys.make_case_key(db, id).await?;
        let opened = Opened {
            number: case.number.clone(),
            asset: case.place.asset.clone(),
            customer: case.place.customer.clone(),
            site: case.place.site.clone(),
            language: case.language.clone(),
            server_key: self.keys.public(),
        };
        self.batch.touched.insert(id);
        self.cases.insert(id, case);
        let server = (Pseudonym(Uuid::new_v4()), DeviceId(Uuid::new_v4()));
        self.own_event(db, id, server, kind::OPENED, None, serde_json::to_value(opened).ok()).await?;
        let case = case_in(self.cases, id)?;
        Ok(case.summary())
    }

    pub(super) async fn stand(
        &mut self,
        db: &mut SqliteConnection,
        account: AccountId,
        role: Role,
        id: CaseId,
        enter: bool,
    ) -> Result<Standing, Error> {
        if enter && !policy::allowed(role, Verb::Join, Relation::Outsider) {
            return Err(Code::Forbidden.into());
        }
        let known = pseudonym(db, id, account).await?;
        if known.is_none() && !enter {
            return Err(Code::NoSuchCase.into());
        }
        let case = case(self.cases, db, self.keys, id).await?;
        let me = match known {
            Some(me) => me,
            None => {
                let me = Pseudonym(Uuid::new_v4());
                bind_pseudonym(db, id, account, me).await?;
                me
            }
        };
        Ok(Standing {
            me,
            relation: case.relation(me),
            head: case.chain.head(),
            session: case.sessions.open().cloned(),
        })
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) async fn commit(
        &mut self,
        db: &mut SqliteConnection,
        account: AccountId,
        role: Role,
        id: CaseId,
        author: String,
        sig: Signature,
        items: Vec<ItemRef>,
    ) -> Result<Head, Error> {
        let me = pseudonym(db, id, account).await?.ok_or(Code::NoSuchCase)?;
        let case = case(self.cases, db, self.keys, id).await?;
        let fields = AuthorFields::read(&author)?;
        if fields.case == id && fields.author == me && case.chain.has(&fields.id) {
            // Sent again after a lost answer: the same bytes get the same answer.
            let (head, event) = reader::by_id(db, id, fields.id).await?.ok_or(Code::IdReused)?;
            return if event.author == author { Ok(head) } else { Err(Code::IdReused.into()) };
        }
        case.check(&fields, me, role)?;
        case.chain.check_author(&author, &sig)?;
        let case_key = self.keys.case_key(db, id).await?;
        let checked = intake::check(db, id, case_key.as_ref(), &fields, items).await?;
        intake::store(db, id, case_key.as_ref(), &checked).await?;
        let server = case.chain.extend(&fields, now_ms()).to_bytes();
        let items = checked.into_iter().map(|c| c.sent).collect();
        self.append(db, id, SentEvent { event: StoredEvent { server, author, sig }, items }).await
    }

    pub(super) async fn gateway(
        &mut self,
        db: &mut SqliteConnection,
        id: CaseId,
        joined: GatewayJoined,
    ) -> Result<Session, Error> {
        let case = case(self.cases, db, self.keys, id).await?;
        let (Some(open), Some(server)) = (case.sessions.open(), case.server()) else {
            return Err(Code::NoOpenSession.into());
        };
        let session = open.id;
        // One that comes again after a restart of its own is still here.
        if !open.participants.get(&joined.who).is_some_and(|p| p.present) {
            let clear = serde_json::to_value(joined).ok();
            self.own_event(db, id, server, kind::GATEWAY_JOINED, Some(session), clear).await?;
        }
        case_in(self.cases, id)?.sessions.get(session).cloned().ok_or_else(|| Code::NoOpenSession.into())
    }

    pub(super) async fn left(
        &mut self,
        db: &mut SqliteConnection,
        id: CaseId,
        session: SessionId,
        who: Pseudonym,
        why: LeftWhy,
    ) -> Result<(), Error> {
        let case = case(self.cases, db, self.keys, id).await?;
        let (Some(open), Some(server)) = (case.sessions.open(), case.server()) else { return Ok(()) };
        if open.id != session || !open.participants.get(&who).is_some_and(|p| p.present) {
            return Ok(());
        }
        let clear = serde_json::to_value(Left { who, why }).ok();
        self.own_event(db, id, server, kind::SESSION_LEFT, Some(session), clear).await?;
        let deserted = case_in(self.cases, id)?.sessions.open().is_some_and(is_deserted);
        if deserted {
            self.own_event(db, id, server, kind::SESSION_ENDED, Some(session), None).await?;
        }
        Ok(())
    }

    /// An event the server writes and signs itself.
    async fn own_event(
        &mut self,
        db: &mut SqliteConnection,
        id: CaseId,
        (author, device): (Pseudonym, DeviceId),
        kind: &str,
        session: Option<SessionId>,
        clear: Option<Value>,
    ) -> Result<(), Error> {
        let case = case_in(self.cases, id)?;
        let now = now_ms();
        let fields = AuthorFields {
            v: envelope::VERSION,
            case: id,
            id: EventId(Uuid::now_v7()),
            kind: kind.into(),
            session,
            author,
            device,
            device_seq: case.chain.binding(&device).map_or(1, |b| b.device_seq + 1),
            captured_at_ms: now,
            item: None,
            attachments: vec![],
            clear,
        };
        let author = fields.to_bytes();
        let sig = envelope::sign(&self.keys.signing, &author);
        let server = case.chain.extend(&fields, now).to_bytes();
        self.append(db, id, SentEvent { event: StoredEvent { server, author, sig }, items: vec![] }).await?;
        Ok(())
    }

    /// Writes a checked event and moves the case forward.
    async fn append(&mut self, db: &mut SqliteConnection, id: CaseId, sent: SentEvent) -> Result<Head, Error> {
        self.batch.touched.insert(id);
        let case = case_in(self.cases, id)?;
        let fields = case.take(&sent.event)?;
        let head = case.chain.head();
        if fields.kind == kind::CARD {
            case.card = Some(sent.clone());
        }
        let seq = head.seq as i64;
        sqlx::query(
            "insert into events (case_id, seq, id, kind, server, author, sig, hash) values (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(id.to_string())
        .bind(seq)
        .bind(fields.id.to_string())
        .bind(&fields.kind)
        .bind(&sent.event.server)
        .bind(&sent.event.author)
        .bind(&sent.event.sig.0[..])
        .bind(&head.hash.0[..])
        .execute(&mut *db)
        .await?;
        let sql = "update cases set last_at_ms = ?, seq = ?, session = ?, waiting = ?, recorded = ?, card_seq = ? where id = ?";
        sqlx::query(sql)
            .bind(case.last_at_ms)
            .bind(seq)
            .bind(case.sessions.open().map(|s| s.id.to_string()))
            .bind(case.is_waiting())
            .bind(case.recorded)
            .bind(case.card_seq.map(|s| s as i64))
            .bind(id.to_string())
            .execute(&mut *db)
            .await?;
        let listed = matches!(
            fields.kind.as_str(),
            kind::OPENED
                | kind::CARD
                | kind::SESSION_CALLED
                | kind::SESSION_JOINED
                | kind::SESSION_LEFT
                | kind::SESSION_ENDED
                | kind::RECORDING_STARTED
        );
        let session = case.session(fields.session).cloned();
        let caller = match &session {
            Some(session) if fields.kind == kind::SESSION_CALLED => caller(case, db, self.keys, session).await?,
            _ => None,
        };
        self.batch.news.push(News {
            session,
            caller,
            summary: listed.then(|| case.summary()),
            event: Arc::new(LogEvent { head, fields, sent }),
        });
        Ok(head)
    }
}

/// The state of a case, read when it is not in memory.
pub(super) async fn case<'a>(
    cases: &'a mut HashMap<CaseId, CaseState>,
    db: &mut SqliteConnection,
    keys: &ServerKeys,
    id: CaseId,
) -> Result<&'a mut CaseState, Error> {
    match cases.entry(id) {
        Entry::Occupied(known) => Ok(known.into_mut()),
        Entry::Vacant(place) => {
            let mut case = CaseState::load(db, id).await?.ok_or(Code::NoSuchCase)?;
            if let Some(seq) = case.card_seq {
                case.card = reader::at(db, keys, id, seq).await?;
            }
            Ok(place.insert(case))
        }
    }
}

/// The event with the name of whoever called.
pub(super) async fn caller(
    case: &CaseState,
    db: &mut SqliteConnection,
    keys: &ServerKeys,
    session: &Session,
) -> Result<Option<SentEvent>, Error> {
    match case.joined(session.caller) {
        Some(seq) => reader::at(db, keys, case.id, seq).await,
        None => Ok(None),
    }
}

fn case_in(cases: &mut HashMap<CaseId, CaseState>, id: CaseId) -> Result<&mut CaseState, Error> {
    cases.get_mut(&id).ok_or_else(|| Error::Us(format!("case {id} is not in memory")))
}

async fn pseudonym(db: &mut SqliteConnection, case: CaseId, account: AccountId) -> Result<Option<Pseudonym>, Error> {
    let row = sqlx::query("select pseudonym from pseudonyms where case_id = ? and account = ?")
        .bind(case.to_string())
        .bind(account.to_string())
        .fetch_optional(db)
        .await?;
    row.map(|r| stored("pseudonym", r.try_get::<String, _>(0)?.parse())).transpose()
}

async fn bind_pseudonym(
    db: &mut SqliteConnection,
    case: CaseId,
    account: AccountId,
    me: Pseudonym,
) -> Result<(), Error> {
    sqlx::query("insert into pseudonyms (case_id, account, pseudonym) values (?, ?, ?)")
        .bind(case.to_string())
        .bind(account.to_string())
        .bind(me.to_string())
        .execute(db)
        .await?;
    Ok(())
}
