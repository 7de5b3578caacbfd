//! The organisation's own log: administrative acts, and hourly the head of every case, chained and signed.
//!
//! Owns: the `organisation_log` table. hash = SHA-256(prev | body), the signature is over the hash in hex.
//! Never: holds anything about what is said or seen in a case.

use lotse_protocol::{
    envelope,
    id::{CaseId, Digest, Signature},
};
use serde_json::{Value, json};
use sqlx::{Row as _, SqliteConnection, SqlitePool};

use super::{keys::ServerKeys, now_ms, stored};
use crate::error::Error;

/// Appends one fact.
pub async fn append(tx: &mut SqliteConnection, keys: &ServerKeys, kind: &str, fact: Value) -> Result<(), Error> {
    let last = sqlx::query("select seq, hash from organisation_log order by seq desc limit 1")
        .fetch_optional(&mut *tx)
        .await?;
    let (seq, prev) = match last {
        Some(row) => (row.try_get::<i64, _>(0)?, row.try_get::<Vec<u8>, _>(1)?),
        None => (0, Digest::of(b"lotse-organisation-v1").0.to_vec()),
    };
    let body = json!({ "v": 1, "seq": seq + 1, "at_ms": now_ms(), "kind": kind, "fact": fact }).to_string();
    let hash = Digest::of(&[prev.as_slice(), body.as_bytes()].concat());
    sqlx::query("insert into organisation_log (seq, body, prev, hash, sig) values (?, ?, ?, ?, ?)")
        .bind(seq + 1)
        .bind(body)
        .bind(prev)
        .bind(&hash.0[..])
        .bind(&envelope::sign(&keys.signing, &hash.to_string()).0[..])
        .execute(tx)
        .await?;
    Ok(())
}

/// Writes down where every case stands that changed since the last time.
pub async fn checkpoint(pool: &SqlitePool, keys: &ServerKeys) -> Result<usize, Error> {
    let mut tx = pool.begin_with("begin immediate").await?;
    let last = sqlx::query("select value from meta where name = 'checkpoint_ms'").fetch_optional(&mut *tx).await?;
    let last_ms = last.and_then(|r| r.try_get::<String, _>(0).ok()?.parse::<i64>().ok()).unwrap_or(0);
    let rows = sqlx::query(
        "select e.case_id, e.seq, e.hash from cases c join events e on e.case_id = c.id and e.seq = c.seq
         where c.last_at_ms >= ? order by c.id",
    )
    // Coarse times reach back a minute.
    .bind(last_ms - 2 * envelope::COARSE_MS)
    .fetch_all(&mut *tx)
    .await?;
    for row in &rows {
        let case: CaseId = stored("case id", row.try_get::<String, _>(0)?.parse())?;
        let hash = stored("hash", Digest::from_slice(&row.try_get::<Vec<u8>, _>(2)?))?;
        let fact = json!({ "case": case, "seq": row.try_get::<i64, _>(1)?, "hash": hash });
        append(&mut tx, keys, "case.head", fact).await?;
    }
    sqlx::query("insert into meta (name, value) values ('checkpoint_ms', ?) on conflict (name) do update set value = excluded.value")
        .bind(now_ms().to_string())
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(rows.len())
}

/// Checks the whole log. Returns how many facts it holds.
pub async fn verify(pool: &SqlitePool, keys: &ServerKeys) -> Result<i64, Error> {
    let rows =
        sqlx::query("select seq, body, prev, hash, sig from organisation_log order by seq").fetch_all(pool).await?;
    let mut prev = Digest::of(b"lotse-organisation-v1").0.to_vec();
    for (n, row) in rows.iter().enumerate() {
        let seq: i64 = row.try_get(0)?;
        let body: String = row.try_get(1)?;
        let hash = Digest::of(&[prev.as_slice(), body.as_bytes()].concat());
        let sig = stored("signature", Signature::from_slice(&row.try_get::<Vec<u8>, _>(4)?))?;
        let fits = seq == n as i64 + 1
            && row.try_get::<Vec<u8>, _>(2)? == prev
            && row.try_get::<Vec<u8>, _>(3)? == hash.0
            && envelope::verify(&keys.public(), &hash.to_string(), &sig).is_ok();
        if !fits {
            return Err(Error::operator(
                format!("the organisation's log was changed at entry {seq}"),
                "Compare with a backup; keep this folder as it is for whoever examines it.",
            ));
        }
        prev = hash.0.to_vec();
    }
    Ok(rows.len() as i64)
}
