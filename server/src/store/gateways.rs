//! Tokens of foreign clients (WHIP, WHEP): for one case, one way, a limited time, and revocable.
//!
//! Owns: the `gateways` table. Never: stores a token, only its hash.
//! Elsewhere: what a token may be used for (`http::gateways`), who issues them (`admin`).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use lotse_protocol::{
    envelope::GatewayWay,
    id::{CaseId, Digest, Pseudonym},
};
use sqlx::{Row as _, SqlitePool, sqlite::SqliteRow};
use uuid::Uuid;

use super::{keys::ServerKeys, now_ms, organisation, random, stored};
use crate::error::Error;

/// What every token begins with, so that it is told from a device's without asking.
pub const PREFIX: &str = "lgw_";
/// Letters of a name: as much as a roster shows.
pub const MAX_NAME: usize = 60;

/// A token that is known, as far as it may be told.
#[derive(Debug, Clone)]
pub struct Gateway {
    pub id: Uuid,
    pub case: CaseId,
    pub who: Pseudonym,
    pub way: GatewayWay,
    pub name: String,
    pub made_ms: i64,
    pub expires_ms: i64,
    pub revoked_ms: Option<i64>,
}

impl Gateway {
    pub fn is_good(&self, now_ms: i64) -> bool {
        self.revoked_ms.is_none() && now_ms < self.expires_ms
    }
}

/// The word for a way, in addresses, tables and on the command line.
pub fn way_word(way: GatewayWay) -> &'static str {
    match way {
        GatewayWay::Publish => "publish",
        GatewayWay::Watch => "watch",
    }
}

pub fn way_of(word: &str) -> Result<GatewayWay, String> {
    match word {
        "publish" => Ok(GatewayWay::Publish),
        "watch" => Ok(GatewayWay::Watch),
        _ => Err(format!("{word} is neither publish (it brings a picture or a voice) nor watch (it sees and hears)")),
    }
}

/// The case somebody names by its number or id.
pub async fn case_named(pool: &SqlitePool, named: &str) -> Result<Option<(CaseId, String)>, Error> {
    let row = sqlx::query("select id, number from cases where number = ?1 or id = ?1").bind(named);
    let row = row.fetch_optional(pool).await?;
    row.map(|r| Ok((stored("case id", r.try_get::<String, _>(0)?.parse())?, r.try_get(1)?))).transpose()
}

/// Makes a token and returns it, this once.
pub async fn issue(
    pool: &SqlitePool,
    keys: &ServerKeys,
    case: CaseId,
    way: GatewayWay,
    name: &str,
    hours: u32,
) -> Result<(String, Gateway), Error> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(Error::operator(
            "the name is empty, longer than 60 letters, or has control characters",
            "Give the name people shall read in the roster, e.g. --name \"Hall camera 3\".",
        ));
    }
    let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random::<32>()?));
    let now = now_ms();
    let gateway = Gateway {
        id: Uuid::now_v7(),
        case,
        who: Pseudonym(Uuid::new_v4()),
        way,
        name: name.to_owned(),
        made_ms: now,
        expires_ms: now + i64::from(hours) * 3_600_000,
        revoked_ms: None,
    };
    let mut tx = pool.begin_with("begin immediate").await?;
    sqlx::query(
        "insert into gateways (id, token, case_id, pseudonym, way, name, made_ms, expires_ms)
         values (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(gateway.id.to_string())
    .bind(hash(&token))
    .bind(case.to_string())
    .bind(gateway.who.to_string())
    .bind(way_word(way))
    .bind(name)
    .bind(now)
    .bind(gateway.expires_ms)
    .execute(&mut *tx)
    .await?;
    let fact = serde_json::json!({ "id": gateway.id, "case": case, "way": way_word(way), "name": name });
    organisation::append(&mut tx, keys, "gateway.issued", fact).await?;
    tx.commit().await?;
    Ok((token, gateway))
}

/// Takes a token's right. False: there is none with this id, or it was taken before.
pub async fn revoke(pool: &SqlitePool, keys: &ServerKeys, id: Uuid) -> Result<bool, Error> {
    let mut tx = pool.begin_with("begin immediate").await?;
    let gone = sqlx::query("update gateways set revoked_ms = ? where id = ? and revoked_ms is null")
        .bind(now_ms())
        .bind(id.to_string())
        .execute(&mut *tx)
        .await?
        .rows_affected();
    if gone > 0 {
        organisation::append(&mut tx, keys, "gateway.revoked", serde_json::json!({ "id": id })).await?;
    }
    tx.commit().await?;
    Ok(gone > 0)
}

/// All tokens, the newest first.
pub async fn list(pool: &SqlitePool) -> Result<Vec<Gateway>, Error> {
    let rows = sqlx::query("select * from gateways order by id desc").fetch_all(pool).await?;
    rows.iter().map(read).collect()
}

/// Whose token this is, if it is good now.
pub async fn of_token(pool: &SqlitePool, token: &str) -> Result<Option<Gateway>, Error> {
    let row = sqlx::query("select * from gateways where token = ?").bind(hash(token)).fetch_optional(pool).await?;
    Ok(row.as_ref().map(read).transpose()?.filter(|g| g.is_good(now_ms())))
}

/// Is the token of this id still good?
pub async fn is_good(pool: &SqlitePool, id: Uuid) -> Result<bool, Error> {
    let row = sqlx::query("select * from gateways where id = ?").bind(id.to_string()).fetch_optional(pool).await?;
    Ok(row.as_ref().map(read).transpose()?.is_some_and(|g| g.is_good(now_ms())))
}

fn read(row: &SqliteRow) -> Result<Gateway, Error> {
    let way: String = row.try_get("way")?;
    Ok(Gateway {
        id: stored("gateway id", row.try_get::<String, _>("id")?.parse())?,
        case: stored("case id", row.try_get::<String, _>("case_id")?.parse())?,
        who: stored("pseudonym", row.try_get::<String, _>("pseudonym")?.parse())?,
        way: stored("way", way_of(&way))?,
        name: row.try_get("name")?,
        made_ms: row.try_get("made_ms")?,
        expires_ms: row.try_get("expires_ms")?,
        revoked_ms: row.try_get("revoked_ms")?,
    })
}

fn hash(token: &str) -> Vec<u8> {
    Digest::of(format!("lotse-gateway-v1 {token}").as_bytes()).0.to_vec()
}
