//! Looks at everything stored: every log, every digest, every key. What `backup` and `restore` do before they say success.
//!
//! Never: opens an item, or changes anything. Finds the first thing that is wrong and names it.

use std::{collections::HashSet, io::Read as _, path::Path};

use futures_util::TryStreamExt as _;
use lotse_operations::backup::{Progress, digest};
use lotse_protocol::{
    envelope::AuthorFields,
    id::{CaseId, Digest},
    item, kind,
};
use serde::Serialize;
use sqlx::{Row as _, SqliteConnection, SqlitePool};

use super::{
    case::CaseState,
    keys::{CaseKey, ServerKeys},
    organisation, stored,
};
use crate::error::Error;

/// What was found, all of it sound.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Sound {
    pub cases: usize,
    pub events: u64,
    /// Sealed items in the database.
    pub items: u64,
    /// Sealed items in files.
    pub blobs: u64,
    pub keys: u64,
    /// Keys that were destroyed; they stay so.
    pub destroyed: u64,
    /// Entries of the organisation's log.
    pub organisation: i64,
}

/// `blobs`: the folder with a folder for each case.
pub async fn all(pool: &SqlitePool, keys: &ServerKeys, blobs: &Path) -> Result<Sound, Error> {
    let said: String = sqlx::query("pragma integrity_check").fetch_one(pool).await?.try_get(0)?;
    if said != "ok" {
        return Err(damaged("the database", said));
    }
    let mut sound = Sound { organisation: organisation::verify(pool, keys).await?, ..Sound::default() };
    let mut progress = Progress::new("examine");
    let mut db = pool.acquire().await?;
    let rows = sqlx::query("select id, seq from cases order by id").fetch_all(&mut *db).await?;
    for row in rows {
        let id: CaseId = stored("case id", row.try_get::<String, _>(0)?.parse())?;
        let name = format!("case {id}");
        let case = CaseState::load(&mut db, id).await.map_err(|e| damaged(&name, e))?;
        let head = case.map_or(0, |c| c.chain.head().seq);
        if head != row.try_get::<i64, _>(1)? as u64 {
            return Err(damaged(&name, format!("its log ends at {head}, its row says otherwise")));
        }
        let key = keys.case_key(&mut db, id).await.map_err(|e| damaged(&name, e))?;
        let here = bytes(&mut db, id, key.as_ref(), &blobs.join(id.to_string()), &mut sound, &mut progress).await?;
        named(&mut db, id, &here).await?;
        sound.cases += 1;
        sound.events += head;
    }
    Ok(sound)
}

/// Every sealed item of a case has its digest, and every key that was not destroyed opens and is the item's own.
async fn bytes(
    db: &mut SqliteConnection,
    case: CaseId,
    key: Option<&CaseKey>,
    blobs: &Path,
    sound: &mut Sound,
    progress: &mut Progress,
) -> Result<HashSet<Digest>, Error> {
    // Of each item its first bytes, which name its key.
    let mut heads: Vec<(Digest, Vec<u8>)> = Vec::new();
    let mut here = HashSet::new();
    let mut rows =
        sqlx::query("select digest, bytes from items where case_id = ?").bind(case.to_string()).fetch(&mut *db);
    while let Some(row) = rows.try_next().await? {
        let (name, bytes): (Vec<u8>, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
        let name = stored("digest", Digest::from_slice(&name))?;
        if Digest::of(&bytes) != name {
            return Err(damaged(&format!("case {case}"), format!("item {name} has other bytes")));
        }
        heads.push((name, bytes.get(..item::HEADER).unwrap_or_default().to_vec()));
        sound.items += 1;
    }
    drop(rows);
    let rows = sqlx::query("select digest, size from blobs where case_id = ?")
        .bind(case.to_string())
        .fetch_all(&mut *db)
        .await?;
    for row in rows {
        let name = stored("digest", Digest::from_slice(&row.try_get::<Vec<u8>, _>(0)?))?;
        let path = blobs.join(name.to_string());
        let (size, hash) = digest(&path, progress)?;
        if hash != name.0 || size != row.try_get::<i64, _>(1)? as u64 {
            return Err(damaged(&path.display().to_string(), "its bytes have another digest"));
        }
        let mut head = Vec::new();
        std::fs::File::open(&path)
            .and_then(|f| f.take(item::HEADER as u64).read_to_end(&mut head))
            .map_err(|e| lotse_operations::Error::file(&path, &e))?;
        heads.push((name, head));
        sound.blobs += 1;
        progress.file();
    }
    here.extend(heads.iter().map(|(name, _)| *name));
    let heads: std::collections::HashMap<Digest, Vec<u8>> = heads.into_iter().collect();
    let rows = sqlx::query("select digest, wrap from wraps where case_id = ?")
        .bind(case.to_string())
        .fetch_all(&mut *db)
        .await?;
    for row in rows {
        let name = stored("digest", Digest::from_slice(&row.try_get::<Vec<u8>, _>(0)?))?;
        let (Some(wrap), Some(key)) = (row.try_get::<Option<Vec<u8>>, _>(1)?, key) else {
            sound.destroyed += 1;
            continue;
        };
        let opened = key.item_key(&name, &wrap).map_err(|e| damaged(&format!("case {case}"), e))?;
        if heads.get(&name).is_some_and(|head| *head != item::commitment(&opened)) {
            return Err(damaged(&format!("case {case}"), format!("the key of item {name} is another item's")));
        }
        sound.keys += 1;
    }
    Ok(here)
}

/// What the log names is here, or is the archivist's.
async fn named(db: &mut SqliteConnection, case: CaseId, here: &HashSet<Digest>) -> Result<(), Error> {
    let mut rows =
        sqlx::query("select author from events where case_id = ? order by seq").bind(case.to_string()).fetch(db);
    while let Some(row) = rows.try_next().await? {
        let fields = stored("event", AuthorFields::read(&row.try_get::<String, _>(0)?))?;
        let media = kind::attachments_are_media(&fields.kind);
        let own = fields.item.iter().chain(fields.attachments.iter().filter(|_| !media));
        if let Some(missing) = own.into_iter().find(|d| !here.contains(*d)) {
            return Err(damaged(&format!("case {case}"), format!("item {missing} of event {} is not here", fields.id)));
        }
    }
    Ok(())
}

fn damaged(what: &str, why: impl std::fmt::Display) -> Error {
    Error::operator(
        format!("{what} is damaged: {why}"),
        "Compare with another backup; keep this folder as it is for whoever examines it.",
    )
}
