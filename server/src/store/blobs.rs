//! Sealed items too large for a message: one file each, named by digest, under its case.
//!
//! Owns: `blobs/<case>/<digest>` and the `blobs` table. A file appears whole or not at all: temporary file, digest checked while
//! it streams, synced, renamed, then listed. Never: opens an item.

use std::{io, path::PathBuf};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use lotse_protocol::{
    command::MAX_ITEM_BYTES,
    id::{CaseId, Digest},
};
use sha2::{Digest as _, Sha256};
use sqlx::Row as _;
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _},
};
use uuid::Uuid;

use super::{Store, now_ms};
use crate::{
    error::Error,
    refusal::{Code, Refusal},
};

/// Read from disk and sent at once, bytes.
const READ: usize = 64 * 1024;

/// Stores an upload. `false`: it was here already.
pub async fn put<E>(
    store: &Store,
    case: CaseId,
    digest: Digest,
    body: impl Stream<Item = Result<Bytes, E>>,
) -> Result<bool, Error> {
    let mut db = store.pool.acquire().await?;
    if super::intake::is_stored(&mut db, case, &digest).await? {
        return Ok(false);
    }
    drop(db);
    let dir = dir(store, case);
    tokio::fs::create_dir_all(&dir).await?;
    let temporary = Temporary(dir.join(format!(".{}", Uuid::new_v4())));
    let size = receive(&temporary.0, digest, body).await?;
    tokio::fs::rename(&temporary.0, dir.join(digest.to_string())).await?;
    // The name itself must survive a power cut before it is acknowledged.
    File::open(&dir).await?.sync_all().await?;
    let _turn = store.uploads.acquire().await;
    sqlx::query("insert or ignore into blobs (case_id, digest, size, stored_ms) values (?, ?, ?, ?)")
        .bind(case.to_string())
        .bind(&digest.0[..])
        .bind(size as i64)
        .bind(now_ms())
        .execute(&store.pool)
        .await?;
    Ok(true)
}

async fn receive<E>(
    path: &PathBuf,
    digest: Digest,
    body: impl Stream<Item = Result<Bytes, E>>,
) -> Result<usize, Error> {
    let mut file = File::create(path).await?;
    let mut hash = Sha256::new();
    let mut size = 0;
    let mut body = std::pin::pin!(body);
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|_| Refusal::with(Code::Malformed, "the upload was cut off"))?;
        size += chunk.len();
        if size > MAX_ITEM_BYTES {
            return Err(Refusal::with(Code::TooLarge, MAX_ITEM_BYTES).into());
        }
        hash.update(&chunk);
        file.write_all(&chunk).await?;
    }
    if Digest(hash.finalize().into()) != digest {
        return Err(Code::DigestMismatch.into());
    }
    file.sync_all().await?;
    Ok(size)
}

/// Removes uploads that no event has named since `before_ms`; how many. Nobody has their keys: they came with no event.
pub async fn forget_unnamed(store: &Store, before_ms: i64) -> Result<usize, Error> {
    // One statement: an event that names one of them meanwhile comes before it, or finds it missing and is told so.
    let gone = sqlx::query(
        "delete from blobs where stored_ms < ? and not exists
           (select 1 from wraps where wraps.case_id = blobs.case_id and wraps.digest = blobs.digest)
         returning case_id, digest",
    )
    .bind(before_ms)
    .fetch_all(&store.pool)
    .await?;
    for row in &gone {
        let case: CaseId = super::stored("case id", row.try_get::<String, _>(0)?.parse())?;
        let digest =
            Digest(super::stored("digest", row.try_get::<Vec<u8>, _>(1)?.try_into().map_err(|_| "its length"))?);
        // Missing already is as good.
        let _ = tokio::fs::remove_file(dir(store, case).join(digest.to_string())).await;
    }
    Ok(gone.len())
}

/// Sealed bytes, wherever they lie.
pub enum Found {
    Small(Vec<u8>),
    Large { file: File, size: u64 },
}

pub async fn get(store: &Store, case: CaseId, digest: Digest) -> Result<Found, Error> {
    let row = sqlx::query("select bytes from items where case_id = ? and digest = ?")
        .bind(case.to_string())
        .bind(&digest.0[..])
        .fetch_optional(&store.pool)
        .await?;
    if let Some(row) = row {
        return Ok(Found::Small(row.try_get(0)?));
    }
    let row = sqlx::query("select size from blobs where case_id = ? and digest = ?")
        .bind(case.to_string())
        .bind(&digest.0[..])
        .fetch_optional(&store.pool)
        .await?
        .ok_or(Code::NoSuchItem)?;
    let file = File::open(dir(store, case).join(digest.to_string())).await?;
    Ok(Found::Large { file, size: row.try_get::<i64, _>(0)? as u64 })
}

/// `len` bytes of a file from `start`, in pieces.
pub async fn stream(mut file: File, start: u64, len: u64) -> io::Result<impl Stream<Item = io::Result<Bytes>>> {
    file.seek(io::SeekFrom::Start(start)).await?;
    Ok(futures_util::stream::try_unfold((file, len), |(mut file, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let mut piece = vec![0; READ.min(usize::try_from(left).unwrap_or(READ))];
        let n = file.read(&mut piece).await?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        piece.truncate(n);
        Ok(Some((Bytes::from(piece), (file, left - n as u64))))
    }))
}

fn dir(store: &Store, case: CaseId) -> PathBuf {
    store.dir.join("blobs").join(case.to_string())
}

/// Removed when the upload fails; after the rename there is nothing left to remove.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
