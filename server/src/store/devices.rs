//! Devices that own an Ed25519 key: glasses and the archivist. Paired once by a code.
//!
//! Owns: the `devices` and `pairing_codes` tables. Never: stores a code, only its hash.
//! Elsewhere: challenges and tokens, which live in memory (`crate::tokens`).

use lotse_protocol::{
    id::{Digest, PublicKey},
    policy::Role,
};
use sqlx::{Row as _, SqlitePool, sqlite::SqliteRow};
use uuid::Uuid;

use super::{
    accounts::{self, Account, AccountId},
    now_ms, organisation, random, stored,
};
use crate::{error::Error, refusal::Code, store::keys::ServerKeys};

/// A code is good this long, ms.
pub const CODE_LIFE_MS: i64 = 15 * 60 * 1000;
/// Without 0, O, 1, I, L: read aloud and typed from a card. 31 letters, eight of them: 39 bits, and few tries.
const ALPHABET: &[u8; 31] = b"23456789ABCDEFGHJKMNPQRSTUVWXYZ";

/// A paired device.
#[derive(Debug, Clone)]
pub struct Device {
    pub id: Uuid,
    pub name: String,
    pub public_key: PublicKey,
    pub account: Account,
}

/// Makes a one-time code for a device called `name` that acts for `account`. An unused older code for that name dies.
pub async fn make_code(
    pool: &SqlitePool,
    keys: &ServerKeys,
    account: AccountId,
    name: &str,
    until_used: bool,
) -> Result<String, Error> {
    let code = fresh_code()?;
    let expires = (!until_used).then(|| now_ms() + CODE_LIFE_MS);
    let mut tx = pool.begin_with("begin immediate").await?;
    sqlx::query("delete from pairing_codes where name = ?").bind(name).execute(&mut *tx).await?;
    sqlx::query("insert into pairing_codes (code, account, name, expires_ms) values (?, ?, ?, ?)")
        .bind(hash(&code))
        .bind(account.to_string())
        .bind(name)
        .bind(expires)
        .execute(&mut *tx)
        .await?;
    organisation::append(&mut tx, keys, "pairing_code.made", serde_json::json!({ "name": name })).await?;
    tx.commit().await?;
    Ok(code)
}

/// Trades a code for a device. An older device of the same name is revoked: it was replaced. Asked again with the same key, as
/// after an answer that was lost, it is the same device.
pub async fn pair(
    pool: &SqlitePool,
    keys: &ServerKeys,
    code: &str,
    public_key: PublicKey,
    label: &str,
) -> Result<(Uuid, Role), Error> {
    let now = now_ms();
    let mut tx = pool.begin_with("begin immediate").await?;
    let paired = sqlx::query(SELECT_PAIRED).bind(hash(code)).bind(&public_key.0[..]).fetch_optional(&mut *tx).await?;
    if let Some(device) = paired.as_ref().map(read).transpose()? {
        return Ok((device.id, device.account.role));
    }
    let row = sqlx::query(
        "delete from pairing_codes where code = ? and (expires_ms is null or expires_ms > ?) returning account, name",
    )
    .bind(hash(code))
    .bind(now)
    .fetch_optional(&mut *tx)
    .await?
    .ok_or(Code::BadPairing)?;
    let (account, name): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let account = sqlx::query("select * from accounts where id = ?").bind(account).fetch_one(&mut *tx).await?;
    let account = accounts::read(&account)?;
    sqlx::query("update devices set revoked_ms = ? where name = ? and revoked_ms is null")
        .bind(now)
        .bind(&name)
        .execute(&mut *tx)
        .await?;
    let id = Uuid::now_v7();
    sqlx::query(
        "insert into devices (id, account, name, label, public_key, paired_ms, code) values (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(id.to_string())
    .bind(account.id.to_string())
    .bind(&name)
    .bind(label)
    .bind(&public_key.0[..])
    .bind(now)
    .bind(hash(code))
    .execute(&mut *tx)
    .await?;
    let fact = serde_json::json!({ "device": id.to_string(), "name": name, "key": public_key });
    organisation::append(&mut tx, keys, "device.paired", fact).await?;
    tx.commit().await?;
    Ok((id, account.role))
}

/// Takes a device's right to enter. Its name may be paired again.
pub async fn revoke(pool: &SqlitePool, keys: &ServerKeys, name: &str) -> Result<bool, Error> {
    let mut tx = pool.begin_with("begin immediate").await?;
    let gone = sqlx::query("update devices set revoked_ms = ? where name = ? and revoked_ms is null")
        .bind(now_ms())
        .bind(name)
        .execute(&mut *tx)
        .await?
        .rows_affected();
    if gone > 0 {
        organisation::append(&mut tx, keys, "device.revoked", serde_json::json!({ "name": name })).await?;
    }
    tx.commit().await?;
    Ok(gone > 0)
}

/// A device that may enter: neither revoked nor its account blocked.
pub async fn by_id(pool: &SqlitePool, id: Uuid) -> Result<Option<Device>, Error> {
    let row = sqlx::query(SELECT_ID).bind(id.to_string()).fetch_optional(pool).await?;
    Ok(row.as_ref().map(read).transpose()?.filter(|d| !d.account.blocked))
}

/// Is a device of this name paired?
pub async fn is_paired(pool: &SqlitePool, name: &str) -> Result<bool, Error> {
    let row = sqlx::query("select 1 from devices where name = ? and revoked_ms is null").bind(name);
    Ok(row.fetch_optional(pool).await?.is_some())
}

const SELECT_PAIRED: &str = "select d.id as device, d.name as device_name, d.public_key, a.* from devices d
    join accounts a on a.id = d.account where d.code = ? and d.public_key = ? and d.revoked_ms is null";

const SELECT_ID: &str = "select d.id as device, d.name as device_name, d.public_key, a.* from devices d
    join accounts a on a.id = d.account where d.id = ? and d.revoked_ms is null";

fn read(row: &SqliteRow) -> Result<Device, Error> {
    Ok(Device {
        id: stored("device id", row.try_get::<String, _>("device")?.parse())?,
        name: row.try_get("device_name")?,
        public_key: stored("device key", PublicKey::from_slice(&row.try_get::<Vec<u8>, _>("public_key")?))?,
        account: accounts::read(row)?,
    })
}

fn fresh_code() -> Result<String, Error> {
    let mut code = String::with_capacity(9);
    while code.len() < 9 {
        if code.len() == 4 {
            code.push('-');
        }
        let [byte] = random::<1>()?;
        // 248 = 8 × 31: above it letters would not be equally likely.
        if byte < 248 {
            code.push(char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]));
        }
    }
    Ok(code)
}

/// Case, spaces and dashes do not matter to who types it; a pin behind the dot is for the device.
fn hash(code: &str) -> Vec<u8> {
    let code = code.split('.').next().unwrap_or_default();
    let plain: String = code.chars().filter(|c| c.is_ascii_alphanumeric()).map(|c| c.to_ascii_uppercase()).collect();
    Digest::of(format!("lotse-pairing-v1 {plain}").as_bytes()).0.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_two_groups_of_four_readable_letters_and_typing_is_forgiving() {
        for _ in 0..200 {
            let code = fresh_code().expect("randomness");
            assert_eq!(code.len(), 9);
            assert_eq!(code.as_bytes()[4], b'-');
            assert!(code.bytes().filter(|b| *b != b'-').all(|b| ALPHABET.contains(&b)), "{code}");
            assert_eq!(hash(&code), hash(&code.to_lowercase().replace('-', " ")));
            assert_eq!(hash(&code), hash(&format!("{code}.dGhlIHBpbg")));
        }
    }
}
