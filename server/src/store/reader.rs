//! Reads stored events with their items, for whoever may have them.
//!
//! Owns: rows to `SentEvent`, item keys unwrapped on the way out. Never: decides who may read (`policy`, asked by the caller).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use lotse_protocol::{
    chain::Head,
    command::{CaseSummary, ItemRef, SentEvent},
    envelope::{AuthorFields, StoredEvent},
    id::{CaseId, Digest, EventId, Signature},
    kind,
};
use sqlx::{Row as _, SqliteConnection, SqlitePool, sqlite::SqliteRow};

use super::{
    accounts::AccountId,
    keys::{CaseKey, ServerKeys},
    stored,
};
use crate::error::Error;

/// An event read back, with where it stands.
pub struct ReadEvent {
    pub head: Head,
    pub kind: String,
    pub sent: SentEvent,
}

/// Up to `limit` events after `after_seq`, in order. `lean`: those of media fragments come without their items.
pub async fn events(
    db: &mut SqliteConnection,
    keys: &ServerKeys,
    case: CaseId,
    after_seq: u64,
    limit: u32,
    lean: bool,
) -> Result<Vec<ReadEvent>, Error> {
    let case_key = keys.case_key(db, case).await?;
    let rows = sqlx::query(
        "select seq, kind, server, author, sig, hash from events where case_id = ? and seq > ? order by seq limit ?",
    )
    .bind(case.to_string())
    .bind(i64::try_from(after_seq).unwrap_or(i64::MAX))
    .bind(limit)
    .fetch_all(&mut *db)
    .await?;
    let mut out = Vec::with_capacity(rows.len());
    for row in rows {
        out.push(read(db, case, case_key.as_ref(), &row, lean).await?);
    }
    Ok(out)
}

/// The event that stands there, with its items.
pub async fn at(
    db: &mut SqliteConnection,
    keys: &ServerKeys,
    case: CaseId,
    seq: u64,
) -> Result<Option<SentEvent>, Error> {
    Ok(events(db, keys, case, seq.saturating_sub(1), 1, false).await?.pop().map(|e| e.sent))
}

/// The stored event of this id, for a sender who repeats it.
pub async fn by_id(db: &mut SqliteConnection, case: CaseId, id: EventId) -> Result<Option<(Head, StoredEvent)>, Error> {
    let row = sqlx::query("select seq, server, author, sig, hash from events where case_id = ? and id = ?")
        .bind(case.to_string())
        .bind(id.to_string())
        .fetch_optional(db)
        .await?;
    row.map(|row| Ok((head(case, &row)?, event(&row)?))).transpose()
}

/// A page of cases, newest first, with the number to go on from. `of`: only cases this account stands in.
pub async fn cases(
    pool: &SqlitePool,
    keys: &ServerKeys,
    of: Option<AccountId>,
    with_keys: bool,
    after: u32,
    limit: u32,
) -> Result<Vec<CaseSummary>, Error> {
    let mut db = pool.acquire().await?;
    let rows = sqlx::query(
        "select * from cases c
         where ?1 is null or exists (select 1 from pseudonyms p where p.case_id = c.id and p.account = ?1)
         order by opened_at_ms desc, id desc limit ?2 offset ?3",
    )
    .bind(of.map(|a| a.to_string()))
    .bind(limit)
    .bind(after)
    .fetch_all(&mut *db)
    .await?;
    let mut out = Vec::with_capacity(rows.len());
    for row in rows {
        let case: CaseId = stored("case id", row.try_get::<String, _>("id")?.parse())?;
        let card = match row.try_get::<Option<i64>, _>("card_seq")? {
            Some(seq) => at(&mut db, keys, case, seq as u64).await?,
            None => None,
        };
        let session = row.try_get::<Option<String>, _>("session")?.map(|s| s.parse()).transpose();
        out.push(CaseSummary {
            case,
            number: row.try_get("number")?,
            open: row.try_get("open")?,
            asset: row.try_get("asset")?,
            customer: row.try_get("customer")?,
            site: row.try_get("site")?,
            language: row.try_get("language")?,
            opened_at_ms: row.try_get("opened_at_ms")?,
            last_at_ms: row.try_get("last_at_ms")?,
            seq: row.try_get::<i64, _>("seq")? as u64,
            session: stored("session id", session)?,
            waiting: row.try_get("waiting")?,
            card: if with_keys { card } else { card.map(without_keys) },
            recorded: row.try_get("recorded")?,
        });
    }
    Ok(out)
}

/// For those who may see that a case exists but not its words.
pub fn without_keys(mut sent: SentEvent) -> SentEvent {
    for item in &mut sent.items {
        item.key = None;
    }
    sent
}

async fn read(
    db: &mut SqliteConnection,
    case: CaseId,
    case_key: Option<&CaseKey>,
    row: &SqliteRow,
    lean: bool,
) -> Result<ReadEvent, Error> {
    let event = event(row)?;
    let fields = stored("event", AuthorFields::read(&event.author))?;
    let mut items = Vec::new();
    let left_out = lean && fields.kind == kind::SEGMENT;
    for digest in fields.items().filter(|_| !left_out) {
        let found = sqlx::query(
            "select w.wrap, i.bytes from wraps w left join items i on i.case_id = w.case_id and i.digest = w.digest
             where w.case_id = ? and w.digest = ?",
        )
        .bind(case.to_string())
        .bind(&digest.0[..])
        .fetch_optional(&mut *db)
        .await?;
        let (wrap, bytes) = match found {
            Some(row) => (row.try_get::<Option<Vec<u8>>, _>(0)?, row.try_get::<Option<Vec<u8>>, _>(1)?),
            None => (None, None),
        };
        let key = wrap.zip(case_key).map(|(w, k)| k.item_key(digest, &w)).transpose()?;
        items.push(ItemRef { digest: *digest, key, bytes: bytes.map(|b| STANDARD.encode(b)) });
    }
    Ok(ReadEvent { head: head(case, row)?, kind: fields.kind, sent: SentEvent { event, items } })
}

fn event(row: &SqliteRow) -> Result<StoredEvent, Error> {
    let sig = stored("signature", Signature::from_slice(&row.try_get::<Vec<u8>, _>("sig")?))?;
    Ok(StoredEvent { server: row.try_get("server")?, author: row.try_get("author")?, sig })
}

fn head(case: CaseId, row: &SqliteRow) -> Result<Head, Error> {
    let hash = stored("hash", Digest::from_slice(&row.try_get::<Vec<u8>, _>("hash")?))?;
    Ok(Head { case, seq: row.try_get::<i64, _>("seq")? as u64, hash })
}
