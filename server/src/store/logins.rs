//! Logins of browsers: a random cookie that changes daily, of which only a hash is kept.
//!
//! Owns: the `logins` and `browser_keys` tables. Never: stores a cookie.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use lotse_protocol::id::{Digest, PublicKey};
use sqlx::{Row as _, SqlitePool};

use super::{
    accounts::{self, Account, AccountId},
    now_ms, random, stored,
};
use crate::error::Error;

/// A cookie is replaced after a day.
const TURN_MS: i64 = 24 * 3600 * 1000;
/// A login ends after a week.
const LIFE_MS: i64 = 7 * TURN_MS;
/// The replaced cookie stays good this long: other tabs may have a request under way.
const GRACE_MS: i64 = 60 * 1000;

/// A valid login.
#[derive(Debug, Clone)]
pub struct Login {
    pub account: Account,
    pub device_key: Option<PublicKey>,
    /// The cookie to set from now on, when it was time for a new one.
    pub turned: Option<String>,
}

/// Starts a login. Returns the cookie's value.
pub async fn start(pool: &SqlitePool, account: AccountId, device_key: Option<PublicKey>) -> Result<String, Error> {
    let cookie = fresh()?;
    let now = now_ms();
    sqlx::query("delete from logins where made_ms < ?").bind(now - LIFE_MS).execute(pool).await?;
    sqlx::query("insert into logins (cookie, account, device_key, made_ms, turned_ms) values (?, ?, ?, ?, ?)")
        .bind(hash(&cookie))
        .bind(account.to_string())
        .bind(device_key.map(|k| k.0.to_vec()))
        .bind(now)
        .bind(now)
        .execute(pool)
        .await?;
    if let Some(key) = device_key {
        sqlx::query("insert or ignore into browser_keys (account, key, first_ms) values (?, ?, ?)")
            .bind(account.to_string())
            .bind(&key.0[..])
            .bind(now)
            .execute(pool)
            .await?;
    }
    Ok(cookie)
}

/// Whose cookie this is. Turns it when it is a day old.
pub async fn of_cookie(pool: &SqlitePool, cookie: &str, now: i64) -> Result<Option<Login>, Error> {
    let hashed = hash(cookie);
    let row = sqlx::query(
        "select l.cookie, l.device_key, l.turned_ms, a.* from logins l join accounts a on a.id = l.account
         where (l.cookie = ?1 or (l.before = ?1 and l.turned_ms > ?2)) and l.made_ms > ?3",
    )
    .bind(&hashed)
    .bind(now - GRACE_MS)
    .bind(now - LIFE_MS)
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let account = accounts::read(&row)?;
    if account.blocked {
        return Ok(None);
    }
    let device_key = row.try_get::<Option<Vec<u8>>, _>("device_key")?.map(|k| PublicKey::from_slice(&k)).transpose();
    let mut login = Login { account, device_key: stored("browser key", device_key)?, turned: None };
    let is_current = row.try_get::<Vec<u8>, _>("cookie")? == hashed;
    if is_current && row.try_get::<i64, _>("turned_ms")? < now - TURN_MS {
        let new = fresh()?;
        let turned = sqlx::query("update logins set cookie = ?, before = ?, turned_ms = ? where cookie = ?")
            .bind(hash(&new))
            .bind(&hashed)
            .bind(now)
            .bind(&hashed)
            .execute(pool)
            .await?;
        // Two requests at once: one turns it, the other goes on with the old one.
        login.turned = (turned.rows_affected() == 1).then_some(new);
    }
    Ok(Some(login))
}

/// Is this cookie, or the one that replaced it, still a login of this account? Never turns it.
pub async fn of_account(pool: &SqlitePool, cookie: &str, account: AccountId) -> Result<bool, Error> {
    let row = sqlx::query(
        "select 1 from logins l join accounts a on a.id = l.account
         where (l.cookie = ?1 or l.before = ?1) and l.account = ?2 and a.blocked_ms is null and l.made_ms > ?3",
    )
    .bind(hash(cookie))
    .bind(account.to_string())
    .bind(now_ms() - LIFE_MS)
    .fetch_optional(pool)
    .await?;
    Ok(row.is_some())
}

/// Ends a login.
pub async fn end(pool: &SqlitePool, cookie: &str) -> Result<(), Error> {
    sqlx::query("delete from logins where cookie = ?1 or before = ?1").bind(hash(cookie)).execute(pool).await?;
    Ok(())
}

fn fresh() -> Result<String, Error> {
    Ok(URL_SAFE_NO_PAD.encode(random::<32>()?))
}

fn hash(cookie: &str) -> Vec<u8> {
    Digest::of(cookie.as_bytes()).0.to_vec()
}
