//! Accounts: who works here, in which role, and how a password is checked.
//!
//! Owns: the `accounts` table and argon2id. Never: tells an unknown user from a wrong password, in words or in time.
//! Elsewhere: cookies (`logins`), how often one may try (`crate::limits`).

use std::{fmt, str::FromStr, sync::OnceLock};

use argon2::{
    Argon2,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};
use lotse_protocol::policy::Role;
use serde::{Deserialize, Serialize};
use sqlx::{Row as _, SqlitePool, sqlite::SqliteRow};
use uuid::Uuid;

use super::{now_ms, stored};
use crate::error::Error;

/// An account. Never leaves the server; a case knows only pseudonyms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(pub Uuid);

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for AccountId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

/// One account as the rest of the server sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub id: AccountId,
    pub user: String,
    pub name: String,
    pub role: Role,
    pub language: String,
    pub blocked: bool,
}

/// What a new account needs.
#[derive(Debug, Clone)]
pub struct NewAccount<'a> {
    pub user: &'a str,
    pub name: &'a str,
    pub role: Role,
    pub language: &'a str,
    /// `None`: cannot log in with a password.
    pub password: Option<&'a str>,
    /// The password is printed for everybody to see: it counts on loopback only.
    pub demo: bool,
}

/// The word a role is stored and typed as.
pub fn role_word(role: Role) -> String {
    // A unit variant of a serde enum is always a JSON string.
    serde_json::to_value(role).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Reads a role as people type it. The server and gateways are nobody's role.
pub fn role_of(word: &str) -> Result<Role, String> {
    match serde_json::from_value(serde_json::Value::String(word.to_owned())) {
        Ok(Role::Server | Role::Gateway) | Err(_) => {
            Err(format!("{word} is not a role: technician, expert, manager, administrator or archivist"))
        }
        Ok(role) => Ok(role),
    }
}

pub(crate) fn read(row: &SqliteRow) -> Result<Account, Error> {
    Ok(Account {
        id: stored(
            "account id",
            row.try_get::<String, _>("id")
                .map_err(|e| e.to_string())
                .and_then(|t| t.parse().map_err(|e: uuid::Error| e.to_string())),
        )?,
        user: row.try_get("user")?,
        name: row.try_get("name")?,
        role: stored("role", role_of(&row.try_get::<String, _>("role")?))?,
        language: row.try_get("language")?,
        blocked: row.try_get::<Option<i64>, _>("blocked_ms")?.is_some(),
    })
}

/// Creates an account, or brings name, role, language and password of an existing user up to date.
pub async fn put(pool: &SqlitePool, new: NewAccount<'_>) -> Result<Account, Error> {
    let password = match new.password {
        Some(p) => Some(hash(p.to_owned()).await?),
        None => None,
    };
    sqlx::query(
        "insert into accounts (id, user, name, role, language, password, demo, made_ms) values (?, ?, ?, ?, ?, ?, ?, ?)
         on conflict (user) do update set name = excluded.name, role = excluded.role, language = excluded.language,
         password = excluded.password, demo = excluded.demo",
    )
    .bind(Uuid::now_v7().to_string())
    .bind(new.user)
    .bind(new.name)
    .bind(role_word(new.role))
    .bind(new.language)
    .bind(password)
    .bind(new.demo)
    .bind(now_ms())
    .execute(pool)
    .await?;
    by_user(pool, new.user).await?.ok_or_else(|| Error::Us("an account vanished while it was made".into()))
}

pub async fn by_user(pool: &SqlitePool, user: &str) -> Result<Option<Account>, Error> {
    let row = sqlx::query("select * from accounts where user = ?").bind(user).fetch_optional(pool).await?;
    row.as_ref().map(read).transpose()
}

/// Is there such a user, with a password?
pub async fn may_log_in(pool: &SqlitePool, user: &str) -> Result<bool, Error> {
    let row = sqlx::query("select 1 from accounts where user = ? and password is not null");
    Ok(row.bind(user).fetch_optional(pool).await?.is_some())
}

pub async fn by_id(pool: &SqlitePool, id: AccountId) -> Result<Option<Account>, Error> {
    let row = sqlx::query("select * from accounts where id = ?").bind(id.to_string()).fetch_optional(pool).await?;
    row.as_ref().map(read).transpose()
}

/// Whose login this is, or nobody's. `loopback`: listener and peer are both on this machine, so a demo password counts.
/// Takes the same time for an unknown user as for a wrong password.
pub async fn check_password(
    pool: &SqlitePool,
    user: &str,
    password: String,
    loopback: bool,
) -> Result<Option<Account>, Error> {
    let row = sqlx::query("select * from accounts where user = ?").bind(user).fetch_optional(pool).await?;
    let (account, hash, demo) = match &row {
        Some(row) => (Some(read(row)?), row.try_get::<Option<String>, _>("password")?, row.try_get("demo")?),
        None => (None, None, false),
    };
    let known = hash.is_some();
    let right = verify(hash, password).await?;
    Ok(account.filter(|a| known && right && !a.blocked && (loopback || !demo)))
}

async fn hash(password: String) -> Result<String, Error> {
    let hashed = tokio::task::spawn_blocking(move || {
        Argon2::default().hash_password(password.as_bytes()).map(|h| h.to_string())
    });
    stored("password", hashed.await.map_err(|e| Error::Us(e.to_string()))?)
}

async fn verify(hash: Option<String>, password: String) -> Result<bool, Error> {
    // What an unknown user's password is compared with, so that the answer takes as long.
    static NOBODY: OnceLock<String> = OnceLock::new();
    let work = move || {
        let hash = hash.unwrap_or_else(|| {
            NOBODY
                .get_or_init(|| Argon2::default().hash_password(b"nobody").map(|h| h.to_string()).unwrap_or_default())
                .clone()
        });
        PasswordHash::new(&hash).is_ok_and(|h| Argon2::default().verify_password(password.as_bytes(), &h).is_ok())
    };
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::Us(e.to_string()))
}

/// What `me` and `login` tell about oneself.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Me {
    pub user: String,
    pub name: String,
    pub role: Role,
    pub language: String,
}

impl From<&Account> for Me {
    fn from(a: &Account) -> Self {
        Self { user: a.user.clone(), name: a.name.clone(), role: a.role, language: a.language.clone() }
    }
}
